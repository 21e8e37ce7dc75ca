/* Softmax + cross-entropy, fused, and the sum of losses (ops.h).
 *
 * A row belongs to a warp where the vocabulary is small, else to a block, which keeps the row in
 * shared memory from its first reading to the second where that is large enough: so logits are read
 * once from memory, and the gradient is written once. */
#include "common.cuh"
#include <assert.h>

enum { BLOCK_WARPS = 16, ROW_THREADS = BLOCK_WARPS * WARP, SMALL = 1024 };

/* e^x of x <= 0, and e^x - 1. Beside bf16 the errors of the fast forms, |x| 2^-23 and 2^-24, are
 * nothing: it is the absolute error of a logit that counts. */
template <typename T> __device__ static inline float exp_of(float x);
template <> __device__ inline float exp_of<float>(float x) { return expf(x); }
template <> __device__ inline float exp_of<bf16>(float x) { return __expf(x); }
template <typename T> __device__ static inline float expm1_of(float x);
template <> __device__ inline float expm1_of<float>(float x) { return expm1f(x); }
template <> __device__ inline float expm1_of<bf16>(float x) { return __expf(x) - 1.0f; }

/* z = c tanh(x/c) and its derivative 1 - (z/c)^2. With e = exp(-2|x|/c):
 *   tanh(|x|/c) = (1 - e)/(1 + e),  1 - tanh^2 = 4e/(1 + e)^2
 * In f32 both keep all digits, near 0 as well as where tanh is almost 1. */
struct Capped {
    float z, slope;
};
template <typename T> __device__ static inline Capped soft_cap(float x, float cap, float to_exp) {
    if (cap <= 0.0f) return Capped{x, 1.0f};
    const float less = expm1_of<T>(fabsf(x) * to_exp);
    const float inverse = __fdividef(1.0f, 2.0f + less), size = cap * (-less * inverse);
    return Capped{x < 0.0f ? -size : size, 4.0f * (1.0f + less) * (inverse * inverse)};
}

/* Maximum and sum of exp(x - most) so far. */
struct Running {
    float most, sum;
};
__device__ static inline Running running_join(Running a, Running b) {
    const float most = fmaxf(a.most, b.most);
    if (most == -INFINITY) return a; /* nothing was seen by either */
    return Running{most, a.sum * expf(a.most - most) + b.sum * expf(b.most - most)};
}
__device__ static inline Running running_warp(Running r) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        Running other;
        other.most = __shfl_xor_sync(ALL_LANES, r.most, offset);
        other.sum = __shfl_xor_sync(ALL_LANES, r.sum, offset);
        /* The same order in both lanes, so that both have the same bits. */
        r = threadIdx.x & offset ? running_join(other, r) : running_join(r, other);
    }
    return r;
}

template <typename T> struct Classifier {
    float *losses;
    T *dlogits; /* or NULL; may be logits */
    const T *logits;
    const int32_t *targets;
    int64_t n_rows, V, Vp;
    float cap; /* 0: none */
    const StepParams *params;
};

template <typename T, int N, int WARPS, bool KEEP>
__global__ void __launch_bounds__(ROW_THREADS) classifier(Classifier<T> p) {
    SHARED(Running, part, BLOCK_WARPS);
    DYN_SHARED(T, kept); /* the row; each thread reads what it wrote itself */
    constexpr int LANES = WARPS * WARP;
    const int lane = (int)threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (BLOCK_WARPS / WARPS) + threadIdx.x / LANES;
    if (row >= p.n_rows) return; /* only where a row is one warp's, so no barrier follows */
    const T *const x = p.logits + row * p.Vp;
    T *const grad = p.dlogits ? p.dlogits + row * p.Vp : NULL;
    const int64_t target = p.targets[row];
    assert(target < p.V);
    if (target < 0) { /* the same for all threads of the row */
        if (lane == 0) p.losses[row] = 0;
        if (!grad) return;
        Vec<T, N> zero;
#pragma unroll
        for (int k = 0; k < N; k++) zero.v[k] = from_float<T>(0.0f);
        for (int64_t c = (int64_t)lane * N; c < p.Vp; c += (int64_t)LANES * N)
            vec_store<N>(grad + c, zero);
        return;
    }
    const float to_exp = -2.0f / p.cap;
    const Capped at_target = soft_cap<T>(to_float(x[target]), p.cap, to_exp);

    Running seen = {-INFINITY, 0.0f};
#pragma unroll 2
    for (int64_t c = (int64_t)lane * N; c < p.V; c += (int64_t)LANES * N) {
        const Vec<T, N> v = vec_load<N>(x + c);
        if (KEEP) vec_store<N>(kept + c, v);
        float z[N], most = seen.most;
#pragma unroll
        for (int k = 0; k < N; k++) {
            z[k] = c + k < p.V ? soft_cap<T>(to_float(v.v[k]), p.cap, to_exp).z : -INFINITY;
            most = fmaxf(most, z[k]);
        }
        float sum = 0;
#pragma unroll
        for (int k = 0; k < N; k++) sum += exp_of<T>(z[k] - most);
        seen = Running{most, seen.sum * expf(seen.most - most) + sum};
    }
    seen = running_warp(seen);
    if (WARPS > 1) {
        if (lane % WARP == 0) part[lane / WARP] = seen;
        BARRIER(); /* also: at_target is read before it is overwritten */
        seen = part[0];
        for (int i = 1; i < WARPS; i++) seen = running_join(seen, part[i]);
    } else {
        WARP_BARRIER();
    }
    if (lane == 0)
        p.losses[row] = (float)(log((double)seen.sum) + ((double)seen.most - (double)at_target.z));
    if (!grad) return;

    const double loss_scale = p.params->loss_scale;
    const float factor = (float)(loss_scale / (double)seen.sum);
#pragma unroll 2
    for (int64_t c = (int64_t)lane * N; c < p.Vp; c += (int64_t)LANES * N) {
        Vec<T, N> v = vec_load<N>(KEEP && c < p.V ? kept + c : x + c);
#pragma unroll
        for (int k = 0; k < N; k++) {
            const Capped z = soft_cap<T>(to_float(v.v[k]), p.cap, to_exp);
            float g = exp_of<T>(z.z - seen.most) * factor;
            if (c + k == target) g -= (float)loss_scale;
            v.v[k] = from_float<T>(c + k < p.V ? g * z.slope : 0.0f);
        }
        vec_store<N>(grad + c, v);
    }
}

