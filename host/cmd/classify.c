/* puck classify */
#include "classify.h"
#include "cmd.h"
#include "load.h"
#include "utf8.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char standard[] = "standard input"; /* in messages */

static void print_kind(const double *p, const Labels *labels, bool json) {
    int32_t best = 0;
    for (int32_t k = 1; k < labels->n_kinds; k++)
        if (p[k] > p[best]) best = k;
    if (!json) {
        printf("%s\t%.4f\n", labels->kinds[best], p[best]);
        return;
    }
    json_t *all = json_object();
    for (int32_t k = 0; k < labels->n_kinds; k++)
        json_object_set_new(all, labels->kinds[k], json_real(p[k]));
    json_t *line = json_pack("{s:s, s:f, s:o}", "label", labels->kinds[best], "probability",
                             p[best], "probabilities", all);
    CHECK(line, "the probability %g is no JSON", p[best]);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(line);
}

/* A text alone, as the feed has texts: its tokens and a label, which counts for nothing here. */
static bool take_text(Loaded *l, const char *text, int64_t bytes, bool json, Error *e) {
    int32_t *ids = malloc((size_t)(bytes + 1) * sizeof *ids);
    double *p = malloc((size_t)l->labels.n_kinds * sizeof *p);
    CHECK(ids && p, "no memory for a text of %ld bytes", (long)bytes);
    const int64_t n = tokenizer_encode(&l->tokenizer, standard, text, bytes, ids, e);
    bool ok = n > 0 || (n == 0 && error_set(e, standard, "Remove it", "the line has no token"));
    if (ok) {
        int64_t ends[2] = {0, n + 1};
        TokenShard shard = {.tokens = ids, .token_bytes = 4, .n = n + 1};
        const Tokens texts = {.shards = &shard,
                              .n_shards = 1,
                              .n_tokens = n + 1,
                              .lines = ends,
                              .n_lines = 1,
                              .first_label = l->tokenizer.n_vocab};
        ids[n] = texts.first_label;
        classify_texts(&l->model, &texts, 0, 1, p);
        double sum = 0;
        for (int32_t k = 0; k < l->labels.n_kinds; k++) sum += p[k];
        ok = isfinite(sum) || error_set(e, l->folder, "Take an older checkpoint",
                                        "the model's probabilities are not finite");
        if (ok) print_kind(p, &l->labels, json);
        fflush(stdout);
    }
    free(ids);
    free(p);
    return ok;
}

static bool take_line(Loaded *l, const char *line, int64_t n, bool json, Error *e) {
    if (n == 0)
        return error_set(e, standard, "Remove it", "the line is empty, so it holds no text");
    if ((int64_t)strlen(line) != n)
        return error_set(e, standard, "Give text", "the line holds the character U+0000");
    return utf8_check(standard, line, n, e) && take_text(l, line, n, json, e);
}

static bool take_lines(Loaded *l, bool json, Error *e) {
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool ok = true;
    load_tell_stdin("text");
    for (int64_t number = 1; ok && (n = getline(&line, &room, stdin)) >= 0; number++) {
        if (n > 0 && line[n - 1] == '\n') line[--n] = 0;
        if (n > 0 && line[n - 1] == '\r') line[--n] = 0;
        ok = take_line(l, line, n, json, e);
        if (!ok) utf8_place_line(e, standard, number);
    }
    free(line);
    if (ok && !feof(stdin)) /* a read failed, or a line has no end that fits the memory */
        ok = error_set(e, standard, NULL, "it could not be read: %s", strerror(errno));
    return ok;
}

static bool run(Settings *s, Error *e) {
    Loaded l;
    bool ok = load_open(&l, &s->options, e);
    if (ok && !l.labels.n)
        ok = error_set(e, l.folder, "Train one with --task classify",
                       "the model is no classifier: it has no labels.json");
    ok = ok && load_weights(&l, &(ModelUse){.B = 1, .T = l.config.context}, e) &&
         take_lines(&l, s->options.json, e);
    load_close(&l);
    return ok;
}

int cmd_classify(int argc, char **argv) { return cmd_call(CMD_CLASSIFY, argc, argv, run); }
