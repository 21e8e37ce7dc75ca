/* The model: one parameter table, a memory plan, and explicit forward, backward and decode passes.
 * host/model/gpt.c, ffn.c, rnn.c and skipgram.c hold the passes of a kind, params.c the table,
 * init.c the first weights, plan.c and shard.c the memory. */
#pragma once
#include "arena.h"
#include "ops.h"
#include "partition.h"

/* What the model is.
 *   gpt  a transformer, host/model/gpt.c
 *   ffn  the next token from a fixed number of tokens before it (Bengio and others 2003), ffn.c
 *   skipgram  no language model, but a vector for each word (Mikolov and others 2013), skipgram.c
 *   rnn  the next token from a state that each token changes (Elman 1990), rnn.c
 *   ngram  no language model, but whether `context` words stand together in a text, or the middle
 *          one was put there at random (Collobert and Weston 2008): ffn's layers, and the classes
 *          0, no, and 1, yes */
typedef enum ModelKind { MODEL_GPT, MODEL_FFN, MODEL_SKIPGRAM, MODEL_RNN, MODEL_NGRAM } ModelKind;

/* What tells a position from another. Rotary is Llama's sign, reversed NanoChat's (see ops.h). */
typedef enum Positions {
    POSITIONS_LEARNED,
    POSITIONS_ROTARY,
    POSITIONS_ROTARY_REVERSED,
    POSITIONS_NONE
} Positions;

/* The norms of the residual stream; RMSNorm with or without a weight. */
typedef enum NormLayers { NORMS_LAYERNORM, NORMS_RMSNORM, NORMS_RMSNORM_PLAIN } NormLayers;

typedef enum MlpKind { MLP_GELU, MLP_RELU2, MLP_SWIGLU } MlpKind;

/* Initial weights, see init.c. */
typedef enum InitRecipe { RECIPE_GPT2, RECIPE_MODERN } InitRecipe;

/* The architecture. Everything that a checkpoint's config.json says about shapes and functions. */
typedef struct ModelConfig {
    int64_t vocab;   /* tokens that exist */
    /* Most positions at once; ffn: tokens that it reads; rnn: steps that training goes back. */
    int64_t context;
    /* Blocks; ffn, rnn: hidden layers, `hidden` wide each, on an embedding of `channels`. */
    int64_t layers, heads, channels;
    int64_t hidden;  /* width of the MLP: GPT-2's is 4 * channels */
    bool bias;       /* biases in linear layers (not the head) and LayerNorms */
    double norm_eps; /* of all norms: 1e-5 in GPT-2, 1e-6 in NanoChat */
    double dropout;  /* embedding, attention, residual branches; ffn: embedding */

    /* What follows is GPT-2 where it is zero. */
    ModelKind kind;
    int64_t kv_heads;  /* key-value heads; 0: as many as heads */
    int64_t head_size; /* 0: channels / heads */
    Positions positions;
    double rope_base; /* of rotary positions */
    bool qk_norm;     /* RMSNorm without weight on each head of q and k, after the rotation */
    NormLayers norm;
    bool embed_norm; /* a norm between the embedding and the first block */
    MlpKind mlp;
    bool untied;     /* the head has weights of its own; tied: those of the embedding */
    double softcap;  /* logits become c tanh(logits / c); 0: off */
    int64_t classes; /* outputs, where they are no tokens; 0: a logit a token. Untied then */
    InitRecipe init; /* read by model_init alone: a checkpoint does not know it */
} ModelConfig;

/* An input that is no token of the text, the row after the vocabulary's last: ffn's <PAD>, what
 * fills a context that is not full; rnn's <START>, what comes before the first token. Never a
 * target. */
