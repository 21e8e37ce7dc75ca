/* Kernels with one fault each, and their correct twins: what the emulator must find, and what it must
 * leave alone. test_faults.sh runs them:
 *
 *   faults NAME wrong|right     right: prints a sum of the output
 *
 * A report of the wrong twin must name the line marked FAULT NAME. */
#include "check_failed.h"
#include "common.cuh"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 64, COUNT = 256 };

/* A barrier that the wrong twin leaves out. */
#define BARRIER_IF_RIGHT()                                                                         \
    do {                                                                                           \
        if constexpr (!WRONG) BARRIER();                                                           \
    } while (0)

/* ---- order ---- */

template <bool WRONG> __global__ void shared_race(float *out, const float *in) {
    SHARED(float, values, THREADS);
    const int t = (int)threadIdx.x;
    values[t] = 0;
    BARRIER();
    values[t] = in[t];
    BARRIER_IF_RIGHT();
    out[t] = values[THREADS - 1 - t]; /* FAULT shared_race */
}

template <bool WRONG> __global__ void block_race(float *out, const float *in) {
    const unsigned to = WRONG ? blockIdx.x / 2 : blockIdx.x;
    if (threadIdx.x == 0) out[to] = in[blockIdx.x]; /* FAULT block_race */
}

/* Lanes of one warp also need a barrier before they read what others wrote. */
template <bool WRONG> __global__ void warp_race(float *out, const float *in) {
    SHARED(float, values, THREADS);
    const int t = (int)threadIdx.x;
    values[t] = in[t];
    BARRIER();
    values[t] += 1;
    if constexpr (!WRONG) WARP_BARRIER();
    out[t] = values[t ^ 1]; /* FAULT warp_race */
}

template <bool WRONG> __global__ void fragment_race(float *out, const float *in) {
    SHARED(Pack<bf16>, tile, THREADS);
    const int t = (int)threadIdx.x, l = t % WARP;
    uint32_t fragment[4];
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < 8; i++) tile[t].v[i] = from_float<bf16>(in[t] + (float)(i + pass));
        if (pass == 0) BARRIER();
    }
    BARRIER_IF_RIGHT();
    ldmatrix_x4(fragment, &tile[t ^ WARP]); /* FAULT fragment_race */
    out[t] = __uint_as_float(fragment[l % 4] << 16);
}

template <bool WRONG> __global__ void early_async(float *out, const float *in) {
    SHARED(Pack<float>, values, THREADS);
    const int t = (int)threadIdx.x;
    cp_async_16(&values[t], in + 4 * t, 16);
    CP_ASYNC_COMMIT();
    if constexpr (!WRONG) CP_ASYNC_WAIT(0);
    out[t] = values[t].v[0]; /* FAULT early_async */
}

/* ---- places ---- */

template <int N, bool WRONG> __global__ void beyond_shared(float *out, const float *in) {
    SHARED(float, values, N);
    const int t = (int)threadIdx.x;
    const int to = WRONG ? t + 1 : t;
    values[to] = in[t]; /* FAULT beyond_shared */
    out[t] = values[to];
}

template <bool WRONG> __global__ void beyond_device(float *out, const float *in) {
    out[threadIdx.x + (WRONG ? COUNT - 1 : 0)] = in[threadIdx.x]; /* FAULT beyond_device */
}

template <bool WRONG> __global__ void unwritten_shared(float *out, const float *in) {
    SHARED(float, values, THREADS + 1);
    const int t = (int)threadIdx.x;
    values[t] = in[t];
    BARRIER();
    out[t] = values[WRONG ? t + 1 : t]; /* FAULT unwritten_shared */
}

template <bool WRONG> __global__ void unwritten_device(float *out, const float *in) {
    float *from = WRONG ? out + THREADS : (float *)in;
    out[threadIdx.x] = from[threadIdx.x]; /* FAULT unwritten_device */
}

template <bool WRONG> __global__ void misaligned(float *out, const float *in) {
    const Pack<float> p = pack_load(in + 4 * threadIdx.x + (WRONG ? 1 : 0)); /* FAULT misaligned */
    out[threadIdx.x] = p.v[0] + p.v[3];
}

