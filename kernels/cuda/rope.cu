/* Rotary positions and QK-norm (ops.h), in place on packed rows of q, k, v.
 *
 * Cosines and sines are computed once for all heads and sequences, in double, into a table in
 * scratch: in float the angle of a far position would have lost its last digits. Rotating back is
 * rotating by the negative angle, and so is NanoChat's sign.
 *
 * A warp takes a row; a group of its lanes takes a head, and each lane holds vectors of N values of
 * the head's first half and the same of its second half. */
#include "common.cuh"
#include <math.h>

enum { THREADS = 128, MOST_PAIRS = 256 };

/* Rows of qkv are R apart. */
typedef struct Shape {
    int64_t B, T, H, K, D, R;
} Shape;

static Shape shape_check(const OpContext *cx, Tensor qkv, int64_t H, int64_t K) {
    const int64_t R = qkv.dim[2];
    CHECK_TENSOR(qkv, act_of(cx), -1, -1, R);
    CHECK(H > 0 && K > 0 && R > 0 && R % (2 * (H + 2 * K)) == 0,
          "rows of %ld, %ld + 2*%ld heads of even size", (long)R, (long)H, (long)K);
    const int64_t D = R / (H + 2 * K);
    CHECK(D / 2 <= MOST_PAIRS, "heads of %ld; at most %d", (long)D, 2 * MOST_PAIRS);
    return Shape{qkv.dim[0], qkv.dim[1], H, K, D, R};
}

/* ---- the table: (rows, 2, D/2): cosines, then sines, of each position ---- */

typedef struct Frequencies {
    double turn[MOST_PAIRS]; /* the angle of every pair at position 1 */
} Frequencies;

__global__ void rope_table(float *table, Frequencies f, const int32_t *position, int64_t T,
                           int64_t n_rows, int half) {
    const int64_t stride = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n_rows * half;
         i += stride) {
        const int64_t row = i / half;
        const int pair = (int)(i % half);
        const int64_t place = (position ? position[row / T] : 0) + row % T;
        const double angle = (double)place * f.turn[pair];
        table[row * 2 * half + pair] = (float)cos(angle);
        table[row * 2 * half + half + pair] = (float)sin(angle);
    }
}

static int64_t table_bytes(int64_t B, int64_t T, int64_t D) {
    return i64_round_up(B * T * D * (int64_t)sizeof(float), 256);
}

int64_t cuda_rope_scratch(OpKind op, const OpShape *s, const DeviceProperties *device) {
    const int64_t sums = op == OP_ROTATE_BACKWARD
                             ? reduce_scratch(s->B * s->T, (s->H + 2 * s->K) * s->D, device)
                             : 0;
    return table_bytes(s->B, s->T, s->D) + sums;
}

/* Frequencies are negative where the call turns the other way, and 0 where it does not turn: cosine
 * 1 and sine 0 change no value. With positions there is a row for each of B*T, else one of T. */
static float *table_make(const OpContext *cx, const Shape *s, Rotation r, const int32_t *position,
                         bool back) {
    const OpShape shape = {s->B, s->T, 0, s->H, s->K, s->D, 0, 0, 0};
    CHECK_SCRATCH(cx, cuda_rope_scratch(back ? OP_ROTATE_BACKWARD : OP_ROTATE_FORWARD, &shape,
                                        &cx->backend->properties));
    Frequencies f = {};
    for (int64_t i = 0; i < s->D / 2; i++) {
        const double turn = pow(r.base, -2.0 * (double)i / (double)s->D);
        f.turn[i] = !r.rotates ? 0 : r.reversed != back ? -turn : turn;
    }
    const int64_t n_rows = position ? s->B * s->T : s->T;
    LAUNCH(rope_table, blocks_for(cx, n_rows * s->D / 2, THREADS), THREADS, 0, stream_of(cx),
           (float *)cx->scratch, f, position, s->T, n_rows, (int)(s->D / 2));
    return (float *)cx->scratch;
}

