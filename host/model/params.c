/* The parameter table, and everything that follows from it alone: names, counts, FLOPs. A GPT's
 * names and orientations are those of Hugging Face's GPT-2, whose Conv1D layers store (in,
 * out), and of its NanoChat. */
#include "params.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t n_vocab(const ModelConfig *c) { return model_vocab_padded(c); }
static int64_t n_outputs(const ModelConfig *c) { return model_outputs_padded(c); }
static int64_t n_inputs(const ModelConfig *c) { /* ngram has no model_special */
    return c->vocab + (c->kind != MODEL_NGRAM);
}
static int64_t n_pairs(const ModelConfig *c) { return 2 * c->vocab; } /* see skipgram.c */
static int64_t n_context(const ModelConfig *c) { return c->context; }
static int64_t n_channels(const ModelConfig *c) { return c->channels; }
static int64_t n_hidden(const ModelConfig *c) { return c->hidden; }

static int64_t n_side_by_side(const ModelConfig *c) { return c->context * c->channels; }

static bool has_positions(const ModelConfig *c) { return c->positions == POSITIONS_LEARNED; }
static bool has_norm_weight(const ModelConfig *c) { return c->norm != NORMS_RMSNORM_PLAIN; }
static bool has_norm_bias(const ModelConfig *c) { return c->norm == NORMS_LAYERNORM && c->bias; }
static bool has_bias(const ModelConfig *c) { return c->bias; }
static bool has_head(const ModelConfig *c) { return c->untied; }
static bool has_embed_norm_weight(const ModelConfig *c) {
    return c->embed_norm && has_norm_weight(c);
}
static bool has_embed_norm_bias(const ModelConfig *c) { return c->embed_norm && has_norm_bias(c); }
static bool always(const ModelConfig *c) {
    (void)c;
    return true;
}

static int parts_qkv(const ModelConfig *c, int64_t rows[PARAM_PARTS_MAX]) {
    rows[0] = model_attention_width(c);
    rows[1] = rows[2] = model_kv_heads(c) * model_head_size(c);
    return 3;
}
static int parts_fc(const ModelConfig *c, int64_t rows[PARAM_PARTS_MAX]) {
    rows[0] = rows[1] = c->hidden;
    return c->mlp == MLP_SWIGLU ? 2 : 1;
}

#define LAYER .per_layer = true
#define HIDDEN_MATRIX LAYER, .transposed = true, .decays = true, .is_hidden = true
#define NORM_WEIGHT .init = INIT_ONE, .rows = n_channels, .exists = has_norm_weight
#define NORM_BIAS .is_bias = true, .rows = n_channels, .exists = has_norm_bias
#define FFN .kind = MODEL_FFN
#define RNN .kind = MODEL_RNN
#define BIAS LAYER, .is_bias = true, .exists = has_bias

