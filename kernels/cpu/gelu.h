/* GELU (tanh form, ops.h) of one value: for activation ops and for the products' epilogues.
 *
 * (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z)), which loses no digits for negative u. */
#pragma once
#include "common.h"

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
