/* See check.h. Empty in other builds than the checker's. */
#include "check.h"
#if defined(PUCK_EMU_CHECK)
#include "memory.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <vector>

namespace emu {

/* ---- what is remembered of an access ----
 *
 * `moment` counts barriers and starts of blocks over the whole run, so it orders what one block
 * does, and tells which block and launch an access was in. Within a moment, accesses of one warp
 * are ordered by the warp's own barriers. */
struct Access {
    const void *pc;
    uint32_t moment; /* 0: none */
    uint16_t thread, warp_moment;
};

/* Of two bytes, the least that puck's threads write on their own. The two last reads, of different
 * threads and, where there are such, of different warps: then any thread's write conflicts with one
 * of them if it conflicts with any read. */
struct Cell {
    Access write, read[2];
    bool pending; /* the write is a cp.async's */
    bool host;    /* the host wrote last */
};
enum { CELL_BYTES = 2, CELL_SHIFT = 1 };

static uint32_t moment_now = 1, moment_of_block, moment_of_launch;
static uint16_t warp_moment[MAX_WARPS];
/* The launch's blocks: first moment and index. */
static std::vector<std::pair<uint32_t, uint3>> blocks;
static std::vector<Cell> shared_cells;

void check_launch() {
    moment_of_launch = ++moment_now;
    blocks.clear();
}

void check_block() {
    moment_of_block = ++moment_now;
    memset(warp_moment, 0, sizeof warp_moment);
    blocks.emplace_back(moment_of_block, block_index);
}

void check_barrier() { moment_now++; }
void check_warp_barrier(int warp) { warp_moment[warp]++; }

/* ---- messages ---- */

/* FILE:LINE of an instruction: through all calls that were inlined, innermost first, up to the
 * kernel itself. */
static std::string place_of(const void *pc) {
    Dl_info info;
    char command[4200], line[1024];
    std::string text;
    if (!pc || !dladdr(pc, &info)) return "an unknown place";
    const size_t offset = (size_t)((const char *)pc - (const char *)info.dli_fbase) - 1;
    snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%zx", info.dli_fname, offset);
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(line, sizeof line, pipe)) {
        line[strcspn(line, " \n")] = '\0';
        const char *from = strstr(line, "kernels/");
        if (!from) from = strstr(line, "tests/");
        if (!from || strstr(from, "kernels/emu/")) continue;
        text += (text.empty() ? "" : ", called from ") + std::string(from);
    }
    if (pipe) pclose(pipe);
    return text.empty() ? "an unknown place" : text;
}

static std::string thread_of(const Access &a) {
    const unsigned n = a.thread, x = block_dim.x, y = block_dim.y;
    char text[128];
    int used = snprintf(text, sizeof text, "thread (%u,%u,%u)", n % x, n / x % y, n / (x * y));
    if (a.moment < moment_of_block)
        for (size_t i = blocks.size(); i-- > 0;)
            if (blocks[i].first <= a.moment) {
                const uint3 b = blocks[i].second;
                snprintf(text + used, sizeof text - (size_t)used, " of block (%u,%u,%u)", b.x, b.y,
                         b.z);
                break;
            }
    return text;
}

[[noreturn]] static void report(const void *pc, const char *verb, const void *address,
                                const std::string &what) {
    fprintf(stderr, "emu: %s at %s: %s%s%s, %s\n", thread_text(self()).c_str(),
            place_of(pc).c_str(), verb, address ? " " : "",
            address ? memory_text(address).c_str() : "", what.c_str());
    abort();
}

/* ---- races ---- */

/* The first moment whose accesses may conflict: the block's in shared memory, else the launch's. */
static uint32_t horizon;

/* Nothing orders access `a` before what the running thread does now. */
static bool unordered(const Access &a) {
    if (a.moment < horizon) return false;
    if (a.moment < moment_of_block) return true;
    const int me = current->number;
    if (a.moment < moment_now || a.thread == me) return false;
    const int warp = me / WARP_LANES;
    return a.thread / WARP_LANES != warp || a.warp_moment == warp_moment[warp];
}

static Access access_now(const void *pc) {
    return {pc, moment_now, (uint16_t)current->number,
            warp_moment[current->number / WARP_LANES]};
}

/* Keeps a read as the newest; of the older ones, that of another warp if there is one. */
static void read_keep(Cell *cell, const Access &now) {
    Access *r = cell->read;
    const int warp = now.thread / WARP_LANES;
    const bool other_kept = r[1].moment == now.moment && r[1].thread / WARP_LANES != warp &&
                            r[0].thread / WARP_LANES == warp;
    const bool again = r[0].moment == now.moment && r[0].thread == now.thread;
    if (!again && !other_kept) r[1] = r[0];
    r[0] = now;
}

static void cell_read(Cell *cell, const void *address, const void *pc, bool written) {
    const Access &w = cell->write;
    if (!written) report(pc, "reads", address, "which nobody wrote");
    if (cell->pending && w.moment >= moment_of_block)
        report(pc, "reads", address,
               "which the cp.async of " + thread_of(w) + " at " + place_of(w.pc) +
                   " fills, which has not been waited for");
    if (!cell->host && unordered(w))
        report(pc, "reads", address,
               "which " + thread_of(w) + " writes at " + place_of(w.pc) +
                   " with no barrier between");
    read_keep(cell, access_now(pc));
}

static void cell_write(Cell *cell, const void *address, const void *pc, bool pending) {
    const Access &w = cell->write;
    if (!cell->host && w.moment && unordered(w))
        report(pc, "writes", address,
               "which " + thread_of(w) + " writes at " + place_of(w.pc) +
                   " with no barrier between");
    for (const Access &r : cell->read)
        if (r.moment && unordered(r))
            report(pc, "writes", address,
                   "which " + thread_of(r) + " reads at " + place_of(r.pc) +
                       " with no barrier between");
    cell->write = access_now(pc);
    cell->pending = pending;
    cell->host = false;
}

