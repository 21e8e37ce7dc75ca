/* The feed-forward language model (Bengio and others 2003): the next token from the embeddings of a
 * fixed number of tokens before it, side by side, through hidden layers.
 *
 *   x = (wte[t-K+1] .. wte[t]);  h = activation(x W + b), again for each hidden layer
 *   logits = h W_out + b_out
 *
 * A text's first tokens have too little before them: the context is filled from the left with
 * <PAD>, whose embedding is learned like any other, but which is never predicted. */
#include "params.h"
#include "rng.h"
#include <stdlib.h>
#include <string.h>

#define OPS(m) ((m)->backend->ops)

/* Weight of hidden layer l, its bias behind it: the first reads the embeddings. */
static ParamId hidden_weight(int64_t l) { return l ? PARAM_FFN_HIDDEN_W : PARAM_FFN_INPUT_W; }

/* ---- memory ---- */

static void plan_act(Model *m, Tensor *slot, const char *name, int64_t rows, int64_t cols) {
    ARENA_ADD(&m->arena, slot, name, ARENA_ACTIVATIONS, m->backend->compute, rows, cols);
}

static void plan_layers(Model *m, int64_t rows) {
    const ModelConfig *c = &m->config;
    m->hidden = calloc((size_t)c->layers, sizeof *m->hidden);
    m->hidden_pre = calloc((size_t)c->layers, sizeof *m->hidden_pre);
    CHECK(m->hidden && m->hidden_pre, "no memory for %ld layers", (long)c->layers);
    plan_act(m, &m->x, "embedding", rows, c->context * c->channels);
    for (int64_t l = 0; l < c->layers; l++) {
        plan_act(m, &m->hidden_pre[l], "before activation", rows, c->hidden);
        plan_act(m, &m->hidden[l], "after activation", rows, c->hidden);
    }
}

static void plan(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t B = m->use.B;
    plan_layers(m, B);
    plan_act(m, &m->logits, "logits", B, model_outputs_padded(c));
    ARENA_ADD(&m->arena, &m->losses, "statistics", ARENA_ACTIVATIONS, m->backend->master, B);
    if (!m->use.training) return;
    plan_act(m, &m->dx, "gradients of a layer", B, c->context * c->channels);
    for (int i = 0; i < 2; i++) plan_act(m, &m->dhidden[i], "gradients of a layer", B, c->hidden);
}

/* Decoding reads a whole context for every token, one token at a time or many. */
static void plan_decode(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t B = m->use.decode_batch;
    m->decode_history = calloc((size_t)(B * c->context), sizeof *m->decode_history);
    CHECK(m->decode_history, "no memory for %ld contexts", (long)B);
    if (!m->hidden) plan_layers(m, B);
    CHECK(!m->use.B || m->use.B >= B, "%ld sequences to decode, planned for %ld", (long)B,
          (long)m->use.B);
    ARENA_ADD(&m->arena, &m->decode_tokens, "decode", ARENA_ACTIVATIONS, DTYPE_I32, B, c->context);
    plan_act(m, &m->decode_logits, "decode", B, model_outputs_padded(c));
}

/* ---- passes ---- */

/* (B,K,E) and (B,K*E) are the same memory: side by side. */
static Tensor side_by_side(const Model *m, Tensor x, int64_t rows) {
    return tensor_3d(x.data, x.dtype, rows, m->config.context, m->config.channels);
}

/* After the embedding, whose rows are those of a batch (B*K,E). */
static Dropout embed_dropout(const Model *m) {
    return (Dropout){(float)m->config.dropout, rng_site(RNG_DROP_EMBED, 0)};
}

static Tensor embedded_rows(const Model *m, Tensor x, int64_t rows) {
    return tensor_2d(x.data, x.dtype, rows * m->config.context, m->config.channels);
}

