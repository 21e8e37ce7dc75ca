/* Word tokenizers: words and marks of punctuation, and a token for every line's end. Spaces are no
 * tokens: tokenizer_spaces says where a text that is put together again has them. */
#include "text.h"
#include "utf8.h"
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <wctype.h>

static const char *const specials[] = {"<PAD>", "<UNK>", "<START>", "<END>"};
enum { N_SPECIALS = COUNT_OF(specials) };

/* ---- cutting: the same as WORDS_REGEX says ---- */

/* Letters and digits of ASCII, and everything beyond it. */
static bool in_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (unsigned char)c >= 0x80;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

int64_t words_next(const char *text, int64_t *at, int64_t end) {
    while (*at < end && text[*at] != '\n' && is_space(text[*at])) ++*at;
    int64_t i = *at;
    if (i >= end) return 0;
    if (!in_word(text[i])) return 1;
    while (i < end && (in_word(text[i]) ||
                       (text[i] == '\'' && i + 1 < end && in_word(text[i + 1]) && i > *at)))
        i++;
    return i - *at;
}

int64_t words_boundary(const char *text, int64_t first, int64_t at) {
    int64_t i = at;
    while (i > first && !is_space(text[i - 1])) i--;
    return i > first ? i : at;
}

/* The lower-case form of text in `out`, which has room for 4 bytes a byte; returns its length. */
static int64_t lower(const char *text, int64_t bytes, char *out) {
    const locale_t unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    int64_t n = 0;
    for (int64_t i = 0; i < bytes;) {
        int32_t code = 0;
        i += utf8_next(text + i, bytes - i, &code);
        n += utf8_write(out + n, unicode ? (int32_t)towlower_l((wint_t)code, unicode) : code);
    }
    if (unicode) freelocale(unicode);
    return n;
}

/* The text as the vocabulary has it: itself, or a lower-case copy that the caller frees. */
static char *normalise(TokenizerKind kind, const char *text, int64_t *bytes) {
    char *copy = malloc((size_t)(4 * *bytes + 1));
    CHECK(copy, "no memory for %ld bytes of text", (long)*bytes);
    if (kind == TOKENIZER_WORD_LOWER) *bytes = lower(text, *bytes, copy);
    else memcpy(copy, text, (size_t)*bytes);
    return copy;
}

/* ---- the vocabulary ---- */

TokenizerKind tokenizer_word_kind(const char *name) {
    return strcmp(name, "word") == 0         ? TOKENIZER_WORD
           : strcmp(name, "word-lower") == 0 ? TOKENIZER_WORD_LOWER
                                             : TOKENIZER_CHAR;
}

bool tokenizer_counts(const char *name) {
    return tokenizer_word_kind(name) != TOKENIZER_CHAR || strcmp(name, "bpe") == 0;
}

typedef struct Word {
    const char *text;
    int64_t bytes, count;
} Word;

static int by_text(const void *a, const void *b) {
    const Word *x = a, *y = b;
    return text_compare(x->text, x->bytes, y->text, y->bytes);
}

static int by_count(const void *a, const void *b) {
    const Word *x = a, *y = b;
    return x->count != y->count ? (x->count < y->count) - (x->count > y->count) : by_text(a, b);
}

/* Different words of a text and their counts, the most frequent first; returns how many. */
static int64_t count_words(const char *text, int64_t bytes, Word **out) {
    int64_t n = 0, room = 1024, n_words = 0;
    Word *list = NULL;
    for (int64_t at = 0, length; (length = words_next(text, &at, bytes)); at += length) {
        if (n == room || !list) {
            Word *const longer = realloc(list, (size_t)(room *= 2) * sizeof *list);
            CHECK(longer, "no memory for %ld words", (long)room);
            list = longer;
        }
        list[n++] = (Word){text + at, length, 1};
    }
    if (n == 0) return 0;
    qsort(list, (size_t)n, sizeof *list, by_text);
    for (int64_t i = 0; i < n; i++) {
        if (n_words && by_text(&list[n_words - 1], &list[i]) == 0) list[n_words - 1].count++;
        else list[n_words++] = list[i];
    }
    qsort(list, (size_t)n_words, sizeof *list, by_count);
    *out = list;
    return n_words;
}

