/* A GPT's decoding with a key-value cache: a block of new rows a sequence, logits of the last one;
 * and what is the same for all models. */
#include "params.h"
#include <math.h>

/* The first B*n rows of a decode buffer that was planned for more. */
static Tensor rows(Tensor t, int64_t n) { return tensor_rows(t, 0, n); }

static Tensor rows_3d(Tensor t, int64_t B, int64_t n) {
    return tensor_3d(t.data, t.dtype, B, n, t.dim[1]);
}

static void norm(Model *m, Tensor y, int64_t n, Tensor res, Tensor branch, ParamId w, int64_t l) {
    const BlockActs *d = &m->decode_block;
    m->backend->ops->residual_norm_forward(
        &m->cx, branch.data ? res : TENSOR_NONE, y, rows(d->mean1, n), rows(d->rstd1, n), res,
        branch, param_weight(m, w, l), param_weight(m, w + 1, l), param_norm_kind(&m->config),
        m->config.norm_eps, DROPOUT_OFF);
}

static void linear(Model *m, Tensor y, Tensor x, ParamId w, int64_t l, Activation activation) {
    m->backend->ops->linear_forward(&m->cx, y, TENSOR_NONE, x, param_weight(m, w, l),
                                    param_weight(m, w + 1, l), activation);
}

static void decode_attention(Model *m, int64_t l, int64_t B, int64_t n_rows, Tensor qkv) {
    const ModelConfig *c = &m->config;
    const BlockActs *d = &m->decode_block;
    const Tensor packed = rows_3d(qkv, B, n_rows),
                 att = rows_3d(rows(d->att, B * n_rows), B, n_rows);
    const int64_t K = model_kv_heads(c);
    if (param_turns(c))
        m->backend->ops->rotate_forward(&m->cx, packed,
                                        c->qk_norm ? rows(d->qk_rstd, B * n_rows) : TENSOR_NONE,
                                        m->decode_position, c->heads, K, param_rotation(c));
    m->backend->ops->attention_decode(&m->cx, att, m->k_cache[l], m->v_cache[l], packed,
                                      m->decode_position, c->heads, K);
}

static void decode_mlp(Model *m, int64_t l, int64_t n, Tensor branch, Tensor x) {
    const BlockActs *d = &m->decode_block;
    const Tensor fc = rows(d->fc, n);
    if (m->config.mlp == MLP_SWIGLU) {
        linear(m, rows(d->fc_pre, n), x, PARAM_FC_W, l, ACTIVATION_NONE);
        m->backend->ops->swiglu_forward(&m->cx, fc, rows(d->fc_pre, n));
    } else {
        linear(m, fc, x, PARAM_FC_W, l, param_activation(&m->config));
    }
    linear(m, branch, fc, PARAM_FCPROJ_W, l, ACTIVATION_NONE);
}

/* The residual add of each branch happens in the next norm, as in gpt.c, in place here. */
static void decode_block(Model *m, int64_t l, int64_t B, int64_t n_rows, Tensor branch_before) {
    const BlockActs *d = &m->decode_block;
    const int64_t n = B * n_rows;
    const Tensor branch = rows(m->decode_branch, n), ln = rows(d->ln1, n);
    const Tensor res = rows(m->decode_res, n), qkv = rows(d->qkv, n);
    norm(m, ln, n, res, branch_before, PARAM_LN1_W, l);
    linear(m, qkv, ln, PARAM_QKV_W, l, ACTIVATION_NONE);
    decode_attention(m, l, B, n_rows, qkv);
    linear(m, branch, rows(d->att, n), PARAM_PROJ_W, l, ACTIVATION_NONE);
    norm(m, ln, n, res, branch, PARAM_LN2_W, l);
    decode_mlp(m, l, n, branch, ln);
}

static void decode_embed(Model *m, int64_t B, int64_t n_rows, Tensor ids) {
    const int64_t n = B * n_rows;
    const Tensor res = rows(m->decode_res, n);
    const Tensor x = m->config.embed_norm ? rows(m->decode_branch, n) : res;
    m->backend->ops->embed_forward(&m->cx, rows_3d(x, B, n_rows), param_weight(m, PARAM_WTE, 0),
                                   param_weight(m, PARAM_WPE, 0), ids, m->decode_position);
    if (m->config.embed_norm) norm(m, res, n, x, TENSOR_NONE, PARAM_LNE_W, 0);
}

/* Logits of each sequence's last row only: its norm is gathered into decode_last. */
static void decode_head(Model *m, int64_t B, int64_t n_rows) {
    Backend *b = m->backend;
    const int64_t n = B * n_rows;
    const Tensor ln = rows(m->decode_block.ln1, n);
    norm(m, ln, n, rows(m->decode_res, n), rows(m->decode_branch, n), PARAM_LNF_W, 0);
    for (int64_t i = 0; i < B; i++) {
        const Tensor from = tensor_rows(ln, i * n_rows + n_rows - 1, 1);
        b->copy(b, tensor_rows(m->decode_last, i, 1).data, from.data, tensor_bytes(from),
                COPY_ON_DEVICE, m->cx.stream);
    }
    b->ops->linear_forward(&m->cx, m->decode_logits, TENSOR_NONE, m->decode_last,
                           param_weight(m, param_head(m), 0), TENSOR_NONE, ACTIVATION_NONE);
}

/* f32 or f64 logits, and bf16 where a device computes in it, to host floats without the padding. */
static void read_logits(Model *m, int64_t B, float *logits) {
    const int64_t V = model_outputs(&m->config);
    const float cap = (float)m->config.softcap;
    for (int64_t i = 0; i < B; i++) {
        Tensor row = tensor_rows(m->decode_logits, i, 1);
        row = tensor_1d(row.data, row.dtype, V);
        model_read_f32(m, row, logits + i * V);
    }
    for (int64_t i = 0; cap > 0 && i < B * V; i++) logits[i] = cap * tanhf(logits[i] / cap);
}

void decode_gpt(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position) {
    const int64_t B = m->use.decode_batch;
    const Tensor ids = tensor_2d(m->decode_tokens.data, DTYPE_I32, B, n_rows);
    model_write(m, ids, tokens);
    model_write(m, m->decode_position, position);
    decode_embed(m, B, n_rows, ids);
    for (int64_t l = 0; l < m->config.layers; l++)
        decode_block(m, l, B, n_rows, l ? rows(m->decode_branch, B * n_rows) : TENSOR_NONE);
    decode_head(m, B, n_rows);
}

void model_decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position,
                  float *logits) {
    CHECK(n_rows >= 1 && n_rows <= m->use.decode_rows, "%ld rows, planned for %ld", (long)n_rows,
          (long)m->use.decode_rows);
    model_wait_gather(m);
    model_passes(m)->decode(m, tokens, n_rows, position);
    read_logits(m, m->use.decode_batch, logits);
}