/* A new row goes to the end: its number is part of what its initial values are a function of. */
const ParamSpec param_specs[] = {
    [PARAM_WTE] = {"wte.weight",
                   {"model.embed_tokens.weight"},
                   .per_token = true,
                   .decays = true,
                   .init = INIT_EMBEDDING,
                   .is_lookup = has_head,
                   .rows = n_vocab,
                   .cols = n_channels},
    [PARAM_WPE] = {"wpe.weight", .decays = true, .init = INIT_EMBEDDING, .exists = has_positions,
                   .is_lookup = always, .rows = n_context, .cols = n_channels},
    [PARAM_LN1_W] = {"h.%d.ln_1.weight", LAYER, NORM_WEIGHT},
    [PARAM_LN1_B] = {"h.%d.ln_1.bias", LAYER, NORM_BIAS},
    [PARAM_QKV_W] = {"h.%d.attn.c_attn.weight",
                     {"model.layers.%d.self_attn.q_proj.weight",
                      "model.layers.%d.self_attn.k_proj.weight",
                      "model.layers.%d.self_attn.v_proj.weight"},
                     HIDDEN_MATRIX,
                     .init = INIT_LINEAR,
                     .rows = model_qkv_width,
                     .cols = n_channels,
                     .parts = parts_qkv},
    [PARAM_QKV_B] = {"h.%d.attn.c_attn.bias", BIAS, .rows = model_qkv_width},
    [PARAM_PROJ_W] = {"h.%d.attn.c_proj.weight",
                      {"model.layers.%d.self_attn.o_proj.weight"},
                      HIDDEN_MATRIX,
                      .init = INIT_RESIDUAL,
                      .rows = n_channels,
                      .cols = model_attention_width},
    [PARAM_PROJ_B] = {"h.%d.attn.c_proj.bias", BIAS, .rows = n_channels},
    [PARAM_LN2_W] = {"h.%d.ln_2.weight", LAYER, NORM_WEIGHT},
    [PARAM_LN2_B] = {"h.%d.ln_2.bias", LAYER, NORM_BIAS},
    [PARAM_FC_W] = {"h.%d.mlp.c_fc.weight",
                    {"model.layers.%d.mlp.fc1.weight"},
                    HIDDEN_MATRIX,
                    .init = INIT_LINEAR,
                    .rows = model_fc_width,
                    .cols = n_channels,
                    .parts = parts_fc},
    [PARAM_FC_B] = {"h.%d.mlp.c_fc.bias", BIAS, .rows = model_fc_width},
    [PARAM_FCPROJ_W] = {"h.%d.mlp.c_proj.weight",
                        {"model.layers.%d.mlp.fc2.weight"},
                        HIDDEN_MATRIX,
                        .init = INIT_RESIDUAL,
                        .rows = n_channels,
                        .cols = n_hidden},
    [PARAM_FCPROJ_B] = {"h.%d.mlp.c_proj.bias", BIAS, .rows = n_channels},
    [PARAM_LNF_W] = {"ln_f.weight", NORM_WEIGHT},
    [PARAM_LNF_B] = {"ln_f.bias", NORM_BIAS},
    [PARAM_LNE_W] = {"ln_e.weight", .init = INIT_ONE, .rows = n_channels,
                     .exists = has_embed_norm_weight},
    [PARAM_LNE_B] = {"ln_e.bias", .is_bias = true, .rows = n_channels,
                     .exists = has_embed_norm_bias},
    [PARAM_HEAD] = {"lm_head.weight",
                    {"lm_head.weight"},
                    .per_output = true,
                    .decays = true,
                    .init = INIT_HEAD,
                    .exists = has_head,
                    .rows = n_outputs,
                    .cols = n_channels},
    [PARAM_FFN_EMBED] = {"embed.weight", FFN, .decays = true, .init = INIT_EMBEDDING,
                         .is_lookup = always, .rows = n_inputs, .cols = n_channels},
    [PARAM_FFN_INPUT_W] = {"hidden.0.weight", FFN, .transposed = true, .decays = true,
                           .is_hidden = true, .init = INIT_LINEAR, .rows = n_hidden,
                           .cols = n_side_by_side},
    [PARAM_FFN_INPUT_B] = {"hidden.0.bias", FFN, .rows = n_hidden},
    [PARAM_FFN_HIDDEN_W] = {"hidden.%d.weight", FFN, HIDDEN_MATRIX, .first_layer = 1,
                            .init = INIT_LINEAR, .rows = n_hidden, .cols = n_hidden},
    [PARAM_FFN_HIDDEN_B] = {"hidden.%d.bias", FFN, LAYER, .first_layer = 1, .rows = n_hidden},
    [PARAM_FFN_OUTPUT_W] = {"output.weight", FFN, .per_output = true, .transposed = true,
                            .decays = true, .init = INIT_HEAD, .rows = n_outputs, .cols = n_hidden},
    [PARAM_WORDS] = {"words.weight", .kind = MODEL_SKIPGRAM, .init = INIT_EMBEDDING,
                     .is_lookup = always, .rows = n_pairs, .cols = n_channels},
    [PARAM_FFN_OUTPUT_B] = {"output.bias", FFN, .per_output = true, .rows = n_outputs},
    [PARAM_RNN_EMBED] = {"embed.weight", RNN, .decays = true, .init = INIT_EMBEDDING,
                         .is_lookup = always, .rows = n_inputs, .cols = n_channels},
    [PARAM_RNN_INPUT_W] = {"rnn.0.W_xh", RNN, .transposed = true, .decays = true,
                           .is_hidden = true, .init = INIT_LINEAR, .rows = n_hidden,
                           .cols = n_channels},
    [PARAM_RNN_HIDDEN_W] = {"rnn.%d.W_xh", RNN, HIDDEN_MATRIX, .first_layer = 1,
                            .init = INIT_LINEAR, .rows = n_hidden, .cols = n_hidden},
    [PARAM_RNN_STATE_W] = {"rnn.%d.W_hh", RNN, HIDDEN_MATRIX, .init = INIT_LINEAR,
                           .rows = n_hidden, .cols = n_hidden},
    [PARAM_RNN_B] = {"rnn.%d.b_h", RNN, LAYER, .rows = n_hidden},
    [PARAM_RNN_OUTPUT_W] = {"W_ho", RNN, .per_output = true, .transposed = true, .decays = true,
                            .init = INIT_HEAD, .rows = n_outputs, .cols = n_hidden},
    [PARAM_RNN_OUTPUT_B] = {"b_o", RNN, .per_output = true, .rows = n_outputs},
};
const int n_param_specs = (int)COUNT_OF(param_specs);

