/* Choosing and opening a back end: see plugin.h. */
#include "plugin.h"
#include "log.h"
#include "options.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- shared objects ---- */

/* libpuck_NAME.so beside the program, or the bare file name, which the loader looks up in its own
 * way. */
static void find_library(char path[PATH_MAX], const char *name) {
    char file[64];
    snprintf(file, sizeof file, "libpuck_%s.so", name);
    if (!plugin_beside(path, PATH_MAX, file)) snprintf(path, PATH_MAX, "%s", file);
}

static bool open_library(Backend *out, const char *path, int device, DType compute,
                         const HostServices *host, Error *e) {
    log_debug("opening the back end %s", path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return error_set(e, path, "--device cpu needs no library", "the back end does not load: %s",
                         dlerror());
    const Plugin *plugin = dlsym(library, "puck_plugin");
    bool ok = false;
    if (!plugin)
        error_set(e, path, NULL, "this library is no back end of puck: it has no puck_plugin");
    else if (plugin->abi != PUCK_ABI)
        error_set(e, path, "Build both from the same sources",
                  "the back end speaks ABI %d, this puck speaks ABI %d", plugin->abi, PUCK_ABI);
    else
        ok = plugin->open(out, host, device, compute, e);
    /* An open back end's functions live in the library, so that stays until the process ends. */
    if (!ok) dlclose(library);
    return ok;
}

/* Number behind "cuda:", or -1. */
static int device_number(const char *text) {
    if (!*text || strlen(text) > 4 || strspn(text, "0123456789") != strlen(text)) return -1;
    return atoi(text);
}

static bool open_cpu(Backend *out, DType compute, const HostServices *host, Error *e) {
    if (compute == DTYPE_BF16)
        return error_misuse(e, "--dtype", "Leave it out, or give f32",
                            "the cpu back end computes in f32, not in bf16");
    return backend_open_cpu(out, host, e);
}

/* Why auto took no card. That nobody built the library is no fault that needs a whole sentence. */
static const char *why_not(const char *path, const Error *e) {
    const bool is_there = strchr(path, '/') || !strstr(e->text, ": libpuck_cuda.so: ");
    return is_there ? e->text : "there is no libpuck_cuda.so";
}

static bool open_auto(Backend *out, DType compute, const HostServices *host, Error *e) {
    char path[PATH_MAX];
    find_library(path, "cuda");
    Error why;
    if (open_library(out, path, 0, compute, host, &why)) {
        log_info("device cuda: %s (auto: it answers)", out->properties.name);
        return true;
    }
    if (!open_cpu(out, compute, host, e)) return false;
    log_info("device cpu: %s, %d threads (auto: no cuda, as %s)", out->properties.name,
             host->n_threads, why_not(path, &why));
    return true;
}

static DType dtype_of(const char *name) {
    return !strcmp(name, "f32") ? DTYPE_F32 : !strcmp(name, "bf16") ? DTYPE_BF16 : DTYPE_COUNT;
}

/* The plugin's file and the card's number that `device` means. Misuse: there is no such device. */
static bool find_plugin(const char *device, char path[PATH_MAX], int *number, Error *e) {
    const bool numbered = !strncmp(device, "cuda:", 5);
    *number = numbered ? device_number(device + 5) : 0;
    if (strchr(device, '/')) {
        snprintf(path, PATH_MAX, "%s", device);
        return true;
    }
    if (*number >= 0 && (numbered || !strcmp(device, "cuda") || !strcmp(device, "emu"))) {
        find_library(path, numbered ? "cuda" : device);
        return true;
    }
    static const char *const names[] = {"auto", "cpu", "cuda", "cuda:0", "emu", NULL};
    char quoted[OPTIONS_QUOTE_MAX], hint[OPTIONS_HINT_MAX];
    options_hint(hint, "", device, names,
                 "There are auto, cpu, cuda, cuda:N, emu and paths of a .so");
    return error_misuse(e, "--device", hint, "there is no device \"%s\"",
                        options_quote(quoted, device));
}

bool plugin_open(Backend *out, const char *device, const char *dtype, int64_t n_threads, Error *e) {
    const HostServices host = plugin_services(n_threads);
    const DType compute = dtype_of(dtype);
    char path[PATH_MAX];
    int number;
    *out = (Backend){0};
    if (!strcmp(device, "auto")) return open_auto(out, compute, &host, e);
    if (!strcmp(device, "cpu")) {
        log_debug("device cpu: %d threads", host.n_threads);
        return open_cpu(out, compute, &host, e);
    }
    return find_plugin(device, path, &number, e) &&
           open_library(out, path, number, compute, &host, e);
}

bool plugin_open_plan(Backend *out, const char *device, const char *dtype, int64_t memory,
                      Error *e) {
    const HostServices host = plugin_services(1);
    const DType compute = dtype_of(dtype);
    const bool is_auto = !strcmp(device, "auto");
    char path[PATH_MAX];
    int number;
    bool ok = false;
    *out = (Backend){0};
    if (strcmp(device, "cpu") != 0) {
        if (!find_plugin(is_auto ? "cuda" : device, path, &number, e)) return false;
        ok = open_library(out, path, -1, compute, &host, e);
        if (!ok && !is_auto) return false;
        if (!ok) log_info("planned for a cpu, in f32 (auto: no cuda, as %s)", why_not(path, e));
    }
    if (!ok && !open_cpu(out, compute, &host, e)) return false;
    out->properties.memory_bytes = out->properties.memory_free = memory;
    return true;
}
