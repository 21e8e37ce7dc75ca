/* Muon (ops.h): momentum, then the update made nearly orthogonal by Newton-Schulz steps.
 *
 * X stays as it lies, (R,C): with fewer columns than rows the formula of the transpose becomes
 * X = X (a I + b A + c A A) with A = X^T X, so nothing is transposed. A step is three products in
 * the dtype of activations with f32 sums, of which the last two add a multiple of an operand:
 *   A = X X^T,  Q = c A A + b A,  X = Q X + a X.
 * Norm and scale stay on the device.
 *
 * Many matrices are many small products: so a group of them goes through every step together, the
 * products as batches, in everything else blockIdx.y counts matrices. Their pointers travel as a
 * kernel's parameter. */
#include "common.cuh"
#include <math.h>

enum {
    STEPS = 5, THREADS = 256,
    MOST_BLOCKS = 256, /* for a matrix */
    GROUP = 64         /* matrices at once: 2 KiB of the 4 that parameters may take */
};
/* Nor more matrices than fill so much scratch; large ones fill a device by themselves. */
static const int64_t GROUP_BYTES = 128 << 20;

static const float COEFFICIENT_A = 3.4445f, COEFFICIENT_B = -4.7750f, COEFFICIENT_C = 2.0315f;

/* Added to the norm, so that an update of zeros stays zeros. Far below every other norm, so that
 * the scale of the gradient does not matter; its inverse fits a float. */
#define NORM_EPS 1e-30

/* ---- scratch: workspace of the products; of each matrix sums of squares, two X, A, Q ---- */

static int64_t padded(int64_t bytes) { return i64_round_up(bytes, 256); }

/* Matrices that go together: groups of one size, but the last. */
static int64_t group_size(int64_t n, int64_t R, int64_t C) {
    const int64_t side = i64_min(R, C), each = 2 * (R * C + side * side) * (int64_t)sizeof(float);
    const int64_t most = i64_max(1, i64_min(GROUP, GROUP_BYTES / each));
    return i64_div_up(n, i64_div_up(n, most));
}

static int64_t workspace_bytes(int64_t group, int64_t R, int64_t C,
                               const DeviceProperties *device) {
    const int64_t side = i64_min(R, C);
    return padded(i64_max(product_workspace(side, side * group, device),
                          product_workspace(C, R * group, device)));
}

/* For either dtype: f32, the larger one. */
int64_t cuda_muon_scratch(const OpShape *s, const DeviceProperties *device) {
    const int64_t R = s->O, C = s->C, side = i64_min(R, C), bytes = (int64_t)sizeof(float);
    const int64_t group = group_size(s->B, R, C);
    return workspace_bytes(group, R, C, device) +
           padded(group * MOST_BLOCKS * (int64_t)sizeof(double)) +
           2 * padded(group * R * C * bytes) + 2 * padded(group * side * side * bytes);
}

/* ---- passes around the products ---- */

typedef struct MuonCall {
    float *w[GROUP], *mom[GROUP];
    void *w_act[GROUP]; /* or NULL */
    const float *grad[GROUP];
    int64_t n, R, C;
    float momentum, rest, scale, weight_decay; /* rest = 1 - momentum; scale: of O */
    double lr_scale;
    const StepParams *params;
    const StepResult *result;
} MuonCall;

/* Nesterov's update from a gradient and the new momentum. */
__device__ static inline float muon_update(const MuonCall &p, float grad, float clip, float mom) {
    return p.rest * (grad * clip) + p.momentum * mom;
}

/* mom = ...; each block leaves its sum of u^2 in squares (n, gridDim.x). */
__global__ void __launch_bounds__(THREADS) muon_momentum(MuonCall p, double *squares) {
    SHARED(double, sums, THREADS);
    float *const to = p.mom[blockIdx.y];
    const float *const grad = p.grad[blockIdx.y];
    const float clip = (float)p.result->clip_factor;
    const int64_t stride = (int64_t)gridDim.x * THREADS, count = p.R * p.C;
    double sum = 0;
    if (!p.result->bad)
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += stride) {
            const float mom = p.momentum * to[i] + p.rest * (grad[i] * clip);
            const float u = muon_update(p, grad[i], clip, mom);
            to[i] = mom;
            sum += (double)u * (double)u;
        }
    sums[threadIdx.x] = sum;
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        BARRIER();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) squares[blockIdx.y * gridDim.x + blockIdx.x] = sums[0];
}

/* x (n,R,C) = u / (||u|| + eps); u is computed again rather than kept. Every block adds the sums
 * itself. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    muon_scale(T *x, MuonCall p, const double *squares, int n_squares) {
    SHARED(float, scale, 1);
    const float *const grad = p.grad[blockIdx.y], *const mom = p.mom[blockIdx.y];
    const int64_t stride = (int64_t)gridDim.x * THREADS, count = p.R * p.C;
    if (threadIdx.x == 0) {
        const double *const from = squares + blockIdx.y * n_squares;
        double sum = 0;
#pragma unroll 8
        for (int i = 0; i < n_squares; i++) sum += from[i];
        scale[0] = (float)(1 / (sqrt(sum) + NORM_EPS));
    }
    BARRIER();
    const float clip = (float)p.result->clip_factor;
    const bool bad = p.result->bad; /* then the products run on zeros, and nothing is written */
    T *const to = x + blockIdx.y * count;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += stride)
        to[i] = from_float<T>(bad ? 0.0f : muon_update(p, grad[i], clip, mom[i]) * scale[0]);
}

