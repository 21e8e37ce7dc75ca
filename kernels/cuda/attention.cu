/* The attention ops (ops.h): checks at the border, the choice of a kernel family, and the
 * statistics of the backward pass. attention.cuh lists the families. */
#include "attention.cuh"

Heads attention_heads(Tensor qkv, int64_t n_heads, int64_t n_kv_heads) {
    const int64_t B = qkv.dim[0], T = qkv.dim[1], R = qkv.dim[2];
    CHECK(n_heads > 0 && n_kv_heads > 0 && n_heads % n_kv_heads == 0,
          "%ld heads on %ld key-value heads", (long)n_heads, (long)n_kv_heads);
    CHECK(R > 0 && R % (n_heads + 2 * n_kv_heads) == 0, "rows of %ld, %ld + 2*%ld heads", (long)R,
          (long)n_heads, (long)n_kv_heads);
    const int64_t D = R / (n_heads + 2 * n_kv_heads);
    CHECK(D <= ATTENTION_MAX_D, "heads of %ld: the cuda back end takes up to %d", (long)D,
          ATTENTION_MAX_D);
    CHECK(B * n_heads <= 65535 && T * R <= INT32_MAX, "%ld sequences of %ld rows of %ld", (long)B,
          (long)T, (long)R); /* limits of a grid, and of an index within a sequence */
    Heads s;
    s.B = (int)B;
    s.T = (int)T;
    s.H = (int)n_heads;
    s.K = (int)n_kv_heads;
    s.D = (int)D;
    s.R = (int)R;
    s.Tp = (int)i64_round_up(T, ATTENTION_PAD);
    s.scale = (float)(1 / sqrt((double)D));
    return s;
}

/* Rows of heads that are 16 bytes apart and bf16: for tensor cores. */
static bool takes_tensor_cores(const OpContext *cx, const Heads *s) {
    return act_of(cx) == DTYPE_BF16 && s->D % Pack<bf16>::N == 0;
}

