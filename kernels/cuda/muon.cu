/* Muon (ops.h): momentum, then the update made nearly orthogonal by Newton-Schulz steps.
 *
 * X stays as it lies, (R,C): with fewer columns than rows the formula of the transpose becomes
 * X = X (a I + b A + c A A) with A = X^T X, so nothing is transposed. A step is three products in
 * the dtype of activations with f32 sums, of which the last two add a multiple of an operand:
 *   A = X X^T,  Q = c A A + b A,  X = Q X + a X.
 * Norm and scale stay on the device. */
#include "common.cuh"
#include <math.h>

enum { STEPS = 5, THREADS = 256, MOST_BLOCKS = 256 };

static const float COEFFICIENT_A = 3.4445f, COEFFICIENT_B = -4.7750f, COEFFICIENT_C = 2.0315f;

/* Added to the norm, so that an update of zeros stays zeros. Far below every other norm, so that
 * the scale of the gradient does not matter; its inverse fits a float. */
#define NORM_EPS 1e-30

/* ---- scratch: workspace of the products, sums of squares, two X, A, Q ---- */

static int64_t padded(int64_t bytes) { return i64_round_up(bytes, 256); }

static int64_t workspace_bytes(int64_t R, int64_t C, const DeviceProperties *device) {
    const int64_t side = i64_min(R, C);
    return padded(i64_max(product_workspace(side, side, device), product_workspace(C, R, device)));
}

/* For either dtype: f32, the larger one. */
int64_t cuda_muon_scratch(const OpShape *s, const DeviceProperties *device) {
    const int64_t R = s->O, C = s->C, side = i64_min(R, C), bytes = (int64_t)sizeof(float);
    return workspace_bytes(R, C, device) + padded(MOST_BLOCKS * (int64_t)sizeof(double)) +
           2 * padded(R * C * bytes) + 2 * padded(side * side * bytes);
}

/* ---- passes around the products ---- */

typedef struct MuonCall {
    float *w, *mom;
    const float *grad;
    int64_t count;
    float momentum, rest, scale, weight_decay; /* rest = 1 - momentum; scale: of O */
    double lr_scale;
    const StepParams *params;
    const StepResult *result;
} MuonCall;

/* Nesterov's update from a gradient and the new momentum. */
__device__ static inline float muon_update(const MuonCall &p, float grad, float clip, float mom) {
    return p.rest * (grad * clip) + p.momentum * mom;
}

/* mom = ...; each block leaves its sum of u^2. */
__global__ void __launch_bounds__(THREADS) muon_momentum(MuonCall p, double *squares) {
    SHARED(double, sums, THREADS);
    const float clip = (float)p.result->clip_factor;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    double sum = 0;
    if (!p.result->bad)
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < p.count; i += stride) {
            const float mom = p.momentum * p.mom[i] + p.rest * (p.grad[i] * clip);
            const float u = muon_update(p, p.grad[i], clip, mom);
            p.mom[i] = mom;
            sum += (double)u * (double)u;
        }
    sums[threadIdx.x] = sum;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) squares[blockIdx.x] = sums[0];
}

/* x = u / (||u|| + eps); u is computed again rather than kept. Every block adds the sums itself. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    muon_scale(T *x, MuonCall p, const double *squares, int n_squares) {
    SHARED(float, scale, 1);
    if (threadIdx.x == 0) {
        double sum = 0;
#pragma unroll 8
        for (int i = 0; i < n_squares; i++) sum += squares[i];
        scale[0] = (float)(1 / (sqrt(sum) + NORM_EPS));
    }
    BARRIER();
    const float clip = (float)p.result->clip_factor;
    const bool bad = p.result->bad; /* then the products run on zeros, and nothing is written */
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < p.count; i += stride)
        x[i] = from_float<T>(bad ? 0.0f : muon_update(p, p.grad[i], clip, p.mom[i]) * scale[0]);
}

/* w -= lr (scale O + weight_decay w) */
template <typename T>
__global__ void __launch_bounds__(THREADS) muon_apply(MuonCall p, T *w_act, const T *o) {
    if (p.result->bad) return;
    const float lr = (float)(p.params->lr * p.lr_scale);
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < p.count; i += stride) {
        const float w = p.w[i] - lr * (p.scale * to_float(o[i]) + p.weight_decay * p.w[i]);
        p.w[i] = w;
        if (w_act) w_act[i] = from_float<T>(w);
    }
}

