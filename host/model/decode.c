/* Decoding with a key-value cache: a block of new rows a sequence, logits of the last one. */
#include "params.h"

/* The first B*n rows of a decode buffer that was planned for more. */
static Tensor rows(Tensor t, int64_t n) { return tensor_rows(t, 0, n); }

static Tensor rows_3d(Tensor t, int64_t B, int64_t n) {
    return tensor_3d(t.data, t.dtype, B, n, t.dim[1]);
}

static void norm(Model *m, Tensor y, int64_t n, Tensor branch, ParamId w, int64_t l) {
    BlockActs *d = &m->decode_block;
    const Tensor res = rows(m->decode_res, n);
    m->backend->ops->residual_norm_forward(&m->cx, branch.data ? res : TENSOR_NONE, y,
                                           rows(d->mean1, n), rows(d->rstd1, n), res, branch,
                                           param_weight(m, w, l), param_weight(m, w + 1, l),
                                           NORM_LAYER, m->config.norm_eps, DROPOUT_OFF);
}

static void linear(Model *m, Tensor y, Tensor x, ParamId w, int64_t l, Activation activation) {
    m->backend->ops->linear_forward(&m->cx, y, TENSOR_NONE, x, param_weight(m, w, l),
                                    param_weight(m, w + 1, l), activation);
}

/* The residual add of each branch happens in the next norm, as in gpt.c, in place here. */
static void decode_block(Model *m, int64_t l, int64_t B, int64_t n_rows, Tensor branch_before) {
    BlockActs *d = &m->decode_block;
    const int64_t n = B * n_rows;
    const Tensor branch = rows(m->decode_branch, n), ln = rows(d->ln1, n), att = rows(d->att, n);
    norm(m, ln, n, branch_before, PARAM_LN1_W, l);
    linear(m, rows(d->qkv, n), ln, PARAM_QKV_W, l, ACTIVATION_NONE);
    m->backend->ops->attention_decode(&m->cx, rows_3d(att, B, n_rows), m->k_cache[l], m->v_cache[l],
                                      rows_3d(d->qkv, B, n_rows), m->decode_position,
                                      m->config.heads, m->config.heads);
    linear(m, branch, att, PARAM_PROJ_W, l, ACTIVATION_NONE);
    norm(m, ln, n, branch, PARAM_LN2_W, l);
    linear(m, rows(d->fc, n), ln, PARAM_FC_W, l, ACTIVATION_GELU);
    linear(m, branch, rows(d->fc, n), PARAM_FCPROJ_W, l, ACTIVATION_NONE);
}

/* Logits of each sequence's last row only: its norm is gathered into the head of `att`. */
static void decode_head(Model *m, int64_t B, int64_t n_rows) {
    Backend *b = m->backend;
    BlockActs *d = &m->decode_block;
    const int64_t n = B * n_rows;
    norm(m, rows(d->ln1, n), n, rows(m->decode_branch, n), PARAM_LNF_W, 0);
    for (int64_t i = 0; i < B; i++) {
        const Tensor from = tensor_rows(d->ln1, i * n_rows + n_rows - 1, 1);
        b->copy(b, tensor_rows(d->att, i, 1).data, from.data, tensor_bytes(from), COPY_ON_DEVICE,
                m->cx.stream);
    }
    b->ops->linear_forward(&m->cx, m->decode_logits, TENSOR_NONE, rows(d->att, B),
                           param_weight(m, PARAM_WTE, 0), TENSOR_NONE, ACTIVATION_NONE);
}

/* f32 or f64 logits, and bf16 where a device computes in it, to host floats without the padding. */
static void read_logits(Model *m, int64_t B, float *logits) {
    const int64_t V = m->config.vocab;
    for (int64_t i = 0; i < B; i++) {
        Tensor row = tensor_rows(m->decode_logits, i, 1);
        row = tensor_1d(row.data, row.dtype, V);
        model_read_f32(m, row, logits + i * V);
    }
}

void model_decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position,
                  float *logits) {
    const int64_t B = m->use.decode_batch;
    CHECK(n_rows >= 1 && n_rows <= m->use.decode_rows, "%ld rows, planned for %ld", (long)n_rows,
          (long)m->use.decode_rows);
    const Tensor ids = tensor_2d(m->decode_tokens.data, DTYPE_I32, B, n_rows);
    model_write(m, ids, tokens);
    model_write(m, m->decode_position, position);
    m->backend->ops->embed_forward(&m->cx, rows_3d(m->decode_res, B, n_rows),
                                   param_weight(m, PARAM_WTE, 0), param_weight(m, PARAM_WPE, 0),
                                   ids, m->decode_position);
    for (int64_t l = 0; l < m->config.layers; l++)
        decode_block(m, l, B, n_rows, l ? rows(m->decode_branch, B * n_rows) : TENSOR_NONE);
    decode_head(m, B, n_rows);
    read_logits(m, B, logits);
}
