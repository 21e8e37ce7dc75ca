/* Classes of texts. */
#include "classify.h"
#include "train.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A row of logits becomes probabilities, as the classifier op has them. */
static void softmax(double *p, const float *logits, int64_t n, double cap) {
    double largest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        p[i] = cap > 0 ? cap * tanh((double)logits[i] / cap) : (double)logits[i];
        largest = fmax(largest, p[i]);
    }
    for (int64_t i = 0; i < n; i++) sum += p[i] = exp(p[i] - largest);
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
}

/* Rows beyond the n texts are the last one again; a recurrent model starts from no state. */
double classify_texts(Model *m, const Tokens *texts, int64_t first, int64_t n,
                      double *probabilities) {
    const int64_t B = m->use.B, N = B * m->use.T, V = m->config.classes;
    const StepParams step = {.training = 0, .loss_scale = 1};
    const LoaderConfig feed = train_feed(&m->config, texts, B, m->use.T, 0, ORDER_SHUFFLE);
    Batch batch = {.tokens = malloc((size_t)(2 * N) * sizeof(int32_t))};
    int64_t *answers = malloc((size_t)B * sizeof *answers);
    float *row = malloc((size_t)V * sizeof *row);
    CHECK(n <= B && V && batch.tokens && answers && row, "%ld texts at once", (long)n);
    batch.targets = batch.tokens + N;
    for (int64_t b = 0; b < B; b++)
        answers[b] = loader_fill_text(&feed, first + i64_min(b, n - 1), b, &batch);
    void *carry = model_save_carry(m);
    model_reset_carry(m);
    model_set_step(m, &step);
    model_write(m, m->tokens, batch.tokens);
    model_write(m, m->targets, batch.targets);
    model_forward(m, false);
    double loss = 0;
    for (int64_t b = 0; b < n; b++) {
        const Tensor logits = tensor_rows(m->logits, answers[b], 1);
        model_read_f32(m, tensor_1d(logits.data, logits.dtype, V), row);
        softmax(probabilities + b * V, row, V, m->config.softcap);
        loss -= log(probabilities[b * V + batch.targets[answers[b]]]);
    }
    model_restore_carry(m, carry);
    free(batch.tokens);
    free(answers);
    free(row);
    return loss;
}

static ClassScore score_make(int64_t n_classes) {
    ClassScore s = {.n_classes = n_classes,
                    .confusion = calloc((size_t)(n_classes * n_classes), sizeof *s.confusion)};
    CHECK(s.confusion, "no memory for a table of %ld classes", (long)n_classes);
    return s;
}

void classify_free(ClassScore *s) { free(s->confusion); }

/* The true class of a text: the label behind it. */
static int32_t label_of(const Tokens *texts, int64_t text) {
    int32_t id;
    tokens_read(texts, texts->lines[text + 1] - 1, 1, &id);
    return id - texts->first_label;
}

static void count(ClassScore *s, int32_t label, const double *scores) {
    int64_t best = 0;
    for (int64_t k = 1; k < s->n_classes; k++)
        if (scores[k] > scores[best]) best = k;
    s->confusion[label * s->n_classes + best]++;
    s->n++;
}