template <typename T, int N> static void classify(const OpContext *cx, const Classifier<T> &p) {
    const int64_t row_bytes = i64_round_up(p.V, N) * (int64_t)sizeof(T);
    const int64_t left =
        cx->backend->properties.shared_bytes - (int64_t)sizeof(Running[BLOCK_WARPS]);
    if (p.V <= SMALL) {
        LAUNCH((classifier<T, N, 1, false>), (unsigned)i64_div_up(p.n_rows, BLOCK_WARPS),
               ROW_THREADS, 0, stream_of(cx), p);
    } else if (p.dlogits && row_bytes <= left) {
        CUDA_CHECK(cudaFuncSetAttribute((const void *)classifier<T, N, BLOCK_WARPS, true>,
                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        (int)row_bytes));
        LAUNCH((classifier<T, N, BLOCK_WARPS, true>), (unsigned)p.n_rows, ROW_THREADS,
               (size_t)row_bytes, stream_of(cx), p);
    } else {
        LAUNCH((classifier<T, N, BLOCK_WARPS, false>), (unsigned)p.n_rows, ROW_THREADS, 0,
               stream_of(cx), p);
    }
}

template <typename T> static void classify_dispatch(const OpContext *cx, const Classifier<T> &p) {
    DISPATCH_PACK(T, packs<T>(p.Vp, p.dlogits, p.logits), classify<T, N>(cx, p));
}

void cuda_classifier(const OpContext *cx, Tensor losses, Tensor dlogits, Tensor logits,
                     Tensor targets, int64_t n_vocab, double softcap) {
    const int64_t n_rows = logits.dim[0], Vp = logits.dim[1];
    CHECK_TENSOR(losses, DTYPE_F32, n_rows);
    CHECK_OPTIONAL(dlogits, act_of(cx), n_rows, Vp);
    CHECK_TENSOR(logits, act_of(cx), n_rows, Vp);
    CHECK_TENSOR(targets, DTYPE_I32, n_rows);
    CHECK(n_vocab > 0 && n_vocab <= Vp, "%ld of %ld columns", (long)n_vocab, (long)Vp);
    DISPATCH_ACT(cx, classify_dispatch(cx, Classifier<T>{(float *)losses.data, (T *)dlogits.data,
                                                         (const T *)logits.data,
                                                         (const int32_t *)targets.data, n_rows,
                                                         n_vocab, Vp, (float)softcap, cx->params}));
}

/* ---- the sum: one block; every thread adds its own, then the threads' sums are halved ---- */

enum { SUM_THREADS = 1024 };

__global__ void loss_sum(StepResult *result, const float *losses, int64_t n,
                         const StepParams *params) {
    SHARED(double, sums, SUM_THREADS);
    double sum = 0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < n; i += SUM_THREADS) sum += (double)losses[i];
    sums[threadIdx.x] = sum;
    for (unsigned half = SUM_THREADS / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) result->loss += params->loss_scale * sums[0];
}

void cuda_loss_sum(const OpContext *cx, Tensor losses) {
    const int64_t n = losses.dim[0];
    CHECK_TENSOR(losses, DTYPE_F32, n);
    LAUNCH(loss_sum, 1, SUM_THREADS, 0, stream_of(cx), cx->result, (const float *)losses.data, n,
           cx->params);
}
