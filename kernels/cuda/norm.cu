/* Residual add + LayerNorm or RMSNorm (ops.h). RMSNorm is LayerNorm of mean 0.
 *
 * Memory traffic a row, in act values: forward reads res_in and x, writes res and y; backward reads
 * dres, dy and res, writes dres and dx. Nothing is read twice: rows stay in registers. */
#include "mask.cuh"
#include "words.cuh"

/* ---- forward: a row belongs to one warp, or, where it is long, to a block of 8 ---- */

enum { BLOCK_WARPS = 8 };

template <typename T> struct NormForward {
    T *res, *y;
    float *mean, *rstd; /* mean NULL: RMSNorm */
    const T *res_in, *x, *w, *b;
    int64_t n_rows, C;
    float eps;
    const StepParams *params;
    MaskRate rate;
};

/* Sum over the row's lanes. part: WARPS floats of shared memory. */
template <int WARPS> __device__ static inline float row_sum(float x, float *part) {
    x = warp_sum(x);
    if (WARPS == 1) return x;
    BARRIER(); /* those who still read the sum before */
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
    BARRIER();
    x = 0;
    for (int i = 0; i < WARPS; i++) x += part[i];
    return x;
}

/* ITEMS vectors of N values a lane. */
template <typename T, int N, int ITEMS, int WARPS>
__global__ void __launch_bounds__(BLOCK_WARPS *WARP) norm_forward(NormForward<T> p) {
    SHARED(float, part, WARPS);
    constexpr int LANES = WARPS * WARP;
    const int lane = (int)threadIdx.x % LANES;
    const int64_t row = (int64_t)blockIdx.x * (BLOCK_WARPS / WARPS) + threadIdx.x / LANES;
    if (row >= p.n_rows) return; /* only where a row is one warp's, so no barrier follows */
    const int64_t start = row * p.C;
    Vec<T, N> in[ITEMS], add[ITEMS];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t c = ((int64_t)i * LANES + lane) * N;
        if (c >= p.C) continue;
        in[i] = vec_load<N>(p.res_in + start + c);
        if (p.x) add[i] = vec_load<N>(p.x + start + c);
    }
    float v[ITEMS][N], sum = 0;
    const Mask mask = mask_make(p.params, p.rate);
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t c = ((int64_t)i * LANES + lane) * N;
#pragma unroll
        for (int k = 0; k < N; k++) v[i][k] = 0;
        if (c >= p.C) continue;
        if (p.x) {
            float keep[N];
#pragma unroll
            for (int k = 0; k < N; k++) keep[k] = 1;
            if (mask.on)
                mask_fill<N>(keep, mask, (uint64_t)(mask.row_base + row) * (uint64_t)p.C + c);
#pragma unroll
            for (int k = 0; k < N; k++)
                in[i].v[k] = from_float<T>(to_float(in[i].v[k]) + keep[k] * to_float(add[i].v[k]));
            vec_store<N>(p.res + start + c, in[i]);
        }
#pragma unroll
        for (int k = 0; k < N; k++) {
            v[i][k] = to_float(in[i].v[k]);
            sum += v[i][k];
        }
    }
    const float inverse = 1.0f / (float)p.C;
    const float mean = p.mean ? row_sum<WARPS>(sum, part) * inverse : 0.0f;
    float squares = 0;
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        if (((int64_t)i * LANES + lane) * N < p.C)
#pragma unroll
            for (int k = 0; k < N; k++) {
                v[i][k] -= mean;
                squares += v[i][k] * v[i][k];
            }
    const float rstd = 1.0f / sqrtf(row_sum<WARPS>(squares, part) * inverse + p.eps);
    if (lane == 0) {
        if (p.mean) p.mean[row] = mean;
        p.rstd[row] = rstd;
    }
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t c = ((int64_t)i * LANES + lane) * N;
        if (c >= p.C) continue;
        Vec<T, N> w, b, out;
        if (p.w) w = vec_load<N>(p.w + c);
        if (p.b) b = vec_load<N>(p.b + c);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float y = v[i][k] * rstd;
            if (p.w) y *= to_float(w.v[k]);
            if (p.b) y += to_float(b.v[k]);
            out.v[k] = from_float<T>(y);
        }
        vec_store<N>(p.y + start + c, out);
    }
}