void classify_split(Model *m, const Tokens *texts, int64_t part, int64_t parts,
                    ClassScore *score) {
    const int64_t B = m->use.B, V = m->config.classes;
    const int64_t room = m->config.kind == MODEL_RNN ? m->use.T - 1 : m->use.T;
    double *p = malloc((size_t)(B * V) * sizeof *p);
    CHECK(p, "no memory for the probabilities of %ld texts", (long)B);
    *score = score_make(V);
    for (int64_t first = part * B; first < texts->n_lines; first += parts * B) {
        const int64_t n = i64_min(B, texts->n_lines - first);
        score->loss += classify_texts(m, texts, first, n, p);
        for (int64_t b = 0; b < n; b++) {
            const int64_t *ends = texts->lines + first + b;
            count(score, label_of(texts, first + b), p + b * V);
            score->n_cut += ends[1] - ends[0] - 1 > room;
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

void classify_bayes(const Tokens *train, const Tokens *texts, int64_t n_classes,
                    ClassScore *score) {
    const int64_t n_vocab = train->first_label;
    double *counts = calloc((size_t)(n_classes * n_vocab), sizeof *counts);
    double *of_class = calloc((size_t)n_classes, sizeof *of_class);
    double *of_tokens = calloc((size_t)n_classes, sizeof *of_tokens);
    double *sums = calloc((size_t)n_classes, sizeof *sums);
    int32_t *ids = NULL;
    int64_t room = 0;
    CHECK(counts && of_class && of_tokens && sums, "no memory for the counts of %ld tokens",
          (long)n_vocab);
    for (int64_t text = 0; text < train->n_lines; text++) {
        const int32_t k = label_of(train, text);
        const int64_t n = read_text(train, text, &ids, &room);
        for (int64_t i = 0; i < n; i++) counts[k * n_vocab + ids[i]]++;
        of_class[k]++;
        of_tokens[k] += (double)n;
    }
    *score = score_make(n_classes);
    for (int64_t text = 0; text < texts->n_lines; text++) {
        const int64_t n = read_text(texts, text, &ids, &room);
        for (int64_t k = 0; k < n_classes; k++) {
            sums[k] = log(of_class[k] / (double)train->n_lines) -
                      (double)n * log(of_tokens[k] + (double)n_vocab);
            for (int64_t i = 0; i < n; i++) sums[k] += log(counts[k * n_vocab + ids[i]] + 1);
        }
        count(score, label_of(texts, text), sums);
    }
    free(counts);
    free(of_class);
    free(of_tokens);
    free(sums);
    free(ids);
}

/* ---- scores ---- */

double classify_accuracy(const ClassScore *s) {
    int64_t right = 0;
    for (int64_t k = 0; k < s->n_classes; k++) right += s->confusion[k * s->n_classes + k];
    return s->n ? (double)right / (double)s->n : NAN;
}

double classify_f1(const ClassScore *s, int64_t class) {
    int64_t either = 0; /* of this class, and taken for it: the right ones twice */
    for (int64_t k = 0; k < s->n_classes; k++)
        either += s->confusion[class * s->n_classes + k] + s->confusion[k * s->n_classes + class];
    return either ? 2 * (double)s->confusion[class * s->n_classes + class] / (double)either : 0;
}

double classify_macro_f1(const ClassScore *s) {
    double sum = 0;
    for (int64_t k = 0; k < s->n_classes; k++) sum += classify_f1(s, k);
    return sum / (double)s->n_classes;
}

/* A table of this many classes still fits a screen. */
enum { TABLE_MAX = 12 };

static void print_text(const ClassScore *s, const ClassScore *bayes, const Labels *labels,
                       FILE *out) {
    const int64_t V = s->n_classes;
    int width = 9;
    fprintf(out, "texts           %ld", (long)s->n);
    if (s->n_cut) fprintf(out, ", %ld of them read from their ends alone", (long)s->n_cut);
    fprintf(out, "\nloss            %.4f nats per text\naccuracy        %.4f\n",
            s->loss / (double)s->n, classify_accuracy(s));
    fprintf(out, "macro F1        %.4f\n", classify_macro_f1(s));
    if (bayes)
        fprintf(out, "naive Bayes     %.4f, macro F1 %.4f (over the same tokens)\n",
                classify_accuracy(bayes), classify_macro_f1(bayes));
    for (int32_t k = 0; k < labels->n; k++) {
        const int n = (int)strlen(labels->names[k]) + 2;
        if (n > width) width = n;
    }
    fprintf(out, "\n%-*s%*s", width, "label", 8, "F1");
    for (int64_t k = 0; V <= TABLE_MAX && k < V; k++) fprintf(out, "%*s", width, labels->names[k]);
    fprintf(out, V <= TABLE_MAX ? "   taken for\n" : "\n");
    for (int64_t i = 0; i < V; i++) {
        fprintf(out, "%-*s%8.4f", width, labels->names[i], classify_f1(s, i));
        for (int64_t k = 0; V <= TABLE_MAX && k < V; k++)
            fprintf(out, "%*ld", width, (long)s->confusion[i * V + k]);
        putc('\n', out);
    }
}

static void print_json(const ClassScore *s, const ClassScore *bayes, const Labels *labels,
                       FILE *out) {
    const int64_t V = s->n_classes;
    json_t *names = json_array(), *rows = json_array();
    for (int64_t i = 0; i < V; i++) {
        json_t *row = json_array();
        for (int64_t k = 0; k < V; k++)
            json_array_append_new(row, json_integer((json_int_t)s->confusion[i * V + k]));
        json_array_append_new(rows, row);
        json_array_append_new(names, json_string(labels->names[i]));
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
