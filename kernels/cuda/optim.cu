/* The gradients' norm with its flags and clip factor, and AdamW (ops.h). Nothing here waits for
 * the device: what the host would have to know stays in StepResult. */
#include "common.cuh"
#include <math.h>

enum { THREADS = 256 };

/* Sum over the block in a fixed order, in thread 0; others get 0, since thread 0 may still be
 * adding when they come here. sums: THREADS doubles of shared memory. */
__device__ static inline double block_sum(double x, double *sums) {
    sums[threadIdx.x] = x;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    return threadIdx.x == 0 ? sums[0] : 0;
}

/* ---- gradient norm ----
 *
 * Pointers and lengths of up to GROUP tensors travel as a kernel's parameter, so that no list has
 * to lie in device memory. A tensor is cut into at most MOST_PIECES pieces by its length alone; one
 * block sums a piece; then one block adds the pieces of each tensor in their order, and the
 * tensors' sums in theirs. In double the squares of finite floats cannot overflow. */

enum { GROUP = 160, MOST_PIECES = 256, LEAST_PIECE = 16384 };

typedef struct GradGroup {
    const float *grad[GROUP];
    int64_t count[GROUP];
    int32_t first_piece[GROUP + 1]; /* the pieces of tensor i are first_piece[i] .. [i+1]-1 */
    int32_t n;
} GradGroup;

__host__ __device__ static inline int64_t piece_length(int64_t count) {
    const int64_t length = i64_div_up(count, MOST_PIECES);
    return i64_round_up(i64_max(LEAST_PIECE, length), 4); /* so that pieces stay aligned */
}

int64_t cuda_grad_norm_scratch(void) { return GROUP * MOST_PIECES * (int64_t)sizeof(double); }

__global__ void grad_pieces(double *piece, GradGroup group) {
    SHARED(double, sums, THREADS);
    int tensor = 0; /* the one that this block's piece belongs to: binary search */
    for (int end = group.n; end - tensor > 1;) {
        const int middle = (tensor + end) / 2;
        if (group.first_piece[middle] <= (int)blockIdx.x)
            tensor = middle;
        else
            end = middle;
    }
    const int64_t length = piece_length(group.count[tensor]);
    const int64_t first = ((int64_t)blockIdx.x - group.first_piece[tensor]) * length;
    const int64_t last = i64_min(group.count[tensor], first + length);
    const float *const grad = group.grad[tensor];
    const int64_t whole = (uint64_t)grad % 16 ? first : first + (last - first) / 4 * 4;
    double sum = 0;
#pragma unroll 4
    for (int64_t i = first + (int64_t)threadIdx.x * 4; i < whole; i += THREADS * 4) {
        const Vec<float, 4> v = vec_load<4>(grad + i);
#pragma unroll
        for (int k = 0; k < 4; k++) sum += (double)v.v[k] * (double)v.v[k];
    }
    for (int64_t i = whole + threadIdx.x; i < last; i += THREADS)
        sum += (double)grad[i] * (double)grad[i];
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0) piece[blockIdx.x] = sum;
}

/* From the sum of all squares and the loss. */
__device__ static inline void finish_norm(StepResult *result, double squares,
                                          const StepParams *params) {
    const double norm = sqrt(squares), most = params->max_grad_norm;
    result->grad_norm = norm;
    result->clip_factor = most > 0 && norm > most ? most / norm : 1;
    result->bad = !isfinite(squares) || !isfinite(result->loss);
}

/* One block. A thread adds the pieces of the tensors threadIdx.x, + THREADS, ...; thread 0 adds the
 * tensors. Between groups result->grad_norm holds the sum of squares so far. */
__global__ void grad_finish(StepResult *result, int32_t *flags, const double *piece,
                            GradGroup group, int32_t base, int is_last, const StepParams *params) {
    SHARED(double, sums, GROUP);
    for (int i = (int)threadIdx.x; i < group.n; i += (int)blockDim.x) {
        double sum = 0;
#pragma unroll 8
        for (int32_t p = group.first_piece[i]; p < group.first_piece[i + 1]; p++) sum += piece[p];
        sums[i] = sum;
        flags[base + i] = !isfinite(sum);
    }
    BARRIER();
    if (threadIdx.x > 0) return;
    double total = base ? result->grad_norm : 0;
    int32_t first_bad = base ? result->first_bad : -1;
    for (int i = 0; i < group.n; i++) {
        if (first_bad < 0 && !isfinite(sums[i])) first_bad = base + i;
        total += sums[i];
    }
    result->first_bad = first_bad;
    result->grad_norm = total;
    if (!is_last) return;
    finish_norm(result, total, params);
}

void cuda_grad_norm(const OpContext *cx, Tensor flags, const Tensor *grads, int64_t n) {
    CHECK_TENSOR(flags, DTYPE_I32, n);
    CHECK(n > 0, "%ld gradients", (long)n);
    CHECK_SCRATCH(cx, cuda_grad_norm_scratch());
    double *const piece = (double *)cx->scratch;
    for (int64_t base = 0; base < n; base += GROUP) {
        GradGroup group = {};
        group.n = (int32_t)i64_min(GROUP, n - base);
        for (int i = 0; i < group.n; i++) {
            const Tensor *const g = &grads[base + i];
            CHECK(g->data && g->dtype == DTYPE_F32, "gradient %ld", (long)(base + i));
            group.grad[i] = (const float *)g->data;
            group.count[i] = tensor_count(*g);
            const int64_t pieces = i64_div_up(group.count[i], piece_length(group.count[i]));
            group.first_piece[i + 1] = group.first_piece[i] + (int32_t)pieces;
        }
        const int is_last = base + GROUP >= n;
        const int32_t pieces = group.first_piece[group.n];
        if (pieces > 0)
            LAUNCH(grad_pieces, (unsigned)pieces, THREADS, 0, stream_of(cx), piece, group);
        LAUNCH(grad_finish, 1, THREADS, 0, stream_of(cx), cx->result, (int32_t *)flags.data, piece,
               group, (int32_t)base, is_last, cx->params);
    }
}

