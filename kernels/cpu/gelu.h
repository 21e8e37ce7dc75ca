/* GELU (tanh form, ops.h) of one value: for activation ops and for the products' epilogues.
 *
 * (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z)), which loses no digits for negative u. */
#pragma once
#include "common.h"

#define GELU_LINEAR ((real)1.5957691216057308) /* 2 sqrt(2 / pi) */
#define GELU_CUBIC ((real)0.044715)

static inline real gelu(real u) {
    const real z2 = GELU_LINEAR * (u + GELU_CUBIC * u * u * u);
    return u / (1 + real_exp(-z2));
}

/* Beyond |u| = 10 the derivative is 0 or 1 in any precision; there exp(-2z) would leave float's range.
 * With e = exp(-2z), s = 1/(1+e), so 1 - s = e s:  gelu' = s + u e s^2 (2z)'. */
static inline real gelu_derivative(real u) {
    const real at_most = u > 10 ? 10 : u;
    const real c = at_most < -10 ? -10 : at_most;
    const real e = real_exp(-GELU_LINEAR * (c + GELU_CUBIC * c * c * c));
    const real s = 1 / (1 + e);
    return s + c * (e * s) * s * GELU_LINEAR * (1 + 3 * GELU_CUBIC * c * c);
}
