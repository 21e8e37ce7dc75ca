/* Vectors as wide as the build has them: the small kernel of all products, and transposes. */
#pragma once
#include "common.h"

#ifdef __AVX512F__
#define VECTOR_BYTES 64
#define ROWS 8 /* 8 x 2 accumulators cover the latency of two units; 8 divides most shapes */
#elif defined __AVX2__
#define VECTOR_BYTES 32
#define ROWS 6 /* 6 x 2 accumulators, 2 + 1 operands of 16 vector registers */
#else
#define VECTOR_BYTES 16 /* NEON; of longer ones gcc would keep the sums in memory */
#define ROWS 8          /* 8 x 2 accumulators, 2 + 1 operands of 32 vector registers */
#endif

enum {
    LANES = VECTOR_BYTES / sizeof(real),
    WIDTH = 2 * LANES /* columns of the small kernel: two vectors */
};

/* Unaligned, so that any address will do; gcc turns `+= scalar * vec` into a fused multiply-add. */
typedef real vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* c = a b, or c += a b: (rows, k) by (k, n), rows <= ROWS, n a multiple of WIDTH. a's strides are
 * free, so it may be read transposed. Inlined for the constants among its arguments: `rows` must be
 * one. */
static inline __attribute__((always_inline)) void
vector_product(const int rows, real *c, int64_t ldc, const real *a, int64_t a_row, int64_t a_col,
               const real *b, int64_t ldb, int64_t n, int64_t k, bool add) {
    for (int64_t j = 0; j < n; j += WIDTH) {
        vec sum[ROWS][2];
        for (int r = 0; r < rows; r++) {
            sum[r][0] = sum[r][1] = (vec){0};
            if (!add) continue;
            __builtin_prefetch(c + r * ldc + j); /* c is needed last */
            __builtin_prefetch(c + r * ldc + j + LANES);
        }
        for (int64_t i = 0; i < k; i++) {
            const vec b0 = *(const vec *)(b + i * ldb + j);
            const vec b1 = *(const vec *)(b + i * ldb + j + LANES);
            for (int r = 0; r < rows; r++) {
                const real x = a[r * a_row + i * a_col];
                sum[r][0] += x * b0;
                sum[r][1] += x * b1;
            }
        }
        for (int r = 0; r < rows; r++)
            for (int s = 0; s < 2; s++) {
                vec *const to = (vec *)(c + r * ldc + j + s * LANES);
                if (add) sum[r][s] += *to;
                *to = sum[r][s];
            }
    }
}

#ifndef PUCK_REAL_F64
#define TRANSPOSES
typedef int32_t lanes __attribute__((vector_size(VECTOR_BYTES)));
#if VECTOR_BYTES == 64
static const lanes LOWER = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
static const lanes UPPER = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
#elif VECTOR_BYTES == 32
static const lanes LOWER = {0, 8, 1, 9, 2, 10, 3, 11};
static const lanes UPPER = {4, 12, 5, 13, 6, 14, 7, 15};
#else
static const lanes LOWER = {0, 4, 1, 5};
static const lanes UPPER = {2, 6, 3, 7};
#endif
#endif

#ifdef TRANSPOSES
/* to = from^T, a square of LANES x LANES, by rounds of shuffling the first half of its rows into
 * the second, like cards: each round moves one bit of the row's number into the column's. */
static inline void transpose(real *to, int64_t to_row, const real *from, int64_t from_row) {
    vec v[LANES], next[LANES];
    for (int i = 0; i < LANES; i++) {
        v[i] = *(const vec *)(from + i * from_row);
        __builtin_prefetch(from + (i + WIDTH) * from_row, 0, 2); /* a square that comes soon */
    }
    for (int round = 1; round < LANES; round *= 2) {
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(v[i], v[i + LANES / 2], LOWER);
            next[2 * i + 1] = __builtin_shuffle(v[i], v[i + LANES / 2], UPPER);
        }
        for (int i = 0; i < LANES; i++) v[i] = next[i];
    }
    for (int i = 0; i < LANES; i++) *(vec *)(to + i * to_row) = v[i];
}
#else
static inline void transpose(real *to, int64_t to_row, const real *from, int64_t from_row) {
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[i * to_row + j] = from[j * from_row + i];
}
#endif
