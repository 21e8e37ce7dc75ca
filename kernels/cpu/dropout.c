/* Dropout on its own (ops.h): forward and backward are the same product with the mask. */
#include "mask.h"

enum { DROPOUT_COLUMNS = 256 };

static void apply(const OpContext *cx, Tensor out, Tensor in, Dropout drop) {
    const int64_t N = in.dim[0], C = in.dim[1];
    CHECK_TENSOR(out, REAL_DTYPE, N, C);
    CHECK_TENSOR(in, REAL_DTYPE, N, C);
    const Mask mask = mask_make(cx, drop);
    if (!mask.on) {
        if (out.data != in.data) memcpy(out.data, in.data, (size_t)tensor_bytes(in));
        return;
    }
    const uint64_t base = (uint64_t)cx->params->row_base * (uint64_t)C;

#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < N * C; first += DROPOUT_COLUMNS) {
        real keep[DROPOUT_COLUMNS];
        const int64_t n = i64_min(DROPOUT_COLUMNS, N * C - first);
        mask_run(keep, &mask, base + (uint64_t)first, n);
        const real *from = (const real *)in.data + first;
        real *to = (real *)out.data + first;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) to[i] = keep[i] * from[i];
    }
}

void OP(cpu_dropout_forward)(const OpContext *cx, Tensor y, Tensor x, Dropout drop) {
    apply(cx, y, x, drop);
}

void OP(cpu_dropout_backward)(const OpContext *cx, Tensor dx, Tensor dy, Dropout drop) {
    apply(cx, dx, dy, drop);
}
