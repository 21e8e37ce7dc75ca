/* `puck bench comm`: each collective on device tensors, over all ranks, from 4 bytes to 64 MiB. */
#include "bench.h"
#include "dist.h"
#include "plugin.h"
#include "train.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMM_WARM_UP = 2, LARGEST = 64 << 20, GROWTH = 16 };

typedef enum Collective {
    ALL_REDUCE,
    REDUCE_SCATTER,
    ALL_GATHER,
    BROADCAST,
    COLLECTIVES
} Collective;

static const char *const names[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast"};

typedef struct CommRow {
    Collective op;
    double bytes; /* of the larger tensor */
    double median_sec, min_sec;
    double bus; /* bytes/s that a ring takes through each rank, see scaling.h */
} CommRow;

/* `whole` has n_ranks times the elements of `part`. */
static void call(Backend *b, Collective op, Tensor whole, Tensor part) {
    if (op == ALL_REDUCE) b->all_reduce(b, whole, NULL);
    if (op == REDUCE_SCATTER) b->reduce_scatter(b, part, whole, NULL);
    if (op == ALL_GATHER) b->all_gather(b, whole, part, NULL);
    if (op == BROADCAST) b->broadcast(b, whole, 0, NULL);
    b->stream_finish(b, NULL);
}

/* All ranks begin together; a repetition takes as long as on its slowest rank. */
static CommRow measure(Backend *b, Collective op, Tensor whole, Tensor part, int64_t repeats) {
    const int n = dist_ranks();
    double *sec = calloc((size_t)repeats, sizeof *sec);
    double *all = calloc((size_t)(n * repeats), sizeof *all);
    CHECK(sec && all, "no memory for %ld times", (long)repeats);
    for (int64_t i = -COMM_WARM_UP; i < repeats; i++) {
        dist_max(0);
        const double start = time_now();
        call(b, op, whole, part);
        if (i >= 0) sec[i] = time_now() - start;
    }
    dist_all_gather(all, sec, repeats * (int64_t)sizeof *sec);
    for (int64_t i = 0; i < repeats; i++)
        for (int r = 0; r < n; r++)
            if (all[r * repeats + i] > sec[i]) sec[i] = all[r * repeats + i];
    qsort(sec, (size_t)repeats, sizeof *sec, bench_by_value);
    const double bytes = (double)tensor_bytes(whole), share = (double)(n - 1) / n;
    CommRow row = {.op = op, .bytes = bytes, .median_sec = sec[repeats / 2], .min_sec = sec[0]};
    row.bus = bytes / row.median_sec * (op == ALL_REDUCE ? 2 * share : op == BROADCAST ? 1 : share);
    free(sec);
    free(all);
    return row;
}

static void print_row(const CommRow *row, const char *device, const char *command, bool json) {
    const double rate = row->bytes / row->median_sec * 1e-9, bus = row->bus * 1e-9;
    if (!json) {
        printf("%-16s %12.0f %12.1f %12.1f %10.3f %10.3f\n", names[row->op], row->bytes,
               row->median_sec * 1e6, row->min_sec * 1e6, rate, bus);
        return;
    }
    json_t *line = json_pack("{s:s, s:f, s:i, s:f, s:f, s:f, s:f, s:s, s:s}", "op", names[row->op],
                             "bytes", row->bytes, "ranks", dist_ranks(), "median_sec",
                             row->median_sec, "min_sec", row->min_sec, "gbps", rate, "bus_gbps",
                             bus, "device", device, "command", command);
    CHECK(line, "%s is no JSON", names[row->op]);
    json_dumpf(line, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(line);
}

bool bench_comm(const Options *o, const char *command, Error *e) {
    const int64_t n = dist_ranks();
    Backend b;
    if (n == 1)
        return error_misuse(e, "bench comm", "Start it as `mpirun -np 2 puck bench comm`",
                            "one process has nobody to exchange data with");
    const bool opened = plugin_open(&b, o->device, o->dtype, o->threads, e);
    const int64_t room = i64_round_up(LARGEST, 4 * n);
    char *memory = opened ? b.alloc(&b, 2 * room) : NULL;
    if (opened && !memory)
        error_set(e, b.name, "Free some memory", "there are no %ld MiB", (long)(2 * room >> 20));
    const bool ok = dist_agree(memory != NULL, e) && dist_own_card(b.properties.card, e);
    if (ok) {
        b.fill(&b, memory, 0, 2 * room, NULL);
        if (!o->json)
            printf("%ld ranks, device %s; bus: what a ring takes through each rank\n\n"
                   "%-16s %12s %12s %12s %10s %10s\n",
                   (long)n, b.properties.name, "collective", "bytes", "median us", "min us", "GB/s",
                   "bus GB/s");
    }
    for (int op = 0; ok && op < COLLECTIVES; op++) {
        for (int64_t bytes = 4; bytes <= LARGEST; bytes *= GROWTH) {
            const int64_t per_rank = i64_div_up(bytes, 4 * n);
            const Tensor whole = tensor_1d(memory, DTYPE_F32, per_rank * n);
            const Tensor part = tensor_1d(memory + room, DTYPE_F32, per_rank);
            const CommRow row = measure(&b, (Collective)op, whole, part, o->repeats);
            print_row(&row, b.properties.name, command, o->json);
        }
    }
    if (memory) b.free(&b, memory);
    if (opened) b.close(&b);
    return ok;
}
