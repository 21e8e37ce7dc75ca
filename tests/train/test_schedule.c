/* Learning rates at steps whose value can be worked out by hand. */
#include "schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A few roundings: the formula's order of operations is its own affair. */
static void check(const Schedule *s, int64_t step, double expected) {
    const double lr = schedule_lr(s, step);
    if (!(fabs(lr - expected) <= 4e-16 * expected))
        fail_msg("step %ld: %.17g instead of %.17g", (long)step, lr, expected);
}

/* nanoGPT's recipe: 100 steps up to 1e-3, then half a cosine down to 1e-4 at step 2000. */
static void test_cosine(void **state) {
    (void)state;
    const Schedule s = {SCHEDULE_COSINE, 1e-3, 1e-4, 100, 2000, 0};
    check(&s, 0, 1e-3 / 101);
    check(&s, 49, 1e-3 * 50 / 101);
    check(&s, 99, 1e-3 * 100 / 101);
    check(&s, 100, 1e-3);
    check(&s, 575, 1e-4 + 9e-4 * 0.5 * (1 + sqrt(0.5)));
    check(&s, 1050, 5.5e-4);
    check(&s, 1525, 1e-4 + 9e-4 * 0.5 * (1 - sqrt(0.5)));
    check(&s, 2000, 1e-4);
    check(&s, 5000, 1e-4);
    for (int64_t step = 100; step < 2000; step++)
        assert_true(schedule_lr(&s, step + 1) < schedule_lr(&s, step));
}

static void test_linear(void **state) {
    (void)state;
    const Schedule s = {SCHEDULE_LINEAR, 8, 2, 4, 16, 0};
    const double lr[] = {1.6, 3.2, 4.8, 6.4, 8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5, 4, 3.5, 3, 2.5, 2, 2};
    for (int64_t step = 0; step < COUNT_OF(lr); step++) check(&s, step, lr[step]);
}

static void test_constant(void **state) {
    (void)state;
    const Schedule s = {SCHEDULE_CONSTANT, 3, 1, 2, 10, 0};
    const double lr[] = {1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
    for (int64_t step = 0; step < COUNT_OF(lr); step++) check(&s, step, lr[step]);
}

/* Warm-up to step 2, stable to step 8, then a fifth of 10 steps down. */
static void test_wsd(void **state) {
    (void)state;
    Schedule s = {SCHEDULE_WSD, 6, 0, 2, 10, 0.2};
    const double lr[] = {2, 4, 6, 6, 6, 6, 6, 6, 6, 3};
    for (int64_t step = 0; step < COUNT_OF(lr); step++) check(&s, step, lr[step]);
    assert_true(schedule_lr(&s, 10) == 0);
    s.decay_fraction = 0;
    check(&s, 9, 6);
    s.decay_fraction = 1; /* the decay waits for the warm-up */
    check(&s, 1, 4);
    check(&s, 2, 6);
    check(&s, 6, 3);
}

static void test_edges(void **state) {
    (void)state;
    const Schedule cold = {SCHEDULE_COSINE, 5, 1, 0, 8, 0};
    check(&cold, 0, 5);
    check(&cold, 4, 3);
    const Schedule only_warmup = {SCHEDULE_COSINE, 5, 1, 4, 4, 0};
    check(&only_warmup, 3, 4);
    check(&only_warmup, 4, 1);
    const Schedule none = {SCHEDULE_LINEAR, 5, 1, 0, 0, 0};
    check(&none, 0, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine),   cmocka_unit_test(test_linear),
        cmocka_unit_test(test_constant), cmocka_unit_test(test_wsd),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
