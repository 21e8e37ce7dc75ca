/* GPT-2's vocab.bpe (merges.txt is the same): "#version: 0.2", then a merge "a b" a line, in
 * GPT-2's alphabet for bytes. Ids: the 256 bytes in the alphabet's order, one a merge,
 * <|endoftext|>. */
#include "text.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

static const char *const remedy = "Give the file as its maker wrote it";

/* A token in GPT-2's alphabet as bytes in `out`, which is no shorter; -1 if a character is none of
 * the alphabet's. */
static int64_t alphabet_read(const char *text, int64_t chars_end, char *out) {
    int32_t code_of[256];
    tokenizer_byte_codes(code_of);
    int64_t n = 0;
    for (int64_t i = 0; i < chars_end;) {
        int32_t code = 0;
        const int length = utf8_next(text + i, chars_end - i, &code);
        int b = 0;
        while (b < 256 && code_of[b] != code) b++;
        if (length == 0 || b == 256) return -1;
        out[n++] = (char)b;
        i += length;
    }
    return n;
}

/* Token 256 + k is the text of merge k without its space; `middle` gets the length of its left
 * part. Fails on a line that is not two tokens. */
static bool merge_read(Tokenizer *t, const char *line, int32_t k, int32_t *middle, const char *name,
                       Error *e) {
    const char *space = strchr(line, ' ');
    char *out = t->text + t->offset[256 + k];
    const int64_t left = space ? alphabet_read(line, space - line, out) : 0;
    const int64_t right =
        left > 0 ? alphabet_read(space + 1, (int64_t)strlen(space + 1), out + left) : 0;
    if (left <= 0 || right <= 0)
        return error_set(
            e, name, remedy,
            "merge %d is \"%.60s\", not two tokens in GPT-2's alphabet with a space between",
            (int)k + 1, line);
    *middle = (int32_t)left;
    t->offset[256 + k + 1] = t->offset[256 + k] + (int32_t)(left + right);
    return true;
}

/* The id of a part of merge k: a byte or what an earlier merge makes. */
static bool part_find(const Tokenizer *t, const char *text, int32_t bytes, int32_t k, int32_t *id,
                      const char *name, Error *e) {
    *id = tokenizer_find(t, text, bytes);
    if (*id >= 0 && *id < 256 + k) return true;
    if (*id < 0 || *id == t->n_vocab - 1)
        return error_set(e, name, remedy, "merge %d refers to a part that no merge makes",
                         (int)k + 1);
    return error_set(e, name, remedy,
                     "merge %d stands before merge %d, which makes one of its parts", (int)k + 1,
                     (int)(*id - 256) + 1);
}

static bool parts_find(Tokenizer *t, const int32_t *middle, const char *name, Error *e) {
    text_sort_ids(t);
    for (int32_t i = 1; i < t->n_vocab; i++) {
        int32_t a_bytes, b_bytes;
        const char *a = tokenizer_text(t, t->sorted[i - 1], &a_bytes);
        const char *b = tokenizer_text(t, t->sorted[i], &b_bytes);
        if (a_bytes == b_bytes && memcmp(a, b, (size_t)a_bytes) == 0)
            return error_set(e, name, remedy, "tokens %d and %d have the same text",
                             (int)t->sorted[i - 1], (int)t->sorted[i]);
    }
    for (int32_t k = 0; k < t->n_merges; k++) {
        int32_t bytes;
        const char *text = tokenizer_text(t, 256 + k, &bytes);
        if (!part_find(t, text, middle[k], k, &t->merges[k].left, name, e) ||
            !part_find(t, text + middle[k], bytes - middle[k], k, &t->merges[k].right, name, e))
            return false;
    }
    return true;
}

/* The bytes first, in the order of their characters in the alphabet. */
static bool start_with_bytes(Tokenizer *t, int32_t n, int64_t room, Error *e) {
    Tokenizer bytes;
    if (!tokenizer_make_byte(&bytes, e)) return false;
    *t = (Tokenizer){.kind = TOKENIZER_BPE,
                     .n_vocab = 256 + n + 1,
                     .n_merges = n,
                     .text = malloc((size_t)room),
                     .offset = malloc(((size_t)n + 258) * sizeof *t->offset),
                     .sorted = malloc(((size_t)n + 257) * sizeof *t->sorted),
                     .merges = malloc(((size_t)n + 1) * sizeof *t->merges)};
    CHECK(t->text && t->offset && t->sorted && t->merges, "no memory for %d merges", (int)n);
    memcpy(t->text, bytes.text, 256);
    memcpy(t->offset, bytes.offset, 257 * sizeof *t->offset);
    tokenizer_free(&bytes);
    return true;
}

bool tokenizer_from_merges(Tokenizer *t, const char *name, const char *const *merges, int32_t n,
                           Error *e) {
    if (n == 0) return error_set(e, name, remedy, "it has no merges");
    int64_t room = 256 + (int64_t)strlen(END_OF_TEXT);
    for (int32_t k = 0; k < n; k++) room += (int64_t)strlen(merges[k]);
    if (room > INT32_MAX)
        return error_set(e, name, remedy, "its tokens have %ld bytes", (long)room);
    int32_t *middle = malloc(((size_t)n + 1) * sizeof *middle);
    CHECK(middle, "no memory for %d merges", (int)n);
    if (!start_with_bytes(t, n, room, e)) {
        free(middle);
        return false;
    }
    bool good = true;
    for (int32_t k = 0; good && k < n; k++) good = merge_read(t, merges[k], k, &middle[k], name, e);
    if (good) {
        const int32_t at = t->offset[256 + n], length = (int32_t)strlen(END_OF_TEXT);
        memcpy(t->text + at, END_OF_TEXT, (size_t)length);
        t->offset[256 + n + 1] = at + length;
    }
    good = good && parts_find(t, middle, name, e) && bpe_make(t, name, e);
    free(middle);
    if (!good) tokenizer_free(t);
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
