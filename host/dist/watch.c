/* The watching thread of a rank: see watch.h. How it learns of each fault:
 *
 *   killed    the kernel says at once that a process of this host has ended (pidfd)
 *   stopped, unreachable  no beat has come for SILENT_SEC; beats are sent by the watching threads,
 *             so a rank that computes, saves or waits goes on beating; of a process of this host
 *             the kernel says whether it is stopped
 *   stuck     it beats, but its main thread does not come out of a training step, or to a
 *             collective that others wait in; where all wait in a step for their devices, it is
 *             the one whose device has come least far
 *
 * Rank 0 hears all ranks, the others hear rank 0. Who finds a fault tells it and ends the job. */
#include "watch.h"
#include "log.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    BEAT_MS = 250,
    SILENT_SEC = 10,
    HURRY_SEC = 2,     /* the same, once a signal has come: the launcher may be about to kill */
    STEP_SEC = 12,     /* of a step: it may take so long, and ... */
    STEP_TIMES = 5,    /* ... so many times the slowest of late */
    LONG_SEC = 600,    /* of all else: a rank may save, or tokenize, while others wait */
    ABORT_SEC = 5      /* that MPI has to end the job, before this process ends alone */
};
/* A step counts less with each that follows. The first ones of a process are no measure: a device
 * loads and chooses its kernels. */
static const double SLOWEST_KEPT = 0.95;
enum { UNUSUAL_STEPS = 2 };

/* Who a rank is, for messages, and for the kernel. */
typedef struct Peer {
    char host[TRANSPORT_HOST_MAX];
    int32_t pid;
} Peer;

/* Of the process, as its main thread is. What is said to be locked is so by `lock`. */
static struct {
    const Transport *inner;
    const TransportRank *self;
    Peer *peers; /* n_ranks, like what follows */
    Beat *beats;
    double *heard; /* when */
    bool *came;
    struct pollfd *ends; /* of the other processes of this host, and their ranks; then `wake` */
    int *end_ranks, n_ends;
    int wake; /* an eventfd: tells the thread of `leaves` */
    pthread_t thread;
    pthread_mutex_t lock;
    bool leaves;         /* locked: the thread has to end */
    Beat own;            /* locked */
    double since;        /* locked: when the main thread began to wait */
    double step_since;   /* locked: when it entered a step; 0: it is in none */
    double step_before;  /* locked: seconds of this step before that */
    double slowest_step; /* locked: seconds, of late; 0: not known */
    int64_t n_steps;     /* locked: that have ended */
    const volatile int32_t *marks; /* locked; n_marks, which the device writes */
    int n_marks;
} watch = {.lock = PTHREAD_MUTEX_INITIALIZER};

static atomic_bool hurry; /* set by a signal's handler */

void watch_hurry(void) { hurry = true; }

/* ---- the main thread's collectives ---- */

static void enter(const char *what, int64_t bytes) {
    pthread_mutex_lock(&watch.lock);
    watch.own.calls++;
    watch.own.bytes = bytes;
    snprintf(watch.own.what, sizeof watch.own.what, "%s", what);
    watch.own.waits = true;
    watch.since = time_now();
    pthread_mutex_unlock(&watch.lock);
}

static void leave(void) {
    pthread_mutex_lock(&watch.lock);
    watch.own.waits = false;
    pthread_mutex_unlock(&watch.lock);
}

void watch_enter_step(void) {
    pthread_mutex_lock(&watch.lock);
    watch.step_since = time_now();
    pthread_mutex_unlock(&watch.lock);
}

void watch_leave_step(bool ends) {
    pthread_mutex_lock(&watch.lock);
    watch.step_before += time_now() - watch.step_since;
    watch.step_since = 0;
    if (ends) {
        const double sec = watch.step_before, late = SLOWEST_KEPT * watch.slowest_step;
        if (watch.n_steps++ >= UNUSUAL_STEPS) watch.slowest_step = sec > late ? sec : late;
        watch.step_before = 0;
    }
    pthread_mutex_unlock(&watch.lock);
}

void watch_device(const int32_t *marks, int n) {
    pthread_mutex_lock(&watch.lock);
    watch.marks = marks;
    watch.n_marks = n;
    pthread_mutex_unlock(&watch.lock);
}

static void watched_broadcast(void *data, int64_t bytes, int root) {
    enter("broadcast", bytes);
    watch.inner->broadcast(data, bytes, root);
    leave();
}

static void watched_all_gather(void *recv, const void *send, int64_t bytes) {
    enter("all_gather", bytes);
    watch.inner->all_gather(recv, send, bytes);
    leave();
}

static void watched_all_reduce(void *data, int64_t count, DType dtype) {
    enter("all_reduce", count * dtype_bytes(dtype));
    watch.inner->all_reduce(data, count, dtype);
    leave();
}

static void watched_reduce_scatter(void *recv, const void *send, int64_t count, DType dtype) {
    enter("reduce_scatter", count * dtype_bytes(dtype));
    watch.inner->reduce_scatter(recv, send, count, dtype);
    leave();
}

