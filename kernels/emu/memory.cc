#include "memory.h"
#include <map>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace emu {

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/* Without a sanitizer a write into a redzone is found when somebody looks. */
static void redzone_make(char *at, size_t bytes) {
    memset(at, GUARD_BYTE, bytes);
    ASAN_POISON_MEMORY_REGION(at, bytes);
}

static bool redzone_is_whole(char *at, size_t bytes) {
    ASAN_UNPOISON_MEMORY_REGION(at, bytes);
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)at[i] != GUARD_BYTE) return false;
    return true;
}

/* ---- device memory ---- */

struct Allocation {
    size_t bytes;
    char *block; /* pages of its own: redzone, memory, rest of its last 256 bytes and redzone */
    void *cells; /* the checker's */
};
static std::map<char *, Allocation> allocations; /* by address */
static size_t allocated;
static int at_work; /* DeviceAtWork that exist */

static size_t tail(size_t bytes) { return round_up(bytes, REDZONE) - bytes + REDZONE; }
static size_t block_bytes(size_t bytes) { return REDZONE + bytes + tail(bytes); }

static void open_all(bool open) {
    for (const auto &[memory, a] : allocations)
        mprotect(a.block, block_bytes(a.bytes), open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

DeviceAtWork::DeviceAtWork() {
    if (at_work++ == 0) open_all(true);
}
DeviceAtWork::~DeviceAtWork() {
    if (--at_work == 0) open_all(false);
}

static void stop_host(int, siginfo_t *info, void *) {
    DeviceBlock d;
    if (!at_work && device_find(info->si_addr, &d)) {
        fprintf(stderr, "emu: the host touches %s\n", memory_text(info->si_addr).c_str());
        abort();
    }
    signal(SIGSEGV, SIG_DFL); /* it comes again */
}

static void watch_host() {
    static bool watched;
    struct sigaction action = {};
    action.sa_sigaction = stop_host;
    action.sa_flags = SA_SIGINFO;
    if (!watched) sigaction(SIGSEGV, &action, nullptr);
    watched = true;
}

void *device_alloc(size_t bytes) {
    if (bytes > DEVICE_BYTES - allocated) return nullptr;
    void *const pages = mmap(nullptr, block_bytes(bytes), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    watch_host();
    const DeviceAtWork open;
    char *const block = static_cast<char *>(pages), *const memory = block + REDZONE;
    memset(memory, FRESH_BYTE, bytes);
    redzone_make(block, REDZONE);
    redzone_make(memory + bytes, tail(bytes));
    allocations[memory] = {bytes, block, check_cells(bytes)};
    allocated += bytes;
    return memory;
}

bool device_free(void *memory) {
    const auto found = allocations.find(static_cast<char *>(memory));
    if (found == allocations.end()) return false;
    const Allocation a = found->second;
    const DeviceAtWork open;
    if (!redzone_is_whole(a.block, REDZONE) ||
        !redzone_is_whole(found->first + a.bytes, tail(a.bytes))) {
        fprintf(stderr, "emu: a kernel wrote beside device memory of %zu bytes\n", a.bytes);
        abort();
    }
    allocations.erase(found);
    free(a.cells);
    allocated -= a.bytes;
    munmap(a.block, block_bytes(a.bytes));
    return true;
}

bool device_find(const void *address, DeviceBlock *out) {
    char *p = static_cast<char *>(const_cast<void *>(address));
    auto after = allocations.upper_bound(p + REDZONE);
    if (after == allocations.begin()) return false;
    const auto &[memory, a] = *--after;
    if (p < a.block || p >= memory + a.bytes + tail(a.bytes)) return false;
    *out = {memory, a.bytes, a.cells};
    return true;
}

size_t device_free_bytes() { return DEVICE_BYTES - allocated; }

bool device_holds(const void *address, size_t bytes) {
    const char *p = static_cast<const char *>(address);
    auto after = allocations.upper_bound(const_cast<char *>(p));
    if (after == allocations.begin()) return false;
    const auto &[memory, a] = *--after;
    return p >= memory && p + bytes <= memory + a.bytes;
}

/* ---- shared memory ---- */

struct SharedSlot {
    const SharedArray *array; /* NULL: dynamic */
    char *memory;
    size_t bytes;
};
/* Slots in the order in which threads reached them, a redzone around each. */
enum { MAX_SLOTS = 64 };
alignas(1024) static char arena[SHARED_BYTES + (MAX_SLOTS + 1) * REDZONE * 2];
static SharedSlot slots[MAX_SLOTS];
static int n_slots;
static size_t arena_used, shared_used; /* bytes with redzones and without */

static char *slot_new(const SharedArray *array, size_t bytes) {
    if (n_slots == MAX_SLOTS || shared_used + bytes > running->shared_limit)
        fault(self(), array ? array->site : running->site,
              "%zu bytes of shared memory beside %zu, of which there are %zu", bytes, shared_used,
              running->shared_limit);
    char *memory = arena + arena_used;
    ASAN_UNPOISON_MEMORY_REGION(memory, tail(bytes) + bytes);
    memset(memory, FRESH_BYTE, bytes);
    redzone_make(memory + bytes, tail(bytes));
    slots[n_slots++] = {array, memory, bytes};
    arena_used += bytes + tail(bytes);
    shared_used += bytes;
    return memory;
}

void shared_begin(const Launch *launch) {
    check_shared_size(sizeof arena);
    n_slots = 0;
    shared_used = 0;
    arena_used = REDZONE;
    ASAN_UNPOISON_MEMORY_REGION(arena, REDZONE);
    redzone_make(arena, REDZONE);
    slot_new(nullptr, launch->dynamic_bytes);
}

void *shared_array(const SharedArray *array, size_t bytes, size_t alignment) {
    for (int i = 1; i < n_slots; i++)
        if (slots[i].array == array) return slots[i].memory;
    if (alignment > REDZONE)
        fault(self(), array->site, "shared array aligned to %zu bytes", alignment);
    return slot_new(array, bytes);
}

void *dynamic_shared() { return slots[0].memory; }

void shared_end() {
    if (!redzone_is_whole(arena, REDZONE))
        fault(nullptr, running->site, "a thread wrote before the start of shared memory");
    for (int i = 0; i < n_slots; i++) {
        const SharedSlot *s = &slots[i];
        if (redzone_is_whole(s->memory + s->bytes, tail(s->bytes))) continue;
        if (!s->array)
            fault(nullptr, running->site, "a thread wrote beyond dynamic shared memory, %zu bytes",
                  s->bytes);
        fault(nullptr, s->array->site, "a thread wrote beyond the end of %s, %zu bytes",
              s->array->name, s->bytes);
    }
}

bool shared_offset(const void *address, size_t *offset) {
    const char *p = static_cast<const char *>(address);
    if (p < arena || p >= arena + sizeof arena) return false;
    *offset = (size_t)(p - arena);
    return true;
}

std::string memory_text(const void *address) {
    const char *p = static_cast<const char *>(address);
    char text[200];
    size_t offset;
    DeviceBlock d;
    if (shared_offset(address, &offset)) {
        const SharedSlot *s = &slots[0]; /* the last one that begins before p */
        for (int i = 1; i < n_slots; i++)
            if (slots[i].memory <= p) s = &slots[i];
        snprintf(text, sizeof text, "byte %ld of %s (%zu bytes, shared)", (long)(p - s->memory),
                 s->array ? s->array->name : "dynamic shared memory", s->bytes);
    } else if (device_find(address, &d)) {
        snprintf(text, sizeof text, "byte %ld of %zu of device memory", (long)(p - d.memory),
                 d.bytes);
    } else {
        snprintf(text, sizeof text, "%p", address);
    }
    return text;
}

bool shared_holds(const void *address, size_t bytes) {
    const char *p = static_cast<const char *>(address);
    for (int i = 0; i < n_slots; i++)
        if (p >= slots[i].memory && p + bytes <= slots[i].memory + slots[i].bytes) return true;
    return false;
}

} // namespace emu
