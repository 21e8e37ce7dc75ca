/* Vectors as wide as the build has them, and the small kernel of all products. */
#pragma once
#include "common.h"

#ifdef __AVX512F__
#define VECTOR_BYTES 64
#define ROWS 8 /* 8 x 2 accumulators cover the latency of two units; 8 divides most shapes */
#else
#define VECTOR_BYTES 32
#define ROWS 6 /* 6 x 2 accumulators, 2 + 1 operands of 16 vector registers */
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
