/* GPT-2's split: byte pairs never merge across these cuts.
 *
 *     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * Pieces of ASCII alone are found by hand, which is ten times as fast; PCRE2 has the tables of
 * Unicode for all others. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

/* Unicode's White_Space, written out: PCRE2's own \s has another. */
#define SPACE                                                                                      \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define GPT2_SPLIT                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE              \
    "]+(?![^" SPACE "])|[" SPACE "]+"

struct Split {
    pcre2_code *code;
};

Split *split_make(void) {
    Split *s = malloc(sizeof *s);
    int error;
    PCRE2_SIZE at;
    CHECK(s, "no memory for a split pattern");
    s->code = pcre2_compile((PCRE2_SPTR)GPT2_SPLIT, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_ANCHORED, &error, &at, NULL);
    CHECK(s->code, "the split pattern is wrong at %ld", (long)at);
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* without it, the same but slower */
    return s;
}

void split_free(Split *s) {
    if (s) pcre2_code_free(s->code);
    free(s);
}

/* ---- by hand ---- */

typedef enum Class { MARK, LETTER, DIGIT, BLANK, WIDE } Class;

static Class class_of(char byte) {
    const uint8_t c = (uint8_t)byte;
    if (c >= 0x80) return WIDE;
    if ((uint8_t)((c | 32) - 'a') < 26) return LETTER;
    if ((uint8_t)(c - '0') < 10) return DIGIT;
    return c == ' ' || (c >= 9 && c <= 13) ? BLANK : MARK;
}

/* The length of the contraction that begins at an apostrophe, or 0. */
static int64_t contraction(const char *text, int64_t bytes) {
    if (bytes >= 2 && memchr("stmd", text[1], 4)) return 2;
    if (bytes >= 3 &&
        (!memcmp(text + 1, "re", 2) || !memcmp(text + 1, "ve", 2) || !memcmp(text + 1, "ll", 2)))
        return 3;
    return 0;
}

/* The length of the piece at text[0], or 0 where a character beyond ASCII has a say. */
static int64_t next_ascii(const char *text, int64_t bytes) {
    int64_t i = 0;
    const int64_t shortened = *text == '\'' ? contraction(text, bytes) : 0;
    if (shortened) return shortened;
    if (*text == ' ' && bytes > 1) i = 1;
    Class c = class_of(text[i]);
    if (c == BLANK) {
        for (i = 1; i < bytes && class_of(text[i]) == BLANK; i++) {}
        if (i == bytes) return i;
        /* The last blank goes to what follows, unless it is the only one. */
        return class_of(text[i]) == WIDE ? 0 : i64_max(i - 1, 1);
    }
    if (c == WIDE) return 0;
    for (i++; i < bytes && class_of(text[i]) == c; i++) {}
    return i < bytes && class_of(text[i]) == WIDE ? 0 : i;
}

int64_t split_next(const Split *s, SplitMatch **match, const char *text, int64_t at, int64_t end) {
    const int64_t fast = next_ascii(text + at, end - at);
    if (fast) return fast;
    pcre2_match_data *data = (pcre2_match_data *)*match;
    if (!data) {
        data = pcre2_match_data_create(1, NULL);
        CHECK(data, "no memory for a match");
        *match = (SplitMatch *)data;
    }
    const int n = pcre2_match(s->code, (PCRE2_SPTR)text, (PCRE2_SIZE)end, (PCRE2_SIZE)at,
                              PCRE2_NO_UTF_CHECK, data, NULL);
    CHECK(n > 0, "the split pattern fails with %d", n);
    return (int64_t)pcre2_get_ovector_pointer(data)[1] - at;
}

void split_match_free(SplitMatch *match) { pcre2_match_data_free((pcre2_match_data *)match); }

int64_t split_boundary(const char *text, int64_t first, int64_t at, int64_t end) {
    for (int64_t i = at; i > first; i--)
        if (class_of(text[i]) == BLANK && class_of(text[i - 1]) < BLANK) return i;
    return end;
}
