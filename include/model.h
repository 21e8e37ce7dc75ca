/* The model: one parameter table, a memory plan, and explicit forward, backward and decode passes.
 * host/model/gpt.c holds the passes, params.c the table, plan.c the memory. */
#pragma once
#include "arena.h"
#include "ops.h"

/* GPT-2's architecture. Everything that a checkpoint's config.json says about shapes. */
typedef struct ModelConfig {
    int64_t vocab;   /* tokens that exist */
    int64_t context; /* most positions at once */
    int64_t layers, heads, channels;
    int64_t hidden;  /* width of the MLP: 4 * channels */
    bool bias;       /* biases in linear layers and norms */
    double norm_eps; /* 1e-5 */
    double dropout;  /* embedding, attention, residual branches */
} ModelConfig;

/* Vocabulary rows in memory: rounded up, so that products and vectors are aligned. Rows beyond
 * `vocab` are zero, get no gradient, and are stripped on disk. */
enum { VOCAB_PADDING = 64 };
static inline int64_t model_vocab_padded(const ModelConfig *c) {
    return i64_round_up(c->vocab, VOCAB_PADDING);
}

/* False with a Misuse error if no such model can be built (heads do not divide channels, ...). */
bool model_config_check(const ModelConfig *c, Error *e);

/* ---- the parameter table ---- */

typedef enum ParamInit {
    INIT_ZERO,
    INIT_ONE,
    INIT_NORMAL,  /* N(0, 0.02^2) */
    INIT_RESIDUAL /* N(0, (0.02/sqrt(2 L))^2): the output projections of the residual branches */
} ParamInit;

/* One row per kind of parameter; the only list of parameters there is. Allocation, initialisation,
 * files, optimiser groups, counts and tests iterate it. */
typedef struct ParamSpec {
    const char *name; /* on disk; %d is the layer */
    bool per_layer;
    bool per_token;  /* a row a token: padded in memory, see VOCAB_PADDING */
    bool transposed; /* on disk (in, out); in memory always (out, in) */
    bool is_bias;    /* absent without config.bias; on disk zero then: GPT-2 has no such option */
    bool decays;     /* AdamW's weight decay: matrices and embeddings */
    bool is_lookup;  /* rows are looked up by position: left out of FLOPs */
    ParamInit init;
    int64_t (*rows)(const ModelConfig *); /* in memory, vocabulary padding included */
    int64_t (*cols)(const ModelConfig *); /* NULL: a vector */
} ParamSpec;

extern const ParamSpec param_specs[];
extern const int n_param_specs;

/* Rows that exist: all but the vocabulary's padding. */
static inline int64_t param_live_rows(const ParamSpec *spec, const ModelConfig *c) {
    return spec->per_token ? c->vocab : spec->rows(c);
}
/* The name on disk, with the layer's number where the table has %d. */
void model_name_param(char *name, size_t size, const ParamSpec *spec, int64_t layer);

/* One tensor of a model. */
typedef struct Param {
    const ParamSpec *spec;
    int layer;     /* -1 if not per layer */
    char name[64]; /* on disk */
    Tensor w;      /* master weights, f32 */
    Tensor w_act;  /* the copy that products read, where act is not f32; else none */
    Tensor grad;   /* f32; training only */
    Tensor m, v;   /* AdamW moments, f32; training only */
} Param;

/* Parameters: the vocabulary without its padding, biases only if the model has them. */
int64_t model_count_params(const ModelConfig *c);
/* The same without the position lookup: the N of FLOPs per token. The tied embedding counts
 * once. */
int64_t model_count_matmul_params(const ModelConfig *c);
/* Training FLOPs per token at context T: 6N + 6*L*C*T (attention halved for causality). */
double model_flops_per_token(const ModelConfig *c, int64_t T);

/* ---- a model in memory ---- */

typedef enum Recompute { RECOMPUTE_NONE, RECOMPUTE_MLP, RECOMPUTE_BLOCK } Recompute;

