/* Private to host/text. */
#pragma once
#include "tokenizer.h"
#include <stdio.h>

/* words.c. The next piece of text[*at, end): its length, 0 at the end; *at moves to its start. */
int64_t words_next(const char *text, int64_t *at, int64_t end);
/* The last place in (first, at] that no word lies across; `at` if there is none. */
int64_t words_boundary(const char *text, int64_t first, int64_t at);
int64_t words_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                     int64_t last, int32_t *ids, Error *e);

/* vocab.c. Bytewise, a beginning before what it begins: below, at or above 0, as memcmp. */
int text_compare(const char *a, int64_t a_bytes, const char *b, int64_t b_bytes);
/* True where a text has no NUL; else an error with its place. */
bool text_check_nul(const char *name, const char *text, int64_t bytes, Error *e);
/* Fills t->sorted, for tokenizer_find. */
void text_sort_ids(Tokenizer *t);

/* split.c. The length of the piece of the split at text[at], which is a piece's start; -1 where the
 * pattern takes too long, as GPT-2's never does. `match` is room that the caller begins as NULL and
 * frees. */
typedef struct Split Split;
typedef struct SplitMatch SplitMatch;
/* Unicode's White_Space, for a class of PCRE2, whose own \s has another. */
#define SPLIT_SPACE                                                                                \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
/* By a pattern of tokenizer.json; NULL: GPT-2's. Fails on one that is not understood. */
Split *split_make(const char *pattern, const char *name, Error *e);
void split_free(Split *s);
int64_t split_next(const Split *s, SplitMatch **match, const char *text, int64_t at, int64_t end);
void split_match_free(SplitMatch *match);
/* The last place in (first, at] that no piece of GPT-2's split lies across; `end`, the text's, if
 * there is none. */
int64_t split_boundary(const char *text, int64_t first, int64_t at, int64_t end);

/* pattern.c. A pattern in PCRE2's language, which the caller frees; NULL and where what it refuses
 * begins. */
char *pattern_translate(const char *pattern, const char **refused);

/* special.c. Where in [at, last) the next special token begins, and its id; `last` and -1 if there
 * is none. */
int64_t special_next(const Tokenizer *t, const char *text, int64_t at, int64_t last, int32_t *id);
/* split_boundary for the split and the special tokens of t. */
int64_t special_boundary(const Tokenizer *t, const char *text, int64_t first, int64_t at,
                         int64_t end);

/* bpe.c. Makes t->bpe of t's tokens and merges. */
typedef struct Bpe Bpe;
bool bpe_make(Tokenizer *t, const char *name, Error *e);
void bpe_free(Bpe *b);
int64_t bpe_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                   int64_t last, int32_t *ids, Error *e);

/* tokenizer.c. tokenizer_encode of text[first .. last), which begins and ends between characters.
 * Places in errors are counted from text[0]. */
int64_t text_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                    int64_t last, int32_t *ids, Error *e);
