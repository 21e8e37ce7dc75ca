/* Tiles of bf16 in shared memory and the fragments of mma.sync, over ptx.cuh.
 *
 * A tile of DP columns has rows of DP + 8: the eight rows of an ldmatrix, 16 bytes of each, then
 * lie in different banks. In all of this l is the lane. */
#pragma once
#include "common.cuh"
#include <string.h>

template <int DP> struct Tile {
    static const int LD = DP + 8;
};

/* Starts the copy of rows 0 .. ROWS-1 of `from`, `stride` elements apart; rows from n_rows on and
 * columns from D on become 0. D and stride are multiples of 8. All THREADS threads call it. */
template <int ROWS, int DP, int THREADS>
__device__ static inline void tile_load(bf16 *tile, const bf16 *from, int64_t stride, int n_rows,
                                        int D) {
    constexpr int CHUNKS = DP / 8;
    static_assert(ROWS * CHUNKS % THREADS == 0, "every thread copies as much");
#pragma unroll
    for (int n = 0; n < ROWS * CHUNKS / THREADS; n++) {
        const int i = n * THREADS + (int)threadIdx.x, row = i / CHUNKS, column = i % CHUNKS * 8;
        const bool valid = row < n_rows && column < D;
        cp_async_16(tile + row * Tile<DP>::LD + column,
                    valid ? from + row * stride + column : from, valid ? 16 : 0);
    }
}

/* a (16,16) of mma_bf16: rows `row`.. and columns `column`.. of the tile. */
template <int DP>
__device__ static inline void tile_a(uint32_t a[4], const bf16 *tile, int row, int column, int l) {
    ldmatrix_x4(a, tile + (row + l % 16) * Tile<DP>::LD + column + l / 16 * 8);
}

/* Two b (16,8) side by side, whose columns are rows of the tile: b[i][j] = tile[row+j][column+i].
 * b[0..1] is the first, b[2..3] the second. */
template <int DP>
__device__ static inline void tile_b(uint32_t b[4], const bf16 *tile, int row, int column, int l) {
    ldmatrix_x4(b, tile + (row + l % 8 + l / 16 * 8) * Tile<DP>::LD + column + l / 8 % 2 * 8);
}

/* The same, whose rows are rows of the tile: b[i][j] = tile[row+i][column+j]. */
template <int DP>
__device__ static inline void tile_b_rows(uint32_t b[4], const bf16 *tile, int row, int column,
                                          int l) {
    ldmatrix_x4_trans(b, tile + (row + l % 16) * Tile<DP>::LD + column + l / 16 * 8);
}

/* Two floats as two bf16, the first in the lower half. */
__device__ static inline uint32_t pack_bf16(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
}

/* d (16,16) as two d (16,8) side by side becomes a (16,16): fragments line up, no lane moves. */
__device__ static inline void a_from_d(uint32_t a[4], const float left[4], const float right[4]) {
    a[0] = pack_bf16(left[0], left[1]);
    a[1] = pack_bf16(left[2], left[3]);
    a[2] = pack_bf16(right[0], right[1]);
    a[3] = pack_bf16(right[2], right[3]);
}

/* Over the four lanes that hold a row of d. */
__device__ static inline float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}
__device__ static inline float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
