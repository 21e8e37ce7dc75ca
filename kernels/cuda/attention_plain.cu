/* Causal attention for every type and head size: plain f32 arithmetic, one thread a row, tiles of
 * the other side's rows in shared memory. Made for checking (f32) and for head sizes that are no
 * multiple of 8, not for speed. Rows of tiles have DP columns, D rounded up; the rest are 0. */
#include "attention.cuh"

enum { ROWS = 64, /* threads of a block, each with a row */ STEP = 16 /* rows of a tile */ };

/* tile (STEP, DP) = rows 0.. of `from`, `stride` apart; 0 in rows from n_rows, columns from D. */
template <int DP, typename T>
__device__ static inline void tile_fill(float *tile, const T *from, int64_t stride, int n_rows,
                                        int D) {
    for (int i = (int)threadIdx.x; i < STEP * DP; i += ROWS) {
        const int row = i / DP, d = i % DP;
        tile[i] = row < n_rows && d < D ? to_float(from[row * stride + d]) : 0;
    }
}

template <int DP, typename T>
__device__ static inline void row_load(float row[DP], const T *from, bool valid, int D) {
#pragma unroll
    for (int d = 0; d < DP; d++) row[d] = valid && d < D ? to_float(from[d]) : 0;
}

template <int DP, typename T>
__device__ static inline void row_store(T *to, const float row[DP], float factor, int D) {
#pragma unroll
    for (int d = 0; d < DP; d++)
        if (d < D) to[d] = from_float<T>(row[d] * factor);
}

template <int DP> __device__ static inline float dot(const float a[DP], const float *b) {
    float sum = 0;
#pragma unroll
    for (int d = 0; d < DP; d++) sum = fmaf(a[d], b[d], sum);
    return sum;
}

template <int DP> __device__ static inline void add_scaled(float to[DP], float x, const float *v) {
#pragma unroll
    for (int d = 0; d < DP; d++) to[d] = fmaf(x, v[d], to[d]);
}

/* Block (tile of queries, head of a sequence). lse may be NULL. Query i is row i of qkv and sees
 * keys 0 .. position + i. */
template <typename T, int DP>
__global__ void __launch_bounds__(ROWS)
    forward_kernel(AttentionForward p, AttentionKeys from, Heads s) {
    SHARED(float, k_tile, STEP *DP);
    SHARED(float, v_tile, STEP *DP);
    const int b = (int)blockIdx.y / s.H, h = (int)blockIdx.y % s.H, kv = h / (s.H / s.K);
    const int i0 = (int)blockIdx.x * ROWS, i = i0 + (int)threadIdx.x;
    const int past = from.position ? from.position[b] : 0;
    const int64_t row = (int64_t)b * s.T + i, keys = b * from.batch + kv * from.head;
    const int n_keys = past + min(i0 + ROWS, s.T);
    const Mask mask = mask_make(p.params, p.drop);

    float q[DP], out[DP] = {}, top = -INFINITY, sum = 0;
    row_load<DP>(q, (const T *)p.qkv + row * s.R + h * s.D, i < s.T, s.D);
    for (int k0 = 0; k0 < n_keys; k0 += STEP) {
        BARRIER(); /* the tile before has been read */
        const int64_t at = keys + k0 * from.row;
        tile_fill<DP>(k_tile, (const T *)from.k + at, from.row, n_keys - k0, s.D);
        tile_fill<DP>(v_tile, (const T *)from.v + at, from.row, n_keys - k0, s.D);
        BARRIER();
        const int n = min(STEP, past + i + 1 - k0);
        for (int j = 0; j < n; j++) {
            const float score = dot<DP>(q, k_tile + j * DP) * s.scale;
            if (score > top) {
                const float factor = expf(top - score);
                sum *= factor;
#pragma unroll
                for (int d = 0; d < DP; d++) out[d] *= factor;
                top = score;
            }
            float pr = expf(score - top);
            sum += pr;
            if (mask.on)
                pr = attention_keeps(mask, attention_mask_row(mask, s, b, h, i) +
                                               (uint64_t)(k0 + j))
                         ? pr * mask.scale
                         : 0;
            add_scaled<DP>(out, pr, v_tile + j * DP);
        }
    }
    if (i >= s.T) return;
    row_store<DP>((T *)p.y + (row * s.H + h) * s.D, out, 1 / sum, s.D);
    if (p.lse) p.lse[((int64_t)b * s.H + h) * s.T + i] = top + logf(sum);
}

