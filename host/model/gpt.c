/* The GPT's forward and backward passes, written out: one block a screen.
 *
 *   x = wte[tokens] + wpe, or norm(wte[tokens])
 *   per block:  x += attention(norm(x));  x += mlp(norm(x))
 *   logits = norm(x) head^T
 *
 * What a model has not (learned positions, biases, weights of norms) is an absent operand; rotation
 * with QK-norm and SwiGLU are ops of their own beside those that GPT-2 has.
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
                                  param_weight(m, w + 1, l), param_norm_kind(&m->config),
                                  m->config.norm_eps, drop);
}

static void linear_forward(Model *m, Tensor y, Tensor aux, Tensor x, ParamId w, int64_t l,
                           Activation activation) {
    OPS(m)->linear_forward(&m->cx, y, aux, x, param_weight(m, w, l), param_weight(m, w + 1, l),
                           activation);
}

/* From the first norm's output to that of attention. */
static void attention_forward(Model *m, int64_t l) {
    const ModelConfig *c = &m->config;
    const BlockActs *a = &m->blocks[l];
    const Tensor qkv = as_3d(m, a->qkv);
    linear_forward(m, a->qkv, TENSOR_NONE, a->ln1, PARAM_QKV_W, l, ACTIVATION_NONE);
    if (param_turns(c))
        OPS(m)->rotate_forward(&m->cx, qkv, a->qk_rstd, TENSOR_NONE, c->heads, model_kv_heads(c),
                               param_rotation(c));
    OPS(m)->attention_forward(&m->cx, as_3d(m, a->att), a->lse, qkv, c->heads, model_kv_heads(c),
                              dropout_at(m, RNG_DROP_ATTENTION, l));
}

/* From the second norm's output to the MLP's activations. */
static void mlp_forward(Model *m, int64_t l) {
    const BlockActs *a = &m->blocks[l];
    if (m->config.mlp == MLP_SWIGLU) {
        linear_forward(m, a->fc_pre, TENSOR_NONE, a->ln2, PARAM_FC_W, l, ACTIVATION_NONE);
        OPS(m)->swiglu_forward(&m->cx, a->fc, a->fc_pre);
    } else {
        linear_forward(m, a->fc, a->fc_pre, a->ln2, PARAM_FC_W, l, param_activation(&m->config));
    }
}

/* Everything of block l after its first norm, up to the MLP's activations. */
static void block_inner_forward(Model *m, int64_t l) {
    const BlockActs *a = &m->blocks[l];
    attention_forward(m, l);
    linear_forward(m, m->branch, TENSOR_NONE, a->att, PARAM_PROJ_W, l, ACTIVATION_NONE);
    norm_forward(m, a->res2, a->ln2, a->mean2, a->rstd2, a->res1, m->branch, PARAM_LN2_W, l,
                 dropout_at(m, RNG_DROP_RESIDUAL_ATT, l));
    mlp_forward(m, l);
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
    const Tensor x = m->blocks[0].res1, embedded = m->config.embed_norm ? m->embedded : x;
    OPS(m)->embed_forward(&m->cx, as_3d(m, embedded), param_weight(m, PARAM_WTE, 0),
                          param_weight(m, PARAM_WPE, 0), m->tokens, TENSOR_NONE);
    if (m->config.embed_norm)
        norm_forward(m, TENSOR_NONE, x, m->mean_embed, m->rstd_embed, embedded, TENSOR_NONE,
                     PARAM_LNE_W, 0, DROPOUT_OFF);
    if (m->config.dropout > 0)
        OPS(m)->dropout_forward(&m->cx, x, x, dropout_at(m, RNG_DROP_EMBED, 0));
}

