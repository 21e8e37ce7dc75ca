/* The vocabulary of byte pairs that tokens, merges and special tokens make, and whether it is one;
 * from merges alone too, as GPT-2's vocab.bpe has them. */
#include "text.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

static const char *const remedy = "Give the file as its maker wrote it";

/* tokenizer_byte_codes the other way: the byte of a character, or -1. */
static int32_t byte_of(int32_t code) {
    const int32_t n = code - 0x100; /* of the bytes 0 to 32, 127 to 160, and 173 */
    if (n >= 0) return n < 33 ? n : n < 67 ? 127 + n - 33 : n == 67 ? 173 : -1;
    return (code >= 33 && code <= 126) || (code >= 161 && code != 173) ? code : -1;
}

int64_t tokenizer_read_alphabet(const char *text, int64_t bytes, char *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < bytes;) {
        int32_t code = 0;
        const int length = utf8_next(text + i, bytes - i, &code);
        const int32_t byte = byte_of(code);
        if (length == 0 || byte < 0) return -1;
        out[n++] = (char)byte;
        i += length;
    }
    return n;
}

int64_t tokenizer_write_alphabet(const char *text, int64_t bytes, char *out) {
    int32_t code_of[256];
    tokenizer_byte_codes(code_of);
    int64_t n = 0;
    for (int64_t i = 0; i < bytes; i++) n += utf8_write(out + n, code_of[(uint8_t)text[i]]);
    return n;
}

/* Both parts of merge k as bytes in `out`, `left` of them the left part's; -1 if it is not two
 * tokens. */
static int64_t merge_read(const char *line, int32_t k, char *out, int64_t *left, const char *name,
                          Error *e) {
    const char *space = strchr(line, ' ');
    *left = space ? tokenizer_read_alphabet(line, space - line, out) : 0;
    const int64_t right =
        *left > 0 ? tokenizer_read_alphabet(space + 1, (int64_t)strlen(space + 1), out + *left) : 0;
    if (*left > 0 && right > 0) return *left + right;
    error_set(e, name, remedy,
              "merge %d is \"%.60s\", not two tokens in GPT-2's alphabet with a space between",
              (int)k + 1, line);
    return -1;
}

/* ---- a vocabulary ---- */

/* All but merges, which have room. */
static bool copy_tokens(Tokenizer *t, const char *name, const TokenizerPairs *p, Error *e) {
    int64_t room = 1;
    for (int32_t id = 0; id < p->n_vocab; id++) room += p->text[id] ? p->bytes[id] : 0;
    if (room > INT32_MAX)
        return error_set(e, name, remedy, "its tokens have %ld bytes", (long)room);
    *t = (Tokenizer){.kind = TOKENIZER_BPE,
                     .n_vocab = p->n_vocab,
                     .n_merges = p->n_merges,
                     .n_specials = p->n_specials,
                     .whole_first = p->whole_first,
                     .text = malloc((size_t)room),
                     .offset = malloc(((size_t)p->n_vocab + 1) * sizeof *t->offset),
                     .sorted = malloc((size_t)p->n_vocab * sizeof *t->sorted),
                     .merges = malloc(((size_t)p->n_merges + 1) * sizeof *t->merges),
                     .specials = malloc(((size_t)p->n_specials + 1) * sizeof *t->specials),
                     .split = p->split ? strdup(p->split) : NULL};
    CHECK(t->text && t->offset && t->sorted && t->merges && t->specials && (t->split || !p->split),
          "no memory for %d tokens", (int)p->n_vocab);
    t->offset[0] = 0;
    for (int32_t id = 0; id < p->n_vocab; id++) {
        const int32_t bytes = p->text[id] ? p->bytes[id] : 0;
        if (bytes) memcpy(t->text + t->offset[id], p->text[id], (size_t)bytes);
        t->offset[id + 1] = t->offset[id] + bytes;
    }
    if (p->n_specials)
        memcpy(t->specials, p->specials, (size_t)p->n_specials * sizeof *t->specials);
    return true;
}

static bool check_tokens(Tokenizer *t, const char *name, Error *e) {
    text_sort_ids(t);
    for (int32_t i = 1; i < t->n_vocab; i++) {
        int32_t a_bytes, b_bytes;
        const char *a = tokenizer_text(t, t->sorted[i - 1], &a_bytes);
        const char *b = tokenizer_text(t, t->sorted[i], &b_bytes);
        if (a_bytes && a_bytes == b_bytes && memcmp(a, b, (size_t)a_bytes) == 0)
            return error_set(e, name, remedy, "tokens %d and %d have the same text",
                             (int)i64_min(t->sorted[i - 1], t->sorted[i]),
                             (int)i64_max(t->sorted[i - 1], t->sorted[i]));
    }
    for (int i = 0; i < 256; i++)
        if (tokenizer_find(t, (const char[]){(char)i}, 1) < 0)
            return error_set(e, name, remedy, "no token stands for the byte %02X", i);
    return true;
}

