/* What the attention kernels on tensor cores share: their block, and steps of their loops. */
#pragma once
#include "attention_mask.cuh"
#include "tile.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP };

/* Starts the copy of keys k0 .. k0+BN-1 of a key-value head and of their values, a tile each, the
 * second behind the first. k: key 0 in qkv. */
template <int BN, int DP>
__device__ static inline void keys_values_load(bf16 *tiles, const bf16 *k, const Heads &s, int k0) {
    const bf16 *const from = k + (int64_t)k0 * s.R;
    tile_load<BN, DP, THREADS>(tiles, from, s.R, s.T - k0, s.D);
    tile_load<BN, DP, THREADS>(tiles + BN * Tile<DP>::LD, from + s.K * s.D, s.R, s.T - k0, s.D);
}

/* sum (16 * MT, DP) += d (16 * MT, 8 * N), rounded to bf16, times rows 0.. of x. */
template <int DP, int MT, int N>
__device__ static inline void add_product(float (*sum)[DP / 8][4], const float (*d)[N][4],
                                          const bf16 *x, int l) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        uint32_t a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++) a_from_d(a[m], d[m][2 * i], d[m][2 * i + 1]);
#pragma unroll
        for (int j = 0; j < DP / 8; j += 2) {
            uint32_t rows[4];
            tile_b_rows<DP>(rows, x, 16 * i, 8 * j, l);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma_bf16(sum[m][j], a[m], rows);
                mma_bf16(sum[m][j + 1], a[m], rows + 2);
            }
        }
    }
}