template <typename T, int N> static void forward(const OpContext *cx, const NormForward<T> &p) {
    const int64_t vectors = i64_div_up(p.C, N);
    const unsigned threads = BLOCK_WARPS * WARP;
    const unsigned by_warp = (unsigned)i64_div_up(p.n_rows, BLOCK_WARPS);
    const unsigned by_block = (unsigned)p.n_rows;
    const cudaStream_t stream = stream_of(cx);
    CHECK(vectors <= 8 * BLOCK_WARPS * WARP, "a norm of %ld columns; the longest here is %ld",
          (long)p.C, (long)(8 * BLOCK_WARPS * WARP * N));
    if (vectors <= WARP)
        LAUNCH((norm_forward<T, N, 1, 1>), by_warp, threads, 0, stream, p);
    else if (vectors <= 2 * WARP)
        LAUNCH((norm_forward<T, N, 2, 1>), by_warp, threads, 0, stream, p);
    else if (vectors <= 3 * WARP) /* 768 columns in bf16 */
        LAUNCH((norm_forward<T, N, 3, 1>), by_warp, threads, 0, stream, p);
    else if (vectors <= 4 * WARP)
        LAUNCH((norm_forward<T, N, 4, 1>), by_warp, threads, 0, stream, p);
    else if (vectors <= 2 * BLOCK_WARPS * WARP)
        LAUNCH((norm_forward<T, N, 2, BLOCK_WARPS>), by_block, threads, 0, stream, p);
    else
        LAUNCH((norm_forward<T, N, 8, BLOCK_WARPS>), by_block, threads, 0, stream, p);
}

template <typename T> static void forward_dispatch(const OpContext *cx, const NormForward<T> &p) {
    DISPATCH_PACK(T, packs<T>(p.C, p.res, p.y, p.res_in, p.x, p.w, p.b), forward<T, N>(cx, p));
}

void cuda_residual_norm_forward(const OpContext *cx, Tensor res, Tensor y, Tensor mean, Tensor rstd,
                                Tensor res_in, Tensor x, Tensor w, Tensor b, NormKind kind,
                                double eps, Dropout drop) {
    const DType act = act_of(cx);
    const int64_t n_rows = res_in.dim[0], C = res_in.dim[1];
    CHECK_TENSOR(res_in, act, n_rows, C);
    CHECK_TENSOR(y, act, n_rows, C);
    CHECK_TENSOR(rstd, DTYPE_F32, n_rows);
    if (kind == NORM_LAYER) CHECK_TENSOR(mean, DTYPE_F32, n_rows);
    CHECK_OPTIONAL(x, act, n_rows, C);
    if (x.data) CHECK_TENSOR(res, act, n_rows, C);
    CHECK_OPTIONAL(w, act, C);
    CHECK_OPTIONAL(b, act, C);
    float *const means = kind == NORM_LAYER ? (float *)mean.data : NULL;
    DISPATCH_ACT(cx, forward_dispatch(cx, NormForward<T>{(T *)res.data, (T *)y.data, means,
                                                         (float *)rstd.data, (const T *)res_in.data,
                                                         (const T *)x.data, (const T *)w.data,
                                                         (const T *)b.data, n_rows, C, (float)eps,
                                                         cx->params, mask_rate(drop)}));
}

/* ---- backward ----
 *
 * A block takes a chunk of rows, ROWS at a time; each thread owns columns, and keeps their sums for
 * dw, db and dbias_prev in registers until the chunk's end. The row's two means go through one
 * barrier, since the array for the next rows is another one. Where registers allow it, the next
 * rows are on their way meanwhile: else a block would wait in turn for memory and for its sums. */

enum { MOST_THREADS = 256, MOST_WARPS = MOST_THREADS / WARP, SUMS = 3, LEAST_ROWS = 16 };
enum { RESIDENT_THREADS = 512 /* of a multiprocessor: at 128 registers each */ };

template <typename T> struct NormBackward {
    T *dres, *dx;
    float *partial; /* (chunks, SUMS, C) */
    const T *dy, *res, *w;
    const float *mean, *rstd;   /* mean NULL: RMSNorm */
    int64_t n_total, n_rows, C; /* n_rows: of a chunk */
    const StepParams *params;
    MaskRate rate;
};

static int64_t block_threads(int64_t C, int N) {
    return i64_min(MOST_THREADS, i64_round_up(i64_div_up(C, N), WARP));
}

/* Blocks that run at once. */
static int64_t most_chunks(int64_t C, int N, const DeviceProperties *device) {
    return RESIDENT_THREADS / block_threads(C, N) * i64_max(1, device->n_units);
}

/* For the most chunks that so many rows or fewer are cut into, with the smallest blocks. */
int64_t cuda_norm_scratch(const OpShape *s, const DeviceProperties *device) {
    const int64_t most = most_chunks(s->C, Pack<bf16>::N, device);
    const int64_t chunks = i64_min(most, i64_div_up(s->B * s->T, LEAST_ROWS));
    return chunks * SUMS * s->C * (int64_t)sizeof(float);
}

