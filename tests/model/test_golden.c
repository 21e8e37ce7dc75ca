/* Two tiny GPT-2s, a tiny NanoChat, a tiny feed-forward and a tiny recurrent model against PyTorch:
 * data/golden holds their weights as transformers saves them (the last two as puck does), and the
 * logits, gradients, losses and final weights that the scripts there computed in double. */
#include "lab.h"

#include "checkpoint.h"
#include "safetensors.h"

typedef struct Golden {
    Backend backend;
    Model m;
    SafetensorsFile file;
    /* Largest relative error of a tensor: after one pass 64 roundings of the type (20 are seen:
     * about ten a layer each way), after ten steps ten times that. */
    double pass_bound, train_bound;
} Golden;

static const SafetensorsEntry *entry_of(const Golden *g, const char *prefix, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const SafetensorsEntry *entry = safetensors_find(&g->file, full);
    if (!entry) fail_msg("golden.safetensors has no %s", full);
    return entry;
}

/* An F64 entry as an aligned array; the caller frees it. */
static double *expected(const Golden *g, const char *prefix, const char *name) {
    const SafetensorsEntry *entry = entry_of(g, prefix, name);
    assert_string_equal(entry->dtype_text, "F64");
    double *values = malloc((size_t)entry->bytes);
    memcpy(values, entry->data, (size_t)entry->bytes);
    return values;
}

static bool is_nanochat(const Golden *g) { return g->m.use.muon; }

/* One tensor of the disk into memory's orientation, from row `first` of a parameter on; returns the
 * row behind it. */
static int64_t place(const Golden *g, const char *prefix, const char *name, const Param *p,
                     double *memory, int64_t first) {
    const bool transposed = p->spec->transposed && !is_nanochat(g);
    const int64_t cols = p->spec->cols ? p->w.dim[1] : 1;
    const int64_t rows = entry_of(g, prefix, name)->count / cols;
    double *disk = expected(g, prefix, name);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            memory[(first + r) * cols + c] = disk[transposed ? c * rows + r : r * cols + c];
    free(disk);
    return first + rows;
}

/* The same for a parameter: packed, turned into memory's orientation and padded with zero rows. */
static double *expected_param(const Golden *g, const char *kind, const Param *p) {
    char prefix[64], name[64];
    double *memory = calloc((size_t)tensor_count(p->w), sizeof(double));
    int64_t rows = 0, parts[PARAM_PARTS_MAX];
    const bool gpt2 = g->m.config.kind == MODEL_GPT && !is_nanochat(g);
    snprintf(prefix, sizeof prefix, "%s.%s", kind, gpt2 ? "transformer." : "");
    const int n = is_nanochat(g) ? model_param_parts(p->spec, &g->m.config, parts) : 1;
    for (int i = 0; i < n; i++) {
        const char *pattern = is_nanochat(g) ? p->spec->nanochat[i] : p->spec->name;
        model_name_param(name, sizeof name, pattern, p->layer);
        rows = place(g, prefix, name, p, memory, rows);
    }
    assert_int_equal(rows, param_live_rows(p->spec, &g->m.config));
    return memory;
}

static void golden_open(Golden *g, const char *folder, bool bias, bool f64) {
    const bool muon = strcmp(folder, "nanochat-tiny") == 0;
    char path[256];
    snprintf(path, sizeof path, "data/golden/%s", folder);
    const double rounding = f64 ? 0x1p-53 : 0x1p-24;
    *g = (Golden){.pass_bound = 64 * rounding, .train_bound = 640 * rounding};
    Error e = {0};
    ModelConfig config;
    if (!checkpoint_read_config(path, &config, &e)) fail_msg("%s", e.text);
    config.bias = bias; /* GPT-2's config.json cannot say it: the biases on disk are zero */
    config.dropout = 0;
    lab_backend(&g->backend, f64, 2);
    lab_open(&g->m, &g->backend, &config,
             &(ModelUse){.B = 3, .T = config.context, .training = true, .muon = muon});
    if (!checkpoint_read_weights(path, &g->m, &e)) fail_msg("%s", e.text);
    char file[300];
    snprintf(file, sizeof file, "%s/golden.safetensors", path);
    if (!safetensors_open(&g->file, file, &e)) fail_msg("%s", e.text);
}

