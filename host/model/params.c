/* The parameter table of the GPT, and everything that follows from it alone: counts and initial
 * values. Names and orientations on disk are Hugging Face's GPT-2, whose Conv1D layers store (in,
 * out). */
#include "params.h"
#include "rng.h"
#include <stdlib.h>
#include <string.h>

static int64_t n_vocab(const ModelConfig *c) { return model_vocab_padded(c); }
static int64_t n_context(const ModelConfig *c) { return c->context; }
static int64_t n_channels(const ModelConfig *c) { return c->channels; }
static int64_t n_qkv(const ModelConfig *c) { return 3 * c->channels; }
static int64_t n_hidden(const ModelConfig *c) { return c->hidden; }

#define LAYER .per_layer = true
#define LINEAR_WEIGHT .transposed = true, .decays = true
#define BIAS .is_bias = true, .init = INIT_ZERO

const ParamSpec param_specs[] = {
    [PARAM_WTE] = {"wte.weight", .per_token = true, .decays = true, .init = INIT_NORMAL,
                   .rows = n_vocab, .cols = n_channels},
    [PARAM_WPE] = {"wpe.weight", .decays = true, .is_lookup = true, .init = INIT_NORMAL,
                   .rows = n_context, .cols = n_channels},
    [PARAM_LN1_W] = {"h.%d.ln_1.weight", LAYER, .init = INIT_ONE, .rows = n_channels},
    [PARAM_LN1_B] = {"h.%d.ln_1.bias", LAYER, BIAS, .rows = n_channels},
    [PARAM_QKV_W] = {"h.%d.attn.c_attn.weight", LAYER, LINEAR_WEIGHT, .init = INIT_NORMAL,
                     .rows = n_qkv, .cols = n_channels},
    [PARAM_QKV_B] = {"h.%d.attn.c_attn.bias", LAYER, BIAS, .rows = n_qkv},
    [PARAM_PROJ_W] = {"h.%d.attn.c_proj.weight", LAYER, LINEAR_WEIGHT, .init = INIT_RESIDUAL,
                      .rows = n_channels, .cols = n_channels},
    [PARAM_PROJ_B] = {"h.%d.attn.c_proj.bias", LAYER, BIAS, .rows = n_channels},
    [PARAM_LN2_W] = {"h.%d.ln_2.weight", LAYER, .init = INIT_ONE, .rows = n_channels},
    [PARAM_LN2_B] = {"h.%d.ln_2.bias", LAYER, BIAS, .rows = n_channels},
    [PARAM_FC_W] = {"h.%d.mlp.c_fc.weight", LAYER, LINEAR_WEIGHT, .init = INIT_NORMAL,
                    .rows = n_hidden, .cols = n_channels},
    [PARAM_FC_B] = {"h.%d.mlp.c_fc.bias", LAYER, BIAS, .rows = n_hidden},
    [PARAM_FCPROJ_W] = {"h.%d.mlp.c_proj.weight", LAYER, LINEAR_WEIGHT, .init = INIT_RESIDUAL,
                        .rows = n_channels, .cols = n_hidden},
    [PARAM_FCPROJ_B] = {"h.%d.mlp.c_proj.bias", LAYER, BIAS, .rows = n_channels},
    [PARAM_LNF_W] = {"ln_f.weight", .init = INIT_ONE, .rows = n_channels},
    [PARAM_LNF_B] = {"ln_f.bias", BIAS, .rows = n_channels},
};
const int n_param_specs = (int)COUNT_OF(param_specs);

bool model_config_check(const ModelConfig *c, Error *e) {
    if (c->vocab < 1) return error_misuse(e, "--vocab-size", NULL, "the vocabulary is empty");
    if (c->heads < 1 || c->channels % c->heads)
        return error_misuse(e, "--heads", "Choose --channels as a multiple of --heads",
                            "%ld heads do not divide %ld channels", (long)c->heads,
                            (long)c->channels);
    return true;
}

