/* The threads of a block as fibers: who runs next, barriers, meetings of a warp's lanes.
 *
 * A thread runs until it waits. Lanes of a warp take turns first, so that their stacks stay in the
 * cache; then comes the next warp. Positions are places in the schedule's order: the lane at
 * position p of a warp is lane_at[p]. */
#include "block.h"
#include "memory.h"
#include <algorithm>
#include <numeric>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>

namespace emu {

ThreadBase *current;
uint3 block_index;
dim3 block_dim, grid_dim;
const Launch *running;

/* ---- schedules ---- */

Schedule schedule_now() {
    const char *text = getenv("PUCK_EMU_SCHEDULE");
    if (!text || !strcmp(text, "forward")) return {Schedule::FORWARD, 0};
    if (!strcmp(text, "reverse")) return {Schedule::REVERSE, 0};
    if (!strncmp(text, "shuffle:", 8)) return {Schedule::SHUFFLE, strtoull(text + 8, nullptr, 10)};
    fprintf(stderr, "emu: PUCK_EMU_SCHEDULE is forward, reverse or shuffle:SEED, not %s\n", text);
    abort();
}

/* SplitMix64, of Steele, Lea and Flood 2014. */
uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

std::vector<int> schedule_order(Schedule s, int n, uint64_t salt) {
    std::vector<int> order(n);
    std::iota(order.begin(), order.end(), 0);
    if (s.kind == Schedule::REVERSE) std::reverse(order.begin(), order.end());
    uint64_t state = s.seed ^ (salt << 20);
    if (s.kind == Schedule::SHUFFLE)
        for (int i = n - 1; i > 0; i--)
            std::swap(order[i], order[random_next(&state) % (unsigned)(i + 1)]);
    return order;
}

/* ---- the block that runs ---- */

/* Lanes that wait for each other; there are several where branches use disjoint masks. */
struct Meeting {
    unsigned mask, arrived;
    Thread *first;
};

struct Warp {
    int n_lanes;
    int n_meetings;
    Meeting meeting[WARP_LANES];
    int position;   /* in the order of warps */
    unsigned ready; /* positions that can run */
    unsigned char lane_at[WARP_LANES], position_of[WARP_LANES];
};

static Thread threads[MAX_THREADS];
static struct {
    int n_threads, n_warps, n_live, n_in_barrier;
    Thread *first_in_barrier;
    Warp warp[MAX_WARPS];
    int warp_at[MAX_WARPS], warp_position; /* of the warp that runs */
    unsigned ready;                        /* positions of warps with a thread that can run */
    bool shuffles;
    uint64_t random;
    Context host; /* goes on when every thread is done */
} block;

Thread *thread_at(int number) { return &threads[number]; }

static Warp *warp_of(const Thread *t) { return &block.warp[t->number / WARP_LANES]; }

static void make_ready(Thread *t) {
    Warp *warp = warp_of(t);
    t->state = READY;
    warp->ready |= 1u << warp->position_of[t->number % WARP_LANES];
    block.ready |= 1u << warp->position;
}

/* The first set bit after `position`, else the first of all. */
static int next_bit(unsigned bits, int position) {
    const unsigned after = position < 31 ? bits & (~0u << (position + 1)) : 0;
    return __builtin_ctz(after ? after : bits);
}

/* Takes the next thread that can run off the list; NULL if there is none. */
static Thread *next_thread() {
    Warp *warp = &block.warp[block.warp_at[block.warp_position]];
    /* A shuffle also changes warps in the middle of a warp's turn. */
    const bool leave = block.shuffles && (random_next(&block.random) & 7) == 0;
    if (!warp->ready) block.ready &= ~(1u << block.warp_position);
    if (!block.ready) return nullptr;
    if (!warp->ready || leave) {
        block.warp_position = next_bit(block.ready, block.warp_position);
        warp = &block.warp[block.warp_at[block.warp_position]];
    }
    int before = -1; /* of the warp's lanes, from the first on */
    if (self() && warp_of(self()) == warp) before = warp->position_of[self()->number % WARP_LANES];
    const int position = next_bit(warp->ready, before);
    warp->ready &= ~(1u << position);
    if (!warp->ready) block.ready &= ~(1u << block.warp_position);
    return &threads[(warp - block.warp) * WARP_LANES + warp->lane_at[position]];
}

/* ---- faults ---- */

static bool same_text(const char *a, const char *b) { return a == b || !strcmp(a, b); }
static bool same_site(Site a, Site b) { return a.line == b.line && same_text(a.file, b.file); }
/* Two lanes wait in one operation. */
static bool same_meeting(const Thread *a, const Thread *b) {
    return a->mask == b->mask && same_site(a->site, b->site) && same_text(a->what, b->what);
}

std::string site_text(Site site) {
    return std::string(site.file) + ":" + std::to_string(site.line);
}

static std::string text3(uint3 v) {
    return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string thread_text(const Thread *t) {
    if (!running) return "host";
    return std::string("kernel ") + running->name + " block " + text3(block_index) + " thread " +
           (t ? text3(t->index) : "none");
}

void fault(const Thread *t, Site site, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "emu: %s at %s: %s\n", thread_text(t).c_str(), site_text(site).c_str(), text);
    abort();
}

/* What thread t does instead of what the others wait for. */
static std::string doing(const Thread *t) {
    std::string text = "thread " + text3(t->index);
    if (t->state == DONE)
        return text + " has returned" +
               (t->what ? ", after " + std::string(t->what) + " at " + site_text(t->site) : "");
    if (t->state == FRESH || t->state == READY) return text + " runs";
    return text + " waits in " + t->what + " at " + site_text(t->site);
}

/* Nobody can run and not all are done: names a thread that waits, best in a meeting, and one that
 * it waits for. */
[[noreturn]] static void deadlock() {
    const Thread *waiting = nullptr, *other = nullptr;
    for (int i = 0; i < block.n_threads; i++)
        if (threads[i].state != DONE && (!waiting || threads[i].state == IN_WARP))
            waiting = &threads[i];
    for (int i = 0; i < block.n_threads; i++) {
        const Thread *t = &threads[i];
        const bool wanted = waiting->state == IN_BARRIER || (warp_of(t) == warp_of(waiting) &&
                                                             waiting->mask >> (i % WARP_LANES) & 1);
        if (wanted && (t->state != waiting->state || !same_site(t->site, waiting->site))) other = t;
    }
    fault(waiting, waiting->site, "waits for ever in %s: %s", waiting->what,
          other ? doing(other).c_str() : "so do all others");
}

/* ---- starting, waiting, ending ---- */

static void thread_main();

static void go_to(Context *from, Thread *to) {
    if (to->state == FRESH) to->context = context_new(stack_take(), thread_main);
    to->state = READY;
    current = to;
    context_switch(from, &to->context);
}

/* The running thread's state says what it waits for. */
static void wait_here() {
    Thread *me = self(), *next = next_thread();
    if (!next) deadlock();
    if (next == me) return;
    go_to(&me->context, next);
}

/* The end of a thread: nobody may wait for it any more. */
static void thread_end() {
    Thread *me = self();
    me->state = DONE;
    block.n_live--;
    async_abandon(me);
    if (!block.n_in_barrier) return;
    for (int i = 0; i < block.n_threads; i++)
        if (threads[i].state == IN_BARRIER)
            fault(&threads[i], threads[i].site, "waits in BARRIER, which %s", doing(me).c_str());
}

/* Runs one thread after the other on this stack as long as the next one is fresh: a thread that
 * never waits costs no switch. */
static void thread_main() {
    context_started();
    for (;;) {
        Stack *stack = self()->context.stack;
        running->call();
        thread_end();
        Context gone;
        if (!block.n_live) {
            stack_put(stack);
            gone.stack = stack;
            context_switch(&gone, &block.host);
        }
        Thread *next = next_thread();
        if (!next) deadlock();
        if (next->state != FRESH) {
            stack_put(stack);
            gone.stack = stack;
            go_to(&gone, next);
        }
        next->context.stack = stack;
        next->state = READY;
        current = next;
    }
}

static void threads_make(Schedule schedule, uint64_t salt) {
    block.n_threads = (int)(block_dim.x * block_dim.y * block_dim.z);
    block.n_warps = (block.n_threads + WARP_LANES - 1) / WARP_LANES;
    block.n_live = block.n_threads;
    block.n_in_barrier = 0;
    block.shuffles = schedule.kind == Schedule::SHUFFLE;
    block.random = schedule.seed ^ salt;
    block.ready = block.n_warps == MAX_WARPS ? ~0u : (1u << block.n_warps) - 1;
    block.warp_position = 0;
    const std::vector<int> warp_order = schedule_order(schedule, block.n_warps, 2 * salt);
    for (int p = 0; p < block.n_warps; p++) {
        block.warp_at[p] = warp_order[p];
        block.warp[warp_order[p]].position = p;
    }
    for (int i = 0; i < block.n_threads; i++) {
        Thread *t = &threads[i];
        const unsigned n = (unsigned)i, xy = block_dim.x * block_dim.y;
        t->index = {n % block_dim.x, n % xy / block_dim.x, n / xy};
        t->number = i;
        t->state = FRESH;
        t->what = nullptr;
        t->copies.clear();
        t->open_group = 0;
    }
    for (int i = 0; i < block.n_warps; i++) {
        Warp *w = &block.warp[i];
        w->n_meetings = 0;
        w->n_lanes = std::min<int>(WARP_LANES, block.n_threads - i * WARP_LANES);
        w->ready = w->n_lanes == WARP_LANES ? ~0u : (1u << w->n_lanes) - 1;
        const std::vector<int> order =
            schedule_order(schedule, w->n_lanes, 2 * salt + 1 + (uint64_t)i * 7919);
        for (int p = 0; p < w->n_lanes; p++) {
            w->lane_at[p] = (unsigned char)order[p];
            w->position_of[order[p]] = (unsigned char)p;
        }
    }
}

void block_run(const Launch *launch, Schedule schedule, uint64_t salt) {
    running = launch;
    current = nullptr;
    threads_make(schedule, salt);
    shared_begin(launch);
    check_block();
    block.host = {nullptr, nullptr};
    go_to(&block.host, next_thread());
    current = nullptr;
    shared_end();
    running = nullptr;
}

/* ---- barriers ---- */

static void wait_begin(ThreadState state, const char *what, Site site) {
    Thread *me = self();
    if (!me || !running) fault(nullptr, site, "%s outside a kernel", what);
    me->state = state;
    me->what = what;
    me->site = site;
}

void block_barrier(Site site) {
    wait_begin(IN_BARRIER, "BARRIER", site);
    Thread *me = self();
    if (block.n_live < block.n_threads)
        for (int i = 0; i < block.n_threads; i++)
            if (threads[i].state == DONE)
                fault(me, site, "waits in BARRIER, which %s", doing(&threads[i]).c_str());
    if (!block.n_in_barrier) block.first_in_barrier = me;
    if (!same_site(site, block.first_in_barrier->site))
        fault(me, site, "waits in BARRIER while %s", doing(block.first_in_barrier).c_str());
    if (++block.n_in_barrier < block.n_threads) return wait_here();
    block.n_in_barrier = 0;
    check_barrier();
    for (int i = 0; i < block.n_threads; i++)
        if (&threads[i] != me) make_ready(&threads[i]);
    me->state = READY;
}

/* ---- meetings ---- */

/* A lane of the mask is gone, or waits where it cannot come from. */
[[noreturn]] static void refuse_partner(const Thread *me, const Thread *t) {
    if (t->state == IN_WARP && t->mask != me->mask)
        fault(me, me->site, "waits in %s of mask %08x while %s of mask %08x", me->what, me->mask,
              doing(t).c_str(), t->mask);
    fault(me, me->site, "waits in %s of mask %08x, which names a lane that does not come: %s",
          me->what, me->mask, doing(t).c_str());
}

/* The meeting that the running thread enters, an old one or a new one. */
static Meeting *meeting_of(Warp *warp, Thread *first_lane) {
    Thread *me = self();
    for (int i = 0; i < warp->n_meetings; i++)
        if (same_meeting(warp->meeting[i].first, me)) return &warp->meeting[i];
    if (!(me->mask >> (me->number % WARP_LANES) & 1))
        fault(me, me->site, "%s of mask %08x, which leaves out the caller", me->what, me->mask);
    if (warp->n_lanes < WARP_LANES && me->mask >> warp->n_lanes)
        fault(me, me->site, "%s of mask %08x in a warp of %d lanes", me->what, me->mask,
              warp->n_lanes);
    for (unsigned rest = me->mask; rest; rest &= rest - 1) {
        const Thread *t = first_lane + __builtin_ctz(rest);
        if (t != me && t->state != READY && t->state != FRESH) refuse_partner(me, t);
    }
    warp->meeting[warp->n_meetings] = {me->mask, 0, me};
    return &warp->meeting[warp->n_meetings++];
}

void warp_meet(const char *what, unsigned mask, Site site, void *operand, Finish finish) {
    wait_begin(IN_WARP, what, site);
    Thread *me = self(), *first_lane = &threads[me->number / WARP_LANES * WARP_LANES];
    me->mask = mask;
    me->operand = operand;
    Warp *warp = warp_of(me);
    Meeting *meeting = meeting_of(warp, first_lane);
    meeting->arrived |= 1u << (me->number % WARP_LANES);
    if (meeting->arrived != mask) return wait_here();

    *meeting = warp->meeting[--warp->n_meetings];
    void *operands[WARP_LANES] = {};
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        Thread *t = first_lane + __builtin_ctz(rest);
        operands[t->number % WARP_LANES] = t->operand;
        if (t != me) make_ready(t);
    }
    if (finish) finish(operands, mask);
    me->state = READY;
}

} // namespace emu