static inline int32_t model_special(const ModelConfig *c) { return (int32_t)c->vocab; }
/* Targets of a row of `context` tokens. */
static inline int64_t model_row_targets(const ModelConfig *c) {
    return c->kind == MODEL_GPT || c->kind == MODEL_RNN ? c->context : 1;
}
/* Whether decoding goes on for ever; a GPT reads its last half context again, see generate.h. */
static inline bool model_endless(const ModelConfig *c) { return c->kind != MODEL_GPT; }
static inline int64_t model_kv_heads(const ModelConfig *c) {
    return c->kv_heads ? c->kv_heads : c->heads;
}
static inline int64_t model_head_size(const ModelConfig *c) {
    return c->head_size ? c->head_size : c->channels / c->heads;
}
/* Columns of packed q, k, v: R of ops.h. */
static inline int64_t model_qkv_width(const ModelConfig *c) {
    return (c->heads + 2 * model_kv_heads(c)) * model_head_size(c);
}
/* Columns of what attention returns: H*D. */
static inline int64_t model_attention_width(const ModelConfig *c) {
    return c->heads * model_head_size(c);
}
/* Columns that the MLP's first matrix makes: SwiGLU has a gate beside them. */
static inline int64_t model_fc_width(const ModelConfig *c) {
    return c->mlp == MLP_SWIGLU ? 2 * c->hidden : c->hidden;
}

/* Vocabulary rows in memory: rounded up, so that products and vectors are aligned. Rows beyond
 * `vocab` are zero, get no gradient, and are stripped on disk. */
enum { VOCAB_PADDING = 64 };
static inline int64_t model_vocab_padded(const ModelConfig *c) {
    return i64_round_up(c->vocab, VOCAB_PADDING);
}
/* Logits of a row, and the columns that they have in memory. */
static inline int64_t model_outputs(const ModelConfig *c) {
    return c->classes ? c->classes : c->vocab;
}
static inline int64_t model_outputs_padded(const ModelConfig *c) {
    return i64_round_up(model_outputs(c), VOCAB_PADDING);
}

/* False with a Misuse error if no such model can be built: heads that do not divide channels,
 * key-value heads that do not divide heads, an odd head size with rotary positions, a soft-cap
 * below 0 or not finite, ... */
bool model_config_check(const ModelConfig *c, Error *e);

/* ---- the parameter table ---- */

typedef enum ParamInit {
    INIT_ZERO,
    INIT_ONE,
    INIT_EMBEDDING,
    INIT_LINEAR,
    INIT_RESIDUAL, /* the output projections of the residual branches */
    INIT_HEAD
} ParamInit;

/* Row blocks of a packed matrix: q, k, v, or SwiGLU's gate and up. */
enum { PARAM_PARTS_MAX = 3 };

/* One row per kind of parameter; the only list of parameters there is. Allocation, initialisation,
 * files, optimiser groups, counts and tests iterate it. */
typedef struct ParamSpec {
    const char *name; /* ours, and on disk in GPT-2's layout; %d is the layer */
    /* On disk in NanoChat's layout: a name for each part, (out, in). NULL: it has no such one. */
    const char *nanochat[PARAM_PARTS_MAX];
    ModelKind kind; /* of the models that have it */
    bool per_layer;
    int first_layer; /* per layer: those before have none */
    bool per_token;  /* a row a token: padded in memory, see VOCAB_PADDING */
    bool per_output; /* a row a logit: padded likewise */
    bool transposed; /* in GPT-2's layout (in, out); in memory always (out, in) */
    bool is_bias;    /* in GPT-2's layout zero where the model has none: no option there */
    bool decays;     /* AdamW's weight decay: matrices and embeddings */
    bool is_hidden;  /* a hidden matrix: Muon's, where that is the optimiser; else AdamW's */
    ParamInit init;
    bool (*exists)(const ModelConfig *);    /* NULL: in every model */
    bool (*is_lookup)(const ModelConfig *); /* only looked up: no FLOPs; NULL: never */
    int64_t (*rows)(const ModelConfig *);   /* in memory, vocabulary padding included */
    int64_t (*cols)(const ModelConfig *);   /* NULL: a vector */
    /* Rows of each part, which are matrices of their own to Muon and in NanoChat's layout; returns
     * how many. NULL: one. */
    int (*parts)(const ModelConfig *, int64_t rows[PARAM_PARTS_MAX]);
} ParamSpec;

extern const ParamSpec param_specs[];
extern const int n_param_specs;

