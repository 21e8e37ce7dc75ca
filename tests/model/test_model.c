/* The model around its passes: counts, plan, initial values, bad steps, threads. */
#include "lab.h"

#include <malloc.h>

static const ModelConfig gpt2 = {50257, 1024, 12, 12, 768, 3072, true, 1e-5, .dropout = 0};
/* No dimension is a multiple of a vector's or a tile's width. */
static const ModelConfig small = {300, 40, 2, 3, 90, 360, true, 1e-5, .dropout = 0.1};

/* NanoChat's architecture, with heads that share keys and values. */
static const ModelConfig nanochat = {300, 40, 2, 6, 96, 200, .dropout = 0.1, .kv_heads = 2,
                                     LAB_NANOCHAT, .softcap = 15, .init = RECIPE_MODERN};
/* Every parameter that there is. */
static const ModelConfig all = {
    300, 40, 2, 6, 96, 200, true, 1e-6, 0.1, .embed_norm = true, .mlp = MLP_SWIGLU, .untied = true};

static ModelConfig gpt2_of(int64_t layers, int64_t heads, int64_t channels) {
    ModelConfig c = gpt2;
    c.layers = layers;
    c.heads = heads;
    c.channels = channels;
    c.hidden = 4 * channels;
    return c;
}

/* The sizes of Radford et al. 2019 as transformers counts them, and nanoGPT's two recipes by
 * hand. */
static void test_counts(void **state) {
    (void)state;
    const ModelConfig medium = gpt2_of(24, 16, 1024), large = gpt2_of(36, 20, 1280),
                      xl = gpt2_of(48, 25, 1600);
    assert_int_equal(model_count_params(&gpt2), 124439808);
    assert_int_equal(model_count_params(&medium), 354823168);
    assert_int_equal(model_count_params(&large), 774030080);
    assert_int_equal(model_count_params(&xl), 1557611200);

    const ModelConfig cpu = {65, 64, 4, 4, 128, 512, false, 1e-5, .dropout = 0};
    const int64_t block = 2 * 128 + 128 * 384 + 128 * 128 + 2 * 128 * 512;
    const int64_t wte = 65 * 128, wpe = 64 * 128, last = 128;
    assert_int_equal(model_count_params(&cpu), wte + wpe + 4 * block + last);
    assert_int_equal(model_count_params(&cpu), 804096);
    assert_int_equal(model_count_matmul_params(&cpu), 804096 - wpe);
    assert_true(model_flops_per_token(&cpu, 64) == 6.0 * 795904 + 6.0 * 4 * 128 * 64);

    const ModelConfig gpu = {65, 256, 6, 6, 384, 1536, false, 1e-5, .dropout = 0.2};
    assert_int_equal(model_count_params(&gpu), 10745088);
    assert_int_equal(model_count_matmul_params(&gpu), 10646784);
}

/* Both counts of the modern sizes, each part by hand, and the FLOPs of the smallest. */
static void test_counts_of_modern(void **state) {
    (void)state;
    ModelConfig c = nanochat;
    c.vocab = 50304;
    c.context = 1024;
    c.layers = c.heads = 12;
    c.channels = 768;
    c.hidden = 3072;
    c.kv_heads = 0;
    const int64_t blocks = 12 * (4 * 768 * 768 + 2 * 768 * 3072), table = 50304 * 768;
    assert_int_equal(model_count_params(&c), blocks + 2 * table);
    assert_int_equal(model_count_params(&c), 162201600);
    assert_int_equal(model_count_matmul_params(&c), blocks + table);
    assert_int_equal(model_count_matmul_params(&c), 123568128);
    c.untied = false; /* the lookup is the head */
    assert_int_equal(model_count_params(&c), blocks + table);
    assert_int_equal(model_count_matmul_params(&c), blocks + table);

    c = nanochat; /* 6 heads of 16 on 2: R = 160; then a width of heads that is not C, and SwiGLU */
    const int64_t D = 16, C = 96, F = 200, V = 300;
    int64_t block = (6 + 2 * 2) * D * C + C * 6 * D + 2 * C * F;
    assert_int_equal(model_count_params(&c), 2 * block + 2 * V * C);
    const double N = (double)(2 * block + V * C);
    assert_true(model_flops_per_token(&c, 40) == 6.0 * N + 6.0 * 2 * 96 * 40);
    c.head_size = 32;
    c.mlp = MLP_SWIGLU;
    c.norm = NORMS_RMSNORM;
    block = (6 + 2 * 2) * 32 * C + C * 6 * 32 + 3 * C * F + 2 * C;
    assert_int_equal(model_count_params(&c), 2 * block + 2 * V * C + 2 * C);
    const double wide = (double)(2 * block + V * C + 2 * C);
    assert_true(model_flops_per_token(&c, 40) == 6.0 * wide + 6.0 * 2 * 192 * 40);
}

