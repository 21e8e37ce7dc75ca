/* Byte pairs as Hugging Face's files have them: tokenizer.json of a BPE model behind a ByteLevel
 * split, and the older vocab.json with merges.txt. */
#include "rules.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

static const Rule top_rules[] = {
    {"version", "-s", "1.0"},        {"truncation", "-0", NULL}, {"padding", "-0", NULL},
    {"added_tokens", "-a", NULL},    {"normalizer", "-0", NULL}, {"pre_tokenizer", "o", NULL},
    {"post_processor", "-0o", NULL}, {"decoder", "o", NULL},     {"model", "o", NULL},
};
/* Every byte has a token, so that nothing is unknown. */
static const Rule model_rules[] = {
    {"type", "-s", "BPE"},
    {"dropout", "-0", NULL},
    {"unk_token", "-0S", NULL},
    {"continuing_subword_prefix", "-0e", NULL},
    {"end_of_word_suffix", "-0e", NULL},
    {"fuse_unk", "-ft", NULL},
    {"byte_fallback", "-ft", NULL},
    {"ignore_merges", "-ft", NULL},
    {"vocab", "o", NULL},
    {"merges", "a", NULL},
};
static const Rule gpt2_rules[] = {{"type", "s", "ByteLevel"},
                                  {"add_prefix_space", "f", NULL},
                                  {"trim_offsets", "-ft", NULL},
                                  {"use_regex", "-t", NULL}};
static const Rule sequence_rules[] = {{"type", "s", "Sequence"}, {"pretokenizers", "a", NULL}};
static const Rule split_rules[] = {{"type", "s", "Split"},
                                   {"pattern", "o", NULL},
                                   {"behavior", "s", "Isolated"},
                                   {"invert", "f", NULL}};
static const Rule pattern_rules[] = {{"Regex", "S", NULL}};
static const Rule level_rules[] = {{"type", "s", "ByteLevel"},
                                   {"add_prefix_space", "f", NULL},
                                   {"trim_offsets", "-ft", NULL},
                                   {"use_regex", "f", NULL}};
/* Without a normalizer a text is what it was. */
static const Rule added_rules[] = {
    {"id", "i", NULL},        {"content", "S", NULL}, {"single_word", "-f", NULL},
    {"lstrip", "-f", NULL},   {"rstrip", "-f", NULL}, {"normalized", "-ft", NULL},
    {"special", "-ft", NULL},
};

/* ---- reading ---- */

/* GPT-2's split, or one pattern before a ByteLevel that does not split again; *split is NULL or in
 * the JSON. */
static bool read_split(json_t *first, const char **split, const char *name, Error *e) {
    const char *type = json_string_value(json_object_get(first, "type"));
    *split = NULL;
    if (!type || strcmp(type, "Sequence") != 0)
        return RULES_CHECK(gpt2_rules, first, name, "pre_tokenizer.", e);
    json_t *list = json_object_get(first, "pretokenizers"), *cut = json_array_get(list, 0);
    if (!RULES_CHECK(sequence_rules, first, name, "pre_tokenizer.", e)) return false;
    if (json_array_size(list) != 2)
        return error_set(e, name, rules_remedy,
                         "`pre_tokenizer` is a Sequence of %ld, and puck reads Split, ByteLevel",
                         (long)json_array_size(list));
    json_t *pattern = json_object_get(cut, "pattern");
    if (!RULES_CHECK(split_rules, cut, name, "pre_tokenizer.pretokenizers[0].", e) ||
        !RULES_CHECK(pattern_rules, pattern, name, "pre_tokenizer.pretokenizers[0].pattern.", e) ||
        !RULES_CHECK(level_rules, json_array_get(list, 1), name, "pre_tokenizer.pretokenizers[1].",
                     e))
        return false;
    *split = json_string_value(json_object_get(pattern, "Regex"));
    return true;
}

/* A template puts tokens around a text, which puck does not: its ids are those without special
 * tokens added. */
