/* GPT-2's forward and backward passes, written out: one block a screen.
 *
 *   x = wte[tokens] + wpe;  per block:  x += attention(norm(x));  x += mlp(norm(x))
 *   logits = norm(x) wte^T
 *
 * The residual add of a branch is fused into the norm that reads the sum, so each norm op below
 * first finishes the branch before it. Hence the stream is kept at three kinds of points: res1
 * (before a block's attention), res2 (before its MLP), res_final. */
#include "params.h"
#include "rng.h"

#define OPS(m) ((m)->backend->ops)

static Dropout dropout_at(const Model *m, enum RngUse use, int64_t layer) {
    return m->config.dropout > 0 ? (Dropout){(float)m->config.dropout, rng_site(use, layer)}
                                 : DROPOUT_OFF;
}

static Tensor as_3d(const Model *m, Tensor t) {
    return tensor_3d(t.data, t.dtype, m->use.B, m->use.T, t.dim[1]);
}

/* ---- forward ---- */

static void norm_forward(Model *m, Tensor res, Tensor y, Tensor mean, Tensor rstd, Tensor res_in,
                         Tensor branch, ParamId w, int64_t l, Dropout drop) {
    OPS(m)->residual_norm_forward(&m->cx, res, y, mean, rstd, res_in, branch, param_weight(m, w, l),
                                  param_weight(m, w + 1, l), NORM_LAYER, m->config.norm_eps, drop);
}

static void linear_forward(Model *m, Tensor y, Tensor aux, Tensor x, ParamId w, int64_t l,
                           Activation activation) {
    OPS(m)->linear_forward(&m->cx, y, aux, x, param_weight(m, w, l), param_weight(m, w + 1, l),
                           activation);
}

/* Everything of block l after its first norm, up to the MLP's activations. */
static void block_inner_forward(Model *m, int64_t l) {
    BlockActs *a = &m->blocks[l];
    const Dropout drop_att = dropout_at(m, RNG_DROP_ATTENTION, l);
    const Dropout drop_res = dropout_at(m, RNG_DROP_RESIDUAL_ATT, l);

    linear_forward(m, a->qkv, TENSOR_NONE, a->ln1, PARAM_QKV_W, l, ACTIVATION_NONE);
    OPS(m)->attention_forward(&m->cx, as_3d(m, a->att), a->lse, as_3d(m, a->qkv), m->config.heads,
                              m->config.heads, drop_att);
    linear_forward(m, m->branch, TENSOR_NONE, a->att, PARAM_PROJ_W, l, ACTIVATION_NONE);
    norm_forward(m, a->res2, a->ln2, a->mean2, a->rstd2, a->res1, m->branch, PARAM_LN2_W, l,
                 drop_res);
    linear_forward(m, a->fc, a->fc_pre, a->ln2, PARAM_FC_W, l, ACTIVATION_GELU);
}

static void block_forward(Model *m, int64_t l) {
    BlockActs *a = &m->blocks[l];
    if (l == 0)
        norm_forward(m, TENSOR_NONE, a->ln1, a->mean1, a->rstd1, a->res1, TENSOR_NONE, PARAM_LN1_W,
                     l, DROPOUT_OFF);
    else /* finishes block l-1: res1 = its res2 + its MLP's branch */
        norm_forward(m, a->res1, a->ln1, a->mean1, a->rstd1, m->blocks[l - 1].res2, m->branch,
                     PARAM_LN1_W, l, dropout_at(m, RNG_DROP_RESIDUAL_MLP, l - 1));
    block_inner_forward(m, l);
    linear_forward(m, m->branch, TENSOR_NONE, a->fc, PARAM_FCPROJ_W, l, ACTIVATION_NONE);
}

static void embed_forward(Model *m) {
    const Tensor x = m->blocks[0].res1;
    OPS(m)->embed_forward(&m->cx, as_3d(m, x), param_weight(m, PARAM_WTE, 0),
                          param_weight(m, PARAM_WPE, 0), m->tokens, TENSOR_NONE);
    if (m->config.dropout > 0)
        OPS(m)->dropout_forward(&m->cx, x, x, dropout_at(m, RNG_DROP_EMBED, 0));
}

void model_forward(Model *m, bool gradient) {
    const int64_t last = m->config.layers - 1;
    embed_forward(m);
    for (int64_t l = 0; l <= last; l++) block_forward(m, l);
    norm_forward(m, m->res_final, m->lnf, m->meanf, m->rstdf, m->blocks[last].res2, m->branch,
                 PARAM_LNF_W, 0, dropout_at(m, RNG_DROP_RESIDUAL_MLP, last));
    OPS(m)->linear_forward(&m->cx, m->logits, TENSOR_NONE, m->lnf, param_weight(m, PARAM_WTE, 0),
                           TENSOR_NONE, ACTIVATION_NONE);
    OPS(m)->classifier(&m->cx, m->losses, gradient ? m->logits : TENSOR_NONE, m->logits, m->targets,
                       m->config.vocab, 0);
    OPS(m)->loss_sum(&m->cx, m->losses);
}

