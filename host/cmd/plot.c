/* puck plot */
#include "plot.h"
#include "cmd.h"
#include "load.h"
#include "output.h"
#include <math.h>
#include <string.h>

static bool check_options(const Settings *s, Error *e) {
    const Options *o = &s->options;
    if (o->attention[0] && s->n_positional)
        return error_misuse(e, "--attention", "Draw two pictures",
                            "a picture shows losses of runs or attention, not both");
    if (o->attention[0]) return output_check(o, ".html", e);
    if (o->from[0])
        return error_misuse(e, "--from", "Give --attention TEXT, or name the run without --from",
                            "the losses of runs need no model");
    if (s->n_positional == 0)
        return error_misuse(e, "RUN", "Name one or several folders of runs", "no run is named");
    if (s->n_positional > PLOT_RUNS_MAX)
        return error_misuse(e, "RUN", "Draw several pictures", "one picture has room for %d runs",
                            PLOT_RUNS_MAX);
    return output_check(o, ".svg", e);
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
    if (*n == 0)
        return error_misuse(e, "--attention", "Give some words", "the text has no token");
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

static bool run(Settings *s, Error *e) {
    const Options *o = &s->options;
    Output out;
    if (!check_options(s, e)) return false;
    output_begin(&out);
    const bool drawn = o->attention[0] ? run_attention(o, out.file, e) : run_losses(s, out.file, e);
    const bool ok = output_end(&out, drawn, o->output, e);
    if (ok) printf("%s written\n", o->output);
    return ok;
}

int cmd_plot(int argc, char **argv) { return cmd_call(CMD_PLOT, argc, argv, run); }
