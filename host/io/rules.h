/* Private to the readers of tokenizer.json: what its fields may be. */
#pragma once
#include "io.h"

/* `allowed` is a set of: - missing, 0 null, f false, t true, e empty list or text, a list,
 * o object, i integer, s the string `text`, S any string. */
typedef struct Rule {
    const char *key, *allowed, *text;
} Rule;

/* Checks every rule of an object, and that it has no other key. `path` is "" or "model." etc. */
bool rules_check(const Rule *rules, int64_t n, json_t *object, const char *name, const char *path,
                 Error *e);
#define RULES_CHECK(rules, ...) rules_check(rules, COUNT_OF(rules), __VA_ARGS__)

/* What to do about a tokenizer.json that is refused. */
extern const char *const rules_remedy;
/* Of a ByteLevel that joins tokens again. */
extern const Rule rules_join[4];

/* bpe_json.c. A tokenizer.json of byte pairs; one of vocab.json and merges.txt; and the way
 * back. */
bool bpe_json_read(Tokenizer *t, const char *name, json_t *root, Error *e);
bool bpe_json_read_files(Tokenizer *t, const char *vocab, const char *merges, Error *e);
json_t *bpe_json_write(const Tokenizer *t);
json_t *bpe_json_level(bool use_regex);
