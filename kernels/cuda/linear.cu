/* Linear layers (ops.h). Row-major (N,C) is column-major (C,N), so with y^T = w x^T every product
 * goes to cuBLASLt without a copy. In bf16 bias and GELU are the product's epilogue; what has none
 * (ReLU^2, odd sizes, f32) is a pass of its own behind it. */
#include "activation.cuh"

/* Scratch: the products' workspace, then partial column sums. */
int64_t cuda_linear_scratch(OpKind op, const OpShape *s, const DeviceProperties *device) {
    const int64_t N = s->B * s->T;
    switch (op) {
    case OP_LINEAR_FORWARD: return product_workspace(s->O, N, device);
    case OP_LINEAR_BACKWARD_INPUT:
        return product_workspace(s->C, N, device) + reduce_scratch(N, s->C, device);
    default: return product_workspace(s->C, s->O, device) + reduce_scratch(N, s->O, device);
    }
}

static void scratch_check(const OpContext *cx, OpKind op, int64_t N, int64_t C, int64_t O) {
    const OpShape shape = {1, N, C, 0, 0, 0, 0, 0, O};
    CHECK_SCRATCH(cx, cuda_linear_scratch(op, &shape, &cx->backend->properties));
}

static float *partial_after(const OpContext *cx, int64_t m, int64_t n) {
    return (float *)((char *)cx->scratch + product_workspace(m, n, &cx->backend->properties));
}

/* The library's epilogues want vectors of 8. */
static bool fuses(const OpContext *cx, int64_t C, int64_t O) {
    return act_of(cx) == DTYPE_BF16 && C % 8 == 0 && O % 8 == 0;
}

/* ---- forward ---- */

/* u += bias in place, y = activation(u). y may be u. A block of 32 x 8 threads takes 8 rows. */
enum { DOWN = 8 };

template <typename T, int N>
__global__ void linear_finish(T *y, T *u, const T *bias, int64_t n_rows, int64_t O,
                              Activation activation) {
    const int64_t o = ((int64_t)blockIdx.x * WARP + threadIdx.x) * N;
    if (o >= O) return;
    Vec<T, N> add;
    if (bias) add = vec_load<N>(bias + o);
    const int64_t stride = (int64_t)gridDim.y * DOWN;
    for (int64_t row = (int64_t)blockIdx.y * DOWN + threadIdx.y; row < n_rows; row += stride) {
        Vec<T, N> v = vec_load<N>(u + row * O + o);
        if (bias) {
#pragma unroll
            for (int i = 0; i < N; i++)
                v.v[i] = from_float<T>(to_float(v.v[i]) + to_float(add.v[i]));
            if (u != y) vec_store<N>(u + row * O + o, v);
        }
#pragma unroll
        for (int i = 0; i < N; i++)
            v.v[i] = from_float<T>(activation_value(to_float(v.v[i]), activation));
        vec_store<N>(y + row * O + o, v);
    }
}

template <typename T>
static void finish(const OpContext *cx, T *y, T *u, const T *bias, int64_t n_rows, int64_t O,
                   Activation activation) {
    DISPATCH_PACK(T, packs<T>(O, y, u, bias), {
        const int64_t across = i64_div_up(O, WARP * N);
        const int64_t down =
            i64_min(i64_div_up(n_rows, DOWN), i64_div_up(8 * units_of(cx), across));
        LAUNCH((linear_finish<T, N>), dim3((unsigned)across, (unsigned)down), dim3(WARP, DOWN), 0,
               stream_of(cx), y, u, bias, n_rows, O, activation);
    });
}

static Product forward_product(const OpContext *cx, int64_t N, int64_t C, int64_t O) {
    const DType act = act_of(cx);
    return Product{O, N, C, C, C, O, act, act, true, false, EPILOGUE_NONE, 1};
}

/* True if the product with its epilogue was all there is to do. */
static bool forward_fused(const OpContext *cx, Tensor y, Tensor aux, Tensor x, Tensor w,
                          Tensor bias, Activation activation) {
    const int64_t N = x.dim[0], C = x.dim[1], O = w.dim[0];
    if (!fuses(cx, C, O)) return false;
    Product p = forward_product(cx, N, C, O);
    ProductData data = {y.data, NULL, w.data, x.data, bias.data, NULL, 1, 0};
    if (activation == ACTIVATION_NONE && bias.data && !aux.data)
        p.epilogue = EPILOGUE_BIAS;
    else if (activation == ACTIVATION_GELU)
        p.epilogue = aux.data ? EPILOGUE_GELU_AUX : EPILOGUE_GELU;
    else
        return false;
    data.aux = aux.data;
    return product_try(cx, &p, &data);
}