/* ---- the end ---- */

static void place_of(int rank, char text[TRANSPORT_HOST_MAX + 32]) {
    snprintf(text, TRANSPORT_HOST_MAX + 32, "rank %d on %s", rank, watch.peers[rank].host);
}

/* Tells once what is wrong with `rank`, and ends all ranks. `own` says where this one is. */
static NORETURN void give_up(int rank, const Beat *own, const char *what) {
    Error e;
    char culprit[TRANSPORT_HOST_MAX + 32], teller[TRANSPORT_HOST_MAX + 32];
    place_of(rank, culprit);
    place_of(watch.self->rank, teller);
    log_progress_end();
    error_set(&e, NULL, "Start the job again, and it goes on from the last save",
              "%s %s; %s %s %s of %ld bytes, its collective %ld", culprit, what, teller,
              own->waits ? "waits in" : "was last in", own->calls ? own->what : "no collective",
              (long)own->bytes, (long)own->calls);
    error_print(&e);
    fflush(NULL);
    signal(SIGALRM, SIG_DFL);
    alarm(ABORT_SEC);
    Beat last = *own;
    last.ends = true;
    for (int i = 0; i < 2; i++) { /* one beat may still be on the way */
        poll(NULL, 0, BEAT_MS);
        watch.inner->beat(&last, watch.beats, watch.came);
    }
    watch.inner->abort(EXIT_FAILED);
    _exit(EXIT_FAILED);
}

/* ---- the watching thread ---- */

/* The first rank of this host that is left speaks: another may have ended for the same reason. */
static void check_ended(const Beat *own) {
    int dead = -1;
    for (int i = 0; i < watch.n_ends; i++)
        if (watch.ends[i].revents & POLLIN && dead < 0) dead = watch.end_ranks[i];
    if (dead < 0) return;
    for (int i = 0; i < watch.n_ends; i++)
        if (watch.end_ranks[i] < watch.self->rank && !(watch.ends[i].revents & POLLIN))
            sleep(ABORT_SEC);
    give_up(dead, own, "has ended");
}

/* Whether the kernel would tell of this rank's end. */
static bool is_here(int rank) {
    for (int i = 0; i < watch.n_ends; i++)
        if (watch.end_ranks[i] == rank) return true;
    return false;
}

/* In a process that is stopped no thread runs; one that is not may only wait for a processor. */
static bool is_stopped(int rank) {
    char path[32], text[512], state = 'T';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)watch.peers[rank].pid);
    FILE *f = fopen(path, "r");
    const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = '\0';
    const char *after_name = strrchr(text, ')');
    if (after_name) sscanf(after_name + 1, " %c", &state);
    return state == 'T' || state == 't';
}

/* Others than rank 0 leave it to rank 0 to speak, unless it is rank 0 that is silent; then to the
 * first of them. */
static void check_silent(const Beat *own, double waited, double now) {
    const int rank = watch.self->rank, last = rank == 0 ? watch.self->n_ranks : 1;
    const bool hurries = hurry && own->waits && waited > HURRY_SEC;
    char text[96];
    if (hurry && !own->waits) return; /* the launcher is about to end this rank, or it saves */
    for (int r = rank == 0; r < last; r++) {
        const double silent = now - watch.heard[r];
        const bool here = is_here(r);
        const int limit = hurries && !here ? HURRY_SEC : SILENT_SEC;
        if (silent < limit + 0.25 * (double)i64_min(rank, 20)) continue;
        if (here && silent < LONG_SEC && !is_stopped(r)) continue;
        snprintf(text, sizeof text, "is dead, stopped or out of reach: no sign of it for %.0f s",
                 silent);
        give_up(r, own, text);
    }
}

/* Less than 0 if others wait for a rather than for b: it has begun fewer collectives; or it does
 * not wait itself; or its device has come less far. */
static int compare_progress(const Beat *a, const Beat *b) {
    if (a->calls != b->calls) return a->calls < b->calls ? -1 : 1;
    if (a->waits != b->waits) return a->waits < b->waits ? -1 : 1;
    return (a->reached > b->reached) - (a->reached < b->reached);
}

/* The rank that is waited for; where several are as far, one of them, and *alone is false: they may
 * wait in their devices for each other. Rank 0 knows; the others give it time to say so, and
 * suspect it. */
static int rank_behind(const Beat *own, bool *alone) {
    int behind = 0;
    *alone = true;
    for (int r = 1; watch.self->rank == 0 && r < watch.self->n_ranks; r++) {
        const Beat *least = behind ? &watch.beats[behind] : own;
        const int order = compare_progress(&watch.beats[r], least);
        if (order <= 0) *alone = order < 0;
        if (order < 0) behind = r;
    }
    return behind;
}