static void check_refused_config(const ModelConfig *c, const char *place, const char *says) {
    Error e = {0};
    assert_false(model_config_check(c, &e));
    assert_int_equal(e.code, EXIT_MISUSE);
    assert_string_equal(e.place, place);
    if (!strstr(e.text, says)) fail_msg("%s: %s", says, e.text);
    assert_true(e.hint[0]);
}

static void test_modern_config_check(void **state) {
    (void)state;
    Error e = {0};
    assert_true(model_config_check(&nanochat, &e));
    assert_true(model_config_check(&all, &e));
    ModelConfig c = nanochat;
    c.kv_heads = 4;
    check_refused_config(&c, "--kv-heads", "4 key-value heads do not divide 6 heads");
    c.kv_heads = 12;
    check_refused_config(&c, "--kv-heads", "12 key-value heads do not divide 6 heads");
    c = nanochat;
    c.heads = 32;
    check_refused_config(&c, "--heads", "rotary positions need an even head size, not 3");
    c.positions = POSITIONS_NONE;
    check_refused_config(&c, "--heads", "QK-norm needs an even head size, not 3");
    c.qk_norm = false;
    assert_true(model_config_check(&c, &e));
    c = nanochat;
    c.heads = 7;
    check_refused_config(&c, "--heads", "7 heads do not divide 96 channels");
    const double caps[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        c = nanochat;
        c.softcap = caps[i];
        check_refused_config(&c, "--softcap", "soft-cap");
    }
}

static void test_config_check(void **state) {
    (void)state;
    Error e = {0};
    assert_true(model_config_check(&gpt2, &e));
    ModelConfig c = gpt2;
    c.heads = 11;
    assert_false(model_config_check(&c, &e));
    assert_int_equal(e.code, EXIT_MISUSE);
    assert_non_null(strstr(e.text, "11"));
    c = gpt2;
    c.vocab = 0;
    assert_false(model_config_check(&c, &e));
    assert_int_equal(e.code, EXIT_MISUSE);
}

/* The list of a model's parameters holds what the count says, each under a name of its own. */
static void test_table(void **state) {
    (void)state;
    const ModelConfig *const configs[] = {&small, &small, &nanochat, &all};
    for (int k = 0; k < 4; k++) {
        ModelConfig c = *configs[k];
        const bool bias = k != 1 && c.bias;
        c.bias = bias;
        Backend b;
        Model m;
        lab_backend(&b, false, 1);
        model_plan(&m, &c, &(ModelUse){.B = 1, .T = 4}, &b);
        int64_t n = 0;
        for (int i = 0; i < m.n_params; i++) {
            const Param *p = &m.params[i];
            n += lab_live(&m, p);
            assert_true(bias || !p->spec->is_bias);
            assert_true(p->spec->decays == (p->w.rank == 2));
            assert_string_equal(model_param_name(&m, i), p->name);
            assert_null(strchr(p->name, '%'));
            for (int j = 0; j < i; j++) assert_string_not_equal(p->name, m.params[j].name);
            int64_t rows[PARAM_PARTS_MAX], sum = 0;
            for (int j = model_param_parts(p->spec, &c, rows) - 1; j >= 0; j--) sum += rows[j];
            assert_int_equal(sum, param_live_rows(p->spec, &c));
        }
        if (k == 3) assert_true(m.n_params == 2 * 12 + 1 + 6);
        assert_int_equal(n, model_count_params(&c));
        lab_close(&m);
    }
}