/* ---- the steps ---- */

/* The result lies in x or in next; row-major (R,C) is column-major (C,R). */
template <typename T>
static T *newton_schulz(const OpContext *cx, T *x, T *next, T *a, T *q, int64_t R, int64_t C) {
    const DType t = act_of(cx);
    const int64_t side = i64_min(R, C);
    const bool tall = R > C;
    /* Column-major: X^T X of the row-major X is X X^T here, (C,C). */
    const Product gram = {side, side, tall ? R : C, C, C, side, t, t, !tall, tall, EPILOGUE_NONE};
    const Product square = {side, side, side, side, side, side, t, t, false, false, EPILOGUE_NONE};
    const Product wide_step = {C, R, R, C, R, C, t, t, false, false, EPILOGUE_NONE};
    const Product tall_step = {C, R, C, C, C, C, t, t, false, false, EPILOGUE_NONE};
    for (int step = 0; step < STEPS; step++) {
        const ProductData to_a = {a, NULL, x, x, NULL, NULL, 1, 0};
        product_run(cx, &gram, &to_a);
        const ProductData to_q = {q, a, a, a, NULL, NULL, COEFFICIENT_C, COEFFICIENT_B};
        product_run(cx, &square, &to_q);
        const ProductData to_x = {next, x, tall ? q : x, tall ? x : q, NULL,
                                  NULL, 1, COEFFICIENT_A};
        product_run(cx, tall ? &tall_step : &wide_step, &to_x);
        T *const done = next;
        next = x;
        x = done;
    }
    return x;
}

template <typename T>
static void muon(const OpContext *cx, const MuonCall &p, T *w_act, int64_t R, int64_t C) {
    const int64_t side = i64_min(R, C);
    char *at = (char *)cx->scratch + workspace_bytes(R, C, &cx->backend->properties);
    double *const squares = (double *)at;
    T *const x = (T *)(at += padded(MOST_BLOCKS * (int64_t)sizeof(double)));
    T *const next = (T *)(at += padded(R * C * (int64_t)sizeof(T)));
    T *const a = (T *)(at += padded(R * C * (int64_t)sizeof(T)));
    T *const q = (T *)(at + padded(side * side * (int64_t)sizeof(T)));
    const cudaStream_t stream = stream_of(cx);
    const int64_t wanted = i64_div_up(p.count, THREADS);
    const unsigned grid = (unsigned)i64_min(wanted, MOST_BLOCKS);
    LAUNCH(muon_momentum, grid, THREADS, 0, stream, p, squares);
    LAUNCH((muon_scale<T>), blocks_for(cx, p.count, THREADS), THREADS, 0, stream, x, p, squares,
           (int)grid);
    const T *const o = newton_schulz(cx, x, next, a, q, R, C);
    LAUNCH((muon_apply<T>), blocks_for(cx, p.count, THREADS), THREADS, 0, stream, p, w_act, o);
}

void cuda_muon(const OpContext *cx, Tensor w, Tensor w_act, Tensor mom, Tensor grad, Muon c) {
    const int64_t R = w.dim[0], C = w.dim[1];
    CHECK_TENSOR(w, DTYPE_F32, R, C);
    CHECK_TENSOR(mom, DTYPE_F32, R, C);
    CHECK_TENSOR(grad, DTYPE_F32, R, C);
    CHECK_OPTIONAL(w_act, act_of(cx), R, C);
    const OpShape shape = {0, 0, C, 0, 0, 0, 0, 0, R};
    CHECK_SCRATCH(cx, cuda_muon_scratch(&shape, &cx->backend->properties));
    const double scale = R > C ? sqrt((double)R / (double)C) : 1;
    const MuonCall p = {(float *)w.data,
                        (float *)mom.data,
                        (const float *)grad.data,
                        R * C,
                        (float)c.momentum,
                        (float)(1 - c.momentum),
                        (float)scale,
                        (float)c.weight_decay,
                        c.lr_scale,
                        cx->params,
                        cx->result};
    DISPATCH_ACT(cx, muon<T>(cx, p, (T *)w_act.data, R, C));
}
