/* Private to host/text. */
#pragma once
#include "tokenizer.h"

/* words.c. The next piece of text[*at, end): its length, 0 at the end; *at moves to its start. */
int64_t words_next(const char *text, int64_t *at, int64_t end);
/* The last place in (first, at] that no word lies across; `at` if there is none. */
int64_t words_boundary(const char *text, int64_t first, int64_t at);
int64_t words_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                     int64_t last, int32_t *ids, Error *e);

void text_sort_ids(Tokenizer *t);

/* split.c. The length of the piece of GPT-2's split at text[at], which is a piece's start. `match`
 * is room that the caller begins as NULL and frees. */
typedef struct Split Split;
typedef struct SplitMatch SplitMatch;
Split *split_make(void);
void split_free(Split *s);
int64_t split_next(const Split *s, SplitMatch **match, const char *text, int64_t at, int64_t end);
void split_match_free(SplitMatch *match);
/* The last place in (first, at] that no piece lies across; `end`, the text's, if there is none. */
int64_t split_boundary(const char *text, int64_t first, int64_t at, int64_t end);

/* bpe.c. Makes t->bpe of t's tokens and merges. */
typedef struct Bpe Bpe;
bool bpe_make(Tokenizer *t, const char *name, Error *e);
void bpe_free(Bpe *b);
int64_t bpe_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                   int64_t last, int32_t *ids, Error *e);

/* tokenizer_encode of text[first .. last), which begins and ends between characters. Places in
 * errors are counted from text[0]. */
int64_t text_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                    int64_t last, int32_t *ids, Error *e);
