/* Words that stand together, and the same with another word in their middle: what Collobert and
 * Weston (2008) trained vectors of words on. */
#include "loader.h"
#include "rng.h"

void loader_fill_gram(const LoaderConfig *c, int64_t first, int64_t draw, bool real, int32_t *row) {
    enum { TRIES = 4096 };
    int32_t *middle = row + c->T / 2;
    tokens_read(c->tokens, first, c->T, row);
    /* From the text, not the vocabulary, so that how frequent the word is tells next to nothing. */
    const int32_t right = *middle;
    for (uint32_t attempt = 0; !real && *middle == right && attempt < TRIES; attempt++) {
        const uint64_t n = (uint64_t)c->tokens->n_tokens;
        const uint64_t at = rng_below(n, c->seed, attempt, rng_site(RNG_OFFSET, 4), (uint64_t)draw);
        tokens_read(c->tokens, (int64_t)at, 1, middle);
    }
}
