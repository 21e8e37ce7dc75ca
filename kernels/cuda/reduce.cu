/* Sums over rows: chunks of rows leave partial sums, which a second kernel adds in their order. */
#include "activation.cuh"

enum { LANES = 32, DOWN = 8, ADD_DOWN = 32, LEAST_ROWS = 32 };

/* ---- partial sums ---- */

/* Thread y of a column adds chunks y, y + ADD_DOWN, ...; then thread 0 adds the threads' sums. */
typedef struct ReduceTargets {
    float *to[REDUCE_MOST_SUMS];
} ReduceTargets;

__global__ void reduce_add(ReduceTargets targets, const float *partial, int64_t n_chunks,
                           int n_sums, int64_t C) {
    SHARED(float, sums, ADD_DOWN *(LANES + 1));
    const int s = (int)blockIdx.y;
    float *const to = targets.to[s];
    if (!to) return;
    const int64_t c = (int64_t)blockIdx.x * LANES + threadIdx.x;
    float sum = 0;
    if (c < C)
#pragma unroll 4
        for (int64_t k = threadIdx.y; k < n_chunks; k += ADD_DOWN)
            sum += partial[(k * n_sums + s) * C + c];
    sums[threadIdx.y * (LANES + 1) + threadIdx.x] = sum;
    BARRIER();
    if (threadIdx.y > 0 || c >= C) return;
    sum = 0;
    for (int y = 0; y < ADD_DOWN; y++) sum += sums[y * (LANES + 1) + threadIdx.x];
    to[c] += sum;
}

void reduce_partials(const OpContext *cx, float *const to[], int n_sums, const float *partial,
                     int64_t n_chunks, int64_t C) {
    CHECK(n_sums <= REDUCE_MOST_SUMS, "%d sums", n_sums);
    ReduceTargets targets = {};
    bool any = false;
    for (int s = 0; s < n_sums; s++) {
        targets.to[s] = to[s];
        any |= to[s] != NULL;
    }
    if (!any) return;
    LAUNCH(reduce_add, dim3((unsigned)i64_div_up(C, LANES), (unsigned)n_sums),
           dim3(LANES, ADD_DOWN), 0, stream_of(cx), targets, partial, n_chunks, n_sums, C);
}

/* ---- columns of a matrix ---- */

/* Chunks of rows: enough blocks for the device, however few columns there are. */
static int64_t chunk_count(int64_t N, int64_t C, const DeviceProperties *device) {
    const int64_t wanted = i64_div_up(4 * 256 * i64_max(1, device->n_units), i64_max(1, C));
    return i64_max(1, i64_min(wanted, i64_div_up(N, LEAST_ROWS)));
}

int64_t reduce_scratch(int64_t N, int64_t C, const DeviceProperties *device) {
    return chunk_count(N, C, device) * C * (int64_t)sizeof(float);
}

/* Block (x, y): columns x, chunk y of n_rows rows; aux: first x *= activation'(aux). */
template <typename T, int N>
__global__ void reduce_chunk(float *partial, T *x, const T *aux, Activation activation,
                             int64_t n_total, int64_t n_rows, int64_t C) {
    SHARED(float, sums, DOWN *LANES *N);
    const int64_t c = ((int64_t)blockIdx.x * LANES + threadIdx.x) * N;
    const int64_t first = (int64_t)blockIdx.y * n_rows;
    const int64_t last = i64_min(n_total, first + n_rows);
    float sum[N] = {0};
    if (c < C)
#pragma unroll 4
        for (int64_t row = first + threadIdx.y; row < last; row += DOWN) {
            Vec<T, N> v = vec_load<N>(x + row * C + c);
            if (aux) {
                const Vec<T, N> u = vec_load<N>(aux + row * C + c);
#pragma unroll
                for (int i = 0; i < N; i++)
                    v.v[i] = from_float<T>(to_float(v.v[i]) *
                                           activation_derivative(to_float(u.v[i]), activation));
                vec_store<N>(x + row * C + c, v);
            }
#pragma unroll
            for (int i = 0; i < N; i++) sum[i] += to_float(v.v[i]);
        }
#pragma unroll
    for (int i = 0; i < N; i++) sums[(threadIdx.y * N + i) * LANES + threadIdx.x] = sum[i];
    BARRIER();
    if (threadIdx.y > 0 || c >= C) return;
#pragma unroll
    for (int i = 0; i < N; i++) {
        float total = 0;
        for (int y = 0; y < DOWN; y++) total += sums[(y * N + i) * LANES + threadIdx.x];
        partial[(int64_t)blockIdx.y * C + c + i] = total;
    }
}

void reduce_columns_activation(const OpContext *cx, float *to, void *x, const void *aux, int64_t N,
                               int64_t C, Activation activation, float *partial) {
    const int64_t n_rows = i64_div_up(N, chunk_count(N, C, &cx->backend->properties));
    const int64_t n_chunks = i64_div_up(N, n_rows), n_total = N;
    const dim3 block(LANES, DOWN);
    DISPATCH_ACT(cx,
                 DISPATCH_PACK(T, packs<T>(C, x, aux),
                               LAUNCH((reduce_chunk<T, N>),
                                      dim3((unsigned)i64_div_up(C, LANES * N), (unsigned)n_chunks),
                                      block, 0, stream_of(cx), partial, (T *)x, (const T *)aux,
                                      activation, n_total, n_rows, C)));
    reduce_partials(cx, &to, 1, partial, n_chunks, C);
}

void reduce_columns(const OpContext *cx, float *to, const void *x, int64_t N, int64_t C,
                    float *partial) {
    reduce_columns_activation(cx, to, (void *)x, NULL, N, C, ACTIVATION_NONE, partial);
}
