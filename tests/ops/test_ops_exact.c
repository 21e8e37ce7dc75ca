/* Cases with one right answer, in any order of summation: no tolerance at all. Then the promises of
 * ops.h about single values: non-finite gradients, clipping, dropout off, ignored targets. */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void test_every_case(void **state) {
    (void)state;
    for (int f64 = 0; f64 < 2; f64++) {
        Backend b;
        int counts[OP_KINDS] = {0};
        driver_open_cpu(&b, f64, 2);
        printf("# %s\n", b.name);
        for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
            Call got, want;
            const char *where = "";
            const bool exact = call_make_exact(&got, &op_cases[i], b.compute, b.master);
            if (exact) {
                call_copy(&want, &got);
                call_run(&got, &b);
                call_reference(&want);
                const double error = call_error(&got, &want, &where);
                if (error != 0)
                    fail_msg("%s, case %ld, %s, %s: off by %.3g", b.name, (long)i,
                             op_names[got.c.op], where, error);
                counts[got.c.op]++;
                call_free(&want);
            }
            call_free(&got);
        }
        b.close(&b);
        assert_true(driver_covers(counts, NULL, NULL));
    }
}

static OpCase case_of(OpKind op) {
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++)
        if (op_cases[i].op == op) return op_cases[i];
    return (OpCase){.op = OP_KINDS};
}

/* A NaN or an infinity in one tensor: flagged by number, and the optimiser then writes nothing. */
static void test_bad_gradient(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, false, 2);
    const OpCase norm = case_of(OP_GRAD_NORM), adamw = case_of(OP_ADAMW);
    static const double values[] = {NAN, INFINITY, -INFINITY};
    for (int64_t i = 0; i < COUNT_OF(values); i++) {
        Call call;
        call_make(&call, &norm, b.compute, b.master);
        const Operand *o = call_find(&call, "grad 1");
        o->value[operand_count(o) - 1] = values[i];
        call_value(&call, "grad 3")[0] = values[i];
        call_run(&call, &b);
        static const double flags[N_GRADS] = {0, 1, 0, 1};
        assert_memory_equal(call_value(&call, "flags"), flags, sizeof flags);
        assert_int_equal(call.result.first_bad, 1);
        assert_int_equal(call.result.bad, 1);
        call_free(&call);
    }
    Call call, before;
    call_make(&call, &adamw, b.compute, b.master);
    call.result.bad = 1;
    call_copy(&before, &call);
    call_run(&call, &b);
    static const char *const kept[] = {"w", "m", "v"};
    for (int64_t i = 0; i < COUNT_OF(kept); i++) {
        const Operand *o = call_find(&call, kept[i]);
        assert_memory_equal(o->value, call_value(&before, kept[i]),
                            (size_t)operand_count(o) * sizeof *o->value);
    }
    assert_true(isnan(call_value(&call, "w_act")[0])); /* as the driver left it */
    call_free(&call);
    call_free(&before);
    b.close(&b);
}

static void test_bad_loss(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, false, 2);
    const OpCase norm = case_of(OP_GRAD_NORM);
    static const double losses[] = {NAN, INFINITY, 1};
    for (int64_t i = 0; i < COUNT_OF(losses); i++) {
        Call call;
        call_make(&call, &norm, b.compute, b.master);
        call.result.loss = losses[i];
        call_run(&call, &b);
        assert_int_equal(call.result.bad, !isfinite(losses[i]));
        assert_int_equal(call.result.first_bad, -1);
        call_free(&call);
    }
    b.close(&b);
}

/* 3-4-12-0: the norm is 13. Clipped to 6.5, left alone at 13, at 100 and without a limit (0). */
static void test_clipping(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, false, 2);
    const OpCase norm = case_of(OP_GRAD_NORM);
    static const double limits[][2] = {{6.5, 0.5}, {13, 1}, {100, 1}, {0, 1}};
    for (int64_t i = 0; i < COUNT_OF(limits); i++) {
        Call call;
        call_make(&call, &norm, b.compute, b.master);
        static const char *const names[N_GRADS] = {"grad 0", "grad 1", "grad 2", "grad 3"};
        static const double only[N_GRADS] = {3, 4, 12, 0};
        for (int k = 0; k < N_GRADS; k++) {
            const Operand *o = call_find(&call, names[k]);
            memset(o->value, 0, (size_t)operand_count(o) * sizeof *o->value);
            o->value[operand_count(o) / 2] = only[k];
        }
        call.params.max_grad_norm = limits[i][0];
        call_run(&call, &b);
        assert_true(call.result.grad_norm == 13);
        assert_true(call.result.clip_factor == limits[i][1]);
        assert_int_equal(call.result.bad, 0);
        call_free(&call);
    }
    b.close(&b);
}

/* With training = 0 a rate changes nothing, to the bit. */
static void test_dropout_off(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, false, 2);
    int checked = 0;
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        if (op_cases[i].rate <= 0) continue;
        Call off, none;
        const char *where = "";
        call_make(&off, &op_cases[i], b.compute, b.master);
        call_copy(&none, &off);
        off.params.training = 0;
        none.drop = DROPOUT_OFF;
        call_run(&off, &b);
        call_run(&none, &b);
        if (!call_same_bits(&off, &none, &where))
            fail_msg("case %ld, %s, %s", (long)i, op_names[off.c.op], where);
        call_free(&off);
        call_free(&none);
        checked++;
    }
    assert_true(checked > 0);
    b.close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_case), cmocka_unit_test(test_bad_gradient),
        cmocka_unit_test(test_bad_loss),   cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_dropout_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
