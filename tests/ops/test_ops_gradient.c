/* Gradients of the double build against differences of its own forward ops. For
 * f(x) = sum(outputs * u) with random u, and one random direction d over all inputs at once:
 *   g . d = (f(x + h d) - f(x - h d)) / 2h
 * As d is N(0, 1), g . d is of the size |g|, by which the difference is judged: a fault in any
 * gradient, of any input, shows as its share of |g|. */
#include "driver.h"
#include "rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* With h = 1e-5 the third derivative (1 to 100 times the first, here) costs h^2 / 6 times that,
 * 2e-9 at most. The rounding of f, 1e-16 |f|, is divided by 2h |g|: 1e-8 where f is a mean of 768
 * losses and |g| therefore 1/30, a tenth of that elsewhere. */
static const double STEP = 1e-5, BOUND = 5e-8;

typedef enum WireKind {
    SAVED, /* the backward op reads what the forward op read or made */
    SEED,  /* the backward op gets u for this output */
    GRAD,  /* its result is the gradient of this input */
    BIAS   /* its result is the gradient of a vector added to every row of this input */
} WireKind;

typedef struct Wire {
    WireKind kind;
    const char *forward, *backward;
} Wire;

enum { MAX_WIRES = 10 };

typedef struct Pair {
    OpKind forward, backward;
    Wire wire[MAX_WIRES];
} Pair;

static const Pair pairs[] = {
    {OP_EMBED_FORWARD, OP_EMBED_BACKWARD,
     {{SEED, "x", "dx"}, {GRAD, "wte", "dwte"}, {GRAD, "wpe", "dwpe"}}},
    {OP_RESIDUAL_NORM_FORWARD, OP_RESIDUAL_NORM_BACKWARD,
     {{SAVED, "res", "res"}, {SAVED, "mean", "mean"}, {SAVED, "rstd", "rstd"}, {SAVED, "w", "w"},
      {SEED, "y", "dy"}, {SEED, "res", "dres"}, {GRAD, "res_in", "dres"}, {GRAD, "x", "dx"},
      {GRAD, "w", "dw"}, {BIAS, "x", "dbias_prev"}}},
    {OP_RESIDUAL_NORM_FORWARD, OP_RESIDUAL_NORM_BACKWARD,
     {{SAVED, "res", "res"}, {SAVED, "mean", "mean"}, {SAVED, "rstd", "rstd"}, {SAVED, "w", "w"},
      {SEED, "y", "dy"}, {SEED, "res", "dres"}, {GRAD, "b", "db"}}},
    {OP_LINEAR_FORWARD, OP_LINEAR_BACKWARD_INPUT,
     {{SAVED, "w", "w"}, {SAVED, "x", "aux"}, {SEED, "y", "dy"}, {GRAD, "x", "dx"},
      {BIAS, "x", "dbias_prev"}}},
    {OP_LINEAR_FORWARD, OP_LINEAR_BACKWARD_WEIGHT,
     {{SAVED, "x", "x"}, {SEED, "y", "dy"}, {GRAD, "w", "dw"}, {GRAD, "bias", "dbias"}}},
    {OP_ATTENTION_FORWARD, OP_ATTENTION_BACKWARD,
     {{SAVED, "y", "y"}, {SAVED, "lse", "lse"}, {SAVED, "qkv", "qkv"}, {SEED, "y", "dy"},
      {GRAD, "qkv", "dqkv"}, {BIAS, "qkv", "dbias"}}},
    {OP_ROTATE_FORWARD, OP_ROTATE_BACKWARD,
     {{SAVED, "qkv", "qkv"}, {SAVED, "rstd", "rstd"}, {SEED, "qkv", "dqkv"},
      {GRAD, "qkv", "dqkv"}, {BIAS, "qkv", "dbias"}}},
    {OP_SWIGLU_FORWARD, OP_SWIGLU_BACKWARD,
     {{SAVED, "u", "u"}, {SEED, "y", "dy"}, {GRAD, "u", "du"}}},
    {OP_RECURRENCE_FORWARD, OP_RECURRENCE_BACKWARD,
     {{SAVED, "h", "h"}, {SAVED, "w", "w"}, {SEED, "h", "dh"}, {GRAD, "u", "du"}}},
    {OP_ACTIVATION_FORWARD, OP_ACTIVATION_BACKWARD,
     {{SAVED, "x", "x"}, {SEED, "y", "dy"}, {GRAD, "x", "dx"}}},
    {OP_DROPOUT_FORWARD, OP_DROPOUT_BACKWARD, {{SEED, "y", "dy"}, {GRAD, "x", "dx"}}},
    {OP_CLASSIFIER, OP_CLASSIFIER, {{SEED, "losses", NULL}, {GRAD, "logits", "dlogits"}}},
    {OP_NEGATIVE_SAMPLING, OP_NEGATIVE_SAMPLING, {{SEED, "losses", NULL}, {GRAD, "x", "dx"}}},
};