static void forward(Model *m, bool gradient) {
    const int64_t last = m->config.layers - 1;
    shard_wait_stage(m, shard_stage_of_layer(m, -1));
    embed_forward(m);
    for (int64_t l = 0; l <= last; l++) {
        shard_wait_stage(m, shard_stage_of_layer(m, l));
        block_forward(m, l);
    }
    shard_wait_stage(m, 0);
    norm_forward(m, m->res_final, m->lnf, m->meanf, m->rstdf, m->blocks[last].res2, m->branch,
                 PARAM_LNF_W, 0, dropout_at(m, RNG_DROP_RESIDUAL_MLP, last));
    OPS(m)->linear_forward(&m->cx, m->logits, TENSOR_NONE, m->lnf,
                           param_weight(m, param_head(m), 0), TENSOR_NONE, ACTIVATION_NONE);
    OPS(m)->classifier(&m->cx, m->losses, gradient ? m->logits : TENSOR_NONE, m->logits, m->targets,
                       model_outputs(&m->config), m->config.softcap);
    OPS(m)->loss_sum(&m->cx, m->losses);
}

/* ---- backward ---- */

/* Gradient of a linear layer: dw, then dx. `dbias` is none where another op takes it. */
static void linear_backward(Model *m, Tensor dx, Tensor dy, Tensor x, ParamId w, Tensor dbias,
                            int64_t l) {
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, w, l), dbias, dy, x);
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
                                   param_weight(m, w, l), param_norm_kind(&m->config), drop);
    return drop.rate > 0 ? m->dbranch : m->dres;
}

/* What the forward pass did not keep. The branch before res1 is already in it. A product that
 * rounds its result for aux applies GELU before that, so only it can make the same bits again. */
static void block_recompute(Model *m, int64_t l) {
    BlockActs *a = &m->blocks[l];
    if (m->use.recompute == RECOMPUTE_MLP) {
        if (m->config.mlp == MLP_GELU && m->backend->compute != m->backend->master)
            mlp_forward(m, l);
        else if (m->config.mlp == MLP_SWIGLU)
            OPS(m)->swiglu_forward(&m->cx, a->fc, a->fc_pre);
        else
            OPS(m)->activation_forward(&m->cx, a->fc, a->fc_pre, param_activation(&m->config));
    } else if (m->use.recompute == RECOMPUTE_BLOCK) {
        norm_forward(m, TENSOR_NONE, a->ln1, a->mean1, a->rstd1, a->res1, TENSOR_NONE, PARAM_LN1_W,
                     l, DROPOUT_OFF);
        block_inner_forward(m, l);
    }
}

/* From the gradient of the MLP's output to dnorm, that of its input. The bias gradient of fc comes
 * out of the product that makes dfc, or with SwiGLU of the one that reads its gradient. */
static void mlp_backward(Model *m, int64_t l, Tensor dbranch) {
    const BlockActs *a = &m->blocks[l];
    const Tensor bias = param_grad(m, PARAM_FC_B, l);
    const Tensor w = param_weight(m, PARAM_FCPROJ_W, l);
    OPS(m)->linear_backward_weight(&m->cx, param_grad(m, PARAM_FCPROJ_W, l), TENSOR_NONE, dbranch,
                                   a->fc);
    if (m->config.mlp == MLP_SWIGLU) {
        OPS(m)->linear_backward_input(&m->cx, m->dfc, TENSOR_NONE, dbranch, w, TENSOR_NONE,
                                      ACTIVATION_NONE);
        OPS(m)->swiglu_backward(&m->cx, m->dgate, m->dfc, a->fc_pre);
        linear_backward(m, m->dnorm, m->dgate, a->ln2, PARAM_FC_W, bias, l);
    } else {
        OPS(m)->linear_backward_input(&m->cx, m->dfc, bias, dbranch, w, a->fc_pre,
                                      param_activation(&m->config));
        linear_backward(m, m->dnorm, m->dfc, a->ln2, PARAM_FC_W, TENSOR_NONE, l);
    }
}

/* From the gradient of the attention branch to dnorm, that of its input. The bias gradient of qkv
 * comes from the last op that changes dqkv. */
