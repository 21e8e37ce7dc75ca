/* Classes of texts. */
#include "classify.h"
#include "train.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Logarithm of a sum: of all n terms, whose logarithms are given, or of those of one kind. */
static double log_sum(const double *log_p, int64_t n, const int32_t *kinds, int32_t kind) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (!kinds || kinds[i] == kind) largest = fmax(largest, log_p[i]);
    for (int64_t i = 0; i < n; i++)
        if (!kinds || kinds[i] == kind) sum += exp(log_p[i] - largest);
    return largest + log(sum);
}

/* Logarithms of unscaled probabilities become such of probabilities. */
static void normalise(double *log_p, int64_t n) {
    const double sum = log_sum(log_p, n, NULL, 0);
    for (int64_t i = 0; i < n; i++) log_p[i] -= sum;
}

/* A batch of texts, or of windows of one, and what the model answers. */
typedef struct Reader {
    Model *model;
    LoaderConfig feed;
    Batch batch;
    int64_t *answers; /* (B): which of the batch's targets is the row's */
    float *logits;    /* (classes) */
    double *log_p;    /* (classes) */
} Reader;

static Reader reader_open(Model *m, const Tokens *texts) {
    const int64_t B = m->use.B, N = B * m->use.T, V = m->config.classes;
    Reader r = {.model = m,
                .feed = train_feed(&m->config, texts, B, m->use.T, 0, ORDER_SHUFFLE),
                .batch = {.tokens = malloc((size_t)(2 * N) * sizeof(int32_t))},
                .answers = malloc((size_t)B * sizeof *r.answers),
                .logits = malloc((size_t)V * sizeof *r.logits),
                .log_p = malloc((size_t)V * sizeof *r.log_p)};
    CHECK(V && r.batch.tokens && r.answers && r.logits && r.log_p, "no memory for %ld texts",
          (long)B);
    r.batch.targets = r.batch.tokens + N;
    return r;
}

static void reader_close(Reader *r) {
    free(r->batch.tokens);
    free(r->answers);
    free(r->logits);
    free(r->log_p);
}

/* Row b reads the first n tokens of a text. */
static void reader_fill(Reader *r, int64_t text, int64_t n, int64_t b) {
    r->answers[b] = loader_fill_text(&r->feed, text, n, b, &r->batch);
}

/* A recurrent model starts from no state. */
static void reader_run(Reader *r) {
    Model *m = r->model;
    const StepParams step = {.training = 0, .loss_scale = 1};
    void *carry = model_save_carry(m);
    model_reset_carry(m);
    model_set_step(m, &step);
    model_write(m, m->tokens, r->batch.tokens);
    model_write(m, m->targets, r->batch.targets);
    model_forward(m, false);
    model_restore_carry(m, carry);
}

/* Logarithms of the classes' probabilities in row b, as the classifier op has them. */
static void reader_answer(Reader *r, int64_t b, double *log_p) {
    Model *m = r->model;
    const int64_t V = m->config.classes;
    const double cap = m->config.softcap;
    const Tensor logits = tensor_rows(m->logits, r->answers[b], 1);
    model_read_f32(m, tensor_1d(logits.data, logits.dtype, V), r->logits);
    for (int64_t k = 0; k < V; k++) {
        const double logit = (double)r->logits[k];
        log_p[k] = cap > 0 ? cap * tanh(logit / cap) : logit;
    }
    normalise(log_p, V);
}

static double log_share(const Model *m, int64_t class) {
    return log(m->labels->shares ? m->labels->shares[class] : 1.0 / (double)m->config.classes);
}

/* A feed-forward model reads T tokens, so it goes over the text, a window for each token. */
static void reader_slide(Reader *r, int64_t text, double *log_p) {
    const Model *m = r->model;
    const int64_t B = m->use.B, V = m->config.classes;
    const int64_t n = loader_text_tokens(r->feed.tokens, text);
    for (int64_t k = 0; k < V; k++) log_p[k] = log_share(m, k);
    for (int64_t first = 0; first < n; first += B) {
        for (int64_t b = 0; b < B; b++) reader_fill(r, text, i64_min(first + b + 1, n), b);
        reader_run(r);
        for (int64_t b = 0; b < i64_min(B, n - first); b++) {
            reader_answer(r, b, r->log_p);
            for (int64_t k = 0; k < V; k++)
                log_p[k] += (r->log_p[k] - log_share(m, k)) / (double)m->use.T;
        }
    }
    normalise(log_p, V);
}

/* Rows beyond the n texts are the last one again. */
static void reader_read(Reader *r, int64_t first, int64_t n, double *log_p) {
    for (int64_t b = 0; b < r->model->use.B; b++) {
        const int64_t text = first + i64_min(b, n - 1);
        reader_fill(r, text, loader_text_tokens(r->feed.tokens, text), b);
    }
    reader_run(r);
    for (int64_t b = 0; b < n; b++) reader_answer(r, b, log_p + b * r->model->config.classes);
}

