/* The recurrence of ops.h: a launch for each step, as a step needs all of the one before. A block
 * makes a tile of ROWS x COLS of the state, over panels of DEPTH terms in shared memory, by plain
 * multiply-adds in float: the products of a step are small, and time goes to launches, which a
 * graph makes cheap. */
#include "common.cuh"

enum { THREADS = 256, ROWS = 16, COLS = 64, DEPTH = 32, EACH = ROWS * COLS / THREADS };

/* out = in + before w^T, then tanh; BACKWARD: out = (in + before w) * (1 - h^2). before may be
 * NULL: zeros. */
template <typename T, bool BACKWARD>
__global__ void recurrence_step(T *out, const T *in, const T *before, const T *w, const T *h,
                                int64_t B, int64_t C) {
    SHARED(float, a, ROWS * (DEPTH + 1));
    SHARED(float, b, DEPTH * (COLS + 1));
    const int64_t row0 = (int64_t)blockIdx.y * ROWS, col0 = (int64_t)blockIdx.x * COLS;
    const int column = (int)threadIdx.x % COLS, first = (int)threadIdx.x / COLS;
    float sum[EACH] = {0};
    for (int64_t k0 = 0; before && k0 < C; k0 += DEPTH) {
        for (int i = (int)threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
            const int64_t row = row0 + i / DEPTH, k = k0 + i % DEPTH;
            a[i / DEPTH * (DEPTH + 1) + i % DEPTH] =
                row < B && k < C ? to_float(before[row * C + k]) : 0;
        }
        /* Neighbouring threads read neighbouring values of w: terms of a row forward, columns of a
         * term backward. */
        for (int i = (int)threadIdx.x; i < DEPTH * COLS; i += THREADS) {
            const int term = BACKWARD ? i / COLS : i % DEPTH;
            const int col = BACKWARD ? i % COLS : i / DEPTH;
            const int64_t k = k0 + term, c = col0 + col;
            const bool valid = k < C && c < C;
            b[term * (COLS + 1) + col] = valid ? to_float(w[BACKWARD ? k * C + c : c * C + k]) : 0;
        }
        BARRIER();
        for (int k = 0; k < DEPTH; k++) {
            const float x = b[k * (COLS + 1) + column];
#pragma unroll
            for (int i = 0; i < EACH; i++)
                sum[i] += a[(first + i * (THREADS / COLS)) * (DEPTH + 1) + k] * x;
        }
        BARRIER();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int64_t row = row0 + first + i * (THREADS / COLS), c = col0 + column;
        if (row >= B || c >= C) continue;
        const float value = to_float(in[row * C + c]) + sum[i];
        const float s = BACKWARD ? to_float(h[row * C + c]) : 0;
        out[row * C + c] = from_float<T>(BACKWARD ? value * (1 - s * s) : tanhf(value));
    }
}

/* Values of one step of a (T,B,C) tensor. */
template <typename T> static T *at_step(Tensor x, int64_t t) {
    return (T *)x.data + t * x.dim[1] * x.dim[2];
}

template <typename T, bool BACKWARD>
static void run_step(const OpContext *cx, Tensor out, Tensor in, const T *before, Tensor w,
                     Tensor h, int64_t t) {
    const int64_t B = out.dim[1], C = out.dim[2];
    const dim3 grid((unsigned)i64_div_up(C, COLS), (unsigned)i64_div_up(B, ROWS));
    LAUNCH((recurrence_step<T, BACKWARD>), grid, THREADS, 0, stream_of(cx), at_step<T>(out, t),
           at_step<T>(in, t), before, (const T *)w.data, BACKWARD ? at_step<T>(h, t) : NULL, B, C);
}

void cuda_recurrence_forward(const OpContext *cx, Tensor h, Tensor u, Tensor h0, Tensor w) {
    const int64_t steps = u.dim[0], B = u.dim[1], C = u.dim[2];
    CHECK_TENSOR(u, act_of(cx), steps, B, C);
    CHECK_TENSOR(h, act_of(cx), steps, B, C);
    CHECK_TENSOR(h0, act_of(cx), B, C);
    CHECK_TENSOR(w, act_of(cx), C, C);
    for (int64_t t = 0; t < steps; t++)
        DISPATCH_ACT(cx, run_step<T, false>(cx, h, u,
                                            t ? at_step<T>(h, t - 1) : (const T *)h0.data, w, h,
                                            t));
}

void cuda_recurrence_backward(const OpContext *cx, Tensor du, Tensor dh, Tensor h, Tensor w) {
    const int64_t steps = h.dim[0], B = h.dim[1], C = h.dim[2];
    CHECK_TENSOR(h, act_of(cx), steps, B, C);
    CHECK_TENSOR(du, act_of(cx), steps, B, C);
    CHECK_TENSOR(dh, act_of(cx), steps, B, C);
    CHECK_TENSOR(w, act_of(cx), C, C);
    for (int64_t t = steps - 1; t >= 0; t--)
        DISPATCH_ACT(cx, run_step<T, true>(cx, du, dh,
                                           t + 1 < steps ? at_step<T>(du, t + 1) : NULL, w, h, t));
}
