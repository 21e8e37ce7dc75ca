/* The host's services to a back end: see HostServices. One process has collectives that do nothing;
 * host/dist puts those of its ranks in their place. */
#include "log.h"
#include "plugin.h"
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void service_log(int level, const char *text) { log_write((LogLevel)level, "%s", text); }

/* A fault of the device comes up in the middle of an op, far from anything that could say it. */
static char fatal_remedy[512];

void plugin_set_remedy(const char *remedy) {
    snprintf(fatal_remedy, sizeof fatal_remedy, "%s", remedy);
}

static HostServices rank_services; /* filled in below */

/* Of several ranks: it may have failed because another has ended. Then the thread that watches them
 * ends the job within that time, and says which. */
static void service_fatal(const char *text) {
    enum { WATCH_SEC = 12 };
    log_write(LOG_ERROR, "%s%s%s", text, fatal_remedy[0] ? ". " : "", fatal_remedy);
    if (rank_services.n_ranks > 1) sleep(WATCH_SEC);
    abort();
}

static void service_all_reduce(void *data, int64_t count, DType dtype) {
    (void)data, (void)count, (void)dtype;
}

static void service_reduce_scatter(void *recv, const void *send, int64_t count, DType dtype) {
    memmove(recv, send, (size_t)(count * dtype_bytes(dtype)));
}

static void service_all_gather(void *recv, const void *send, int64_t count, DType dtype) {
    memmove(recv, send, (size_t)(count * dtype_bytes(dtype)));
}

static void service_broadcast(void *data, int64_t bytes, int root) {
    (void)data, (void)bytes, (void)root;
}

/* Of the process, as its rank is. */
static HostServices rank_services = {.n_ranks = 1,
                                     .log = service_log,
                                     .fatal = service_fatal,
                                     .all_reduce = service_all_reduce,
                                     .reduce_scatter = service_reduce_scatter,
                                     .all_gather = service_all_gather,
                                     .broadcast = service_broadcast};
static int ranks_here = 1;

void plugin_use_ranks(const HostServices *ranks, int n_local) {
    rank_services = *ranks;
    rank_services.log = service_log;
    rank_services.fatal = service_fatal;
    ranks_here = n_local;
}

/* Ranks of one host share its cores, unless the launcher has bound each to some of its own. */
HostServices plugin_services(int64_t n_threads) {
    HostServices services = rank_services;
    services.n_threads = plugin_threads(n_threads);
    if (n_threads <= 0 && ranks_here > 1) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        if (services.n_threads >= online) services.n_threads /= ranks_here;
        if (services.n_threads < 1) services.n_threads = 1;
    }
    return services;
}

int plugin_threads(int64_t requested) {
    if (requested > 0) return (int)i64_min(requested, INT_MAX);
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    const long online = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than a cpu_set_t has bits */
    return online > 0 ? (int)online : 1;
}
