/* The recurrence of ops.h. Each step is a product of (B,C) by (C,C), cut into strips of columns for
 * the threads, which wait for each other between steps; what follows the product is done to a strip
 * while it is in cache. */
#include "common.h"
#include <omp.h>

/* A strip a thread, as each packs the whole state: a multiple of PACKED_COLS, so that a product's
 * edges, and with them the bits, do not depend on the threads. */
static int64_t width_of(int64_t C) {
    return i64_round_up(i64_div_up(C, omp_get_max_threads()), PACKED_COLS);
}

/* The weights, packed once for all steps; one row of states, as in decoding, reads them as they
 * are. */
int64_t OP(cpu_recurrence_scratch)(const OpShape *s) { return OP(cpu_packed_bytes)(s->C, s->C); }

/* 1 - 2 / (e^2x + 1): below 1/8 that would lose digits, and there a polynomial of degree 7 has an
 * error of 3e-9 (2x^9 62/2835). The double build asks the library. */
static inline real tanh_of(real x) {
#ifdef PUCK_REAL_F64
    return tanh(x);
#else
    const real square = x * x;
    const real odd = real_fma(square, real_fma(square, real_fma(square, (real)(-17.0 / 315),
                                                                (real)(2.0 / 15)),
                                               (real)(-1.0 / 3)),
                              1);
    const real far = 1 - 2 / (real_exp(2 * x) + 1);
    return square < (real)(1.0 / 64) ? x * odd : far;
#endif
}

/* Where the packed columns from `col` on begin. */
static char *packed_at(const OpContext *cx, int64_t col, int64_t C) {
    CHECK(cx->scratch_bytes >= OP(cpu_packed_bytes)(C, C), "scratch of %ld bytes",
          (long)cx->scratch_bytes);
    return (char *)cx->scratch + OP(cpu_packed_bytes)(col, C);
}

/* c (B,n) += a (B,C) b (C,n), b packed, in runs of rows that a product takes. */
static void add_product(real *c, const real *a, const char *packed, int64_t B, int64_t n,
                        int64_t C) {
    for (int64_t row = 0; row < B; row += PRODUCT_ROWS)
        OP(cpu_product)(c + row * C, C, (Matrix){a + row * C, C, 1}, (Matrix){0}, packed,
                        i64_min(PRODUCT_ROWS, B - row), n, C, true);
}

void OP(cpu_recurrence_forward)(const OpContext *cx, Tensor h, Tensor u, Tensor h0, Tensor w) {
    const int64_t T = u.dim[0], B = u.dim[1], C = u.dim[2], width = width_of(C);
    CHECK_TENSOR(u, REAL_DTYPE, T, B, C);
    CHECK_TENSOR(h, REAL_DTYPE, T, B, C);
    CHECK_TENSOR(h0, REAL_DTYPE, B, C);
    CHECK_TENSOR(w, REAL_DTYPE, C, C);
    real *const to = h.data;
    const real *const from = u.data, *const weight = w.data;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t col = 0; col < (B > 1 ? C : 0); col += width)
            OP(cpu_pack)(packed_at(cx, col, C), (Matrix){weight + col * C, 1, C},
                         i64_min(width, C - col), C);
        for (int64_t t = 0; t < T; t++) {
            const real *const before = t ? to + (t - 1) * B * C : h0.data;
#pragma omp for schedule(static)
            for (int64_t col = 0; col < C; col += width) {
                const int64_t n = i64_min(width, C - col);
                real *const strip = to + t * B * C + col;
                for (int64_t b = 0; b < B && h.data != u.data; b++)
                    memcpy(strip + b * C, from + (t * B + b) * C + col, (size_t)n * sizeof *to);
                if (B == 1) OP(cpu_product_vector)(strip, weight + col * C, before, n, C, true);
                else add_product(strip, before, packed_at(cx, col, C), B, n, C);
                for (int64_t b = 0; b < B; b++)
#pragma omp simd
                    for (int64_t c = 0; c < n; c++) strip[b * C + c] = tanh_of(strip[b * C + c]);
            }
        }
    }
}

void OP(cpu_recurrence_backward)(const OpContext *cx, Tensor du, Tensor dh, Tensor h, Tensor w) {
    const int64_t T = h.dim[0], B = h.dim[1], C = h.dim[2], width = width_of(C);
    CHECK_TENSOR(h, REAL_DTYPE, T, B, C);
    CHECK_TENSOR(du, REAL_DTYPE, T, B, C);
    CHECK_TENSOR(dh, REAL_DTYPE, T, B, C);
    CHECK_TENSOR(w, REAL_DTYPE, C, C);
    real *const to = du.data;
    const real *const from = dh.data, *const state = h.data, *const weight = w.data;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t col = 0; col < C; col += width)
            OP(cpu_pack)(packed_at(cx, col, C), (Matrix){weight + col, C, 1},
                         i64_min(width, C - col), C);
        for (int64_t t = T - 1; t >= 0; t--) {
#pragma omp for schedule(static)
            for (int64_t col = 0; col < C; col += width) {
                const int64_t n = i64_min(width, C - col), at = t * B * C + col;
                for (int64_t b = 0; b < B && du.data != dh.data; b++)
                    memcpy(to + at + b * C, from + at + b * C, (size_t)n * sizeof *to);
                if (t + 1 < T)
                    add_product(to + at, to + (t + 1) * B * C, packed_at(cx, col, C), B, n, C);
                for (int64_t b = 0; b < B; b++)
#pragma omp simd
                    for (int64_t c = 0; c < n; c++) {
                        const real s = state[at + b * C + c];
                        to[at + b * C + c] *= real_fma(-s, s, 1);
                    }
            }
        }
    }
}
