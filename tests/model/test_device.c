/* Whole tiny models on a back end that runs the CUDA sources: the emulator, or with
 * PUCK_TEST_DEVICE=cuda a card. Against the cpu back end, and against themselves: graphs against
 * single launches, recomputed against kept activations, a second run. */
#include "lab.h"
#include "plugin.h"

enum { STEPS = 6 };

/* What the tests run on: a plugin beside puck, or the path of one. */
static const char *device_path(void) {
    static char path[4096];
    const char *device = getenv("PUCK_TEST_DEVICE"), *puck = getenv("PUCK");
    const char *slash = puck ? strrchr(puck, '/') : NULL;
    if (!device) device = "emu";
    if (strchr(device, '/')) return device;
    snprintf(path, sizeof path, "%.*s/libpuck_%s.so", slash ? (int)(slash - puck) : 1,
             slash ? puck : ".", device);
    return path;
}
static const char *const dtypes[] = {"f32", "bf16"};

/* NanoChat has grouped heads. Rows of 24 tokens, or of a few with one target: skipgram's are a
 * word, a neighbour and four that are none. */
#define GPT2 65, 24, 2, 2, 32, 128, .bias = true, .norm_eps = 1e-5
#define NET .vocab = 65, .heads = 1, .channels = 12
enum { GPT2_CASE, NANOCHAT_CASE, NETS };
static const struct Case {
    const char *name;
    ModelConfig config;
    ModelUse use;
    double roundings; /* on the way to a logit, where a score of word vectors is one */
    double logit;     /* its size, times the loss's slope */
} cases[] = {
    {"gpt2", {GPT2}, {2, 24, .training = true}, 40, 1.1},
    {"nanochat",
     {65, 24, 2, 4, 64, 96, .kv_heads = 2, LAB_NANOCHAT, .softcap = 15, .init = RECIPE_MODERN},
     {2, 24, .training = true, .muon = true},
     40,
     1.6},
    {"ffn",
     {NET, .kind = MODEL_FFN, .context = 6, .layers = 2, .hidden = 40, .dropout = 0.1},
     {24, 6, .training = true, .muon = true},
     6,
     0.4},
    {"rnn",
     {NET, .kind = MODEL_RNN, .context = 6, .layers = 2, .hidden = 40},
     {24, 6, .training = true, .muon = true},
     24,
     0.8},
    {"ngram",
     {NET, .kind = MODEL_NGRAM, .context = 5, .layers = 1, .hidden = 20, .classes = 2},
     {24, 5, .training = true},
     6,
     0.3},
    {"skipgram",
     {NET, .kind = MODEL_SKIPGRAM, .context = 1, .layers = 1, .hidden = 1},
     {24, 6, .training = true},
     2,
     0.16},
    {"classes", {GPT2, .untied = true, .classes = 5}, {2, 24, .training = true}, 40, 1.1},
};

typedef struct Run {
    Backend backend;
    Model m;
    double losses[STEPS];
    int64_t n_valid; /* targets of the last step */
} Run;

/* Opens a model on a device (dtype NULL: on the cpu) with weights that show every term. */
static void run_open(Run *r, const ModelConfig *c, const ModelUse *use, const char *dtype) {
    Error e = {0};
    if (!dtype)
        lab_backend(&r->backend, false, 2);
    else if (!plugin_open(&r->backend, device_path(), dtype, 2, &e))
        fail_msg("%s: %s", device_path(), e.text);
    lab_open(&r->m, &r->backend, c, use);
    model_reset_carry(&r->m);
    for (int i = 0; i < r->m.n_params; i++) {
        Param *p = &r->m.params[i];
        const int64_t n = tensor_count(p->w), live = lab_live(&r->m, p);
        float *w = calloc((size_t)n, sizeof *w);
        for (int64_t k = 0; k < live; k++)
            w[k] = (float)((p->spec->init == INIT_ONE) +
                           0.2 * rng_normal(11, 0, rng_site(RNG_TEST, i), (uint64_t)k));
        model_write_param(&r->m, p, 0, n, w);
        free(w);
    }
}