static inline bool param_is_padded(const ParamSpec *spec) {
    return spec->per_token || spec->per_output;
}
/* Rows that exist: all but the padding. */
static inline int64_t param_live_rows(const ParamSpec *spec, const ModelConfig *c) {
    return spec->per_output ? model_outputs(c) : spec->per_token ? c->vocab : spec->rows(c);
}
/* Whether a model has it. */
static inline bool param_exists(const ParamSpec *spec, const ModelConfig *c) {
    const ModelKind kind = c->kind == MODEL_NGRAM ? MODEL_FFN : c->kind; /* the same layers */
    return spec->kind == kind && (!spec->exists || spec->exists(c));
}
/* One after the last layer that has it; a parameter of no layer counts as that of layer 0. */
static inline int64_t param_end_layer(const ParamSpec *spec, const ModelConfig *c) {
    return spec->per_layer ? c->layers : 1;
}
/* The rows that exist, cut into the parts; returns how many. */
int model_param_parts(const ParamSpec *spec, const ModelConfig *c, int64_t rows[PARAM_PARTS_MAX]);
/* A name of the table, with the layer's number where that has %d. */
void model_name_param(char *name, size_t size, const char *pattern, int64_t layer);

/* One tensor of a model. */
typedef struct Param {
    const ParamSpec *spec;
    int layer; /* -1 if not per layer */
    char name[64];
    int64_t offset; /* in Model.flat_w and its like, elements */
    Tensor w;     /* master weights, f32; without data where other ranks have a part of them */
    Tensor w_act; /* the copy that products read, where act is not f32; else none */
    Tensor grad;  /* f32; training only */
    Tensor m, v;  /* AdamW's moments, or Muon's momentum in m alone; f32; training only; none where
                     other ranks have a part of them, see ParamSlice */
} Param;

/* What one rank updates of a parameter: elements [first, first + count), or all of it in its shape.
 * m, v as above; none where another rank alone keeps them. */
typedef struct ParamSlice {
    const Param *param;
    int64_t first, count;
    Tensor w, w_act, grad, m, v;
} ParamSlice;

/* Parameters: the vocabulary without its padding. */
int64_t model_count_params(const ModelConfig *c);
/* The same without what is only looked up, positions and an untied embedding: the N of FLOPs per
 * token. A tied embedding counts once, as the head. */
int64_t model_count_matmul_params(const ModelConfig *c);
/* Training FLOPs per target at context T: 6N, a GPT's + 6*L*H*D*T (attention halved for
 * causality). */
double model_flops_per_token(const ModelConfig *c, int64_t T);

/* ---- a model in memory ---- */

typedef enum Recompute { RECOMPUTE_NONE, RECOMPUTE_MLP, RECOMPUTE_BLOCK } Recompute;

typedef struct ModelUse {
    int64_t B, T;         /* of one pass */
    bool training;        /* plan gradients, moments and all that backward needs */
    bool muon;            /* training: Muon for the hidden matrices, AdamW for the rest */
    Recompute recompute;  /* training: which activations are made again */
    bool keep_blocks;     /* not training: each block has activations of its own, to be looked at */
    int64_t decode_batch; /* sequences of the KV cache; 0: no decoding */
    int64_t decode_rows;  /* most new rows a sequence in one decode pass (prompt block) */
    int64_t ranks, rank;  /* training: that share the batch; 0 ranks: one, alone */
    bool zero;            /* training: each rank keeps moments, and masters of which there is a
                             copy, of its own slices alone (ZeRO-1) */
    int64_t bucket_bytes; /* of gradients that the ranks sum at a time */
    bool graph; /* where the back end captures: replay passes as graphs, see model_micro_step */
} ModelUse;

/* Activations of one block, (B,T,..) act unless said. What is shared between layers is only valid
 * until the next block runs. */
typedef struct BlockActs {
    Tensor res1;              /* residual stream before attention (C) */
    Tensor ln1, mean1, rstd1; /* (C); (B*T) f32; no mean with RMSNorm */
    Tensor qkv, qk_rstd;      /* (R), rotated and normed; (B*T, H+K) f32, QK-norm only */
    Tensor att, lse;          /* (H*D); (B,H,T) f32 */
    Tensor res2;              /* residual stream before the MLP (C) */
    Tensor ln2, mean2, rstd2;
    Tensor fc_pre, fc; /* before the activation (hidden; SwiGLU 2*hidden), and after (hidden) */
} BlockActs;