static bool is_gradient(OpKind op) {
    for (int64_t i = 0; i < COUNT_OF(pairs); i++)
        if (pairs[i].backward == op) return true;
    return false;
}

typedef struct Check {
    const Pair *pair;
    Backend *backend;
    Call forward, backward;
} Check;

/* Of a wire: u of a SEED, d of a GRAD or BIAS. A loss's gradient has its u built in. */
static double random_of(const Check *check, int64_t wire, int64_t i) {
    if (check->pair->forward == check->pair->backward && check->pair->wire[wire].kind == SEED)
        return check->forward.params.loss_scale;
    return rng_normal(1, 0, rng_site(RNG_TEST, wire), (uint64_t)i);
}

static void copy_values(const Operand *to, const Operand *from) {
    CHECK(operand_count(to) == operand_count(from), "%s and %s", to->name, from->name);
    memcpy(to->value, from->value, (size_t)operand_count(to) * sizeof *to->value);
}

static Operand *backward_operand(Check *check, int64_t wire) {
    const char *name = check->pair->wire[wire].backward;
    Operand *o = name ? call_find(&check->backward, name) : NULL;
    return o && o->value ? o : NULL;
}

/* x = activation(x), by the op: linear_backward_input also passes the one before its layer. */
static void activate(Check *check, Call *call) {
    OpCase c = check->backward.c;
    c.op = OP_ACTIVATION_FORWARD;
    c.without = NULL;
    Call activation;
    call_make(&activation, &c, DTYPE_F64, DTYPE_F64);
    copy_values(call_find(&activation, "x"), call_find(call, "x"));
    call_run(&activation, check->backend);
    copy_values(call_find(call, "x"), call_find(&activation, "y"));
    call_free(&activation);
}

/* f(x + step * d). With `saved`, the backward op gets what it needs of this pass. */
static double evaluate(Check *check, double step, bool saved) {
    Call call;
    call_copy(&call, &check->forward);
    for (int64_t k = 0; k < MAX_WIRES && check->pair->wire[k].forward; k++) {
        const Wire wire = check->pair->wire[k];
        const Operand *result = backward_operand(check, k);
        if (wire.kind < GRAD || !result) continue;
        const Operand *input = call_find(&call, wire.forward);
        for (int64_t i = 0; i < operand_count(input); i++)
            input->value[i] += step * random_of(check, k, i % operand_count(result));
    }
    if (check->pair->backward == OP_LINEAR_BACKWARD_INPUT && backward_operand(check, 1))
        activate(check, &call);
    call_run(&call, check->backend);

    double f = 0;
    for (int64_t k = 0; k < MAX_WIRES && check->pair->wire[k].forward; k++) {
        const char *name = check->pair->wire[k].forward;
        const Operand *o = call_find(&call, name);
        const WireKind kind = check->pair->wire[k].kind;
        for (int64_t i = 0; kind == SEED && i < operand_count(o); i++)
            f += random_of(check, k, i) * o->value[i];
        if (o->use == USE_IN) o = call_find(&check->forward, name); /* before the activation */
        if (saved && kind == SAVED && backward_operand(check, k))
            copy_values(backward_operand(check, k), o);
    }
    call_free(&call);
    return f;
}

/* The forward case that belongs to a backward case. */
static OpCase forward_case(const Pair *pair, Call *backward) {
    OpCase c = backward->c;
    const bool no_weight = pair->forward == OP_RESIDUAL_NORM_FORWARD && !call_value(backward, "w");
    c.op = pair->forward;
    c.in_place = false;
    c.without = no_weight ? "w" : NULL;
    if (c.op == OP_EMBED_FORWARD) c.without = "position";
    if (c.op == OP_ROTATE_FORWARD)
        c.without = call_value(backward, "rstd") ? "position" : "position rstd";
    if (c.op == OP_LINEAR_FORWARD) {
        c.without = "aux";
        c.activation = ACTIVATION_NONE;
    }
    return c;
}

/* |g . d - difference| / |g|, or -1 if the case has no gradient to check. */
static double gradient_error(const Pair *pair, const OpCase *backward_case, Backend *backend) {
    Check check = {.pair = pair, .backend = backend};
    OpCase c = *backward_case;
    c.in_place = false;
    call_make(&check.backward, &c, DTYPE_F64, DTYPE_F64);
    const OpCase forward = forward_case(pair, &check.backward);
    call_make(&check.forward, &forward, DTYPE_F64, DTYPE_F64);
    evaluate(&check, 0, true);
    const double difference =
        (evaluate(&check, STEP, false) - evaluate(&check, -STEP, false)) / (2 * STEP);

    for (int pass = 0; pass < 2; pass++) /* sums start at 0, except those that start at a seed */
        for (int64_t k = 0; k < MAX_WIRES && pair->wire[k].forward; k++) {
            const Operand *o = backward_operand(&check, k);
            for (int64_t i = 0; o && i < operand_count(o); i++) {
                if (pass == 0 && pair->wire[k].kind >= GRAD) o->value[i] = 0;
                if (pass == 1 && pair->wire[k].kind == SEED) o->value[i] = random_of(&check, k, i);
            }
        }
    call_run(&check.backward, backend);
    double along = 0, squares = 0;
    for (int64_t k = 0; k < MAX_WIRES && pair->wire[k].forward; k++) {
        const Operand *o = pair->wire[k].kind >= GRAD ? backward_operand(&check, k) : NULL;
        for (int64_t i = 0; o && i < operand_count(o); i++) {
            along += o->value[i] * random_of(&check, k, i);
            squares += o->value[i] * o->value[i];
        }
    }
    call_free(&check.forward);
    call_free(&check.backward);
    return squares > 0 ? fabs(along - difference) / sqrt(squares) : -1;
}

static void test_every_gradient(void **state) {
    (void)state;
    Backend f64;
    int counts[OP_KINDS] = {0};
    double worst[OP_KINDS] = {0};
    driver_open_cpu(&f64, CPU_F64, 2);
    for (int64_t p = 0; p < COUNT_OF(pairs); p++)
        for (int64_t i = 0; i < COUNT_OF(op_cases); i++) {
            if (op_cases[i].op != pairs[p].backward) continue;
            const double error = gradient_error(&pairs[p], &op_cases[i], &f64);
            if (error < 0) continue;
            if (!(error <= BOUND))
                fail_msg("case %ld, %s: error %.3g, bound %.3g", (long)i, op_names[op_cases[i].op],
                         error, BOUND);
            counts[op_cases[i].op]++;
            worst[op_cases[i].op] = fmax(worst[op_cases[i].op], error / BOUND);
        }
    f64.close(&f64);
    assert_true(driver_covers(counts, worst, is_gradient));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_gradient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