/* ---- backward ---- */

/* Gradient of a linear layer whose bias gradient another op has taken: dw, then dx. */
static void linear_backward(Model *m, Tensor dx, Tensor dy, Tensor x, ParamId w, int64_t l) {
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, w, l), TENSOR_NONE, dy, x);
    OPS(m)->linear_backward_input(&m->cx, dx, TENSOR_NONE, dy, param_weight(m, w, l), TENSOR_NONE,
                                  ACTIVATION_NONE);
}

/* Through a norm and the residual add before it. Returns the gradient of the branch that was added:
 * the stream's own gradient unless dropout masked the branch. `bias` is that branch's last bias. */
static Tensor norm_backward(Model *m, Tensor res, Tensor mean, Tensor rstd, ParamId w, int64_t l,
                            Tensor bias, Dropout drop) {
    const Tensor dbranch = drop.rate > 0 ? m->dbranch : TENSOR_NONE;
    OPS(m)->residual_norm_backward(&m->cx, m->dres, dbranch, param_grad(m, w, l),
                                   param_grad(m, w + 1, l), bias, m->dnorm, res, mean, rstd,
                                   param_weight(m, w, l), NORM_LAYER, drop);
    return drop.rate > 0 ? m->dbranch : m->dres;
}

/* What the forward pass did not keep. The branch before res1 is already in it. */
static void block_recompute(Model *m, int64_t l) {
    BlockActs *a = &m->blocks[l];
    if (m->use.recompute == RECOMPUTE_MLP) {
        OPS(m)->activation_forward(&m->cx, a->fc, a->fc_pre, ACTIVATION_GELU);
    } else if (m->use.recompute == RECOMPUTE_BLOCK) {
        norm_forward(m, TENSOR_NONE, a->ln1, a->mean1, a->rstd1, a->res1, TENSOR_NONE, PARAM_LN1_W,
                     l, DROPOUT_OFF);
        block_inner_forward(m, l);
    }
}

/* `dbranch` is the gradient of the MLP's output; returns that of the previous block's. */
static Tensor block_backward(Model *m, int64_t l, Tensor dbranch) {
    BlockActs *a = &m->blocks[l];
    block_recompute(m, l);

    /* MLP. The fc bias gradient comes out of the product that makes dfc. */
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, PARAM_FCPROJ_W, l), TENSOR_NONE, dbranch,
                                   a->fc);
    OPS(m)->linear_backward_input(&m->cx, m->dfc, param_grad(m, PARAM_FC_B, l), dbranch,
                                  param_weight(m, PARAM_FCPROJ_W, l), a->fc_pre, ACTIVATION_GELU);
    linear_backward(m, m->dnorm, m->dfc, a->ln2, PARAM_FC_W, l);
    dbranch =
        norm_backward(m, a->res2, a->mean2, a->rstd2, PARAM_LN2_W, l,
                      param_grad(m, PARAM_PROJ_B, l), dropout_at(m, RNG_DROP_RESIDUAL_ATT, l));

    /* Attention. dnorm holds the gradient of its output, later that of its input. */
    linear_backward(m, m->dnorm, dbranch, a->att, PARAM_PROJ_W, l);
    OPS(m)->attention_backward(&m->cx, as_3d(m, m->dqkv), param_grad(m, PARAM_QKV_B, l),
                               as_3d(m, m->dnorm), as_3d(m, a->att), as_3d(m, a->qkv), a->lse,
                               m->config.heads, m->config.heads,
                               dropout_at(m, RNG_DROP_ATTENTION, l));
    linear_backward(m, m->dnorm, m->dqkv, a->ln1, PARAM_QKV_W, l);
    const bool first = l == 0;
    return norm_backward(m, a->res1, a->mean1, a->rstd1, PARAM_LN1_W, l,
                         first ? TENSOR_NONE : param_grad(m, PARAM_FCPROJ_B, l - 1),
                         first ? DROPOUT_OFF : dropout_at(m, RNG_DROP_RESIDUAL_MLP, l - 1));
}

void model_backward(Model *m) {
    const int64_t last = m->config.layers - 1;
    linear_backward(m, m->dnorm, m->logits, m->lnf, PARAM_WTE, 0);
    m->backend->fill(m->backend, m->dres.data, 0, tensor_bytes(m->dres), m->cx.stream);
    Tensor dbranch = norm_backward(m, m->res_final, m->meanf, m->rstdf, PARAM_LNF_W, 0,
                                   param_grad(m, PARAM_FCPROJ_B, last),
                                   dropout_at(m, RNG_DROP_RESIDUAL_MLP, last));
    for (int64_t l = last; l >= 0; l--) dbranch = block_backward(m, l, dbranch);
    if (m->config.dropout > 0)
        OPS(m)->dropout_backward(&m->cx, m->dres, m->dres, dropout_at(m, RNG_DROP_EMBED, 0));
    OPS(m)->embed_backward(&m->cx, param_grad(m, PARAM_WTE, 0), param_grad(m, PARAM_WPE, 0),
                           as_3d(m, m->dres), m->tokens, m->order, m->starts);
}
