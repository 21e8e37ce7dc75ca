/* The model's passes against each other: backward against forward, parts of a batch against the
 * whole, recomputed against kept, decoding against the whole forward pass. */
#include "lab.h"

static const ModelConfig small = {65, 24, 2, 3, 24, 96, true, 1e-5, .dropout = 0};

static ModelConfig small_with(bool bias, double dropout) {
    ModelConfig c = small;
    c.bias = bias;
    c.dropout = dropout;
    return c;
}

/* NanoChat's blocks, then mixes in which every other choice appears: both signs of rotation,
 * grouped heads, heads wider than C in all, the three kinds of norm, biases; at last GPT-2's with
 * classes in place of tokens. */
static const ModelConfig mixes[] = {
    {65, 24, 2, 3, 24, 96, LAB_NANOCHAT, .softcap = 1.5},
    {65, 24, 2, 4, 24, 40, false, 1e-6, 0, .kv_heads = 2, .positions = POSITIONS_ROTARY,
     .rope_base = 100, .norm = NORMS_RMSNORM, .mlp = MLP_SWIGLU},
    {65, 24, 2, 4, 24, 40, true, 1e-5, 0, .kv_heads = 1, .head_size = 8,
     .positions = POSITIONS_ROTARY_REVERSED, .rope_base = 50, .embed_norm = true, .mlp = MLP_SWIGLU,
     .softcap = 3},
    {65, 24, 2, 3, 24, 40, true, 1e-6, 0, .positions = POSITIONS_NONE, .qk_norm = true,
     .norm = NORMS_RMSNORM, .embed_norm = true, .mlp = MLP_RELU2, .untied = true},
    {65, 24, 2, 3, 24, 96, true, 1e-5, 0, .untied = true, .classes = 5},
};

static ModelConfig mix_with(int64_t number, double dropout) {
    ModelConfig c = mixes[number];
    c.dropout = dropout;
    return c;
}

static void open_random(Model *m, Backend *b, const ModelConfig *c, const ModelUse *use, bool f64) {
    lab_backend(b, f64, 2);
    lab_open(m, b, c, use);
    lab_randomise(m, 11);
}

/* Every gradient, one after another. */
static double *all_gradients(const Model *m, int64_t *n) {
    *n = 0;
    for (int i = 0; i < m->n_params; i++) *n += tensor_count(m->params[i].grad);
    double *all = malloc(sizeof(double) * (size_t)*n), *at = all;
    for (int i = 0; i < m->n_params; i++) {
        double *g = lab_values(m, m->params[i].grad);
        memcpy(at, g, sizeof(double) * (size_t)tensor_count(m->params[i].grad));
        at += tensor_count(m->params[i].grad);
        free(g);
    }
    return all;
}

static double loss_only(Model *m, const StepParams *p) {
    model_begin_step(m);
    model_set_step(m, p);
    model_forward(m, false);
    return lab_result(m).loss;
}

/* Moves all weights by h times a random direction of length 1. Returns gradient . direction, and in
 * `typical` what the root mean square of that is over all directions: |gradient| / sqrt(n). */
static double move_weights(Model *m, double h, double *typical) {
    double slope = 0, size = 0, squares = 0;
    for (int pass = 0; pass < 2; pass++) /* measure the direction's length, then go */
        for (int i = 0; i < m->n_params; i++) {
            const Param *p = &m->params[i];
            double *w = lab_values(m, p->w), *g = lab_values(m, p->grad);
            for (int64_t k = 0; k < lab_live(m, p); k++) {
                const double d = rng_normal(21, 0, rng_site(RNG_TEST, i), (uint64_t)k);
                if (pass == 0) {
                    size += d * d;
                    continue;
                }
                slope += g[k] * d / sqrt(size);
                squares += g[k] * g[k];
                w[k] += h * d / sqrt(size);
            }
            if (pass == 1) lab_set(m, p->w, w);
            free(w);
            free(g);
        }
    *typical = sqrt(squares / (double)model_count_params(&m->config));
    return slope;
}

/* Along one random direction d: g.d against (8(f(h)-f(-h)) - (f(2h)-f(-2h))) / 12h. The formula's
 * error h^4 f'''''/30 and the rounding's, 1e-15 f/h, are each below 1e-10 of a slope at h = 5e-3.
 * One wrong gradient of 24 values among 16,000 passes that by far. The second derivative of ReLU^2
 * jumps, which no formula of higher order likes: with h = 5e-5 the rounding is 1e-9 of a slope, and
 * so few units change sides that their jumps are less. */
