/* The sampler against distributions that are worked out here, and its edge cases. */
#include "generate.h"
#include "rng.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const Sampler plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7};

static int32_t next(const Sampler *s, const float *logits, int64_t n, int64_t position) {
    float copy[512];
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    return sampler_next(s, copy, n, NULL, 0, 0, position, NULL, 0);
}

enum { DRAWS = 20000 };

/* Frequencies of many draws against probabilities p. Each count is binomial; 5 standard deviations
 * and a half count, so that a token of probability 0 must never come. */
static void assert_frequencies(const Sampler *s, const float *logits, const double *p, int64_t n) {
    int64_t count[16] = {0};
    for (int64_t i = 0; i < DRAWS; i++) count[next(s, logits, n, i)]++;
    for (int64_t i = 0; i < n; i++) {
        const double expected = DRAWS * p[i];
        assert_true(fabs((double)count[i] - expected) <= 5 * sqrt(expected * (1 - p[i])) + 0.5);
    }
}

/* Logarithms of weights 8, 4, 2, 1, 1 in an order that is not theirs. */
static const float logits5[] = {0.6931472f, 2.0794415f, 0, 1.3862944f, 0};

static void test_distribution(void **state) {
    (void)state;
    const double p[] = {2. / 16, 8. / 16, 1. / 16, 4. / 16, 1. / 16};
    assert_frequencies(&plain, logits5, p, 5);
}

static void test_temperature(void **state) {
    (void)state;
    Sampler s = plain;
    s.temperature = 0.5; /* squares the weights: 4 64 1 16 1 */
    const double sharp[] = {4. / 86, 64. / 86, 1. / 86, 16. / 86, 1. / 86};
    assert_frequencies(&s, logits5, sharp, 5);
    s.temperature = 1e6;
    const double flat[] = {0.2, 0.2, 0.2, 0.2, 0.2};
    assert_frequencies(&s, logits5, flat, 5);
    s.temperature = 5e-324; /* the smallest double: no NaN from 0 / 0 or 0 * infinity */
    for (int i = 0; i < 100; i++) assert_int_equal(next(&s, logits5, 5, i), 1);
}

static void test_top_k(void **state) {
    (void)state;
    Sampler s = plain;
    const double two[] = {0, 8. / 12, 0, 4. / 12, 0};
    s.top_k = 2;
    assert_frequencies(&s, logits5, two, 5);
    const double four[] = {2. / 15, 8. / 15, 1. / 15, 4. / 15,
                           0}; /* the lower id of equals stays */
    s.top_k = 4;
    assert_frequencies(&s, logits5, four, 5);
    for (s.top_k = 5; s.top_k < 8; s.top_k++) /* as many as there are, or more: all */
        for (int i = 0; i < 200; i++)
            assert_int_equal(next(&s, logits5, 5, i), next(&plain, logits5, 5, i));
}

static void test_top_p(void **state) {
    (void)state;
    Sampler s = plain;
    const double one[] = {0, 1, 0, 0, 0}, two[] = {0, 8. / 12, 0, 4. / 12, 0};
    const double three[] = {2. / 14, 8. / 14, 0, 4. / 14, 0};
    const double four[] = {2. / 15, 8. / 15, 1. / 15, 4. / 15, 0};
    const struct {
        double top_p;
        const double *p;
    } cases[] = {{0, one},      {1e-12, one},  {0.49, one},  {0.51, two}, {0.74, two},
                 {0.76, three}, {0.87, three}, {0.88, four}, {0.93, four}};
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        s.top_p = cases[i].top_p;
        assert_frequencies(&s, logits5, cases[i].p, 5);
    }
    s.top_p = 0.95;
    for (int i = 0; i < 200; i++)
        assert_int_equal(next(&s, logits5, 5, i), next(&plain, logits5, 5, i));
    /* top-p counts within what top-k left: 8/12 reaches 0.6, 8/16 would not. */
    s.top_k = 2;
    s.top_p = 0.6;
    assert_frequencies(&s, logits5, one, 5);
}

/* Greedy in each of its spellings takes the lowest id of the largest. */
static void test_greedy(void **state) {
    (void)state;
    const float logits[] = {-1, 3, 2, 3, -INFINITY, 3};
    Sampler s = plain;
    s.temperature = 0;
    assert_int_equal(next(&s, logits, 6, 0), 1);
    s = plain;
    s.top_k = 1;
    for (int i = 0; i < 50; i++) assert_int_equal(next(&s, logits, 6, i), 1);
    s = plain;
    s.top_p = 0;
    for (int i = 0; i < 50; i++) assert_int_equal(next(&s, logits, 6, i), 1);
    const float near[] = {1, 1.0000001f}; /* weights of a wild temperature cannot tell them apart */
    s = plain;
    s.top_k = 1;
    s.temperature = 100;
    assert_int_equal(next(&s, near, 2, 0), 1);
}

