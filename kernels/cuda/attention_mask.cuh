/* Dropout masks of attention in the layout of d (16, 8*N) of mma_bf16: one word, bit 4*j + c for
 * element c of the j-th d (16,8), 1 where it is kept. N is at most 8. `first` is the index of the
 * mask of (query 0, key 0) of the head; l the lane.
 *
 * One Philox makes four masks of consecutive keys. Where T is a multiple of 4, lanes that hold
 * parts of the same four share the work: each does one Philox per d and they exchange words. */
#pragma once
#include "attention.cuh"

/* Bit i: element 4 * counter + i is kept. */
__device__ static inline uint32_t attention_keeps_4(const Mask &m, uint64_t counter) {
    uint32_t word[4], bits = 0;
    rng_philox(word, m.seed, m.step, m.site, counter);
#pragma unroll
    for (int i = 0; i < 4; i++) bits |= (uint32_t)(word[i] >> 8 >= m.threshold) << i;
    return bits;
}

/* Queries in rows: element (r, c) is query `query` + r and key `key` + c. */
template <int N>
__device__ static inline uint32_t attention_mask_bits(const Mask &m, int T, uint64_t first,
                                                      int query, int key, int l) {
    uint32_t bits = 0;
    if (T % 4 != 0) {
#pragma unroll 1
        for (int i = 0; i < 4 * N; i++) {
            const int q = query + l / 4 + i % 4 / 2 * 8, k = key + i / 4 * 8 + l % 4 * 2 + i % 2;
            bits |= (uint32_t)attention_keeps(m, first + (uint64_t)q * (uint64_t)T + (uint64_t)k)
                    << i;
        }
        return bits;
    }
    /* Lanes 2i and 2i+1 share four keys, of two rows: the even one takes the upper row. */
    const uint64_t row = first + (uint64_t)(query + l / 4 + l % 2 * 8) * (uint64_t)T;
#pragma unroll 2
    for (int j = 0; j < N; j++)
        bits |= attention_keeps_4(m, (row + (uint64_t)(key + 8 * j + l % 4 / 2 * 4)) / 4) << 4 * j;
    const uint32_t other = __shfl_xor_sync(ALL_LANES, bits, 1);
    const uint32_t upper = (l % 2 ? other : bits) >> l % 2 * 2;
    const uint32_t lower = (l % 2 ? bits : other) >> l % 2 * 2;
    return (upper & 0x33333333u) | (lower & 0x33333333u) << 2;
}

/* Keys in rows: element (r, c) is key `key` + r and query `query` + c. */
template <int N>
__device__ static inline uint32_t attention_mask_bits_transposed(const Mask &m, int T,
                                                                 uint64_t first, int query, int key,
                                                                 int l) {
    uint32_t bits = 0;
    if (T % 4 != 0) {
#pragma unroll 1
        for (int i = 0; i < 4 * N; i++) {
            const int q = query + i / 4 * 8 + l % 4 * 2 + i % 2, k = key + l / 4 + i % 4 / 2 * 8;
            bits |= (uint32_t)attention_keeps(m, first + (uint64_t)q * (uint64_t)T + (uint64_t)k)
                    << i;
        }
        return bits;
    }
    /* The lanes of four rows share four keys, of four elements each: row i takes element i. */
    const int row = l / 4 % 4, k = key + l / 16 * 4 + row / 2 * 8;
#pragma unroll 2
    for (int j = 0; j < N; j++) {
        const int q = query + 8 * j + l % 4 * 2 + row % 2;
        bits |= attention_keeps_4(m, (first + (uint64_t)q * (uint64_t)T + (uint64_t)k) / 4)
                << 4 * j;
    }
    uint32_t mine = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const uint32_t word = __shfl_sync(ALL_LANES, bits, l % 4 + c * 4 + l / 16 * 16);
        mine |= (word >> row & 0x11111111u) << c;
    }
    return mine;
}