static void check_gradient(const ModelConfig *c, int64_t T, Recompute recompute) {
    Backend b;
    Model m;
    const ModelUse use = {.B = 3, .T = T, .training = true, .recompute = recompute};
    open_random(&m, &b, c, &use, true);
    int32_t tokens[128], targets[128];
    lab_tokens(c, 3 * T, 5, tokens, targets);
    StepParams p = lab_params(&m, 4, 6, lab_valid(targets, 3 * T));
    lab_batch(&m, tokens, targets);
    model_begin_step(&m);
    model_set_step(&m, &p);
    model_forward(&m, true);
    model_backward(&m);
    double typical, none;
    const bool kinks = c->mlp == MLP_RELU2;
    const double h = kinks ? 5e-5 : 5e-3, slope = move_weights(&m, 0, &typical);
    double f[5];
    move_weights(&m, -2 * h, &none);
    for (int i = 0; i < 5; i++) {
        f[i] = loss_only(&m, &p); /* zeroes the gradients: later moves have no slope */
        move_weights(&m, h, &none);
    }
    const double difference = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h);
    ASSERT_BELOW("slope", fabs(difference - slope) / typical, kinks ? 1e-8 : 1e-9);
    lab_close(&m);
}

static void test_gradient(void **state) {
    (void)state;
    for (int bias = 0; bias < 2; bias++)
        for (int dropout = 0; dropout < 2; dropout++) {
            const ModelConfig c = small_with(bias, 0.25 * dropout);
            check_gradient(&c, 24, RECOMPUTE_NONE);
            check_gradient(&c, 11, RECOMPUTE_BLOCK);
        }
}

static void test_gradient_of_mixes(void **state) {
    (void)state;
    for (int64_t i = 0; i < COUNT_OF(mixes); i++)
        for (int dropout = 0; dropout < 2; dropout++) {
            const ModelConfig c = mix_with(i, 0.25 * dropout);
            check_gradient(&c, 24, RECOMPUTE_NONE);
            check_gradient(&c, 11, dropout ? RECOMPUTE_BLOCK : RECOMPUTE_MLP);
        }
}

static void test_gradient_of_ngram(void **state) {
    (void)state;
    for (int64_t layers = 1; layers < 3; layers++) {
        const ModelConfig c = {.kind = MODEL_NGRAM, .vocab = 65, .context = 5, .layers = layers,
                               .heads = 1, .channels = 12, .hidden = 20, .classes = 2};
        check_gradient(&c, 5, RECOMPUTE_NONE);
    }
}

static void test_gradient_of_skipgram(void **state) {
    (void)state;
    const ModelConfig c = {.kind = MODEL_SKIPGRAM, .vocab = 65, .context = 1, .layers = 1,
                           .heads = 1, .channels = 12, .hidden = 1};
    check_gradient(&c, 7, RECOMPUTE_NONE);
}

static void test_gradient_of_ffn(void **state) {
    (void)state;
    for (int dropout = 0; dropout < 2; dropout++) {
        const ModelConfig c = {.kind = MODEL_FFN, .vocab = 65, .context = 5, .layers = 2,
                               .heads = 1, .channels = 12, .hidden = 20, .dropout = 0.25 * dropout};
        check_gradient(&c, 5, RECOMPUTE_NONE);
    }
}

/* Gradients and loss of six sequences, taken `B` at a time. */
static double *gradients_in_parts(const ModelConfig *c, int64_t B, int64_t *n, double *loss) {
    enum { ALL = 6, T = 24 };
    Backend b;
    Model m;
    open_random(&m, &b, c, &(ModelUse){.B = B, .T = T, .training = true}, true);
    int32_t tokens[ALL * T], targets[ALL * T];
    lab_tokens(c, ALL * T, 8, tokens, targets);
    model_begin_step(&m);
    for (int64_t sample = 0; sample < ALL; sample += B) {
        /* 60 is where this step's sequences start in the data. */
        const StepParams p = lab_params(&m, 10, 60 + sample, lab_valid(targets, ALL * T));
        lab_batch(&m, tokens + sample * T, targets + sample * T);
        model_set_step(&m, &p);
        model_forward(&m, true);
        model_backward(&m);
    }
    *loss = lab_result(&m).loss;
    double *g = all_gradients(&m, n);
    lab_close(&m);
    return g;
}

