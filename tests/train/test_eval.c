/* The reported loss: its windows, its value against a sum worked out here, and what it must not
 * touch. */
#include "../model/lab.h"
#include "train.h"

static const ModelConfig tiny = {11, 64, 2, 2, 12, 48, true, 1e-5, .dropout = 0.1};

/* Tokens in memory. */
static Tokens make_tokens(int32_t *memory, struct TokenShard *shard, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        memory[i] =
            (int32_t)rng_below((uint64_t)tiny.vocab, 5, 0, rng_site(RNG_TEST, 0), (uint64_t)i);
    *shard = (struct TokenShard){.tokens = memory, .token_bytes = 4, .n = n};
    return (Tokens){.shards = shard, .n_shards = 1, .n_tokens = n};
}

/* Each token but the first once, after at least half a window or all there is; no window for
 * nothing. */
static void test_windows(void **state) {
    (void)state;
    for (int64_t T = 1; T <= 17; T++)
        for (int64_t n = 0; n <= 80; n++) {
            int scored[80] = {0};
            for (int64_t k = 0; k < evaluate_windows(n, T); k++) {
                const EvalWindow w = evaluate_window(n, T, k);
                assert_true(w.n_inputs >= 1 && w.n_inputs <= T && w.scored < w.n_inputs);
                assert_true(w.first >= 0 && w.first + w.n_inputs < n);
                for (int64_t i = w.scored; i < w.n_inputs; i++) {
                    assert_true(k == 0 || 2 * (i + 1) > T);
                    scored[w.first + i + 1]++;
                }
            }
            for (int64_t i = 0; i < n; i++) assert_int_equal(scored[i], i > 0);
        }
}

/* T = 4: windows begin at 0, 2, 4 and score 4, then 2, then 1 of 8 tokens. */
static void test_windows_by_hand(void **state) {
    (void)state;
    assert_int_equal(evaluate_windows(8, 4), 3);
    const EvalWindow expected[] = {{0, 4, 0}, {2, 4, 2}, {4, 3, 2}};
    for (int64_t k = 0; k < 3; k++) {
        const EvalWindow w = evaluate_window(8, 4, k);
        assert_memory_equal(&w, &expected[k], sizeof w);
    }
}

static Model open_model(Backend *b, int threads, int64_t B, int64_t T, bool training) {
    Model m;
    const ModelUse use = {.B = B, .T = T, .training = training};
    lab_backend(b, false, threads);
    lab_open(&m, b, &tiny, &use);
    lab_randomise(&m, 3);
    return m;
}

static EvalResult evaluate(int threads, int64_t B, int64_t T, const Tokens *tokens) {
    Backend b;
    Model m = open_model(&b, threads, B, T, false);
    const EvalResult result = evaluate_split(&m, tokens, 2 * tokens->n_tokens);
    lab_close(&m);
    return result;
}

/* -log p(target) after the tokens before it from `first` on, from the logits, in double. */
static double target_loss(Model *m, const int32_t *text, int64_t first, int64_t target) {
    const int64_t T = m->use.T, n = target - first;
    int32_t inputs[64] = {0}, ignored[64];
    memcpy(inputs, text + first, (size_t)n * sizeof *inputs);
    for (int64_t i = 0; i < T; i++) ignored[i] = -1;
    const StepParams step = {.loss_scale = 1};
    model_set_step(m, &step);
    lab_batch(m, inputs, ignored);
    model_forward(m, false);
    double *logits = lab_values(m, m->logits);
    const double *row = logits + (n - 1) * m->logits.dim[1];
    double sum = 0;
    for (int64_t v = 0; v < tiny.vocab; v++) sum += exp(row[v]);
    const double loss = log(sum) - row[text[target]];
    free(logits);
    return loss;
}

static void test_value(void **state) {
    (void)state;
    static const struct {
        int64_t n, T;
    } cases[] = {{37, 6}, {38, 6}, {37, 5}, {4, 6}, {7, 6}, {8, 6}, {2, 6}, {9, 1}};
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        const int64_t n = cases[i].n, T = cases[i].T, stride = T > 1 ? T / 2 : 1;
        int32_t text[40];
        struct TokenShard shard;
        const Tokens tokens = make_tokens(text, &shard, n);
        Backend b;
        Model m = open_model(&b, 1, 1, T, false);
        double sum = 0;
        for (int64_t t = 1; t < n; t++) {
            const int64_t first = t <= T ? 0 : (t - T + stride - 1) / stride * stride;
            sum += target_loss(&m, text, first, t);
        }
        lab_close(&m);
        const EvalResult r = evaluate(1, 3, T, &tokens);
        assert_int_equal(r.n_scored, n - 1);
        /* Losses are floats and so are the logits: a few roundings of 6e-8 on values of about 3. */
        ASSERT_BELOW("loss", fabs(r.loss * (double)(n - 1) - sum) / sum, 1e-6);
        assert_true(r.perplexity == exp(r.loss));
        ASSERT_BELOW("bits", fabs(r.bits_per_byte - r.loss / log(2) / 2) / r.loss, 1e-15);
    }
}

/* Threads change no bit. Windows of a pass change how products are tiled and so how a logit rounds:
 * each loss by a few 1e-7, their mean by less. */
static void test_batch_and_threads(void **state) {
    (void)state;
    enum { N = 800 };
    static int32_t text[N];
    struct TokenShard shard;
    const Tokens tokens = make_tokens(text, &shard, N);
    static const int64_t lengths[] = {5, 64};
    for (int64_t i = 0; i < COUNT_OF(lengths); i++) {
        const EvalResult one = evaluate(1, 1, lengths[i], &tokens);
        static const int64_t batches[] = {3, 16};
        for (int64_t k = 0; k < COUNT_OF(batches); k++) {
            const EvalResult other = evaluate((int)k + 1, batches[k], lengths[i], &tokens);
            const EvalResult again = evaluate(4 - (int)k, batches[k], lengths[i], &tokens);
            assert_memory_equal(&other, &again, sizeof again);
            assert_int_equal(other.n_scored, one.n_scored);
            ASSERT_BELOW("loss", fabs(other.loss - one.loss) / one.loss, 1e-7);
        }
    }
}

static void test_too_short(void **state) {
    (void)state;
    for (int64_t n = 0; n < 2; n++) {
        int32_t text[2];
        struct TokenShard shard;
        const Tokens tokens = make_tokens(text, &shard, n);
        const EvalResult r = evaluate(1, 2, 8, &tokens);
        assert_int_equal(r.n_scored, 0);
        assert_true(isnan(r.loss));
    }
}

/* Training goes on after an evaluation as if there had been none. */
static void test_no_trace(void **state) {
    (void)state;
    int32_t text[50];
    struct TokenShard shard;
    const Tokens tokens = make_tokens(text, &shard, 50);
    char *states[2];
    int64_t bytes;
    for (int evaluates = 0; evaluates < 2; evaluates++) {
        Backend b;
        Model m = open_model(&b, 2, 2, 16, true);
        for (uint32_t step = 1; step <= 3; step++) {
            lab_train(&m, step);
            if (evaluates) evaluate_split(&m, &tokens, 0);
        }
        states[evaluates] = lab_state(&m, &bytes);
        lab_close(&m);
    }
    assert_memory_equal(states[0], states[1], (size_t)bytes);
    free(states[0]);
    free(states[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),   cmocka_unit_test(test_windows_by_hand),
        cmocka_unit_test(test_value),     cmocka_unit_test(test_batch_and_threads),
        cmocka_unit_test(test_too_short), cmocka_unit_test(test_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
