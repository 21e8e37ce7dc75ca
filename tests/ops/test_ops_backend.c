/* The cpu back end around its ops: memory, copies, collectives of one rank, denormals, names. */
#include "driver.h"
#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void test_memory(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 2);
    static const int64_t sizes[] = {0, 1, 100, 4096, 2 << 20, (5 << 20) + 3};
    for (int64_t i = 0; i < COUNT_OF(sizes); i++)
        for (int again = 0; again < 2; again++) { /* the second time in memory used before */
            unsigned char *memory = b.alloc(&b, sizes[i]);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 64, 0);
            for (int64_t k = 0; k < sizes[i]; k++)
                if (memory[k]) fail_msg("byte %ld of %ld is not 0", (long)k, (long)sizes[i]);
            b.fill(&b, memory, 0xA5, sizes[i], NULL);
            for (int64_t k = 0; k < sizes[i]; k++)
                if (memory[k] != 0xA5) fail_msg("byte %ld is not filled", (long)k);
            b.free(&b, memory);
        }
    assert_null(b.alloc(&b, (int64_t)1 << 50)); /* more than there is: no promise, no crash */
    b.close(&b);
}

static void test_streams(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 1);
    Stream *s = b.stream_create(&b);
    Event *e = b.event_create(&b);
    assert_non_null(s);
    assert_non_null(e);
    char *to = b.alloc_pinned(&b, 4);
    b.copy(&b, to, "abc", 4, COPY_TO_DEVICE, s);
    b.event_record(&b, e, s);
    b.stream_wait(&b, s, e);
    b.event_finish(&b, e);
    b.stream_finish(&b, s);
    assert_string_equal(to, "abc");
    b.free_pinned(&b, to);
    b.event_destroy(&b, e);
    b.stream_destroy(&b, s);
    assert_false(b.captures);
    assert_true(b.host_memory);
    b.close(&b);
}

static void test_scratch(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 2);
    driver_check_scratch(&b);
    b.close(&b);
}

static void test_collectives(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 1);
    float from[3] = {1, 2, 3}, to[3] = {0};
    const Tensor send = tensor_1d(from, DTYPE_F32, 3), recv = tensor_1d(to, DTYPE_F32, 3);
    b.all_gather(&b, recv, send, NULL);
    assert_memory_equal(to, from, sizeof to);
    memset(to, 0, sizeof to);
    b.reduce_scatter(&b, recv, send, NULL);
    assert_memory_equal(to, from, sizeof to);
    b.all_reduce(&b, recv, NULL);
    b.broadcast(&b, recv, 0, NULL);
    assert_memory_equal(to, from, sizeof to);
    b.close(&b);
}

/* On every thread: a number too small to be normal counts as 0. */
static void test_denormals(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 4);
    volatile float smallest = FLT_MIN;
    int kept = 0;
#pragma omp parallel reduction(+ : kept)
    kept += smallest / 2 != 0;
    assert_int_equal(kept, 0);
    b.close(&b);
}

static void test_properties(void **state) {
    (void)state;
    for (int f64 = 0; f64 < 2; f64++) {
        Backend b;
        driver_open_cpu(&b, f64 ? CPU_F64 : CPU_BEST, 3);
        assert_string_equal(b.name, f64 ? "cpu_f64" : "cpu");
        assert_int_equal(b.compute, f64 ? DTYPE_F64 : DTYPE_F32);
        assert_int_equal(b.master, b.compute);
        assert_int_equal(b.properties.n_units, 3);
        assert_true(strlen(b.properties.name) > 0);
        assert_true(b.properties.memory_free > 0);
        assert_true(b.properties.memory_bytes >= b.properties.memory_free);
        b.close(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_scratch),       cmocka_unit_test(test_collectives),
        cmocka_unit_test(test_denormals),
        cmocka_unit_test(test_properties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
