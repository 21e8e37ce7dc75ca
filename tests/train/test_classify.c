/* Scores of a classifier by hand, naive Bayes by hand, probabilities of a model whose logits are
 * known. */
#include "classify.h"
#include "../model/lab.h"

/* Rows are what is true: 6 of the first class, 6 of the second, none of the third. */
static void test_scores(void **state) {
    (void)state;
    int64_t table[9] = {5, 1, 0, 2, 3, 1, 0, 0, 0};
    const ClassScore s = {.n = 12, .n_kinds = 3, .confusion = table};
    assert_true(classify_accuracy(&s) == 8.0 / 12);
    assert_true(classify_f1(&s, 0) == 10.0 / 13); /* 5 right, 2 taken for it, 1 missed */
    assert_true(classify_f1(&s, 1) == 6.0 / 10);
    assert_true(classify_f1(&s, 2) == 0);
    assert_true(classify_macro_f1(&s) == (10.0 / 13 + 6.0 / 10) / 3);
    int64_t none[4] = {4, 0, 0, 0}; /* a class without a text, never given */
    const ClassScore one = {.n = 4, .n_kinds = 2, .confusion = none};
    assert_true(classify_f1(&one, 1) == 0 && classify_macro_f1(&one) == 0.5);
}

/* Texts in memory: tokens 0, 1, 2, labels 3 and 4. */
static Tokens texts_of(TokenShard *shard, int32_t *ids, int64_t n) {
    *shard = (TokenShard){.tokens = ids, .token_bytes = 4, .n = n};
    Tokens t = {.shards = shard, .n_shards = 1, .n_tokens = n};
    Error e;
    assert_true(tokens_find_texts(&t, 3, "data", &e));
    return t;
}

/* P(first) = 1/3, counts 2 1 0 of 3 tokens; P(second) = 2/3, counts 0 1 3 of 4.
 *   "1"    1/3 2/6 = 0.111 against 2/3 2/7 = 0.190: the shares of the classes decide
 *   "0 1"  1/3 3/6 2/6 = 0.056 against 2/3 1/7 2/7 = 0.027
 *   "0 2"  1/3 3/6 1/6 = 0.028 against 2/3 1/7 4/7 = 0.054: nothing is impossible */
static void test_bayes(void **state) {
    (void)state;
    int32_t learn[] = {0, 0, 1, 3, 1, 2, 4, 2, 2, 4}, ask[] = {1, 3, 0, 1, 3, 0, 1, 4, 0, 2, 4};
    TokenShard shards[2];
    Tokens train = texts_of(&shards[0], learn, COUNT_OF(learn));
    Tokens texts = texts_of(&shards[1], ask, COUNT_OF(ask));
    const Labels labels = {.n = 2, .kind = (int32_t[]){0, 1}, .n_kinds = 2};
    ClassScore s;
    classify_bayes(&train, &texts, &labels, &s);
    assert_int_equal(s.n, 4);
    assert_memory_equal(s.confusion, ((int64_t[]){1, 1, 1, 1}), 4 * sizeof(int64_t));
    classify_free(&s);
    free(train.lines);
    free(texts.lines);
}

/* A feed-forward model of two tokens whose logits are the output's biases: all else is zero. */
static void open_known(Model *m, Backend *b, const Labels *labels, const float *biases) {
    const ModelConfig c = {.kind = MODEL_FFN, .vocab = 3, .context = 2, .layers = 1, .heads = 1,
                           .channels = 4, .hidden = 8, .bias = true, .classes = labels->n};
    lab_backend(b, false, 1);
    lab_open(m, b, &c, &(ModelUse){.B = 2, .T = 2});
    m->labels = labels;
    for (int i = 0; i < m->n_params; i++) {
        Param *p = &m->params[i];
        const int64_t n = tensor_count(p->w);
        float *zeros = calloc((size_t)n, sizeof *zeros);
        model_write_param(m, p, 0, n, zeros);
        free(zeros);
        if (strcmp(p->name, "output.bias") == 0) model_write_param(m, p, 0, labels->n, biases);
    }
}

