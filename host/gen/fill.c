/* What fits a blank: every candidate's whole sentence is scored by the model. */
#include "generate.h"
#include "show.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Choice {
    const char *text;
    int64_t bytes;
    const int32_t *ids;
    int64_t n;
    double mean;        /* log-likelihood per token of the sentence */
    double probability; /* among the candidates */
} Choice;

/* Everything of one call. */
typedef struct Fill {
    /* The sentence around the blank; `before` begins with the start token and owns both. */
    int32_t *before, *after;
    int64_t n_before, n_after;
    Choice *choices;
    int64_t n;
    int32_t *ids;  /* of all choices */
    int32_t *rows; /* (2,B,T): inputs, targets */
    float *losses; /* (B,T) */
} Fill;

static void fill_free(Fill *f) {
    free(f->before);
    free(f->choices);
    free(f->ids);
    free(f->rows);
    free(f->losses);
}

/* Splits the sentence at its one run of three or more underscores. */
static bool read_sentence(Fill *f, const Tokenizer *t, const char *sentence, Error *e) {
    const char *blank = strstr(sentence, "___");
    const char *after = blank ? blank + strspn(blank, "_") : NULL;
    if (!blank || strstr(after, "___"))
        return error_misuse(e, "--fill", "Write one ___ where a word is to be found",
                            "the sentence has %s blank", blank ? "more than one" : "no");
    const int64_t room = (int64_t)strlen(sentence);
    f->before = malloc((size_t)(room + 1) * sizeof *f->before);
    if (!f->before) return error_set(e, NULL, NULL, "there is no memory for the sentence");
    f->before[0] = generate_start(t);
    f->n_before = tokenizer_encode(t, "--fill", sentence, blank - sentence, f->before + 1, e) + 1;
    if (f->n_before == 0) return false;
    f->after = f->before + f->n_before;
    f->n_after = tokenizer_encode(t, "--fill", after, (int64_t)strlen(after), f->after, e);
    return f->n_after >= 0;
}

static bool read_choices(Fill *f, const Tokenizer *t, const char *list, Error *e) {
    const bool all = list[0] == 0;
    f->n = all ? t->n_vocab : 1;
    for (const char *p = list; *p; p++) f->n += *p == ',';
    const int64_t room = all ? t->n_vocab : (int64_t)strlen(list);
    f->choices = calloc((size_t)f->n, sizeof *f->choices);
    f->ids = malloc((size_t)room * sizeof *f->ids);
    if (!f->choices || !f->ids)
        return error_set(e, NULL, NULL, "there is no memory for candidates");
    int32_t *ids = f->ids;
    for (int64_t i = 0; i < f->n; i++) {
        Choice *c = &f->choices[i];
        c->ids = ids;
        if (all) {
            int32_t bytes;
            c->text = tokenizer_text(t, (int32_t)i, &bytes);
            c->bytes = bytes;
            c->n = 1;
            ids[0] = (int32_t)i;
        } else {
            c->text = list;
            c->bytes = (int64_t)strcspn(list, ",");
            c->n = tokenizer_encode(t, "--candidates", list, c->bytes, ids, e);
            if (c->n < 0 || !tokenizer_check_words(t, list, c->bytes, e)) return false;
            if (c->n == 0)
                return error_misuse(e, "--candidates", "Separate them by one comma each",
                                    "candidate %ld is empty", (long)i + 1);
            list += c->bytes + 1;
        }
        ids += c->n;
    }
    return true;
}

/* Tokens of the sentence with a choice in it, the start token aside: what is scored. */
static int64_t length(const Fill *f, const Choice *c) {
    return f->n_before - 1 + c->n + f->n_after;
}

/* Writes a choice's sentence as one row of inputs and targets. */
static void fill_row(const Fill *f, const Choice *c, int64_t T, int32_t *inputs, int32_t *targets) {
    for (int64_t i = 0; i < T; i++) {
        inputs[i] = 0;
        targets[i] = -1;
    }
    for (int64_t i = 0; i <= length(f, c); i++) {
        const int64_t j = i - f->n_before, k = j - c->n;
        const int32_t id = j < 0 ? f->before[i] : k < 0 ? c->ids[j] : f->after[k];
        if (i < length(f, c)) inputs[i] = id;
        if (i > 0) targets[i - 1] = id;
    }
}

