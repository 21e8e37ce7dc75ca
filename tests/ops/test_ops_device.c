/* The case table on a back end that computes on a device, against the double cpu ops:
 *
 *   test_ops_device                   emu, in f32 and in bf16
 *   test_ops_device DEVICE [DTYPE]    another one: cuda, or the path of a plugin
 *
 * On the emulator each case runs in three orders of threads and blocks, which must give the same
 * bits: what depends on the order is a race. Elsewhere it runs twice, for the same reason. Where
 * PUCK_EMU_SCHEDULE is set, it runs once, in that order. */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *device = "emu";
static const char *const orders[] = {"forward", "reverse", "shuffle:1", NULL};
static const char *const twice[] = {"first run", "second run", NULL};
static const char *const given[] = {"given order", NULL};
static bool is_given;

/* The case in every order; `got` keeps the first one's results. */
static void run_in_orders(Call *got, const Call *inputs, Backend *b, int64_t number) {
    const char *const *order = is_given ? given : driver_is_emulator(b) ? orders : twice;
    for (int i = 0; order[i]; i++) {
        Call other;
        const char *where = "";
        if (order == orders) setenv("PUCK_EMU_SCHEDULE", order[i], 1);
        call_copy(&other, inputs);
        call_run(i == 0 ? got : &other, b);
        if (i > 0 && !call_same_bits(got, &other, &where))
            fail_msg("case %ld, %s, %s: other bits in the %s than in the %s", (long)number,
                     op_names[got->c.op], where, order[i], order[0]);
        call_free(&other);
    }
}

static void check_every_case(const char *dtype) {
    Backend b, f64;
    int counts[OP_KINDS] = {0};
    double worst[OP_KINDS] = {0};
    driver_open_device(&b, device, dtype);
    driver_open_cpu(&f64, CPU_F64, 2);
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        Call got, inputs, want;
        const char *where = "";
        if (!driver_has_time_for(&b, &op_cases[i])) continue;
        call_make(&inputs, &op_cases[i], b.compute, b.master);
        call_copy(&got, &inputs);
        call_copy(&want, &inputs);
        run_in_orders(&got, &inputs, &b, i);
        call_run(&want, &f64);
        const double error = call_excess(&got, &want, &where);
        if (!(error <= 1))
            fail_msg("case %ld, %s, %s: error %.3g of the bound", (long)i, op_names[got.c.op],
                     where, error);
        counts[got.c.op]++;
        worst[got.c.op] = fmax(worst[got.c.op], error);
        call_free(&inputs);
        call_free(&got);
        call_free(&want);
    }
    driver_check_scratch(&b);
    printf("# %s, %s, %s\n", b.name, b.properties.name, dtype);
    b.close(&b);
    f64.close(&f64);
    assert_true(driver_covers(counts, worst, NULL));
}

static void test_f32(void **state) {
    (void)state;
    check_every_case("f32");
}

static void test_bf16(void **state) {
    (void)state;
    check_every_case("bf16");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16)};
    const char *dtype = argc > 2 ? argv[2] : "";
    is_given = getenv("PUCK_EMU_SCHEDULE") != NULL;
    if (argc > 1) device = argv[1];
    if (!strcmp(dtype, "f32")) cmocka_set_test_filter("test_f32");
    if (!strcmp(dtype, "bf16")) cmocka_set_test_filter("test_bf16");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