/* Work that a back end that captures records once and then replays. */
typedef struct Replay {
    int64_t calls;
    Graph *graph; /* NULL until it was captured */
} Replay;

enum { MODEL_MARKS = 2 };
typedef struct Model {
    ModelConfig config;
    ModelUse use;
    Backend *backend;
    Arena arena;
    Param *params;
    int n_params;

    /* Batch on the device, filled by the caller before a pass: i32 (B,T), targets, (N), (N+1);
     * targets (B,T), ffn's (B); rnn's tokens and targets lie (T,B), see LoaderConfig. */
    Tensor tokens, targets, order, starts;
    Tensor step_params, step_result;       /* StepParams, StepResult as bytes (u8) */

    Tensor embedded, mean_embed, rstd_embed; /* (C), before the embedding's norm; statistics */
    BlockActs *blocks;                       /* layers of them */
    Tensor branch; /* (B,T,C): output of a residual branch, shared by all */
    Tensor res_final, lnf, meanf, rstdf;
    Tensor logits, losses; /* (targets, outputs padded) act; (targets) f32 */
    Tensor dres, dbranch, dnorm, datt, dqkv, dfc; /* gradients, shared by all blocks */
    Tensor dgate;                                 /* of SwiGLU's gate and up (2*hidden) */

    /* ffn and rnn: the embedding, and a gradient as large; of each hidden layer what comes before
     * and after its activation; gradients of two of those. */
    Tensor x, dx;
    Tensor *hidden_pre, *hidden;
    Tensor dhidden[2];
    Tensor carry; /* rnn: each layer's states at the end of the last pass (layers * B, hidden) */

    /* Decoding. */
    Tensor *k_cache, *v_cache;             /* per layer (decode_batch, K, context, D) */
    Tensor decode_tokens, decode_position; /* (decode_batch, decode_rows), (decode_batch) i32 */
    BlockActs decode_block;
    Tensor decode_res, decode_branch;
    Tensor decode_last, decode_logits; /* of each sequence's last row: normed (C), logits */
    Tensor *decode_hidden;   /* rnn: of each layer the states before and after a step */
    int32_t *decode_history; /* ffn: the last `context` tokens of each sequence, on the host */

    Tensor scratch; /* bytes, for the op that needs most */
    OpContext cx;   /* with the model's own stream */
    Replay micro_step, micro_last, update_step;
    /* All weights, their compute copy and all gradients, each as one array, see partition.h; the
     * parameters above lie in them. */
    Tensor flat_w, flat_act, flat_grad;
    Partition partition;
    const struct Labels *labels; /* names of the classes, or NULL; the caller's */
    ParamSlice *slices;  /* those of the partition, in its order */
    Tensor grad_flags;   /* (slices of this rank) i32 */
    Tensor rank_results; /* (ranks) StepResult as bytes */
    Stream *rank_stream; /* of the ranks' collectives */
    Event *final, *reduced; /* gradients of a bucket, or all weights, are; all have been summed */
    Event **gathered; /* use.zero: of each stage of model_gather */
    int32_t *marks; /* pinned, MODEL_MARKS: the last step of which the first bucket, and all
                       gradients, were there; for dist_watch_device */
    int reduced_stage; /* buckets up to this stage have been summed; REDUCE_OFF: not this time */

    Param **lookup;    /* [spec * layers + layer]: the parameter, or NULL if the model has none */
    Tensor *grad_list; /* gradients of this rank's slices, for grad_norm */
    MuonMatrix *muon_list; /* what Muon updates; those of one shape lie side by side */
    int64_t n_muon;
} Model;

/* Whether Muon updates it; else AdamW. */
static inline bool param_by_muon(const Model *m, const Param *p) {
    return m->use.muon && p->spec->is_hidden;
}

