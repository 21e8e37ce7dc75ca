/* Negative sampling: the loss of word embeddings and its gradient, in one (ops.h).
 *
 * A group of rows is a warp's. It is read twice, the second time from the cache, and its gradient
 * is written once; each lane has columns of its own, so the gradient may lie where the group
 * does. */
#include "common.cuh"

enum { GROUP_WARPS = 4, OTHERS_MAX = 256 };

template <typename T, int N>
__global__ void __launch_bounds__(GROUP_WARPS *WARP)
    negative_sampling(float *losses, T *dx, const T *x, int64_t n_groups, int n_rows, int64_t C,
                      const StepParams *params) {
    SHARED(float, factors, GROUP_WARPS *OTHERS_MAX);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int64_t b = (int64_t)blockIdx.x * GROUP_WARPS + warp;
    if (b >= n_groups) return; /* whole warps: no barrier of the block follows */
    const T *const group = x + b * n_rows * C;
    const float loss_scale = (float)params->loss_scale;
    float loss = 0;
    for (int t = 1; t < n_rows; t++) {
        float score = 0;
        for (int64_t c = (int64_t)lane * N; c < C; c += WARP * N) {
            const Vec<T, N> word = vec_load<N>(group + c), other = vec_load<N>(group + t * C + c);
#pragma unroll
            for (int i = 0; i < N; i++) score += to_float(word.v[i]) * to_float(other.v[i]);
        }
        const float sign = t == 1 ? 1.0f : -1.0f, margin = sign * warp_sum(score);
        const float e = expf(-fabsf(margin)); /* no overflow on either side */
        loss += fmaxf(-margin, 0.0f) + log1pf(e);
        const float slope = (margin > 0.0f ? e : 1.0f) / (1.0f + e);
        if (lane == 0) factors[warp * OTHERS_MAX + t - 1] = -sign * slope * loss_scale;
    }
    if (lane == 0) losses[b] = loss;
    if (!dx) return;
    WARP_BARRIER();
    T *const grad = dx + b * n_rows * C;
    for (int64_t c = (int64_t)lane * N; c < C; c += WARP * N) {
        const Vec<T, N> word = vec_load<N>(group + c);
        float sum[N] = {};
        for (int t = 1; t < n_rows; t++) {
            const Vec<T, N> other = vec_load<N>(group + t * C + c);
            const float factor = factors[warp * OTHERS_MAX + t - 1];
            Vec<T, N> out;
#pragma unroll
            for (int i = 0; i < N; i++) {
                sum[i] += factor * to_float(other.v[i]);
                out.v[i] = from_float<T>(factor * to_float(word.v[i]));
            }
            vec_store<N>(grad + t * C + c, out);
        }
        Vec<T, N> out;
#pragma unroll
        for (int i = 0; i < N; i++) out.v[i] = from_float<T>(sum[i]);
        vec_store<N>(grad + c, out);
    }
}

void cuda_negative_sampling(const OpContext *cx, Tensor losses, Tensor dx, Tensor x) {
    const int64_t B = x.dim[0], n_rows = x.dim[1], C = x.dim[2];
    CHECK_TENSOR(losses, DTYPE_F32, B);
    CHECK_OPTIONAL(dx, act_of(cx), B, n_rows, C);
    CHECK_TENSOR(x, act_of(cx), B, n_rows, C);
    CHECK(n_rows >= 2 && n_rows <= OTHERS_MAX + 1, "%ld rows in a group", (long)n_rows);
    const unsigned grid = (unsigned)i64_div_up(B, GROUP_WARPS);
    DISPATCH_ACT(cx, DISPATCH_PACK(T, packs<T>(C, dx.data, x.data),
                                   LAUNCH((negative_sampling<T, N>), grid, GROUP_WARPS *WARP, 0,
                                          stream_of(cx), (float *)losses.data, (T *)dx.data,
                                          (const T *)x.data, B, (int)n_rows, C, cx->params)));
}
