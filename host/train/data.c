/* The data of a run: what tokenizes it, where its tokens lie, and whether they fit the model. */
#include "dist.h"
#include "log.h"
#include "trainer.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The tokenizer of the checkpoint that training starts from, where it has one and none was asked
 * for. */
static const char *choose_tokenizer(const Trainer *t, const Start *start, char *path, size_t size) {
    if (!start->folder[0] || options_source(&t->settings, "tokenizer") != FROM_DEFAULT ||
        !tokenizer_path(start->folder, path, size))
        return t->options->tokenizer;
    return path;
}

/* A folder is tokenized and split already. */
static bool take_folder(Trainer *t, Error *e) {
    static const char *const text_only[] = {"min_count", "tokenizer", "val_fraction"};
    for (int i = 0; i < COUNT_OF(text_only); i++) {
        char flag[OPTIONS_DASHED_MAX];
        if (options_source(&t->settings, text_only[i]) == FROM_FLAG)
            return error_misuse(e, options_dashed(flag, text_only[i]),
                                "Leave it out, or give --data a text",
                                "the tokens in %s are made already", t->options->data);
    }
    snprintf(t->data, sizeof t->data, "%s", t->options->data);
    return true;
}

/* Whether RUN/data holds what the run was trained on, and nothing else was asked for: then it goes
 * on even if the text has moved. */
static bool has_own_data(const Trainer *t) {
    static const char *const ways[] = {"data", "tokenizer", "min_count", "val_fraction"};
    DataMeta meta;
    Error ignored;
    for (int i = 0; i < COUNT_OF(ways); i++)
        if (options_source(&t->settings, ways[i]) != FROM_DEFAULT) return false;
    return data_meta_read(t->data, &meta, &ignored) && meta.data_hash == t->state.data_hash &&
           meta.tokenizer_hash == t->state.tokenizer_hash;
}

static bool is_task(const Trainer *t, const char *task) {
    return strcmp(t->options->task, task) == 0;
}

/* The text of --data; of pairs it is checked, and made from JSON lines. */
static char *read_data(const Trainer *t, int64_t *bytes, Error *e) {
    const char *path = t->options->data;
    return is_task(t, "pairs") ? pairs_read(path, bytes, e) : file_read(path, bytes, e);
}

