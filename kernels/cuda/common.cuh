/* What every CUDA kernel shares: launches, shared memory, barriers, checks, number types, sums.
 *
 * The same sources run on a CPU in the emulator (kernels/emu), which sees only what goes through
 * the macros and functions of this file and of ptx.cuh. So kernels never write <<<...>>>,
 * __shared__, __syncthreads() or asm themselves.
 *
 *   LAUNCH((kernel<64>), grid, block, dynamic_bytes, stream, arguments...)
 *   SHARED(type, name, n)       static shared array of the block
 *   DYN_SHARED(type, name)      the block's dynamic shared memory, 128-byte aligned
 *   BARRIER()                   all threads of the block
 *   WARP_BARRIER()              all 32 lanes
 *   CP_ASYNC_COMMIT(), CP_ASYNC_WAIT(n)   ends a group of cp.async; waits until n groups are open
 *
 * Each of the last four knows its file and line, so that a test can leave one out (a mutant).
 * No thread returns before a barrier that others still reach. */
#pragma once
#include "ops.h"
#include "rng.h"
#ifdef PUCK_EMU
#include "emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...)                                    \
    do {                                                                                           \
        kernel<<<grid, block, dynamic_bytes, stream>>>(__VA_ARGS__);                               \
        LAUNCH_CHECK(kernel);                                                                      \
    } while (0)
#define SHARED(type, name, n) __shared__ type name[n]
#define DYN_SHARED(type, name)                                                                     \
    extern __shared__ __align__(128) unsigned char dynamic_shared[];                               \
    type *const name = reinterpret_cast<type *>(dynamic_shared)
#define BARRIER()      __syncthreads()
#define WARP_BARRIER() __syncwarp()
#endif

#include "ops_cuda.h"
#include "ptx.cuh"

/* Work runs after its launch, so what comes up here may be the fault of an earlier kernel. */
#define LAUNCH_CHECK(kernel)                                                                       \
    do {                                                                                           \
        const cudaError_t cuda_error = cudaGetLastError();                                         \
        CHECK(cuda_error == cudaSuccess, "%s did not start, or one before it failed: %s", #kernel, \
              cudaGetErrorString(cuda_error));                                                     \
    } while (0)

/* A failed call of CUDA's is no user's mistake: it stops at once, with call, reason and place. */
#define CUDA_CHECK(call)                                                                           \
    do {                                                                                           \
        const cudaError_t cuda_error = (call);                                                     \
        CHECK(cuda_error == cudaSuccess, "%s", cudaGetErrorString(cuda_error));                    \
    } while (0)

/* The border check of an op: CHECK_TENSOR(x, act, N, C). -1 accepts any length. */
template <typename... Dims>
static inline bool tensor_has(Tensor t, DType dtype, Dims... dims) {
    const int64_t dim[] = {(int64_t)dims...};
    return tensor_is(t, dtype, (int)sizeof...(dims), dim);
}
#define CHECK_TENSOR(t, type, ...)                                                                 \
    CHECK(tensor_has(t, type, __VA_ARGS__),                                                        \
          "%s wants %s (%s), got %s rank %d (%ld, %ld, %ld, %ld)", #t, dtype_name(type),           \
          #__VA_ARGS__, (t).data ? dtype_name((t).dtype) : "none", (t).rank, (long)(t).dim[0],     \
          (long)(t).dim[1], (long)(t).dim[2], (long)(t).dim[3])
/* The same for an operand marked "or none". */
#define CHECK_OPTIONAL(t, type, ...)                                                               \
    do {                                                                                           \
        if (tensor_present(t)) CHECK_TENSOR(t, type, __VA_ARGS__);                                 \
    } while (0)

/* Never the legacy default stream, which waits for all others: NULL is the back end's own. */
static inline cudaStream_t stream_of(const OpContext *cx) {
    return cx->stream ? (cudaStream_t)cx->stream : state_of(cx->backend)->stream;
}
static inline int64_t units_of(const OpContext *cx) {
    return i64_max(1, cx->backend->properties.n_units);
}
static inline DType act_of(const OpContext *cx) { return cx->backend->compute; }

typedef __nv_bfloat16 bf16;

/* Calls `f` with a value of the type of activations: DISPATCH_ACT(cx, kernel_launch<T>(...)). */
#define DISPATCH_ACT(cx, ...)                                                                      \
    do {                                                                                           \
        if (act_of(cx) == DTYPE_BF16) {                                                            \
            using T = bf16;                                                                        \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using T = float;                                                                       \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

__device__ static inline float to_float(float x) { return x; }
__device__ static inline float to_float(bf16 x) { return __bfloat162float(x); }
template <typename T> __device__ static inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

enum { WARP = 32 };
static const unsigned ALL_LANES = 0xffffffffu;

/* The same sum in every lane, in a fixed order. All 32 lanes call it. */
__device__ static inline float warp_sum(float x) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, offset);
    return x;
}

/* 16 bytes of a row at once: 4 floats or 8 bf16. The address must be a multiple of 16. */
template <typename T> struct alignas(16) Pack {
    static const int N = 16 / sizeof(T);
    T v[N];
};
template <typename T> __device__ static inline Pack<T> pack_load(const T *from) {
    return *reinterpret_cast<const Pack<T> *>(from);
}
template <typename T> __device__ static inline void pack_store(T *to, Pack<T> p) {
    *reinterpret_cast<Pack<T> *>(to) = p;
}

/* N values at once, N * sizeof(T) <= 16 bytes: kernels that walk rows are written over N, which is
 * Pack<T>::N where `packs` allows it, else 1. */
template <typename T, int N> struct alignas(N * sizeof(T)) Vec {
    T v[N];
};
template <int N, typename T> __device__ static inline Vec<T, N> vec_load(const T *from) {
    return *reinterpret_cast<const Vec<T, N> *>(from);
}
template <int N, typename T> __device__ static inline void vec_store(T *to, const Vec<T, N> &v) {
    *reinterpret_cast<Vec<T, N> *>(to) = v;
}

/* True if rows of C values of T can be read 16 bytes at a time from all of these addresses. Absent
 * operands are fine. */
template <typename T, typename... Pointers>
static inline bool packs(int64_t C, const Pointers *...pointer) {
    const uintptr_t at[] = {(uintptr_t)pointer...};
    for (uintptr_t address : at)
        if (address % 16) return false;
    return C % Pack<T>::N == 0;
}

/* Calls code with N = Pack<T>::N or 1: DISPATCH_PACK(T, packs<T>(C, x, y), launch<T, N>(...)). */
#define DISPATCH_PACK(T, packed, ...)                                                              \
    do {                                                                                           \
        if (packed) {                                                                              \
            constexpr int N = Pack<T>::N;                                                          \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            constexpr int N = 1;                                                                   \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

/* Blocks of a grid-stride loop over `work` items of one thread each: enough to fill the device, so
 * that what a block does once is shared by many items. */
static inline unsigned blocks_for(const OpContext *cx, int64_t work, int64_t threads) {
    return (unsigned)i64_max(1, i64_min(i64_div_up(work, threads), 8 * units_of(cx)));
}

#define CHECK_SCRATCH(cx, bytes)                                                                   \
    CHECK((cx)->scratch_bytes >= (bytes), "scratch of %ld bytes, %ld needed",                      \
          (long)(cx)->scratch_bytes, (long)(bytes))
