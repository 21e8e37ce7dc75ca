/* The recurrent language model (Elman 1990; Mikolov and others 2010): the next token from a state
 * that each token changes.
 *
 *   X_t = embed[token_t];  H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h), again for each hidden layer
 *   O_t = H_t W_ho + b_o
 *
 * Everything lies (T,B,...): the rows of a step side by side, so that a step is one product, and
 * the states before each step are those after it, one step of rows earlier. Training goes back
 * through a window of T steps; the state at its end is where the next window starts (`carry`), but
 * no gradient crosses. */
#include "params.h"
#include <stdlib.h>

#define OPS(m) ((m)->backend->ops)

/* Weights of hidden layer l: the first reads the embeddings. */
static ParamId input_weight(int64_t l) { return l ? PARAM_RNN_HIDDEN_W : PARAM_RNN_INPUT_W; }

/* ---- memory ---- */

static void plan_act(Model *m, Tensor *slot, const char *name, int64_t rows, int64_t cols) {
    ARENA_ADD(&m->arena, slot, name, ARENA_ACTIVATIONS, m->backend->compute, rows, cols);
}

/* hidden[l]: B rows of the state before, then T * B rows of states. */
static void plan(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t B = m->use.B, rows = B * m->use.T;
    m->hidden = calloc((size_t)c->layers, sizeof *m->hidden);
    CHECK(m->hidden, "no memory for %ld layers", (long)c->layers);
    plan_act(m, &m->x, "embedding", rows, c->channels);
    for (int64_t l = 0; l < c->layers; l++)
        plan_act(m, &m->hidden[l], "states", B + rows, c->hidden);
    plan_act(m, &m->carry, "carried states", c->layers * B, c->hidden);
    plan_act(m, &m->logits, "logits", rows, model_outputs_padded(c));
    ARENA_ADD(&m->arena, &m->losses, "statistics", ARENA_ACTIVATIONS, m->backend->master, rows);
    if (!m->use.training) return;
    plan_act(m, &m->dx, "gradients of a layer", rows, c->channels);
    for (int i = 0; i < 2; i++)
        plan_act(m, &m->dhidden[i], "gradients of a layer", rows, c->hidden);
}

static void plan_decode(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t B = m->use.decode_batch;
    m->decode_hidden = calloc((size_t)c->layers, sizeof *m->decode_hidden);
    CHECK(m->decode_hidden, "no memory for %ld layers", (long)c->layers);
    ARENA_ADD(&m->arena, &m->decode_tokens, "decode", ARENA_ACTIVATIONS, DTYPE_I32, 1, B);
    plan_act(m, &m->decode_res, "decode", B, c->channels);
    for (int64_t l = 0; l < c->layers; l++)
        plan_act(m, &m->decode_hidden[l], "decode", 2 * B, c->hidden);
    plan_act(m, &m->decode_logits, "decode", B, model_outputs_padded(c));
}

/* ---- forward ---- */

static Tensor steps(Tensor t, int64_t first, int64_t T, int64_t B) {
    const Tensor rows = tensor_rows(t, first, T * B);
    return tensor_3d(rows.data, rows.dtype, T, B, t.dim[1]);
}

/* T steps of all layers: `hidden` holds the states before, and gets those after. */
static void layers_forward(Model *m, Tensor logits, Tensor tokens, Tensor x, const Tensor *hidden) {
    const int64_t T = tokens.dim[0], B = tokens.dim[1];
    OPS(m)->embed_forward(&m->cx, tensor_3d(x.data, x.dtype, T, B, x.dim[1]),
                          param_weight(m, PARAM_RNN_EMBED, 0), TENSOR_NONE, tokens, TENSOR_NONE);
    for (int64_t l = 0; l < m->config.layers; l++) {
        const Tensor h = tensor_rows(hidden[l], B, T * B);
        OPS(m)->linear_forward(&m->cx, h, TENSOR_NONE, x, param_weight(m, input_weight(l), l),
                               param_weight(m, PARAM_RNN_B, l), ACTIVATION_NONE);
        OPS(m)->recurrence_forward(&m->cx, steps(h, 0, T, B), steps(h, 0, T, B),
                                   tensor_rows(hidden[l], 0, B),
                                   param_weight(m, PARAM_RNN_STATE_W, l));
        x = h;
    }
    OPS(m)->linear_forward(&m->cx, logits, TENSOR_NONE, x, param_weight(m, PARAM_RNN_OUTPUT_W, 0),
                           param_weight(m, PARAM_RNN_OUTPUT_B, 0), ACTIVATION_NONE);
}

static void copy_rows(Model *m, Tensor to, Tensor from) {
    m->backend->copy(m->backend, to.data, from.data, tensor_bytes(from), COPY_ON_DEVICE,
                     m->cx.stream);
}