static bool find_merges(Tokenizer *t, const char *name, const TokenizerPairs *p, Error *e) {
    size_t longest = 0;
    for (int32_t k = 0; k < p->n_merges; k++)
        longest = strlen(p->merges[k]) > longest ? strlen(p->merges[k]) : longest;
    char *both = malloc(longest + 1);
    CHECK(both, "no memory for a merge");
    bool good = true;
    for (int32_t k = 0; good && k < p->n_merges; k++) {
        TokenizerMerge *m = &t->merges[k];
        int64_t left;
        const int64_t bytes = merge_read(p->merges[k], k, both, &left, name, e);
        good = bytes > 0;
        if (!good) break;
        m->left = tokenizer_find(t, both, left);
        m->right = tokenizer_find(t, both + left, bytes - left);
        m->made = tokenizer_find(t, both, bytes);
        if (m->left < 0 || m->right < 0)
            good = error_set(e, name, remedy, "merge %d refers to a part that no merge makes",
                             (int)k + 1);
        else if (m->made < 0)
            good =
                error_set(e, name, remedy, "merge %d makes a token that is not there", (int)k + 1);
    }
    free(both);
    return good;
}

/* A part is a byte or what an earlier merge makes. Where tokens are made in several ways, as in
 * vocabularies that were ranks, an order of all of them is none. */
static bool check_order(const Tokenizer *t, const char *name, Error *e) {
    int32_t *maker = malloc((size_t)t->n_vocab * sizeof *maker);
    CHECK(maker, "no memory for %d tokens", (int)t->n_vocab);
    for (int32_t id = 0; id < t->n_vocab; id++) maker[id] = -1;
    bool one_way = true, good = true;
    for (int32_t k = 0; k < t->n_merges; k++) {
        one_way = one_way && maker[t->merges[k].made] < 0;
        maker[t->merges[k].made] = k;
    }
    for (int32_t k = 0; good && one_way && k < t->n_merges; k++)
        for (int side = 0; good && side < 2; side++) {
            const int32_t id = side ? t->merges[k].right : t->merges[k].left;
            int32_t bytes;
            tokenizer_text(t, id, &bytes);
            if (bytes > 1 && maker[id] < 0)
                good = error_set(e, name, remedy, "merge %d refers to a part that no merge makes",
                                 (int)k + 1);
            else if (maker[id] > k)
                good = error_set(e, name, remedy,
                                 "merge %d stands before merge %d, which makes one of its parts",
                                 (int)k + 1, (int)maker[id] + 1);
        }
    free(maker);
    return good;
}

bool tokenizer_from_pairs(Tokenizer *t, const char *name, const TokenizerPairs *p, Error *e) {
    *t = (Tokenizer){0};
    const bool good = copy_tokens(t, name, p, e) && check_tokens(t, name, e) &&
                      find_merges(t, name, p, e) && check_order(t, name, e) && bpe_make(t, name, e);
    if (!good) tokenizer_free(t);
    return good;
}

/* ---- from merges alone ---- */

bool tokenizer_from_merges(Tokenizer *t, const char *name, const char *const *merges, int32_t n,
                           Error *e) {
    if (n == 0) return error_set(e, name, remedy, "it has no merges");
    Tokenizer alone;
    if (!tokenizer_make_byte(&alone, e)) return false;
    const int32_t n_vocab = 256 + n + 1, special = n_vocab - 1;
    size_t room = 1;
    for (int32_t k = 0; k < n; k++) room += strlen(merges[k]);
    const char **text = malloc((size_t)n_vocab * sizeof *text);
    int32_t *bytes = malloc((size_t)n_vocab * sizeof *bytes);
    char *made = malloc(room), *at = made;
    CHECK(text && bytes && made, "no memory for %d merges", (int)n);
    for (int32_t id = 0; id < 256; id++) text[id] = tokenizer_text(&alone, id, &bytes[id]);
    bool good = true;
    for (int32_t k = 0; good && k < n; k++) {
        int64_t left;
        const int64_t length = merge_read(merges[k], k, at, &left, name, e);
        good = length > 0;
        text[256 + k] = at;
        bytes[256 + k] = (int32_t)length;
        at += good ? length : 0;
    }
    text[special] = END_OF_TEXT;
    bytes[special] = (int32_t)strlen(END_OF_TEXT);
    const TokenizerPairs pairs = {.n_vocab = n_vocab,
                                  .text = text,
                                  .bytes = bytes,
                                  .merges = merges,
                                  .n_merges = n,
                                  .specials = &special,
                                  .n_specials = 1};
    good = good && tokenizer_from_pairs(t, name, &pairs, e);
    free(made);
    free(bytes);
    free(text);
    tokenizer_free(&alone);
    return good;
}

bool tokenizer_parse_merges(Tokenizer *t, const char *name, const char *file, int64_t bytes,
                            Error *e) {
    if (bytes > INT32_MAX) return error_set(e, name, remedy, "it has %ld bytes", (long)bytes);
    if (!utf8_check(name, file, bytes, e)) return false;
    if (memchr(file, 0, (size_t)bytes))
        return error_set(e, name, remedy, "the file holds the character U+0000");
    char *copy = strndup(file, (size_t)bytes);
    const char **lines = malloc(((size_t)bytes + 1) * sizeof *lines);
    CHECK(copy && lines, "no memory for %ld bytes", (long)bytes);
    int32_t n = 0;
    char *rest = strchr(copy, '\n'); /* the first line is the version */
    for (rest = rest ? rest + 1 : NULL; rest && *rest;) {
        lines[n++] = strsep(&rest, "\n");
    }
    const bool good = tokenizer_from_merges(t, name, lines, n, e);
    free(lines);
    free(copy);
    return good;
}
