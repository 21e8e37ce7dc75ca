/* Labelled texts to a data folder: each text's tokens, and behind them its label, as an id beyond
 * the tokenizer's vocabulary. So a part is one stream, and its labels end its texts. */
#include "corpus.h"
#include "examples.h"
#include "loader.h"
#include "text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that the file says. */
typedef struct Labelled {
    Examples examples;
    Labels own; /* those of the examples, unless the request has some */
    const Labels *labels;
    Corpus corpus; /* the texts, a document each */
    Tokenizer tokenizer;
} Labelled;

static void labelled_close(Labelled *l) {
    examples_free(&l->examples);
    labels_free(&l->own);
    corpus_free(&l->corpus);
    tokenizer_free(&l->tokenizer);
}

/* The texts one after another, a newline behind each, which is not part of it. */
static void join_texts(Labelled *l, const char *path) {
    Corpus *c = &l->corpus;
    const Examples *x = &l->examples;
    *c = (Corpus){.sources = calloc(1, sizeof *c->sources),
                  .n_sources = 1,
                  .json = examples_are_json(path)};
    c->documents = calloc((size_t)x->n + 1, sizeof *c->documents);
    for (int64_t i = 0; i < x->n; i++) c->text.n += (int64_t)strlen(x->items[i].text) + 1;
    c->text.data = malloc((size_t)c->text.n);
    CHECK(c->sources && c->documents && c->text.data, "no memory for %ld bytes of text",
          (long)c->text.n);
    c->sources[0] = strdup(path);
    CHECK(c->sources[0], "no memory for a file name");
    int64_t at = 0;
    for (int64_t i = 0; i < x->n; i++) {
        const int64_t n = (int64_t)strlen(x->items[i].text);
        c->documents[i] = (Document){at, 0, x->items[i].line};
        memcpy(c->text.data + at, x->items[i].text, (size_t)n);
        c->text.data[at + n] = '\n';
        at += n + 1;
    }
    c->documents[x->n].first = at;
    c->n_documents = x->n;
}

static bool labelled_open(Labelled *l, const TokenizeRequest *r, Error *e) {
    const char *path = r->inputs[0];
    *l = (Labelled){.labels = r->labels ? r->labels : &l->own};
    if (!examples_read(&l->examples, path, "text", "label", e) ||
        (!r->labels && !labels_collect(&l->own, &l->examples, path, e)))
        return false;
    join_texts(l, path);
    return tokenize_choose(&l->tokenizer, r, &l->corpus, e);
}

/* The label's number of each example. */
static bool number_labels(const Labelled *l, int32_t *numbers, Error *e) {
    for (int64_t i = 0; i < l->examples.n; i++) {
        const char *name = l->examples.items[i].label;
        numbers[i] = labels_find(l->labels, name);
        if (numbers[i] >= 0) continue;
        char place[1100], known[256] = "";
        corpus_name(&l->corpus, &l->corpus.documents[i], place, sizeof place);
        for (int32_t k = 0; k < l->labels->n && strlen(known) < 200; k++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%.40s",
                     k ? ", " : "Those of the model are ", l->labels->names[k]);
        return error_set(e, place, known, "the label \"%.100s\" was not there in training", name);
    }
    return true;
}

/* Whether an example is for validation: of each label a val_fraction, but neither all nor none of
 * two or more. Which ones depends on the seed. */
static void choose_parts(const Labelled *l, const TokenizeRequest *r, const int32_t *numbers,
                         bool *is_val) {
    int64_t n[LABELS_MAX] = {0}, seen[LABELS_MAX] = {0};
    for (int64_t i = 0; i < l->examples.n; i++) n[numbers[i]]++;
    for (int64_t i = 0; i < l->examples.n; i++) {
        const int32_t k = numbers[i];
        const int64_t share = llround((double)n[k] * r->val_fraction);
        const int64_t n_val = r->val_fraction > 0 ? i64_min(i64_max(share, 1), n[k] - 1) : 0;
        is_val[i] = loader_shuffle(n[k], seen[k]++, r->seed, k) < n_val;
    }
}

/* The examples of one part. Returns how many tokens they have, or -1. */
static int64_t write_part(const Labelled *l, const int32_t *numbers, const bool *is_val, bool val,
                          int64_t *text_bytes, DataWriter *w, Error *e) {
    const Corpus *c = &l->corpus;
    int64_t total = 0;
    int32_t *ids = malloc((size_t)(c->text.n + 1) * sizeof *ids);
    CHECK(ids, "no memory for the tokens of a text");
    for (int64_t i = 0; total >= 0 && i < c->n_documents; i++) {
        const Document *d = &c->documents[i];
        const int64_t bytes = d[1].first - d->first - 1;
        char place[1100];
        if (is_val[i] != val) continue;
        const int64_t n = corpus_encode(c, d, &l->tokenizer, 0, bytes, ids, e);
        if (n == 0) {
            corpus_name(c, d, place, sizeof place);
            error_set(e, place, "Remove it", "the text has no token");
        }
        if (n > 0) ids[n] = l->tokenizer.n_vocab + numbers[i];
        total = n > 0 && data_writer_tokens(w, ids, n + 1, e) ? total + n + 1 : -1;
        *text_bytes += bytes;
    }
    free(ids);
    return total;
}

static bool write_parts(const Labelled *l, const TokenizeRequest *r, const int32_t *numbers,
                        const bool *is_val, DataWriter *w, TokenizeResult *result, Error *e) {
    const Tokenizer *t = &l->tokenizer;
    DataMeta meta = {.n_vocab = t->n_vocab,
                     .tokenizer_hash = tokenizer_hash(t),
                     .data_hash = r->data_hash};
    if (!data_writer_split(w, "train", e)) return false;
    meta.n_train = write_part(l, numbers, is_val, false, &meta.train_bytes, w, e);
    if (meta.n_train < 0 || !data_writer_split(w, "val", e)) return false;
    meta.n_val = write_part(l, numbers, is_val, true, &meta.val_bytes, w, e);
    if (meta.n_val < 0 || !data_writer_labels(w, l->labels, e) ||
        !data_writer_finish(w, t, &meta, e))
        return false;
    *result = (TokenizeResult){.n_train = meta.n_train,
                                .n_val = meta.n_val,
                                .n_bytes = l->corpus.text.n,
                                .n_vocab = t->n_vocab};
    return true;
}

bool tokenize_labelled(const TokenizeRequest *r, TokenizeResult *result, Error *e) {
    Labelled l;
    bool good = labelled_open(&l, r, e);
    int32_t *numbers = calloc((size_t)l.examples.n + 1, sizeof *numbers);
    bool *is_val = calloc((size_t)l.examples.n + 1, sizeof *is_val);
    CHECK(numbers && is_val, "no memory for %ld examples", (long)l.examples.n);
    good = good && number_labels(&l, numbers, e);
    if (good) {
        choose_parts(&l, r, numbers, is_val);
        DataWriter *w = data_writer_begin(r->output, l.tokenizer.n_vocab + l.labels->n, e);
        good = w && write_parts(&l, r, numbers, is_val, w, result, e);
        if (w) data_writer_end(w);
    }
    free(numbers);
    free(is_val);
    labelled_close(&l);
    return good;
}

bool tokenize_labelled_vocab(const TokenizeRequest *r, Tokenizer *t, Labels *labels, Error *e) {
    Labelled l;
    const bool good = labelled_open(&l, r, e);
    if (good) {
        *t = l.tokenizer;
        l.tokenizer = (Tokenizer){0};
        *labels = l.own;
        l.own = (Labels){0};
    }
    labelled_close(&l);
    return good;
}
