/* Token files on disk, and batches made from them.
 *
 * A data folder holds train_000000.bin ... val_000000.bin ... in llm.c's shard format (256 int32:
 * {20240520, 1, n} then uint16 tokens, or {20240801, 7, n} then uint32), tokenizer.json and
 * meta.json. The order of samples is a pure function of (seed, sample index): nothing to save but
 * the index. */
#pragma once
#include "tensor.h"
#include "tokenizer.h"

enum {
    TOKENS_HEADER_BYTES = 1024,
    TOKENS_MAGIC_16 = 20240520,
    TOKENS_VERSION_16 = 1,
    TOKENS_MAGIC_32 = 20240801,
    TOKENS_VERSION_32 = 7
};

typedef struct TokenShard {
    const void *tokens; /* first token, inside the mapping */
    int token_bytes;    /* 2 or 4 */
    int64_t first, n;   /* position in the stream, count */
    void *map;
    int64_t map_bytes;
    char path[1024];
} TokenShard;

/* All shards of one split, mapped; one logical stream of n_tokens. */
typedef struct Tokens {
    TokenShard *shards;
    int n_shards;
    int64_t n_tokens;
    /* Of form lines: first token of line i, and that behind the last. NULL of a plain text. */
    int64_t *lines, n_lines;
    int32_t tab;
    int32_t first_label; /* of labelled texts, which are the lines: the id of label 0; else 0 */
} Tokens;

/* Opens DIR/SPLIT_*.bin in order of name. Fails on a missing folder or split, a header or size that
 * is off, a count that is not meta.json's (where there is one), and on a token >= n_vocab (shard
 * and offset named; every token is read once). */
bool tokens_open(Tokens *t, const char *dir, const char *split, int64_t n_vocab, Error *e);
void tokens_close(Tokens *t);
/* Copies tokens [first, first + n) as int32. The range must exist. */
void tokens_read(const Tokens *t, int64_t first, int64_t n, int32_t *out);

/* The text of a file of pairs, a source, a tab and a target a line; or, if the name ends in .jsonl,
 * made into that from JSON objects with the fields source and target. The caller frees it. NULL on
 * failure: FILE:LINE of what is no pair is named. */
char *pairs_read(const char *path, int64_t *bytes, Error *e);
/* Finds the lines of a split, for form lines. A split that `continues` another begins behind its
 * first newline, for the text may have been cut inside a line; what lies behind the last newline is
 * left out. Fails if there is none, or one that has no tab or does not fit the context. */
bool tokens_find_lines(Tokens *t, const Tokenizer *tokenizer, const char *dir, bool continues,
                       int64_t context, Error *e);
/* Finds the texts of a split made by tokenize_labelled, for form texts. Fails if one has no token
 * or the last one no label; `dir` is named. */
bool tokens_find_texts(Tokens *t, int32_t first_label, const char *dir, Error *e);

/* Text files to a data folder. The last val_fraction of the characters of the whole input, rounded
 * up, is for validation. Plain texts are joined as they are; each text of JSON lines gets a
 * newline. */
typedef struct TokenizeRequest {
    const char *const *inputs; /* files, folders (every regular file, by name), or "-" */
    int n_inputs;
    const char *field;     /* JSON lines: field to take; "" if the inputs are plain text */
    const char *tokenizer; /* char, byte, word, word-lower, bpe, or path of a tokenizer.json */
    int64_t min_count, vocab_size; /* see tokenizer_make_words, tokenizer_train_bpe */
    int64_t threads;               /* 0: one per core */
    const char *output;    /* folder, made if need be */
    double val_fraction;   /* last part of the characters of the whole input */
    uint64_t data_hash;    /* not 0: other tokens are refused, and what is there stays */
    const struct Labels *labels; /* labelled texts: those of the model, or NULL */
    uint64_t seed;               /* labelled texts: of the choice for validation */
} TokenizeRequest;
typedef struct TokenizeResult {
    int64_t n_train, n_val, n_bytes;
    int32_t n_vocab;
    double learn_sec, encode_sec; /* the tokenizer's making or reading; text to ids */
} TokenizeResult;
bool tokenize_files(const TokenizeRequest *request, TokenizeResult *result, Error *e);
/* A file of labelled texts (examples.h) to a data folder with labels.json: the tokens of each text
 * and behind them its label, as n_vocab of the tokenizer + its number. Of each label val_fraction
 * is for validation, at least one and not all; the seed says which. Fails on a label that is not
 * among request->labels, if there are any, and on a text without a token (FILE:LINE named). */
