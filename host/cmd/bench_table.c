/* The table of `puck bench`. Every figure stands beside what this machine reaches: a large matrix
 * product where a row has FLOPs, else a large copy. */
#include "bench.h"
#include "train.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_BYTES = 256 << 20, /* beyond any cache */
    ROOF_REPEATS = 5
};

/* ---- roofs ---- */

static double copy_roof(Backend *b, char *memory) {
    double best = 1e30;
    for (int i = 0; i < ROOF_REPEATS; i++) {
        const double start = time_now();
        b->copy(b, memory, memory + COPY_BYTES, COPY_BYTES, COPY_ON_DEVICE, NULL);
        b->stream_finish(b, NULL);
        const double sec = time_now() - start;
        if (i && sec < best) best = sec;
    }
    return 2.0 * COPY_BYTES / best;
}

bool bench_measure(BenchMachine *m, Backend *b, Error *e) {
    const int64_t bytes = 2LL * COPY_BYTES;
    char *memory = b->alloc(b, bytes);
    if (!memory)
        return error_set(e, b->name, "Free some memory", "there are no %ld MiB for the roofs",
                         (long)(bytes >> 20));
    m->device = b->properties.name;
    m->threads = b->properties.n_units;
    m->flops = measure_peak_flops(b, &m->product_side);
    m->copy_bytes = copy_roof(b, memory);
    b->free(b, memory);
    return true;
}

/* ---- rows ---- */

static void *grown(void *list, int64_t count, size_t size) {
    void *larger = realloc(list, (size_t)count * size);
    CHECK(larger, "no memory for %ld rows", (long)count);
    return larger;
}

void bench_add(BenchTable *t, const BenchRow *row, double sec) {
    int i = 0;
    while (i < t->n && (strcmp(t->rows[i].op, row->op) || strcmp(t->rows[i].shape, row->shape)))
        i++;
    if (i == t->n) {
        if (t->n == t->room) {
            t->room = 2 * t->room + 16;
            t->rows = grown(t->rows, t->room, sizeof *t->rows);
        }
        t->rows[t->n++] = *row;
    }
    BenchRow *r = &t->rows[i];
    if (r->n_sec == r->room) {
        r->room = 2 * r->room + 64;
        r->sec = grown(r->sec, r->room, sizeof *r->sec);
    }
    r->sec[r->n_sec++] = sec;
}

void bench_free(BenchTable *t) {
    for (int i = 0; i < t->n; i++) free(t->rows[i].sec);
    free(t->rows);
}

int bench_by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of sorted samples. */
static double quantile(const BenchRow *r, double q) {
    return r->sec[(int64_t)(q * (double)(r->n_sec - 1) + 0.5)];
}

static void print_json(const BenchRow *r, const BenchMachine *m, double share, double per_step) {
    const double median = quantile(r, 0.5);
    json_t *line =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "op", r->op, "shape", r->shape, "median_sec",
                  median, "min_sec", r->sec[0], "spread",
                  (quantile(r, 0.75) - quantile(r, 0.25)) / median, "calls_per_step", per_step);
    CHECK(line, "%s %s is no JSON", r->op, r->shape);
    if (r->flops > 0) json_object_set_new(line, "gflops", json_real(r->flops / median * 1e-9));
    if (r->bytes > 0) json_object_set_new(line, "gbps", json_real(r->bytes / median * 1e-9));
    if (r->tokens > 0) json_object_set_new(line, "tokens_per_sec", json_real(r->tokens / median));
    if (share > 0) json_object_set_new(line, "share_of_roof", json_real(share));
    json_object_set_new(line, "device", json_string(m->device));
    json_object_set_new(line, "threads", json_integer(m->threads));
    json_object_set_new(line, "command", json_string(m->command));
    json_dumpf(line, stdout, JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(line);
}

static void print_figure(double value) {
    if (value > 0)
        printf(" %9.1f", value);
    else
        printf(" %9s", "-");
}

static void print_line(const BenchRow *r, double share, double per_step) {
    const double median = quantile(r, 0.5);
    printf("%-22s %-34s %5.0f %10.4f %10.4f %6.0f%%", r->op, r->shape, per_step, median * 1e3,
           r->sec[0] * 1e3, 100 * (quantile(r, 0.75) - quantile(r, 0.25)) / median);
    print_figure(r->flops / median * 1e-9);
    print_figure(r->bytes / median * 1e-9);
    if (share > 0)
        printf(" %8.0f%%", 100 * share);
    else
        printf(" %9s", "-");
    if (r->tokens > 0) printf(" %9.0f", r->tokens / median);
    putchar('\n');
}

void bench_print(BenchTable *t, const BenchMachine *m, int64_t repeats, bool json) {
    if (!json) {
        printf("device %s, %d threads; roofs: linear_forward %ld x %ld -> %ld %.1f GFLOP/s, "
               "copy of %d MiB %.1f GB/s\n",
               m->device, m->threads, (long)m->product_side, (long)m->product_side,
               (long)m->product_side, m->flops * 1e-9, COPY_BYTES >> 20, m->copy_bytes * 1e-9);
        printf("spread: distance of the quartiles, of the median. GB/s: bytes that the formula "
               "needs.\n\n");
        printf("%-22s %-34s %5s %10s %10s %7s %9s %9s %9s %9s\n", "op", "shape", "calls",
               "median ms", "min ms", "spread", "GFLOP/s", "GB/s", "of roof",
               t->rows[0].tokens > 0 ? "tok/s" : "");
    }
    for (int i = 0; i < t->n; i++) {
        BenchRow *r = &t->rows[i];
        qsort(r->sec, (size_t)r->n_sec, sizeof *r->sec, bench_by_value);
        const double median = quantile(r, 0.5);
        const double share = r->flops > 0   ? r->flops / median / m->flops
                             : r->bytes > 0 ? r->bytes / median / m->copy_bytes
                                            : 0;
        const double per_step = (double)r->n_sec / (double)repeats;
        if (json)
            print_json(r, m, share, per_step);
        else
            print_line(r, share, per_step);
    }
}
