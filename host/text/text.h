/* Private to host/text. */
#pragma once
#include "tokenizer.h"

/* words.c. The next piece of text[*at, end): its length, 0 at the end; *at moves to its start. */
int64_t words_next(const char *text, int64_t *at, int64_t end);
/* The last place in (first, at] that no word lies across; `at` if there is none. */
int64_t words_boundary(const char *text, int64_t first, int64_t at);
int64_t words_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                     int64_t last, int32_t *ids, Error *e);

/* tokenizer_encode of text[first .. last), which begins and ends between characters. Places in
 * errors are counted from text[0]. */
int64_t text_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                    int64_t last, int32_t *ids, Error *e);
