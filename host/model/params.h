/* Rows of the parameter table, for the passes of host/model. */
#pragma once
#include "model.h"

typedef enum ParamId {
    PARAM_WTE,
    PARAM_WPE,
    PARAM_LN1_W,
    PARAM_LN1_B,
    PARAM_QKV_W,
    PARAM_QKV_B,
    PARAM_PROJ_W,
    PARAM_PROJ_B,
    PARAM_LN2_W,
    PARAM_LN2_B,
    PARAM_FC_W,
    PARAM_FC_B,
    PARAM_FCPROJ_W,
    PARAM_FCPROJ_B,
    PARAM_LNF_W,
    PARAM_LNF_B,
    PARAM_LNE_W,
    PARAM_LNE_B,
    PARAM_HEAD,
    PARAM_FFN_EMBED,
    PARAM_FFN_INPUT_W,
    PARAM_FFN_INPUT_B,
    PARAM_FFN_HIDDEN_W,
    PARAM_FFN_HIDDEN_B,
    PARAM_FFN_OUTPUT_W,
    PARAM_FFN_OUTPUT_B,
    PARAM_RNN_EMBED,
    PARAM_RNN_INPUT_W,
    PARAM_RNN_HIDDEN_W,
    PARAM_RNN_STATE_W,
    PARAM_RNN_B,
    PARAM_RNN_OUTPUT_W,
    PARAM_RNN_OUTPUT_B,
    PARAM_WORDS
} ParamId;

/* Makes m->params, m->lookup from the table. */
void params_make(Model *m);

/* shard.c: parameters, gradients and moments in memory, and what each rank has of them. Plans them;
 * fills in what points into them after the commit; frees the lists. */
void shard_plan(Model *m);
void shard_commit(Model *m);
void shard_free(Model *m);
/* The backward pass has finished the gradients of this stage and those before: sums the buckets
 * that it has completed, if that was asked for. */
void shard_reduce_stage(Model *m, int stage);
/* The forward pass comes to the weights of this stage: waits for the buckets that begin to be used
 * there, see model_gather. It comes to all stages, the last first. */
void shard_wait_stage(const Model *m, int stage);
/* Stage of the parameters of layer l of L: 1 is the last layer's. 0 is what comes after the blocks,
 * L + 1 what comes before. */
static inline int shard_stage_of_layer(const Model *m, int64_t l) {
    return (int)(m->config.layers - l);
}
enum { REDUCE_OFF = INT32_MAX };

static inline const Param *param_find(const Model *m, ParamId id, int64_t layer) {
    return m->lookup[id * m->config.layers + layer];
}

/* The passes of a kind; model_forward and the others ask for those of the model's. */
typedef struct ModelPasses {
    void (*plan)(Model *);        /* buffers of forward and backward, but for the batch */
    void (*plan_decode)(Model *); /* those of decode */
    void (*forward)(Model *, bool gradient);
    void (*backward)(Model *);
    void (*decode)(Model *, const int32_t *tokens, int64_t n_rows, const int32_t *position);
} ModelPasses;
extern const ModelPasses gpt_passes, ffn_passes, skipgram_passes, rnn_passes;
static inline const ModelPasses *model_passes(const Model *m) {
    static const ModelPasses *const passes[] = {
        [MODEL_GPT] = &gpt_passes,
        [MODEL_FFN] = &ffn_passes,
        [MODEL_SKIPGRAM] = &skipgram_passes,
        [MODEL_RNN] = &rnn_passes,
        [MODEL_NGRAM] = &ffn_passes};
    return passes[m->config.kind];
}

/* The GPT's: plan.c, decode.c. */
void plan_gpt(Model *m);
void plan_gpt_decode(Model *m);
void decode_gpt(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position);

/* The weight as products read it, and its gradient; none if the model has no such parameter. */
static inline Tensor param_weight(const Model *m, ParamId id, int64_t layer) {
    const Param *p = param_find(m, id, layer);
    if (!p) return TENSOR_NONE;
    return p->w_act.data ? p->w_act : p->w;
}
static inline Tensor param_grad(const Model *m, ParamId id, int64_t layer) {
    const Param *p = param_find(m, id, layer);
    return p ? p->grad : TENSOR_NONE;
}

/* The weight that makes the logits: a tied head is the embedding. */
static inline ParamId param_head(const Model *m) {
    return m->config.untied ? PARAM_HEAD : PARAM_WTE;
}

/* What the ops are told of the configuration. */
static inline NormKind param_norm_kind(const ModelConfig *c) {
    return c->norm == NORMS_LAYERNORM ? NORM_LAYER : NORM_RMS;
}
static inline Activation param_activation(const ModelConfig *c) {
    return c->mlp == MLP_RELU2  ? ACTIVATION_RELU2
           : c->mlp == MLP_GELU ? ACTIVATION_GELU
                                : ACTIVATION_NONE;
}
static inline Rotation param_rotation(const ModelConfig *c) {
    const bool reversed = c->positions == POSITIONS_ROTARY_REVERSED;
    return (Rotation){.rotates = reversed || c->positions == POSITIONS_ROTARY,
                      .reversed = reversed,
                      .base = c->rope_base,
                      .eps = c->norm_eps};
}
/* Whether q and k pass through the rotation op. */
static inline bool param_turns(const ModelConfig *c) {
    return c->qk_norm || param_rotation(c).rotates;
}
