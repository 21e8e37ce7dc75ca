/* The checker: every read and write of a kernel, looked at one by one.
 *
 * Only in the checker's build (PUCK_EMU_CHECK, libpuck_emu_check.so); in others these are nothing.
 * There the kernels are compiled with -fsanitize=thread, so that the compiler calls a function at
 * every access to memory; but the functions are those of check.cc, not ThreadSanitizer's. They
 * know CUDA's threads, barriers and memories, and so see at once, in any schedule:
 *
 *   - two threads of a block that touch the same bytes with no barrier between, one of them to
 *     write;
 *   - two blocks of a launch that do so in device memory, where nothing orders them;
 *   - a read of shared memory, or of fresh device memory, that nobody wrote;
 *   - a read of what a cp.async that has not been waited for will write;
 *   - an access beside an array or allocation, to memory of the host, or not aligned.
 *
 * -fsanitize=alignment,bounds calls it too. */
#pragma once
#include <stddef.h>

namespace emu {
struct Thread;

#if defined(PUCK_EMU_CHECK)
/* The running thread's own accesses, made on its behalf by the emulator. */
void check_read(const void *address, size_t bytes, const void *pc);
void check_write(const void *address, size_t bytes, const void *pc);
/* cp.async: the destination is not to be touched until the wait, which calls check_write. */
void check_pending(const void *address, size_t bytes, const void *pc);
/* The host, a copy or a library has written device memory, or left it fresh. */
void check_host_write(const void *address, size_t bytes, bool fresh);

/* What is known of `bytes` of device memory: nobody wrote it. For free(). */
void *check_cells(size_t bytes);
void check_shared_size(size_t bytes);

/* Order. */
void check_launch();
void check_block();
void check_barrier();
void check_warp_barrier(int warp);
#else
inline void check_read(const void *, size_t, const void *) {}
inline void check_write(const void *, size_t, const void *) {}
inline void check_pending(const void *, size_t, const void *) {}
inline void check_host_write(const void *, size_t, bool) {}
inline void *check_cells(size_t) { return nullptr; }
inline void check_shared_size(size_t) {}
inline void check_launch() {}
inline void check_block() {}
inline void check_barrier() {}
inline void check_warp_barrier(int) {}
#endif

} // namespace emu
