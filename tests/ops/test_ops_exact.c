/* Cases with one right answer, in any order of summation: no tolerance at all. Then the promises of
 * ops.h about single values: non-finite gradients, clipping, dropout off, ignored targets.
 *
 *   test_ops_exact                   cpu in both builds, emu in f32 and in bf16
 *   test_ops_exact DEVICE DTYPE      another one: see test_ops_device.c */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A test's state: the back end that it opens. Without a dtype it is a build of the cpu ops. */
typedef struct Target {
    const char *device, *dtype;
    int build;
} Target;
static Target targets[] = {{"cpu", NULL, CPU_BEST},
                           {"cpu", NULL, CPU_BASE},
                           {"cpu", NULL, CPU_F64},
                           {"emu", "f32", CPU_BEST},
                           {"emu", "bf16", CPU_BEST}};

static void open_target(Backend *b, void **state) {
    const Target *t = *state;
    if (t->dtype) driver_open_device(b, t->device, t->dtype);
    else driver_open_cpu(b, t->build, 2);
}

/* 0, but for attention backward in base 2: there p = 2^(s log2(e) - lse log2(e)) is 1 up to the
 * rounding of scores, which are large here, and to that of bf16. Wrong rows are far off. */
static double allowed(const Backend *b, OpKind op) {
    const bool base_2 = op == OP_ATTENTION_BACKWARD && strncmp(b->name, "cpu", 3);
    return !base_2 ? 0 : b->compute == DTYPE_F32 ? 0x1p-10 : 0x1p-8;
}

/* What is exact is still rounded to act once. */
static void round_outputs(Call *want) {
    for (int k = 0; k < want->n_operands; k++) {
        const Operand *o = &want->operand[k];
        if (!o->value || !(o->use & USE_OUT) || o->type != OPERAND_ACT) continue;
        for (int64_t i = 0; i < operand_count(o); i++)
            o->value[i] = value_round(o->value[i], want->act);
    }
}

static void test_every_case(void **state) {
    Backend b;
    int counts[OP_KINDS] = {0};
    open_target(&b, state);
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
        Call got, want;
        const char *where = "";
        if (!driver_has_time_for(&b, &op_cases[i])) continue;
        const bool exact = call_make_exact(&got, &op_cases[i], b.compute, b.master);
        if (exact) {
            call_copy(&want, &got);
            call_run(&got, &b);
            call_reference(&want);
            round_outputs(&want);
            const double error = call_error(&got, &want, &where);
            if (!(error <= allowed(&b, got.c.op)))
                fail_msg("%s, case %ld, %s, %s: off by %.3g", b.name, (long)i, op_names[got.c.op],
                         where, error);
            counts[got.c.op]++;
            call_free(&want);
        }
        call_free(&got);
    }
    b.close(&b);
    assert_true(driver_covers(counts, NULL, NULL));
}

static OpCase case_of(OpKind op) {
    for (int64_t i = 0; i < COUNT_OF(op_cases); i++)
        if (op_cases[i].op == op) return op_cases[i];
    return (OpCase){.op = OP_KINDS};
}

