/* The MLP's elementwise passes (ops.h): activations and SwiGLU. Each reads and writes every value
 * once, 16 bytes at a time. */
#include "activation.cuh"

enum { THREADS = 256 };

static int64_t check_same(const OpContext *cx, Tensor a, Tensor b) {
    CHECK(tensor_present(a) && a.dtype == act_of(cx), "dtype %s", dtype_name(a.dtype));
    CHECK(tensor_is(b, act_of(cx), a.rank, a.dim), "shapes differ");
    return tensor_count(a);
}

template <typename T, int N>
__global__ void activation_forward(T *y, const T *x, int64_t n, Activation activation) {
    const int64_t stride = (int64_t)gridDim.x * blockDim.x * N;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += stride) {
        Vec<T, N> v = vec_load<N>(x + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            v.v[k] = from_float<T>(activation_value(to_float(v.v[k]), activation));
        vec_store<N>(y + i, v);
    }
}

template <typename T, int N>
__global__ void activation_backward(T *dx, const T *dy, const T *x, int64_t n,
                                    Activation activation) {
    const int64_t stride = (int64_t)gridDim.x * blockDim.x * N;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += stride) {
        const Vec<T, N> u = vec_load<N>(x + i);
        Vec<T, N> v = vec_load<N>(dy + i);
#pragma unroll
        for (int k = 0; k < N; k++)
            v.v[k] = from_float<T>(to_float(v.v[k]) *
                                   activation_derivative(to_float(u.v[k]), activation));
        vec_store<N>(dx + i, v);
    }
}

void cuda_activation_forward(const OpContext *cx, Tensor y, Tensor x, Activation activation) {
    const int64_t n = check_same(cx, y, x);
    DISPATCH_ACT(
        cx, DISPATCH_PACK(T, packs<T>(n, y.data, x.data),
                          LAUNCH((activation_forward<T, N>),
                                 blocks_for(cx, i64_div_up(n, N), THREADS), THREADS, 0,
                                 stream_of(cx), (T *)y.data, (const T *)x.data, n, activation)));
}

void cuda_activation_backward(const OpContext *cx, Tensor dx, Tensor dy, Tensor x,
                              Activation activation) {
    const int64_t n = check_same(cx, dx, x);
    check_same(cx, dx, dy);
    DISPATCH_ACT(cx, DISPATCH_PACK(T, packs<T>(n, dx.data, dy.data, x.data),
                                   LAUNCH((activation_backward<T, N>),
                                          blocks_for(cx, i64_div_up(n, N), THREADS), THREADS, 0,
                                          stream_of(cx), (T *)dx.data, (const T *)dy.data,
                                          (const T *)x.data, n, activation)));
}

/* ---- SwiGLU: a block of 32 x 8 threads takes 8 rows at a time ---- */

enum { DOWN = THREADS / WARP };

template <typename T, int N>
__global__ void swiglu_forward(T *y, const T *u, int64_t n_rows, int64_t F) {
    const int64_t f = ((int64_t)blockIdx.x * WARP + threadIdx.x) * N;
    if (f >= F) return;
    const int64_t stride = (int64_t)gridDim.y * DOWN;
    for (int64_t row = (int64_t)blockIdx.y * DOWN + threadIdx.y; row < n_rows; row += stride) {
        const Vec<T, N> gate = vec_load<N>(u + row * 2 * F + f);
        const Vec<T, N> up = vec_load<N>(u + row * 2 * F + F + f);
        Vec<T, N> out;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float g = to_float(gate.v[i]);
            out.v[i] = from_float<T>(g * sigmoid(g).s * to_float(up.v[i]));
        }
        vec_store<N>(y + row * F + f, out);
    }
}

/* silu'(g) = s + g s (1 - s) */
template <typename T, int N>
__global__ void swiglu_backward(T *du, const T *dy, const T *u, int64_t n_rows, int64_t F) {
    const int64_t f = ((int64_t)blockIdx.x * WARP + threadIdx.x) * N;
    if (f >= F) return;
    const int64_t stride = (int64_t)gridDim.y * DOWN;
    for (int64_t row = (int64_t)blockIdx.y * DOWN + threadIdx.y; row < n_rows; row += stride) {
        const int64_t at = row * 2 * F + f;
        const Vec<T, N> gate = vec_load<N>(u + at), up = vec_load<N>(u + at + F);
        const Vec<T, N> d = vec_load<N>(dy + row * F + f);
        Vec<T, N> dgate, dup;
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float g = to_float(gate.v[i]), out = to_float(d.v[i]);
            const Sigmoid s = sigmoid(g);
            dgate.v[i] = from_float<T>(out * to_float(up.v[i]) * (s.s + g * s.s * s.rest));
            dup.v[i] = from_float<T>(out * (g * s.s));
        }
        vec_store<N>(du + at, dgate);
        vec_store<N>(du + at + F, dup);
    }
}

static dim3 swiglu_grid(const OpContext *cx, int64_t n_rows, int64_t F, int64_t n) {
    const int64_t across = i64_div_up(F, WARP * n);
    const int64_t down = i64_min(i64_div_up(n_rows, DOWN), i64_div_up(8 * units_of(cx), across));
    return dim3((unsigned)across, (unsigned)down);
}

void cuda_swiglu_forward(const OpContext *cx, Tensor y, Tensor u) {
    const int64_t n_rows = y.dim[0], F = y.dim[1];
    CHECK_TENSOR(y, act_of(cx), n_rows, F);
    CHECK_TENSOR(u, act_of(cx), n_rows, 2 * F);
    DISPATCH_ACT(cx, DISPATCH_PACK(T, packs<T>(F, y.data, u.data),
                                   LAUNCH((swiglu_forward<T, N>), swiglu_grid(cx, n_rows, F, N),
                                          dim3(WARP, DOWN), 0, stream_of(cx), (T *)y.data,
                                          (const T *)u.data, n_rows, F)));
}

void cuda_swiglu_backward(const OpContext *cx, Tensor du, Tensor dy, Tensor u) {
    const int64_t n_rows = dy.dim[0], F = dy.dim[1];
    CHECK_TENSOR(dy, act_of(cx), n_rows, F);
    CHECK_TENSOR(du, act_of(cx), n_rows, 2 * F);
    CHECK_TENSOR(u, act_of(cx), n_rows, 2 * F);
    DISPATCH_ACT(cx, DISPATCH_PACK(T, packs<T>(F, du.data, dy.data, u.data),
                                   LAUNCH((swiglu_backward<T, N>), swiglu_grid(cx, n_rows, F, N),
                                          dim3(WARP, DOWN), 0, stream_of(cx), (T *)du.data,
                                          (const T *)dy.data, (const T *)u.data, n_rows, F)));
}