static void test_not_finite(void **state) {
    (void)state;
    const float nan_first[] = {NAN, 1}, nan_last[] = {1, NAN}, infinite[] = {0, INFINITY};
    const float nothing[] = {-INFINITY, -INFINITY}, masked[] = {-INFINITY, -1e30f, -INFINITY};
    Sampler greedy = plain;
    greedy.temperature = 0;
    const Sampler *both[] = {&plain, &greedy};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(next(both[i], nan_first, 2, 0), -1);
        assert_int_equal(next(both[i], nan_last, 2, 0), -1);
        assert_int_equal(next(both[i], infinite, 2, 0), -1);
        assert_int_equal(next(both[i], nothing, 2, 0), -1);
        for (int k = 0; k < 50; k++) assert_int_equal(next(both[i], masked, 3, k), 1);
    }
    const float huge[] = {3e38f, -3e38f}; /* their difference is no float */
    for (int k = 0; k < 50; k++) assert_int_equal(next(&plain, huge, 2, k), 0);
}

static void test_repetition_penalty(void **state) {
    (void)state;
    const int32_t seen[] = {2, 0};
    Candidate top[3];
    Sampler s = plain;
    s.repetition_penalty = 2;
    float logits[] = {4, 1, -1, 1};
    sampler_next(&s, logits, 4, seen, 2, 0, 0, top, 3);
    /* 4 becomes 2, -1 becomes -2 */
    const double sum = exp(2) + exp(1) + exp(-2) + exp(1);
    assert_int_equal(top[0].id, 0);
    assert_true(fabs(top[0].probability - exp(2) / sum) < 1e-6); /* weights are floats */
    assert_int_equal(top[1].id, 1);
    assert_true(fabs(top[1].probability - exp(1) / sum) < 1e-6);
    assert_int_equal(top[2].id, 3);
    float strong[] = {4, 1, -1, 1};
    s.repetition_penalty = 100;
    s.temperature = 0;
    assert_int_equal(sampler_next(&s, strong, 4, seen, 2, 0, 0, NULL, 0), 1);
}

static void test_candidates(void **state) {
    (void)state;
    Candidate top[7];
    float logits[5];
    memcpy(logits, logits5, sizeof logits);
    Sampler s = plain;
    s.top_k = 1; /* candidates are listed before it */
    sampler_next(&s, logits, 5, NULL, 0, 0, 0, top, 7);
    const int32_t ids[] = {1, 3, 0, 2, 4, -1, -1};
    const double p[] = {8. / 16, 4. / 16, 2. / 16, 1. / 16, 1. / 16, 0, 0};
    for (int i = 0; i < 7; i++) {
        assert_int_equal(top[i].id, ids[i]);
        assert_true(fabs(top[i].probability - p[i]) < 1e-6);
    }
    float again[5];
    memcpy(again, logits5, sizeof again);
    s.temperature = 0; /* shows the model's own probabilities */
    assert_int_equal(sampler_next(&s, again, 5, NULL, 0, 0, 0, top, 1), 1);
    assert_true(fabs(top[0].probability - 0.5) < 1e-6);
}

/* Another seed, sample or position is another draw; the same three are the same draw. */
static void test_purity(void **state) {
    (void)state;
    float flat[256] = {0}, copy[256];
    int differ[3] = {0};
    for (int64_t i = 0; i < 200; i++) {
        Sampler other = plain;
        other.seed = 8;
        const int32_t id = next(&plain, flat, 256, i);
        assert_int_equal(id, next(&plain, flat, 256, i));
        memset(copy, 0, sizeof copy);
        differ[0] += sampler_next(&plain, copy, 256, NULL, 0, 1, i, NULL, 0) != id;
        differ[1] += next(&other, flat, 256, i) != id;
        differ[2] += next(&plain, flat, 256, i + 1) != id;
    }
    for (int k = 0; k < 3; k++) assert_true(differ[k] > 180); /* 1 in 256 agrees by chance */
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Random logits, k and p: whatever is drawn is among what a sort would keep. */
static void test_random_cuts(void **state) {
    (void)state;
    enum { N = 300 };
    for (uint32_t round = 0; round < 300; round++) {
        float logits[N];
        double w[N], sorted[N], sum = 0;
        for (int i = 0; i < N; i++) {
            logits[i] = (float)(3 * rng_normal(1, round, rng_site(RNG_TEST, 0), (uint64_t)i));
            if (round % 3 == 0) logits[i] = roundf(logits[i]); /* many ties */
        }
        for (int i = 0; i < N; i++) sum += sorted[i] = w[i] = exp(logits[i]);
        qsort(sorted, N, sizeof *sorted, descending);
        Sampler s = plain;
        s.seed = round;
        s.top_k = 1 + (int64_t)rng_below(N, 2, round, rng_site(RNG_TEST, 0), 0);
        double kept = 0;
        for (int64_t i = 0; i < s.top_k; i++) kept += sorted[i];
        s.top_p = rng_uniform(3, round, rng_site(RNG_TEST, 0), 0);
        double reached = 0;
        int64_t n = 0;
        while (n == 0 || reached < s.top_p * kept * (1 + 1e-6)) reached += sorted[n++];
        for (int64_t i = 0; i < 20; i++)
            assert_true(w[next(&s, logits, N, i)] >= sorted[n - 1] * (1 - 1e-6));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_repetition_penalty),
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_purity),
        cmocka_unit_test(test_random_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
