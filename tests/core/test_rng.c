/* Philox: known answers, then distribution. */
#include "rng.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Vectors that the authors of Philox publish for philox4x32 with 10 rounds. */
static void test_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], answer[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < COUNT_OF(known); i++) {
        const uint32_t *c = known[i].counter, *k = known[i].key;
        uint32_t out[4];
        rng_philox(out, (uint64_t)k[1] << 32 | k[0], c[3], c[2], (uint64_t)c[1] << 32 | c[0]);
        for (int w = 0; w < 4; w++) assert_int_equal(out[w], known[i].answer[w]);
    }
}

/* Index i is word i%4 of counter i/4, whatever was asked before. */
static void test_words_of_a_counter(void **state) {
    (void)state;
    for (uint64_t index = 0; index < 4000; index += 7) {
        uint32_t out[4];
        rng_philox(out, 99, 3, 5, index / 4);
        assert_int_equal(rng_word(99, 3, 5, index), out[index % 4]);
        assert_true(rng_uniform(99, 3, 5, index) == (float)(out[index % 4] >> 8) / 16777216.0f);
    }
}

static void test_every_argument_counts(void **state) {
    (void)state;
    const uint32_t base = rng_word(1, 2, 3, 4);
    assert_int_not_equal(base, rng_word(2, 2, 3, 4));
    assert_int_not_equal(base, rng_word(1 | 1ull << 32, 2, 3, 4));
    assert_int_not_equal(base, rng_word(1, 3, 3, 4));
    assert_int_not_equal(base, rng_word(1, 2, 4, 4));
    assert_int_not_equal(base, rng_word(1, 2, 3, 5));
    assert_int_not_equal(base, rng_word(1, 2, 3, 4 | 1ull << 34));
    assert_int_equal(rng_site(RNG_SAMPLE, 5), RNG_SAMPLE << 24 | 5);
}

/* Chi-squared over 64 bins. With 63 degrees of freedom the statistic has mean 63 and variance 126:
 * six standard deviations above the mean is 130. The numbers are fixed, so the test is too. */
static double chi_squared(const int64_t *bins, int n_bins, int64_t n) {
    const double expected = (double)n / n_bins;
    double sum = 0;
    for (int i = 0; i < n_bins; i++)
        sum += ((double)bins[i] - expected) * ((double)bins[i] - expected) / expected;
    return sum;
}

static void test_uniform(void **state) {
    (void)state;
    enum { N = 1 << 18, BINS = 64 };
    for (uint32_t site = 0; site < 4; site++) {
        int64_t bins[BINS] = {0}, pairs[BINS] = {0};
        float last = 0;
        for (uint64_t i = 0; i < N; i++) {
            const float u = rng_uniform(42, 7, site, i);
            assert_true(u >= 0 && u < 1);
            bins[(int)(u * BINS)]++;
            /* Consecutive numbers are independent: a grid of 8 x 8 over pairs. */
            if (i % 2) pairs[(int)(last * 8) * 8 + (int)(u * 8)]++;
            last = u;
        }
        assert_true(chi_squared(bins, BINS, N) < 130);
        assert_true(chi_squared(pairs, BINS, N / 2) < 130);
    }
}

static void test_below(void **state) {
    (void)state;
    static const uint64_t limits[] = {1, 2, 3, 7, 64, 65, 1000003, 0xffffffff};
    for (int k = 0; k < COUNT_OF(limits); k++)
        for (uint64_t i = 0; i < 10000; i++)
            assert_true(rng_below(limits[k], 5, 0, 1, i) < limits[k]);
    int64_t bins[64] = {0};
    for (uint64_t i = 0; i < 1 << 17; i++) bins[rng_below(64, 5, 0, 1, i)]++;
    assert_true(chi_squared(bins, 64, 1 << 17) < 130);
    /* All of a small range is reached. */
    int seen = 0;
    for (uint64_t i = 0; i < 100; i++) seen |= 1 << rng_below(7, 5, 1, 1, i);
    assert_int_equal(seen, 127);
}

static void test_normal(void **state) {
    (void)state;
    enum { N = 1 << 18 };
    double sum = 0, squares = 0, fourth = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double x = rng_normal(11, 0, RNG_TEST, i);
        assert_true(isfinite(x) && fabs(x) < 7);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    /* Five standard errors: 1/sqrt(N), sqrt(2/N), sqrt(96/N). */
    assert_true(fabs(sum / N) < 5 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_words_of_a_counter),
        cmocka_unit_test(test_every_argument_counts),
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