int model_param_parts(const ParamSpec *spec, const ModelConfig *c, int64_t rows[PARAM_PARTS_MAX]) {
    if (spec->parts) return spec->parts(c, rows);
    rows[0] = param_live_rows(spec, c);
    return 1;
}

/* With the options' bounds, sizes of matrices and of what a pass keeps are then below 2^63. */
enum { HEADS_WIDTH_MAX = 1 << 20, WINDOW_WIDTH_MAX = 1 << 26 };

/* How q, k and v heads are cut. */
static bool check_heads(const ModelConfig *c, Error *e) {
    if (c->heads < 1 || (!c->head_size && c->channels % c->heads))
        return error_misuse(e, "--heads", "Choose --channels as a multiple of --heads",
                            "%ld heads do not divide %ld channels", (long)c->heads,
                            (long)c->channels);
    if (c->kv_heads < 0 || c->heads % model_kv_heads(c))
        return error_misuse(e, "--kv-heads", "Choose --heads as a multiple of --kv-heads",
                            "%ld key-value heads do not divide %ld heads", (long)c->kv_heads,
                            (long)c->heads);
    if (model_attention_width(c) > HEADS_WIDTH_MAX)
        return error_misuse(e, "--head-size", "Choose a smaller one",
                            "%ld heads of %ld are too wide", (long)c->heads,
                            (long)model_head_size(c));
    const bool rotates =
        c->positions == POSITIONS_ROTARY || c->positions == POSITIONS_ROTARY_REVERSED;
    if ((rotates || c->qk_norm) && model_head_size(c) % 2)
        return error_misuse(e, "--heads", "Choose --channels as an even multiple of --heads",
                            "%s an even head size, not %ld",
                            rotates ? "rotary positions need" : "QK-norm needs",
                            (long)model_head_size(c));
    return true;
}