/* From tokens (rows, context) to logits (rows, Vp). */
static void layers_forward(Model *m, Tensor logits, Tensor tokens) {
    const int64_t rows = tokens.dim[0], layers = m->config.layers;
    Tensor x = tensor_rows(m->x, 0, rows);
    OPS(m)->embed_forward(&m->cx, side_by_side(m, x, rows), param_weight(m, PARAM_FFN_EMBED, 0),
                          TENSOR_NONE, tokens, TENSOR_NONE);
    if (m->config.dropout > 0) {
        const Tensor e = embedded_rows(m, x, rows);
        OPS(m)->dropout_forward(&m->cx, e, e, embed_dropout(m));
    }
    for (int64_t l = 0; l < layers; l++) {
        const ParamId w = hidden_weight(l);
        const Tensor h = tensor_rows(m->hidden[l], 0, rows);
        OPS(m)->linear_forward(&m->cx, h, tensor_rows(m->hidden_pre[l], 0, rows), x,
                               param_weight(m, w, l), param_weight(m, w + 1, l),
                               param_activation(&m->config));
        x = h;
    }
    OPS(m)->linear_forward(&m->cx, logits, TENSOR_NONE, x, param_weight(m, PARAM_FFN_OUTPUT_W, 0),
                           param_weight(m, PARAM_FFN_OUTPUT_B, 0), ACTIVATION_NONE);
}

static void forward(Model *m, bool gradient) {
    model_wait_gather(m);
    layers_forward(m, m->logits, m->tokens);
    OPS(m)->classifier(&m->cx, m->losses, gradient ? m->logits : TENSOR_NONE, m->logits, m->targets,
                       model_outputs(&m->config), 0);
    OPS(m)->loss_sum(&m->cx, m->losses);
}

/* A layer's bias gradient comes out of the product that makes the gradient before its activation:
 * that of the layer after it. */
static void backward(Model *m) {
    const ModelConfig *c = &m->config;
    Tensor dy = m->logits;
    for (int64_t l = c->layers; l >= 0; l--) {
        const bool output = l == c->layers, input = l == 0;
        const ParamId w = output ? PARAM_FFN_OUTPUT_W : hidden_weight(l);
        const int64_t layer = output ? 0 : l;
        const Tensor x = input ? m->x : m->hidden[l - 1];
        const Tensor dx = input ? m->dx : m->dhidden[l % 2];
        const Tensor bias_before =
            input ? TENSOR_NONE : param_grad(m, hidden_weight(l - 1) + 1, l - 1);
        OPS(m)->linear_backward_weight(&m->cx, param_grad(m, w, layer),
                                       output ? param_grad(m, w + 1, layer) : TENSOR_NONE, dy, x);
        OPS(m)->linear_backward_input(&m->cx, dx, bias_before, dy, param_weight(m, w, layer),
                                      input ? TENSOR_NONE : m->hidden_pre[l - 1],
                                      input ? ACTIVATION_NONE : param_activation(c));
        dy = dx;
    }
    if (c->dropout > 0) {
        const Tensor de = embedded_rows(m, m->dx, m->use.B);
        OPS(m)->dropout_backward(&m->cx, de, de, embed_dropout(m));
    }
    OPS(m)->embed_backward(&m->cx, param_grad(m, PARAM_FFN_EMBED, 0), TENSOR_NONE,
                           side_by_side(m, m->dx, m->use.B), m->tokens, m->order, m->starts);
}

/* The context of sequence b moves on by n tokens. */
static void remember(Model *m, int64_t b, const int32_t *tokens, int64_t n, bool anew) {
    const int64_t K = m->config.context, kept = i64_max(0, K - n);
    int32_t *const context = m->decode_history + b * K;
    for (int64_t i = 0; anew && i < K; i++) context[i] = model_special(&m->config);
    memmove(context, context + K - kept, (size_t)kept * sizeof *context);
    memcpy(context + kept, tokens + n - (K - kept), (size_t)(K - kept) * sizeof *context);
}

static void decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position) {
    for (int64_t b = 0; b < m->use.decode_batch; b++)
        remember(m, b, tokens + b * n_rows, n_rows, position[b] == 0);
    model_write(m, m->decode_tokens, m->decode_history);
    layers_forward(m, m->decode_logits, m->decode_tokens);
}

const ModelPasses ffn_passes = {plan, plan_decode, forward, backward, decode};
