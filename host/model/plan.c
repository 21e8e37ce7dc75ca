/* Memory of a model: every buffer named once, then committed in one go. */
#include "params.h"
#include <stdlib.h>
#include <string.h>

static void plan_act(Model *m, Tensor *slot, const char *name, int64_t cols) {
    ARENA_ADD(&m->arena, slot, name, ARENA_ACTIVATIONS, m->backend->compute, m->use.B * m->use.T,
              cols);
}

static void plan_rows(Model *m, Tensor *slot, const char *name) {
    ARENA_ADD(&m->arena, slot, name, ARENA_ACTIVATIONS, m->backend->master, m->use.B * m->use.T);
}

/* A norm's statistics: LayerNorm has a mean beside the reciprocal standard deviation. */
static void plan_norm(Model *m, Tensor *mean, Tensor *rstd) {
    if (param_norm_kind(&m->config) == NORM_LAYER) plan_rows(m, mean, "statistics");
    plan_rows(m, rstd, "statistics");
}

/* What block_forward makes, res1 and the activation's output aside. */
static void plan_block(Model *m, BlockActs *a) {
    const ModelConfig *c = &m->config;
    plan_act(m, &a->ln1, "norm 1", c->channels);
    plan_norm(m, &a->mean1, &a->rstd1);
    plan_act(m, &a->qkv, "qkv", model_qkv_width(c));
    if (c->qk_norm)
        ARENA_ADD(&m->arena, &a->qk_rstd, "statistics", ARENA_ACTIVATIONS, m->backend->master,
                  m->use.B * m->use.T, c->heads + model_kv_heads(c));
    plan_act(m, &a->att, "attention", model_attention_width(c));
    ARENA_ADD(&m->arena, &a->lse, "statistics", ARENA_ACTIVATIONS, m->backend->master, m->use.B,
              c->heads, m->use.T);
    plan_act(m, &a->res2, "residual 2", c->channels);
    plan_act(m, &a->ln2, "norm 2", c->channels);
    plan_norm(m, &a->mean2, &a->rstd2);
    plan_act(m, &a->fc_pre, "before activation", model_fc_width(c));
}

/* Blocks whose own copy of everything (`all`), of the residual input, of the activation's output is
 * kept. The others use block 0's slot, see share_blocks. */
static void plan_blocks(Model *m) {
    const ModelConfig *c = &m->config;
    const bool all = m->use.training ? m->use.recompute != RECOMPUTE_BLOCK : m->use.keep_blocks;
    const bool fc = m->use.training && m->use.recompute == RECOMPUTE_NONE;
    m->blocks = calloc((size_t)c->layers, sizeof *m->blocks);
    CHECK(m->blocks, "no memory for %ld blocks", (long)c->layers);
    for (int64_t l = 0; l < c->layers; l++) {
        BlockActs *a = &m->blocks[l];
        if (l == 0 || m->use.training) plan_act(m, &a->res1, "residual 1", c->channels);
        if (l == 0 || all) plan_block(m, a);
        if (l == 0 || fc) plan_act(m, &a->fc, "after activation", c->hidden);
    }
}

/* After the commit: slots that were not planned point at block 0's. */
static void share_blocks(Model *m) {
    for (int64_t l = 1; l < m->config.layers; l++) {
        BlockActs own = m->blocks[l], *a = &m->blocks[l];
        const BlockActs *first = &m->blocks[0];
        if (!own.ln1.data) *a = *first;
        a->res1 = own.res1.data ? own.res1 : first->res1;
        a->fc = own.fc.data ? own.fc : first->fc;
    }
}

static void plan_batch(Model *m) {
    const int64_t B = m->use.B, T = m->use.T;
    Arena *a = &m->arena;
    ARENA_ADD(a, &m->tokens, "batch", ARENA_ACTIVATIONS, DTYPE_I32, B, T);
    ARENA_ADD(a, &m->targets, "batch", ARENA_ACTIVATIONS, DTYPE_I32,
              model_row_targets(&m->config) == 1 ? B : B * T);
    ARENA_ADD(a, &m->order, "batch", ARENA_ACTIVATIONS, DTYPE_I32, B * T);
    ARENA_ADD(a, &m->starts, "batch", ARENA_ACTIVATIONS, DTYPE_I32, B * T + 1);
}

void plan_gpt(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t Vp = model_outputs_padded(c);
    if (c->embed_norm) {
        plan_act(m, &m->embedded, "embedding", c->channels);
        plan_norm(m, &m->mean_embed, &m->rstd_embed);
    }
    plan_blocks(m);
    plan_act(m, &m->branch, "residual branch", c->channels);
    plan_act(m, &m->res_final, "residual, last", c->channels);
    plan_act(m, &m->lnf, "norm, last", c->channels);
    plan_norm(m, &m->meanf, &m->rstdf);
    plan_act(m, &m->logits, "logits", Vp);
    plan_rows(m, &m->losses, "statistics");
    if (!m->use.training) return;
    plan_act(m, &m->dres, "gradients of a block", c->channels);
    if (c->dropout > 0) plan_act(m, &m->dbranch, "gradients of a block", c->channels);
    plan_act(m, &m->dnorm, "gradients of a block", c->channels);
    if (model_attention_width(c) != c->channels) /* else it is dnorm, see model_commit */
        plan_act(m, &m->datt, "gradients of a block", model_attention_width(c));
    plan_act(m, &m->dqkv, "gradients of a block", model_qkv_width(c));
    plan_act(m, &m->dfc, "gradients of a block", c->hidden);
    if (c->mlp == MLP_SWIGLU) plan_act(m, &m->dgate, "gradients of a block", model_fc_width(c));
}