template <typename T, int N, int ITEMS, int ROWS> struct NormRows {
    Words<T, N> dy[ROWS][ITEMS], res[ROWS][ITEMS], dres[ROWS][ITEMS];
};

/* Rows from row0 on; beyond `last` its last one again. */
template <typename T, int N, int ITEMS, int ROWS>
__device__ static inline void load_rows(NormRows<T, N, ITEMS, ROWS> &rows, const NormBackward<T> &p,
                                        int64_t row0, int64_t last) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            const int64_t c = ((int64_t)i * blockDim.x + threadIdx.x) * N;
            const int64_t at = i64_min(row0 + r, last - 1) * p.C + c;
            if (c >= p.C) continue;
            rows.dy[r][i] = words_load<N>(p.dy + at);
            rows.res[r][i] = words_load<N>(p.res + at);
            rows.dres[r][i] = words_load<N>(p.dres + at);
        }
}

/* The two sums of each of ROWS rows over all threads of the block. */
template <int ROWS>
__device__ static inline void block_sums(float sum[ROWS][2], float (*shared)[2 * ROWS]) {
    const int warp = (int)threadIdx.x / WARP, n_warps = (int)blockDim.x / WARP;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int s = 0; s < 2; s++) {
            sum[r][s] = warp_sum(sum[r][s]);
            if (threadIdx.x % WARP == 0) shared[warp][2 * r + s] = sum[r][s];
        }
    BARRIER();
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int s = 0; s < 2; s++) {
            sum[r][s] = 0;
            for (int k = 0; k < n_warps; k++) sum[r][s] += shared[k][2 * r + s];
        }
}

template <typename T, int N, int ITEMS, int ROWS>
__global__ void __launch_bounds__(MOST_THREADS, ITEMS == 1 ? RESIDENT_THREADS / MOST_THREADS : 1)
    norm_backward(NormBackward<T> p) {
    constexpr bool AHEAD = ITEMS == 1;
    typedef float Sums[MOST_WARPS][2 * ROWS];
    SHARED(Sums, shared, 2);
    const int64_t first = (int64_t)blockIdx.x * p.n_rows;
    const int64_t last = i64_min(p.n_total, first + p.n_rows);
    const Mask mask = mask_make(p.params, p.rate);
    const float inverse = 1.0f / (float)p.C;
    float w[ITEMS][N], sum_w[ITEMS][N], sum_b[ITEMS][N], sum_prev[ITEMS][N];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t c = ((int64_t)i * blockDim.x + threadIdx.x) * N;
        Vec<T, N> weight;
        if (p.w && c < p.C) weight = vec_load<N>(p.w + c);
#pragma unroll
        for (int k = 0; k < N; k++) {
            w[i][k] = p.w && c < p.C ? to_float(weight.v[k]) : 1.0f;
            sum_w[i][k] = sum_b[i][k] = sum_prev[i][k] = 0;
        }
    }
    NormRows<T, N, ITEMS, ROWS> now, next;
    if constexpr (AHEAD) load_rows(next, p, first, last);
    int parity = 0;
    for (int64_t row0 = first; row0 < last; row0 += ROWS, parity ^= 1) {
        float mean[ROWS], rstd[ROWS], sum[ROWS][2];
        if constexpr (AHEAD) {
            now = next;
            if (row0 + ROWS < last) load_rows(next, p, row0 + ROWS, last);
        } else {
            load_rows(now, p, row0, last);
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int64_t row = i64_min(row0 + r, last - 1);
            mean[r] = p.mean ? p.mean[row] : 0.0f;
            rstd[r] = p.rstd[row];
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            sum[r][0] = sum[r][1] = 0;
            if (row0 + r >= last) continue;
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                if (((int64_t)i * blockDim.x + threadIdx.x) * N >= p.C) continue;
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const float xhat = (word_float(now.res[r][i], k) - mean[r]) * rstd[r];
                    const float d = word_float(now.dy[r][i], k), g = d * w[i][k];
                    sum[r][0] += g;
                    sum[r][1] += g * xhat;
                    sum_w[i][k] += d * xhat;
                    sum_b[i][k] += d;
                }
            }
        }
        block_sums<ROWS>(sum, shared[parity]);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (row0 + r >= last) continue;
            const int64_t start = (row0 + r) * p.C;
            const float mean_g = p.mean ? sum[r][0] * inverse : 0.0f;
            const float mean_gx = sum[r][1] * inverse;
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int64_t c = ((int64_t)i * blockDim.x + threadIdx.x) * N;
                if (c >= p.C) continue;
                float keep[N];
                Vec<T, N> dres, dx;
