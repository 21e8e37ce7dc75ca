/* What tests of tokenizers share: the tokens of a text, to read. */
#pragma once
#include "tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The tokens of `of`, each in brackets. The text stays until the next call. */
static inline const char *pieces(const Tokenizer *t, const char *of) {
    static char out[1024];
    int32_t ids[256];
    Error e = {0};
    const int64_t n = tokenizer_encode(t, "text", of, (int64_t)strlen(of), ids, &e);
    out[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t bytes;
        const char *piece = tokenizer_text(t, ids[i], &bytes);
        snprintf(out + strlen(out), sizeof out - strlen(out), "[%.*s]", (int)bytes, piece);
    }
    return out;
}