static bool check_post(json_t *post, const char *name, Error *e) {
    const char *type = json_string_value(json_object_get(post, "type"));
    if (!json_is_object(post) || (type && strcmp(type, "TemplateProcessing") == 0)) return true;
    json_t *list = json_object_get(post, "processors");
    if (!type || strcmp(type, "Sequence") != 0)
        return RULES_CHECK(rules_join, post, name, "post_processor.", e);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        type = json_string_value(json_object_get(one, "type"));
        if (!(type && strcmp(type, "TemplateProcessing") == 0) &&
            !RULES_CHECK(rules_join, one, name, "post_processor.processors.", e))
            return false;
    }
    return true;
}

/* What is read, as tokenizer_from_pairs takes it. */
typedef struct Reading {
    TokenizerPairs pairs;
    char *pool, *at; /* bytes of plain tokens */
    char **merges;   /* "a b", each its own */
    int32_t *specials;
    json_t *added; /* the texts of added tokens */
} Reading;

static void reading_free(Reading *r) {
    for (int32_t k = 0; k < r->pairs.n_merges; k++) free(r->merges[k]);
    free(r->merges);
    free(r->specials);
    free(r->pairs.text);
    free(r->pairs.bytes);
    free(r->pool);
    json_decref(r->added);
}

/* Some ids may be left out, so that those of special tokens are round numbers. */
enum { IDS_LEFT_OUT = 1024 };

static bool read_id(const json_t *value, int64_t most, const char *token, int64_t *id,
                    const char *name, Error *e) {
    *id = json_integer_value(value);
    if (json_is_integer(value) && *id >= 0 && *id < most) return true;
    return error_set(e, name, rules_remedy, "the token \"%.40s\" needs an id from 0 to %ld", token,
                     (long)(most - 1));
}

static bool set_token(Reading *r, int64_t id, const char *text, int64_t bytes, const char *name,
                      Error *e) {
    if (r->pairs.text[id])
        return error_set(e, name, rules_remedy, "two tokens have the id %ld", (long)id);
    r->pairs.text[id] = text;
    r->pairs.bytes[id] = (int32_t)bytes;
    r->pairs.n_vocab = (int32_t)i64_max(r->pairs.n_vocab, id + 1);
    return true;
}

/* An added token may be in the vocabulary too, as the same text with the same id. */
static bool read_added(Reading *r, json_t *vocab, json_t *added, int64_t most, const char *name,
                       Error *e) {
    for (size_t i = 0; i < json_array_size(added); i++) {
        json_t *one = json_array_get(added, i);
        int64_t id, other = 0;
        if (!RULES_CHECK(added_rules, one, name, "added_tokens.", e)) return false;
        const char *text = json_string_value(json_object_get(one, "content"));
        const json_t *known = json_object_get(vocab, text);
        if (!*text) return error_set(e, name, rules_remedy, "an added token is empty");
        if (!read_id(json_object_get(one, "id"), most, text, &id, name, e) ||
            (known && !read_id(known, most, text, &other, name, e)) ||
            !set_token(r, id, text, (int64_t)strlen(text), name, e))
            return false;
        if (known && other != id)
            return error_set(e, name, rules_remedy, "the token \"%.40s\" has the ids %ld and %ld",
                             text, (long)id, (long)other);
        r->specials[r->pairs.n_specials++] = (int32_t)id;
        json_object_set_new(r->added, text, json_true());
    }
    return true;
}

static bool read_vocab(Reading *r, json_t *vocab, int64_t most, const char *name, Error *e) {
    const char *key;
    json_t *value;
    json_object_foreach(vocab, key, value) {
        int64_t id;
        if (json_object_get(r->added, key)) continue;
        if (!read_id(value, most, key, &id, name, e)) return false;
        const int64_t bytes = tokenizer_read_alphabet(key, (int64_t)strlen(key), r->at);
        if (bytes <= 0)
            return error_set(e, name, rules_remedy,
                             "the token \"%.40s\" is neither in GPT-2's alphabet for bytes nor an "
                             "added one",
                             key);
        if (!set_token(r, id, r->at, bytes, name, e)) return false;
        r->at += bytes;
    }
    return true;
}