static void golden_close(Golden *g) {
    safetensors_close(&g->file);
    lab_close(&g->m);
}

/* Batch number i to the device; returns its valid targets. */
static int64_t golden_batch(Golden *g, int64_t i) {
    const int64_t n[2] = {tensor_count(g->m.tokens), tensor_count(g->m.targets)};
    int32_t *ids = malloc(sizeof(int32_t) * 2 * (size_t)n[0]);
    const char *name[2] = {"tokens", "targets"};
    for (int k = 0; k < 2; k++) {
        const char *data = entry_of(g, "", name[k])->data;
        const size_t bytes = (size_t)n[k] * sizeof(int32_t);
        memcpy(ids + k * n[0], data + (size_t)i * bytes, bytes);
    }
    lab_batch(&g->m, ids, ids + n[0]);
    const int64_t valid = lab_valid(ids + n[0], n[1]);
    free(ids);
    return valid;
}

/* Forward (and backward) over batch i as step i+1. */
static StepResult golden_pass(Golden *g, int64_t i, bool gradient) {
    const SafetensorsEntry *adamw = entry_of(g, "", "adamw");
    double a[6];
    memcpy(a, adamw->data, sizeof a);
    const StepParams p = {.seed = 1,
                          .step = (uint32_t)i + 1,
                          .training = 1,
                          .loss_scale = 1.0 / (double)golden_batch(g, i),
                          .lr = a[0],
                          .max_grad_norm = a[5]};
    model_begin_step(&g->m);
    model_set_step(&g->m, &p);
    model_forward(&g->m, gradient);
    if (gradient) model_backward(&g->m);
    return lab_result(&g->m);
}

static StepResult golden_update(Golden *g) {
    const SafetensorsEntry *adamw = entry_of(g, "", "adamw");
    double a[6];
    memcpy(a, adamw->data, sizeof a);
    Optimiser constants = {.adamw = {a[1], a[2], a[3], a[4], 1.0}};
    if (is_nanochat(g)) {
        double muon[3];
        memcpy(muon, entry_of(g, "", "muon")->data, sizeof muon);
        constants.muon = (Muon){muon[1], muon[2], muon[0] / a[0]};
    }
    model_update(&g->m, &constants);
    return lab_result(&g->m);
}

static void check_logits(Golden *g) {
    const int64_t V = g->m.config.vocab, Vp = model_vocab_padded(&g->m.config);
    const int64_t n = tensor_count(g->m.losses);
    double *out = lab_values(&g->m, g->m.logits), *ref = expected(g, "", "logits");
    const double cap = g->m.config.softcap;
    for (int64_t i = 0; i < n; i++) memmove(out + i * V, out + i * Vp, sizeof(double) * (size_t)V);
    for (int64_t i = 0; cap > 0 && i < n * V; i++) out[i] = cap * tanh(out[i] / cap);
    ASSERT_BELOW("logits", lab_error(out, ref, n * V), g->pass_bound);
    free(out);
    free(ref);
}

static void check_gradients(Golden *g) {
    for (int i = 0; i < g->m.n_params; i++) {
        const Param *p = &g->m.params[i];
        double *out = lab_values(&g->m, p->grad), *ref = expected_param(g, "grad", p);
        const int64_t n = tensor_count(p->grad);
        ASSERT_BELOW(p->name, lab_error(out, ref, n), g->pass_bound);
        for (int64_t k = lab_live(&g->m, p); k < n; k++) assert_true(out[k] == 0);
        free(out);
        free(ref);
    }
}

/* A softmax does not change when all its scores do, so the gradient of the keys' bias is zero but
 * for rounding, and Adam makes steps of that rounding: that third is left out. */
