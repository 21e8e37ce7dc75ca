/* The activations of ops.h: for activation ops and for the products' epilogues. */
#pragma once
#include "common.h"

/* GELU in its tanh form. (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z)), which loses no digits for
 * negative u. */

#define GELU_LINEAR ((real)1.5957691216057308) /* 2 sqrt(2 / pi) */
#define GELU_CUBIC ((real)0.044715)

static inline real gelu(real u) {
    const real slope = real_fma(u * u, -GELU_LINEAR * GELU_CUBIC, -GELU_LINEAR);
    return u / (1 + real_exp(u * slope));
}

/* With e = exp(-2z), s = 1/(1+e), so 1 - s = e s:  gelu' = s + u e s^2 (2z)'. Beyond |u| = 10 that
 * is 0 or 1 in any precision, but e may have left float's range. */
static inline real gelu_derivative(real u) {
    const real square = u * u;
    const real e = real_exp(u * real_fma(square, -GELU_LINEAR * GELU_CUBIC, -GELU_LINEAR));
    const real s = 1 / (1 + e);
    const real inner = real_fma(square, 3 * GELU_LINEAR * GELU_CUBIC, GELU_LINEAR);
    const real derivative = real_fma(u * inner * (e * s), s, s);
    const real above = u < -10 ? 0 : derivative;
    return u > 10 ? 1 : above;
}

/* max(u, 0), where NaN stays NaN */
static inline real relu(real u) { return u < 0 ? 0 : u; }

/* y = activation(x), n values; y may be x. */
static inline void activation_apply(real *y, const real *x, int64_t n, Activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        if (y != x) memcpy(y, x, (size_t)n * sizeof *y);
        break;
    case ACTIVATION_GELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = gelu(x[i]);
        break;
    case ACTIVATION_RELU2:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = relu(x[i]) * relu(x[i]);
        break;
    }
}

/* dx = dy * activation'(x), n values; dx may be dy. */
static inline void activation_apply_derivative(real *dx, const real *dy, const real *x, int64_t n,
                                               Activation activation) {
    switch (activation) {
    case ACTIVATION_NONE:
        if (dx != dy) memcpy(dx, dy, (size_t)n * sizeof *dx);
        break;
    case ACTIVATION_GELU:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * gelu_derivative(x[i]);
        break;
    case ACTIVATION_RELU2:
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * (2 * relu(x[i]));
        break;
    }
}
