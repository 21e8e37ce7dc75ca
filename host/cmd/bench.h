/* Timings of `puck bench`, private to bench*.c. */
#pragma once
#include "config.h"
#include "ops.h"

/* ---- bench_table.c ---- */

/* What rows are measured against, and where: the same for a whole table. */
typedef struct BenchMachine {
    const char *device;
    int threads;
    double flops, copy_bytes; /* roofs, per second */
    int64_t product_side;     /* of the product that is the roof */
    char command[1024];
} BenchMachine;

/* Measures the roofs; fills in all but the command. Fails without memory for the copy. */
bool bench_measure(BenchMachine *m, Backend *b, Error *e);

/* One for each thing measured. */
typedef struct BenchRow {
    char op[32], shape[96];
    double flops, bytes, tokens; /* of one call; 0 is not counted */
    double *sec;                 /* n_sec samples */
    int64_t n_sec, room;
} BenchRow;

typedef struct BenchTable {
    BenchRow *rows;
    int n, room;
} BenchTable;

/* Adds a sample to the row of this op and shape, which is made at its first call. */
void bench_add(BenchTable *t, const BenchRow *row, double sec);
/* Prints a line a row, for people or as JSON; sorts the rows' samples. `repeats`: of a step. */
void bench_print(BenchTable *t, const BenchMachine *m, int64_t repeats, bool json);
void bench_free(BenchTable *t);
/* Of doubles, for qsort. */
int bench_by_value(const void *a, const void *b);

/* ---- bench_ops.c ---- */

/* A back end whose op table passes every call on to the real one and times it. So ops are measured
 * where the model calls them: with its operands, and with the caches as the op before left them. */
typedef struct TimedBackend {
    Backend backend; /* the first member: OpContext.backend leads back to the whole */
    Ops ops;
    const Ops *real;
    BenchTable *table; /* NULL: warming up, nothing is recorded */
} TimedBackend;

void timed_backend_make(TimedBackend *t, const Backend *real);

/* ---- bench_comm.c ---- */

/* Of all ranks: prints a line a collective and size. Misuse: there is one rank alone. */
bool bench_comm(const Options *o, const char *command, Error *e);