static bool score(Fill *f, Model *m, Error *e) {
    const int64_t B = m->use.B, T = m->use.T;
    const StepParams step = {.training = 0, .loss_scale = 1};
    f->rows = malloc((size_t)(2 * B * T) * sizeof *f->rows);
    f->losses = malloc((size_t)(B * T) * sizeof *f->losses);
    if (!f->rows || !f->losses) return error_set(e, NULL, NULL, "there is no memory for a batch");
    model_set_step(m, &step);
    for (int64_t first = 0; first < f->n; first += B) {
        const int64_t n = i64_min(B, f->n - first);
        for (int64_t b = 0; b < B; b++) /* rows to spare repeat the last one */
            fill_row(f, &f->choices[first + i64_min(b, n - 1)], T, f->rows + b * T,
                     f->rows + (B + b) * T);
        model_write(m, m->tokens, f->rows);
        model_write(m, m->targets, f->rows + B * T);
        model_forward(m, false);
        model_read_f32(m, m->losses, f->losses);
        for (int64_t b = 0; b < n; b++) {
            Choice *c = &f->choices[first + b];
            double sum = 0;
            for (int64_t i = 0; i < length(f, c); i++) sum -= f->losses[b * T + i];
            c->mean = sum / (double)length(f, c);
            if (!isfinite(c->mean))
                return error_set(e, NULL, "Take an older checkpoint",
                                 "the model's losses are not finite");
        }
    }
    return true;
}

static int by_likelihood(const void *a, const void *b) {
    const Choice *x = a, *y = b;
    if (x->mean != y->mean) return x->mean > y->mean ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text; /* the order they came in */
}

static void rank(Fill *f) {
    qsort(f->choices, (size_t)f->n, sizeof *f->choices, by_likelihood);
    double tokens = 0, sum = 0;
    for (int64_t i = 0; i < f->n; i++) tokens += (double)length(f, &f->choices[i]);
    for (int64_t i = 0; i < f->n; i++) {
        Choice *c = &f->choices[i];
        c->probability = exp((c->mean - f->choices[0].mean) * tokens / (double)f->n);
        sum += c->probability;
    }
    for (int64_t i = 0; i < f->n; i++) f->choices[i].probability /= sum;
}

static void print_json(const Choice *c, FILE *out) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    CHECK(memory, "no memory for %ld bytes", (long)c->bytes);
    Utf8Writer w = {.out = memory};
    for (int64_t i = 0; i < c->bytes; i++) show_byte(&w, (unsigned char)c->text[i]);
    show_finish(&w);
    fclose(memory);
    json_t *line = json_pack("{s:s#, s:f, s:f}", "candidate", text, (int)bytes, "probability",
                             c->probability, "log_likelihood_per_token", c->mean);
    CHECK(line, "a candidate of %ld bytes is no JSON", (long)c->bytes);
    json_dumpf(line, out, JSON_REAL_PRECISION(17));
    putc('\n', out);
    json_decref(line);
    free(text);
}

static bool print_ranking(const Fill *f, int n_show, bool json, FILE *out, Error *e) {
    if (!json) fprintf(out, "probability   log-likelihood/token   candidate\n");
    for (int64_t i = 0; i < i64_min(n_show, f->n); i++) {
        const Choice *c = &f->choices[i];
        if (json) {
            print_json(c, out);
            continue;
        }
        fprintf(out, "%11.4f   %20.4f   ", c->probability, c->mean);
        show_quoted(out, c->text, c->bytes);
        putc('\n', out);
    }
    if (fflush(out) == 0 && !ferror(out)) return true;
    return error_set(e, NULL, NULL, "the ranking could not be written: %s", strerror(errno));
}

bool generate_fill(Model *m, const Tokenizer *t, const char *sentence, const char *candidates,
                   int n_show, bool json, FILE *out, Error *e) {
    Fill f = {0};
    bool ok = read_sentence(&f, t, sentence, e) && read_choices(&f, t, candidates, e);
    for (int64_t i = 0; ok && i < f.n; i++)
        if (length(&f, &f.choices[i]) > m->use.T)
            ok = error_misuse(e, "--fill", "Shorten it", "the sentence has %ld tokens, but %ld fit",
                              (long)length(&f, &f.choices[i]), (long)m->use.T);
    ok = ok && score(&f, m, e);
    if (ok) rank(&f);
    ok = ok && print_ranking(&f, n_show, json, out, e);
    fill_free(&f);
    return ok;
}