static int compare_offset(const void *a, const void *b) {
    const ArenaEntry *x = a, *y = b;
    if (x->category != y->category) return (int)x->category - (int)y->category;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static void *no_alloc(Backend *b, int64_t bytes) {
    (void)b;
    fail_msg("%ld bytes allocated after the commit", (long)bytes);
    return NULL;
}

/* Every planned slot lies in its category's memory, none overlaps another, and the sizes are the
 * plan's; then neither the device nor the C library hands out memory in a step. On one thread: what
 * the library keeps for a second is made when that first has work, which may be in any step. */
static void test_plan_is_all(void **state) {
    (void)state;
    Backend b;
    Model m;
    lab_backend(&b, false, 1);
    lab_open(&m, &b, &small, &(ModelUse){.B = 3, .T = 40, .training = true});
    int64_t planned = 0;
    qsort(m.arena.entries, (size_t)m.arena.n_entries, sizeof(ArenaEntry), compare_offset);
    for (int i = 0; i < m.arena.n_entries; i++) {
        const ArenaEntry *a = &m.arena.entries[i];
        const char *base = m.arena.base[a->category];
        assert_ptr_equal(a->slot->data, base + a->offset);
        assert_int_equal(a->bytes, tensor_bytes(*a->slot));
        assert_true(a->offset + a->bytes <= m.arena.bytes[a->category]);
        const ArenaEntry *next = a + 1;
        if (i + 1 < m.arena.n_entries && next->category == a->category)
            assert_true(a->offset + a->bytes <= next->offset);
        planned += i64_round_up(a->bytes, ARENA_ALIGNMENT);
    }
    assert_int_equal(planned, arena_total(&m.arena));

    model_init(&m, 1);
    b.alloc = no_alloc;
    b.alloc_pinned = no_alloc;
    lab_train(&m, 1);
    const struct mallinfo2 before = mallinfo2();
    for (uint32_t step = 2; step < 6; step++) lab_train(&m, step);
    const struct mallinfo2 after = mallinfo2();
    assert_int_equal(after.uordblks + after.hblkhd, before.uordblks + before.hblkhd);
    lab_close(&m);
}

/* GPT-2 124M at B 4, T 64: 16 bytes a parameter (weight, gradient, two moments) and half a
 * gigabyte. */
static void test_plan_size(void **state) {
    (void)state;
    int64_t total[3];
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_BLOCK; r++) {
        Backend b;
        Model m;
        lab_backend(&b, false, 2);
        model_plan(&m, &gpt2,
                   &(ModelUse){.B = 4, .T = 64, .training = true, .recompute = (Recompute)r}, &b);
        total[r] = arena_total(&m.arena);
        lab_close(&m);
    }
    assert_true(total[RECOMPUTE_NONE] <= 16 * 124439808LL + 500000000);
    /* mlp drops the GELU's output of 11 blocks, (256, 3072) floats; block more than that. */
    assert_int_equal(total[RECOMPUTE_NONE] - total[RECOMPUTE_MLP], 11 * 256 * 3072 * 4);
    assert_true(total[RECOMPUTE_BLOCK] < total[RECOMPUTE_MLP]);
}

/* Mean and standard deviation of n draws, within five standard errors. */
static void check_normal(const char *name, const double *w, int64_t n, double std) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += w[i];
        squares += w[i] * w[i];
    }
    ASSERT_BELOW(name, fabs(sum / (double)n), 5 * std / sqrt((double)n));
    ASSERT_BELOW(name, fabs(sqrt(squares / (double)n) / std - 1), 5 / sqrt(2.0 * (double)n));
}

