/* Dropout on its own (ops.h): forward and backward are the same product with the mask. */
#include "mask.cuh"

enum { THREADS = 256 };

template <typename T, int N>
__global__ void dropout_apply(T *out, const T *in, int64_t n, int64_t C, const StepParams *params,
                              MaskRate rate) {
    const Mask mask = mask_make(params, rate);
    const uint64_t base = (uint64_t)mask.row_base * (uint64_t)C;
    const int64_t stride = (int64_t)gridDim.x * blockDim.x * N;
    for (int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += stride) {
        Vec<T, N> v = vec_load<N>(in + i);
        if (mask.on) {
            float keep[N];
            mask_fill<N>(keep, mask, base + (uint64_t)i);
#pragma unroll
            for (int k = 0; k < N; k++) v.v[k] = from_float<T>(keep[k] * to_float(v.v[k]));
        }
        vec_store<N>(out + i, v);
    }
}

static void apply(const OpContext *cx, Tensor out, Tensor in, Dropout drop) {
    const int64_t rows = in.dim[0], C = in.dim[1], n = rows * C;
    CHECK_TENSOR(out, act_of(cx), rows, C);
    CHECK_TENSOR(in, act_of(cx), rows, C);
    /* By C, not by n: so that indices, which begin at row_base * C, are multiples of 4. */
    DISPATCH_ACT(
        cx, DISPATCH_PACK(T, packs<T>(C, out.data, in.data),
                          LAUNCH((dropout_apply<T, N>), blocks_for(cx, i64_div_up(n, N), THREADS),
                                 THREADS, 0, stream_of(cx), (T *)out.data, (const T *)in.data, n, C,
                                 cx->params, mask_rate(drop))));
}

void cuda_dropout_forward(const OpContext *cx, Tensor y, Tensor x, Dropout drop) {
    apply(cx, y, x, drop);
}

void cuda_dropout_backward(const OpContext *cx, Tensor dx, Tensor dy, Dropout drop) {
    apply(cx, dx, dy, drop);
}