bool tokenize_labelled(const TokenizeRequest *request, TokenizeResult *result, Error *e);
/* What the request's file would make, nothing written. */
bool tokenize_labelled_vocab(const TokenizeRequest *request, Tokenizer *t, struct Labels *labels,
                             Error *e);

/* The tokens of all inputs in memory, none kept for validation; the request's output is not looked
 * at. Freed by tokenize_free, after a failure too. */
typedef struct Tokenized {
    Tokenizer tokenizer;
    int32_t *ids;
    int64_t n_tokens, n_bytes;
} Tokenized;
bool tokenize_memory(const TokenizeRequest *request, Tokenized *result, Error *e);
void tokenize_free(Tokenized *t);

/* meta.json of a data folder. */
typedef struct DataMeta {
    int64_t n_vocab, n_train, n_val;
    int64_t train_bytes, val_bytes; /* of text, for bits per byte */
    uint64_t tokenizer_hash;
    uint64_t data_hash; /* XXH3 of the tokens: the same data, the same hash */
} DataMeta;
bool data_meta_read(const char *dir, DataMeta *meta, Error *e);
bool data_meta_write(const char *dir, const DataMeta *meta, Error *e);

/* Writes a data folder beside its place, as OUTPUT.tmp, and swaps it in when it is whole: a failure
 * or crash leaves what was there. An output folder that holds anything else than token data is
 * refused. */
typedef struct DataWriter DataWriter;
DataWriter *data_writer_begin(const char *output, int64_t n_vocab, Error *e);
/* Tokens go to the split begun last. */
bool data_writer_split(DataWriter *w, const char *split, Error *e);
bool data_writer_tokens(DataWriter *w, const int32_t *ids, int64_t n, Error *e);
bool data_writer_labels(DataWriter *w, const struct Labels *labels, Error *e);
/* Adds tokenizer.json and meta.json and puts the folder in place. data_hash is filled in; where it
 * was not 0 and is not that of these tokens, they are refused. */
bool data_writer_finish(DataWriter *w, const Tokenizer *t, DataMeta *meta, Error *e);
/* Frees; without a successful finish it deletes what was written. */
void data_writer_end(DataWriter *w);

typedef enum DataOrder { ORDER_SHUFFLE, ORDER_RANDOM } DataOrder;

/* What a sample, a row of a batch, is.
 *   windows  T tokens and after each the next one as its target
 *   next     T tokens and one target, the next; a sample for every token but the first; where fewer
 *            than T come before it, `special` fills the row from the left
 *   streams  the text is cut into `streams` parts, and row b goes through part b, T tokens a batch;
 *            its inputs are `special`, then each target but the last. A batch lies (T,B).
 *   neighbours  a word, one of its neighbours, and T - 2 words that are not: ids of the last two
 *            kinds lie n_vocab higher; all are drawn, whatever the order
 *   grams    T words that stand together, of one in two the middle one replaced by a word
 *            from anywhere in the text; the target says whether they are real (1) or not (0)
 *   lines    a line, "source TAB target"; targets are those behind the tab, the newline too
 *   texts    a labelled text, or its end where it does not fit; the one target is its label, after
 *            the last token; it lies as `rows` says: as windows (from the left), as streams (behind
 *            `special`, a batch (T,B)), or as next: then each token of each text is the end of a
 *            sample, T tokens of the text, filled from the left */
typedef enum BatchForm {
    BATCH_WINDOWS,
    BATCH_NEXT,
    BATCH_STREAMS,
    BATCH_NEIGHBOURS,
    BATCH_LINES,
    BATCH_GRAMS,
    BATCH_TEXTS
} BatchForm;

/* What neighbours are drawn by. */
typedef struct LoaderWords {
    int64_t n_vocab, n_used; /* words, and those that the text has */
    double *up_to; /* of words 0 .. v: their share of all counts^0.75 */
    double *keep;  /* how often a place with this word is not left out */
} LoaderWords;
/* Reads all tokens once. A word with share s of them is kept (sqrt(s/t) + 1) t/s of the time, t
 * being the threshold; 0 keeps all. */
LoaderWords *loader_count_words(const Tokens *tokens, int64_t n_vocab, double threshold);
void loader_free_words(LoaderWords *w);