/* A NaN or an infinity in one tensor: flagged by number, and the optimiser then writes nothing. */
static void test_bad_gradient(void **state) {
    Backend b;
    open_target(&b, state);
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
    Backend b;
    open_target(&b, state);
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
    Backend b;
    open_target(&b, state);
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

/* Norms 3, 4 and 12 make 13; the losses are added; of two ranks with a bad tensor the first is
 * named. */
static void test_join(void **state) {
    Backend b;
    open_target(&b, state);
    StepResult ranks[3] = {{.loss = 0.5, .grad_norm = 3, .first_bad = -1},
                           {.loss = 0.25, .grad_norm = 4, .first_bad = -1},
                           {.loss = 1, .grad_norm = 12, .first_bad = -1}};
    const StepParams params = {.max_grad_norm = 6.5};
    for (int bad = 0; bad < 2; bad++) {
        StepResult got;
        for (int r = 1; bad && r < 3; r++) {
            ranks[r].bad = 1;
            ranks[r].first_bad = 4 + r;
            ranks[r].grad_norm = INFINITY;
        }
        char *const on_device = b.alloc(&b, sizeof ranks + sizeof params + sizeof got);
        assert_non_null(on_device);
        char *const at_params = on_device + sizeof ranks, *const at = at_params + sizeof params;
        b.copy(&b, on_device, ranks, sizeof ranks, COPY_TO_DEVICE, NULL);
        b.copy(&b, at_params, &params, sizeof params, COPY_TO_DEVICE, NULL);
        const OpContext cx = {
            .backend = &b, .params = (const void *)at_params, .result = (void *)at};
        b.ops->join_results(&cx, tensor_1d(on_device, DTYPE_U8, sizeof ranks), 10);
        b.copy(&b, &got, at, sizeof got, COPY_TO_HOST, NULL);
        b.stream_finish(&b, NULL);
        assert_true(got.loss == 1.75);
        assert_int_equal(got.first_bad, bad ? 15 : -1);
        assert_int_equal(got.bad, bad);
        if (!bad) assert_true(got.grad_norm == 13 && got.clip_factor == 0.5);
        b.free(&b, on_device);
    }
    b.close(&b);
}

/* With training = 0 a rate changes nothing, to the bit. */
static void test_dropout_off(void **state) {
    Backend b;
    open_target(&b, state);
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

/* One radian: Llama turns (1, 0) to (cos, sin), NanoChat to (cos, -sin). v stays. On the cpu in
 * double and to the bit; a device has its own sine. */
static void test_signs(void **state) {
    const Target *target = *state;
    const double off = target->dtype ? 0x1p-7 : 0;
    Backend b;
    if (target->dtype) open_target(&b, state);
    else driver_open_cpu(&b, CPU_F64, 1);
    for (int turn = -1; turn <= 1; turn++) {
        const OpCase c = {OP_ROTATE_FORWARD, HEADS(1, 2, 1, 1, 2), .turn = turn,
                          .without = "position rstd"};
        const double rows[12] = {3, 4, 5, 6, 7, 8, 1, 0, 0, 1, 9, 10};
        const double cosine = turn ? cos(1) : 1, sine = turn * sin(1);
        const double want[12] = {3, 4, 5, 6, 7, 8, cosine, sine, -sine, cosine, 9, 10};
        Call call;
        call_make(&call, &c, b.compute, b.master);
        memcpy(call_value(&call, "qkv"), rows, sizeof rows);
        call_run(&call, &b);
        for (int i = 0; i < 12; i++)
            assert_true(fabs(call_value(&call, "qkv")[i] - want[i]) <= off);
        call_free(&call);
    }
    b.close(&b);
}

/* A row alone at its position gets the bits that it gets within its sequence: decoding repeats what
 * training did. */
static void test_positions(void **state) {
    enum { T = 70 };
    Backend b;
    open_target(&b, state);
    const OpCase sequence = {OP_ROTATE_FORWARD, HEADS(1, T, 2, 1, 20), .turn = 1,
                             .without = "position"};
    const OpCase row = {OP_ROTATE_FORWARD, HEADS(1, 1, 2, 1, 20), .turn = 1, .context = T};
    Call all, one;
    call_make(&all, &sequence, b.compute, b.master);
    call_make(&one, &row, b.compute, b.master);
    const size_t bytes = (size_t)operand_count(call_find(&one, "qkv")) * sizeof(double);
    double *in = malloc(T * bytes), *rows = call_value(&all, "qkv");
    assert_non_null(in);
    memcpy(in, rows, T * bytes);
    call_run(&all, &b);
    for (int64_t t = 0; t < T; t++) {
        const int64_t at = t * (int64_t)(bytes / sizeof(double));
        memcpy(call_value(&one, "qkv"), in + at, bytes);
        call_value(&one, "position")[0] = (double)t;
        call_run(&one, &b);
        assert_memory_equal(call_value(&one, "qkv"), rows + at, bytes);
        assert_memory_equal(call_value(&one, "rstd"), call_value(&all, "rstd") + 3 * t,
                            3 * sizeof(double));
    }
    free(in);
    call_free(&all);
    call_free(&one);
    b.close(&b);
}

/* Numbers near the ends of float's range: logits far beyond the cap, gates at which e^-g overflows.
 * A NaN stays one. */
static void test_far_values(void **state) {
    Backend b;
    open_target(&b, state);
    const OpCase capped = {OP_CLASSIFIER, LOGITS(1, 4, 8), .softcap = 15};
    Call call;
    call_make(&call, &capped, b.compute, b.master);
    const double logits[4] = {3e4, 1e30, 1e38, -1e38};
    memcpy(call_value(&call, "logits"), logits, sizeof logits);
    call_value(&call, "targets")[0] = 0;
    call_run(&call, &b);
    assert_true(fabs(call_value(&call, "losses")[0] - log(3)) < 1e-6);
    for (int i = 0; i < 8; i++) assert_true(call_value(&call, "dlogits")[i] == 0);
    call_free(&call);

    const OpCase relu2 = {OP_ACTIVATION_FORWARD, ROWS(1, 1, 9), .activation = ACTIVATION_RELU2};
    call_make(&call, &relu2, b.compute, b.master);
    for (int i = 0; i < 9; i++) call_value(&call, "x")[i] = i == 4 ? (double)NAN : -(double)i;
    call_run(&call, &b);
    for (int i = 0; i < 9; i++)
        assert_true(i == 4 ? isnan(call_value(&call, "y")[i]) : call_value(&call, "y")[i] == 0);
    call_free(&call);

    const OpCase swiglu = {OP_SWIGLU_BACKWARD, ROWS(1, 1, 2)};
    call_make(&call, &swiglu, b.compute, b.master);
    const double far = value_round(1e30, b.compute);
    memcpy(call_value(&call, "u"), (const double[]){-far, far, 2, 3}, 4 * sizeof(double));
    memcpy(call_value(&call, "dy"), (const double[]){1, 1}, 2 * sizeof(double));
    call_run(&call, &b);
    const double want[4] = {0, 3, 0, far};
    for (int i = 0; i < 4; i++) assert_true(call_value(&call, "du")[i] == want[i]);
    call_free(&call);
    b.close(&b);
}

enum { MOST_TESTS = 9, N_TARGETS = (int)(sizeof targets / sizeof *targets) };

/* The promises about single values are those of the builds that users get. */
static int add_tests(struct CMUnitTest to[MOST_TESTS], Target *target) {
    const struct CMUnitTest tests[MOST_TESTS] = {
        cmocka_unit_test_prestate(test_every_case, target),
        cmocka_unit_test_prestate(test_bad_gradient, target),
        cmocka_unit_test_prestate(test_bad_loss, target),
        cmocka_unit_test_prestate(test_clipping, target),
        cmocka_unit_test_prestate(test_join, target),
        cmocka_unit_test_prestate(test_dropout_off, target),
        cmocka_unit_test_prestate(test_signs, target),
        cmocka_unit_test_prestate(test_positions, target),
        cmocka_unit_test_prestate(test_far_values, target),
    };
    memcpy(to, tests, sizeof tests);
    return target->build == CPU_BEST ? MOST_TESTS : 1;
}

int main(int argc, char **argv) {
    struct CMUnitTest tests[N_TARGETS * MOST_TESTS];
    size_t n = 0;
    if (argc == 3) {
        Target given = {argv[1], argv[2], CPU_BEST};
        n += (size_t)add_tests(tests, &given);
        return _cmocka_run_group_tests("exact", tests, n, NULL, NULL);
    }
    for (int i = 0; i < N_TARGETS; i++) n += (size_t)add_tests(tests + n, &targets[i]);
    return _cmocka_run_group_tests("exact", tests, n, NULL, NULL);
}