static void attention_backward(Model *m, int64_t l, Tensor dbranch) {
    const ModelConfig *c = &m->config;
    const BlockActs *a = &m->blocks[l];
    const Tensor bias = param_grad(m, PARAM_QKV_B, l), qkv = as_3d(m, a->qkv);
    const Tensor dqkv = as_3d(m, m->dqkv);
    const bool turns = param_turns(c);
    linear_backward(m, m->datt, dbranch, a->att, PARAM_PROJ_W, TENSOR_NONE, l);
    OPS(m)->attention_backward(&m->cx, dqkv, turns ? TENSOR_NONE : bias, as_3d(m, m->datt),
                               as_3d(m, a->att), qkv, a->lse, c->heads, model_kv_heads(c),
                               dropout_at(m, RNG_DROP_ATTENTION, l));
    if (turns)
        OPS(m)->rotate_backward(&m->cx, dqkv, bias, qkv, a->qk_rstd, c->heads, model_kv_heads(c),
                                param_rotation(c));
    linear_backward(m, m->dnorm, m->dqkv, a->ln1, PARAM_QKV_W, TENSOR_NONE, l);
}

/* `dbranch` is the gradient of the MLP's output; returns that of the previous block's. */
static Tensor block_backward(Model *m, int64_t l, Tensor dbranch) {
    const BlockActs *a = &m->blocks[l];
    block_recompute(m, l);
    mlp_backward(m, l, dbranch);
    dbranch =
        norm_backward(m, a->res2, a->mean2, a->rstd2, PARAM_LN2_W, l,
                      param_grad(m, PARAM_PROJ_B, l), dropout_at(m, RNG_DROP_RESIDUAL_ATT, l));
    attention_backward(m, l, dbranch);
    const bool first = l == 0;
    return norm_backward(m, a->res1, a->mean1, a->rstd1, PARAM_LN1_W, l,
                         first ? TENSOR_NONE : param_grad(m, PARAM_FCPROJ_B, l - 1),
                         first ? DROPOUT_OFF : dropout_at(m, RNG_DROP_RESIDUAL_MLP, l - 1));
}

/* From dres, the gradient of the stream's start. The norm adds into a gradient, so it gets a clear
 * one: dnorm, which nothing reads any more. */
static void embed_backward(Model *m) {
    Tensor dx = m->dres;
    if (m->config.dropout > 0)
        OPS(m)->dropout_backward(&m->cx, dx, dx, dropout_at(m, RNG_DROP_EMBED, 0));
    if (m->config.embed_norm) {
        dx = m->dnorm;
        m->backend->fill(m->backend, dx.data, 0, tensor_bytes(dx), m->cx.stream);
        OPS(m)->residual_norm_backward(
            &m->cx, dx, TENSOR_NONE, param_grad(m, PARAM_LNE_W, 0), param_grad(m, PARAM_LNE_B, 0),
            TENSOR_NONE, m->dres, m->embedded, m->mean_embed, m->rstd_embed,
            param_weight(m, PARAM_LNE_W, 0), param_norm_kind(&m->config), DROPOUT_OFF);
    }
    OPS(m)->embed_backward(&m->cx, param_grad(m, PARAM_WTE, 0), param_grad(m, PARAM_WPE, 0),
                           as_3d(m, dx), m->tokens, m->order, m->starts);
}

static void backward(Model *m) {
    const int64_t last = m->config.layers - 1;
    linear_backward(m, m->dnorm, m->logits, m->lnf, param_head(m), TENSOR_NONE, 0);
    m->backend->fill(m->backend, m->dres.data, 0, tensor_bytes(m->dres), m->cx.stream);
    Tensor dbranch = norm_backward(m, m->res_final, m->meanf, m->rstdf, PARAM_LNF_W, 0,
                                   param_grad(m, PARAM_FCPROJ_B, last),
                                   dropout_at(m, RNG_DROP_RESIDUAL_MLP, last));
    shard_reduce_stage(m, 0);
    for (int64_t l = last; l >= 0; l--) {
        dbranch = block_backward(m, l, dbranch);
        shard_reduce_stage(m, shard_stage_of_layer(m, l));
    }
    embed_backward(m);
}

const ModelPasses gpt_passes = {plan_gpt, plan_gpt_decode, forward, backward, decode_gpt};
