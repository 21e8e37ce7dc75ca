/* tokenizer.json as Hugging Face's `tokenizers` has it. Characters and bytes are a byte-pair model
 * without merges, so every character (or byte, in GPT-2's alphabet) is a token of its own; words
 * are a WordLevel model behind a Split by WORDS_REGEX; bpe_json.c has byte pairs.
 *
 * A reader that ignored a field would encode another way than the file says, so every field must
 * have one of the values listed here. */
#include "rules.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

/* The model's unk_token, absent from its vocabulary: without one `tokenizers` drops unknown
 * characters silently, with this one it raises an error, as puck does. */
#define UNKNOWN "<unk>"

static const Rule top_rules[] = {
    {"version", "-s", "1.0"},       {"truncation", "-0", NULL}, {"padding", "-0", NULL},
    {"added_tokens", "-e", NULL},   {"normalizer", "-0", NULL}, {"pre_tokenizer", "-0o", NULL},
    {"post_processor", "-0", NULL}, {"decoder", "o", NULL},     {"model", "o", NULL},
};
/* Without merges, fuse_unk and ignore_merges change nothing. */
static const Rule model_rules[] = {
    {"type", "s", "BPE"},
    {"dropout", "-0", NULL},
    {"unk_token", "-0S", NULL},
    {"continuing_subword_prefix", "-0e", NULL},
    {"end_of_word_suffix", "-0e", NULL},
    {"fuse_unk", "-ft", NULL},
    {"byte_fallback", "-f", NULL},
    {"ignore_merges", "-ft", NULL},
    {"vocab", "o", NULL},
    {"merges", "e", NULL},
};
/* What host/text/words.c cuts: words with apostrophes inside, line ends, marks. Beyond ASCII all is
 * letters. */
#define LETTERS "0-9A-Za-z\\x{80}-\\x{10FFFF}"
#define WORDS_REGEX "[" LETTERS "]+(?:'[" LETTERS "]+)*|\\n|[^\\t-\\r " LETTERS "]"

static const Rule word_model_rules[] = {
    {"type", "s", "WordLevel"}, {"vocab", "o", NULL}, {"unk_token", "s", "<UNK>"}};
static const Rule word_split_rules[] = {{"type", "s", "Split"},
                                        {"pattern", "o", NULL},
                                        {"behavior", "s", "Removed"},
                                        {"invert", "t", NULL}};
static const Rule pattern_rules[] = {{"Regex", "s", WORDS_REGEX}};
static const Rule lower_rules[] = {{"type", "s", "Lowercase"}};
static const Rule word_top_rules[] = {
    {"version", "-s", "1.0"},       {"truncation", "-0", NULL},  {"padding", "-0", NULL},
    {"added_tokens", "-e", NULL},   {"normalizer", "-0o", NULL}, {"pre_tokenizer", "o", NULL},
    {"post_processor", "-0", NULL}, {"decoder", "-0", NULL},     {"model", "o", NULL},
};

static const Rule fuse_rules[] = {{"type", "s", "Fuse"}};
/* use_regex says where merges must stop, trim_offsets what offsets are: neither changes ids. */
static const Rule split_rules[] = {{"type", "s", "ByteLevel"},
                                   {"add_prefix_space", "f", NULL},
                                   {"trim_offsets", "-ft", NULL},
                                   {"use_regex", "-ft", NULL}};

/* The code point of every token by id. */
static bool vocab_read(json_t *vocab, int32_t *code, const char *name, Error *e) {
    const json_int_t n = (json_int_t)json_object_size(vocab);
    for (json_int_t i = 0; i < n; i++) code[i] = -1;
    const char *token;
    json_t *value;
    json_object_foreach(vocab, token, value) {
        const int64_t bytes = (int64_t)strlen(token);
        int32_t c = 0;
        if (bytes == 0 || utf8_next(token, bytes, &c) != bytes)
            return error_set(e, name, rules_remedy, "the token \"%.40s\" is not one character",
                             token);
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= n || code[id] >= 0)
            return error_set(e, name, rules_remedy,
                             "the token \"%s\" needs an id of its own from 0 to %ld", token,
                             (long)(n - 1));
        code[id] = c;
    }
    return true;
}

