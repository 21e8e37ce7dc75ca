/* Token and position embeddings (ops.h).
 *
 * Forward moves 2 act rows read and 1 written a token. Backward reads dx once for the tokens, once
 * for the positions, and adds to the rows of dwte that occur. */
#include "common.cuh"
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

/* ---- backward: tokens ----
 *
 * The rows sorted by token are cut into tiles of TILE rows, whatever their tokens: so a token in
 * half of the rows (a space, in a vocabulary of characters) is shared out, and none is too short.
 * A run of one token that lies within a tile is added to dwte at once. A run that crosses tiles
 * leaves one partial sum in each: in slot 0 if it came from the tile before, else in slot 1. The
 * second pass adds them from the run's first tile on. Who adds to a row of dwte, and in which
 * order, depends on the tokens alone. */

enum { TILE = 64, COLUMN_THREADS = 128 };

template <typename T, int N>
__global__ void embed_backward_tiles(float *dwte, float *partial, const T *dx,
                                     const int32_t *tokens, const int32_t *order, int64_t n_rows,
                                     int64_t C, int64_t n_tokens) {
    /* Tokens of the row before the tile, of its rows, and of the row behind it; -1 if none. */
    SHARED(int32_t, token, TILE + 2);
    SHARED(int32_t, row, TILE);
    const int64_t first = (int64_t)blockIdx.x * TILE;
    const int n = (int)i64_min(TILE, n_rows - first);
    for (int i = (int)threadIdx.x; i < n + 2; i += (int)blockDim.x) {
        const int64_t at = first + i - 1;
        const int32_t r = at >= 0 && at < n_rows ? order[at] : -1;
        token[i] = r >= 0 ? tokens[r] : -1;
        if (i > 0 && i <= n) row[i - 1] = r;
    }
    BARRIER();
    const int64_t c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (c >= C) return;
    float sum[N] = {0};
    bool from_before = token[0] == token[1];
    enum { AHEAD = 4 }; /* rows in flight */
    for (int i0 = 0; i0 < n; i0 += AHEAD) {
        Vec<T, N> v[AHEAD];
#pragma unroll
        for (int a = 0; a < AHEAD; a++)
            if (i0 + a < n) v[a] = vec_load<N>(dx + row[i0 + a] * C + c);
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int i = i0 + a;
            if (i >= n) break;
#pragma unroll
            for (int k = 0; k < N; k++) sum[k] += to_float(v[a].v[k]);
            const int32_t t = token[i + 1];
            const bool goes_on = token[i + 2] == t;
            if (goes_on && i + 1 < n) continue;
            assert(t >= 0 && t < n_tokens);
            const int64_t slot = 2 * (int64_t)blockIdx.x + (from_before ? 0 : 1);
            float *const to = from_before || goes_on ? partial + slot * C + c : dwte + t * C + c;
#pragma unroll
            for (int k = 0; k < N; k++) {
                to[k] = from_before || goes_on ? sum[k] : to[k] + sum[k];
                sum[k] = 0;
            }
            from_before = false;
        }
    }
}

/* Block x looks at the run that ends tile x; it has work if that begins here and goes on. */
template <int N>
__global__ void embed_backward_runs(float *dwte, const float *partial, const int32_t *tokens,
                                    const int32_t *order, int64_t n_rows, int64_t C) {
    const int64_t tile = blockIdx.x, next = (tile + 1) * TILE;
    if (next >= n_rows) return;
    const int32_t t = tokens[order[next - 1]];
    const bool begins_here = tile == 0 || tokens[order[tile * TILE - 1]] != t;
    if (!begins_here || tokens[order[next]] != t) return;
    const int64_t c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (c >= C) return;
    Vec<float, N> sum = vec_load<N>(partial + (2 * tile + 1) * C + c);
    for (int64_t k = tile + 1; k * TILE < n_rows && tokens[order[k * TILE]] == t; k++) {
        const Vec<float, N> more = vec_load<N>(partial + 2 * k * C + c);
#pragma unroll
        for (int i = 0; i < N; i++) sum.v[i] += more.v[i];
    }
#pragma unroll
    for (int i = 0; i < N; i++) dwte[t * C + c + i] += sum.v[i];
}

/* ---- backward: positions ---- */

template <typename T, int N>
__global__ void embed_backward_positions(float *dwpe, const T *dx, int64_t B, int64_t time,
                                         int64_t C) {
    const int64_t t = blockIdx.x;
    const int64_t c = ((int64_t)blockIdx.y * blockDim.x + threadIdx.x) * N;
    if (c >= C) return;
    float sum[N] = {0};
#pragma unroll 4
    for (int64_t b = 0; b < B; b++) {
        const Vec<T, N> v = vec_load<N>(dx + (b * time + t) * C + c);
#pragma unroll
        for (int i = 0; i < N; i++) sum[i] += to_float(v.v[i]);
    }
#pragma unroll
    for (int i = 0; i < N; i++) dwpe[t * C + c + i] += sum[i];
}

int64_t cuda_embed_scratch(const OpShape *s) {
    return i64_div_up(s->B * s->T, TILE) * 2 * s->C * (int64_t)sizeof(float);
}

template <typename T, int N>
static void embed_backward(const OpContext *cx, float *dwte, float *dwpe, const T *dx,
                           const int32_t *tokens, const int32_t *order, int64_t B, int64_t time,
                           int64_t C, int64_t n_tokens) {
    enum { FLOATS = N < 4 ? N : 4 };
    float *const partial = (float *)cx->scratch;
    const unsigned tiles = (unsigned)i64_div_up(B * time, TILE);
    const unsigned across = (unsigned)i64_div_up(C, COLUMN_THREADS * N);
    LAUNCH((embed_backward_tiles<T, N>), dim3(tiles, across), COLUMN_THREADS, 0, stream_of(cx),
           dwte, partial, dx, tokens, order, B * time, C, n_tokens);
    LAUNCH((embed_backward_runs<FLOATS>),
           dim3(tiles, (unsigned)i64_div_up(C, COLUMN_THREADS * FLOATS)), COLUMN_THREADS, 0,
           stream_of(cx), dwte, partial, tokens, order, B * time, C);
    if (dwpe)
        LAUNCH((embed_backward_positions<T, N>), dim3((unsigned)time, across), COLUMN_THREADS, 0,
               stream_of(cx), dwpe, dx, B, time, C);
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
    DISPATCH_ACT(
        cx, DISPATCH_PACK(T, packs<T>(C, dx.data, dwte.data, dwpe.data, cx->scratch),
                          embed_backward<T, N>(cx, (float *)dwte.data, (float *)dwpe.data,
                                               (const T *)dx.data, (const int32_t *)tokens.data,
                                               (const int32_t *)order.data, B, time, C, Vp)));
}