/* Steps of two micro-batches each. */
static void run_train(Run *r) {
    Model *m = &r->m;
    const int64_t n = m->use.B * m->use.T, rows = tensor_count(m->targets);
    int32_t *ids = malloc(sizeof(int32_t) * 4 * (size_t)n), *targets = ids + 2 * n;
    for (uint32_t step = 1; step <= STEPS; step++) {
        lab_tokens(&m->config, 2 * n, 100 + step, ids, targets);
        r->n_valid = lab_valid(targets, 2 * rows);
        model_begin_step(m);
        for (int64_t part = 0; part < 2; part++) {
            const StepParams p = lab_params(m, step, part * m->use.B, r->n_valid);
            lab_batch(m, ids + part * n, targets + part * rows);
            model_set_step(m, &p);
            model_micro_step(m);
            m->backend->stream_finish(m->backend, m->cx.stream); /* p is read by then */
        }
        model_update_step(m, &lab_optimiser);
        const StepResult result = lab_result(m);
        assert_int_equal(result.bad, 0);
        r->losses[step - 1] = result.loss;
    }
    free(ids);
}

/* Weights and moments after training; `choices`, which products' algorithms to use, or what was
 * chosen where it is empty: timing may choose otherwise in every process. */
static char *trained_state(const ModelConfig *c, const ModelUse *use, const char *dtype,
                           char *choices, size_t size, int64_t *bytes) {
    Run r;
    run_open(&r, c, use, dtype);
    Backend *b = &r.backend;
    if (b->choose && choices[0]) b->choose(b, choices, false);
    run_train(&r);
    if (b->choices) snprintf(choices, size, "%s", b->choices(b));
    char *state = lab_state(&r.m, bytes);
    lab_close(&r.m);
    return state;
}

static void assert_same_state(const ModelConfig *c, const ModelUse *a, const ModelUse *b,
                              const char *dtype) {
    static char choices[1 << 16];
    int64_t n = 0, bytes = 0;
    choices[0] = '\0';
    char *one = trained_state(c, a, dtype, choices, sizeof choices, &n);
    char *two = trained_state(c, b, dtype, choices, sizeof choices, &bytes);
    assert_int_equal(n, bytes);
    assert_memory_equal(one, two, (size_t)n);
    free(one);
    free(two);
}

/* GPT-2 by AdamW and NanoChat by Muon, in every dtype: with one thing changed the same bits. */
static void assert_no_change(void (*change)(ModelUse *)) {
    for (int i = 0; i < NETS; i++)
        for (int64_t k = 0; k < COUNT_OF(dtypes); k++) {
            ModelConfig c = cases[i].config;
            ModelUse changed = cases[i].use;
            c.dropout = 0.1;
            change(&changed);
            assert_same_state(&c, &cases[i].use, &changed, dtypes[k]);
        }
}

/* Relative to the cpu's losses. The unit roundoff u of the type enters k times on the way to a
 * logit z, with random sign: sqrt(k) u z; the mean of N losses has 1/sqrt(N) of that. (A group of
 * word vectors has five scores of 0.2^2 sqrt(12), and a slope of 1/2 at each.) 8 times that are
 * allowed, as weights grow in the steps of AdamW; a quarter is seen at most. A loss itself is f32,
 * rounded about four times. */
static double loss_bound(const struct Case *c, double unit, const Run *cpu, double loss) {
    return 8 * sqrt(c->roundings / (double)cpu->n_valid) * c->logit / loss * unit + 4 * 0x1p-24;
}

