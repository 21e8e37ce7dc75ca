/* The ranks of this process's job: see dist.h. */
#include "dist.h"
#include "log.h"
#include "plugin.h"
#include "transport.h"
#include "watch.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Of the process, as its rank is. */
static TransportRank self = {.n_ranks = 1, .n_local = 1};
static const Transport *transport; /* NULL: one rank */
static bool agreed_failure;        /* all ranks know that they end */

int dist_rank(void) { return self.rank; }
int dist_ranks(void) { return self.n_ranks; }

/* ---- the launcher ---- */

static int number_in(const char *variable, int missing) {
    const char *text = getenv(variable);
    return text && *text ? atoi(text) : missing;
}

/* mpirun says how many it has started. srun does so of every step, MPI or not; a batch script is no
 * step. */
static int launched_ranks(void) {
    const int by_mpirun = number_in("OMPI_COMM_WORLD_SIZE", 0);
    if (by_mpirun) return by_mpirun;
    return getenv("SLURM_STEP_ID") ? number_in("SLURM_STEP_NUM_TASKS", 1) : 1;
}

bool dist_launched(void) { return launched_ranks() > 1; }

/* The launcher ends all at the first that fails: that must not be one of those that say nothing. */
bool dist_refuse(Error *e) {
    const int by_pmix = number_in("PMIX_RANK", number_in("SLURM_PROCID", 0));
    if (number_in("OMPI_COMM_WORLD_RANK", by_pmix) == 0) return false;
    e->text[0] = '\0';
    sleep(1);
    return false;
}

/* ---- start and end ---- */

/* Beside the program, like a back end's. */
static const Transport *open_library(Error *e) {
    char path[PATH_MAX];
    plugin_beside(path, sizeof path, "libpuck_mpi.so");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const Transport *found = library ? dlsym(library, "puck_transport") : NULL;
    if (!library) {
        error_misuse(e, "libpuck_mpi.so",
                     "Run `make deps` and `make` again, or start puck without mpirun",
                     "%d ranks were started, but this build of puck is for one process: %.200s",
                     launched_ranks(), dlerror());
    } else if (!found || found->abi != TRANSPORT_ABI) {
        error_set(e, path, "Build both from the same sources",
                  "this library is not the one of this puck");
        found = NULL;
    }
    return found;
}

static void service_broadcast(void *data, int64_t bytes, int root) {
    transport->broadcast(data, bytes, root);
}

/* Counts elements where the transport counts bytes. */
static void service_all_gather(void *recv, const void *send, int64_t count, DType dtype) {
    transport->all_gather(recv, send, count * dtype_bytes(dtype));
}

/* Of the program's file; 0 if that cannot be read. */
static uint64_t hash_program(void) {
    FILE *f = fopen("/proc/self/exe", "rb");
    XXH3_state_t *hash = XXH3_createState();
    CHECK(hash, "no memory to hash the program");
    XXH3_64bits_reset(hash);
    char block[1 << 14];
    for (size_t n; f && (n = fread(block, 1, sizeof block, f)) > 0;)
        XXH3_64bits_update(hash, block, n);
    const uint64_t value = f ? XXH3_64bits_digest(hash) : 0;
    XXH3_freeState(hash);
    if (f) fclose(f);
    return value;
}

bool dist_start(Error *e) {
    if (!dist_launched() || transport) return true;
    const bool by_srun = !getenv("OMPI_COMM_WORLD_SIZE");
    if (by_srun && !getenv("PMIX_RANK")) {
        error_misuse(e, "srun", "Add --mpi=pmix to srun",
                     "%d processes were started, but not as MPI ranks", launched_ranks());
        return dist_refuse(e);
    }
    const Transport *found = open_library(e);
    if (!found) return dist_refuse(e);
    if (!found->start(&self, e)) return false;
    transport = watch_start(found, &self);
    const HostServices services = {.rank = self.rank,
                                   .n_ranks = self.n_ranks,
                                   .local_rank = self.local_rank,
                                   .all_reduce = transport->all_reduce,
                                   .reduce_scatter = transport->reduce_scatter,
                                   .all_gather = service_all_gather,
                                   .broadcast = service_broadcast};
    plugin_use_ranks(&services, self.n_local);
    if (self.rank != 0) {
        log_raise_level(LOG_ERROR);
        CHECK(freopen("/dev/null", "w", stdout), "/dev/null does not open");
    }
    return dist_same(hash_program(), "the builds of puck", "Copy one build to all hosts", e);
}

