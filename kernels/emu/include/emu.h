/* CUDA for a CPU: what kernels and backend.cu see instead of nvcc's language when g++ compiles them
 * (-DPUCK_EMU). kernels/README.md says how the emulator works.
 *
 * Types, bf16 arithmetic and the declarations of the runtime come from the toolkit's own headers;
 * this file adds what those leave to nvcc: thread indices, launches, shared memory, barriers and
 * warp operations. Arithmetic that nvcc has built in is in math_emu.h. */
#pragma once
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <memory>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <utility>

namespace emu {

/* A place in a source. As a default argument, `Site site = here()` is the caller's place. */
struct Site {
    const char *file;
    int line;
};
constexpr Site here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
}

/* ---- where a thread is ---- */

struct ThreadBase {
    uint3 index;
    int number; /* in its block; its lane is number % 32 */
};
extern ThreadBase *current; /* the thread that runs */
extern uint3 block_index;
extern dim3 block_dim, grid_dim;

/* ---- launches ---- */

struct Range {
    const void *first;
    size_t bytes;
};
static inline bool overlap(Range a, Range b) {
    const char *const from_a = static_cast<const char *>(a.first);
    const char *const from_b = static_cast<const char *>(b.first);
    return from_a < from_b + b.bytes && from_b < from_a + a.bytes;
}

/* A piece of a stream's work: run at once, later, or by every replay of a graph. */
struct Operation {
    virtual void run() = 0;
    /* Waits for other ranks. It runs when it is submitted: ranks that each run their streams as
     * late as they may could wait for each other for ever. */
    virtual bool meets() const { return false; }
    /* The memory that it brings what others sent to, if it is that; then it runs as late as it may,
     * after all that meet and do not touch this memory. */
    virtual Range delivers() const { return {}; }
    virtual bool touches(Range) const { return true; }
    /* In a graph: what it is in the replay that begins now, if not itself. */
    virtual std::shared_ptr<Operation> launched() { return nullptr; }
    virtual ~Operation() {}
};

struct Launch : Operation {
    const char *name; /* of the kernel, as written at the launch */
    Site site;
    dim3 grid, block;
    size_t dynamic_bytes;
    size_t shared_limit; /* of dynamic and static arrays together */
    const void *kernel;
    void run() override;           /* all blocks, one after the other */
    virtual void call() const = 0; /* the kernel, in one thread */
    virtual size_t object_bytes() const = 0;
};

/* Arguments are copied at the launch, converted to the kernel's parameters. */
template <typename... Parameters> struct LaunchOf : Launch {
    void (*function)(Parameters...);
    std::tuple<Parameters...> arguments;
    LaunchOf(void (*f)(Parameters...), std::tuple<Parameters...> a) : function(f), arguments(a) {}
    void call() const override { std::apply(function, arguments); }
    size_t object_bytes() const override { return sizeof *this; }
};

/* Checks the shape of the launch and hands it to the stream. */
void submit_launch(std::unique_ptr<Launch> launch, cudaStream_t stream);

template <typename... Parameters, typename... Arguments>
void launch(const char *name, Site site, dim3 grid, dim3 block, size_t dynamic_bytes,
            cudaStream_t stream, void (*kernel)(Parameters...), Arguments... arguments) {
    auto l = std::make_unique<LaunchOf<Parameters...>>(
        kernel, std::tuple<Parameters...>(static_cast<Parameters>(arguments)...));
    l->name = name;
    l->site = site;
    l->grid = grid;
    l->block = block;
    l->dynamic_bytes = dynamic_bytes;
    l->kernel = reinterpret_cast<const void *>(kernel);
    submit_launch(std::move(l), stream);
}

/* ---- shared memory ---- */

/* One per SHARED in the source and instantiation of the template around it: its address is the
 * array's identity. */
struct SharedArray {
    const char *name;
    Site site;
};
/* The same memory for all threads of a block, NaN at first. */
void *shared_array(const SharedArray *array, size_t bytes, size_t alignment);
void *dynamic_shared();

/* ---- waiting ---- */

void block_barrier(Site site);
void warp_barrier(Site site);
/* True for the one barrier, commit or wait that PUCK_EMU_SKIP=FILE:LINE:MACRO leaves out. */
extern int skip_line;
bool skip_at(const char *macro, const char *file);
inline bool skips(const char *macro, const char *file, int line) {
    return __builtin_expect(line == skip_line, 0) && skip_at(macro, file);
}

/* The lanes of `mask` meet; the last one calls `finish` with everyone's operand (NULL for lanes
 * outside the mask), then all go on. */
typedef void (*Finish)(void *operand[32], unsigned mask);
void warp_meet(const char *what, unsigned mask, Site site, void *operand, Finish finish);

/* `number` names the thread's own lane in the sources of a shuffle. */
uint64_t shuffle(const char *what, unsigned mask, uint64_t value, int from_lane, Site site);
unsigned ballot(const char *what, unsigned mask, bool value, Site site);

inline int lane() { return current->number % 32; }

template <typename T>
T shuffle_from(const char *what, unsigned mask, T value, int from_lane, Site site) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles move at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = shuffle(what, mask, bits, from_lane, site);
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace emu

#define threadIdx (emu::current->index)
#define blockIdx (emu::block_index)
#define blockDim (emu::block_dim)
#define gridDim (emu::grid_dim)
#undef __launch_bounds__
#define __launch_bounds__(...)

#define LAUNCH(kernel, grid, block, dynamic_bytes, stream, ...)                                    \
    do {                                                                                           \
        emu::launch(#kernel, emu::here(), grid, block, dynamic_bytes, stream, kernel,              \
                    ##__VA_ARGS__);                                                                \
        LAUNCH_CHECK(kernel);                                                                      \
    } while (0)
#define SHARED(type, name, n)                                                                      \
    static const emu::SharedArray name##_identity = {#name, {__FILE__, __LINE__}};                 \
    type(&name)[n] = *static_cast<type(*)[n]>(                                                     \
        emu::shared_array(&name##_identity, sizeof(type[n]), alignof(type)))
#define DYN_SHARED(type, name) type *const name = static_cast<type *>(emu::dynamic_shared())

#define EMU_UNLESS_SKIPPED(macro, call) (emu::skips(macro, __FILE__, __LINE__) ? (void)0 : call)
#define BARRIER() EMU_UNLESS_SKIPPED("BARRIER", emu::block_barrier(emu::here()))
#define WARP_BARRIER() EMU_UNLESS_SKIPPED("WARP_BARRIER", emu::warp_barrier(emu::here()))

/* ---- warp operations, under CUDA's names ---- */

template <typename T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, emu::Site site = emu::here()) {
    const int base = emu::lane() & ~(width - 1);
    return emu::shuffle_from("__shfl_sync", mask, value, base + (from & (width - 1)), site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emu::Site site = emu::here()) {
    const int self = emu::lane(), from = self ^ bits;
    const bool inside = from < (self & ~(width - 1)) + width;
    return emu::shuffle_from("__shfl_xor_sync", mask, value, inside ? from : self, site);
}
inline int __any_sync(unsigned mask, int value, emu::Site site = emu::here()) {
    return emu::ballot("__any_sync", mask, value, site) != 0;
}

/* ---- memory that is read or written once: a hint to caches ---- */

template <typename T> T __ldcs(const T *from) { return *from; }
template <typename T> void __stcs(T *to, T value) { *to = value; }

#include "math_emu.h"
