/* Stacks and switches between them: the least that fibers need. */
#pragma once
#include <stddef.h>

namespace emu {

/* A stack of its own, with a page below it that must not be touched. Never given back to the
 * system: the pool below keeps it for the next thread. */
struct Stack {
    char *bottom;
    size_t bytes;
    Stack *next; /* in the pool */
};
Stack *stack_take();
void stack_put(Stack *stack);

/* Where a suspended fiber goes on. */
struct Context {
    void *pointer;
    Stack *stack; /* NULL: the stack of the host thread */
};

/* A fiber that calls entry() on `stack` when it is first switched to; entry never returns. */
Context context_new(Stack *stack, void (*entry)());
/* Suspends the running fiber in `from`, goes on with `to`. */
void context_switch(Context *from, const Context *to);
/* First thing on a fresh fiber, which has not come back from a switch. */
void context_started();

} // namespace emu