static void test_init_values(void **state) {
    (void)state;
    Backend b;
    Model m;
    lab_backend(&b, false, 2);
    lab_open(&m, &b, &small, &(ModelUse){.B = 1, .T = 8, .training = true});
    model_init(&m, 3);
    double previous = 0;
    for (int i = 0; i < m.n_params; i++) {
        const Param *p = &m.params[i];
        const int64_t n = tensor_count(p->w), live = lab_live(&m, p);
        double *w = lab_values(&m, p->w);
        const bool residual = strstr(p->name, "c_proj.weight");
        if (p->w.rank == 2) {
            check_normal(p->name, w, live, residual ? 0.02 / sqrt(4.0) : 0.02);
            assert_true(w[0] != previous); /* no two share a stream of random numbers */
            previous = w[0];
        } else {
            const bool norm_weight = strstr(p->name, "ln_") && strstr(p->name, ".weight");
            for (int64_t k = 0; k < n; k++) assert_true(w[k] == norm_weight);
        }
        for (int64_t k = live; k < n; k++) assert_true(w[k] == 0);
        free(w);
    }
    lab_close(&m);
}

/* Weights and moments after model_init with a seed, on a model that has been used or not. */
static char *state_after_init(uint64_t seed, int threads, int64_t B, bool used, int64_t *bytes) {
    Backend b;
    Model m;
    lab_backend(&b, false, threads);
    lab_open(&m, &b, &small, &(ModelUse){.B = B, .T = 8, .training = true});
    if (used) {
        lab_randomise(&m, 9);
        lab_train(&m, 1);
    }
    model_init(&m, seed);
    char *bits = lab_state(&m, bytes);
    lab_close(&m);
    return bits;
}

static void test_init_is_pure(void **state) {
    (void)state;
    int64_t bytes;
    char *a = state_after_init(5, 1, 1, false, &bytes);
    char *c = state_after_init(5, 3, 2, true, &bytes);
    char *d = state_after_init(6, 1, 1, false, &bytes);
    assert_memory_equal(a, c, (size_t)bytes);
    assert_memory_not_equal(a, d, (size_t)bytes);
    free(a);
    free(c);
    free(d);
}

static void check_threads(const ModelConfig *c, bool muon) {
    char *first = NULL;
    double loss[4][5];
    for (int threads = 1; threads <= 4; threads++) {
        Backend b;
        Model m;
        lab_backend(&b, false, threads);
        lab_open(&m, &b, c, &(ModelUse){.B = 7, .T = 40, .training = true, .muon = muon});
        model_init(&m, 1);
        for (uint32_t step = 1; step <= 5; step++) {
            loss[threads - 1][step - 1] = lab_train(&m, step).loss;
            assert_true(loss[threads - 1][step - 1] > 0);
        }
        int64_t bytes;
        char *bits = lab_state(&m, &bytes);
        if (first) {
            assert_memory_equal(bits, first, (size_t)bytes);
            assert_memory_equal(loss[threads - 1], loss[0], sizeof loss[0]);
            free(bits);
        } else {
            first = bits;
        }
        lab_close(&m);
    }
    free(first);
}

static void test_threads(void **state) {
    (void)state;
    check_threads(&small, false);
    check_threads(&nanochat, true);
    check_threads(&all, true);
}

/* The modern recipe: an embedding of 1, matrices of 1/sqrt(C), branches and head from zero; so the
 * first logits are all equal. */
