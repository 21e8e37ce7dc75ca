/* The activations of ops.h: for activation ops and for passes behind products. */
#pragma once
#include "common.cuh"

/* GELU in its tanh form. (1 + tanh(z)) / 2 = 1 / (1 + exp(-2z)), which loses no digits for
 * negative u. */
#define GELU_LINEAR 1.5957691216057308f /* 2 sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

__device__ static inline float gelu(float u) {
    const float slope = fmaf(u * u, -GELU_LINEAR * GELU_CUBIC, -GELU_LINEAR);
    return u / (1.0f + expf(u * slope));
}

/* With e = exp(-2z), s = 1/(1+e), so 1 - s = e s:  gelu' = s + u e s^2 (2z)'. Beyond |u| = 10 that
 * is 0 or 1 in any precision, but e may have left float's range. */
__device__ static inline float gelu_derivative(float u) {
    const float square = u * u;
    const float e = expf(u * fmaf(square, -GELU_LINEAR * GELU_CUBIC, -GELU_LINEAR));
    const float s = 1.0f / (1.0f + e);
    const float inner = fmaf(square, 3.0f * GELU_LINEAR * GELU_CUBIC, GELU_LINEAR);
    const float derivative = fmaf(u * inner * (e * s), s, s);
    return u > 10.0f ? 1.0f : u < -10.0f ? 0.0f : derivative;
}

/* max(u, 0), where NaN stays NaN */
__device__ static inline float relu(float u) { return u < 0.0f ? 0.0f : u; }

__device__ static inline float activation_value(float u, Activation activation) {
    if (activation == ACTIVATION_GELU) return gelu(u);
    if (activation == ACTIVATION_RELU2) return relu(u) * relu(u);
    return u;
}

__device__ static inline float activation_derivative(float u, Activation activation) {
    if (activation == ACTIVATION_GELU) return gelu_derivative(u);
    if (activation == ACTIVATION_RELU2) return 2.0f * relu(u);
    return 1.0f;
}

/* s = 1 / (1 + e^-g) and 1 - s, both to full precision: with e = e^-|g| <= 1 nothing overflows. */
struct Sigmoid {
    float s, rest;
};
__device__ static inline Sigmoid sigmoid(float g) {
    const float e = expf(-fabsf(g));
    const float larger = 1.0f / (1.0f + e), smaller = e * larger;
    return Sigmoid{g < 0.0f ? smaller : larger, g < 0.0f ? larger : smaller};
}
