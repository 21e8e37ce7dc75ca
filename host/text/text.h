/* Private to host/text. */
#pragma once
#include "tokenizer.h"

/* tokenizer_encode of text[first .. last), which begins and ends between characters. Places in
 * errors are counted from text[0]. */
int64_t text_encode(const Tokenizer *t, const char *name, const char *text, int64_t first,
                    int64_t last, int32_t *ids, Error *e);
