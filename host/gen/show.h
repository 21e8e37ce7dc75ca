/* Text on its way to a reader. */
#pragma once
#include "tokenizer.h"
#include <stdio.h>

/* Bytes come in one by one, whole UTF-8 characters go out. What is no UTF-8 becomes U+FFFD, one for
 * each longest beginning of a character. */
typedef struct Utf8Writer {
    FILE *out;
    unsigned char held[4]; /* the beginning of a character */
    int n_held;
} Utf8Writer;
void show_byte(Utf8Writer *w, unsigned char byte);
void show_finish(Utf8Writer *w);

/* A token's text on one line: control characters and what is no UTF-8 are escaped. The caller frees
 * it. */
char *show_text(const Tokenizer *t, int32_t id);
/* Any text as 'text', escaped in the same way, its apostrophes too. */
void show_quoted(FILE *out, const char *text, int64_t bytes);
static inline void show_token(FILE *out, const Tokenizer *t, int32_t id) {
    int32_t bytes;
    const char *text = tokenizer_text(t, id, &bytes);
    show_quoted(out, text, bytes);
}
