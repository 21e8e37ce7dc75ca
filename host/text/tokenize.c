/* Texts to a data folder. */
#include "corpus.h"
#include "loader.h"
#include "log.h"
#include "plugin.h"
#include "text.h"
#include "utf8.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 20 }; /* encoded at once, which bounds the ids in memory */

/* "char" makes the vocabulary from the whole input, so validation text has no unknown character. */
bool tokenize_choose(Tokenizer *t, const TokenizeRequest *r, const Corpus *c, Error *e) {
    const char *const which = r->tokenizer;
    const bool words = tokenizer_word_kind(which) != TOKENIZER_CHAR;
    if (!strcmp(which, "byte")) return tokenizer_make_byte(t, e);
    const bool learned = !strcmp(which, "bpe");
    if (strcmp(which, "char") != 0 && !words && !learned) {
        if (!strcmp(which, "gpt2") || access(which, F_OK) == 0) return tokenizer_load(t, which, e);
        return error_misuse(e, "--tokenizer",
                            "Give char, byte, word, word-lower, bpe, gpt2, or a tokenizer.json",
                            "there is no tokenizer or file \"%.200s\"", which);
    }
    for (int64_t i = 0; i < c->n_documents; i++) {
        const Document *d = &c->documents[i];
        const char *source = c->sources[d->source];
        if (!utf8_check(source, c->text.data + d->first, d[1].first - d->first, e)) return false;
    }
    const char *name = c->n_sources == 1 ? c->sources[0] : "the joined input";
    if (words)
        return tokenizer_make_words(t, tokenizer_word_kind(which), name, c->text.data, c->text.n,
                                    r->min_count, r->vocab_size, e);
    if (learned)
        return tokenizer_train_bpe(t, name, c->text.data, c->text.n, r->vocab_size, r->min_count,
                                   plugin_threads(r->threads), e);
    return tokenizer_make_char(t, name, c->text.data, c->text.n, e);
}

/* Byte at which the validation part begins. Bytes that are no UTF-8 count like characters. */
static int64_t find_cut(const char *text, int64_t bytes, double val_fraction) {
    int64_t n_chars = 0;
    for (int64_t i = 0; i < bytes; i++) n_chars += utf8_starts(text[i]);
    /* Rounded up as decimals mean it: 0.1 of 30 is 3 although 0.1 in binary is a little more. */
    const int64_t n_val = (int64_t)ceil((double)n_chars * val_fraction * (1 - 1e-12));
    int64_t cut = bytes;
    for (int64_t n = 0; n < n_val;) n += utf8_starts(text[--cut]);
    return cut;
}

/* Encodes bytes [first, last) of the corpus into the split begun last. Returns the count, or -1.
 * Adds the seconds of encoding. */
static int64_t encode_part(const Corpus *c, const Tokenizer *t, int64_t first, int64_t last,
                           int32_t *ids, DataWriter *w, double *sec, Error *e) {
    /* Between chunks byte pairs forget their words. */
    const int64_t chunk = t->kind == TOKENIZER_BPE ? 16 * CHUNK_BYTES : CHUNK_BYTES;
    int64_t total = 0;
    for (int64_t i = 0; i < c->n_documents; i++) {
        const Document *d = &c->documents[i];
        const char *text = c->text.data + d->first;
        const int64_t end = i64_min(d[1].first, last) - d->first;
        for (int64_t from = i64_max(first - d->first, 0), to; from < end; from = to) {
            to = i64_min(from + chunk, end);
            if (tokenizer_is_word(t) && to < end) to = words_boundary(text, from, to);
            if (t->kind == TOKENIZER_BPE && to < end) to = special_boundary(t, text, from, to, end);
            for (int back = 0; to < end && !utf8_starts(text[to]) && back < 3; back++) to--;
            const double start = time_now();
            const int64_t n = corpus_encode(c, d, t, from, to, ids, e);
            *sec += time_now() - start;
            if (n < 0 || !data_writer_tokens(w, ids, n, e)) return -1;
            total += n;
        }
    }
    return total;
}

