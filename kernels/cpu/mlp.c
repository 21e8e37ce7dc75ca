/* The MLP's elementwise passes: activations, which linear.c also has in the epilogues of its
 * products, and SwiGLU. */
#include "activation.h"

/* Elements of one task. */
enum { MLP_BLOCK = 4096 };

static int64_t check_same(Tensor a, Tensor b) {
    CHECK(tensor_present(a) && a.dtype == REAL_DTYPE, "dtype %s", dtype_name(a.dtype));
    CHECK(tensor_is(b, REAL_DTYPE, a.rank, a.dim), "shapes differ");
    return tensor_count(a);
}

void OP(cpu_activation_forward)(const OpContext *cx, Tensor y, Tensor x, Activation activation) {
    (void)cx;
    const int64_t n = check_same(y, x);
#pragma omp parallel for schedule(static) if (n > MLP_BLOCK)
    for (int64_t at = 0; at < n; at += MLP_BLOCK)
        activation_apply((real *)y.data + at, (const real *)x.data + at,
                         i64_min(MLP_BLOCK, n - at), activation);
}

void OP(cpu_activation_backward)(const OpContext *cx, Tensor dx, Tensor dy, Tensor x,
                                 Activation activation) {
    (void)cx;
    const int64_t n = check_same(dx, x);
    check_same(dx, dy);
#pragma omp parallel for schedule(static) if (n > MLP_BLOCK)
    for (int64_t at = 0; at < n; at += MLP_BLOCK)
        activation_apply_derivative((real *)dx.data + at, (const real *)dy.data + at,
                                    (const real *)x.data + at, i64_min(MLP_BLOCK, n - at),
                                    activation);
}

/* ---- SwiGLU ---- */

/* s = 1 / (1 + e^-g) and 1 - s, both to full precision: with e = e^-|g| <= 1 nothing overflows. */
typedef struct Sigmoid {
    real s, rest;
} Sigmoid;

static inline Sigmoid sigmoid(real g) {
    const real e = real_exp(g < 0 ? g : -g);
    const real larger = 1 / (1 + e), smaller = e * larger;
    return (Sigmoid){g < 0 ? smaller : larger, g < 0 ? larger : smaller};
}

static void swiglu_row(real *restrict y, const real *restrict gate, const real *restrict up,
                       int64_t F) {
#pragma omp simd
    for (int64_t f = 0; f < F; f++) y[f] = gate[f] * sigmoid(gate[f]).s * up[f];
}

/* silu'(g) = s + g s (1 - s) */
static void swiglu_backward_row(real *restrict dgate, real *restrict dup, const real *restrict dy,
                                const real *restrict gate, const real *restrict up, int64_t F) {
#pragma omp simd
    for (int64_t f = 0; f < F; f++) {
        const real g = gate[f];
        const Sigmoid s = sigmoid(g);
        dgate[f] = dy[f] * up[f] * (s.s + g * s.s * s.rest);
        dup[f] = dy[f] * (g * s.s);
    }
}

void OP(cpu_swiglu_forward)(const OpContext *cx, Tensor y, Tensor u) {
    (void)cx;
    const int64_t N = y.dim[0], F = y.dim[1];
    CHECK_TENSOR(y, REAL_DTYPE, N, F);
    CHECK_TENSOR(u, REAL_DTYPE, N, 2 * F);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const real *gate = (const real *)u.data + n * 2 * F;
        swiglu_row((real *)y.data + n * F, gate, gate + F, F);
    }
}

void OP(cpu_swiglu_backward)(const OpContext *cx, Tensor du, Tensor dy, Tensor u) {
    (void)cx;
    const int64_t N = dy.dim[0], F = dy.dim[1];
    CHECK_TENSOR(dy, REAL_DTYPE, N, F);
    CHECK_TENSOR(du, REAL_DTYPE, N, 2 * F);
    CHECK_TENSOR(u, REAL_DTYPE, N, 2 * F);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const real *gate = (const real *)u.data + n * 2 * F;
        real *dgate = (real *)du.data + n * 2 * F;
        swiglu_backward_row(dgate, dgate + F, (const real *)dy.data + n * F, gate, gate + F, F);
    }
}