/* One thread: there are few ranks, and their order is part of the sums. */
__global__ void results_join(StepResult *result, const StepResult *rank, int32_t n, int32_t stride,
                             const StepParams *params) {
    double loss = 0, total = 0;
    int32_t first_bad = -1;
    for (int32_t r = 0; r < n; r++) {
        loss += rank[r].loss;
        total += rank[r].grad_norm * rank[r].grad_norm;
        if (first_bad < 0 && rank[r].bad && rank[r].first_bad >= 0)
            first_bad = r * stride + rank[r].first_bad;
    }
    result->loss = loss;
    result->first_bad = first_bad;
    finish_norm(result, total, params);
}

void cuda_join_results(const OpContext *cx, Tensor results, int64_t stride) {
    const int64_t n = tensor_count(results) / (int64_t)sizeof(StepResult);
    CHECK(n * (int64_t)sizeof(StepResult) == tensor_bytes(results), "%ld ranks", (long)n);
    LAUNCH(results_join, 1, 1, 0, stream_of(cx), cx->result, (const StepResult *)results.data,
           (int32_t)n, (int32_t)stride, cx->params);
}

/* ---- AdamW: 30 bytes a parameter with a bf16 copy, 28 without ---- */

template <typename T> struct AdamWCall {
    float *w, *m, *v;
    T *w_act; /* or NULL */
    const float *grad;
    int64_t count;
    double log_beta1, log_beta2, lr_scale;
    float beta1, rest1, beta2, rest2; /* rest = 1 - beta */
    float eps, weight_decay;
    const StepParams *params;
    const StepResult *result;
};

template <typename T, int N> __global__ void __launch_bounds__(THREADS) adamw(AdamWCall<T> p) {
    /* Once a block, in double: 1 / (1 - beta^t) of both, and the learning rate. */
    SHARED(float, step, 3);
    if (p.result->bad) return; /* the same for all */
    if (threadIdx.x == 0) {
        const double t = (double)p.params->step;
        step[0] = (float)(-1.0 / expm1(t * p.log_beta1));
        step[1] = (float)(-1.0 / expm1(t * p.log_beta2));
        step[2] = (float)(p.params->lr * p.lr_scale);
    }
    BARRIER();
    const float clip = (float)p.result->clip_factor;
    const float correct1 = step[0], correct2 = step[1], lr = step[2];
    const int64_t stride = (int64_t)gridDim.x * THREADS * N;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N; i < p.count; i += stride) {
        const Vec<float, N> grad = vec_load<N>(p.grad + i);
        Vec<float, N> w = vec_load<N>(p.w + i), m = vec_load<N>(p.m + i), v = vec_load<N>(p.v + i);
        Vec<T, N> copy;
#pragma unroll
        for (int k = 0; k < N; k++) {
            const float g = grad.v[k] * clip;
            m.v[k] = p.beta1 * m.v[k] + p.rest1 * g;
            v.v[k] = p.beta2 * v.v[k] + p.rest2 * g * g;
            const float update = m.v[k] * correct1 / (sqrtf(v.v[k] * correct2) + p.eps);
            w.v[k] -= lr * (update + p.weight_decay * w.v[k]);
            copy.v[k] = from_float<T>(w.v[k]);
        }
        vec_store<N>(p.w + i, w);
        vec_store<N>(p.m + i, m);
        vec_store<N>(p.v + i, v);
        if (p.w_act) vec_store<N>(p.w_act + i, copy);
    }
}

template <typename T> static void adamw_dispatch(const OpContext *cx, const AdamWCall<T> &p) {
    const bool packed =
        packs<float>(p.count, p.w, p.m, p.v, p.grad) && (uint64_t)p.w_act % (4 * sizeof(T)) == 0;
    DISPATCH_PACK(float, packed,
                  LAUNCH((adamw<T, N>), blocks_for(cx, i64_div_up(p.count, N), THREADS), THREADS, 0,
                         stream_of(cx), p));
}

void cuda_adamw(const OpContext *cx, Tensor w, Tensor w_act, Tensor m, Tensor v, Tensor grad,
                AdamW c) {
    const Tensor all[] = {w, m, v, grad};
    for (int64_t i = 0; i < COUNT_OF(all); i++)
        CHECK(tensor_is(all[i], DTYPE_F32, w.rank, w.dim), "operand %ld", (long)i);
    CHECK(!w_act.data || tensor_is(w_act, act_of(cx), w.rank, w.dim), "w_act");
    DISPATCH_ACT(cx,
                 adamw_dispatch(cx, AdamWCall<T>{(float *)w.data, (float *)m.data, (float *)v.data,
                                                 (T *)w_act.data, (const float *)grad.data,
                                                 tensor_count(w), log(c.beta1), log(c.beta2),
                                                 c.lr_scale, (float)c.beta1, (float)(1 - c.beta1),
                                                 (float)c.beta2, (float)(1 - c.beta2), (float)c.eps,
                                                 (float)c.weight_decay, cx->params, cx->result}));
}
