/* A back end that does nothing: shows how a plugin is found, checked and opened. Built a second
 * time with an older PLUGIN_ABI, which puck must refuse. Device 0 answers, the others do
 * not; -1 is for plans. */
#include "backend.h"
#include <stdio.h>
#include <stdlib.h>

#ifndef PLUGIN_ABI
#define PLUGIN_ABI PUCK_ABI
#endif

_Noreturn void check_failed(const char *file, int line, const char *expression, const char *format,
                            ...) {
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, expression, format);
    abort();
}

static void null_close(Backend *b) { *b = (Backend){0}; }

/* Errors are filled by hand: a plugin calls the host only through HostServices. */
static bool null_open(Backend *out, const HostServices *host, int device, DType compute, Error *e) {
    if (compute == DTYPE_BF16) {
        *e = (Error){.code = EXIT_FAILED};
        snprintf(e->text, sizeof e->text, "card %d has no bf16", device);
        return false;
    }
    if (device == -1) {
        *out = (Backend){.name = "null", .compute = DTYPE_F32, .close = null_close};
        return true;
    }
    if (device != 0) {
        *e = (Error){.code = EXIT_FAILED};
        snprintf(e->text, sizeof e->text, "card %d does not answer", device);
        return false;
    }
    *out = (Backend){.name = "null", .close = null_close, .properties = {.name = "Null device"}};
    out->properties.n_units = host->n_threads;
    /* One rank: every collective leaves the data as it is. */
    float data[4] = {1, 2, 3, 4}, copy[4] = {0};
    host->all_reduce(data, 4, DTYPE_F32);
    host->reduce_scatter(copy, data, 4, DTYPE_F32);
    host->all_gather(data, copy, 4, DTYPE_F32);
    host->broadcast(data, sizeof data, 0);
    char text[64];
    snprintf(text, sizeof text, "null opened: %g %g, rank %d of %d", (double)data[0],
             (double)data[3], host->rank, host->n_ranks);
    host->log(1, text);
    return true;
}

extern const Plugin puck_plugin;
const Plugin puck_plugin = {.abi = PLUGIN_ABI, .name = "null", .open = null_open};
