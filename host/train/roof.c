/* The clock, and the measured speed that a run's own speed is shown against. */
#include "ops.h"
#include "train.h"
#include <time.h>

double time_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of a few products of 2.1 GFLOP, some 12 ms each on two cores. */
double measure_peak_flops(Backend *b) {
    enum { SIZE = PEAK_PRODUCT_SIDE, REPEATS = 3 };
    const OpShape shape = {.B = 1, .T = SIZE, .C = SIZE, .O = SIZE};
    const int64_t scratch = b->ops->scratch(OP_LINEAR_FORWARD, &shape, &b->properties);
    const int64_t bytes = SIZE * SIZE * dtype_bytes(b->compute);
    char *memory = b->alloc(b, 3 * bytes + scratch);
    if (!memory) return 0;
    const Tensor y = tensor_2d(memory, b->compute, SIZE, SIZE);
    const Tensor x = tensor_2d(memory + bytes, b->compute, SIZE, SIZE);
    const Tensor w = tensor_2d(memory + 2 * bytes, b->compute, SIZE, SIZE);
    const OpContext cx = {.backend = b, .scratch = memory + 3 * bytes, .scratch_bytes = scratch};
    double best = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        const double start = time_now();
        b->ops->linear_forward(&cx, y, TENSOR_NONE, x, w, TENSOR_NONE, ACTIVATION_NONE);
        b->stream_finish(b, NULL);
        const double sec = time_now() - start;
        if (sec < best) best = sec;
    }
    b->free(b, memory);
    return 2.0 * SIZE * SIZE * SIZE / best;
}
