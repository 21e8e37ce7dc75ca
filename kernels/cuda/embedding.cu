/* Token and position embeddings (ops.h).
 *
 * Forward moves 2 act rows read and 1 written a token. Backward reads dx once from memory, once
 * from L2, and adds to dwpe and to the rows of dwte that occur. */
#include "words.cuh"
#include <assert.h>

enum { THREADS = 256 };

/* ---- forward ---- */

template <typename T, int N>
__global__ void embed_forward(T *x, const T *wte, const T *wpe, const int32_t *tokens,
                              const int32_t *position, int64_t n_rows, int64_t time, int64_t C,
                              int64_t n_tokens, int64_t context) {
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= n_rows) return;
    const int64_t token = tokens[row];
    assert(token >= 0 && token < n_tokens);
    int64_t place = 0;
    if (wpe) {
        place = (position ? position[row / time] : 0) + row % time;
        assert(place >= 0 && place < context);
    }
    for (int64_t c = (int64_t)threadIdx.x * N; c < C; c += (int64_t)blockDim.x * N) {
        Vec<T, N> v = vec_load<N>(wte + token * C + c);
        if (wpe) {
            const Vec<T, N> add = vec_load<N>(wpe + place * C + c);
#pragma unroll
            for (int i = 0; i < N; i++)
                v.v[i] = from_float<T>(to_float(v.v[i]) + to_float(add.v[i]));
        }
        vec_store<N>(x + row * C + c, v);
    }
}

void cuda_embed_forward(const OpContext *cx, Tensor x, Tensor wte, Tensor wpe, Tensor tokens,
                        Tensor position) {
    const DType act = act_of(cx);
    const int64_t B = x.dim[0], time = x.dim[1], C = x.dim[2], Vp = wte.dim[0];
    const int64_t context = wpe.dim[0];
    CHECK_TENSOR(x, act, B, time, C);
    CHECK_TENSOR(wte, act, Vp, C);
    CHECK_OPTIONAL(wpe, act, context, C);
    CHECK_TENSOR(tokens, DTYPE_I32, B, time);
    CHECK_OPTIONAL(position, DTYPE_I32, B);
    const dim3 block(WARP, THREADS / WARP);
    const unsigned grid = (unsigned)i64_div_up(B * time, block.y);
    DISPATCH_ACT(
        cx,
        DISPATCH_PACK(T, packs<T>(C, x.data, wte.data, wpe.data),
                      LAUNCH((embed_forward<T, N>), grid, block, 0, stream_of(cx), (T *)x.data,
                             (const T *)wte.data, (const T *)wpe.data, (const int32_t *)tokens.data,
                             (const int32_t *)position.data, B * time, time, C, Vp, context)));
}

/* ---- backward ----
 *
 * dx is read by rows of one position for dwpe, by rows of one token for dwte, and is larger than
 * L2. So one kernel does both, a slice of WARP * N columns after the other: blocks start in order
 * of their number, so the second to read a slice finds it in L2, where what is read once gives way.
 *
 * The rows sorted by token are cut into tiles of TILE rows, whatever their tokens: so a token in
 * half of the rows (a space, in a vocabulary of characters) is shared out, and none is too short.
 * A run of one token that lies within a tile is added to dwte at once. A run that crosses tiles
 * leaves one partial sum in each: in slot 0 if it came from the tile before, else in slot 1. The
 * second kernel adds them from the run's first tile on. Who adds to a row of dwte, and in which
 * order, depends on the tokens alone. */

enum { TILE = 64, AHEAD = 8 /* rows in flight */ };

struct SortedRows {
    const int32_t *tokens, *order;
    int64_t n;
};

template <typename T> struct EmbedBackward {
    float *dwte, *dwpe; /* dwpe: or NULL */
    float *partial;     /* (tiles, 2, C) */
    const T *dx;
    SortedRows rows;
    int64_t B, time, C, n_tokens;
};

