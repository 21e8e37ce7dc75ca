/* Element types. A dtype is a run-time value, so one binary trains in f32 and bf16 and tests
 * both. */
#pragma once
#include "base.h"

typedef enum DType {
    DTYPE_F64, /* gradient checks and references only */
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_F8E4M3,
    DTYPE_F8E5M2,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_U16,
    DTYPE_U8,
    DTYPE_COUNT
} DType;

static inline int64_t dtype_bytes(DType t) {
    static const int8_t bytes[DTYPE_COUNT] = {8, 4, 2, 2, 1, 1, 8, 4, 2, 1};
    CHECK(t >= 0 && t < DTYPE_COUNT, "dtype %d", (int)t);
    return bytes[t];
}

static inline const char *dtype_name(DType t) {
    static const char *const name[DTYPE_COUNT] = {"f64",    "f32", "bf16", "f16", "f8e4m3",
                                                  "f8e5m2", "i64", "i32",  "u16", "u8"};
    CHECK(t >= 0 && t < DTYPE_COUNT, "dtype %d", (int)t);
    return name[t];
}
