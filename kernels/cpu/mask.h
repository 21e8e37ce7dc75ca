/* Dropout masks (ops.h, Dropout), a run of consecutive indices at a time. */
#pragma once
#include "common.h"
#include "rng.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

typedef struct Mask {
    bool on;
    uint64_t seed;
    uint32_t step, site;
    uint32_t threshold; /* rng_uniform >= rate, as 24-bit integers */
    real scale;         /* 1 / (1 - rate) */
} Mask;

static inline Mask mask_make(const OpContext *cx, Dropout d) {
    const StepParams *p = cx->params;
    if (d.rate <= 0 || !p->training) return (Mask){.on = false, .scale = 1};
    return (Mask){.on = true,
                  .seed = p->seed,
                  .step = p->step,
                  .site = d.site,
                  .threshold = (uint32_t)ceil((double)d.rate * 0x1p24),
                  .scale = (real)(1 / (1 - (double)d.rate))};
}

/* Counters stand in 64-bit lanes, of which Philox' products read the low halves. */
typedef uint64_t mask_lanes __attribute__((vector_size(32)));
enum { MASK_VECTORS = 2, MASK_BLOCK = 16 * MASK_VECTORS };
#define MASK_LOW ((mask_lanes){0} + 0xffffffffu)

static inline mask_lanes mask_multiply(mask_lanes a, uint32_t b) {
#ifdef __AVX2__
    return (mask_lanes)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b)); /* gcc finds three */
#else
    return (a & MASK_LOW) * b;
#endif
}

/* rng_philox of MASK_BLOCK / 4 consecutive counters at once. */
static inline void mask_block(real out[MASK_BLOCK], const Mask *m, uint64_t counter) {
    mask_lanes c0[MASK_VECTORS], c1[MASK_VECTORS], c2[MASK_VECTORS], c3[MASK_VECTORS];
    for (int v = 0; v < MASK_VECTORS; v++) {
        c0[v] = (mask_lanes){0, 1, 2, 3} + (counter + 4 * (uint64_t)v);
        c1[v] = c0[v] >> 32;
        c2[v] = (mask_lanes){0} + m->site;
        c3[v] = (mask_lanes){0} + m->step;
    }
    uint32_t k0 = (uint32_t)m->seed, k1 = (uint32_t)(m->seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int v = 0; v < MASK_VECTORS; v++) {
            const mask_lanes p0 = mask_multiply(c0[v], 0xD2511F53u);
            const mask_lanes p1 = mask_multiply(c2[v], 0xCD9E8D57u);
            c0[v] = (p1 >> 32) ^ c1[v] ^ k0; /* the high halves of c1 and c3 are left as they are */
            c2[v] = (p0 >> 32) ^ c3[v] ^ k1;
            c1[v] = p1;
            c3[v] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    uint32_t word[MASK_BLOCK]; /* of each counter in turn: c0 c1 c2 c3 */
    for (int v = 0; v < MASK_VECTORS; v++) {
        const mask_lanes a = (c0[v] & MASK_LOW) | c1[v] << 32, b = (c2[v] & MASK_LOW) | c3[v] << 32;
        for (int l = 0; l < 4; l++) {
            memcpy(word + 16 * v + 4 * l, &(uint64_t){a[l]}, 8);
            memcpy(word + 16 * v + 4 * l + 2, &(uint64_t){b[l]}, 8);
        }
    }
    for (int i = 0; i < MASK_BLOCK; i++) out[i] = word[i] >> 8 >= m->threshold ? m->scale : 0;
}

/* out[i] = mask(first + i), i < n. The mask must be on. */
static inline void mask_run(real *out, const Mask *m, uint64_t first, int64_t n) {
    const uint64_t counter = first >> 2;
    const int64_t lead = (int64_t)(first & 3); /* values of the first block before `first` */
    for (int64_t done = -lead; done < n; done += MASK_BLOCK) {
        real block[MASK_BLOCK];
        mask_block(block, m, counter + (uint64_t)(done + lead) / 4);
        const int64_t from = i64_max(0, -done), to = i64_min(MASK_BLOCK, n - done);
        memcpy(out + done + from, block + from, (size_t)(to - from) * sizeof *out);
    }
}