bool model_config_check(const ModelConfig *c, Error *e) {
    if (c->vocab < 1) return error_misuse(e, "--vocab-size", NULL, "the vocabulary is empty");
    if (c->kind != MODEL_GPT && c->mlp == MLP_SWIGLU)
        return error_misuse(e, "--activation", "Use gelu or relu2",
                            "only a transformer has a gate beside its layers for SwiGLU");
    if (!isfinite(c->softcap) || c->softcap < 0)
        return error_misuse(e, "--softcap", "15 is usual; 0 turns it off",
                            "the soft-cap must be a number above 0, not %g", c->softcap);
    if (c->kind == MODEL_NGRAM && c->classes != 2)
        return error_misuse(e, "--model", NULL, "a model of kind ngram has 2 classes, not %ld",
                            (long)c->classes);
    if (c->kind == MODEL_GPT && c->classes && !c->untied)
        return error_misuse(e, "--tie-embeddings", "Use --no-tie-embeddings",
                            "the logits of classes cannot have the embedding's weights");
    const bool windows = c->kind == MODEL_FFN || c->kind == MODEL_NGRAM;
    if (windows && c->context * c->channels > WINDOW_WIDTH_MAX)
        return error_misuse(e, "--context", "Choose a smaller one, or fewer --channels",
                            "a window of %ld embeddings of %ld is too wide for one layer",
                            (long)c->context, (long)c->channels);
    return c->kind != MODEL_GPT || check_heads(c, e);
}

static int64_t count_of(const ParamSpec *spec, const ModelConfig *c) {
    if (!param_exists(spec, c)) return 0;
    return param_live_rows(spec, c) * (spec->cols ? spec->cols(c) : 1) *
           (param_end_layer(spec, c) - spec->first_layer);
}

int64_t model_count_params(const ModelConfig *c) {
    int64_t n = 0;
    for (int i = 0; i < n_param_specs; i++) n += count_of(&param_specs[i], c);
    return n;
}

int64_t model_count_matmul_params(const ModelConfig *c) {
    int64_t n = 0;
    for (int i = 0; i < n_param_specs; i++) {
        const ParamSpec *spec = &param_specs[i];
        if (!spec->is_lookup || !spec->is_lookup(c)) n += count_of(spec, c);
    }
    return n;
}

double model_flops_per_token(const ModelConfig *c, int64_t T) {
    const double products = 6.0 * (double)model_count_matmul_params(c);
    if (c->kind != MODEL_GPT) return products;
    return products +
           6.0 * (double)c->layers * (double)model_attention_width(c) * (double)T;
}

void model_name_param(char *name, size_t size, const char *pattern, int64_t layer) {
    const char *number = strstr(pattern, "%d");
    if (number)
        snprintf(name, size, "%.*s%ld%s", (int)(number - pattern), pattern, (long)layer,
                 number + 2);
    else
        snprintf(name, size, "%s", pattern);
}

void params_make(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t layers = c->layers;
    m->params = calloc((size_t)(n_param_specs * layers), sizeof *m->params);
    m->lookup = calloc((size_t)(n_param_specs * layers), sizeof *m->lookup);
    CHECK(m->params && m->lookup, "no memory for a list of parameters");
    for (int i = 0; i < n_param_specs; i++) {
        const ParamSpec *spec = &param_specs[i];
        if (!param_exists(spec, c)) continue;
        for (int64_t layer = spec->first_layer; layer < param_end_layer(spec, c); layer++) {
            Param *p = &m->params[m->n_params++];
            p->spec = spec;
            p->layer = spec->per_layer ? (int)layer : -1;
            model_name_param(p->name, sizeof p->name, spec->name, layer);
            m->lookup[i * layers + layer] = p;
        }
    }
}

const Param *model_embedding(const Model *m) {
    for (int i = 0; i < m->n_params; i++)
        if (m->params[i].spec->init == INIT_EMBEDDING) return &m->params[i];
    return NULL;
}

Param *model_find_param(const Model *m, const ParamSpec *spec, int layer) {
    for (int i = 0; i < m->n_params; i++)
        if (m->params[i].spec == spec && m->params[i].layer == layer) return &m->params[i];
    return NULL;
}

const char *model_param_name(const Model *m, int number) {
    const Partition *p = &m->partition;
    if (number < 0) return "the loss";
    const int most = partition_most_slices(p), rank = number / most;
    CHECK(rank < p->ranks, "slice %d", number);
    return m->params[p->slices[p->first_slice[rank] + number % most].item].name;
}
