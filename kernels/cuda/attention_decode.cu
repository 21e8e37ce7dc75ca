/* Decode: new rows against a cache of keys and values.
 *
 * One new row a sequence, the everyday case, is bound by reading the cache. Its context is cut into
 * as many slices as keep the device busy; a block reads one slice for one head, 16 bytes a lane,
 * and leaves an unfinished softmax (maximum, sum, output); a second kernel combines them in the
 * slices' order. Where the slices end depends on the positions, which only the device knows.
 * More rows (a prompt), or head sizes that no 16 bytes divide: the plain kernel. */
#include "attention.cuh"

enum { WARPS = 4, THREADS = WARPS * WARP, MOST_SLICES = 64, SLICE_KEYS = 64 /* at least */ };

static int64_t slice_count(int64_t heads, const DeviceProperties *device) {
    return i64_max(1, i64_min(MOST_SLICES, 4 * (int64_t)device->n_units / i64_max(1, heads)));
}

/* Bytes for any batch up to this one: slices times heads is at most the larger of both. */
int64_t attention_decode_scratch(const OpShape *s, const DeviceProperties *device) {
    const int64_t rows = i64_max(s->B * s->H, 4 * (int64_t)device->n_units);
    return rows * (s->D + 2) * (int64_t)sizeof(float);
}

/* Copies new keys and values (B,T,R) to their places in the caches. Block: a row of a sequence. */
template <typename T>
__global__ void __launch_bounds__(THREADS) append_kernel(T *k_cache, T *v_cache, const T *qkv,
                                                         const int32_t *position, int context,
                                                         Heads s) {
    const int b = (int)blockIdx.x / s.T, t = (int)blockIdx.x % s.T, at = position[b] + t;
    const T *const from = qkv + (int64_t)blockIdx.x * s.R + s.H * s.D;
    for (int i = (int)threadIdx.x; i < s.K * s.D; i += THREADS) {
        const int64_t to = (((int64_t)b * s.K + i / s.D) * context + at) * s.D + i % s.D;
        k_cache[to] = from[i];
        v_cache[to] = from[s.K * s.D + i];
    }
}

/* Sizes and operands of the sliced kernels. */
template <typename T> struct Slices {
    float *partial; /* (B*H, n_slices, D + 2): output, maximum (base 2), sum */
    T *y, *k_cache, *v_cache;
    const T *qkv;
    const int32_t *position;
    int context, n_slices, lanes; /* lanes that share a key */
};

/* Keys of slice i of n: at least SLICE_KEYS each, so that the last ones may be empty. */
__device__ static inline int slice_start(int n, int n_slices, int i) {
    const int keys = max(SLICE_KEYS, (n + n_slices - 1) / n_slices);
    return min(n, i * keys);
}

/* Block (slice, head of a sequence). Groups of lanes take keys in turn, each with a softmax of its
 * own; the block's are combined in order. The newest key comes from qkv and goes to the cache. */
