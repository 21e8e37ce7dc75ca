/* Running the threads of one block, and what the rest of the emulator asks about them. */
#pragma once
#include "emu.h"
#include "fiber.h"
#include "ptx_emu.h"
#include <vector>

namespace emu {

enum { MAX_THREADS = 1024, WARP_LANES = 32, MAX_WARPS = MAX_THREADS / WARP_LANES };

/* A cp.async that has been issued and not waited for. */
struct AsyncCopy {
    void *to;
    const void *from;
    int bytes, valid;
    int group;
    const void *pc; /* of its issue */
};

enum ThreadState { FRESH, READY, IN_BARRIER, IN_WARP, DONE };

struct Thread : ThreadBase {
    Context context;
    ThreadState state;
    const char *what; /* it waits in, or waited in last: "BARRIER" */
    Site site;        /* of that */
    unsigned mask;
    void *operand;
    std::vector<AsyncCopy> copies;
    int open_group; /* number of the group that cp.async enters now */
};

inline Thread *self() { return static_cast<Thread *>(current); }
/* Thread `number` of the running block. */
Thread *thread_at(int number);

/* Which order threads and blocks run in: PUCK_EMU_SCHEDULE=forward|reverse|shuffle:SEED. */
struct Schedule {
    enum Kind { FORWARD, REVERSE, SHUFFLE } kind;
    uint64_t seed;
};
Schedule schedule_now();
uint64_t random_next(uint64_t *state);
/* Numbers 0 .. n-1 in the schedule's order. */
std::vector<int> schedule_order(Schedule s, int n, uint64_t salt);

/* All threads of block_index, from start to end. */
void block_run(const Launch *launch, Schedule schedule, uint64_t salt);

/* The launch whose blocks run; NULL on the host's side. */
extern const Launch *running;
/* "kernel NAME block (x,y,z) thread (x,y,z)" of the running thread or another one. */
std::string thread_text(const Thread *t);
std::string site_text(Site site);
/* A fault of a kernel: one message on stderr, then abort(). */
[[noreturn]] void fault(const Thread *t, Site site, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

} // namespace emu