/* Biases 0 and log 3: in every window the second class has odds of 3. Shares of 1/5 and 4/5 make it
 * 3/4 of what was expected, and each token is in two windows: n tokens have odds of 4 (3/4)^(n/2).
 * Without shares those are sqrt(3)^n. Five texts have one to three tokens, windows of a batch of
 * two rows. */
static void test_known_logits(void **state) {
    (void)state;
    int32_t ids[] = {0, 3, 1, 4, 1, 2, 4, 0, 1, 2, 3, 2, 4}, kind[] = {0, 1};
    TokenShard shard;
    Tokens texts = texts_of(&shard, ids, COUNT_OF(ids));
    Labels labels = {.n = 2, .kind = kind, .n_kinds = 2};
    Backend b;
    Model m;
    open_known(&m, &b, &labels, (float[]){0, logf(3)});
    ClassScore s;
    double p[4];
    classify_split(&m, &texts, 0, 1, &s);
    assert_memory_equal(s.confusion, ((int64_t[]){0, 2, 0, 3}), 4 * sizeof(int64_t));
    assert_int_equal(s.n, 5);
    assert_int_equal(s.n_cut, 0);
    const double r = sqrt(3); /* log 3 as a float has half an ulp, in three windows at most */
    const double loss = log(1 + r) + 2 * log(1 + 1 / r) + log(4.0 / 3) + log(1 + r * r * r);
    assert_true(fabs(s.loss - loss) < 5 * 3 * 0x1p-24);
    double shares[2] = {0.2, 0.8};
    labels.shares = shares;
    classify_texts(&m, &texts, 3, 2, p);
    const double odds[2] = {4 * pow(0.75, 1.5), 4 * pow(0.75, 0.5)};
    for (int i = 0; i < 2; i++) {
        assert_true(fabs(p[2 * i + 1] - odds[i] / (1 + odds[i])) < 3 * 0x1p-24);
        assert_true(fabs(p[2 * i] + p[2 * i + 1] - 1) < 0x1p-50);
    }
    classify_free(&s);
    free(texts.lines);
    lab_close(&m);
}

/* Odds of 4, 9 and 4 in a window, of which half count: 2, 3 and 2. The second class is the
 * likeliest, but the kind of the two others is. Naive Bayes knows kinds alone: "0" is once among
 * the first one's two tokens, 1/2 (1 + 1) / (2 + 3) against 1/2 (0 + 1) / (2 + 3). */
static void test_kinds(void **state) {
    (void)state;
    int32_t learn[] = {0, 3, 1, 5, 2, 4, 1, 4}, ask[] = {0, 3, 0, 4, 0, 5};
    int32_t kind[] = {0, 1, 0};
    TokenShard shards[2];
    Tokens train = texts_of(&shards[0], learn, COUNT_OF(learn));
    Tokens texts = texts_of(&shards[1], ask, COUNT_OF(ask));
    const Labels labels = {.n = 3, .kind = kind, .n_kinds = 2};
    Backend b;
    Model m;
    open_known(&m, &b, &labels, (float[]){logf(4), logf(9), logf(4)});
    ClassScore s;
    double p[4];
    assert_true(fabs(classify_texts(&m, &texts, 0, 2, p) - log(7.0 / 4) - log(7.0 / 3)) < 0x1p-22);
    assert_true(fabs(p[0] - 4.0 / 7) < 0x1p-22 && fabs(p[3] - 3.0 / 7) < 0x1p-22);
    classify_split(&m, &texts, 0, 1, &s);
    assert_memory_equal(s.confusion, ((int64_t[]){2, 0, 1, 0}), 4 * sizeof(int64_t));
    classify_free(&s);
    classify_bayes(&train, &texts, &labels, &s);
    assert_memory_equal(s.confusion, ((int64_t[]){2, 0, 1, 0}), 4 * sizeof(int64_t));
    classify_free(&s);
    free(train.lines);
    free(texts.lines);
    lab_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores), cmocka_unit_test(test_bayes),
                                       cmocka_unit_test(test_known_logits),
                                       cmocka_unit_test(test_kinds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