static bool write_data(const TokenizeRequest *r, const Corpus *c, const Tokenizer *t, int64_t cut,
                       int32_t *ids, DataWriter *w, TokenizeResult *result, Error *e) {
    DataMeta meta = {.n_vocab = t->n_vocab,
                     .train_bytes = cut,
                     .val_bytes = c->text.n - cut,
                     .tokenizer_hash = tokenizer_hash(t),
                     .data_hash = r->data_hash};
    if (!data_writer_split(w, "train", e)) return false;
    double sec = 0;
    meta.n_train = encode_part(c, t, 0, cut, ids, w, &sec, e);
    if (meta.n_train < 0 || !data_writer_split(w, "val", e)) return false;
    meta.n_val = encode_part(c, t, cut, c->text.n, ids, w, &sec, e);
    if (meta.n_val < 0 || !data_writer_finish(w, t, &meta, e)) return false;
    *result = (TokenizeResult){meta.n_train, meta.n_val, c->text.n, t->n_vocab, 0, sec};
    return true;
}

static bool tokenize_corpus(const TokenizeRequest *r, const Corpus *c, const Tokenizer *t,
                            TokenizeResult *result, Error *e) {
    int64_t cut = find_cut(c->text.data, c->text.n, r->val_fraction);
    if (tokenizer_is_word(t) && cut < c->text.n) cut = words_boundary(c->text.data, 0, cut);
    if (cut == 0)
        return error_set(e, c->sources[0], "Give more text, or --val-fraction 0",
                         "the text is too short to keep a part for validation");
    /* A word of byte pairs may be any part of the text. What is not written takes no memory. */
    const int64_t room = t->kind == TOKENIZER_BPE ? i64_max(c->text.n, CHUNK_BYTES) : CHUNK_BYTES;
    int32_t *ids = malloc((size_t)room * sizeof *ids);
    CHECK(ids, "no memory for a chunk of tokens");
    DataWriter *w = data_writer_begin(r->output, t->n_vocab, e);
    const bool good = w && write_data(r, c, t, cut, ids, w, result, e);
    if (w) data_writer_end(w);
    free(ids);
    return good;
}

bool tokenize_files(const TokenizeRequest *r, TokenizeResult *result, Error *e) {
    CHECK(r->val_fraction >= 0 && r->val_fraction < 1, "val_fraction is %g", r->val_fraction);
    Corpus corpus;
    Tokenizer tokenizer = {0};
    bool good = corpus_read(&corpus, r->inputs, r->n_inputs, r->field, r->output, e);
    const double start = time_now();
    good = good && tokenize_choose(&tokenizer, r, &corpus, e);
    const double learn_sec = time_now() - start;
    good = good && tokenize_corpus(r, &corpus, &tokenizer, result, e);
    if (good) result->learn_sec = learn_sec;
    tokenizer_free(&tokenizer);
    corpus_free(&corpus);
    return good;
}

bool tokenize_memory(const TokenizeRequest *r, Tokenized *result, Error *e) {
    Corpus corpus;
    *result = (Tokenized){0};
    bool good = corpus_read(&corpus, r->inputs, r->n_inputs, r->field, "", e) &&
                tokenize_choose(&result->tokenizer, r, &corpus, e);
    result->n_bytes = corpus.text.n;
    if (good) {
        result->ids = malloc((size_t)corpus.text.n * sizeof *result->ids);
        CHECK(result->ids, "no memory for the tokens of %ld bytes", (long)corpus.text.n);
    }
    for (int64_t i = 0; good && i < corpus.n_documents; i++) {
        const Document *d = &corpus.documents[i];
        const int64_t n = corpus_encode(&corpus, d, &result->tokenizer, 0, d[1].first - d->first,
                                        result->ids + result->n_tokens, e);
        good = n >= 0;
        result->n_tokens += n;
    }
    corpus_free(&corpus);
    return good;
}

void tokenize_free(Tokenized *t) {
    tokenizer_free(&t->tokenizer);
    free(t->ids);
    *t = (Tokenized){0};
}
