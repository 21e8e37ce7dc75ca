/* A tensor is a contiguous row-major view. It owns nothing; arenas own memory. */
#pragma once
#include "dtype.h"

enum { TENSOR_MAX_RANK = 4 };

typedef struct Tensor {
    void *data; /* NULL: the tensor is absent (a nullable operand) or only planned */
    DType dtype;
    int rank;
    int64_t dim[TENSOR_MAX_RANK]; /* dim[0 .. rank-1]; the rest are 1 */
} Tensor;

#define TENSOR_NONE ((Tensor){0})

static inline bool tensor_present(Tensor t) { return t.data != NULL; }

static inline int64_t tensor_count(Tensor t) {
    int64_t n = 1;
    for (int i = 0; i < t.rank; i++) n *= t.dim[i];
    return n;
}

static inline int64_t tensor_bytes(Tensor t) { return tensor_count(t) * dtype_bytes(t.dtype); }

/* Views over memory that exists. */
static inline Tensor tensor_1d(void *data, DType t, int64_t a) {
    return (Tensor){data, t, 1, {a, 1, 1, 1}};
}
static inline Tensor tensor_2d(void *data, DType t, int64_t a, int64_t b) {
    return (Tensor){data, t, 2, {a, b, 1, 1}};
}
static inline Tensor tensor_3d(void *data, DType t, int64_t a, int64_t b, int64_t c) {
    return (Tensor){data, t, 3, {a, b, c, 1}};
}

/* Rows [first, first + n) of the leading dimension. */
static inline Tensor tensor_rows(Tensor t, int64_t first, int64_t n) {
    CHECK(t.rank >= 1 && first >= 0 && n >= 0 && first + n <= t.dim[0], "rows %ld..%ld of %ld",
          (long)first, (long)(first + n), (long)t.dim[0]);
    const int64_t stride = t.dim[0] ? tensor_bytes(t) / t.dim[0] : 0;
    t.data = (char *)t.data + first * stride;
    t.dim[0] = n;
    return t;
}

/* The border check of an op: dtype and shape of one operand. A dimension of -1 is not checked. */
static inline bool tensor_is(Tensor t, DType dtype, int rank, const int64_t *dim) {
    if (!t.data || t.dtype != dtype || t.rank != rank) return false;
    for (int i = 0; i < rank; i++)
        if (dim[i] >= 0 && t.dim[i] != dim[i]) return false;
    return true;
}
#define TENSOR_IS(t, type, ...)                                                                    \
    tensor_is(t, type, (int)COUNT_OF(((int64_t[]){__VA_ARGS__})), (const int64_t[]){__VA_ARGS__})
