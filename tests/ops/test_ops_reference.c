/* The double build of the cpu ops against plain loops over the formulas of ops.h, on every case. So
 * the oracle of all other back ends is itself held to the formulas. */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void test_every_case(void **state) {
    (void)state;
    Backend f64;
    int counts[OP_KINDS] = {0};
    double worst[OP_KINDS] = {0};
    driver_open_cpu(&f64, CPU_F64, 2);
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        Call got, want;
        const char *where = "";
        call_make(&got, &op_cases[i], DTYPE_F64, DTYPE_F64);
        call_copy(&want, &got);
        call_run(&got, &f64);
        call_reference(&want);
        const double error = call_error(&got, &want, &where), bound = call_tolerance(&got);
        if (!(error <= bound))
            fail_msg("case %ld, %s, %s: error %.3g, bound %.3g", (long)i, op_names[got.c.op], where,
                     error, bound);
        counts[got.c.op]++;
        worst[got.c.op] = fmax(worst[got.c.op], error / bound);
        call_free(&got);
        call_free(&want);
    }
    f64.close(&f64);
    assert_true(driver_covers(counts, worst, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_case)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
