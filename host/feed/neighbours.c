/* Batches of words, their neighbours and words that are none: what word2vec is trained on (Mikolov
 * and others 2013). */
#include "loader.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>

enum { READ = 1 << 16 };

LoaderWords *loader_count_words(const Tokens *tokens, int64_t n_vocab, double threshold) {
    LoaderWords *w = calloc(1, sizeof *w);
    int32_t *block = malloc(READ * sizeof *block);
    CHECK(w && block, "no memory to count words");
    w->n_vocab = n_vocab;
    w->up_to = calloc((size_t)n_vocab, sizeof *w->up_to);
    w->keep = calloc((size_t)n_vocab, sizeof *w->keep);
    CHECK(w->up_to && w->keep, "no memory for the counts of %ld words", (long)n_vocab);
    for (int64_t first = 0; first < tokens->n_tokens; first += READ) {
        const int64_t n = i64_min(READ, tokens->n_tokens - first);
        tokens_read(tokens, first, n, block);
        for (int64_t i = 0; i < n; i++) w->up_to[block[i]]++;
    }
    free(block);
    double sum = 0;
    for (int64_t v = 0; v < n_vocab; v++) {
        const double count = w->up_to[v], share = count / (double)tokens->n_tokens;
        w->n_used += count > 0;
        w->keep[v] = threshold > 0 && count > 0
                         ? fmin(1, (sqrt(share / threshold) + 1) * threshold / share)
                         : 1;
        sum += pow(count, 0.75);
        w->up_to[v] = sum;
    }
    for (int64_t v = 0; v < n_vocab; v++) w->up_to[v] /= sum;
    return w;
}

void loader_free_words(LoaderWords *w) {
    if (!w) return;
    free(w->up_to);
    free(w->keep);
    free(w);
}

/* Distance 1 .. window of a neighbour, before (negative) or after: d as often as a window drawn
 * from 1 .. `window` reaches it. */
static int64_t draw_distance(int64_t window, uint32_t random) {
    int64_t at = (int64_t)(random >> 1) % (window * (window + 1) / 2), d = 1;
    for (; at >= window - d + 1; d++) at -= window - d + 1;
    return random & 1 ? d : -d;
}

/* A word and its neighbour, drawn again until frequent words have been left out often enough. */
static void draw_pair(const LoaderConfig *c, int64_t sample, int32_t *word, int32_t *neighbour) {
    enum { TRIES = 4096 };
    const int64_t n = c->tokens->n_tokens;
    for (uint32_t attempt = 0; attempt < TRIES; attempt++) {
        uint32_t random[4];
        rng_philox(random, c->seed, attempt, rng_site(RNG_OFFSET, 1), (uint64_t)sample);
        const uint64_t fraction = (uint64_t)random[0] << 32 | random[1];
        const int64_t at = (int64_t)(((unsigned __int128)fraction * (uint64_t)n) >> 64);
        const int64_t beside = at + draw_distance(c->window, random[2]);
        if (beside < 0 || beside >= n) continue;
        tokens_read(c->tokens, at, 1, word);
        tokens_read(c->tokens, beside, 1, neighbour);
        if ((random[3] & 0xffff) * 0x1p-16 < c->words->keep[*word] &&
            (random[3] >> 16) * 0x1p-16 < c->words->keep[*neighbour])
            return;
    }
    tokens_read(c->tokens, 0, 1, word); /* one in a text of one frequent word */
    tokens_read(c->tokens, 1, 1, neighbour);
}

/* A word as often as its count to the power 3/4, but not the one that is right. */
static int32_t draw_other(const LoaderConfig *c, int64_t sample, int64_t k, int32_t right) {
    const LoaderWords *w = c->words;
    for (uint32_t attempt = 0;; attempt++) {
        uint32_t random[4];
        rng_philox(random, c->seed, (uint32_t)k << 16 | attempt, rng_site(RNG_OFFSET, 2),
                   (uint64_t)sample);
        const double u = ((double)random[0] * 0x1p32 + (double)random[1]) * 0x1p-64;
        int64_t low = 0, high = w->n_vocab - 1; /* the first word whose up_to is above u */
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (w->up_to[middle] > u) high = middle;
            else low = middle + 1;
        }
        if (low != right || attempt == 0xffff) return (int32_t)low;
    }
}

void loader_fill_neighbours(const LoaderConfig *c, int64_t sample, int32_t *row) {
    const int32_t as_neighbour = (int32_t)c->words->n_vocab;
    draw_pair(c, sample, &row[0], &row[1]);
    for (int64_t k = 2; k < c->T; k++)
        row[k] = draw_other(c, sample, k, row[1]) + as_neighbour;
    row[1] += as_neighbour;
}