/* The mean is over the whole batch, and masks belong to global positions: parts change only the
 * order of sums, a few roundings of 1e-16. */
static void check_accumulation(const ModelConfig *c) {
    int64_t n;
    double loss, whole_loss;
    double *whole = gradients_in_parts(c, 6, &n, &whole_loss);
    const int64_t parts[] = {3, 2, 1};
    for (int i = 0; i < 3; i++) {
        double *g = gradients_in_parts(c, parts[i], &n, &loss);
        ASSERT_BELOW("gradients", lab_error(g, whole, n), 1e-12);
        ASSERT_BELOW("loss", fabs(loss / whole_loss - 1), 1e-14);
        free(g);
    }
    free(whole);
}

static void test_accumulation(void **state) {
    (void)state;
    for (int dropout = 0; dropout < 2; dropout++) {
        const ModelConfig c = small_with(true, 0.25 * dropout);
        check_accumulation(&c);
    }
    for (int64_t i = 0; i < COUNT_OF(mixes); i++) {
        const ModelConfig c = mix_with(i, 0.25);
        check_accumulation(&c);
    }
}

/* What is made again has the bits of what was kept, dropout's masks included. */
static void check_recompute(const ModelConfig *c, bool muon) {
    char *kept = NULL;
    double loss[3][3];
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCK; r++) {
        Backend b;
        Model m;
        const ModelUse use = {
            .B = 3, .T = 24, .training = true, .muon = muon, .recompute = (Recompute)r};
        open_random(&m, &b, c, &use, false);
        for (uint32_t step = 1; step <= 3; step++) loss[r][step - 1] = lab_train(&m, step).loss;
        int64_t bytes;
        char *bits = lab_state(&m, &bytes);
        lab_close(&m);
        assert_memory_equal(loss[r], loss[0], sizeof loss[0]);
        if (!kept) {
            kept = bits;
            continue;
        }
        assert_memory_equal(bits, kept, (size_t)bytes);
        free(bits);
    }
    free(kept);
}

static void test_recompute(void **state) {
    (void)state;
    const ModelConfig c = small_with(true, 0.25);
    check_recompute(&c, false);
    for (int64_t i = 0; i < COUNT_OF(mixes); i++) {
        const ModelConfig mix = mix_with(i, 0.25);
        check_recompute(&mix, i % 2 == 0);
    }
}

/* ---- decoding ---- */

enum { SEQUENCES = 2, CONTEXT = 24 };

/* Feeds rows [at[s], at[s] + n) of each sequence and compares the last row's logits with
 * forward's. */
static void check_decode(Model *m, const int32_t *tokens, const double *ref, int64_t n,
                         const int32_t at[SEQUENCES], double bound) {
    int32_t block[SEQUENCES * CONTEXT];
    float logits[SEQUENCES * 65];
    for (int64_t s = 0; s < SEQUENCES; s++)
        memcpy(block + s * n, tokens + s * CONTEXT + at[s], sizeof(int32_t) * (size_t)n);
    model_decode(m, block, n, at, logits);
    const int64_t V = model_outputs(&m->config), Vp = model_outputs_padded(&m->config);
    for (int64_t s = 0; s < SEQUENCES; s++) {
        double out[65];
        for (int64_t v = 0; v < V; v++) out[v] = (double)logits[s * V + v];
        ASSERT_BELOW("decode", lab_error(out, ref + (s * CONTEXT + at[s] + n - 1) * Vp, V), bound);
    }
}

/* Prompt blocks of several lengths, single tokens, and rows read again at other places, each
 * sequence its own. Logits come out as float, so 2^-24 is the least that f64 can reach; f32
 * makes another order of sums, 64 roundings. Dropout is off in decoding even if the step says
 * training. */
