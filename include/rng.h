/* Random numbers as a pure function of (seed, step, site, index): no state, nothing to save, the
 * same for any number of threads, micro-batches or ranks.
 *
 * Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011. key = seed (64 bits); counter = (index / 4 as 64 bits, site, step); the four words of one
 * counter serve four consecutive indices. */
#pragma once
#include "base.h"
#include <math.h>

/* Where a random number is used. A site is one of these in the high byte and a layer or parameter
 * number in the low bits (rng_site), so no two uses ever share a stream. */
enum RngUse {
    RNG_INIT = 1,          /* low bits: number of the parameter */
    RNG_SHUFFLE,           /* data order; step = epoch */
    RNG_OFFSET,            /* what a sample holds: its place, drawn words; low bits: which */
    RNG_SAMPLE,            /* generation; step = token number */
    RNG_DROP_EMBED,        /* dropout after the embedding */
    RNG_DROP_ATTENTION,    /* low bits: layer */
    RNG_DROP_RESIDUAL_ATT, /* low bits: layer */
    RNG_DROP_RESIDUAL_MLP, /* low bits: layer */
    RNG_TEST               /* inputs of tests and benches */
};

static inline uint32_t rng_site(enum RngUse use, int64_t number) {
    return ((uint32_t)use << 24) | (uint32_t)number;
}

static inline HOST_DEVICE void rng_philox(uint32_t out[4], uint64_t seed, uint32_t step,
                                          uint32_t site, uint64_t counter) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = site, c3 = step;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

static inline HOST_DEVICE uint32_t rng_word(uint64_t seed, uint32_t step, uint32_t site,
                                            uint64_t index) {
    uint32_t word[4];
    rng_philox(word, seed, step, site, index >> 2);
    return word[index & 3];
}

/* [0, 1), a multiple of 2^-24: exact in float. */
static inline HOST_DEVICE float rng_uniform(uint64_t seed, uint32_t step, uint32_t site,
                                            uint64_t index) {
    return (float)(rng_word(seed, step, site, index) >> 8) * 0x1p-24f;
}

/* [0, n) for n < 2^32, unbiased to n / 2^64: two words make one 64-bit fraction. */
static inline uint64_t rng_below(uint64_t n, uint64_t seed, uint32_t step, uint32_t site,
                                 uint64_t index) {
    uint32_t word[4];
    rng_philox(word, seed, step, site, index);
    const uint64_t fraction = ((uint64_t)word[0] << 32) | word[1];
    return (uint64_t)(((unsigned __int128)fraction * n) >> 64);
}

/* N(0, 1) by Box and Muller, one counter a number. */
static inline double rng_normal(uint64_t seed, uint32_t step, uint32_t site, uint64_t index) {
    uint32_t word[4];
    rng_philox(word, seed, step, site, index);
    const double u = ((double)word[0] + 1.0) * 0x1p-32, v = (double)word[1] * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
