/* Choosing and opening a back end. */
#pragma once
#include "backend.h"

/* `device`: auto, cpu, cuda, cuda:N, emu, or the path of a plugin (.so). auto takes cuda if its
 * library loads and a device answers, else cpu, and logs which and why. Plugins are looked for
 * beside the program, then as the loader does. `dtype`: what it computes in, f32 or bf16, or auto
 * for what suits the device. `n_threads`: see plugin_threads. Misuse: no such device (the nearest
 * is named), or one that cannot compute so; otherwise the Error says why it does not open. */
bool plugin_open(Backend *out, const char *device, const char *dtype, int64_t n_threads, Error *e);
/* For memory plans alone, of a device with `memory` bytes that need not be there: only compute,
 * master, properties, ops->scratch and close may be used. auto is cuda where its library is found,
 * else the cpu. */
bool plugin_open_plan(Backend *out, const char *device, const char *dtype, int64_t memory,
                      Error *e);
/* The path of a file whose name is relative to the program's folder; false if it is not there. */
bool plugin_beside(char *path, int64_t size, const char *name);
/* Threads for a request of 0: one per core that this process may use. */
int plugin_threads(int64_t requested);
/* Makes back ends opened from now on work as this rank of `n_local` on this host, with the numbers
 * and collectives of `ranks`. */
void plugin_use_ranks(const HostServices *ranks, int n_local);
/* What a back end is opened with. */
HostServices plugin_services(int64_t n_threads);
/* What a user can do when the device itself fails, for the message of that fault; "" for none. */
void plugin_set_remedy(const char *remedy);