static void check_decoding(const ModelConfig *c, bool f64, bool training, double bound) {
    Backend b;
    Model m;
    open_random(&m, &b, c,
                &(ModelUse){.B = SEQUENCES,
                            .T = CONTEXT,
                            .training = training,
                            .decode_batch = SEQUENCES,
                            .decode_rows = 7},
                f64);
    int32_t tokens[SEQUENCES * CONTEXT], targets[SEQUENCES * CONTEXT];
    lab_tokens(c, SEQUENCES * CONTEXT, 3, tokens, targets);
    StepParams p = lab_params(&m, 1, 0, 48);
    p.training = 0;
    lab_batch(&m, tokens, targets);
    loss_only(&m, &p);
    double *ref = lab_values(&m, m.logits);
    const double cap = c->softcap;
    for (int64_t i = 0; cap > 0 && i < tensor_count(m.logits); i++)
        ref[i] = cap * tanh(ref[i] / cap);
    p.training = 1;
    model_set_step(&m, &p);

    const int64_t blocks[] = {5, 7, 1, 1, 3, 6, 1};
    int32_t at[SEQUENCES] = {0, 0};
    for (int64_t i = 0; i < COUNT_OF(blocks); i++) {
        check_decode(&m, tokens, ref, blocks[i], at, bound);
        for (int s = 0; s < SEQUENCES; s++) at[s] += (int32_t)blocks[i];
    }
    assert_int_equal(at[0], CONTEXT);
    check_decode(&m, tokens, ref, 4, (int32_t[]){20, 3}, bound);
    check_decode(&m, tokens, ref, 1, (int32_t[]){0, 23}, bound);
    free(ref);
    lab_close(&m);
}

static void test_decode_f64(void **state) {
    (void)state;
    const ModelConfig c = small_with(true, 0.25);
    check_decoding(&c, true, true, 0x1p-24);
    /* The soft-cap is made in float: two roundings more. */
    for (int64_t i = 0; i < COUNT_OF(mixes); i++) {
        const ModelConfig mix = mix_with(i, 0.25);
        check_decoding(&mix, true, true, mix.softcap > 0 ? 3 * 0x1p-24 : 0x1p-24);
    }
}

static void test_decode_f32(void **state) {
    (void)state;
    const ModelConfig c = small_with(true, 0.25);
    check_decoding(&c, false, false, 64 * 0x1p-24);
    for (int64_t i = 0; i < COUNT_OF(mixes); i++) {
        const ModelConfig mix = mix_with(i, 0.25);
        check_decoding(&mix, false, false, 64 * 0x1p-24);
    }
}

/* ---- targets and switches ---- */

/* An ignored sequence is as good as none, whatever its tokens; with nothing to predict all is
 * zero. */
static void test_ignored_targets(void **state) {
    (void)state;
    enum { T = 24 };
    int32_t tokens[3 * T], targets[3 * T];
    const ModelConfig c = small_with(true, 0);
    lab_tokens(&c, 3 * T, 14, tokens, targets);
    const int64_t valid = lab_valid(targets, T);
    double *g[2], loss[2];
    int64_t n = 0;
    for (int alone = 0; alone < 2; alone++) {
        Backend b;
        Model m;
        open_random(&m, &b, &c, &(ModelUse){.B = alone ? 1 : 3, .T = T, .training = true}, true);
        for (int64_t i = T; i < 3 * T; i++) targets[i] = -1;
        lab_gradients(&m, 1, tokens, targets);
        loss[alone] = lab_result(&m).loss;
        g[alone] = all_gradients(&m, &n);
        double *losses = lab_values(&m, m.losses), sum = 0;
        for (int64_t i = 0; i < m.use.B * T; i++) {
            assert_true((losses[i] == 0) == (targets[i] < 0));
            sum += losses[i];
        }
        ASSERT_BELOW("mean", fabs(sum / (double)valid / loss[alone] - 1), 1e-14);
        free(losses);
        lab_close(&m);
    }
    ASSERT_BELOW("loss", fabs(loss[0] / loss[1] - 1), 1e-14);
    ASSERT_BELOW("gradients", lab_error(g[0], g[1], n), 1e-13);
    free(g[0]);
    free(g[1]);
}

