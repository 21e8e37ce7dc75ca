/* N values of a row as they lie in memory, for loads of which several are to be on their way:
 * nvcc takes a Vec of bf16 apart into halves of registers where it arrives, and waits for it. */
#pragma once
#include "common.cuh"

template <typename T, int N> struct Words {
    static const int COUNT = N == 1 ? 1 : N * sizeof(T) / sizeof(uint32_t);
    uint32_t w[COUNT];
};

template <int N, typename T> __device__ static inline Words<T, N> words_load(const T *from) {
    Words<T, N> words;
    if constexpr (N == 1 && sizeof(T) == 2) {
        words.w[0] = *reinterpret_cast<const uint16_t *>(from);
    } else {
        constexpr int COUNT = Words<T, N>::COUNT;
        const Vec<uint32_t, COUNT> v = vec_load<COUNT>(reinterpret_cast<const uint32_t *>(from));
#pragma unroll
        for (int i = 0; i < COUNT; i++) words.w[i] = v.v[i];
    }
    return words;
}

/* Value k of them; a bf16 is the upper half of a float. */
template <typename T, int N>
__device__ static inline float word_float(const Words<T, N> &words, int k) {
    if constexpr (sizeof(T) == 4) return __uint_as_float(words.w[k]);
    else return __uint_as_float(k % 2 ? words.w[k / 2] & 0xffff0000u : words.w[k / 2] << 16);
}
