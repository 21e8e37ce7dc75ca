/* What each token of a text reads of those before it: weights of every layer and head, and a page
 * to look at them. */
#include "plot.h"
#include "plot_page.h"
#include "show.h"
#include "svg.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One row of softmax(q k^T / sqrt(D)), causal: q (D) of token i; k of token j is at k + j * R. */
static void weigh_row(float *p, const float *q, const float *k, int64_t i, int64_t n, int64_t D,
                      int64_t R, double *s) {
    double most = -INFINITY, sum = 0;
    for (int64_t j = 0; j <= i; j++) {
        s[j] = 0;
        for (int64_t d = 0; d < D; d++) s[j] += (double)q[d] * (double)k[j * R + d];
        s[j] /= sqrt((double)D);
        most = fmax(most, s[j]);
    }
    for (int64_t j = 0; j <= i; j++) sum += s[j] = exp(s[j] - most);
    for (int64_t j = 0; j < n; j++) p[j] = j <= i ? (float)(s[j] / sum) : 0;
}

void plot_attention_weights(Model *m, const int32_t *tokens, float *weights) {
    const ModelConfig *c = &m->config;
    const int64_t n = m->use.T, H = c->heads, K = model_kv_heads(c), D = model_head_size(c);
    const int64_t R = model_qkv_width(c);
    CHECK(m->use.B == 1 && m->use.keep_blocks, "the model was not planned for this");
    const StepParams step = {.training = 0, .loss_scale = 1};
    int32_t *targets = malloc((size_t)n * sizeof *targets);
    float *qkv = malloc((size_t)(n * R) * sizeof *qkv);
    double *s = malloc((size_t)n * sizeof *s);
    CHECK(targets && qkv && s, "no memory for %ld tokens", (long)n);
    for (int64_t i = 0; i < n; i++) targets[i] = -1;
    model_set_step(m, &step);
    model_write(m, m->tokens, tokens);
    model_write(m, m->targets, targets);
    model_forward(m, false);
    for (int64_t l = 0; l < c->layers; l++) {
        model_read_f32(m, m->blocks[l].qkv, qkv);
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < n; i++)
                weigh_row(weights + ((l * H + h) * n + i) * n, qkv + i * R + h * D,
                          qkv + (H + h / (H / K)) * D, i, n, D, R, s);
    }
    free(targets);
    free(qkv);
    free(s);
}

/* ---- the page ---- */

/* A token as a JavaScript string: the text that show_text makes of it. HTML's own characters are
 * written as code points, so that no token can end the script. */
static void write_token(FILE *out, const Tokenizer *t, int32_t id) {
    char *shown = show_text(t, id);
    putc('\'', out);
    for (const char *c = shown; *c; c++)
        if (strchr("<>&'\\", *c))
            fprintf(out, "\\x%02x", *c);
        else
            putc(*c, out);
    putc('\'', out);
    free(shown);
}

/* Weights in thousandths, the lower triangle row by row: what a colour can show. */
static void write_weights(FILE *out, const float *weights, int64_t matrices, int64_t n) {
    for (int64_t m = 0; m < matrices; m++) {
        fputs(m ? ",\n[" : "[", out);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++) {
                const long p = lrint(1000 * (double)weights[(m * n + i) * n + j]);
                fprintf(out, i ? ",%ld" : "%ld", p);
            }
        putc(']', out);
    }
}

static void write_page(FILE *out, const Model *m, const Tokenizer *t, const int32_t *tokens,
                       const char *name, const float *weights) {
    const int64_t n = m->use.T, L = m->config.layers, H = m->config.heads;
    fputs(plot_page_head, out);
    svg_escape(out, name, (int64_t)strlen(name));
    fprintf(out, ": %ld layers of %ld heads, %ld tokens", (long)L, (long)H, (long)n);
    fputs(plot_page_body, out);
    fprintf(out, "const L=%ld,H=%ld,n=%ld;\nconst tokens=[", (long)L, (long)H, (long)n);
    for (int64_t i = 0; i < n; i++) {
        if (i) putc(',', out);
        write_token(out, t, tokens[i]);
    }
    fputs("];\nconst weights=[", out);
    write_weights(out, weights, L * H, n);
    fputs("\n];\n", out);
    fputs(plot_page_script, out);
}

bool plot_attention(Model *m, const Tokenizer *t, const int32_t *tokens, const char *name,
                    FILE *out, Error *e) {
    const int64_t n = m->use.T, count = m->config.layers * m->config.heads * n * n;
    float *weights = malloc((size_t)count * sizeof *weights);
    if (!weights) return error_set(e, NULL, "Use a shorter text", "there is no memory for it");
    plot_attention_weights(m, tokens, weights);
    bool finite = true;
    for (int64_t i = 0; i < count; i++) finite = finite && isfinite(weights[i]);
    if (finite) write_page(out, m, t, tokens, name, weights);
    free(weights);
    return finite || error_set(e, NULL, "Take an older checkpoint",
                               "the model's attention weights are not finite");
}
