/* Weights as other programs write them, for tests of loading. */
#pragma once
#include "dtype.h"
#include <stdint.h>
#include <string.h>

/* Element i of a parameter, by its place in memory: multiples of 1/16 below 8, exact in every
 * dtype. */
static inline float value_of(int param, int64_t i) {
    return (float)((int64_t)((uint64_t)(i * 37 + param * 11) % 255) - 127) / 16;
}

static inline void encode(void *out, DType dtype, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const double wide = value;
    const uint16_t brain = (uint16_t)(bits >> 16);
    /* sign, exponent rebiased from 127 to 15, the upper ten bits of the fraction */
    const uint16_t half = (uint16_t)(bits >> 16 & 0x8000) |
                          (value == 0 ? 0 : (uint16_t)((bits >> 13 & 0x3ffff) - (112 << 10)));
    if (dtype == DTYPE_F64) memcpy(out, &wide, 8);
    if (dtype == DTYPE_F32 || dtype == DTYPE_I32) memcpy(out, &value, 4);
    if (dtype == DTYPE_BF16) memcpy(out, &brain, 2);
    if (dtype == DTYPE_F16) memcpy(out, &half, 2);
}
