/* puck plot */
#include "plot.h"
#include "cmd.h"
#include "load.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

/* Before any work is done. */
static bool check_output(const Options *o, const char *end, Error *e) {
    char hint[64];
    snprintf(hint, sizeof hint, "Give a file that ends with %s", end);
    if (!o->output[0]) return error_misuse(e, "--output", hint, "no file is named");
    if (!ends_with(o->output, end))
        return error_misuse(e, "--output", hint, "%s is no name for this picture", o->output);
    if (o->replace || access(o->output, F_OK) != 0) return true;
    return error_set(e, o->output, "Give another name, or --replace", "the file is there already");
}

static bool check_options(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (o->attention[0] && s->n_positional)
        return error_misuse(e, "--attention", "Draw two pictures",
                            "a picture shows losses of runs or attention, not both");
    if (o->attention[0]) return check_output(o, ".html", e);
    if (o->from[0])
        return error_misuse(e, "--from", "Give --attention TEXT, or name the run without --from",
                            "the losses of runs need no model");
    if (s->n_positional == 0)
        return error_misuse(e, "RUN", "Name one or several folders of runs", "no run is named");
    if (s->n_positional > PLOT_RUNS_MAX)
        return error_misuse(e, "RUN", "Draw several pictures", "one picture has room for %d runs",
                            PLOT_RUNS_MAX);
    return check_output(o, ".svg", e);
}

static void print_run(const PlotRun *r) {
    printf("%s: %ld steps", r->name, (long)r->steps);
    if (!isnan(r->train_loss)) printf(", training loss %.4f", r->train_loss);
    if (!isnan(r->best_loss))
        printf(", lowest validation loss %.4f at step %ld", r->best_loss, (long)r->best_step);
    putchar('\n');
}

static bool run_losses(const Settings *s, FILE *out, Error *e) {
    PlotRun found[PLOT_RUNS_MAX];
    const bool ok = plot_losses(s->positional, s->n_positional,
                                strcmp(s->options.over, "seconds") == 0, out, found, e);
    for (int i = 0; ok && i < s->n_positional; i++) print_run(&found[i]);
    return ok;
}

/* The text's tokens into ids, which has room for its bytes; fails on too many. */
static bool read_text(const Loaded *l, const char *text, int32_t *ids, int64_t *n, Error *e) {
    if (l->config.kind != MODEL_GPT)
        return error_misuse(e, "--attention", "Use a run of --model gpt",
                            "only a transformer has attention");
    const int64_t most = i64_min(l->config.context, PLOT_TOKENS_MAX);
    *n = tokenizer_encode(&l->tokenizer, "--attention", text, (int64_t)strlen(text), ids, e);
    if (*n < 0) return false;
    if (*n <= most) return true;
    return error_misuse(e, "--attention", "Shorten it",
                        most < l->config.context
                            ? "the text has %ld tokens, but a picture has room for %ld"
                            : "the text has %ld tokens, but the model sees at most %ld",
                        (long)*n, (long)most);
}

static bool run_attention(const Options *o, FILE *out, Error *e) {
    Loaded l;
    int64_t n = 0;
    int32_t ids[OPTION_STRING_MAX];
    bool ok = load_open(&l, o, e) && read_text(&l, o->attention, ids, &n, e);
    const ModelUse use = {.B = 1, .T = n, .keep_blocks = true};
    ok = ok && load_weights(&l, &use, e) &&
         plot_attention(&l.model, &l.tokenizer, ids, o->from, out, e);
    load_close(&l);
    return ok;
}

static bool run(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (!check_options(s, e)) return false;
    char *picture = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&picture, &bytes);
    if (!memory) return error_set(e, NULL, NULL, "there is no memory for a picture");
    bool ok = o->attention[0] ? run_attention(o, memory, e) : run_losses(s, memory, e);
    fclose(memory);
    ok = ok && file_write_atomic(o->output, picture, (int64_t)bytes, e);
    free(picture);
    if (ok) printf("%s written\n", o->output);
    return ok;
}

int cmd_plot(int argc, char **argv) {
    Settings s;
    Error e;
    int code;
    if (!cmd_parse(&s, CMD_PLOT, argc, argv, &code)) return code;
    return run(&s, &e) ? EXIT_DONE : cmd_fail(&e);
}