static void test_losses(void **state) {
    const struct Case *c = *state;
    Run cpu;
    run_open(&cpu, &c->config, &c->use, NULL);
    run_train(&cpu);
    lab_close(&cpu.m);
    for (int64_t k = 0; k < COUNT_OF(dtypes); k++) {
        const double unit = k ? 0x1p-8 : 0x1p-24;
        Run r;
        run_open(&r, &c->config, &c->use, dtypes[k]);
        assert_int_equal(r.backend.compute, k ? DTYPE_BF16 : DTYPE_F32);
        run_train(&r);
        lab_close(&r.m);
        double worst = 0;
        for (int i = 0; i < STEPS; i++)
            worst = fmax(worst, fabs(r.losses[i] / cpu.losses[i] - 1) /
                                    loss_bound(c, unit, &cpu, cpu.losses[i]));
        printf("# %s: losses differ by %.2g of the bound\n", dtypes[k], worst);
        ASSERT_BELOW(dtypes[k], worst, 1);
    }
}

static void with_graph(ModelUse *use) { use->graph = true; }
static void with_mlp_again(ModelUse *use) { use->recompute = RECOMPUTE_MLP; }
static void with_block_again(ModelUse *use) { use->recompute = RECOMPUTE_BLOCK; }
static void with_nothing(ModelUse *use) { (void)use; }

static void test_graph_is_eager(void **state) {
    (void)state;
    assert_no_change(with_graph);
    for (int64_t i = NETS; i < COUNT_OF(cases); i++) {
        ModelUse replayed = cases[i].use;
        with_graph(&replayed);
        assert_same_state(&cases[i].config, &cases[i].use, &replayed, "bf16");
    }
}

static void test_recompute(void **state) {
    (void)state;
    assert_no_change(with_mlp_again);
    assert_no_change(with_block_again);
}

static void test_two_runs(void **state) {
    (void)state;
    assert_no_change(with_nothing);
}

/* Token by token against the whole: both round, so within a few roundings of each other. */
static void check_decode(const ModelConfig *c) {
    for (int64_t k = 0; k < COUNT_OF(dtypes); k++) {
        const double unit = k ? 0x1p-8 : 0x1p-24;
        const ModelUse use = {.B = 1, .T = 24, .decode_batch = 1, .decode_rows = 8};
        Run r;
        run_open(&r, c, &use, dtypes[k]);
        Model *m = &r.m;
        int32_t tokens[24], targets[24];
        lab_tokens(c, 24, 3, tokens, targets);
        const StepParams p = {.loss_scale = 1};
        model_begin_step(m);
        lab_batch(m, tokens, targets);
        model_set_step(m, &p);
        model_forward(m, false);
        float whole[65], last[65];
        const Tensor row = tensor_rows(m->logits, 23, 1);
        model_read_f32(m, tensor_1d(row.data, row.dtype, 65), whole);
        for (int v = 0; v < 65 && c->softcap > 0; v++) /* decoding returns them so */
            whole[v] = (float)(c->softcap * tanh(whole[v] / c->softcap));
        static const int blocks[] = {8, 8, 1, 4, 1, 1, 1};
        int32_t at = 0;
        for (int64_t i = 0; i < COUNT_OF(blocks); at += blocks[i++])
            model_decode(m, tokens + at, blocks[i], &at, last);
        assert_int_equal(at, 24);
        double difference = 0, size = 0;
        for (int v = 0; v < 65; v++) {
            difference += (last[v] - whole[v]) * (double)(last[v] - whole[v]);
            size += whole[v] * (double)whole[v];
        }
        ASSERT_BELOW(dtypes[k], sqrt(difference / size), 16 * unit);
        lab_close(m);
    }
}

static void test_decode(void **state) {
    (void)state;
    check_decode(&cases[GPT2_CASE].config);
    check_decode(&cases[NANOCHAT_CASE].config);
}

int main(void) {
    struct CMUnitTest tests[COUNT_OF(cases) + 4] = {
        cmocka_unit_test(test_graph_is_eager), cmocka_unit_test(test_two_runs),
        cmocka_unit_test(test_recompute), cmocka_unit_test(test_decode)};
    for (int64_t i = 0; i < COUNT_OF(cases); i++)
        tests[4 + i] = (struct CMUnitTest){
            .name = cases[i].name, .test_func = test_losses, .initial_state = (void *)&cases[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