/* What makes batches. Windows in ORDER_SHUFFLE: the stream is cut into ceil((n-1)/T) windows of T
 * inputs; an epoch visits each once, in an order that a keyed permutation of (seed, epoch) gives;
 * the last window's missing targets are -1. ORDER_RANDOM: window starts drawn from [0, n-T).
 * Forms next, grams and lines likewise, over their samples; streams go on where they were. */
typedef struct LoaderConfig {
    const Tokens *tokens;
    int64_t B, T; /* of one micro-batch */
    uint64_t seed;
    DataOrder order;
    BatchForm form;
    BatchForm rows; /* form texts */
    int32_t special;
    int64_t streams; /* rows of the global batch */
    /* Form neighbours: a neighbour is at most `window` words away, and nearer ones are drawn more
     * often. */
    const LoaderWords *words;
    int64_t window;
} LoaderConfig;

/* One micro-batch in pinned host memory. From loader_next it is valid until the call after the
 * next, so that its copy to a device may still be under way when the next one is asked for. */
typedef struct Batch {
    int32_t *tokens;  /* (B,T) */
    int32_t *targets; /* (B,T), -1 is ignored; of streams (T,B); (B) where a row has one */
    int32_t *order;   /* (B*T): rows sorted by token, stable */
    int32_t *starts;  /* (B*T+1): starts of equal-token segments in order; unused are B*T */
    int64_t n_valid;  /* targets >= 0 */
    int64_t sample;   /* index of the first sequence */
} Batch;

/* The keyed permutation: where `index` of [0, n) goes. */
int64_t loader_shuffle(int64_t n, int64_t index, uint64_t seed, int64_t epoch);
/* Start of the window of sample number `sample`, and its inputs that exist: T but for the last,
 * and for the first ones of form next. */
int64_t loader_window(const LoaderConfig *c, int64_t sample, int64_t *n_inputs);
/* Form streams: whether the batch that begins with this sample is the first of all parts. */
bool loader_begins(const LoaderConfig *c, int64_t sample);
/* Targets of sample number `sample` that exist. */
int64_t loader_targets(const LoaderConfig *c, int64_t sample);
/* Fails if the data is shorter than one window, or has fewer windows than the `batch` sequences of
 * a step (both named). */
bool loader_check(const LoaderConfig *c, int64_t batch, const char *dir, Error *e);
/* Samples in an epoch; of random order, as many as would cover the data once. */
int64_t loader_epoch_samples(const LoaderConfig *c);
/* Form next: one row, whose last input is token number `last`, and its target. */
void loader_fill_next(const LoaderConfig *c, int64_t last, int32_t *row, int32_t *target);
/* Form neighbours: the T ids of sample number `sample`. */
void loader_fill_neighbours(const LoaderConfig *c, int64_t sample, int32_t *row);
/* Form grams: the row that begins with token number `first`, its middle word replaced unless it is
 * to be real; `draw` numbers the replacement. */
void loader_fill_gram(const LoaderConfig *c, int64_t first, int64_t draw, bool real, int32_t *row);
/* Form lines: the row of line number `line`. Returns its targets' number. */
int64_t loader_fill_line(const LoaderConfig *c, int64_t line, int32_t *row, int32_t *target);
/* Form texts: the tokens of a text; the text of sample number `sample` of an epoch, of which the
 * sample has read the first n tokens. */
int64_t loader_text_tokens(const Tokens *tokens, int64_t text);
int64_t loader_text(const LoaderConfig *c, int64_t sample, int64_t *n);
/* Form texts: row b of a batch from the first n tokens of a text. Returns which of the batch's
 * targets is the text's. */
int64_t loader_fill_text(const LoaderConfig *c, int64_t text, int64_t n, int64_t b, Batch *batch);
/* Fills a batch whose arrays the caller owns, for samples sample .. sample+B-1. Pure. */
void loader_fill(const LoaderConfig *c, int64_t sample, Batch *batch);

/* A thread that prepares batch i+1 while i is used. `memory` holds loader_bytes(B, T) bytes
 * (pinned). Batches come in order of sample: first, first+stride, first+2*stride ... */
typedef struct Loader Loader;
int64_t loader_bytes(int64_t B, int64_t T);
Loader *loader_start(const LoaderConfig *c, int64_t first, int64_t stride, void *memory);
const Batch *loader_next(Loader *l);
void loader_stop(Loader *l);