static bool bytes_from_codes(Tokenizer *t, const int32_t *code, int64_t n, const char *name,
                             Error *e) {
    int32_t code_of[256];
    uint8_t byte[256];
    tokenizer_byte_codes(code_of);
    if (n != 256)
        return error_set(e, name, rules_remedy, "a byte tokenizer has 256 tokens, this one %ld",
                         (long)n);
    for (int i = 0; i < 256; i++) {
        int b = 0;
        while (b < 256 && code_of[b] != code[i]) b++;
        if (b == 256)
            return error_set(e, name, rules_remedy, "the token of id %d stands for no byte", i);
        byte[i] = (uint8_t)b;
    }
    return tokenizer_from_bytes(t, byte, e);
}

/* The text of every token by id: pointers into the JSON. */
static bool words_read(json_t *vocab, const char **words, const char *name, Error *e) {
    const json_int_t n = (json_int_t)json_object_size(vocab);
    const char *token;
    json_t *value;
    json_object_foreach(vocab, token, value) {
        const json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id >= n || words[id])
            return error_set(e, name, rules_remedy,
                             "the token \"%.40s\" needs an id of its own from 0 to %ld", token,
                             (long)(n - 1));
        words[id] = token;
    }
    return true;
}

static bool word_tokenizer_read(Tokenizer *t, const char *name, json_t *root, Error *e) {
    json_t *model = json_object_get(root, "model"), *lower = json_object_get(root, "normalizer");
    json_t *split = json_object_get(root, "pre_tokenizer");
    json_t *vocab = json_object_get(model, "vocab");
    if (!RULES_CHECK(word_top_rules, root, name, "", e) ||
        !RULES_CHECK(word_model_rules, model, name, "model.", e) ||
        !RULES_CHECK(word_split_rules, split, name, "pre_tokenizer.", e) ||
        !RULES_CHECK(pattern_rules, json_object_get(split, "pattern"), name,
                     "pre_tokenizer.pattern.", e) ||
        (json_is_object(lower) && !RULES_CHECK(lower_rules, lower, name, "normalizer.", e)))
        return false;
    const int64_t n = (int64_t)json_object_size(vocab);
    if (n == 0 || n > 1 << 24)
        return error_set(e, name, rules_remedy, "it has %ld tokens", (long)n);
    const char **words = calloc((size_t)n, sizeof *words);
    if (!words) return error_set(e, name, NULL, "no memory for %ld tokens", (long)n);
    const TokenizerKind kind = json_is_object(lower) ? TOKENIZER_WORD_LOWER : TOKENIZER_WORD;
    const bool good = words_read(vocab, words, name, e) &&
                      tokenizer_from_words(t, kind, name, words, (int32_t)n, e);
    free(words);
    return good;
}

/* A pre_tokenizer makes it the byte kind; each kind has its own decoder. */
static bool characters_read(Tokenizer *t, const char *name, json_t *root, Error *e) {
    json_t *model = json_object_get(root, "model"), *decoder = json_object_get(root, "decoder");
    json_t *split = json_object_get(root, "pre_tokenizer");
    const bool is_byte = json_is_object(split);
    if (!RULES_CHECK(top_rules, root, name, "", e) ||
        !RULES_CHECK(model_rules, model, name, "model.", e) ||
        (is_byte && !RULES_CHECK(split_rules, split, name, "pre_tokenizer.", e)))
        return false;
    if (is_byte ? !RULES_CHECK(rules_join, decoder, name, "decoder.", e)
                : !RULES_CHECK(fuse_rules, decoder, name, "decoder.", e))
        return false;
    json_t *vocab = json_object_get(model, "vocab");
    const int64_t n = (int64_t)json_object_size(vocab);
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (unknown && json_object_get(vocab, unknown))
        return error_set(e, name, rules_remedy,
                         "`model.unk_token` is a token, so unknown characters would become it");
    if (n == 0 || n > 0x110000)
        return error_set(e, name, rules_remedy, "it has %ld tokens", (long)n);
    int32_t *code = malloc((size_t)n * sizeof *code);
    if (!code) return error_set(e, name, NULL, "no memory for %ld tokens", (long)n);
    const bool good = vocab_read(vocab, code, name, e) &&
                      (is_byte ? bytes_from_codes(t, code, n, name, e)
                               : tokenizer_from_codes(t, code, (int32_t)n, e));
    free(code);
    return good;
}