static void check_final(Golden *g) {
    for (int i = 0; i < g->m.n_params; i++) {
        const Param *p = &g->m.params[i];
        double *out = lab_values(&g->m, p->w), *ref = expected_param(g, "final", p);
        const int64_t n = tensor_count(p->w), C = g->m.config.channels;
        if (strstr(p->name, "c_attn.bias")) memcpy(out + C, ref + C, sizeof(double) * (size_t)C);
        ASSERT_BELOW(p->name, lab_error(out, ref, n), g->train_bound);
        for (int64_t k = lab_live(&g->m, p); k < n; k++) assert_true(out[k] == 0);
        free(out);
        free(ref);
    }
}

static void check_golden(const char *folder, bool bias, bool f64) {
    Golden g;
    golden_open(&g, folder, bias, f64);
    double *losses = expected(&g, "", "losses"), *norms = expected(&g, "", "norms");

    StepResult r = golden_pass(&g, 0, false);
    ASSERT_BELOW("loss", fabs(r.loss / losses[0] - 1), g.pass_bound);
    check_logits(&g);
    model_reset_carry(&g.m);
    r = golden_pass(&g, 0, true);
    ASSERT_BELOW("loss with gradient", fabs(r.loss / losses[0] - 1), g.pass_bound);
    check_gradients(&g);
    r = golden_update(&g);
    ASSERT_BELOW("norm", fabs(r.grad_norm / norms[0] - 1), g.pass_bound);

    const int64_t steps = entry_of(&g, "", "losses")->count;
    for (int64_t i = 1; i < steps; i++) {
        r = golden_pass(&g, i, true);
        ASSERT_BELOW("loss of a step", fabs(r.loss / losses[i] - 1), g.train_bound);
        r = golden_update(&g);
        ASSERT_BELOW("norm of a step", fabs(r.grad_norm / norms[i] - 1), g.train_bound);
        assert_int_equal(r.bad, 0);
    }
    check_final(&g);
    free(losses);
    free(norms);
    golden_close(&g);
}

static void test_f64(void **state) {
    (void)state;
    check_golden("gpt2-tiny", true, true);
}

static void test_f32(void **state) {
    (void)state;
    check_golden("gpt2-tiny", true, false);
}

static void test_no_bias_f64(void **state) {
    (void)state;
    check_golden("gpt2-tiny-nobias", false, true);
}

static void test_no_bias_f32(void **state) {
    (void)state;
    check_golden("gpt2-tiny-nobias", false, false);
}

static void test_nanochat_f64(void **state) {
    (void)state;
    check_golden("nanochat-tiny", false, true);
}

static void test_nanochat_f32(void **state) {
    (void)state;
    check_golden("nanochat-tiny", false, false);
}

static void test_ffn_f64(void **state) {
    (void)state;
    check_golden("ffn-tiny", true, true);
}

static void test_ffn_f32(void **state) {
    (void)state;
    check_golden("ffn-tiny", true, false);
}

static void test_rnn_f64(void **state) {
    (void)state;
    check_golden("rnn-tiny", true, true);
}

static void test_rnn_f32(void **state) {
    (void)state;
    check_golden("rnn-tiny", true, false);
}

/* The same folder with its zero biases as parameters: the same function. */
static void test_zero_biases(void **state) {
    (void)state;
    Golden g;
    golden_open(&g, "gpt2-tiny-nobias", true, true);
    double *losses = expected(&g, "", "losses");
    const StepResult r = golden_pass(&g, 0, false);
    ASSERT_BELOW("loss", fabs(r.loss / losses[0] - 1), g.pass_bound);
    check_logits(&g);
    free(losses);
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f64),          cmocka_unit_test(test_f32),
        cmocka_unit_test(test_no_bias_f64),  cmocka_unit_test(test_no_bias_f32),
        cmocka_unit_test(test_nanochat_f64), cmocka_unit_test(test_nanochat_f32),
        cmocka_unit_test(test_ffn_f64),      cmocka_unit_test(test_ffn_f32),
        cmocka_unit_test(test_rnn_f64),      cmocka_unit_test(test_rnn_f32),
        cmocka_unit_test(test_zero_biases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
