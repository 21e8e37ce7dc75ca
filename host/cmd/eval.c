/* puck eval */
#include "classify.h"
#include "cmd.h"
#include "load.h"
#include "loader.h"
#include "temporary.h"
#include "train.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

/* Rows of a pass: enough for the products to be efficient, few enough for a large vocabulary. */
enum { EVAL_ROWS = 1024 };

/* The whole text; else one of its parts. */
static bool is_all(const Options *o) { return strcmp(o->split, "all") == 0; }
static const char *part_of(const Options *o) { return is_all(o) ? "train" : o->split; }

static bool enough(int64_t n_tokens, const Options *o, const ModelConfig *c, Error *e) {
    const bool ngram = c->kind == MODEL_NGRAM;
    if (n_tokens >= (ngram ? c->context : 2)) return true;
    return error_set(e, o->data, "Give more text, or another --split or --val-fraction",
                     "the %s part has too few tokens to score one%s", o->split,
                     ngram ? " n-gram" : "");
}

/* Opens one split of a folder made by `puck tokenize`. */
static bool open_tokens(Tokens *tokens, int64_t *text_bytes, const char *dir, const Options *o,
                        const Loaded *l, Error *e) {
    const bool val = strcmp(o->split, "val") == 0;
    DataMeta meta;
    if (!data_meta_read(dir, &meta, e) ||
        !enough(val ? meta.n_val : meta.n_train, o, &l->config, e))
        return false;
    if (meta.tokenizer_hash != tokenizer_hash(&l->tokenizer))
        return error_set(e, dir, "Tokenize the text with the checkpoint's tokenizer.json",
                         "these tokens were made by another tokenizer than the model's");
    *text_bytes = val ? meta.val_bytes : meta.train_bytes;
    return tokens_open(tokens, dir, part_of(o), l->config.vocab, e);
}

/* Tokenizes a text as `puck train` does, into a new folder. */
static bool tokenize_text(char dir[1024], const Options *o, const Loaded *l, Error *e) {
    char tokenizer[sizeof l->folder + 32];
    CHECK(tokenizer_path(l->folder, tokenizer, sizeof tokenizer), "%s has no tokenizer", l->folder);
    if (!temporary_make(dir, e)) return false;
    const char *input = o->data;
    const TokenizeRequest request = {.inputs = &input,
                                     .n_inputs = 1,
                                     .field = "",
                                     .tokenizer = tokenizer,
                                     .output = dir,
                                     .val_fraction = is_all(o) ? 0 : o->val_fraction,
                                     .labels = &l->labels,
                                     .seed = (uint64_t)o->seed};
    TokenizeResult made = {0};
    return (l->labels.n ? tokenize_labelled : tokenize_files)(&request, &made, e);
}

static bool open_text(Tokens *tokens, int64_t *text_bytes, const Options *o, const Loaded *l,
                      Error *e) {
    char dir[1024];
    const bool ok = tokenize_text(dir, o, l, e) && open_tokens(tokens, text_bytes, dir, o, l, e);
    temporary_remove(dir); /* the files are mapped */
    return ok;
}

static bool open_data(Tokens *tokens, int64_t *text_bytes, const Settings *s, const Loaded *l,
                      Error *e) {
    const Options *o = &s->options;
    struct stat status;
    if (strcmp(o->data, "-") == 0) return open_text(tokens, text_bytes, o, l, e);
    if (stat(o->data, &status) != 0)
        return error_set(e, o->data, "Check --data", "the data cannot be read: %s",
                         strerror(errno));
    if (!S_ISDIR(status.st_mode)) return open_text(tokens, text_bytes, o, l, e);
    if (is_all(o))
        return error_misuse(e, "--split", "Score one after the other",
                            "the tokens in %s are split already", o->data);
    if (options_source(s, "val_fraction") != FROM_DEFAULT)
        return error_misuse(e, "--val-fraction", "Leave it out, or give --data a text",
                            "the tokens in %s are split already", o->data);
    return open_tokens(tokens, text_bytes, o->data, o, l, e);
}

/* A run's text is split where the run split it, unless the call says otherwise. Of pairs only
 * targets were learnt, so the loss of a whole text would say nothing. */