static void plan_cache(Model *m) {
    const ModelConfig *c = &m->config;
    m->k_cache = calloc((size_t)c->layers, sizeof *m->k_cache);
    m->v_cache = calloc((size_t)c->layers, sizeof *m->v_cache);
    CHECK(m->k_cache && m->v_cache, "no memory for %ld layers", (long)c->layers);
    for (int64_t l = 0; l < c->layers; l++)
        for (int v = 0; v < 2; v++)
            ARENA_ADD(&m->arena, v ? &m->v_cache[l] : &m->k_cache[l], "key-value cache",
                      ARENA_ACTIVATIONS, m->backend->compute, m->use.decode_batch,
                      model_kv_heads(c), c->context, model_head_size(c));
}

void plan_gpt_decode(Model *m) {
    const ModelConfig *c = &m->config;
    const DType act = m->backend->compute, master = m->backend->master;
    const int64_t B = m->use.decode_batch, n = B * m->use.decode_rows, C = c->channels;
    const char *name = "decode";
    Arena *a = &m->arena;
    BlockActs *d = &m->decode_block;
    plan_cache(m);
    ARENA_ADD(a, &m->decode_tokens, name, ARENA_ACTIVATIONS, DTYPE_I32, B, m->use.decode_rows);
    ARENA_ADD(a, &m->decode_position, name, ARENA_ACTIVATIONS, DTYPE_I32, B);
    ARENA_ADD(a, &m->decode_res, name, ARENA_ACTIVATIONS, act, n, C);
    ARENA_ADD(a, &m->decode_branch, name, ARENA_ACTIVATIONS, act, n, C);
    ARENA_ADD(a, &d->ln1, name, ARENA_ACTIVATIONS, act, n, C);
    ARENA_ADD(a, &d->mean1, name, ARENA_ACTIVATIONS, master, n);
    ARENA_ADD(a, &d->rstd1, name, ARENA_ACTIVATIONS, master, n);
    ARENA_ADD(a, &d->qkv, name, ARENA_ACTIVATIONS, act, n, model_qkv_width(c));
    if (c->qk_norm)
        ARENA_ADD(a, &d->qk_rstd, name, ARENA_ACTIVATIONS, master, n, c->heads + model_kv_heads(c));
    ARENA_ADD(a, &d->att, name, ARENA_ACTIVATIONS, act, n, model_attention_width(c));
    if (c->mlp == MLP_SWIGLU)
        ARENA_ADD(a, &d->fc_pre, name, ARENA_ACTIVATIONS, act, n, model_fc_width(c));
    ARENA_ADD(a, &d->fc, name, ARENA_ACTIVATIONS, act, n, c->hidden);
    ARENA_ADD(a, &m->decode_last, name, ARENA_ACTIVATIONS, act, B, C);
    ARENA_ADD(a, &m->decode_logits, name, ARENA_ACTIVATIONS, act, B, model_outputs_padded(c));
}

/* Columns and outputs of the linear layers of every kind of model. */
enum { LINEAR_SHAPES = 5 };
static void linear_shapes(const ModelConfig *c, int64_t list[LINEAR_SHAPES][2]) {
    const int64_t C = c->channels, Vp = model_outputs_padded(c);
    const int64_t gpt[LINEAR_SHAPES][2] = {{C, model_qkv_width(c)},
                                           {model_attention_width(c), C},
                                           {C, model_fc_width(c)},
                                           {c->hidden, C},
                                           {C, Vp}};
    const int64_t ffn[LINEAR_SHAPES][2] = {
        {c->context * C, c->hidden}, {c->hidden, c->hidden}, {c->hidden, Vp}, {C, C}, {C, C}};
    const int64_t rnn[LINEAR_SHAPES][2] = {
        {C, c->hidden}, {c->hidden, c->hidden}, {c->hidden, Vp}, {C, C}, {C, C}};
    const bool feeds = c->kind == MODEL_FFN || c->kind == MODEL_NGRAM;
    memcpy(list, feeds ? ffn : c->kind == MODEL_RNN ? rnn : gpt, sizeof gpt);
}

