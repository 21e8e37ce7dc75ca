/* The functions of kernels/cuda/ptx.cuh for the emulator: same names, same contracts. */
#pragma once
#include "emu.h"

namespace emu {
void cp_async(void *shared, const void *global, int bytes, int valid, Site site);
void cp_async_commit();
void cp_async_wait(int open_groups);
void ldmatrix(uint32_t out[4], const void *row, bool transposed, Site site);
void mma(float d[4], const uint32_t a[4], const uint32_t b[2], Site site);
} // namespace emu

inline void cp_async_16(void *shared, const void *global, int valid, emu::Site site = emu::here()) {
    emu::cp_async(shared, global, 16, valid, site);
}
#define CP_ASYNC_COMMIT() EMU_UNLESS_SKIPPED("CP_ASYNC_COMMIT", emu::cp_async_commit())
#define CP_ASYNC_WAIT(n) EMU_UNLESS_SKIPPED("CP_ASYNC_WAIT", emu::cp_async_wait(n))

inline void ldmatrix_x4(uint32_t out[4], const void *row, emu::Site site = emu::here()) {
    emu::ldmatrix(out, row, false, site);
}
inline void ldmatrix_x4_trans(uint32_t out[4], const void *row, emu::Site site = emu::here()) {
    emu::ldmatrix(out, row, true, site);
}
inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2],
                     emu::Site site = emu::here()) {
    emu::mma(d, a, b, site);
}

inline float exp2_approx(float x) { return exp2f(x); }