/* Names every buffer; allocates only the host-side lists. */
void model_plan(Model *m, const ModelConfig *config, const ModelUse *use, Backend *backend);
/* Commits the arena. */
bool model_commit(Model *m, Error *e);
/* Frees arena and lists. */
void model_free(Model *m);

/* Weights from the table's init column: a pure function of seed. Moments and gradients zero. */
void model_init(Model *m, uint64_t seed);

/* Copies this pass's values to the device. */
void model_set_step(Model *m, const StepParams *p);

/* Forward over m->tokens; with targets, losses, and result->loss accumulate too. With `gradient`,
 * logits are overwritten by their gradient, ready for model_backward. */
void model_forward(Model *m, bool gradient);
/* Backward from the logits' gradient; parameter gradients accumulate. */
void model_backward(Model *m);
/* Constants of the optimisers. Muon's are read if the model's use says muon. */
typedef struct Optimiser {
    AdamW adamw;
    Muon muon;
} Optimiser;

/* Forward and backward of a micro-batch; model_update. With use.graph the first call of a process
 * runs eagerly, as the back end makes its choices then, the second is captured, and from then on
 * the graph is replayed: the same work and the same bits without the cost of a launch per op. What
 * changes from step to step is read from step_params, so `constants` must stay the same. */
void model_micro_step(Model *m);
/* The same for a step's last micro-batch: with ranks, model_reduce begins as soon as the backward
 * pass has finished a bucket. */
void model_micro_last(Model *m);
void model_update_step(Model *m, const Optimiser *constants);
/* The parts of these two that need other ranks, and do nothing without. Sums the gradients, each
 * rank those of its slices, which others then have too unless use.zero. */
void model_reduce(Model *m);
/* Brings the slices that were updated here to all ranks, if use.zero: under the next forward pass,
 * each layer of which waits for its own. */
void model_gather(Model *m);
/* Later work of the model's stream waits for all of it. All that is declared here and uses weights
 * does so itself; use of the tensors directly does not. */
void model_wait_gather(const Model *m);
/* Where ranks share out the master weights too, as they do with a compute copy and use.zero, brings
 * all of them together for a save, in the place of the gradients, which are lost. Collective. */
void model_gather_masters(Model *m);
/* A parameter's master weights; with use.zero valid on all ranks after model_gather_masters. */
Tensor model_master(const Model *m, const Param *p);
/* rnn: the next pass starts from states of zeros, as at a text's beginning. */
void model_reset_carry(Model *m);
/* Puts the carried states aside, for passes over another text, and back; NULL where there are none.
 * model_restore_carry frees what model_save_carry returns. */
void *model_save_carry(const Model *m);
void model_restore_carry(Model *m, void *saved);
/* Zeroes gradients and the step result, ahead of the first micro-batch. */
void model_begin_step(Model *m);
/* Gradient norm, finite check, clip factor, then every parameter by its optimiser. With ranks the
 * first three are those of all, and so is the loss. */
void model_update(Model *m, const Optimiser *constants);
/* The table with a row for each token, first thing that the model looks up; NULL: it has none. */
const Param *model_embedding(const Model *m);
/* The parameter of a row of the table and a layer (-1: per no layer), or NULL. */
Param *model_find_param(const Model *m, const ParamSpec *spec, int layer);
/* Name of the parameter that first_bad numbers: rank r's slice i is r * most slices + i. */
const char *model_param_name(const Model *m, int number);

/* Feeds `n_rows` tokens a sequence ((decode_batch, n_rows) from host memory) at position[b], and
 * copies the last row's logits of each sequence ((decode_batch, outputs) float) to the host. What
 * ffn and rnn remember begins anew at position 0. */
void model_decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position,
                  float *logits);

/* Sets elements [first, first + n) of a parameter, master and compute copy, from host floats. */
void model_write_param(Model *m, Param *p, int64_t first, int64_t n, const float *values);

/* Host copies between a tensor and host memory, whatever the back end. */
void model_read(const Model *m, Tensor t, void *host);
void model_write(Model *m, Tensor t, const void *host);
/* A float tensor of any dtype, converted to and from host floats. */
void model_read_f32(const Model *m, Tensor t, float *host);
void model_write_f32(Model *m, Tensor t, const float *host);