/* The true class of a text: the label behind it. */
static int32_t label_of(const Tokens *texts, int64_t text) {
    int32_t id;
    tokens_read(texts, texts->lines[text + 1] - 1, 1, &id);
    return id - texts->first_label;
}

double classify_texts(Model *m, const Tokens *texts, int64_t first, int64_t n,
                      double *probabilities) {
    const Labels *labels = m->labels;
    const int64_t V = m->config.classes, K = labels->n_kinds;
    double *log_p = malloc((size_t)(n * V) * sizeof *log_p), loss = 0;
    CHECK(n <= m->use.B && log_p, "%ld texts at once", (long)n);
    Reader r = reader_open(m, texts);
    if (r.feed.rows == BATCH_NEXT)
        for (int64_t b = 0; b < n; b++) reader_slide(&r, first + b, log_p + b * V);
    else
        reader_read(&r, first, n, log_p);
    reader_close(&r);
    for (int64_t b = 0; b < n; b++) {
        const int32_t kind = labels->kind[label_of(texts, first + b)];
        for (int32_t k = 0; k < K; k++) {
            const double log_kind = log_sum(log_p + b * V, V, labels->kind, k);
            probabilities[b * K + k] = exp(log_kind);
            if (k == kind) loss -= log_kind;
        }
    }
    free(log_p);
    return loss;
}

void classify_shares(Labels *labels, const Tokens *train) {
    labels->shares = calloc((size_t)labels->n, sizeof *labels->shares);
    CHECK(labels->shares, "no memory for the shares of %d classes", labels->n);
    const double n = (double)(train->n_tokens - train->n_lines);
    for (int64_t text = 0; text < train->n_lines; text++)
        labels->shares[label_of(train, text)] += (double)loader_text_tokens(train, text) / n;
}

static ClassScore score_make(int64_t n_kinds) {
    ClassScore s = {.n_kinds = n_kinds,
                    .confusion = calloc((size_t)(n_kinds * n_kinds), sizeof *s.confusion)};
    CHECK(s.confusion, "no memory for a table of %ld kinds", (long)n_kinds);
    return s;
}

void classify_free(ClassScore *s) { free(s->confusion); }

static void count(ClassScore *s, int32_t kind, const double *scores) {
    int64_t best = 0;
    for (int64_t k = 1; k < s->n_kinds; k++)
        if (scores[k] > scores[best]) best = k;
    s->confusion[kind * s->n_kinds + best]++;
    s->n++;
}

void classify_split(Model *m, const Tokens *texts, int64_t part, int64_t parts,
                    ClassScore *score) {
    const Labels *labels = m->labels;
    const int64_t B = m->use.B, K = labels->n_kinds;
    const int64_t room = m->config.kind == MODEL_FFN   ? INT64_MAX
                         : m->config.kind == MODEL_RNN ? m->use.T - 1
                                                       : m->use.T;
    double *p = malloc((size_t)(B * K) * sizeof *p);
    CHECK(p, "no memory for the probabilities of %ld texts", (long)B);
    *score = score_make(K);
    for (int64_t first = part * B; first < texts->n_lines; first += parts * B) {
        const int64_t n = i64_min(B, texts->n_lines - first);
        score->loss += classify_texts(m, texts, first, n, p);
        for (int64_t b = 0; b < n; b++) {
            count(score, labels->kind[label_of(texts, first + b)], p + b * K);
            score->n_cut += loader_text_tokens(texts, first + b) > room;
        }
    }
    free(p);
}

/* ---- naive Bayes ---- */

/* Tokens and labels of a text; returns the number of tokens. */
static int64_t read_text(const Tokens *texts, int64_t text, int32_t **ids, int64_t *room) {
    const int64_t first = texts->lines[text], n = texts->lines[text + 1] - 1 - first;
    if (n > *room) {
        *room = 2 * n;
        *ids = realloc(*ids, (size_t)*room * sizeof **ids);
        CHECK(*ids, "no memory for a text of %ld tokens", (long)n);
    }
    tokens_read(texts, first, n, *ids);
    return n;
}