static void test_no_targets(void **state) {
    (void)state;
    Backend b;
    Model m;
    const ModelConfig c = small_with(true, 0.25);
    open_random(&m, &b, &c, &(ModelUse){.B = 2, .T = 24, .training = true}, false);
    int32_t tokens[48], targets[48];
    lab_tokens(&c, 48, 15, tokens, targets);
    memset(targets, -1, sizeof targets);
    StepParams p = lab_params(&m, 1, 0, 1);
    lab_batch(&m, tokens, targets);
    model_begin_step(&m);
    model_set_step(&m, &p);
    model_forward(&m, true);
    model_backward(&m);
    assert_true(lab_result(&m).loss == 0);
    int64_t n;
    double *g = all_gradients(&m, &n);
    for (int64_t i = 0; i < n; i++) assert_true(g[i] == 0);
    free(g);
    lab_close(&m);
}

static double loss_with(double rate, uint32_t training, bool plan_training) {
    Backend b;
    Model m;
    const ModelConfig c = small_with(true, rate);
    open_random(&m, &b, &c, &(ModelUse){.B = 2, .T = 24, .training = plan_training}, false);
    int32_t tokens[48], targets[48];
    lab_tokens(&c, 48, 16, tokens, targets);
    StepParams p = lab_params(&m, 1, 0, lab_valid(targets, 48));
    p.training = training;
    lab_batch(&m, tokens, targets);
    const double loss = loss_only(&m, &p);
    lab_close(&m);
    return loss;
}

/* Off means off: a model planned for evaluation alone, sharing its buffers, has the same bits
 * too. */
static void test_dropout_switch(void **state) {
    (void)state;
    const double plain = loss_with(0, 1, true);
    assert_true(loss_with(0.25, 0, true) == plain);
    assert_true(loss_with(0.25, 0, false) == plain);
    assert_true(loss_with(0.25, 1, true) != plain);
}

/* ---- Muon ---- */

/* Muon's calls in a step: how many matrices of which shape. */
typedef struct MuonCalls {
    Ops ops; /* comes first: the back end's table */
    int n;
    int64_t matrices[8], dim[8][2];
} MuonCalls;

static void count_muon(const OpContext *cx, const MuonMatrix *matrices, int64_t n, Muon constants) {
    MuonCalls *calls = (MuonCalls *)(uintptr_t)cx->backend->ops;
    const OpShape shape = {.B = n, .O = matrices[0].w.dim[0], .C = matrices[0].w.dim[1]};
    (void)constants;
    assert_true(calls->n < COUNT_OF(calls->matrices));
    calls->matrices[calls->n] = n;
    calls->dim[calls->n][0] = shape.O;
    calls->dim[calls->n++][1] = shape.C;
    for (int64_t i = 0; i < n; i++)
        assert_true(TENSOR_IS(matrices[i].w, DTYPE_F32, shape.O, shape.C));
    assert_true(cx->scratch_bytes >=
                calls->ops.scratch(OP_MUON, &shape, &cx->backend->properties));
}

/* All matrices of a shape are one call, whatever parameter they are a part of: k and v of each
 * layer, q and the projection, SwiGLU's gate and up, the MLP's second. */
static void test_muon_calls(void **state) {
    (void)state;
    Backend b;
    Model m;
    lab_backend(&b, false, 2);
    MuonCalls calls = {.ops = *b.ops};
    calls.ops.muon = count_muon;
    b.ops = &calls.ops;
    lab_open(&m, &b, &mixes[1], &(ModelUse){.B = 2, .T = 24, .training = true, .muon = true});
    model_init(&m, 1);
    lab_train(&m, 1);
    static const int64_t matrices[] = {4, 4, 2, 4};
    static const int64_t dim[][2] = {{12, 24}, {24, 24}, {24, 40}, {40, 24}};
    assert_int_equal(calls.n, COUNT_OF(matrices));
    assert_memory_equal(calls.matrices, matrices, sizeof matrices);
    assert_memory_equal(calls.dim, dim, sizeof dim);
    lab_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient),
        cmocka_unit_test(test_gradient_of_mixes),
        cmocka_unit_test(test_gradient_of_ngram),
        cmocka_unit_test(test_gradient_of_skipgram),
        cmocka_unit_test(test_gradient_of_ffn),
        cmocka_unit_test(test_accumulation),    cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_decode_f64),      cmocka_unit_test(test_decode_f32),
        cmocka_unit_test(test_ignored_targets), cmocka_unit_test(test_no_targets),
        cmocka_unit_test(test_dropout_switch),  cmocka_unit_test(test_muon_calls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