static void test_modern_init(void **state) {
    (void)state;
    Backend b;
    Model m;
    lab_backend(&b, false, 2);
    lab_open(&m, &b, &nanochat, &(ModelUse){.B = 1, .T = 8, .training = true});
    model_init(&m, 3);
    for (int i = 0; i < m.n_params; i++) {
        const Param *p = &m.params[i];
        const int64_t live = lab_live(&m, p);
        double *w = lab_values(&m, p->w);
        if (strstr(p->name, "c_proj") || strstr(p->name, "lm_head"))
            for (int64_t k = 0; k < live; k++) assert_true(w[k] == 0 && !signbit(w[k]));
        else
            check_normal(p->name, w, live, strstr(p->name, "wte") ? 1 : 1 / sqrt(96));
        free(w);
    }
    const double loss = lab_train(&m, 1).loss;
    ASSERT_BELOW("loss", fabs(loss / log(300) - 1), 1e-6);
    lab_close(&m);
}

/* What Muon keeps: a momentum of each hidden matrix and no second moment, and its scratch. */
static void test_muon_plan(void **state) {
    (void)state;
    int64_t bytes[2], scratch[2], hidden = 0;
    for (int muon = 0; muon < 2; muon++) {
        Backend b;
        Model m;
        lab_backend(&b, false, 1);
        model_plan(&m, &nanochat, &(ModelUse){.B = 1, .T = 4, .training = true, .muon = muon}, &b);
        bytes[muon] = m.arena.bytes[ARENA_OPTIMISER];
        scratch[muon] = m.scratch.dim[0];
        for (int i = 0; muon && i < m.n_params; i++)
            if (m.params[i].spec->is_hidden) hidden += tensor_bytes(m.params[i].w);
        if (muon) /* the largest part is (200, 96), in two layers */
            assert_true(scratch[1] >= b.ops->scratch(OP_MUON,
                                                     &(OpShape){.B = 2, .O = 200, .C = 96},
                                                     &b.properties));
        lab_close(&m);
    }
    assert_int_equal(hidden, 2 * 4 * ((160 + 96) * 96 + 2 * 200 * 96));
    assert_int_equal(bytes[0] - bytes[1], hidden);
    assert_true(scratch[1] > scratch[0]);
}

/* ---- bad steps ---- */

static const ModelConfig tiny = {65, 16, 2, 2, 16, 64, true, 1e-5, .dropout = 0};

static void open_tiny(Model *m, Backend *b) {
    lab_backend(b, false, 2);
    lab_open(m, b, &tiny, &(ModelUse){.B = 2, .T = 16, .training = true});
    model_init(m, 1);
    lab_train(m, 1); /* moments that are not zero */
}

/* Gradients of step 2, of which the caller spoils something. */
static void good_gradients(Model *m) {
    int32_t tokens[32], targets[32];
    lab_tokens(&m->config, 32, 55, tokens, targets);
    lab_gradients(m, 2, tokens, targets);
}

static void spoil(Model *m, int param, int64_t at, float value) {
    const Tensor grad = m->params[param].grad;
    model_write(m, tensor_1d((float *)grad.data + at, grad.dtype, 1), &value);
}

/* Updates, and checks that nothing moved and who is named. */
static void check_refused(Model *m, int first_bad) {
    int64_t bytes;
    char *before = lab_state(m, &bytes);
    model_update(m, &lab_optimiser);
    const StepResult r = lab_result(m);
    char *after = lab_state(m, &bytes);
    assert_int_equal(r.bad, 1);
    assert_int_equal(r.first_bad, first_bad);
    assert_memory_equal(before, after, (size_t)bytes);
    free(before);
    free(after);
}

/* One value that is not finite, in each parameter's gradient in turn: first, last or some
 * element. */
static void test_bad_gradient(void **state) {
    (void)state;
    Backend b;
    Model m;
    open_tiny(&m, &b);
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < m.n_params; i++) {
        const int64_t n = tensor_count(m.params[i].grad), at[3] = {0, n / 3, n - 1};
        good_gradients(&m);
        spoil(&m, i, at[i % 3], bad[(i / 3) % 3]);
        check_refused(&m, i);
    }
    good_gradients(&m);
    spoil(&m, 7, 1, NAN);
    spoil(&m, 3, 2, INFINITY);
    check_refused(&m, 3);
    lab_close(&m);
}

