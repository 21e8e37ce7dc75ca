/* The float build of the cpu ops against the double build, on every case, on inputs that both can
 * hold. The bound grows with the square root of the longest sum: driver.c, call_tolerance. */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_build(int build) {
    Backend cpu, f64;
    int counts[OP_KINDS] = {0};
    double worst[OP_KINDS] = {0};
    driver_open_cpu(&cpu, build, 2);
    driver_open_cpu(&f64, CPU_F64, 2);
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        Call got, want;
        const char *where = "";
        call_make(&got, &op_cases[i], cpu.compute, cpu.master);
        call_copy(&want, &got);
        call_run(&got, &cpu);
        call_run(&want, &f64);
        const double error = call_error(&got, &want, &where), bound = call_tolerance(&got);
        if (!(error <= bound))
            fail_msg("case %ld, %s, %s: error %.3g, bound %.3g", (long)i, op_names[got.c.op], where,
                     error, bound);
        counts[got.c.op]++;
        worst[got.c.op] = fmax(worst[got.c.op], error / bound);
        call_free(&got);
        call_free(&want);
    }
    cpu.close(&cpu);
    f64.close(&f64);
    assert_true(driver_covers(counts, worst, NULL));
}

static void test_best(void **state) {
    (void)state;
    test_build(CPU_BEST);
}

/* What this processor can run, but for the best. */
static void test_others(void **state) {
    (void)state;
    if (backend_cpu_best() == CPU_BASE) skip();
    for (int build = CPU_BASE; build < (int)backend_cpu_best(); build++) test_build(build);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_best), cmocka_unit_test(test_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
