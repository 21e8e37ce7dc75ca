/* Activations as passes of their own; linear.c has them in the epilogues of its products. */
#include "gelu.h"

static int64_t check_same(Tensor a, Tensor b) {
    CHECK(tensor_present(a) && a.dtype == REAL_DTYPE, "dtype %s", dtype_name(a.dtype));
    CHECK(tensor_is(b, REAL_DTYPE, a.rank, a.dim), "shapes differ");
    return tensor_count(a);
}

void OP(cpu_activation_forward)(const OpContext *cx, Tensor y, Tensor x, Activation activation) {
    (void)cx;
    CHECK(activation == ACTIVATION_GELU, "activation %d", (int)activation);
    const int64_t n = check_same(y, x);
    real *to = y.data;
    const real *from = x.data;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) to[i] = gelu(from[i]);
}

void OP(cpu_activation_backward)(const OpContext *cx, Tensor dx, Tensor dy, Tensor x,
                                 Activation activation) {
    (void)cx;
    CHECK(activation == ACTIVATION_GELU, "activation %d", (int)activation);
    const int64_t n = check_same(dx, x);
    check_same(dx, dy);
    real *to = dx.data;
    const real *upstream = dy.data, *from = x.data;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) to[i] = upstream[i] * gelu_derivative(from[i]);
}
