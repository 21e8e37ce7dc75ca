/* The split: byte pairs never merge across its cuts. In GPT-2's, pieces of ASCII alone are found by
 * hand, which is ten times as fast; PCRE2 has the tables of Unicode for all others, and runs other
 * patterns. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define GPT2_SPLIT                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct Split {
    pcre2_code *code;
    bool is_gpt2;
};

static const char *const remedy = "Use another tokenizer";

Split *split_make(const char *pattern, const char *name, Error *e) {
    const bool is_gpt2 = !pattern || strcmp(pattern, GPT2_SPLIT) == 0;
    const char *refused;
    char *own = pattern_translate(is_gpt2 ? GPT2_SPLIT : pattern, &refused);
    if (!own) {
        error_set(e, name, remedy, "the split pattern is not understood from \"%.20s\" on",
                  refused);
        return NULL;
    }
    Split *s = malloc(sizeof *s);
    int error;
    PCRE2_SIZE at;
    uint32_t shortest = 0;
    CHECK(s, "no memory for a split pattern");
    s->is_gpt2 = is_gpt2;
    s->code = pcre2_compile((PCRE2_SPTR)own, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &error, &at, NULL);
    free(own);
    if (s->code) pcre2_pattern_info(s->code, PCRE2_INFO_MINLENGTH, &shortest);
    if (shortest > 0) {
        (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* without it, the same but slower */
        return s;
    }
    error_set(e, name, remedy, "the split pattern %s",
              s->code ? "may match nothing at all" : "is no regular expression");
    split_free(s);
    return NULL;
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

/* How many letters of ASCII text[0 .. bytes) begins with, eight at a time: for bytes x of 7 bits
 * the high bit of x + (0x80 - c) is x >= c. */
static int64_t letters(const char *text, int64_t bytes) {
    const uint64_t ones = 0x0101010101010101u;
    int64_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t x;
        memcpy(&x, text + i, 8);
        const uint64_t lower = (x | 0x20 * ones) & 0x7F * ones;
        const uint64_t from_a = lower + (0x80 - 'a') * ones, beyond_z = lower + (0x7F - 'z') * ones;
        const uint64_t others = ~(from_a & ~beyond_z & ~x) & 0x80 * ones;
        if (others) return i + __builtin_ctzll(others) / 8;
    }
    while (i < bytes && class_of(text[i]) == LETTER) i++;
    return i;
}

/* The length of the piece at text[0], or 0 where a character beyond ASCII has a say. */
static int64_t next_ascii(const char *text, int64_t bytes) {
    int64_t i = bytes > 1 && *text == ' ';
    const int64_t n_letters = letters(text + i, bytes - i);
    if (n_letters) {
        i += n_letters;
        return i < bytes && class_of(text[i]) == WIDE ? 0 : i;
    }
    const int64_t shortened = *text == '\'' ? contraction(text, bytes) : 0;
    if (shortened) return shortened;
    const Class c = class_of(text[i]);
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
    const int64_t fast = s->is_gpt2 ? next_ascii(text + at, end - at) : 0;
    if (fast) return fast;
    pcre2_match_data *data = (pcre2_match_data *)*match;
    if (!data) {
        data = pcre2_match_data_create(1, NULL);
        CHECK(data, "no memory for a match");
        *match = (SplitMatch *)data;
    }
    const int n = pcre2_match(s->code, (PCRE2_SPTR)text, (PCRE2_SIZE)end, (PCRE2_SIZE)at,
                              PCRE2_NO_UTF_CHECK, data, NULL);
    if (n == PCRE2_ERROR_NOMATCH) return end - at;
    if (n < 0) return -1; /* too many tries, or too deep a stack */
    /* What lies before a match is a piece too. */
    const PCRE2_SIZE *match_at = pcre2_get_ovector_pointer(data);
    return (int64_t)(match_at[0] > (PCRE2_SIZE)at ? match_at[0] : match_at[1]) - at;
}

void split_match_free(SplitMatch *match) { pcre2_match_data_free((pcre2_match_data *)match); }

int64_t split_boundary(const char *text, int64_t first, int64_t at, int64_t end) {
    for (int64_t i = at; i > first; i--)
        if (class_of(text[i]) == BLANK && class_of(text[i - 1]) < BLANK) return i;
    return end;
}