static bool is_file(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* JSON lines, and what cannot be read twice, become a text in the run's folder, which is then
 * tokenized. */
static bool prepare_pairs(Trainer *t, Error *e) {
    int64_t bytes;
    char *text = read_data(t, &bytes, e);
    bool ok = text != NULL;
    if (ok && (examples_are_json(t->options->data) || !is_file(t->options->data))) {
        snprintf(t->pairs, sizeof t->pairs, "%s/pairs.tsv", t->run);
        t->text = t->pairs;
        ok = file_write_atomic(t->pairs, text, bytes, e);
    }
    free(text);
    return ok;
}

bool data_find_lines(Trainer *t, Error *e) {
    const int64_t T = t->model.config.context;
    const int32_t n_vocab = t->tokenizer.n_vocab;
    if (is_task(t, "classify")) {
        if (!tokens_find_texts(&t->train, n_vocab, t->data, e)) return false;
        classify_shares(&t->labels, &t->train);
        return t->meta.n_val == 0 || tokens_find_texts(&t->val, n_vocab, t->data, e);
    }
    return !is_task(t, "pairs") ||
           (tokens_find_lines(&t->train, &t->tokenizer, t->data, false, T, e) &&
            (t->meta.n_val == 0 ||
             tokens_find_lines(&t->val, &t->tokenizer, t->data, true, T, e)));
}

/* What tokenizes the text into RUN/data; `path` is room for a name. */
static TokenizeRequest request_of(const Trainer *t, const Start *start, char *path, size_t size) {
    const Options *o = t->options;
    return (TokenizeRequest){.inputs = &t->text,
                             .n_inputs = 1,
                             .field = "",
                             .tokenizer = choose_tokenizer(t, start, path, size),
                             .output = t->data,
                             .min_count = o->min_count,
                             .vocab_size = o->vocab_size,
                             .threads = o->threads,
                             .val_fraction = o->val_fraction,
                             .seed = (uint64_t)o->seed,
                             .data_hash =
                                 start->resumes && !o->override ? t->state.data_hash : 0};
}

/* A folder is taken as it is; a text is tokenized into RUN/data. */
static bool make_tokens(Trainer *t, const Start *start, Error *e) {
    const Options *o = t->options;
    if (!o->data[0])
        return error_misuse(e, "--data", "Give a text file, or a folder made by `puck tokenize`",
                            "there is nothing to train on");
    if (is_folder(o->data)) return take_folder(t, e);
    char path[2048];
    snprintf(t->data, sizeof t->data, "%s/data", t->run);
    if (start->resumes && has_own_data(t)) return true;
    if (is_task(t, "pairs") && !prepare_pairs(t, e)) return false;
    const TokenizeRequest request = request_of(t, start, path, sizeof path);
    TokenizeResult result = {0};
    if (!(is_task(t, "classify") ? tokenize_labelled : tokenize_files)(&request, &result, e))
        return false;
    log_info("%s: %ld training and %ld validation tokens, vocabulary %d", o->data,
             (long)result.n_train, (long)result.n_val, (int)result.n_vocab);
    return true;
}

static bool open_labels(Trainer *t, Error *e) {
    return labels_read(&t->labels, t->data, e) &&
           (t->labels.n || error_misuse(e, "--data", "Give a .tsv or .jsonl of labelled texts",
                                        "the tokens in %s have no labels", t->data));
}

static bool open_data(Trainer *t, Error *e) {
    char path[2048];
    snprintf(path, sizeof path, "%s/tokenizer.json", t->data);
    if (!data_meta_read(t->data, &t->meta, e) || !tokenizer_load(&t->tokenizer, path, e) ||
        (is_task(t, "classify") && !open_labels(t, e)))
        return false;
    if (t->meta.tokenizer_hash != tokenizer_hash(&t->tokenizer))
        return error_set(e, path, "Make the folder again with `puck tokenize`",
                         "this is not the tokenizer that made the tokens beside it");
    const int64_t n_ids = t->tokenizer.n_vocab + t->labels.n;
    return tokens_open(&t->train, t->data, "train", n_ids, e) &&
           (t->meta.n_val == 0 || tokens_open(&t->val, t->data, "val", n_ids, e));
}

/* To a model with another tokenizer the same ids are another text. */
static bool check_tokenizer(const Trainer *t, const Start *start, Error *e) {
    char path[2048];
    Tokenizer own;
    Error ignored;
    const bool chosen = options_source(&t->settings, "tokenizer") != FROM_DEFAULT;
    if (!start->folder[0] || !tokenizer_path(start->folder, path, sizeof path)) return true;
    if (!tokenizer_load(&own, path, &ignored)) return true; /* of a kind unknown here */
    const bool same = tokenizer_hash(&own) == tokenizer_hash(&t->tokenizer);
    tokenizer_free(&own);
    return same ||
           error_misuse(e, chosen ? "--tokenizer" : "--data", "Use the tokenizer of that file",
                        "%s was tokenized otherwise than %s says", t->data, path);
}

bool data_prepare(Trainer *t, const Start *start, Error *e) {
    if (!dist_agree(dist_rank() != 0 || make_tokens(t, start, e), e)) return false;
    dist_broadcast(t->data, sizeof t->data, 0);
    return dist_agree(open_data(t, e), e) &&
           dist_same(t->meta.data_hash, "the tokens", "Give all hosts the same data", e);
}

/* An estimate of the loss needs a token and its target. */
static bool check_validation(const Trainer *t, Error *e) {
    if (t->options->eval_every == 0 || t->val.n_tokens > 1) return true;
    if (t->options->patience > 0)
        return error_misuse(e, "--patience", "Keep some text with --val-fraction",
                            "without a validation part there is no loss that could stop to fall");
    log_info("there is no validation part: nothing is evaluated");
    return true;
}

bool data_check(const Trainer *t, const Start *start, Error *e) {
    return check_tokenizer(t, start, e) && check_validation(t, e);
}

/* ---- for --dry-run ---- */

static bool survey_vocab(Trainer *t, Error *e) {
    const Options *o = t->options;
    if (!o->data[0] || o->vocab_size) return true;
    char path[2048];
    if (is_folder(o->data)) {
        snprintf(path, sizeof path, "%s/tokenizer.json", o->data);
        return tokenizer_load(&t->tokenizer, path, e);
    }
    if (strcmp(o->tokenizer, "byte") == 0) return tokenizer_make_byte(&t->tokenizer, e);
    if (strcmp(o->tokenizer, "bpe") == 0)
        return error_misuse(e, "--vocab-size", "Give it, such as --vocab-size 1024",
                            "byte pairs need the size of their vocabulary");
    const TokenizerKind word = tokenizer_word_kind(o->tokenizer);
    if (strcmp(o->tokenizer, "char") != 0 && word == TOKENIZER_CHAR)
        return tokenizer_load(&t->tokenizer, o->tokenizer, e);
    int64_t bytes;
    char *text = read_data(t, &bytes, e);
    const bool ok =
        text && (word == TOKENIZER_CHAR
                     ? tokenizer_make_char(&t->tokenizer, o->data, text, bytes, e)
                     : tokenizer_make_words(&t->tokenizer, word, o->data, text, bytes,
                                            o->min_count, o->vocab_size, e));
    free(text);
    return ok;
}

/* A classifier's outputs are what the labels are. */
static bool survey_labels(Trainer *t, const Start *start, Error *e) {
    char path[2048];
    snprintf(t->data, sizeof t->data, "%s", t->options->data);
    if (is_folder(t->data)) return open_labels(t, e);
    const TokenizeRequest request = request_of(t, start, path, sizeof path);
    return tokenize_labelled_vocab(&request, &t->tokenizer, &t->labels, e);
}

bool data_survey(Trainer *t, const Start *start, Error *e) {
    if (is_task(t, "classify") && !survey_labels(t, start, e)) return false;
    return start->finetunes || t->tokenizer.n_vocab || survey_vocab(t, e);
}
