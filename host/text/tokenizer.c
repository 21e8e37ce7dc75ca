/* Character and byte tokenizers: how they are made and encode. Of all kinds: which function
 * encodes, and what is freed. */
#include "text.h"
#include "utf8.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CODE_POINTS = 0x110000 };

static bool tokenizer_allocate(Tokenizer *t, TokenizerKind kind, int32_t n, Error *e) {
    *t = (Tokenizer){.kind = kind, .n_vocab = n};
    t->text = malloc((size_t)n * 4);
    t->offset = malloc(((size_t)n + 1) * sizeof *t->offset);
    if (kind == TOKENIZER_CHAR) t->chars = malloc((size_t)n * sizeof *t->chars);
    if (t->text && t->offset && (kind == TOKENIZER_BYTE || t->chars)) return true;
    tokenizer_free(t);
    return error_set(e, NULL, NULL, "no memory for a tokenizer of %d tokens", (int)n);
}

static int compare_chars(const void *a, const void *b) {
    const TokenizerChar *x = a, *y = b;
    return (x->code > y->code) - (x->code < y->code);
}

bool tokenizer_from_codes(Tokenizer *t, const int32_t *code, int32_t n, Error *e) {
    if (!tokenizer_allocate(t, TOKENIZER_CHAR, n, e)) return false;
    t->offset[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        t->offset[i + 1] = t->offset[i] + utf8_write(t->text + t->offset[i], code[i]);
        t->chars[i] = (TokenizerChar){code[i], i};
    }
    qsort(t->chars, (size_t)n, sizeof *t->chars, compare_chars);
    return true;
}

bool tokenizer_from_bytes(Tokenizer *t, const uint8_t byte[256], Error *e) {
    if (!tokenizer_allocate(t, TOKENIZER_BYTE, 256, e)) return false;
    memcpy(t->text, byte, 256);
    for (int32_t i = 0; i <= 256; i++) t->offset[i] = i;
    return true;
}

bool tokenizer_make_char(Tokenizer *t, const char *name, const char *text, int64_t bytes,
                         Error *e) {
    if (bytes == 0)
        return error_set(e, name, "Give a text with some characters", "the text is empty");
    if (!utf8_check(name, text, bytes, e) || !text_check_nul(name, text, bytes, e)) return false;
    uint8_t *seen = calloc(CODE_POINTS / 8, 1); /* one bit each */
    CHECK(seen, "no memory for a table of characters");
    int32_t n = 0, largest = 0;
    for (int64_t i = 0; i < bytes;) {
        int32_t c = 0;
        i += utf8_next(text + i, bytes - i, &c);
        n += !(seen[c / 8] >> c % 8 & 1);
        seen[c / 8] |= (uint8_t)(1 << c % 8);
        largest = c > largest ? c : largest;
    }
    int32_t *code = malloc((size_t)n * sizeof *code);
    CHECK(code, "no memory for %d characters", (int)n);
    for (int32_t c = 0, k = 0; c <= largest; c++)
        if (seen[c / 8] >> c % 8 & 1) code[k++] = c;
    const bool good = tokenizer_from_codes(t, code, n, e);
    free(seen);
    free(code);
    return good;
}

void tokenizer_byte_codes(int32_t code[256]) {
    int32_t next = 0x100;
    for (int b = 0; b < 256; b++) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        code[b] = printable ? b : next++;
    }
}

bool tokenizer_make_byte(Tokenizer *t, Error *e) {
    /* In the order of their code points: first the printable bytes, then the others. */
    int32_t code[256];
    uint8_t byte[256];
    tokenizer_byte_codes(code);
    int n = 0;
    for (int b = 0; b < 256; b++)
        if (code[b] < 0x100) byte[n++] = (uint8_t)b;
    for (int b = 0; b < 256; b++)
        if (code[b] >= 0x100) byte[n++] = (uint8_t)b;
    return tokenizer_from_bytes(t, byte, e);
}

void tokenizer_free(Tokenizer *t) {
    free(t->text);
    free(t->offset);
    free(t->chars);
    free(t->sorted);
    free(t->merges);
    free(t->specials);
    free(t->split);
    bpe_free(t->bpe);
    *t = (Tokenizer){0};
}

static int32_t char_id(const Tokenizer *t, int32_t code) {
    const TokenizerChar key = {code, 0};
    const TokenizerChar *found =
        bsearch(&key, t->chars, (size_t)t->n_vocab, sizeof key, compare_chars);
    return found ? found->id : -1;
}

static int64_t encode_chars(const Tokenizer *t, const char *name, const char *text, int64_t first,
                            int64_t last, int32_t *ids, Error *e) {
    int64_t n = 0;
    for (int64_t i = first; i < last;) {
        int32_t code;
        const int length = utf8_next(text + i, last - i, &code);
        if (length == 0) {
            utf8_check(name, text, last, e);
            return -1;
        }
        ids[n] = char_id(t, code);
        if (ids[n] < 0) {
            char place[512], shown[16] = "";
            utf8_place(place, sizeof place, name, text, i);
            if (code >= 0xA0 || (code > 32 && code < 127)) /* no control character on a terminal */
                snprintf(shown, sizeof shown, " (%.*s)", length, text + i);
            error_set(e, place, "Leave it out, or use a tokenizer made from a text that has it",
                      "the character U+%04" PRIX32 "%s is not in the tokenizer's vocabulary",
                      (uint32_t)code, shown);
            return -1;
        }
        n++;
        i += length;
    }
    return n;
}

int64_t text_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                    int64_t last, int32_t *ids, Error *e) {
    if (t->kind == TOKENIZER_BPE) return bpe_encode(t, name, text, first, last, ids, e);
    if (tokenizer_is_word(t)) return words_encode(t, name, text, first, last, ids, e);
    if (t->kind == TOKENIZER_CHAR) return encode_chars(t, name, text, first, last, ids, e);
    int32_t id_of[256];
    for (int32_t i = 0; i < 256; i++) id_of[(uint8_t)t->text[i]] = i;
    for (int64_t i = first; i < last; i++) ids[i - first] = id_of[(uint8_t)text[i]];
    return last - first;
}

int64_t tokenizer_encode(const Tokenizer *t, const char *name, const char *text, int64_t bytes,
                         int32_t *ids, Error *e) {
    return text_encode(t, name, text, 0, bytes, ids, e);
}