void cuda_attention_forward(const OpContext *cx, Tensor y, Tensor lse, Tensor qkv, int64_t n_heads,
                            int64_t n_kv_heads, Dropout drop) {
    const DType act = act_of(cx);
    CHECK_TENSOR(qkv, act, -1, -1, -1);
    const Heads s = attention_heads(qkv, n_heads, n_kv_heads);
    CHECK_TENSOR(y, act, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(lse, DTYPE_F32, s.B, s.H, s.T);
    const AttentionForward p = {y.data, (float *)lse.data, qkv.data, cx->params, mask_rate(drop)};
    if (takes_tensor_cores(cx, &s)) {
        attention_forward_bf16(&p, &s, stream_of(cx));
        return;
    }
    const char *const k = (const char *)qkv.data + s.H * s.D * dtype_bytes(act);
    const AttentionKeys keys = {k,   k + s.K * s.D * dtype_bytes(act), (int64_t)s.T * s.R, s.D, s.R,
                                NULL};
    attention_forward_plain(&p, &keys, &s, act, stream_of(cx));
}

/* ---- backward ---- */

enum { THREADS = 256 };

/* Lanes that share a row of D values, N at a time: a power of two. */
static int lanes_of(int D, int N) {
    int lanes = 1;
    while (lanes < WARP && lanes * N < D) lanes *= 2;
    return lanes;
}

/* lse2 and delta (B*H, Tp), see AttentionBackward. `lanes` threads a row, rows in memory's order:
 * (b, t, h). */
template <typename T, int N>
__global__ void __launch_bounds__(THREADS)
    statistics_kernel(float *lse2, float *delta, const T *dy, const T *y, const float *lse,
                      Heads s, int lanes) {
    const int64_t row = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / lanes;
    const int h = (int)(row % s.H), t = (int)(row / s.H % s.Tp), b = (int)(row / s.H / s.Tp);
    const bool valid = b < s.B && t < s.T;
    const int64_t at = (((int64_t)b * s.T + t) * s.H + h) * s.D;
    float sum = 0;
    if (valid)
        for (int d = (int)threadIdx.x % lanes * N; d < s.D; d += lanes * N) {
            const Vec<T, N> g = vec_load<N>(dy + at + d), u = vec_load<N>(y + at + d);
#pragma unroll
            for (int i = 0; i < N; i++) sum = fmaf(to_float(g.v[i]), to_float(u.v[i]), sum);
        }
    for (int offset = lanes / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(ALL_LANES, sum, offset);
    if (b >= s.B || threadIdx.x % lanes != 0) return;
    const int64_t head = (int64_t)b * s.H + h;
    delta[head * s.Tp + t] = sum;
    lse2[head * s.Tp + t] = valid ? lse[head * s.T + t] * LOG2_E : INFINITY;
}

/* Floats of lse2 and delta together, of B*H rows. */
static int64_t statistics_floats(int64_t B, int64_t H, int64_t T) {
    return 2 * B * H * i64_round_up(T, ATTENTION_PAD);
}

int64_t cuda_attention_scratch(OpKind op, const OpShape *s, const DeviceProperties *device) {
    if (op == OP_ATTENTION_DECODE) return attention_decode_scratch(s, device);
    if (op != OP_ATTENTION_BACKWARD) return 0;
    const int64_t R = (s->H + 2 * s->K) * s->D;
    const int64_t tiles = s->B * attention_tiles(s->T, s->D) * R * (int64_t)sizeof(float);
    return statistics_floats(s->B, s->H, s->T) * (int64_t)sizeof(float) +
           i64_max(tiles, reduce_scratch(s->B * s->T, R, device));
}

void cuda_attention_backward(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor dy, Tensor y,
                             Tensor qkv, Tensor lse, int64_t n_heads, int64_t n_kv_heads,
                             Dropout drop) {
    const DType act = act_of(cx);
    CHECK_TENSOR(qkv, act, -1, -1, -1);
    const Heads s = attention_heads(qkv, n_heads, n_kv_heads);
    CHECK_TENSOR(dqkv, act, s.B, s.T, s.R);
    CHECK_OPTIONAL(dbias, DTYPE_F32, s.R);
    CHECK_TENSOR(dy, act, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(y, act, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(lse, DTYPE_F32, s.B, s.H, s.T);
    const OpShape shape = {s.B, s.T, 0, s.H, s.K, s.D, 0, 0, 0};
    CHECK_SCRATCH(cx, cuda_attention_scratch(OP_ATTENTION_BACKWARD, &shape,
                                             &cx->backend->properties));
    const int64_t rows = (int64_t)s.B * s.H * s.Tp;
    float *const lse2 = (float *)cx->scratch, *const delta = lse2 + rows;
    float *const sums = delta + rows;
    const cudaStream_t stream = stream_of(cx);
    /* Rows of y and of its gradient, several lanes each. */
    DISPATCH_ACT(cx, DISPATCH_PACK(T, packs<T>(s.D, dy.data, y.data),
                                   const int lanes = lanes_of(s.D, N);
                                   LAUNCH((statistics_kernel<T, N>),
                                          (unsigned)i64_div_up(rows * lanes, THREADS), THREADS, 0,
                                          stream, lse2, delta, (const T *)dy.data,
                                          (const T *)y.data, (const float *)lse.data, s, lanes)));
    AttentionBackward p = {dqkv.data, dy.data, qkv.data,         lse2, delta,
                           NULL,      cx->params, mask_rate(drop)};
    float *to = (float *)dbias.data;
    if (takes_tensor_cores(cx, &s)) {
        p.sums = to ? sums : NULL;
        attention_backward_bf16(&p, &s, stream);
        reduce_partials(cx, &to, 1, sums, s.B * attention_tiles(s.T, s.D), s.R);
    } else {
        attention_backward_plain(&p, &s, act, stream);
        if (to) reduce_columns(cx, to, dqkv.data, (int64_t)s.B * s.T, s.R, sums);
    }
}