static int64_t count_of(const ParamSpec *spec, const ModelConfig *c) {
    if (spec->is_bias && !c->bias) return 0;
    return param_live_rows(spec, c) * (spec->cols ? spec->cols(c) : 1) *
           (spec->per_layer ? c->layers : 1);
}

int64_t model_count_params(const ModelConfig *c) {
    int64_t n = 0;
    for (int i = 0; i < n_param_specs; i++) n += count_of(&param_specs[i], c);
    return n;
}

int64_t model_count_matmul_params(const ModelConfig *c) {
    int64_t n = 0;
    for (int i = 0; i < n_param_specs; i++)
        if (!param_specs[i].is_lookup) n += count_of(&param_specs[i], c);
    return n;
}

double model_flops_per_token(const ModelConfig *c, int64_t T) {
    return 6.0 * (double)model_count_matmul_params(c) +
           6.0 * (double)c->layers * (double)c->channels * (double)T;
}

void model_name_param(char *name, size_t size, const ParamSpec *spec, int64_t layer) {
    const char *number = strstr(spec->name, "%d");
    if (number)
        snprintf(name, size, "%.*s%ld%s", (int)(number - spec->name), spec->name, (long)layer,
                 number + 2);
    else
        snprintf(name, size, "%s", spec->name);
}

void params_make(Model *m) {
    const ModelConfig *c = &m->config;
    const int64_t layers = c->layers;
    m->params = calloc((size_t)(n_param_specs * layers), sizeof *m->params);
    m->lookup = calloc((size_t)(n_param_specs * layers), sizeof *m->lookup);
    CHECK(m->params && m->lookup, "no memory for a list of parameters");
    for (int i = 0; i < n_param_specs; i++) {
        const ParamSpec *spec = &param_specs[i];
        if (spec->is_bias && !c->bias) continue;
        for (int64_t layer = 0; layer < (spec->per_layer ? layers : 1); layer++) {
            Param *p = &m->params[m->n_params++];
            p->spec = spec;
            p->layer = spec->per_layer ? (int)layer : -1;
            model_name_param(p->name, sizeof p->name, spec, layer);
            m->lookup[i * layers + layer] = p;
        }
    }
}

static double initial_std(const ParamSpec *spec, const ModelConfig *c) {
    return spec->init == INIT_RESIDUAL ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02;
}

enum { INIT_CHUNK = 1 << 20 }; /* elements staged on the host at a time */

static void init_param(Model *m, Param *p, uint64_t seed, float *chunk) {
    const ParamSpec *spec = p->spec;
    const int64_t n = tensor_count(p->w), cols = n / p->w.dim[0];
    const int64_t n_used = param_live_rows(spec, &m->config) * cols;
    const int spec_number = (int)(spec - param_specs);
    const uint32_t site = rng_site(RNG_INIT, spec_number * 4096 + p->layer + 1);
    const double std = initial_std(spec, &m->config);
    for (int64_t first = 0; first < n; first += INIT_CHUNK) {
        const int64_t count = i64_min(INIT_CHUNK, n - first);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            const int64_t index = first + i;
            if (spec->init == INIT_ZERO || index >= n_used)
                chunk[i] = 0;
            else if (spec->init == INIT_ONE)
                chunk[i] = 1;
            else
                chunk[i] = (float)(std * rng_normal(seed, 0, site, (uint64_t)index));
        }
        model_write_param(m, p, first, count, chunk);
    }
}

void model_init(Model *m, uint64_t seed) {
    float *chunk = malloc(INIT_CHUNK * sizeof *chunk);
    CHECK(chunk, "no memory to stage initial values");
    for (int i = 0; i < m->n_params; i++) init_param(m, &m->params[i], seed, chunk);
    free(chunk);
    for (int c = ARENA_GRADIENTS; c <= ARENA_OPTIMISER; c++)
        if (m->arena.base[c])
            m->backend->fill(m->backend, m->arena.base[c], 0, m->arena.bytes[c], m->cx.stream);
}

const char *model_param_name(const Model *m, int number) {
    return number >= 0 && number < m->n_params ? m->params[number].name : "the loss";
}