/* p and ds of query i and key j from q.k and dy.v. */
struct Pair {
    float p, ds; /* p: times the mask */
};
__device__ static inline Pair pair_of(float qk, float dyv, float lse2, float delta, const Mask &m,
                                      const Heads &s, int b, int h, int i, int j) {
    const float p = exp2f(qk * s.scale * LOG2_E - lse2);
    float keep = 1;
    if (m.on)
        keep = attention_keeps(m, attention_mask_row(m, s, b, h, i) + (uint64_t)j) ? m.scale : 0;
    return {p * keep, p * (dyv * keep - delta)};
}

/* dq. Block (tile of queries, head of a sequence). */
template <typename T, int DP>
__global__ void __launch_bounds__(ROWS) queries_kernel(AttentionBackward p, Heads s) {
    SHARED(float, k_tile, STEP *DP);
    SHARED(float, v_tile, STEP *DP);
    const int b = (int)blockIdx.y / s.H, h = (int)blockIdx.y % s.H;
    const int i0 = (int)blockIdx.x * ROWS, i = i0 + (int)threadIdx.x;
    const int64_t row = (int64_t)b * s.T + i, stats = (int64_t)blockIdx.y * s.Tp + i;
    const T *const keys = (const T *)p.qkv + (int64_t)b * s.T * s.R +
                          (s.H + h / (s.H / s.K)) * s.D;
    const int n_keys = min(i0 + ROWS, s.T);
    const Mask mask = mask_make(p.params, p.drop);

    float q[DP], dy[DP], dq[DP] = {};
    row_load<DP>(q, (const T *)p.qkv + row * s.R + h * s.D, i < s.T, s.D);
    row_load<DP>(dy, (const T *)p.dy + (row * s.H + h) * s.D, i < s.T, s.D);
    const float lse2 = p.lse2[stats], delta = p.delta[stats];
    for (int k0 = 0; k0 < n_keys; k0 += STEP) {
        BARRIER(); /* the tile before has been read */
        tile_fill<DP>(k_tile, keys + (int64_t)k0 * s.R, s.R, n_keys - k0, s.D);
        tile_fill<DP>(v_tile, keys + (int64_t)k0 * s.R + s.K * s.D, s.R, n_keys - k0, s.D);
        BARRIER();
        const int n = min(STEP, i + 1 - k0);
        for (int j = 0; j < n; j++) {
            const float *const k = k_tile + j * DP;
            const Pair x = pair_of(dot<DP>(q, k), dot<DP>(dy, v_tile + j * DP), lse2, delta, mask,
                                   s, b, h, i, k0 + j);
            add_scaled<DP>(dq, x.ds, k);
        }
    }
    if (i < s.T) row_store<DP>((T *)p.dqkv + row * s.R + h * s.D, dq, s.scale, s.D);
}