void cuda_linear_forward(const OpContext *cx, Tensor y, Tensor aux, Tensor x, Tensor w, Tensor bias,
                         Activation activation) {
    const DType act = act_of(cx);
    const int64_t N = x.dim[0], C = x.dim[1], O = w.dim[0];
    CHECK_TENSOR(x, act, N, C);
    CHECK_TENSOR(w, act, O, C);
    CHECK_TENSOR(y, act, N, O);
    CHECK_OPTIONAL(aux, act, N, O);
    CHECK_OPTIONAL(bias, act, O);
    scratch_check(cx, OP_LINEAR_FORWARD, N, C, O);
    if (forward_fused(cx, y, aux, x, w, bias, activation)) return;
    void *const u = aux.data ? aux.data : y.data;
    const Product p = forward_product(cx, N, C, O);
    const ProductData data = {u, NULL, w.data, x.data, NULL, NULL, 1, 0};
    product_run(cx, &p, &data);
    if (bias.data || activation != ACTIVATION_NONE || u != y.data)
        DISPATCH_ACT(cx,
                     finish<T>(cx, (T *)y.data, (T *)u, (const T *)bias.data, N, O, activation));
}

/* ---- backward ---- */

void cuda_linear_backward_input(const OpContext *cx, Tensor dx, Tensor dbias_prev, Tensor dy,
                                Tensor w, Tensor aux, Activation activation) {
    const DType act = act_of(cx);
    const int64_t N = dy.dim[0], O = w.dim[0], C = w.dim[1];
    CHECK_TENSOR(dy, act, N, O);
    CHECK_TENSOR(w, act, O, C);
    CHECK_TENSOR(dx, act, N, C);
    CHECK_OPTIONAL(dbias_prev, DTYPE_F32, C);
    CHECK_OPTIONAL(aux, act, N, C);
    CHECK(tensor_present(aux) == (activation != ACTIVATION_NONE), "activation %d", (int)activation);
    scratch_check(cx, OP_LINEAR_BACKWARD_INPUT, N, C, O);
    Product p = {C, N, O, C, O, C, act, act, false, false, EPILOGUE_NONE, 1};
    ProductData data = {dx.data, NULL, w.data, dy.data, NULL, NULL, 1, 0};
    float *const partial = partial_after(cx, C, N), *const sums = (float *)dbias_prev.data;
    if (activation == ACTIVATION_GELU && fuses(cx, C, O)) {
        p.epilogue = EPILOGUE_DGELU;
        data.aux = aux.data;
        if (product_try(cx, &p, &data)) {
            if (sums) reduce_columns(cx, sums, dx.data, N, C, partial);
            return;
        }
        p.epilogue = EPILOGUE_NONE;
        data.aux = NULL;
    }
    product_run(cx, &p, &data);
    if (activation == ACTIVATION_NONE) {
        if (sums) reduce_columns(cx, sums, dx.data, N, C, partial);
    } else if (sums) {
        reduce_columns_activation(cx, sums, dx.data, aux.data, N, C, activation, partial);
    } else {
        cuda_activation_backward(cx, dx, dx, aux, activation);
    }
}

void cuda_linear_backward_weight(const OpContext *cx, Tensor dw, Tensor dbias, Tensor dy,
                                 Tensor x) {
    const DType act = act_of(cx);
    const int64_t N = x.dim[0], C = x.dim[1], O = dy.dim[1];
    CHECK_TENSOR(x, act, N, C);
    CHECK_TENSOR(dy, act, N, O);
    CHECK_TENSOR(dw, DTYPE_F32, O, C);
    CHECK_OPTIONAL(dbias, DTYPE_F32, O);
    scratch_check(cx, OP_LINEAR_BACKWARD_WEIGHT, N, C, O);
    const Product p = {C, O, N, C, O, C, act, DTYPE_F32, false, true, EPILOGUE_NONE, 1};
    const ProductData data = {dw.data, dw.data, x.data, dy.data, NULL, NULL, 1, 1};
    product_run(cx, &p, &data);
    if (dbias.data) reduce_columns(cx, (float *)dbias.data, dy.data, N, O, partial_after(cx, C, O));
}