/* The largest scratch that any op of a pass over B x T rows asks for. */
static int64_t scratch_of_pass(const Model *m, int64_t B, int64_t T) {
    const ModelConfig *c = &m->config;
    const int64_t Vp = model_outputs_padded(c), C = c->channels;
    const OpShape base = {.B = B,
                          .T = T,
                          .C = C,
                          .H = c->heads,
                          .K = model_kv_heads(c),
                          .D = model_head_size(c),
                          .V = model_outputs(c),
                          .Vp = Vp};
    int64_t linear[LINEAR_SHAPES][2], most = 0;
    linear_shapes(c, linear);
    for (int op = 0; op < OP_KINDS; op++)
        for (int64_t i = 0; i < LINEAR_SHAPES; i++) {
            const bool recurs = op == OP_RECURRENCE_FORWARD || op == OP_RECURRENCE_BACKWARD;
            if (op == OP_MUON || (recurs && c->kind != MODEL_RNN))
                continue; /* no pass calls it; see scratch_of_muon */
            OpShape shape = base;
            shape.C = linear[i][0];
            shape.O = linear[i][1];
            const Ops *ops = m->backend->ops;
            most = i64_max(most, ops->scratch((OpKind)op, &shape, &m->backend->properties));
        }
    return most;
}

/* Muon's matrices of R rows and C columns: each part of a packed matrix is one of its own. */
static int64_t count_muon(const Model *m, int64_t R, int64_t C) {
    int64_t n = 0, rows[PARAM_PARTS_MAX];
    for (int i = 0; i < n_param_specs; i++) {
        const ParamSpec *spec = &param_specs[i];
        if (!spec->is_hidden || !param_exists(spec, &m->config) || spec->cols(&m->config) != C)
            continue;
        for (int k = model_param_parts(spec, &m->config, rows) - 1; k >= 0; k--)
            if (rows[k] == R) n += param_end_layer(spec, &m->config) - spec->first_layer;
    }
    return n;
}

/* Muon takes all matrices of a shape at once. */
static int64_t scratch_of_muon(const Model *m) {
    int64_t most = 0, rows[PARAM_PARTS_MAX];
    for (int i = 0; i < n_param_specs; i++) {
        if (!param_specs[i].is_hidden || !param_exists(&param_specs[i], &m->config)) continue;
        const int64_t C = param_specs[i].cols(&m->config);
        for (int k = model_param_parts(&param_specs[i], &m->config, rows) - 1; k >= 0; k--) {
            const OpShape shape = {.B = count_muon(m, rows[k], C), .O = rows[k], .C = C};
            const Backend *b = m->backend;
            most = i64_max(most, b->ops->scratch(OP_MUON, &shape, &b->properties));
        }
    }
    return most;
}

void model_plan(Model *m, const ModelConfig *config, const ModelUse *use, Backend *backend) {
    *m = (Model){.config = *config, .use = *use, .backend = backend};
    m->arena.own = backend->properties.memory_own;
    params_make(m);
    shard_plan(m);
    ARENA_ADD(&m->arena, &m->step_params, "step", ARENA_SCRATCH, DTYPE_U8, sizeof(StepParams));
    ARENA_ADD(&m->arena, &m->step_result, "step", ARENA_SCRATCH, DTYPE_U8, sizeof(StepResult));
    int64_t scratch = 0;
    if (use->B) {
        plan_batch(m);
        model_passes(m)->plan(m);
        scratch = scratch_of_pass(m, use->B, use->T);
    }
    if (use->decode_batch) {
        model_passes(m)->plan_decode(m);
        const int64_t decode = scratch_of_pass(m, use->decode_batch, use->decode_rows);
        scratch = i64_max(scratch, decode);
    }
    if (use->training && use->muon) scratch = i64_max(scratch, scratch_of_muon(m));
    if (scratch) ARENA_ADD(&m->arena, &m->scratch, "scratch", ARENA_SCRATCH, DTYPE_U8, scratch);
}

bool model_commit(Model *m, Error *e) {
    if (!arena_commit(&m->arena, m->backend, e)) return false;
    if (m->blocks) share_blocks(m);
    if (!m->datt.data) m->datt = m->dnorm;
    m->cx = (OpContext){.backend = m->backend,
                        .stream = m->backend->stream_create(m->backend),
                        .params = m->step_params.data,
                        .result = m->step_result.data,
                        .scratch = m->scratch.data,
                        .scratch_bytes = m->scratch.data ? m->scratch.dim[0] : 0};
    shard_commit(m);
    return true;
}

void model_free(Model *m) {
    Backend *b = m->backend;
    if (m->micro_step.graph) b->graph_destroy(b, m->micro_step.graph);
    if (m->micro_last.graph) b->graph_destroy(b, m->micro_last.graph);
    if (m->update_step.graph) b->graph_destroy(b, m->update_step.graph);
    if (m->cx.stream) b->stream_destroy(b, m->cx.stream);
    shard_free(m);
    arena_free(&m->arena);
    free(m->params);
    free(m->lookup);
    free(m->blocks);
    free(m->hidden);
    free(m->hidden_pre);
    free(m->decode_history);
    free(m->decode_hidden);
    free(m->k_cache);
    free(m->v_cache);
    *m = (Model){0};
}