bool tokenizer_from_words(Tokenizer *t, TokenizerKind kind, const char *name,
                          const char *const *words, int32_t n, Error *e) {
    int64_t bytes = 0;
    for (int32_t i = 0; i < n; i++) bytes += (int64_t)strlen(words[i]);
    *t = (Tokenizer){.kind = kind,
                     .n_vocab = n,
                     .text = malloc((size_t)bytes + 1),
                     .offset = malloc(((size_t)n + 1) * sizeof *t->offset),
                     .sorted = malloc((size_t)n * sizeof *t->sorted)};
    if (!t->text || !t->offset || !t->sorted) {
        tokenizer_free(t);
        return error_set(e, name, NULL, "no memory for a tokenizer of %d words", (int)n);
    }
    t->offset[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        const size_t length = strlen(words[i]);
        memcpy(t->text + t->offset[i], words[i], length);
        t->offset[i + 1] = t->offset[i] + (int32_t)length;
    }
    text_sort_ids(t);
    t->unknown = tokenizer_find(t, specials[1], (int64_t)strlen(specials[1]));
    if (t->unknown >= 0) return true;
    tokenizer_free(t);
    return error_set(e, name, "Make it anew with `puck tokenize`",
                     "a word tokenizer needs the token <UNK>");
}

bool tokenizer_make_words(Tokenizer *t, TokenizerKind kind, const char *name, const char *text,
                          int64_t bytes, int64_t min_count, int64_t most, Error *e) {
    if (!utf8_check(name, text, bytes, e) || !text_check_nul(name, text, bytes, e)) return false;
    char *plain = normalise(kind, text, &bytes);
    Word *list = NULL;
    int64_t n = count_words(plain, bytes, &list), kept = 0;
    while (kept < n && list[kept].count >= min_count && (!most || kept < most - N_SPECIALS)) kept++;
    bool good = kept > 0 || error_set(e, name, "Give more text, or a smaller --min-count",
                                      "no word of the text occurs %ld times", (long)min_count);
    char **words = calloc((size_t)(kept + N_SPECIALS), sizeof *words);
    CHECK(words, "no memory for %ld words", (long)kept);
    for (int64_t i = 0; i < kept + N_SPECIALS; i++) {
        words[i] = i < N_SPECIALS ? strdup(specials[i])
                                  : strndup(list[i - N_SPECIALS].text,
                                            (size_t)list[i - N_SPECIALS].bytes);
        CHECK(words[i], "no memory for a word");
    }
    good = good && tokenizer_from_words(t, kind, name, (const char *const *)words,
                                        (int32_t)(kept + N_SPECIALS), e);
    for (int64_t i = 0; i < kept + N_SPECIALS; i++) free(words[i]);
    free(words);
    free(list);
    free(plain);
    return good;
}

/* ---- text to ids and back ---- */

int64_t words_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                     int64_t last, int32_t *ids, Error *e) {
    if (!utf8_check_part(name, text, first, last, e)) return -1;
    int64_t bytes = last - first, n = 0;
    char *plain = normalise(t->kind, text + first, &bytes);
    for (int64_t at = 0, length; (length = words_next(plain, &at, bytes)); at += length) {
        const int32_t id = tokenizer_find(t, plain + at, length);
        ids[n++] = id >= 0 ? id : t->unknown;
    }
    free(plain);
    return n;
}

/* The one byte of a mark; 0 for a word. */
static char mark_of(const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    return bytes == 1 && !in_word(*text) ? *text : 0;
}

bool tokenizer_spaces(const Tokenizer *t, int32_t before, int32_t id) {
    if (!tokenizer_is_word(t) || before < 0) return false;
    const char left = mark_of(t, before), right = mark_of(t, id);
    if (left && strchr("\n([{-'$#", left)) return false;
    return !right || !strchr("\n.,;:!?)]}-%", right);
}