template <bool WRONG> __global__ void beyond_local(float *out, const float *in) {
    float mine[4];
    const int n = (int)in[1] - 1; /* 0, which the compiler does not know */
    for (int i = 0; i < 4; i++) mine[i] = in[threadIdx.x] + (float)i;
    out[threadIdx.x] = mine[n + (WRONG ? 4 : 3)]; /* FAULT beyond_local */
}

template <bool WRONG> __global__ void host_memory(float *out, const float *in, const float *host) {
    out[threadIdx.x] = WRONG ? host[0] : in[threadIdx.x]; /* FAULT host_memory */
}

/* ---- meetings ---- */

template <bool WRONG> __global__ void divergent_shuffle(float *out, const float *in) {
    const int t = (int)threadIdx.x;
    float value = in[t];
    if (!WRONG || t % WARP < 16)
        value += __shfl_xor_sync(ALL_LANES, value, 1); /* FAULT divergent_shuffle */
    out[t] = value;
}

template <bool WRONG> __global__ void wrong_mask(float *out, const float *in) {
    const int t = (int)threadIdx.x;
    const unsigned mask = WRONG ? 0x0000ffffu : ALL_LANES;
    out[t] = __shfl_sync(mask, in[t], 0); /* FAULT wrong_mask */
}

template <bool WRONG> __global__ void early_return(float *out, const float *in) {
    SHARED(float, values, THREADS);
    const int t = (int)threadIdx.x;
    if (WRONG && t == 5) return;
    values[t] = in[t];
    BARRIER(); /* FAULT early_return */
    out[t] = values[THREADS - 1 - t];
}

template <bool WRONG> __global__ void two_barriers(float *out, const float *in) {
    const int t = (int)threadIdx.x;
    if (WRONG && t < WARP) BARRIER();
    else BARRIER(); /* FAULT two_barriers */
    out[t] = in[t];
}

/* ---- running one ---- */

template <typename... P>
static void run(int blocks, void (*kernel)(float *, const float *, P...), P... more) {
    float host[4 * THREADS + 4], *out, *in, sum = 0;
    for (int i = 0; i < 4 * THREADS + 4; i++) host[i] = (float)(i * i % 101);
    CUDA_CHECK(cudaMalloc(&out, COUNT * sizeof(float)));
    CUDA_CHECK(cudaMalloc(&in, sizeof host));
    CUDA_CHECK(cudaMemcpy(in, host, sizeof host, cudaMemcpyHostToDevice));
    LAUNCH(kernel, blocks, THREADS, 0, NULL, out, in, more...);
    CUDA_CHECK(cudaMemcpy(host, out, COUNT * sizeof(float), cudaMemcpyDeviceToHost));
    for (int i = 0; i < THREADS; i++)
        if (host[i] == host[i]) sum += (float)(i + 1) * host[i]; /* some write only a few */
    printf("%.9g\n", sum);
    CUDA_CHECK(cudaFree(out));
    CUDA_CHECK(cudaFree(in));
}

int main(int argc, char **argv) {
    const float host = 1;
    CHECK(argc == 3, "usage: faults NAME wrong|right");
    const bool wrong = !strcmp(argv[2], "wrong");
#define TWINS(name)                                                                                \
    if (!strcmp(argv[1], #name)) {                                                                 \
        run(!strcmp(#name, "block_race") ? 4 : 1, wrong ? name<true> : name<false>);               \
        return 0;                                                                                  \
    }
    TWINS(shared_race)
    TWINS(block_race)
    TWINS(warp_race)
    TWINS(fragment_race)
    TWINS(early_async)
    TWINS(beyond_device)
    TWINS(unwritten_shared)
    TWINS(unwritten_device)
    TWINS(misaligned)
    TWINS(beyond_local)
    TWINS(divergent_shuffle)
    TWINS(wrong_mask)
    TWINS(early_return)
    TWINS(two_barriers)
    if (!strcmp(argv[1], "beyond_shared"))
        run(1, wrong ? beyond_shared<THREADS, true> : beyond_shared<THREADS, false>);
    else if (!strcmp(argv[1], "host_memory"))
        run(1, wrong ? host_memory<true> : host_memory<false>, &host);
    else CHECK(false, "there is no fault %s", argv[1]);
    return 0;
}
