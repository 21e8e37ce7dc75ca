/* What tests of tokenizers share: the tokens of a text, to read; a tokenizer's file. */
#pragma once
#include "tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What tokenizer_load makes of the file that tokenizer_save writes: the same tokenizer. */
static inline Tokenizer saved_and_loaded(const Tokenizer *t) {
    char path[] = "/tmp/puck-tokenizer-XXXXXX";
    Tokenizer back;
    Error e = {0};
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    if (!tokenizer_save(t, path, &e) || !tokenizer_load(&back, path, &e)) fail_msg("%s", e.text);
    unlink(path);
    assert_int_equal(back.kind, t->kind);
    assert_true(tokenizer_hash(&back) == tokenizer_hash(t));
    return back;
}

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