static void test_bad_loss(void **state) {
    (void)state;
    Backend b;
    Model m;
    open_tiny(&m, &b);
    good_gradients(&m);
    StepResult r = lab_result(&m);
    r.loss = NAN;
    model_write(&m, tensor_1d(m.step_result.data, DTYPE_U8, sizeof r), &r);
    check_refused(&m, -1);
    assert_non_null(strstr(model_param_name(&m, -1), "loss"));
    lab_close(&m);
}

/* A refused step leaves no trace: the next good one has the bits of a run that never tried it. */
static void test_bad_step_leaves_no_trace(void **state) {
    (void)state;
    char *bits[2];
    int64_t bytes;
    for (int with_bad = 0; with_bad < 2; with_bad++) {
        Backend b;
        Model m;
        open_tiny(&m, &b);
        if (with_bad) {
            good_gradients(&m);
            spoil(&m, 0, 5, NAN);
            check_refused(&m, 0);
        }
        const StepResult r = lab_train(&m, 3);
        assert_int_equal(r.bad, 0);
        assert_int_equal(r.first_bad, -1);
        bits[with_bad] = lab_state(&m, &bytes);
        lab_close(&m);
    }
    assert_memory_equal(bits[0], bits[1], (size_t)bytes);
    free(bits[0]);
    free(bits[1]);
}

/* The vocabulary's padding has neither weights nor moments, however long one trains: neither in the
 * embedding nor in a head of its own. */
static void test_padding_stays_zero(void **state) {
    (void)state;
    for (int modern = 0; modern < 2; modern++) {
        Backend b;
        Model m;
        lab_backend(&b, false, 2);
        const ModelUse use = {.B = 2, .T = 16, .training = true, .muon = modern};
        lab_open(&m, &b, modern ? &nanochat : &tiny, &use);
        model_init(&m, 1);
        for (uint32_t step = 1; step < 6; step++) lab_train(&m, step);
        int n_padded = 0;
        for (int i = 0; i < m.n_params; i++) {
            const Param *p = &m.params[i];
            if (!param_is_padded(p->spec)) continue;
            n_padded++;
            const Tensor part[3] = {p->w, p->m, p->v};
            for (int k = 0; k < 3; k++) {
                double *w = lab_values(&m, part[k]);
                for (int64_t j = lab_live(&m, p); j < tensor_count(p->w); j++)
                    assert_true(w[j] == 0);
                free(w);
            }
        }
        assert_int_equal(n_padded, 1 + modern);
        lab_close(&m);
    }
}

/* A refused step leaves Muon's momenta and weights alone too. */
static void test_bad_gradient_with_muon(void **state) {
    (void)state;
    Backend b;
    Model m;
    lab_backend(&b, false, 2);
    lab_open(&m, &b, &nanochat, &(ModelUse){.B = 2, .T = 16, .training = true, .muon = true});
    model_init(&m, 1);
    lab_train(&m, 1);
    for (int i = 0; i < m.n_params; i++) {
        good_gradients(&m);
        spoil(&m, i, i, NAN);
        check_refused(&m, i);
    }
    lab_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_config_check),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_plan_is_all),
        cmocka_unit_test(test_plan_size),
        cmocka_unit_test(test_init_values),
        cmocka_unit_test(test_init_is_pure),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_bad_gradient),
        cmocka_unit_test(test_bad_loss),
        cmocka_unit_test(test_bad_step_leaves_no_trace),
        cmocka_unit_test(test_padding_stays_zero),
        cmocka_unit_test(test_bad_gradient_with_muon),
        cmocka_unit_test(test_counts_of_modern),
        cmocka_unit_test(test_modern_config_check),
        cmocka_unit_test(test_modern_init),
        cmocka_unit_test(test_muon_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