int dist_finish(int code) {
    if (!transport) return code;
    if (code != EXIT_DONE && code != EXIT_PREEMPTED && !agreed_failure) transport->abort(code);
    watch_stop();
    transport->finish();
    transport = NULL;
    return code;
}

void dist_hurry(void) { watch_hurry(); }
void dist_watch_device(const int32_t *marks, int n) {
    if (transport) watch_device(marks, n);
}
void dist_enter_step(void) {
    if (transport) watch_enter_step();
}
void dist_leave_step(bool ends) {
    if (transport) watch_leave_step(ends);
}

/* ---- agreement ---- */

void dist_broadcast(void *data, int64_t bytes, int root) {
    if (transport) transport->broadcast(data, bytes, root);
}

void dist_all_gather(void *recv, const void *send, int64_t bytes) {
    if (transport)
        transport->all_gather(recv, send, bytes);
    else
        memmove(recv, send, (size_t)bytes);
}

/* What each rank says, in rank order; the caller frees. */
static void *gather(const void *own, int64_t bytes) {
    void *all = malloc((size_t)(self.n_ranks * bytes));
    CHECK(all, "no memory for what %d ranks say", self.n_ranks);
    dist_all_gather(all, own, bytes);
    return all;
}

int dist_max(int value) {
    if (!transport) return value;
    int *all = gather(&value, sizeof value);
    for (int r = 0; r < self.n_ranks; r++) value = all[r] > value ? all[r] : value;
    free(all);
    return value;
}

double dist_sum(double value) {
    if (transport) transport->all_reduce(&value, 1, DTYPE_F64);
    return value;
}

/* "rank 2 on HOST". */
static void rank_name(char text[TRANSPORT_HOST_MAX + 32], int rank) {
    char host[TRANSPORT_HOST_MAX];
    memcpy(host, self.host, sizeof host);
    dist_broadcast(host, sizeof host, rank);
    snprintf(text, TRANSPORT_HOST_MAX + 32, "rank %d on %s", rank, host);
}

/* From here on all ranks end; rank 0 says why. */
static bool fail_together(Error *e) {
    agreed_failure = true;
    if (self.rank != 0) e->text[0] = '\0';
    return false;
}

bool dist_agree(bool ok, Error *e) {
    if (!transport) return ok;
    const int number = ok ? self.n_ranks : self.rank;
    int *all = gather(&number, sizeof number), first = self.n_ranks;
    for (int r = 0; r < self.n_ranks; r++) first = all[r] < first ? all[r] : first;
    free(all);
    if (first == self.n_ranks) return true;
    char name[TRANSPORT_HOST_MAX + 32];
    rank_name(name, first);
    dist_broadcast(e, sizeof *e, first);
    if (first != 0) {
        char text[sizeof e->text];
        memcpy(text, e->text, sizeof text);
        snprintf(e->text, sizeof e->text, "%s: %.*s", name, (int)(sizeof text - sizeof name - 2),
                 text);
    }
    return fail_together(e);
}

bool dist_same(uint64_t value, const char *what, const char *hint, Error *e) {
    if (!transport) return true;
    uint64_t *all = gather(&value, sizeof value);
    char odd[256] = "";
    int n = 0;
    for (int r = 1; r < self.n_ranks; r++) {
        if (all[r] == all[0]) continue;
        char name[TRANSPORT_HOST_MAX + 32];
        rank_name(name, r); /* all ranks see the same values, so all take part */
        const size_t length = strlen(odd);
        snprintf(odd + length, sizeof odd - length, "%s%s", n++ ? ", " : "", name);
    }
    free(all);
    if (!n) return true;
    error_misuse(e, odd, hint, "%s differ from rank 0's", what);
    return fail_together(e);
}

bool dist_own_card(uint64_t card, Error *e) {
    if (!transport) return true;
    uint64_t *all = gather(&card, sizeof card);
    int pair[2] = {0, 0};
    for (int r = 1; r < self.n_ranks; r++)
        for (int q = 0; q < r; q++)
            if (all[r] && all[r] == all[q]) pair[0] = q, pair[1] = r;
    free(all);
    if (pair[0] == pair[1]) return true;
    char names[2][TRANSPORT_HOST_MAX + 32];
    for (int i = 0; i < 2; i++) rank_name(names[i], pair[i]);
    error_misuse(e, NULL, "Start one process per card", "%s and %s have the same card", names[0],
                 names[1]);
    return fail_together(e);
}