static bool recall_split(Settings *s, const Loaded *l, Error *e) {
    Settings recorded;
    if (!load_recorded(l, &recorded, e)) return false;
    if (strcmp(recorded.options.task, "pairs") == 0)
        return error_misuse(e, "--from", "Score it by `puck generate --pairs --data FILE`",
                            "%s was trained on pairs", l->folder);
    if (options_source(s, "val_fraction") == FROM_DEFAULT)
        s->options.val_fraction = recorded.options.val_fraction;
    s->options.seed = recorded.options.seed;
    return true;
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static void print_grams(const EvalResult *r, const Options *o) {
    if (o->json)
        printf("{\"loss\": %.17g, \"accuracy\": %.17g, \"ngrams\": %ld}\n", r->loss, r->accuracy,
               (long)r->n_scored);
    else
        printf("loss            %.4f nats per n-gram\n"
               "accuracy        %.4f (chance: 0.5)\n"
               "n-grams scored  %ld, half of them real\n",
               r->loss, r->accuracy, (long)r->n_scored);
}

static void print_result(const EvalResult *r, const Options *o) {
    const double bits = r->bits_per_byte;
    if (!o->json) {
        printf("loss            %.4f nats per token\nperplexity      %.4f\n", r->loss,
               r->perplexity);
        if (bits > 0) printf("bits per byte   %.4f\n", bits);
        printf("tokens scored   %ld\n", (long)r->n_scored);
        return;
    }
    json_t *line =
        json_pack("{s:o, s:o, s:o, s:I, s:s}", "loss", number(r->loss), "perplexity",
                  number(r->perplexity), "bits_per_byte", bits > 0 ? number(bits) : json_null(),
                  "tokens", (json_int_t)r->n_scored, "split", o->split);
    CHECK(line, "the loss %g is no JSON", r->loss);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(line);
}

static bool open_part(Tokens *tokens, const char *dir, const char *part, const Loaded *l,
                      Error *e) {
    const int32_t n_vocab = l->tokenizer.n_vocab;
    return tokens_open(tokens, dir, part, n_vocab + l->labels.n, e) &&
           tokens_find_texts(tokens, n_vocab, dir, e);
}

/* The part that is scored, and the other one, from which naive Bayes learns; it may be empty. */
static bool open_parts(Tokens *texts, Tokens *rest, const char *dir, const Options *o,
                       const Loaded *l, Error *e) {
    DataMeta meta;
    const bool val = strcmp(o->split, "val") == 0;
    return data_meta_read(dir, &meta, e) &&
           enough(val ? meta.n_val : meta.n_train, o, &l->config, e) &&
           open_part(texts, dir, part_of(o), l, e) &&
           (meta.n_val == 0 || meta.n_train == 0 ||
            open_part(rest, dir, val ? "train" : "val", l, e));
}

/* Not the sign of a bad model, but of a broken one. */
static bool check_finite(double loss, const Loaded *l, Error *e) {
    return isfinite(loss) ||
           error_set(e, l->folder, "Take an older checkpoint", "the model's losses are not finite");
}

static bool score_parts(const Tokens *texts, const Tokens *rest, const Options *o, Loaded *l,
                        Error *e) {
    const ModelUse use = {.B = i64_max(1, EVAL_ROWS / l->config.context), .T = l->config.context};
    const bool both = rest->n_tokens > 0;
    ClassScore score, bayes = {0};
    if (!load_weights(l, &use, e)) return false;
    classify_split(&l->model, texts, 0, 1, &score);
    const bool ok = check_finite(score.loss, l, e);
    if (ok && both) classify_bayes(rest, texts, &l->labels, &bayes);
    if (ok) classify_print(&score, both ? &bayes : NULL, &l->labels, o->json, stdout);
    classify_free(&score);
    classify_free(&bayes);
    return ok;
}

static bool run_classes(const Options *o, Loaded *l, Error *e) {
    char dir[1024];
    struct stat status;
    if (stat(o->data, &status) == 0 && S_ISDIR(status.st_mode))
        return error_misuse(e, "--data", "Give a .tsv or .jsonl of labelled texts",
                            "a classifier is scored on a file");
    Tokens texts = {0}, rest = {0};
    bool ok = tokenize_text(dir, o, l, e) && open_parts(&texts, &rest, dir, o, l, e);
    temporary_remove(dir); /* the files are mapped */
    ok = ok && score_parts(&texts, &rest, o, l, e);
    tokens_close(&texts);
    tokens_close(&rest);
    return ok;
}

static bool run_loaded(Settings *s, Loaded *l, Error *e) {
    const Options *o = &s->options;
    Tokens tokens;
    int64_t text_bytes;
    if (!recall_split(s, l, e)) return false;
    if (l->labels.n) return run_classes(o, l, e);
    if (!open_data(&tokens, &text_bytes, s, l, e)) return false;
    const int64_t T = l->config.context;
    const int64_t fit = i64_max(1, EVAL_ROWS / T);
    const int64_t most = l->config.kind == MODEL_FFN     ? i64_max(1, tokens.n_tokens - 1)
                         : l->config.kind == MODEL_NGRAM ? 2 * (tokens.n_tokens - T + 1)
                         : l->config.kind == MODEL_RNN   ? 1
                                                         : evaluate_windows(tokens.n_tokens, T);
    const ModelUse use = {.B = i64_min(fit, most), .T = T};
    bool ok = load_weights(l, &use, e);
    if (ok) {
        const EvalResult result = evaluate_split(&l->model, &tokens, text_bytes);
        ok = check_finite(result.loss, l, e);
        if (ok) (l->config.kind == MODEL_NGRAM ? print_grams : print_result)(&result, o);
    }
    tokens_close(&tokens);
    return ok;
}

static bool run(Settings *s, Error *e) {
    if (!s->options.data[0])
        return error_misuse(e, "--data", "Give a text file or a folder made by `puck tokenize`",
                            "there is nothing to evaluate on");
    Loaded l;
    const bool ok = load_open(&l, &s->options, e) && run_loaded(s, &l, e);
    load_close(&l);
    return ok;
}

int cmd_eval(int argc, char **argv) { return cmd_call(CMD_EVAL, argc, argv, run); }