/* w -= lr (scale O + weight_decay w), o (n,R,C) */
template <typename T>
__global__ void __launch_bounds__(THREADS) muon_apply(MuonCall p, const T *o) {
    if (p.result->bad) return;
    float *const to = p.w[blockIdx.y];
    T *const copy = (T *)p.w_act[blockIdx.y];
    const float lr = (float)(p.params->lr * p.lr_scale);
    const int64_t stride = (int64_t)gridDim.x * THREADS, count = p.R * p.C;
    const T *const from = o + blockIdx.y * count;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += stride) {
        const float w = to[i] - lr * (p.scale * to_float(from[i]) + p.weight_decay * to[i]);
        to[i] = w;
        if (copy) copy[i] = from_float<T>(w);
    }
}

/* ---- the steps ---- */

/* The result lies in x or in next; row-major (R,C) is column-major (C,R). */
template <typename T>
static T *newton_schulz(const OpContext *cx, T *x, T *next, T *a, T *q, int64_t n, int64_t R,
                        int64_t C) {
    const DType t = act_of(cx);
    const int64_t side = i64_min(R, C);
    const bool tall = R > C;
    /* Column-major: X^T X of the row-major X is X X^T here, (C,C). */
    const Epilogue none = EPILOGUE_NONE;
    const Product gram = {side, side, tall ? R : C, C, C, side, t, t, !tall, tall, none, n};
    const Product square = {side, side, side, side, side, side, t, t, false, false, none, n};
    const Product wide_step = {C, R, R, C, R, C, t, t, false, false, none, n};
    const Product tall_step = {C, R, C, C, C, C, t, t, false, false, none, n};
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

template <typename T> static void muon(const OpContext *cx, const MuonCall &p, int64_t group) {
    const int64_t n = p.n, R = p.R, C = p.C, side = i64_min(R, C), size = (int64_t)sizeof(T);
    char *at = (char *)cx->scratch + workspace_bytes(group, R, C, &cx->backend->properties);
    double *const squares = (double *)at;
    T *const x = (T *)(at += padded(n * MOST_BLOCKS * (int64_t)sizeof(double)));
    T *const next = (T *)(at += padded(n * R * C * size));
    T *const a = (T *)(at += padded(n * R * C * size));
    T *const q = (T *)(at + padded(n * side * side * size));
    const cudaStream_t stream = stream_of(cx);
    /* The squares' blocks by the shape alone: they are the order of a sum. */
    const unsigned blocks = (unsigned)i64_min(i64_div_up(R * C, THREADS), MOST_BLOCKS);
    const dim3 grid((unsigned)i64_div_up(blocks_for(cx, n * R * C, THREADS), n), (unsigned)n);
    LAUNCH(muon_momentum, dim3(blocks, (unsigned)n), THREADS, 0, stream, p, squares);
    LAUNCH((muon_scale<T>), grid, THREADS, 0, stream, x, p, squares, (int)blocks);
    const T *const o = newton_schulz(cx, x, next, a, q, n, R, C);
    LAUNCH((muon_apply<T>), grid, THREADS, 0, stream, p, o);
}

static void check_matrix(const OpContext *cx, const MuonMatrix *m, int64_t R, int64_t C) {
    CHECK_TENSOR(m->w, DTYPE_F32, R, C);
    CHECK_TENSOR(m->mom, DTYPE_F32, R, C);
    CHECK_TENSOR(m->grad, DTYPE_F32, R, C);
    CHECK_OPTIONAL(m->w_act, act_of(cx), R, C);
}

void cuda_muon(const OpContext *cx, const MuonMatrix *matrices, int64_t n, Muon c) {
    CHECK(n > 0, "%ld matrices", (long)n);
    const int64_t R = matrices[0].w.dim[0], C = matrices[0].w.dim[1], group = group_size(n, R, C);
    const OpShape shape = {n, 0, C, 0, 0, 0, 0, 0, R};
    CHECK_SCRATCH(cx, cuda_muon_scratch(&shape, &cx->backend->properties));
    MuonCall p = {};
    p.R = R;
    p.C = C;
    p.momentum = (float)c.momentum;
    p.rest = (float)(1 - c.momentum);
    p.scale = (float)(R > C ? sqrt((double)R / (double)C) : 1);
    p.weight_decay = (float)c.weight_decay;
    p.lr_scale = c.lr_scale;
    p.params = cx->params;
    p.result = cx->result;
    for (int64_t first = 0; first < n; first += group) {
        p.n = i64_min(group, n - first);
        for (int64_t i = 0; i < p.n; i++) {
            const MuonMatrix *const m = &matrices[first + i];
            check_matrix(cx, m, R, C);
            p.w[i] = (float *)m->w.data;
            p.mom[i] = (float *)m->mom.data;
            p.w_act[i] = m->w_act.data;
            p.grad[i] = (const float *)m->grad.data;
        }
        DISPATCH_ACT(cx, muon<T>(cx, p, group));
    }
}