/* ---- the turn ---- */

template <typename T> struct RopeCall {
    T *x;        /* turned in place: qkv, or dqkv */
    const T *y;  /* backward with norm: qkv of the forward pass */
    float *rstd; /* (rows, heads), or NULL; written by forward, read by backward */
    const float *table;
    int64_t n_rows, table_rows, R;
    int heads, half;
    float eps;
};

/* Sum over the group of GROUP lanes that this lane is in. */
template <int GROUP> __device__ static inline float group_sum(float x) {
#pragma unroll
    for (int offset = GROUP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

/* ITEMS vectors of each half a lane: GROUP * ITEMS * N >= half. */
template <typename T, int N, int GROUP, int ITEMS, bool BACK>
__global__ void __launch_bounds__(THREADS) rope_turn(RopeCall<T> p) {
    const int lane = (int)threadIdx.x % WARP, member = lane % GROUP;
    const int64_t step = (int64_t)gridDim.x * (THREADS / WARP);
    const float inverse = 0.5f / (float)p.half;
    for (int64_t row = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP; row < p.n_rows;
         row += step) {
        const float *const angles = p.table + row % p.table_rows * 2 * p.half;
        float cosine[ITEMS][N], sine[ITEMS][N];
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
#pragma unroll
            for (int k = 0; k < N; k++) {
                const int pair = (i * GROUP + member) * N + k;
                cosine[i][k] = pair < p.half ? angles[pair] : 0.0f;
                sine[i][k] = pair < p.half ? angles[p.half + pair] : 0.0f;
            }
        /* All lanes make the same rounds, since all take part in the sums. */
        for (int h0 = 0; h0 < p.heads; h0 += WARP / GROUP) {
            const int h = h0 + lane / GROUP;
            const int64_t at = row * p.R + (int64_t)h * 2 * p.half;
            float a[ITEMS][N], b[ITEMS][N], ya[ITEMS][N], yb[ITEMS][N], sum = 0;
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int pair = (i * GROUP + member) * N;
                const bool mine = h < p.heads && pair < p.half;
                Vec<T, N> first, second, y_first, y_second;
                if (mine) {
                    first = vec_load<N>(p.x + at + pair);
                    second = vec_load<N>(p.x + at + p.half + pair);
                    if (BACK && p.rstd) {
                        y_first = vec_load<N>(p.y + at + pair);
                        y_second = vec_load<N>(p.y + at + p.half + pair);
                    }
                }
#pragma unroll
                for (int k = 0; k < N; k++) {
                    const float u = mine ? to_float(first.v[k]) : 0.0f;
                    const float v = mine ? to_float(second.v[k]) : 0.0f;
                    if (!BACK) {
                        a[i][k] = u * cosine[i][k] - v * sine[i][k];
                        b[i][k] = v * cosine[i][k] + u * sine[i][k];
                        sum += a[i][k] * a[i][k] + b[i][k] * b[i][k];
                    } else {
                        a[i][k] = u;
                        b[i][k] = v;
                        ya[i][k] = mine && p.rstd ? to_float(y_first.v[k]) : 0.0f;
                        yb[i][k] = mine && p.rstd ? to_float(y_second.v[k]) : 0.0f;
                        sum += u * ya[i][k] + v * yb[i][k];
                    }
                }
            }
            float scale = 1;
            const int64_t norm = row * p.heads + h;
            if (p.rstd) {
                sum = group_sum<GROUP>(sum) * inverse;
                if (!BACK)
                    scale = 1.0f / sqrtf(sum + p.eps);
                else if (h < p.heads)
                    scale = p.rstd[norm];
                if (!BACK && h < p.heads && member == 0) p.rstd[norm] = scale;
            }
#pragma unroll
            for (int i = 0; i < ITEMS; i++) {
                const int pair = (i * GROUP + member) * N;
                if (h >= p.heads || pair >= p.half) continue;
                Vec<T, N> first, second;
#pragma unroll
                for (int k = 0; k < N; k++) {
                    float u = a[i][k] * scale, v = b[i][k] * scale;
                    if (BACK) {
                        const float du = scale * (a[i][k] - ya[i][k] * sum);
                        const float dv = scale * (b[i][k] - yb[i][k] * sum);
                        u = du * cosine[i][k] - dv * sine[i][k];
                        v = dv * cosine[i][k] + du * sine[i][k];
                    }
                    first.v[k] = from_float<T>(u);
                    second.v[k] = from_float<T>(v);
                }
                vec_store<N>(p.x + at + pair, first);
                vec_store<N>(p.x + at + p.half + pair, second);
            }
        }
    }
}

template <typename T, int N, bool BACK>
static void turn(const OpContext *cx, const RopeCall<T> &p) {
    const unsigned grid = blocks_for(cx, p.n_rows, THREADS / WARP);
    const int64_t lanes = i64_div_up(p.half, N);
    const cudaStream_t stream = stream_of(cx);
    if (lanes <= 4)
        LAUNCH((rope_turn<T, N, 4, 1, BACK>), grid, THREADS, 0, stream, p);
    else if (lanes <= 8)
        LAUNCH((rope_turn<T, N, 8, 1, BACK>), grid, THREADS, 0, stream, p);
    else if (lanes <= WARP)
        LAUNCH((rope_turn<T, N, WARP, 1, BACK>), grid, THREADS, 0, stream, p);
    else if constexpr (WARP * N < MOST_PAIRS)
        LAUNCH((rope_turn<T, N, WARP, MOST_PAIRS / (WARP * N), BACK>), grid, THREADS, 0, stream, p);
}

template <typename T, bool BACK> static void turn_dispatch(const OpContext *cx, RopeCall<T> p) {
    DISPATCH_PACK(T, packs<T>(p.half, p.x, p.y), turn<T, N, BACK>(cx, p));
}

void cuda_rotate_forward(const OpContext *cx, Tensor qkv, Tensor rstd, Tensor position,
                         int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const Shape s = shape_check(cx, qkv, n_heads, n_kv_heads);
    CHECK_OPTIONAL(rstd, DTYPE_F32, s.B * s.T, s.H + s.K);
    CHECK_OPTIONAL(position, DTYPE_I32, s.B);
    const int32_t *const first = (const int32_t *)position.data;
    const float *const table = table_make(cx, &s, r, first, false);
    DISPATCH_ACT(cx, turn_dispatch<T, false>(
                         cx, RopeCall<T>{(T *)qkv.data, NULL, (float *)rstd.data, table, s.B * s.T,
                                         first ? s.B * s.T : s.T, s.R, (int)(s.H + s.K),
                                         (int)(s.D / 2), (float)r.eps}));
}

void cuda_rotate_backward(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor qkv, Tensor rstd,
                          int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const Shape s = shape_check(cx, dqkv, n_heads, n_kv_heads);
    CHECK_TENSOR(qkv, act_of(cx), s.B, s.T, s.R);
    CHECK_OPTIONAL(rstd, DTYPE_F32, s.B * s.T, s.H + s.K);
    CHECK_OPTIONAL(dbias, DTYPE_F32, s.R);
    const float *const table = table_make(cx, &s, r, NULL, true);
    DISPATCH_ACT(cx, turn_dispatch<T, true>(cx, RopeCall<T>{(T *)dqkv.data, (const T *)qkv.data,
                                                            (float *)rstd.data, table, s.B * s.T,
                                                            s.T, s.R, (int)(s.H + s.K),
                                                            (int)(s.D / 2), (float)r.eps}));
    float *const partial = (float *)((char *)cx->scratch + table_bytes(s.B, s.T, s.D));
    if (dbias.data) reduce_columns(cx, (float *)dbias.data, dqkv.data, s.B * s.T, s.R, partial);
}
