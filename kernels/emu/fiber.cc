#include "fiber.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

/* ---- the switch itself: the registers that a function must keep, then the stack pointer ---- */

extern "C" void emu_switch(void **save, void *load);
#if defined(__x86_64__)
asm(R"(
    .text
    .globl emu_switch
    .hidden emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");
/* Six registers, the address that `ret` takes, and an end of the chain of callers, which also puts
 * the stack where a called function expects it: 8 bytes below a multiple of 16. */
enum { FRAME_WORDS = 8, FRAME_ENTRY = 6 };
#elif defined(__aarch64__)
asm(R"(
    .text
    .globl emu_switch
    .hidden emu_switch
    .type emu_switch, %function
emu_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .size emu_switch, .-emu_switch
)");
/* Twenty registers; x30, the eleventh and twelfth's second, is where `ret` goes. */
enum { FRAME_WORDS = 20, FRAME_ENTRY = 11 };
#else
#error "the emulator switches stacks on x86-64 and aarch64 only"
#endif

namespace emu {

/* ---- stacks ---- */

/* Kernels keep tiles in local arrays; a sanitizer adds redzones around each. Untouched pages cost
 * nothing. */
static const size_t STACK_BYTES = 256 << 10;
static Stack *pool;

Stack *stack_take() {
    if (pool) {
        Stack *stack = pool;
        pool = stack->next;
        return stack;
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *memory = mmap(nullptr, STACK_BYTES + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE)) {
        fprintf(stderr, "emu: no memory for the stack of a thread\n");
        abort();
    }
    return new Stack{static_cast<char *>(memory) + page, STACK_BYTES, nullptr};
}

/* Last in, first out: threads that end without waiting all run on one warm stack. */
void stack_put(Stack *stack) {
    stack->next = pool;
    pool = stack;
}

/* ---- contexts ---- */

Context context_new(Stack *stack, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
    /* The stack's last user left by a switch, with the redzones of its frames still marked. */
    __asan_unpoison_memory_region(stack->bottom, stack->bytes);
#endif
    void **frame = reinterpret_cast<void **>(stack->bottom + stack->bytes) - FRAME_WORDS;
    for (int i = 0; i < FRAME_WORDS; i++) frame[i] = nullptr;
    frame[FRAME_ENTRY] = reinterpret_cast<void *>(entry);
    return {frame, stack};
}

#if defined(__SANITIZE_ADDRESS__)
/* AddressSanitizer wants to know which stack is in use. */
static const void *host_bottom;
static size_t host_bytes;
static bool from_host;

void context_switch(Context *from, const Context *to) {
    void *fake = nullptr;
    from_host = !from->stack;
    __sanitizer_start_switch_fiber(&fake, to->stack ? to->stack->bottom : host_bottom,
                                   to->stack ? to->stack->bytes : host_bytes);
    emu_switch(&from->pointer, to->pointer);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

void context_started() {
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (from_host) host_bottom = bottom, host_bytes = bytes;
}
#else
void context_switch(Context *from, const Context *to) { emu_switch(&from->pointer, to->pointer); }
void context_started() {}
#endif

} // namespace emu