/* Merges as "a b", whether the file has them so or as ["a", "b"]. */
static bool read_merges(Reading *r, json_t *list, const char *name, Error *e) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *m = json_array_get(list, i);
        const char *a = json_string_value(json_array_get(m, 0));
        const char *b = json_string_value(json_array_get(m, 1));
        const bool pair = json_array_size(m) == 2 && a && b;
        if (pair && (strchr(a, ' ') || strchr(b, ' ')))
            return error_set(e, name, rules_remedy, "a part of merge %ld has a space", (long)i + 1);
        if (!pair && !json_is_string(m))
            return error_set(e, name, rules_remedy, "merge %ld is not two tokens", (long)i + 1);
        char **merge = &r->merges[r->pairs.n_merges++];
        if (asprintf(merge, "%s%s%s", pair ? a : json_string_value(m), pair ? " " : "",
                     pair ? b : "") < 0)
            *merge = NULL;
        CHECK(*merge, "no memory for a merge");
    }
    return true;
}

/* The JSON of a vocabulary, and what else of it counts. */
typedef struct Parts {
    json_t *vocab, *added, *merges;
    const char *split;
    bool whole_first;
} Parts;

static bool read_parts(Tokenizer *t, const char *name, const Parts *p, Error *e) {
    const size_t n_merges = json_array_size(p->merges), n_added = json_array_size(p->added);
    const int64_t most = (int64_t)(json_object_size(p->vocab) + n_added) + IDS_LEFT_OUT;
    size_t bytes = 1;
    const char *key;
    json_t *value;
    json_object_foreach(p->vocab, key, value) bytes += strlen(key);
    Reading r = {.pairs = {.text = calloc((size_t)most, sizeof *r.pairs.text),
                           .bytes = calloc((size_t)most, sizeof *r.pairs.bytes),
                           .split = p->split,
                           .whole_first = p->whole_first},
                 .pool = malloc(bytes),
                 .merges = calloc(n_merges + 1, sizeof *r.merges),
                 .specials = malloc((n_added + 1) * sizeof *r.specials),
                 .added = json_object()};
    CHECK(r.pairs.text && r.pairs.bytes && r.pool && r.merges && r.specials && r.added,
          "no memory for %ld tokens", (long)most);
    r.at = r.pool;
    r.pairs.specials = r.specials;
    r.pairs.merges = (const char *const *)r.merges;
    const bool good = read_added(&r, p->vocab, p->added, most, name, e) &&
                      read_vocab(&r, p->vocab, most, name, e) &&
                      read_merges(&r, p->merges, name, e) &&
                      tokenizer_from_pairs(t, name, &r.pairs, e);
    reading_free(&r);
    return good;
}

bool bpe_json_read(Tokenizer *t, const char *name, json_t *root, Error *e) {
    json_t *model = json_object_get(root, "model");
    Parts parts = {.vocab = json_object_get(model, "vocab"),
                   .added = json_object_get(root, "added_tokens"),
                   .merges = json_object_get(model, "merges"),
                   .whole_first = json_is_true(json_object_get(model, "ignore_merges"))};
    if (!RULES_CHECK(top_rules, root, name, "", e) ||
        !RULES_CHECK(model_rules, model, name, "model.", e) ||
        !read_split(json_object_get(root, "pre_tokenizer"), &parts.split, name, e) ||
        !RULES_CHECK(rules_join, json_object_get(root, "decoder"), name, "decoder.", e) ||
        !check_post(json_object_get(root, "post_processor"), name, e))
        return false;
    return read_parts(t, name, &parts, e);
}

/* ---- vocab.json and merges.txt ---- */

/* The lines of merges.txt, without its version. */
static json_t *merges_list(const char *text) {
    json_t *list = json_array();
    size_t n;
    for (const char *line = text; *line; line += n + (line[n] == '\n')) {
        n = strcspn(line, "\n");
        if (line == text && strncmp(line, "#version", 8) == 0) continue;
        json_array_append_new(list, json_stringn(line, n));
    }
    return list;
}

/* Special tokens of vocab.json that are no sign of merges.txt being cut off. */
enum { SPECIALS_MOST = 256 };

/* Tokens that are neither a byte nor made by a merge: those are special in this form. */
static json_t *specials_list(json_t *vocab, json_t *merges) {
    json_t *made = json_object(), *list = json_array(), *value;
    const char *key;
    size_t i;
    json_array_foreach(merges, i, value) {
        char *text = strdup(json_string_value(value));
        CHECK(text, "no memory for a merge");
        char *space = strchr(text, ' ');
        if (space) memmove(space, space + 1, strlen(space));
        json_object_set_new(made, text, json_true());
        free(text);
    }
    json_object_foreach(vocab, key, value) {
        char byte[8];
        const size_t n = strlen(key);
        if (json_object_get(made, key)) continue;
        if (n < sizeof byte && tokenizer_read_alphabet(key, (int64_t)n, byte) == 1) continue;
        json_array_append_new(list, json_pack("{s:O, s:s}", "id", value, "content", key));
    }
    json_decref(made);
    return list;
}