/* The number of sorted row i, and its token; -1 beyond both ends. */
__device__ static inline int32_t row_at(const SortedRows &rows, int64_t i) {
    return i >= 0 && i < rows.n ? rows.order[i] : -1;
}
__device__ static inline int32_t token_of(const SortedRows &rows, int32_t row) {
    return row >= 0 ? rows.tokens[row] : -1;
}
__device__ static inline int32_t token_at(const SortedRows &rows, int64_t i) {
    return token_of(rows, row_at(rows, i));
}

/* Without pushing out of the caches what is read again. */
template <int N> __device__ static inline Vec<float, N> load_once(const float *from) {
    Vec<float, N> v;
    if constexpr (N == 4) *reinterpret_cast<float4 *>(v.v) = __ldcs((const float4 *)from);
    else v.v[0] = __ldcs(from);
    return v;
}
template <int N> __device__ static inline void store_once(float *to, const Vec<float, N> &v) {
    if constexpr (N == 4) __stcs((float4 *)to, *reinterpret_cast<const float4 *>(v.v));
    else __stcs(to, v.v[0]);
}

template <int N> __device__ static inline void add(Vec<float, N> &sum, const Vec<float, N> &v) {
#pragma unroll
    for (int k = 0; k < N; k++) sum.v[k] += v.v[k];
}
template <typename T, int N>
__device__ static inline void add(Vec<float, N> &sum, const Words<T, N> &words) {
#pragma unroll
    for (int k = 0; k < N; k++) sum.v[k] += word_float(words, k);
}

/* dwpe[t, c..] += dx[all, t, c..] */
template <typename T, int N>
__device__ static inline void add_position(const EmbedBackward<T> &p, int64_t t, int64_t c) {
    Vec<float, N> sum = {};
#pragma unroll AHEAD
    for (int64_t b = 0; b < p.B; b++) add(sum, words_load<N>(p.dx + (b * p.time + t) * p.C + c));
    Vec<float, N> total = vec_load<N>(p.dwpe + t * p.C + c);
    add(total, sum);
    vec_store<N>(p.dwpe + t * p.C + c, total);
}

template <typename T, int N>
__device__ static inline void add_tile(const EmbedBackward<T> &p, int64_t tile, int64_t c) {
    const int64_t first = tile * TILE, last = i64_min(first + TILE, p.rows.n);
    int32_t row[AHEAD + 1], token[AHEAD + 1];
    row[AHEAD] = row_at(p.rows, first);
    token[AHEAD] = token_of(p.rows, row[AHEAD]);
    const int32_t carried = token_at(p.rows, first - 1) == token[AHEAD] ? token[AHEAD] : -1;
    Vec<float, N> sum = {};
    for (int64_t i = first; i < last; i += AHEAD) {
        Words<T, N> v[AHEAD];
        Vec<float, N> old[AHEAD];
        bool whole[AHEAD]; /* a run that lies within the tile ends here */
        row[0] = row[AHEAD];
        token[0] = token[AHEAD];
#pragma unroll
        for (int a = 1; a <= AHEAD; a++) row[a] = row_at(p.rows, i + a);
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            token[a + 1] = token_of(p.rows, row[a + 1]);
            if (row[a] >= 0) v[a] = words_load<N>(p.dx + row[a] * p.C + c);
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            whole[a] = token[a] != token[a + 1] && token[a] != carried;
            if (whole[a]) old[a] = load_once<N>(p.dwte + token[a] * p.C + c);
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            if (i + a >= last) break;
            add(sum, v[a]);
            if (token[a] == token[a + 1] && i + a + 1 < last) continue;
            assert(token[a] >= 0 && token[a] < p.n_tokens);
            if (whole[a]) {
                add(old[a], sum);
                store_once<N>(p.dwte + token[a] * p.C + c, old[a]);
            } else {
                const int64_t slot = 2 * tile + (token[a] == carried ? 0 : 1);
                vec_store<N>(p.partial + slot * p.C + c, sum);
            }
            sum = {};
        }
    }
}

/* A warp of block (x, y): all rows of a position, or a tile, in slice y. */
template <typename T, int N>
__global__ void __launch_bounds__(THREADS) embed_backward_slices(EmbedBackward<T> p) {
    const int64_t n_positions = p.dwpe ? p.time : 0;
    const int64_t i = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t c = ((int64_t)blockIdx.y * WARP + threadIdx.x) * N;
    if (c >= p.C) return;
    if (i < n_positions) add_position<T, N>(p, i, c);
    else add_tile<T, N>(p, i - n_positions, c);
}