/* dk and dv. Block (tile of keys, key-value head of a sequence). */
template <typename T, int DP>
__global__ void __launch_bounds__(ROWS) keys_kernel(AttentionBackward p, Heads s) {
    SHARED(float, q_tile, STEP *DP);
    SHARED(float, dy_tile, STEP *DP);
    const int b = (int)blockIdx.y / s.K, kv = (int)blockIdx.y % s.K, group = s.H / s.K;
    const int j0 = (int)blockIdx.x * ROWS, j = j0 + (int)threadIdx.x;
    const int64_t columns = ((int64_t)b * s.T + j) * s.R + (s.H + kv) * s.D;
    const Mask mask = mask_make(p.params, p.drop);

    float k[DP], v[DP], dk[DP] = {}, dv[DP] = {};
    row_load<DP>(k, (const T *)p.qkv + columns, j < s.T, s.D);
    row_load<DP>(v, (const T *)p.qkv + columns + s.K * s.D, j < s.T, s.D);
    for (int h = kv * group; h < (kv + 1) * group; h++)
        for (int q0 = j0; q0 < s.T; q0 += STEP) {
            BARRIER(); /* the tile before has been read */
            const int64_t row = (int64_t)b * s.T + q0;
            tile_fill<DP>(q_tile, (const T *)p.qkv + row * s.R + h * s.D, s.R, s.T - q0, s.D);
            tile_fill<DP>(dy_tile, (const T *)p.dy + (row * s.H + h) * s.D, s.H * s.D, s.T - q0,
                          s.D);
            BARRIER();
            const int64_t stats = ((int64_t)b * s.H + h) * s.Tp + q0;
            for (int i = max(0, j - q0); i < min(STEP, s.T - q0); i++) {
                const float *const q = q_tile + i * DP, *const dy = dy_tile + i * DP;
                const Pair x = pair_of(dot<DP>(k, q), dot<DP>(v, dy), p.lse2[stats + i],
                                       p.delta[stats + i], mask, s, b, h, q0 + i, j);
                add_scaled<DP>(dv, x.p, dy);
                add_scaled<DP>(dk, x.ds, q);
            }
        }
    if (j >= s.T) return;
    row_store<DP>((T *)p.dqkv + columns, dk, s.scale, s.D);
    row_store<DP>((T *)p.dqkv + columns + s.K * s.D, dv, 1, s.D);
}

template <typename T, int DP>
static void forward_launch(const AttentionForward *p, const AttentionKeys *keys, const Heads *s,
                           cudaStream_t stream) {
    const dim3 grid((unsigned)i64_div_up(s->T, ROWS), (unsigned)(s->B * s->H));
    LAUNCH((forward_kernel<T, DP>), grid, ROWS, 0, stream, *p, *keys, *s);
}

template <typename T, int DP>
static void backward_launch(const AttentionBackward *p, const Heads *s, cudaStream_t stream) {
    const unsigned tiles = (unsigned)i64_div_up(s->T, ROWS);
    LAUNCH((keys_kernel<T, DP>), dim3(tiles, (unsigned)(s->B * s->K)), ROWS, 0, stream, *p, *s);
    LAUNCH((queries_kernel<T, DP>), dim3(tiles, (unsigned)(s->B * s->H)), ROWS, 0, stream, *p, *s);
}

void attention_forward_plain(const AttentionForward *p, const AttentionKeys *keys, const Heads *s,
                             DType act, cudaStream_t stream) {
    const bool half = act == DTYPE_BF16;
    if (s->D <= 32)
        (half ? forward_launch<bf16, 32> : forward_launch<float, 32>)(p, keys, s, stream);
    else if (s->D <= 64)
        (half ? forward_launch<bf16, 64> : forward_launch<float, 64>)(p, keys, s, stream);
    else (half ? forward_launch<bf16, 128> : forward_launch<float, 128>)(p, keys, s, stream);
}

void attention_backward_plain(const AttentionBackward *p, const Heads *s, DType act,
                              cudaStream_t stream) {
    const bool half = act == DTYPE_BF16;
    if (s->D <= 32) (half ? backward_launch<bf16, 32> : backward_launch<float, 32>)(p, s, stream);
    else if (s->D <= 64)
        (half ? backward_launch<bf16, 64> : backward_launch<float, 64>)(p, s, stream);
    else (half ? backward_launch<bf16, 128> : backward_launch<float, 128>)(p, s, stream);
}
