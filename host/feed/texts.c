/* Labelled texts: what a model reads of one, and where it answers. */
#include "loader.h"
#include <inttypes.h>
#include <stdlib.h>

bool tokens_find_texts(Tokens *t, int32_t first_label, const char *dir, Error *e) {
    enum { READ = 4096 };
    int32_t block[READ];
    int64_t *ends = malloc((size_t)(t->n_tokens + 1) * sizeof *ends), n = 0;
    CHECK(ends, "no memory for an index of the texts");
    ends[0] = 0;
    t->lines = ends;
    t->first_label = first_label;
    for (int64_t first = 0; first < t->n_tokens; first += READ) {
        const int64_t count = i64_min(READ, t->n_tokens - first);
        tokens_read(t, first, count, block);
        for (int64_t i = 0; i < count; i++) {
            if (block[i] < first_label) continue;
            if (ends[n] == first + i)
                return error_set(e, dir, "Make the folder again",
                                 "text %" PRId64 " of a part of the data has no token", n + 1);
            ends[++n] = first + i + 1;
        }
    }
    t->n_lines = n;
    return ends[n] == t->n_tokens || error_set(e, dir, "Make the folder again",
                                               "the last text of a part of the data has no label");
}

int64_t loader_text_tokens(const Tokens *t, int64_t text) {
    return t->lines[text + 1] - 1 - t->lines[text];
}

int64_t loader_text(const LoaderConfig *c, int64_t sample, int64_t *n) {
    const Tokens *t = c->tokens;
    if (c->rows != BATCH_NEXT) {
        *n = loader_text_tokens(t, sample);
        return sample;
    }
    /* Before text i there are i labels. */
    int64_t text = 0;
    for (int64_t end = t->n_lines; end - text > 1;) {
        const int64_t middle = (text + end) / 2;
        if (t->lines[middle] - middle <= sample)
            text = middle;
        else
            end = middle;
    }
    *n = sample - (t->lines[text] - text) + 1;
    return text;
}

int64_t loader_fill_text(const LoaderConfig *c, int64_t text, int64_t n_read, int64_t b,
                         Batch *batch) {
    const Tokens *t = c->tokens;
    const bool columns = c->rows == BATCH_STREAMS, next = c->rows == BATCH_NEXT;
    const int64_t end = t->lines[text] + n_read;
    const int64_t n = i64_min(n_read, columns ? c->T - 1 : c->T);
    /* Place p of row b; the row's tokens begin at place `start`. */
    const int64_t step = columns ? c->B : 1, row = columns ? b : b * c->T;
    const int64_t start = columns ? 1 : next ? c->T - n : 0;
    for (int64_t p = 0; p < c->T; p++) {
        int32_t token = p < start ? c->special : 0;
        if (p >= start && p < start + n) tokens_read(t, end - n + p - start, 1, &token);
        batch->tokens[row + p * step] = token;
        if (!next) batch->targets[row + p * step] = -1;
    }
    const int64_t answer = next ? b : row + (start + n - 1) * step;
    tokens_read(t, t->lines[text + 1] - 1, 1, &batch->targets[answer]);
    batch->targets[answer] -= t->first_label;
    return answer;
}
