/* The measured speed that a run's own speed is shown against. */
#include "ops.h"
#include "rng.h"
#include "train.h"
#include <string.h>

enum {
    SMALLEST = 256, /* sides of the products */
    LARGEST = 8192,
    REPEATS = 3,
    PATTERN = 1 << 16 /* elements that are copied over a matrix again and again */
};
static const double LONG_ENOUGH = 8e-3; /* seconds of a product that fills the device */

/* Random values: zeros would run faster on some devices. */
static void fill_random(Backend *b, Tensor t) {
    static float pattern[PATTERN];
    const int64_t size = dtype_bytes(t.dtype), bytes = tensor_bytes(t);
    char *const to = t.data, *const from = (char *)pattern;
    for (int64_t i = 0; i < PATTERN; i++) {
        const float value = rng_uniform(1, 0, rng_site(RNG_TEST, 0), (uint64_t)i) - 0.5f;
        /* bf16 is the upper half of a float */
        memcpy(from + i * size, (const char *)&value + sizeof value - size, (size_t)size);
    }
    for (int64_t at = 0; at < bytes; at += PATTERN * size)
        b->copy(b, to + at, from, i64_min(PATTERN * size, bytes - at), COPY_TO_DEVICE, NULL);
    b->stream_finish(b, NULL);
}

/* Seconds of the fastest of a few products; 0 without memory for it. */
static double time_product(Backend *b, int64_t side) {
    const OpShape shape = {.B = 1, .T = side, .C = side, .O = side};
    const int64_t scratch = b->ops->scratch(OP_LINEAR_FORWARD, &shape, &b->properties);
    const int64_t bytes = side * side * dtype_bytes(b->compute);
    char *memory = b->alloc(b, 3 * bytes + scratch);
    if (!memory) return 0;
    const Tensor y = tensor_2d(memory, b->compute, side, side);
    const Tensor x = tensor_2d(memory + bytes, b->compute, side, side);
    const Tensor w = tensor_2d(memory + 2 * bytes, b->compute, side, side);
    const OpContext cx = {.backend = b, .scratch = memory + 3 * bytes, .scratch_bytes = scratch};
    fill_random(b, x);
    fill_random(b, w);
    double best = 1e30;
    for (int i = -1; i < REPEATS; i++) { /* in the first one a device chooses its algorithm */
        const double start = time_now();
        b->ops->linear_forward(&cx, y, TENSOR_NONE, x, w, TENSOR_NONE, ACTIVATION_NONE);
        b->stream_finish(b, NULL);
        const double sec = time_now() - start;
        if (i >= 0 && sec < best) best = sec;
    }
    b->free(b, memory);
    return best;
}

double measure_peak_flops(Backend *b, int64_t *side) {
    double flops = 0;
    *side = 0;
    for (int64_t n = SMALLEST; n <= LARGEST; n *= 2) {
        const double sec = time_product(b, n);
        if (sec == 0) break;
        flops = 2.0 * (double)n * (double)n * (double)n / sec;
        *side = n;
        if (sec >= LONG_ENOUGH) break;
    }
    return flops;
}
