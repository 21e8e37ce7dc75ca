/* Arithmetic, loads and atomics that nvcc has built in and the toolkit's headers do not give to
 * g++. Fast-math functions are the exact ones here: their last bits differ from a card's. */
#pragma once
#include <cuda_bf16.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline void __sincosf(float x, float *s, float *c) { *s = sinf(x), *c = cosf(x); }
inline float __tanhf(float x) { return tanhf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

template <typename To, typename From> inline To emu_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return emu_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emu_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emu_bits<double>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }

#define EMU_MIN_MAX(type)                                                                          \
    inline type min(type a, type b) { return a < b ? a : b; }                                      \
    inline type max(type a, type b) { return a > b ? a : b; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

/* Two bf16 at a time; the products are exact in float, so each result is rounded once. */
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    const float2 x = __bfloat1622float2(a), y = __bfloat1622float2(b), z = __bfloat1622float2(c);
    return __floats2bfloat162_rn(fmaf(x.x, y.x, z.x), fmaf(x.y, y.y, z.y));
}

/* Loads and stores with a hint for the cache. */
template <typename T> inline T __ldg(const T *from) { return *from; }
template <typename T> inline T __ldcs(const T *from) { return *from; }
template <typename T> inline T __ldcg(const T *from) { return *from; }
template <typename T> inline void __stcs(T *to, T value) { *to = value; }
template <typename T> inline void __stcg(T *to, T value) { *to = value; }

namespace emu {
/* One thread runs at a time, so plain arithmetic is atomic. They are calls so that the checker
 * sees atomics as such. */
int atomic_add(int *to, int value);
unsigned atomic_add(unsigned *to, unsigned value);
unsigned long long atomic_add(unsigned long long *to, unsigned long long value);
int atomic_max(int *to, int value);
int atomic_or(int *to, int value);
int atomic_exchange(int *to, int value);
void thread_fence();
} // namespace emu

template <typename T> inline T atomicAdd(T *to, T value) { return emu::atomic_add(to, value); }
inline int atomicMax(int *to, int value) { return emu::atomic_max(to, value); }
inline int atomicOr(int *to, int value) { return emu::atomic_or(to, value); }
inline int atomicExch(int *to, int value) { return emu::atomic_exchange(to, value); }
inline void __threadfence() { emu::thread_fence(); }
inline void __threadfence_block() {}
