/* What must not change a bit: the number of threads, and how a batch is cut into micro-batches. */
#include "driver.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void run_with(Call *call, int build, int n_threads) {
    Backend b;
    driver_open_cpu(&b, build, n_threads);
    call_run(call, &b);
    b.close(&b);
}

static void test_build(int build) {
    int counts[OP_KINDS] = {0};
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        Call one;
        call_make(&one, &op_cases[i], DTYPE_F32, DTYPE_F32);
        Call inputs;
        call_copy(&inputs, &one);
        run_with(&one, build, 1);
        for (int n_threads = 2; n_threads <= 4; n_threads++) {
            Call more;
            const char *where = "";
            call_copy(&more, &inputs);
            run_with(&more, build, n_threads);
            if (!call_same_bits(&one, &more, &where))
                fail_msg("case %ld, %s, %s: %d threads give other bits than 1", (long)i,
                         op_names[one.c.op], where, n_threads);
            call_free(&more);
        }
        counts[one.c.op]++;
        call_free(&one);
        call_free(&inputs);
    }
    assert_true(driver_covers(counts, NULL, NULL));
}

static void test_threads(void **state) {
    (void)state;
    for (int build = CPU_BASE; build <= (int)backend_cpu_best(); build++) test_build(build);
}

/* Operands with half the elements in a call of half the batch are cut; others (weights, sums over
 * all rows) are whole. Elements of operand k's part in the first or second half; 0: it is
 * not cut. */
static int64_t cut(const Call *half, const Call *whole, int k) {
    const int64_t n = operand_count(&half->operand[k]);
    return whole->operand[k].value && 2 * n == operand_count(&whole->operand[k]) ? n : 0;
}

/* Rows [part * N, (part + 1) * N) of a batch of 2N rows, as a call of its own. */
static void check_half(const OpCase *c, const Call *inputs, const Call *outputs, int part) {
    OpCase half_case = *c;
    half_case.row_base += part * c->shape.B * c->shape.T;
    Call half;
    call_make(&half, &half_case, DTYPE_F32, DTYPE_F32);
    for (int k = 0; k < half.n_operands; k++) {
        const Operand *o = &half.operand[k];
        if (!o->value) continue;
        const int64_t n = cut(&half, inputs, k);
        memcpy(o->value, inputs->operand[k].value + part * n,
               (size_t)operand_count(o) * sizeof *o->value);
    }
    run_with(&half, CPU_BEST, 2);
    for (int k = 0; k < half.n_operands; k++) {
        const Operand *o = &half.operand[k];
        const int64_t n = cut(&half, inputs, k);
        if (n && o->use & USE_OUT &&
            memcmp(o->value, outputs->operand[k].value + part * n, (size_t)n * sizeof *o->value))
            fail_msg("%s, %s, half %d differs from the whole", op_names[c->op], o->name, part);
    }
    call_free(&half);
}

static bool has_dropout(OpKind op) {
    return op == OP_RESIDUAL_NORM_FORWARD || op == OP_RESIDUAL_NORM_BACKWARD ||
           op == OP_ATTENTION_FORWARD || op == OP_ATTENTION_BACKWARD ||
           op == OP_DROPOUT_FORWARD || op == OP_DROPOUT_BACKWARD;
}

static void test_micro_batches(void **state) {
    (void)state;
    int counts[OP_KINDS] = {0};
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        if (op_cases[i].rate <= 0) continue;
        OpCase both = op_cases[i];
        both.shape.B *= 2;
        Call inputs, outputs;
        call_make(&inputs, &both, DTYPE_F32, DTYPE_F32);
        call_copy(&outputs, &inputs);
        run_with(&outputs, CPU_BEST, 2);
        for (int part = 0; part < 2; part++) check_half(&op_cases[i], &inputs, &outputs, part);
        counts[both.op]++;
        call_free(&inputs);
        call_free(&outputs);
    }
    assert_true(driver_covers(counts, NULL, has_dropout));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_micro_batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
