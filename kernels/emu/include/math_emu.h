/* Arithmetic that nvcc has built in and the toolkit's headers do not give to g++: what the kernels
 * use of it. Fast-math functions are the exact ones here: their last bits differ from a card's. */
#pragma once
#include <math.h>
#include <string.h>

inline float __expf(float x) { return expf(x); }
inline float __fdividef(float x, float y) { return x / y; }

inline float __uint_as_float(unsigned x) {
    float value;
    memcpy(&value, &x, sizeof value);
    return value;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