typedef struct ModelUse {
    int64_t B, T;         /* of one pass */
    bool training;        /* plan gradients, moments and all that backward needs */
    Recompute recompute;  /* training: which activations are made again */
    int64_t decode_batch; /* sequences of the KV cache; 0: no decoding */
    int64_t decode_rows;  /* most new rows a sequence in one decode pass (prompt block) */
    bool graph; /* where the back end captures: replay passes as graphs, see model_micro_step */
} ModelUse;

/* Activations of one block, (B,T,..) act unless said. What is shared between layers is only valid
 * until the next block runs. */
typedef struct BlockActs {
    Tensor res1;              /* residual stream before attention (C) */
    Tensor ln1, mean1, rstd1; /* (C); (B*T) f32 */
    Tensor qkv, att, lse;     /* (3C); (C); (B,H,T) f32 */
    Tensor res2;              /* residual stream before the MLP (C) */
    Tensor ln2, mean2, rstd2;
    Tensor fc_pre, fc; /* before and after GELU (hidden) */
} BlockActs;

/* Work that a back end that captures records once and then replays. */
typedef struct Replay {
    int64_t calls;
    Graph *graph; /* NULL until it was captured */
} Replay;

typedef struct Model {
    ModelConfig config;
    ModelUse use;
    Backend *backend;
    Arena arena;
    Param *params;
    int n_params;

    /* Batch on the device, filled by the caller before a pass. */
    Tensor tokens, targets, order, starts; /* i32 (B,T), (B,T), (N), (N+1) */
    Tensor step_params, step_result;       /* StepParams, StepResult as bytes (u8) */

    BlockActs *blocks; /* layers of them */
    Tensor branch;     /* (B,T,C): output of a residual branch, shared by all */
    Tensor res_final, lnf, meanf, rstdf;
    Tensor logits, losses;                  /* (B*T, Vp) act; (B*T) f32 */
    Tensor dres, dbranch, dnorm, dqkv, dfc; /* gradients, shared by all blocks */
    Tensor grad_flags;                      /* (n_params) i32 */

    /* Decoding. */
    Tensor *k_cache, *v_cache;             /* per layer (decode_batch, H, context, D) */
    Tensor decode_tokens, decode_position; /* (decode_batch, decode_rows), (decode_batch) i32 */
    BlockActs decode_block;
    Tensor decode_res, decode_branch, decode_logits; /* logits (decode_batch, Vp) of the last row */

    Tensor scratch; /* bytes, for the op that needs most */
    OpContext cx;   /* with the model's own stream */
    Replay micro_step, update_step;
    Param **lookup;    /* [spec * layers + layer]: the parameter, or NULL if the model has none */
    Tensor *grad_list; /* every grad, for grad_norm */
} Model;

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
/* Forward and backward of a micro-batch; model_update. With use.graph the first call of a process
 * runs eagerly, as the back end makes its choices then, the second is captured, and from then on
 * the graph is replayed: the same work and the same bits without the cost of a launch per op. What
 * changes from step to step is read from step_params, so `constants` must stay the same. */
void model_micro_step(Model *m);
void model_update_step(Model *m, const AdamW *constants);
/* Zeroes gradients and the step result, ahead of the first micro-batch. */
void model_begin_step(Model *m);
/* Gradient norm, finite check, clip factor, AdamW on every parameter. */
void model_update(Model *m, const AdamW *constants);
/* Reads the step result to the host (waits for the stream). */
StepResult model_result(Model *m);
/* Name of the parameter that first_bad numbers. */
const char *model_param_name(const Model *m, int number);

/* Feeds `n_rows` tokens a sequence ((decode_batch, n_rows) from host memory) at position[b], and
 * copies the last row's logits of each sequence ((decode_batch, vocab) float) to the host. */
void model_decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position,
                  float *logits);

/* Sets elements [first, first + n) of a parameter, master and compute copy, from host floats. */
void model_write_param(Model *m, Param *p, int64_t first, int64_t n, const float *values);

/* Host copies between a tensor and host memory, whatever the back end. */
void model_read(const Model *m, Tensor t, void *host);
void model_write(Model *m, Tensor t, const void *host);
/* A float tensor of any dtype, converted to host floats. */
void model_read_f32(const Model *m, Tensor t, float *host);