void classify_bayes(const Tokens *train, const Tokens *texts, const Labels *labels,
                    ClassScore *score) {
    const int64_t n_vocab = train->first_label, n_kinds = labels->n_kinds;
    double *counts = calloc((size_t)(n_kinds * n_vocab), sizeof *counts);
    double *of_kind = calloc((size_t)n_kinds, sizeof *of_kind);
    double *of_tokens = calloc((size_t)n_kinds, sizeof *of_tokens);
    double *sums = calloc((size_t)n_kinds, sizeof *sums);
    int32_t *ids = NULL;
    int64_t room = 0;
    CHECK(counts && of_kind && of_tokens && sums, "no memory for the counts of %ld tokens",
          (long)n_vocab);
    for (int64_t text = 0; text < train->n_lines; text++) {
        const int32_t k = labels->kind[label_of(train, text)];
        const int64_t n = read_text(train, text, &ids, &room);
        for (int64_t i = 0; i < n; i++) counts[k * n_vocab + ids[i]]++;
        of_kind[k]++;
        of_tokens[k] += (double)n;
    }
    *score = score_make(n_kinds);
    for (int64_t text = 0; text < texts->n_lines; text++) {
        const int64_t n = read_text(texts, text, &ids, &room);
        for (int64_t k = 0; k < n_kinds; k++) {
            sums[k] = log(of_kind[k] / (double)train->n_lines) -
                      (double)n * log(of_tokens[k] + (double)n_vocab);
            for (int64_t i = 0; i < n; i++) sums[k] += log(counts[k * n_vocab + ids[i]] + 1);
        }
        count(score, labels->kind[label_of(texts, text)], sums);
    }
    free(counts);
    free(of_kind);
    free(of_tokens);
    free(sums);
    free(ids);
}

/* ---- scores ---- */

double classify_accuracy(const ClassScore *s) {
    int64_t right = 0;
    for (int64_t k = 0; k < s->n_kinds; k++) right += s->confusion[k * s->n_kinds + k];
    return s->n ? (double)right / (double)s->n : NAN;
}

double classify_f1(const ClassScore *s, int64_t kind) {
    int64_t either = 0; /* of this kind, and taken for it: the right ones twice */
    for (int64_t k = 0; k < s->n_kinds; k++)
        either += s->confusion[kind * s->n_kinds + k] + s->confusion[k * s->n_kinds + kind];
    return either ? 2 * (double)s->confusion[kind * s->n_kinds + kind] / (double)either : 0;
}

double classify_macro_f1(const ClassScore *s) {
    double sum = 0;
    for (int64_t k = 0; k < s->n_kinds; k++) sum += classify_f1(s, k);
    return sum / (double)s->n_kinds;
}

/* A table of this many classes still fits a screen. */
enum { TABLE_MAX = 12 };

static void print_text(const ClassScore *s, const ClassScore *bayes, const Labels *labels,
                       FILE *out) {
    const int64_t V = s->n_kinds;
    int width = 9;
    fprintf(out, "texts           %ld", (long)s->n);
    if (s->n_cut) fprintf(out, ", %ld of them read from their ends alone", (long)s->n_cut);
    fprintf(out, "\nloss            %.4f nats per text\naccuracy        %.4f\n",
            s->loss / (double)s->n, classify_accuracy(s));
    fprintf(out, "macro F1        %.4f\n", classify_macro_f1(s));
    if (bayes)
        fprintf(out, "naive Bayes     %.4f, macro F1 %.4f (over the same tokens)\n",
                classify_accuracy(bayes), classify_macro_f1(bayes));
    for (int32_t k = 0; k < labels->n_kinds; k++) {
        const int n = (int)strlen(labels->kinds[k]) + 2;
        if (n > width) width = n;
    }
    fprintf(out, "\n%-*s%*s", width, "label", 8, "F1");
    for (int64_t k = 0; V <= TABLE_MAX && k < V; k++) fprintf(out, "%*s", width, labels->kinds[k]);
    fprintf(out, V <= TABLE_MAX ? "   taken for\n" : "\n");
    for (int64_t i = 0; i < V; i++) {
        fprintf(out, "%-*s%8.4f", width, labels->kinds[i], classify_f1(s, i));
        for (int64_t k = 0; V <= TABLE_MAX && k < V; k++)
            fprintf(out, "%*ld", width, (long)s->confusion[i * V + k]);
        putc('\n', out);
    }
}

static void print_json(const ClassScore *s, const ClassScore *bayes, const Labels *labels,
                       FILE *out) {
    const int64_t V = s->n_kinds;
    json_t *names = json_array(), *rows = json_array();
    for (int64_t i = 0; i < V; i++) {
        json_t *row = json_array();
        for (int64_t k = 0; k < V; k++)
            json_array_append_new(row, json_integer((json_int_t)s->confusion[i * V + k]));
        json_array_append_new(rows, row);
        json_array_append_new(names, json_string(labels->kinds[i]));
    }
    json_t *line = json_pack(
        "{s:I, s:I, s:f, s:f, s:f, s:o, s:o}", "texts", (json_int_t)s->n, "cut",
        (json_int_t)s->n_cut, "loss", s->loss / (double)s->n, "accuracy", classify_accuracy(s),
        "macro_f1", classify_macro_f1(s), "labels", names, "confusion", rows);
    CHECK(line, "the loss %g is no JSON", s->loss);
    if (bayes) json_object_set_new(line, "naive_bayes", json_real(classify_accuracy(bayes)));
    json_dumpf(line, out, JSON_REAL_PRECISION(17));
    putc('\n', out);
    json_decref(line);
}

void classify_print(const ClassScore *s, const ClassScore *bayes, const Labels *labels, bool json,
                    FILE *out) {
    (json ? print_json : print_text)(s, bayes, labels, out);
}