/* `waited`: seconds of the main thread in its collective. */
static void check_stuck(const Beat *own, double waited, double slowest_step) {
    bool alone;
    const int behind = rank_behind(own, &alone);
    const Beat *b = behind == watch.self->rank ? own : &watch.beats[behind];
    const int grace = watch.self->rank ? SILENT_SEC : 0;
    char text[96];
    if (hurry) return;
    const bool step = slowest_step > 0 &&
                      b->step_sec > STEP_SEC + STEP_TIMES * slowest_step + grace;
    if (!step && !(own->waits && waited > LONG_SEC + grace)) return;
    snprintf(text, sizeof text, "is stuck%s: %s for %.0f s",
             alone ? "" : ", or waits for one that is",
             step ? "it has been in one step" : "others have waited for it",
             step ? b->step_sec : waited);
    give_up(behind, own, text);
}

static void forget(double now) {
    for (int r = 0; r < watch.self->n_ranks; r++) watch.heard[r] = now;
}

static void *watch_thread(void *unused) {
    double before = time_now(), quiet_until = 0;
    forget(before);
    for (;;) {
        poll(watch.ends, (nfds_t)watch.n_ends + 1, BEAT_MS);
        const double now = time_now();
        pthread_mutex_lock(&watch.lock);
        const bool leaves = watch.leaves, slept = now - before > SILENT_SEC / 2;
        if (slept) { /* this process was stopped: what it has heard is old */
            watch.since = now;
            watch.step_since = watch.step_since > 0 ? now : 0;
        }
        watch.own.step_sec =
            watch.step_since > 0 ? now - watch.step_since + watch.step_before : 0;
        watch.own.reached = 0;
        for (int i = 0; i < watch.n_marks; i++) watch.own.reached += watch.marks[i];
        const Beat own = watch.own;
        const double waited = now - watch.since, slowest_step = watch.slowest_step;
        pthread_mutex_unlock(&watch.lock);
        if (leaves) return unused;
        if (slept) {
            forget(now);
            quiet_until = now + SILENT_SEC; /* is this the end, which another has told? */
        }
        before = now;
        watch.inner->beat(&own, watch.beats, watch.came);
        for (int r = 0; r < watch.self->n_ranks; r++) {
            if (watch.came[r]) watch.heard[r] = now;
            if (watch.beats[r].ends) quiet_until = now + SILENT_SEC;
        }
        if (now < quiet_until) continue;
        check_ended(&own);
        check_silent(&own, waited, now);
        check_stuck(&own, waited, slowest_step);
    }
}

/* ---- start and stop ---- */

/* A kernel or a container that tells nothing of other processes leaves the beats. */
static void watch_processes(void) {
    for (int r = 0; r < watch.self->n_ranks; r++) {
        if (r == watch.self->rank || strcmp(watch.peers[r].host, watch.self->host) != 0) continue;
        const int fd = (int)syscall(SYS_pidfd_open, watch.peers[r].pid, 0);
        if (fd < 0) continue;
        watch.end_ranks[watch.n_ends] = r;
        watch.ends[watch.n_ends++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

static void *zeros(size_t size) {
    void *list = calloc((size_t)watch.self->n_ranks, size);
    CHECK(list, "no memory to watch %d ranks", watch.self->n_ranks);
    return list;
}

const Transport *watch_start(const Transport *transport, const TransportRank *self) {
    static Transport watched;
    watched = *transport;
    watched.broadcast = watched_broadcast;
    watched.all_gather = watched_all_gather;
    watched.all_reduce = watched_all_reduce;
    watched.reduce_scatter = watched_reduce_scatter;
    watch.inner = transport;
    watch.self = self;
    watch.peers = zeros(sizeof *watch.peers);
    watch.beats = zeros(sizeof *watch.beats);
    watch.heard = zeros(sizeof *watch.heard);
    watch.came = zeros(sizeof *watch.came);
    watch.ends = zeros(sizeof *watch.ends);
    watch.end_ranks = zeros(sizeof *watch.end_ranks);
    Peer own = {.pid = getpid()};
    memcpy(own.host, self->host, sizeof own.host);
    transport->all_gather(watch.peers, &own, sizeof own);
    watch_processes();
    watch.wake = eventfd(0, EFD_CLOEXEC);
    CHECK(watch.wake >= 0, "no eventfd: %s", strerror(errno));
    watch.ends[watch.n_ends] = (struct pollfd){.fd = watch.wake, .events = POLLIN};
    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    const int failed = pthread_create(&watch.thread, NULL, watch_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    CHECK(!failed, "no thread to watch the ranks: error %d", failed);
    return &watched;
}

void watch_stop(void) {
    /* When all have come here none is needed any more; until then it is. */
    char *here = zeros(1);
    const char own = 1;
    watched_all_gather(here, &own, 1);
    free(here);
    pthread_mutex_lock(&watch.lock);
    watch.leaves = true;
    pthread_mutex_unlock(&watch.lock);
    eventfd_write(watch.wake, 1);
    pthread_join(watch.thread, NULL);
    for (int i = 0; i <= watch.n_ends; i++) close(watch.ends[i].fd);
    free(watch.peers);
    free(watch.beats);
    free(watch.heard);
    free(watch.came);
    free(watch.ends);
    free(watch.end_ranks);
}
