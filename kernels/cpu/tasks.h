/* Which thread does which task of a loop. Every thread of a team begins with a run of consecutive
 * tasks, the same one in every loop of that length, so that what it made in the op before is still
 * in its cache. Who is through with that takes from the other runs: a core that shares its units
 * with somebody's program is slower than the next, now this one, now that one. So a task's result
 * must not depend on the thread.
 *
 *     Tasks tasks;
 *     tasks_start(&tasks, n);
 *     #pragma omp parallel
 *     for (int64_t i, passed = 0; (i = tasks_next(&tasks, &passed)) >= 0;) ... task i ...
 */
#pragma once
#include <omp.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

enum { RUNS_MOST = 64 }; /* with more threads, some share a run from the start */

/* One per loop; lives until the team's threads have met again. */
typedef struct Tasks {
    int64_t n, runs;
    struct {
        alignas(64) atomic_int_fast64_t taken; /* a cache line of its own */
    } run[RUNS_MOST];
} Tasks;

/* n tasks for the team of the next parallel region. */
static inline void tasks_start(Tasks *tasks, int64_t n) {
    const int64_t threads = omp_get_max_threads();
    tasks->n = n;
    tasks->runs = threads < RUNS_MOST ? threads : RUNS_MOST;
    for (int64_t i = 0; i < tasks->runs; i++) atomic_init(&tasks->run[i].taken, 0);
}

/* The calling thread's next task, -1 when none is left for anybody. *passed, 0 at first, counts the
 * runs that it found empty. */
static inline int64_t tasks_next(Tasks *tasks, int64_t *passed) {
    for (; *passed < tasks->runs; ++*passed) {
        const int64_t run = (omp_get_thread_num() + *passed) % tasks->runs;
        const int64_t first = tasks->n * run / tasks->runs;
        const int64_t end = tasks->n * (run + 1) / tasks->runs;
        const int64_t i =
            first + atomic_fetch_add_explicit(&tasks->run[run].taken, 1, memory_order_relaxed);
        if (i < end) return i;
    }
    return -1;
}