/* ---- where an address lies ---- */

enum What { READ, WRITE, WRITE_LATER };

static void touch(Cell *cell, const void *address, const void *pc, What what, bool written) {
    if (what == READ)
        cell_read(cell, address, pc, written);
    else
        cell_write(cell, address, pc, what == WRITE_LATER);
}

static void shared_touch(size_t offset, const char *address, size_t bytes, const void *pc,
                         What what) {
    if (!shared_holds(address, bytes))
        report(pc, what == READ ? "reads" : "writes", address, "beside the arrays of the block");
    horizon = moment_of_block;
    for (size_t i = offset >> CELL_SHIFT; i <= (offset + bytes - 1) >> CELL_SHIFT; i++) {
        Cell *cell = &shared_cells[i];
        touch(cell, address, pc, what, cell->write.moment >= moment_of_block);
    }
}

static void device_touch(const DeviceBlock &d, const char *address, size_t bytes, const void *pc,
                         What what) {
    if (address < d.memory || address + bytes > d.memory + d.bytes)
        report(pc, what == READ ? "reads" : "writes", address, "beside an allocation");
    const size_t offset = (size_t)(address - d.memory);
    horizon = moment_of_launch;
    for (size_t i = offset >> CELL_SHIFT; i <= (offset + bytes - 1) >> CELL_SHIFT; i++) {
        Cell *cell = static_cast<Cell *>(d.cells) + i;
        touch(cell, address, pc, what, cell->host || cell->write.moment);
    }
}

/* Tables of constants lie in the library itself, arguments of the kernel in its launch. */
extern "C" {
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
}

static void access(const void *at, size_t bytes, const void *pc, What what, size_t alignment) {
    if (!running || !current || !bytes) return;
    const char *address = static_cast<const char *>(at);
    const Stack *stack = self()->context.stack;
    if (address >= stack->bottom && address < stack->bottom + stack->bytes) return;
    if (alignment && (uintptr_t)at % alignment)
        report(pc, what == READ ? "reads" : "writes", at,
               std::to_string(bytes) + " bytes, whose address is not a multiple of that");
    size_t offset;
    DeviceBlock d;
    if (shared_offset(at, &offset)) return shared_touch(offset, address, bytes, pc, what);
    if (device_find(at, &d)) return device_touch(d, address, bytes, pc, what);
    const char *launch = reinterpret_cast<const char *>(running);
    const bool constant = (address >= __ehdr_start && address < _end) ||
                          (address >= launch && address < launch + running->object_bytes());
    if (what != READ || !constant)
        report(pc, what == READ ? "reads" : "writes", at, "memory of the host");
}

void check_read(const void *address, size_t bytes, const void *pc) {
    access(address, bytes, pc, READ, 0);
}
void check_write(const void *address, size_t bytes, const void *pc) {
    access(address, bytes, pc, WRITE, 0);
}
void check_pending(const void *address, size_t bytes, const void *pc) {
    access(address, bytes, pc, WRITE_LATER, 0);
}

void check_host_write(const void *address, size_t bytes, bool fresh) {
    DeviceBlock d;
    if (!bytes || !device_find(address, &d)) return;
    const size_t offset = (size_t)(static_cast<const char *>(address) - d.memory);
    for (size_t i = offset >> CELL_SHIFT; i <= (offset + bytes - 1) >> CELL_SHIFT; i++) {
        static_cast<Cell *>(d.cells)[i] = Cell{};
        static_cast<Cell *>(d.cells)[i].host = !fresh;
    }
}

void *check_cells(size_t bytes) {
    void *cells = calloc(bytes / CELL_BYTES + 1, sizeof(Cell));
    if (!cells) {
        fprintf(stderr, "emu: no memory for the checker\n");
        abort();
    }
    return cells;
}
void check_shared_size(size_t bytes) { shared_cells.resize(bytes / CELL_BYTES + 1); }

} // namespace emu

/* ---- what -fsanitize=thread calls ---- */

#define PC __builtin_return_address(0)
#define ACCESS(bytes)                                                                              \
    void __tsan_read##bytes(void *p) { emu::access(p, bytes, PC, emu::READ, bytes); }              \
    void __tsan_write##bytes(void *p) { emu::access(p, bytes, PC, emu::WRITE, bytes); }            \
    void __tsan_volatile_read##bytes(void *p) { emu::access(p, bytes, PC, emu::READ, bytes); }     \
    void __tsan_volatile_write##bytes(void *p) { emu::access(p, bytes, PC, emu::WRITE, bytes); }   \
    void __tsan_unaligned_read##bytes(void *p) { emu::access(p, bytes, PC, emu::READ, 0); }        \
    void __tsan_unaligned_write##bytes(void *p) { emu::access(p, bytes, PC, emu::WRITE, 0); }
extern "C" {
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
void __tsan_read_range(void *p, size_t bytes) { emu::access(p, bytes, PC, emu::READ, 0); }
void __tsan_write_range(void *p, size_t bytes) { emu::access(p, bytes, PC, emu::WRITE, 0); }
void __tsan_vptr_read(void **) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}

/* What -fsanitize=alignment,bounds calls; the first argument describes types. */
void __ubsan_handle_type_mismatch_v1(void *, void *address) {
    emu::report(PC, "touches", address, "which is not aligned for its type");
}
void __ubsan_handle_out_of_bounds(void *, void *index) {
    emu::report(PC, "takes an element", nullptr,
                "index " + std::to_string((long)index) + " is beyond the array");
}
}
#endif