#pragma unroll
                for (int k = 0; k < N; k++) {
                    keep[k] = 1;
                    const float xhat = (word_float(now.res[r][i], k) - mean[r]) * rstd[r];
                    const float g = word_float(now.dy[r][i], k) * w[i][k];
                    dres.v[k] = from_float<T>(word_float(now.dres[r][i], k) +
                                              rstd[r] * (g - mean_g - xhat * mean_gx));
                }
                vec_store<N>(p.dres + start + c, dres);
                if (mask.on)
                    mask_fill<N>(keep, mask,
                                 (uint64_t)(mask.row_base + row0 + r) * (uint64_t)p.C + c);
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const float d = keep[k] * to_float(dres.v[k]);
                    dx.v[k] = from_float<T>(d);
                    sum_prev[i][k] += d;
                }
                if (p.dx) vec_store<N>(p.dx + start + c, dx);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int64_t c = ((int64_t)i * blockDim.x + threadIdx.x) * N;
        float *const to = p.partial + (int64_t)blockIdx.x * SUMS * p.C + c;
        if (c >= p.C) continue;
#pragma unroll
        for (int k = 0; k < N; k++) {
            to[k] = sum_w[i][k];
            to[p.C + k] = sum_b[i][k];
            to[2 * p.C + k] = sum_prev[i][k];
        }
    }
}

/* Returns the number of chunks. */
template <typename T, int N> static int64_t backward(const OpContext *cx, NormBackward<T> p) {
    enum { LONG = 4 }; /* vectors a thread where a row has more than MOST_THREADS of them */
    const int64_t vectors = i64_div_up(p.C, N);
    CHECK(vectors <= LONG * MOST_THREADS, "a norm of %ld columns; the longest here is %ld",
          (long)p.C, (long)(LONG * MOST_THREADS * N));
    const int64_t most = most_chunks(p.C, N, &cx->backend->properties);
    p.n_rows = i64_max(LEAST_ROWS, i64_div_up(p.n_total, most));
    const int64_t chunks = i64_div_up(p.n_total, p.n_rows);
    const unsigned grid = (unsigned)chunks, threads = (unsigned)block_threads(p.C, N);
    if (vectors <= MOST_THREADS)
        LAUNCH((norm_backward<T, N, 1, 2>), grid, threads, 0, stream_of(cx), p);
    else
        LAUNCH((norm_backward<T, N, LONG, 1>), grid, threads, 0, stream_of(cx), p);
    return chunks;
}

template <typename T>
static int64_t backward_dispatch(const OpContext *cx, const NormBackward<T> &p) {
    DISPATCH_PACK(T, packs<T>(p.C, p.dres, p.dx, p.dy, p.res, p.w),
                  return (backward<T, N>(cx, p)));
}

void cuda_residual_norm_backward(const OpContext *cx, Tensor dres, Tensor dx, Tensor dw, Tensor db,
                                 Tensor dbias_prev, Tensor dy, Tensor res, Tensor mean, Tensor rstd,
                                 Tensor w, NormKind kind, Dropout drop) {
    const DType act = act_of(cx);
    const int64_t n_total = dres.dim[0], C = dres.dim[1];
    CHECK_TENSOR(dres, act, n_total, C);
    CHECK_OPTIONAL(dx, act, n_total, C);
    CHECK_OPTIONAL(dw, DTYPE_F32, C);
    CHECK_OPTIONAL(db, DTYPE_F32, C);
    CHECK_OPTIONAL(dbias_prev, DTYPE_F32, C);
    CHECK_TENSOR(dy, act, n_total, C);
    CHECK_TENSOR(res, act, n_total, C);
    if (kind == NORM_LAYER) CHECK_TENSOR(mean, DTYPE_F32, n_total);
    CHECK_TENSOR(rstd, DTYPE_F32, n_total);
    CHECK_OPTIONAL(w, act, C);
    CHECK(dx.data || drop.rate <= 0, "dropout %g without dx", (double)drop.rate);
    const DeviceProperties *const device = &cx->backend->properties;
    const OpShape shape = {1, n_total, C, 0, 0, 0, 0, 0, 0};
    CHECK_SCRATCH(cx, cuda_norm_scratch(&shape, device));
    float *const partial = (float *)cx->scratch;
    int64_t n_chunks = 0;
    const float *const means = kind == NORM_LAYER ? (const float *)mean.data : NULL;
    DISPATCH_ACT(cx, n_chunks = backward_dispatch(
                         cx, NormBackward<T>{(T *)dres.data, (T *)dx.data, partial,
                                             (const T *)dy.data, (const T *)res.data,
                                             (const T *)w.data, means, (const float *)rstd.data,
                                             n_total, 0, C, cx->params, mask_rate(drop)}));
    float *const to[SUMS] = {(float *)dw.data, (float *)db.data, (float *)dbias_prev.data};
    reduce_partials(cx, to, SUMS, partial, n_chunks, C);
}