static void forward(Model *m, bool gradient) {
    const int64_t T = m->use.T, B = m->use.B;
    model_wait_gather(m);
    for (int64_t l = 0; l < m->config.layers; l++)
        copy_rows(m, tensor_rows(m->hidden[l], 0, B), tensor_rows(m->carry, l * B, B));
    layers_forward(m, m->logits, tensor_2d(m->tokens.data, DTYPE_I32, T, B), m->x, m->hidden);
    for (int64_t l = 0; l < m->config.layers; l++)
        copy_rows(m, tensor_rows(m->carry, l * B, B), tensor_rows(m->hidden[l], T * B, B));
    OPS(m)->classifier(&m->cx, m->losses, gradient ? m->logits : TENSOR_NONE, m->logits, m->targets,
                       model_outputs(&m->config), 0);
    OPS(m)->loss_sum(&m->cx, m->losses);
}

/* ---- backward ---- */

/* From the gradient of layer l's states to that of its input, in dx. */
static void layer_backward(Model *m, int64_t l, Tensor dh, Tensor dx) {
    const int64_t T = m->use.T, B = m->use.B;
    const Tensor h = m->hidden[l], w = param_weight(m, input_weight(l), l);
    const Tensor x = l ? tensor_rows(m->hidden[l - 1], B, T * B) : m->x;
    OPS(m)->recurrence_backward(&m->cx, steps(dh, 0, T, B), steps(dh, 0, T, B), steps(h, B, T, B),
                                param_weight(m, PARAM_RNN_STATE_W, l));
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, PARAM_RNN_STATE_W, l), TENSOR_NONE, dh,
                                   tensor_rows(h, 0, T * B));
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, input_weight(l), l),
                                   param_grad(m, PARAM_RNN_B, l), dh, x);
    OPS(m)->linear_backward_input(&m->cx, dx, TENSOR_NONE, dh, w, TENSOR_NONE, ACTIVATION_NONE);
}

static void backward(Model *m) {
    const int64_t T = m->use.T, B = m->use.B, last = m->config.layers - 1;
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, PARAM_RNN_OUTPUT_W, 0),
                                   param_grad(m, PARAM_RNN_OUTPUT_B, 0), m->logits,
                                   tensor_rows(m->hidden[last], B, T * B));
    OPS(m)->linear_backward_input(&m->cx, m->dhidden[last % 2], TENSOR_NONE, m->logits,
                                  param_weight(m, PARAM_RNN_OUTPUT_W, 0), TENSOR_NONE,
                                  ACTIVATION_NONE);
    for (int64_t l = last; l >= 0; l--)
        layer_backward(m, l, m->dhidden[l % 2], l ? m->dhidden[(l - 1) % 2] : m->dx);
    OPS(m)->embed_backward(&m->cx, param_grad(m, PARAM_RNN_EMBED, 0), TENSOR_NONE,
                           tensor_3d(m->dx.data, m->dx.dtype, T, B, m->dx.dim[1]),
                           tensor_2d(m->tokens.data, DTYPE_I32, T, B), m->order, m->starts);
}

/* ---- decoding: one step a token ---- */

static void decode_step(Model *m, const int32_t *tokens) {
    const int64_t B = m->use.decode_batch;
    model_write(m, m->decode_tokens, tokens);
    layers_forward(m, m->decode_logits, m->decode_tokens, m->decode_res, m->decode_hidden);
    for (int64_t l = 0; l < m->config.layers; l++)
        copy_rows(m, tensor_rows(m->decode_hidden[l], 0, B),
                  tensor_rows(m->decode_hidden[l], B, B));
}

/* All sequences start together: <START> first, from a state of zeros. */
static void decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position) {
    const int64_t B = m->use.decode_batch;
    int32_t *const step = malloc((size_t)B * sizeof *step);
    CHECK(step, "no memory for %ld tokens", (long)B);
    for (int64_t t = position[0] ? 0 : -1; t < n_rows; t++) {
        for (int64_t b = 0; b < B; b++) {
            CHECK((position[b] == 0) == (position[0] == 0), "sequence %ld starts alone", (long)b);
            step[b] = t < 0 ? model_special(&m->config) : tokens[b * n_rows + t];
        }
        for (int64_t l = 0; t < 0 && l < m->config.layers; l++)
            m->backend->fill(m->backend, m->decode_hidden[l].data, 0,
                             tensor_bytes(m->decode_hidden[l]) / 2, m->cx.stream);
        decode_step(m, step);
    }
    free(step);
}

void model_reset_carry(Model *m) {
    if (m->carry.data)
        m->backend->fill(m->backend, m->carry.data, 0, tensor_bytes(m->carry), m->cx.stream);
}

void *model_save_carry(const Model *m) {
    if (!m->carry.data) return NULL;
    void *saved = malloc((size_t)tensor_bytes(m->carry));
    CHECK(saved, "no memory for %ld states", (long)m->carry.dim[0]);
    model_read(m, m->carry, saved);
    return saved;
}

void model_restore_carry(Model *m, void *saved) {
    if (saved) model_write(m, m->carry, saved);
    free(saved);
}

const ModelPasses rnn_passes = {plan, plan_decode, forward, backward, decode};
