/* Dropout masks (ops.h, Dropout), one value or a run of consecutive indices at a time. */
#pragma once
#include "common.h"
#include "rng.h"

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

static inline real mask_at(const Mask *m, uint64_t index) {
    if (!m->on) return 1;
    return rng_word(m->seed, m->step, m->site, index) >> 8 >= m->threshold ? m->scale : 0;
}

enum { MASK_LANES = 8, MASK_BLOCK = 4 * MASK_LANES };

/* rng_philox of MASK_LANES consecutive counters, lane by lane so that gcc vectorises it. */
static inline void mask_block(real out[MASK_BLOCK], const Mask *m, uint64_t counter) {
    uint32_t c0[MASK_LANES], c1[MASK_LANES], c2[MASK_LANES], c3[MASK_LANES];
    for (int l = 0; l < MASK_LANES; l++) {
        c0[l] = (uint32_t)(counter + (uint64_t)l);
        c1[l] = (uint32_t)((counter + (uint64_t)l) >> 32);
        c2[l] = m->site;
        c3[l] = m->step;
    }
    uint32_t k0 = (uint32_t)m->seed, k1 = (uint32_t)(m->seed >> 32);
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < MASK_LANES; l++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
            const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
            c0[l] = n0;
            c2[l] = n2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < MASK_LANES; l++) {
        out[4 * l] = c0[l] >> 8 >= m->threshold ? m->scale : 0;
        out[4 * l + 1] = c1[l] >> 8 >= m->threshold ? m->scale : 0;
        out[4 * l + 2] = c2[l] >> 8 >= m->threshold ? m->scale : 0;
        out[4 * l + 3] = c3[l] >> 8 >= m->threshold ? m->scale : 0;
    }
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
