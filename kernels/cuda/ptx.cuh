/* Every instruction that CUDA C++ has no name for, a function each: the only file with inline PTX.
 * The names and semantics are those of NVIDIA's PTX ISA. Each function's twin for the emulator is
 * in kernels/emu/include/ptx_emu.h, under the same name and contract.
 *
 * Addresses are generic pointers into shared or global memory; cp_async_16 copies 16 bytes, both
 * addresses multiples of 16, the bytes beyond `valid` (0 or 16) as zeros. */
#pragma once
#ifdef PUCK_EMU
#include "ptx_emu.h"
#else
#include <cuda_bf16.h>
#include <stdint.h>

__device__ static inline uint32_t shared_address(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* cp.async: global to shared, unfinished until waited for and, for other threads, a barrier. */
__device__ static inline void cp_async_16(void *shared, const void *global, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid)
                 : "memory");
}
#define CP_ASYNC_COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define CP_ASYNC_WAIT(n)  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")

/* ldmatrix: four 8x8 matrices of 16-bit elements. Lane l gives the address of row l%8 of matrix
 * l/8, 16 bytes; it receives elements 2*(l%4), 2*(l%4)+1 of row l/4 of each matrix. The second
 * form hands out each matrix transposed. */
__device__ static inline void ldmatrix_x4(uint32_t out[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ static inline void ldmatrix_x4_trans(uint32_t out[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* mma.sync m16n8k16: d (16,8) f32 += a (16,16) bf16, row-major, times b (16,8) bf16, column-major.
 * Fragments as PTX has them: a[0] rows l/4, columns 2*(l%4)..+1; a[1] rows +8; a[2] columns +8;
 * a[3] both; b[0] rows 2*(l%4)..+1, column l/4; b[1] rows +8; d[0..1] row l/4, columns
 * 2*(l%4)..+1; d[2..3] row +8. */
__device__ static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 2^x, relative error about 2^-22; subnormal results are 0, 2^-inf is 0. */
__device__ static inline float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif
