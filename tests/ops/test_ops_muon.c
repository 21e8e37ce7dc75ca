/* What Muon is for, beside the formula: its O has the singular vectors of the update and singular
 * values near 1, whatever the scale of the gradient. A bad step writes nothing. And matrices do not
 * feel each other. */
#include "driver.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A random matrix so that w becomes -O: no weights, no momentum before, a rate of 1. */
static void make_plain(Call *call, int64_t R, int64_t C, const Backend *b) {
    const OpCase c = {.op = OP_MUON, .shape = {.B = 1, .T = 1, .O = R, .C = C}};
    call_make(call, &c, b->compute, b->master);
    memset(call_value(call, "w"), 0, (size_t)(R * C) * sizeof(double));
    memset(call_value(call, "mom"), 0, (size_t)(R * C) * sizeof(double));
    call->params.lr = 1;
    call->muon = (Muon){.momentum = 0.95, .lr_scale = 1 / sqrt(fmax(1, (double)R / (double)C))};
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Singular values, largest first, of a (R,C) in s (min(R,C)), by one-sided Jacobi (Hestenes 1958):
 * pairs of the fewer rows, or columns, are rotated until all are orthogonal; then their lengths are
 * the singular values. */
static void singular_values(double *s, const double *a, int64_t R, int64_t C) {
    const int64_t m = i64_min(R, C), n = i64_max(R, C);
    double *x = malloc((size_t)(m * n) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < m * n; i++) x[i] = R > C ? a[i % n * C + i / n] : a[i];
    for (double worst = 1; worst > 1e-12;) {
        worst = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = i + 1; j < m; j++) {
                double *p = x + i * n, *q = x + j * n;
                const double pp = dot(p, p, n), qq = dot(q, q, n), pq = dot(p, q, n);
                const double cosine = fabs(pq) / sqrt(pp * qq);
                worst = fmax(worst, cosine);
                if (cosine <= 1e-12) continue;
                const double half = (qq - pp) / (2 * pq);
                const double t = copysign(1 / (fabs(half) + sqrt(1 + half * half)), half);
                const double c = 1 / sqrt(1 + t * t);
                for (int64_t k = 0; k < n; k++) {
                    const double before = p[k];
                    p[k] = c * (before - t * q[k]);
                    q[k] = c * (t * before + q[k]);
                }
            }
    }
    for (int64_t i = 0; i < m; i++) s[i] = sqrt(dot(x + i * n, x + i * n, n));
    qsort(s, (size_t)m, sizeof *s, descending);
    free(x);
}

/* What five steps make of a singular value: X = U s V^T stays U p(s) V^T. */
static double five_steps(double s) {
    for (int step = 0; step < 5; step++) s *= 3.4445 + s * s * (-4.7750 + s * s * 2.0315);
    return s;
}

/* Singular values of O are those of the update, each mapped by itself; and with
 * <update, O> = sum of the products of both the singular vectors agree. Errors of singular values
 * are at most the error of O in norm (Weyl). */
static void check_spectrum(Backend *b, int64_t R, int64_t C, double lowest) {
    const int64_t m = i64_min(R, C);
    double *before = malloc((size_t)m * sizeof *before), *after = malloc((size_t)m * sizeof *after);
    assert_true(before && after);
    Call call;
    make_plain(&call, R, C, b);
    const double *grad = call_value(&call, "grad"), *w = call_value(&call, "w");
    call_run(&call, b);
    singular_values(before, grad, R, C);
    singular_values(after, w, R, C);

    const double length = sqrt(dot(grad, grad, R * C)), size = sqrt(dot(w, w, R * C));
    const double bound = call_tolerance(&call) * size;
    double inner = 0;
    for (int64_t i = 0; i < m; i++) inner += before[i] / length * five_steps(before[i] / length);
    assert_true(fabs(inner + dot(grad, w, R * C) / length) <= bound);
    for (int64_t i = 0; i < m; i++) before[i] = five_steps(before[i] / length);
    qsort(before, (size_t)m, sizeof *before, descending);
    for (int64_t i = 0; i < m; i++)
        if (!(fabs(after[i] - before[i]) <= bound))
            fail_msg("%s (%ld,%ld): singular value %ld is %.6g, not %.6g, bound %.2g", b->name,
                     (long)R, (long)C, (long)i, after[i], before[i], bound);
    if (!(after[0] <= 1.21 && after[m - 1] >= lowest))
        fail_msg("%s (%ld,%ld): singular values from %.4g to %.4g", b->name, (long)R, (long)C,
                 after[m - 1], after[0]);
    call_free(&call);
    free(before);
    free(after);
}

/* s (3.4445 - 4.7750 s^2 + 2.0315 s^4) has its hill at 1.203 and its valley beyond at 0.682, so
 * values that five steps lift over the valley stay between. A square matrix has a few so small that
 * they are still on their way. */
static void test_spectrum(void **state) {
    (void)state;
    static const double square = 0, oblong = 0.68;
    for (int f64 = 0; f64 < 2; f64++) {
        Backend b;
        driver_open_cpu(&b, f64 ? CPU_F64 : CPU_BEST, 2);
        check_spectrum(&b, 128, 128, square);
        check_spectrum(&b, 37, 37, square);
        check_spectrum(&b, 128, 300, oblong);
        check_spectrum(&b, 300, 128, oblong);
        check_spectrum(&b, 33, 257, oblong);
        check_spectrum(&b, 257, 33, oblong);
        check_spectrum(&b, 1, 50, oblong);
        check_spectrum(&b, 50, 1, oblong);
        b.close(&b);
    }
}

/* Gradients whose squares no float holds give the same O. */
static void test_scale(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 2);
    Call plain;
    make_plain(&plain, 65, 40, &b);
    Call inputs;
    call_copy(&inputs, &plain);
    call_run(&plain, &b);
    static const double scales[] = {0x1p-80, 0x1p80};
    for (int64_t k = 0; k < COUNT_OF(scales); k++) {
        Call scaled;
        call_copy(&scaled, &inputs);
        double *grad = call_value(&scaled, "grad");
        for (int64_t i = 0; i < 65 * 40; i++) grad[i] *= scales[k];
        call_run(&scaled, &b);
        double *mom = call_value(&scaled, "mom");
        for (int64_t i = 0; i < 65 * 40; i++) mom[i] /= scales[k];
        const char *where = "";
        const double error = call_error(&scaled, &plain, &where);
        if (!(error <= call_tolerance(&plain))) fail_msg("%s: error %.3g", where, error);
        call_free(&scaled);
    }
    call_free(&plain);
    call_free(&inputs);
    b.close(&b);
}

static void test_bad_step(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 2);
    Call call, before;
    make_plain(&call, 37, 65, &b);
    call.result.bad = 1;
    call_value(&call, "grad")[5] = NAN;
    call_copy(&before, &call);
    call_run(&call, &b);
    static const char *const kept[] = {"w", "mom", "w_act"}; /* w_act: NaN, as the driver left it */
    for (int64_t i = 0; i < COUNT_OF(kept); i++)
        assert_memory_equal(call_value(&call, kept[i]), call_value(&before, kept[i]),
                            37 * 65 * sizeof(double));
    call_free(&call);
    call_free(&before);
    b.close(&b);
}

/* Many matrices at once get the bits that each gets by itself: small ones, of which a thread takes
 * whole ones, and large ones, which threads share. */
static void check_together(Backend *b, int64_t n, int64_t R, int64_t C) {
    static const char *const names[] = {"w", "mom", "grad", "w_act"};
    const OpCase c = {.op = OP_MUON, .shape = {.B = n, .T = 1, .O = R, .C = C}};
    OpCase one = c;
    one.shape.B = 1;
    Call all, inputs;
    call_make(&inputs, &c, b->compute, b->master);
    call_copy(&all, &inputs);
    call_run(&all, b);
    const size_t bytes = (size_t)(R * C) * sizeof(double);
    for (int64_t i = 0; i < n; i++) {
        Call alone;
        call_make(&alone, &one, b->compute, b->master);
        for (int k = 0; k < 3; k++)
            memcpy(call_value(&alone, names[k]), call_value(&inputs, names[k]) + i * R * C, bytes);
        call_run(&alone, b);
        for (int64_t k = 0; k < COUNT_OF(names); k++)
            if (memcmp(call_value(&alone, names[k]), call_value(&all, names[k]) + i * R * C,
                       bytes))
                fail_msg("%ld of (%ld,%ld): %s of number %ld has other bits than alone", (long)n,
                         (long)R, (long)C, names[k], (long)i);
        call_free(&alone);
    }
    call_free(&all);
    call_free(&inputs);
}

static void test_together(void **state) {
    (void)state;
    Backend b;
    driver_open_cpu(&b, CPU_BEST, 3);
    check_together(&b, 9, 37, 65);
    check_together(&b, 5, 300, 40);
    check_together(&b, 5, 260, 387);
    b.close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spectrum), cmocka_unit_test(test_scale),
        cmocka_unit_test(test_bad_step), cmocka_unit_test(test_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
