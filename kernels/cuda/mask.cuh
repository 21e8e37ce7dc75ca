/* Dropout masks (ops.h, Dropout), the same bits as on every other back end. */
#pragma once
#include "common.cuh"

/* What the host knows of a mask; goes into the kernel's parameters. */
typedef struct MaskRate {
    uint32_t site;
    uint32_t threshold; /* rng_uniform >= rate, as 24-bit integers; 0: off */
    float scale;        /* 1 / (1 - rate) */
} MaskRate;

static inline MaskRate mask_rate(Dropout d) {
    if (d.rate <= 0) return MaskRate{0, 0, 1};
    const double threshold = (double)d.rate * 0x1p24;
    const uint32_t floor = (uint32_t)threshold;
    return MaskRate{d.site, floor + (floor < threshold), (float)(1 / (1 - (double)d.rate))};
}

struct Mask {
    uint64_t seed;
    int64_t row_base;
    uint32_t step, site, threshold;
    float scale;
    bool on;
};

__device__ static inline Mask mask_make(const StepParams *p, MaskRate r) {
    Mask m = {};
    m.on = r.threshold > 0 && p->training;
    if (!m.on) return m;
    m.seed = p->seed;
    m.row_base = p->row_base;
    m.step = p->step;
    m.site = r.site;
    m.threshold = r.threshold;
    m.scale = r.scale;
    return m;
}

/* keep[i] = mask(index + i). With N > 1 the index is a multiple of 4. The mask must be on. */
template <int N>
__device__ static inline void mask_fill(float keep[N], const Mask &m, uint64_t index) {
    if constexpr (N == 1) {
        const uint32_t word = rng_word(m.seed, m.step, m.site, index);
        keep[0] = word >> 8 >= m.threshold ? m.scale : 0.0f;
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            uint32_t word[4];
            rng_philox(word, m.seed, m.step, m.site, (index + (uint64_t)i) >> 2);
#pragma unroll
            for (int j = 0; j < 4; j++) keep[i + j] = word[j] >> 8 >= m.threshold ? m.scale : 0.0f;
        }
    }
}