/* A warp looks at the run that ends its tile; it has work if that begins here and goes on. */
template <int N>
__global__ void __launch_bounds__(THREADS)
    embed_backward_runs(float *dwte, const float *partial, SortedRows rows, int64_t C) {
    const int64_t tile = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t c = ((int64_t)blockIdx.y * WARP + threadIdx.x) * N;
    const int32_t t = token_at(rows, (tile + 1) * TILE);
    const bool goes_on = t >= 0 && token_at(rows, (tile + 1) * TILE - 1) == t;
    if (c >= C || !goes_on || token_at(rows, tile * TILE - 1) == t) return;
    Vec<float, N> sum = vec_load<N>(partial + (2 * tile + 1) * C + c);
    bool same[AHEAD];
    int64_t k = tile + 1;
    do {
        Vec<float, N> more[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++, k++) {
            same[a] = token_at(rows, k * TILE) == t;
            if (same[a]) more[a] = vec_load<N>(partial + 2 * k * C + c);
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (same[a]) add(sum, more[a]);
    } while (same[AHEAD - 1]);
    Vec<float, N> total = vec_load<N>(dwte + t * C + c);
    add(total, sum);
    vec_store<N>(dwte + t * C + c, total);
}

int64_t cuda_embed_scratch(const OpShape *s) {
    return i64_div_up(s->B * s->T, TILE) * 2 * s->C * (int64_t)sizeof(float);
}

template <typename T, int N>
static void embed_backward(const OpContext *cx, const EmbedBackward<T> &p) {
    const dim3 block(WARP, THREADS / WARP);
    const int64_t tiles = i64_div_up(p.rows.n, TILE), positions = p.dwpe ? p.time : 0;
    const unsigned slices = (unsigned)i64_div_up(p.C, WARP * N);
    LAUNCH((embed_backward_slices<T, N>),
           dim3((unsigned)i64_div_up(positions + tiles, block.y), slices), block, 0, stream_of(cx),
           p);
    LAUNCH(embed_backward_runs<N>, dim3((unsigned)i64_div_up(tiles, block.y), slices), block, 0,
           stream_of(cx), p.dwte, p.partial, p.rows, p.C);
}

void cuda_embed_backward(const OpContext *cx, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens,
                         Tensor order, Tensor starts) {
    const int64_t B = dx.dim[0], time = dx.dim[1], C = dx.dim[2], n = B * time, Vp = dwte.dim[0];
    CHECK_TENSOR(dx, act_of(cx), B, time, C);
    CHECK_TENSOR(dwte, DTYPE_F32, Vp, C);
    CHECK_OPTIONAL(dwpe, DTYPE_F32, -1, C);
    CHECK_TENSOR(tokens, DTYPE_I32, B, time);
    CHECK_TENSOR(order, DTYPE_I32, n);
    CHECK_TENSOR(starts, DTYPE_I32, n + 1); /* the runs of `order` are seen in the tokens */
    CHECK(!dwpe.data || dwpe.dim[0] >= time, "%ld rows; the context has %ld", (long)time,
          (long)dwpe.dim[0]);
    const OpShape shape = {B, time, C, 0, 0, 0, 0, 0, 0};
    CHECK_SCRATCH(cx, cuda_embed_scratch(&shape));
    const SortedRows rows = {(const int32_t *)tokens.data, (const int32_t *)order.data, n};
    /* A lane has 4 columns, or 1: as many as 16 bytes of a gradient hold. */
    DISPATCH_ACT(
        cx, DISPATCH_PACK(float, packs<float>(C, dx.data, dwte.data, dwpe.data, cx->scratch),
                          embed_backward<T, N>(cx, EmbedBackward<T>{
                                                       (float *)dwte.data, (float *)dwpe.data,
                                                       (float *)cx->scratch, (const T *)dx.data,
                                                       rows, B, time, C, Vp})));
}
