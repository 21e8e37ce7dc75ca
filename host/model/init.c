/* Initial values of weights. */
#include "params.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>

/* GPT-2's (Radford and others 2019): 0.02, and 0.02/sqrt(2L) where a branch enters the residual
 * stream. The modern recipe: matrices 1/sqrt(C), branches and an untied head begin at zero; an
 * embedding of 1, or 1/sqrt(C) where it is the head too. Models that are no GPT: one over the root
 * of the terms of a sum, and an embedding of 1. Skip-gram's vectors begin so near to 0 that
 * every score is about 0; those of ngram and classifiers near enough that vectors of rare words are
 * learned, not noise. */
static double initial_std(const ParamSpec *spec, const ModelConfig *c) {
    if (c->kind == MODEL_SKIPGRAM) return 1 / (double)c->channels;
    if (c->classes && c->kind != MODEL_GPT && spec->init == INIT_EMBEDDING) return 0.1;
    if (c->kind != MODEL_GPT)
        return !spec->cols ? 0 : spec->init == INIT_EMBEDDING ? 1 : 1 / sqrt((double)spec->cols(c));
    if (c->init == RECIPE_GPT2)
        return spec->init == INIT_RESIDUAL ? 0.02 / sqrt(2.0 * (double)c->layers) : 0.02;
    if (spec->init == INIT_RESIDUAL || spec->init == INIT_HEAD) return 0;
    return spec->init == INIT_EMBEDDING && c->untied ? 1 : 1 / sqrt((double)c->channels);
}

enum { INIT_CHUNK = 1 << 20 }; /* elements staged on the host at a time */

static void init_param(Model *m, Param *p, uint64_t seed, float *chunk) {
    const ParamSpec *spec = p->spec;
    const int64_t n = tensor_count(p->w), cols = n / p->w.dim[0];
    const int64_t n_used = param_live_rows(spec, &m->config) * cols;
    const int spec_number = (int)(spec - param_specs);
    const uint32_t site = rng_site(RNG_INIT, spec_number * 4096 + p->layer + 1);
    const double std = initial_std(spec, &m->config);
    const bool zero = spec->init == INIT_ZERO || std == 0;
    for (int64_t first = 0; first < n; first += INIT_CHUNK) {
        const int64_t count = i64_min(INIT_CHUNK, n - first);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            const int64_t index = first + i;
            if (zero || index >= n_used)
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
    for (int c = ARENA_GRADIENTS; c <= ARENA_OPTIMISER; c++)
        if (m->arena.base[c])
            m->backend->fill(m->backend, m->arena.base[c], 0, m->arena.bytes[c], m->cx.stream);
    for (int i = 0; i < m->n_params; i++) init_param(m, &m->params[i], seed, chunk);
    free(chunk);
}