bool bpe_json_read_files(Tokenizer *t, const char *vocab_path, const char *merges_path,
                           Error *e) {
    int64_t bytes;
    char *text = file_read(merges_path, &bytes, e);
    json_t *vocab = text ? json_read_file(vocab_path, e) : NULL;
    bool good = vocab && utf8_check(merges_path, text, bytes, e);
    if (good && memchr(text, 0, (size_t)bytes))
        good = error_set(e, merges_path, rules_remedy, "the file holds the character U+0000");
    if (good) {
        char both[2 * IO_PATH_MAX]; /* either may be what is wrong */
        Parts parts = {.vocab = vocab, .merges = merges_list(text)};
        parts.added = specials_list(vocab, parts.merges);
        snprintf(both, sizeof both, "%s with %s", vocab_path, merges_path);
        const long n_specials = (long)json_array_size(parts.added);
        good = n_specials <= SPECIALS_MOST
                   ? read_parts(t, both, &parts, e)
                   : error_set(e, merges_path, "Is it a whole copy of the right file?",
                               "%ld tokens of vocab.json are made by no merge", n_specials);
        json_decref(parts.added);
        json_decref(parts.merges);
    }
    json_decref(vocab);
    free(text);
    return good;
}

/* ---- writing ---- */

static bool is_special(const Tokenizer *t, int32_t id) {
    for (int32_t i = 0; i < t->n_specials; i++)
        if (t->specials[i] == id) return true;
    return false;
}

/* A token as the file has it: a special one as it is, the others in the alphabet for bytes. */
static json_t *key_write(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    if (is_special(t, id)) return json_stringn(text, (size_t)bytes);
    char *key = malloc((size_t)bytes * 2 + 1);
    CHECK(key, "no memory for a token");
    json_t *value = json_stringn(key, (size_t)tokenizer_write_alphabet(text, bytes, key));
    free(key);
    return value;
}

json_t *bpe_json_level(bool use_regex) {
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", (int)use_regex);
}

static json_t *split_write(const Tokenizer *t) {
    if (!t->split) return bpe_json_level(true);
    return json_pack("{s:s,s:[{s:s,s:{s:s},s:s,s:b},o]}", "type", "Sequence", "pretokenizers",
                     "type", "Split", "pattern", "Regex", t->split, "behavior", "Isolated",
                     "invert", 0, bpe_json_level(false));
}

json_t *bpe_json_write(const Tokenizer *t) {
    json_t *vocab = json_object(), *merges = json_array(), *added = json_array();
    for (int32_t id = 0; id < t->n_vocab; id++) {
        json_t *key = key_write(t, id);
        if (*json_string_value(key))
            json_object_set_new(vocab, json_string_value(key), json_integer(id));
        json_decref(key);
    }
    for (int32_t k = 0; k < t->n_merges; k++)
        json_array_append_new(merges, json_pack("[o,o]", key_write(t, t->merges[k].left),
                                                key_write(t, t->merges[k].right)));
    for (int32_t i = 0; i < t->n_specials; i++)
        json_array_append_new(added,
                              json_pack("{s:i,s:o,s:b,s:b,s:b,s:b,s:b}", "id", (int)t->specials[i],
                                        "content", key_write(t, t->specials[i]), "single_word", 0,
                                        "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    json_t *model = json_pack("{s:s,s:n,s:n,s:n,s:n,s:b,s:b,s:b,s:o,s:o}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                              "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                              (int)t->whole_first, "vocab", vocab, "merges", merges);
    return json_pack("{s:s,s:n,s:n,s:o,s:n,s:o,s:n,s:o,s:o}", "version", "1.0", "truncation",
                     "padding", "added_tokens", added, "normalizer", "pre_tokenizer",
                     split_write(t), "post_processor", "decoder", bpe_json_level(false), "model",
                     model);
}