static bool tokenizer_read(Tokenizer *t, const char *name, json_t *root, Error *e) {
    if (!json_is_object(root))
        return error_set(e, name, rules_remedy, "the file is no JSON object");
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type && strcmp(type, "WordLevel") == 0) return word_tokenizer_read(t, name, root, e);
    if (json_array_size(json_object_get(model, "merges")) > 0 &&
        json_is_object(json_object_get(root, "pre_tokenizer")))
        return bpe_json_read(t, name, root, e);
    return characters_read(t, name, root, e);
}

bool tokenizer_parse(Tokenizer *t, const char *name, const char *json, int64_t bytes, Error *e) {
    json_t *root = json_parse(name, json, bytes, e);
    const bool good = root && tokenizer_read(t, name, root, e);
    json_decref(root);
    return good;
}

static json_t *words_write(const Tokenizer *t) {
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *text = tokenizer_text(t, id, &bytes);
        json_object_setn_new(vocab, text, (size_t)bytes, json_integer(id));
    }
    json_t *model =
        json_pack("{s:s,s:o,s:s}", "type", "WordLevel", "vocab", vocab, "unk_token", "<UNK>");
    json_t *split = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
                              WORDS_REGEX, "behavior", "Removed", "invert", 1);
    json_t *lower =
        t->kind == TOKENIZER_WORD_LOWER ? json_pack("{s:s}", "type", "Lowercase") : json_null();
    return json_pack("{s:s,s:n,s:n,s:[],s:o,s:o,s:n,s:n,s:o}", "version", "1.0", "truncation",
                     "padding", "added_tokens", "normalizer", lower, "pre_tokenizer", split,
                     "post_processor", "decoder", "model", model);
}

static json_t *vocab_write(const Tokenizer *t) {
    int32_t code_of[256];
    tokenizer_byte_codes(code_of);
    json_t *vocab = json_object();
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *text = tokenizer_text(t, id, &bytes);
        char key[5] = {0};
        if (t->kind == TOKENIZER_BYTE)
            utf8_write(key, code_of[(uint8_t)text[0]]);
        else
            memcpy(key, text, (size_t)bytes);
        json_object_set_new_nocheck(vocab, key, json_integer(id));
    }
    return vocab;
}

static json_t *characters_write(const Tokenizer *t) {
    const bool is_byte = t->kind == TOKENIZER_BYTE;
    json_t *model = json_pack("{s:s,s:n,s:s,s:n,s:n,s:b,s:b,s:b,s:o,s:[]}", "type", "BPE",
                              "dropout", "unk_token", UNKNOWN, "continuing_subword_prefix",
                              "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
                              "ignore_merges", 0, "vocab", vocab_write(t), "merges");
    return json_pack("{s:s,s:n,s:n,s:[],s:n,s:o,s:n,s:o,s:o}", "version", "1.0", "truncation",
                     "padding", "added_tokens", "normalizer", "pre_tokenizer",
                     is_byte ? bpe_json_level(false) : json_null(), "post_processor", "decoder",
                     is_byte ? bpe_json_level(false) : json_pack("{s:s}", "type", "Fuse"),
                     "model", model);
}

bool tokenizer_save(const Tokenizer *t, const char *path, Error *e) {
    json_t *root = t->kind == TOKENIZER_BPE ? bpe_json_write(t)
                   : tokenizer_is_word(t)   ? words_write(t)
                                            : characters_write(t);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    const bool good = text ? file_write_atomic(path, text, (int64_t)strlen(text), e)
                           : error_set(e, path, NULL, "no memory to write the tokenizer");
    free(text);
    json_decref(root);
    return good;
}
