/* Sources and their targets, a pair a line: "source TAB target". */
#include "loader.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one token that is this byte, or -1. */
static int32_t byte_token(const Tokenizer *t, char byte) {
    for (int32_t id = 0; id < t->n_vocab; id++) {
        int32_t bytes;
        const char *text = tokenizer_text(t, id, &bytes);
        if (bytes == 1 && *text == byte) return id;
    }
    return -1;
}

bool tokens_find_lines(Tokens *t, const Tokenizer *tokenizer, const char *dir, bool continues,
                       int64_t context, Error *e) {
    const int32_t newline = byte_token(tokenizer, '\n'), tab = byte_token(tokenizer, '\t');
    if (newline < 0 || tab < 0)
        return error_set(e, dir, "Give lines of a source, a tab and a target",
                         "the data has no pairs: no tab or no newline is in its vocabulary");
    int64_t n = 0, begin = continues ? -1 : 0, bare = 0; /* the first line without a tab, from 1 */
    bool has_tab = false;
    int32_t block[4096];
    int64_t *lines = malloc((size_t)(t->n_tokens + 2) * sizeof *lines);
    if (!lines) return error_set(e, dir, NULL, "there is no memory for an index of its pairs");
    for (int64_t at = 0; at < t->n_tokens; at += COUNT_OF(block)) {
        const int64_t count = i64_min(COUNT_OF(block), t->n_tokens - at);
        tokens_read(t, at, count, block);
        for (int64_t i = 0; i < count; i++) {
            has_tab |= block[i] == tab;
            if (block[i] != newline) continue;
            if (begin >= 0) lines[n++] = begin;
            if (begin >= 0 && !has_tab && !bare) bare = n;
            has_tab = false;
            begin = lines[n] = at + i + 1;
        }
    }
    t->lines = lines;
    t->n_lines = n;
    t->tab = tab;
    if (n == 0)
        return error_set(e, dir, "Give more pairs, or another --val-fraction",
                         "the %s part of the data has no whole pair",
                         continues ? "validation" : "training");
    if (bare)
        return error_set(e, dir, "Give lines of a source, a tab and a target",
                         "line %" PRId64 " of the %s part is no pair: it has no tab", bare,
                         continues ? "validation" : "training");
    for (int64_t i = 0; i < n; i++)
        if (lines[i + 1] - lines[i] - 1 > context)
            return error_misuse(e, "--context", "Use a larger one, or shorten the pair",
                                "pair %" PRId64 " of the %s part needs a context of %" PRId64
                                ", not %" PRId64,
                                i + 1, continues ? "validation" : "training",
                                lines[i + 1] - lines[i] - 1, context);
    return true;
}

int64_t loader_fill_line(const LoaderConfig *c, int64_t line, int32_t *row, int32_t *target) {
    const Tokens *t = c->tokens;
    const int64_t first = t->lines[line], n = t->lines[line + 1] - first - 1;
    tokens_read(t, first, n, row);
    tokens_read(t, first + 1, n, target);
    int64_t source = 0;
    while (source < n && row[source] != t->tab) target[source++] = -1;
    for (int64_t i = n; i < c->T; i++) {
        row[i] = 0;
        target[i] = -1;
    }
    return n - source;
}
