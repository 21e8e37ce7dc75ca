/* Timings of `puck bench`: one row for each thing measured, private to bench.c and bench_ops.c. */
#pragma once
#include "config.h"
#include "ops.h"

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

/* A back end whose op table passes every call on to the real one and times it. So ops are measured
 * where the model calls them: with its operands, and with the caches as the op before left them. */
typedef struct TimedBackend {
    Backend backend; /* the first member: OpContext.backend leads back to the whole */
    Ops ops;
    const Ops *real;
    BenchTable *table; /* NULL: warming up, nothing is recorded */
} TimedBackend;

void timed_backend_make(TimedBackend *t, const Backend *real);

/* Of all ranks: prints a line a collective and size. Misuse: there is one rank alone. */
bool bench_comm(const Options *o, const char *command, Error *e);