template <typename T>
__global__ void __launch_bounds__(THREADS) slice_kernel(Slices<T> p, Heads s) {
    constexpr int N = Pack<T>::N;
    SHARED(float, tops, THREADS);
    SHARED(float, sums, THREADS);
    SHARED(float, outs, THREADS *N);
    const int b = (int)blockIdx.y / s.H, h = (int)blockIdx.y % s.H, group = s.H / s.K;
    const int past = p.position[b], n = past + 1;
    const int start = slice_start(n, p.n_slices, (int)blockIdx.x);
    const int end = slice_start(n, p.n_slices, (int)blockIdx.x + 1);
    if (start >= end) return; /* the whole block */
    const int lane = (int)threadIdx.x % p.lanes, d = lane * N;
    const int owner = (int)threadIdx.x / p.lanes, owners = THREADS / p.lanes;
    const bool inside = d < s.D;
    const T *const row = p.qkv + (int64_t)b * s.R + d;
    const T *const new_k = row + (s.H + h / group) * s.D, *const new_v = new_k + s.K * s.D;
    const int64_t cache = ((int64_t)b * s.K + h / group) * p.context * s.D + d;
    const float scale2 = s.scale * LOG2_E;

    float q[N] = {}, out[N] = {}, top = -INFINITY, sum = 0;
    if (inside) {
        const Pack<T> x = pack_load(row + h * s.D);
#pragma unroll
        for (int i = 0; i < N; i++) q[i] = to_float(x.v[i]) * scale2;
    }
#pragma unroll 4
    for (int j0 = start; j0 < end; j0 += owners) { /* a whole warp goes round as often */
        const int j = j0 + owner;
        Pack<T> k = {}, v = {};
        float score = 0;
        if (inside && j < end) {
            k = pack_load(j < past ? p.k_cache + cache + (int64_t)j * s.D : new_k);
            v = pack_load(j < past ? p.v_cache + cache + (int64_t)j * s.D : new_v);
            if (j == past && h % group == 0) {
                pack_store(p.k_cache + cache + (int64_t)j * s.D, k);
                pack_store(p.v_cache + cache + (int64_t)j * s.D, v);
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++) score = fmaf(q[i], to_float(k.v[i]), score);
        for (int offset = p.lanes / 2; offset > 0; offset /= 2)
            score += __shfl_xor_sync(ALL_LANES, score, offset);
        if (j >= end) continue;
        const float highest = fmaxf(top, score), factor = exp2_approx(top - highest);
        const float pr = exp2_approx(score - highest);
        top = highest;
        sum = sum * factor + pr;
#pragma unroll
        for (int i = 0; i < N; i++) out[i] = fmaf(out[i], factor, pr * to_float(v.v[i]));
    }
    tops[threadIdx.x] = top;
    sums[threadIdx.x] = sum;
#pragma unroll
    for (int i = 0; i < N; i++) outs[i * THREADS + threadIdx.x] = out[i];
    BARRIER();
    if (owner != 0 || !inside) return;
    for (int o = 1; o < owners; o++) top = fmaxf(top, tops[o * p.lanes + lane]);
    float total[N] = {};
    sum = 0;
    for (int o = 0; o < owners; o++) {
        const int at = o * p.lanes + lane;
        const float factor = exp2_approx(tops[at] - top);
        sum = fmaf(sums[at], factor, sum);
#pragma unroll
        for (int i = 0; i < N; i++) total[i] = fmaf(outs[i * THREADS + at], factor, total[i]);
    }
    float *const to = p.partial + ((int64_t)blockIdx.y * p.n_slices + blockIdx.x) * (s.D + 2);
#pragma unroll
    for (int i = 0; i < N; i++) to[d + i] = total[i];
    if (lane == 0) {
        to[s.D] = top;
        to[s.D + 1] = sum;
    }
}

/* y (B,H*D). Block: a head of a sequence; thread: one of its D columns. */
template <typename T> __global__ void combine_kernel(Slices<T> p, Heads s) {
    const int b = (int)blockIdx.x / s.H, n = p.position[b] + 1, d = (int)threadIdx.x;
    const float *const from = p.partial + (int64_t)blockIdx.x * p.n_slices * (s.D + 2);
    float top = -INFINITY, sum = 0, out = 0;
    for (int i = 0; i < p.n_slices && slice_start(n, p.n_slices, i) < n; i++)
        top = fmaxf(top, from[i * (s.D + 2) + s.D]);
    for (int i = 0; i < p.n_slices && slice_start(n, p.n_slices, i) < n; i++) {
        const float *const slice = from + i * (s.D + 2);
        const float factor = exp2_approx(slice[s.D] - top);
        sum = fmaf(slice[s.D + 1], factor, sum);
        out = fmaf(slice[d], factor, out);
    }
    p.y[(int64_t)blockIdx.x * s.D + d] = from_float<T>(out / sum);
}

template <typename T>
static void decode_one(const OpContext *cx, Slices<T> p, const Heads *s) {
    const int64_t heads = (int64_t)s->B * s->H;
    const OpShape shape = {s->B, 1, 0, s->H, s->K, s->D, 0, 0, 0};
    CHECK_SCRATCH(cx, attention_decode_scratch(&shape, &cx->backend->properties));
    p.partial = (float *)cx->scratch;
    p.n_slices = (int)slice_count(heads, &cx->backend->properties);
    p.lanes = 1;
    while (p.lanes * Pack<T>::N < s->D) p.lanes *= 2;
    LAUNCH((slice_kernel<T>), dim3((unsigned)p.n_slices, (unsigned)heads), THREADS, 0,
           stream_of(cx), p, *s);
    LAUNCH((combine_kernel<T>), (unsigned)heads, (unsigned)s->D, 0, stream_of(cx), p, *s);
}

template <typename T>
static void decode_rows(const OpContext *cx, const Slices<T> &p, const Heads *s) {
    const int64_t context = p.context;
    LAUNCH((append_kernel<T>), (unsigned)(s->B * s->T), THREADS, 0, stream_of(cx), p.k_cache,
           p.v_cache, p.qkv, p.position, p.context, *s);
    const AttentionForward forward = {p.y, NULL, p.qkv, cx->params, mask_rate(DROPOUT_OFF)};
    const AttentionKeys keys = {p.k_cache,  p.v_cache, s->K * context * s->D, context * s->D, s->D,
                                p.position};
    attention_forward_plain(&forward, &keys, s, act_of(cx), stream_of(cx));
}

void cuda_attention_decode(const OpContext *cx, Tensor y, Tensor k_cache, Tensor v_cache,
                           Tensor qkv, Tensor position, int64_t n_heads, int64_t n_kv_heads) {
    const DType act = act_of(cx);
    CHECK_TENSOR(qkv, act, -1, -1, -1);
    const Heads s = attention_heads(qkv, n_heads, n_kv_heads);
    CHECK_TENSOR(y, act, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(k_cache, act, s.B, s.K, -1, s.D);
    const int64_t context = k_cache.dim[2];
    CHECK_TENSOR(v_cache, act, s.B, s.K, context, s.D);
    CHECK_TENSOR(position, DTYPE_I32, s.B);
    CHECK(s.T <= context && context <= INT32_MAX, "%d rows, a cache of %ld", s.T, (long)context);
    DISPATCH_ACT(cx, Slices<T> p = {};
                 p.y = (T *)y.data;
                 p.k_cache = (T *)k_cache.data;
                 p.v_cache = (T *)v_cache.data;
                 p.qkv = (const T *)qkv.data;
                 p.position = (const int32_t *)position.data;
                 p.context = (int)context;
                 if (s.T == 1 && packs<T>(s.D, y.data, k_cache.data, v_cache.data, qkv.data))
                     decode_one<T>(cx, p, &s);
                 else decode_rows<T>(cx, p, &s));
}
