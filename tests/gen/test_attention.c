/* The attention weights of a picture against those that the kernels used, and against a computation
 * from the weights alone. */
#include "../model/lab.h"
#include "plot.h"

enum { N = 23 }; /* tokens; fewer than the context */

/* GPT-2's blocks, NanoChat's, and Llama's with grouped heads, wider in all than C. */
static const ModelConfig gpt2 = {65, 24, 2, 3, 24, 96, true, 1e-5, .dropout = 0};
static const ModelConfig modern = {65, 24, 3, 3, 24, 96, LAB_NANOCHAT, .softcap = 1.5};
static const ModelConfig grouped = {
    65, 24, 2, 4, 24, 40, true, 1e-5, 0, .kv_heads = 2, .head_size = 8,
    .positions = POSITIONS_ROTARY, .rope_base = 100, .norm = NORMS_RMSNORM, .mlp = MLP_SWIGLU};

static void open_model(Model *m, Backend *b, const ModelConfig *c) {
    const ModelUse use = {.B = 1, .T = N, .keep_blocks = true};
    lab_backend(b, false, 2);
    lab_open(m, b, c, &use);
    lab_randomise(m, 11);
}

/* The weights of N random tokens; the caller frees them. */
static float *weigh(Model *m, int32_t *tokens) {
    int32_t targets[N];
    float *p = malloc(sizeof(float) * (size_t)(m->config.layers * m->config.heads * N * N));
    lab_tokens(&m->config, N, 5, tokens, targets);
    plot_attention_weights(m, tokens, p);
    return p;
}

static Tensor weight_named(const Model *m, const char *name) {
    for (int i = 0; i < m->n_params; i++)
        if (!strcmp(m->params[i].name, name)) return m->params[i].w;
    fail_msg("there is no %s", name);
    return TENSOR_NONE;
}

/* Without queries every score is 0, so token i reads i + 1 tokens equally. */
static void test_uniform(void **state) {
    (void)state;
    Backend b;
    Model m;
    int32_t tokens[N];
    open_model(&m, &b, &gpt2);
    for (int l = 0; l < 2; l++)
        for (int bias = 0; bias < 2; bias++) {
            char name[64];
            snprintf(name, sizeof name, "h.%d.attn.c_attn.%s", l, bias ? "bias" : "weight");
            const Tensor t = weight_named(&m, name);
            double *zero = calloc((size_t)tensor_count(t), sizeof(double));
            lab_set(&m, t, zero);
            free(zero);
        }
    float *p = weigh(&m, tokens);
    for (int64_t row = 0; row < gpt2.layers * gpt2.heads * N; row++)
        for (int64_t i = row % N, j = 0; j < N; j++)
            if (p[row * N + j] != (j <= i ? (float)(1.0 / (double)(i + 1)) : 0.0F))
                fail_msg("row %ld, column %ld: %g", (long)row, (long)j, (double)p[row * N + j]);
    free(p);
    lab_close(&m);
}

/* Each row is a distribution over the tokens so far, and p v is what the kernel has made of it: a
 * float sum of at most N terms, whose weights carry the roundings of scores of a few units, about
 * (N + 8) 2^-24 = 2e-6 of the norm. */
static void check_against_kernel(const ModelConfig *c) {
    Backend b;
    Model m;
    int32_t tokens[N];
    open_model(&m, &b, c);
    float *p = weigh(&m, tokens);
    const int64_t H = c->heads, K = model_kv_heads(c), D = model_head_size(c);
    const int64_t R = model_qkv_width(c);
    for (int64_t l = 0; l < c->layers; l++) {
        double *qkv = lab_values(&m, m.blocks[l].qkv), *att = lab_values(&m, m.blocks[l].att);
        double *sum = calloc((size_t)(N * H * D), sizeof(double));
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < N; i++) {
                double total = 0;
                for (int64_t j = 0; j < N; j++) {
                    const double w = (double)p[((l * H + h) * N + i) * N + j];
                    if (j > i) assert_true(w == 0);
                    total += w;
                    for (int64_t d = 0; d < D; d++)
                        sum[(i * H + h) * D + d] += w * qkv[j * R + (H + K + h / (H / K)) * D + d];
                }
                ASSERT_BELOW("sum of a row", fabs(total - 1), N * 0x1p-24);
            }
        ASSERT_BELOW("p v", lab_error(sum, att, N * H * D), 2e-6);
        free(sum);
        free(qkv);
        free(att);
    }
    free(p);
    lab_close(&m);
}
static void test_gpt2(void **state) {
    (void)state;
    check_against_kernel(&gpt2);
}
static void test_modern(void **state) {
    (void)state;
    check_against_kernel(&modern);
}
static void test_grouped(void **state) {
    (void)state;
    check_against_kernel(&grouped);
}

/* q and k of one token in GPT-2's first block, from the weights, in double: qk (2C). */
static void first_qk(const Model *m, int32_t token, int64_t t, double *qk) {
    enum { C = 24 };
    const char *const names[] = {"wte.weight",
                                 "wpe.weight",
                                 "h.0.ln_1.weight",
                                 "h.0.ln_1.bias",
                                 "h.0.attn.c_attn.weight",
                                 "h.0.attn.c_attn.bias"};
    double *w[6], x[C], mean = 0, variance = 0;
    for (int i = 0; i < 6; i++) w[i] = lab_values(m, weight_named(m, names[i]));
    for (int c = 0; c < C; c++) mean += (x[c] = w[0][token * C + c] + w[1][t * C + c]) / C;
    for (int c = 0; c < C; c++) variance += (x[c] - mean) * (x[c] - mean) / C;
    for (int c = 0; c < C; c++) x[c] = (x[c] - mean) / sqrt(variance + 1e-5) * w[2][c] + w[3][c];
    for (int o = 0; o < 2 * C; o++) {
        qk[o] = w[5][o];
        for (int c = 0; c < C; c++) qk[o] += w[4][o * C + c] * x[c];
    }
    for (int i = 0; i < 6; i++) free(w[i]);
}

/* The first block has its own q and k still, though another ran after it. Float rounds them to some
 * 2^-24 sqrt(C) of their size, and a score of a few units by as much times it: 1e-5. */
static void test_direct(void **state) {
    (void)state;
    enum { H = 3, D = 8, C = 24 };
    Backend b;
    Model m;
    int32_t tokens[N];
    double qk[N][2 * C], expected[H][N][N] = {0}, got[H * N * N];
    open_model(&m, &b, &gpt2);
    float *p = weigh(&m, tokens);
    for (int t = 0; t < N; t++) first_qk(&m, tokens[t], t, qk[t]);
    for (int h = 0; h < H; h++)
        for (int i = 0; i < N; i++) {
            double total = 0;
            for (int j = 0; j <= i; j++) {
                double s = 0;
                for (int d = 0; d < D; d++) s += qk[i][h * D + d] * qk[j][C + h * D + d];
                total += expected[h][i][j] = exp(s / sqrt(D));
            }
            for (int j = 0; j <= i; j++) expected[h][i][j] /= total;
        }
    for (int i = 0; i < H * N * N; i++) got[i] = (double)p[i];
    ASSERT_BELOW("weights of layer 0", lab_error(got, &expected[0][0][0], H * N * N), 1e-5);
    free(p);
    lab_close(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform), cmocka_unit_test(test_gpt2), cmocka_unit_test(test_modern),
        cmocka_unit_test(test_grouped), cmocka_unit_test(test_direct)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
