/* What the model tests share: back ends, small models, batches, steps, and values as double. */
#pragma once
#include "model.h"
#include "rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* NanoChat's blocks, beside their sizes and the soft-cap. */
#define LAB_NANOCHAT                                                                               \
    .norm_eps = 1e-6, .positions = POSITIONS_ROTARY_REVERSED, .rope_base = 10000, .qk_norm = true, \
    .norm = NORMS_RMSNORM_PLAIN, .embed_norm = true, .mlp = MLP_RELU2, .untied = true

static inline void lab_log(int level, const char *text) {
    if (level > 1) fprintf(stderr, "# %s\n", text);
}

static inline void lab_fatal(const char *text) {
    fprintf(stderr, "# %s\n", text);
    abort();
}

/* The cpu back end on `threads` threads, in f32 or in its double build. One at a time. */
static inline void lab_backend(Backend *b, bool f64, int threads) {
    static HostServices host;
    host = (HostServices){.n_ranks = 1, .n_threads = threads, .log = lab_log, .fatal = lab_fatal};
    Error e = {0};
    if (!(f64 ? backend_open_cpu_f64(b, &host, &e) : backend_open_cpu(b, &host, &e)))
        fail_msg("%s", e.text);
}

static inline void lab_open(Model *m, Backend *b, const ModelConfig *config, const ModelUse *use) {
    Error e = {0};
    model_plan(m, config, use, b);
    if (!model_commit(m, &e)) fail_msg("%s", e.text);
}

static inline void lab_close(Model *m) {
    Backend *b = m->backend;
    model_free(m);
    b->close(b);
}

/* A tensor's values on the host; the caller frees them. */
static inline void *lab_bytes(const Model *m, Tensor t) {
    void *data = malloc((size_t)tensor_bytes(t) + 1);
    model_read(m, t, data);
    return data;
}

static inline double *lab_values(const Model *m, Tensor t) {
    const int64_t n = tensor_count(t);
    double *out = malloc(sizeof(double) * (size_t)n + 1);
    void *raw = lab_bytes(m, t);
    for (int64_t i = 0; i < n; i++)
        out[i] = t.dtype == DTYPE_F64 ? ((double *)raw)[i] : (double)((float *)raw)[i];
    free(raw);
    return out;
}

static inline void lab_set(Model *m, Tensor t, const double *values) {
    if (t.dtype == DTYPE_F64) {
        model_write(m, t, values);
        return;
    }
    const int64_t n = tensor_count(t);
    float *rounded = malloc(sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++) rounded[i] = (float)values[i];
    model_write(m, t, rounded);
    free(rounded);
}

/* ||a - b|| / ||b||; NaN anywhere gives NaN, which no bound passes. */
static inline double lab_error(const double *a, const double *b, int64_t n) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(difference) / fmax(sqrt(size), 1e-300);
}

#define ASSERT_BELOW(what, error, bound)                                                           \
    do {                                                                                           \
        const double below_error = (error), below_bound = (bound);                                 \
        if (!(below_error <= below_bound))                                                         \
            fail_msg("%s: error %.3g, bound %.3g", what, below_error, below_bound);                \
    } while (0)

/* Elements of a parameter that exist: the vocabulary's padding is the end of its tensor. */
static inline int64_t lab_live(const Model *m, const Param *p) {
    return tensor_count(p->w) / p->w.dim[0] * param_live_rows(p->spec, &m->config);
}

/* Weights far from their usual start, so that every term shows: matrices and biases N(0, 0.2^2),
 * norm weights around 1. */
static inline void lab_randomise(Model *m, uint64_t seed) {
    for (int i = 0; i < m->n_params; i++) {
        Param *p = &m->params[i];
        const int64_t n = tensor_count(p->w), live = lab_live(m, p);
        double *w = calloc((size_t)n, sizeof(double));
        for (int64_t k = 0; k < live; k++)
            w[k] = (p->spec->init == INIT_ONE) +
                   0.2 * rng_normal(seed, 0, rng_site(RNG_TEST, i), (uint64_t)k);
        lab_set(m, p->w, w);
        free(w);
    }
}

/* Random tokens and targets; about one target in seven is ignored. */
static inline void lab_tokens(const ModelConfig *c, int64_t n, uint64_t seed, int32_t *tokens,
                              int32_t *targets) {
    for (int64_t i = 0; i < n; i++) {
        const uint64_t at = (uint64_t)i;
        tokens[i] = (int32_t)rng_below((uint64_t)c->vocab, seed, 1, rng_site(RNG_TEST, 0), at);
        targets[i] = (int32_t)rng_below((uint64_t)model_outputs(c), seed, 2,
                                        rng_site(RNG_TEST, 0), at);
        if (rng_below(7, seed, 3, rng_site(RNG_TEST, 0), at) == 0) targets[i] = -1;
    }
}

static inline int64_t lab_valid(const int32_t *targets, int64_t n) {
    int64_t valid = 0;
    for (int64_t i = 0; i < n; i++) valid += targets[i] >= 0;
    return valid;
}

/* Puts a batch of use.B x use.T on the device, with the embedding's order: rows by token,
 * stable. */
static inline void lab_batch(Model *m, const int32_t *tokens, const int32_t *targets) {
    const int64_t n = m->use.B * m->use.T;
    model_write(m, m->tokens, tokens);
    model_write(m, m->targets, targets);
    int32_t *order = malloc(sizeof(int32_t) * (size_t)n);
    int32_t *starts = malloc(sizeof(int32_t) * (size_t)(n + 1));
    int64_t at = 0, segments = 0;
    for (int32_t v = 0; v <= m->config.vocab; v++) { /* with model_special */
        const int64_t first = at;
        for (int64_t i = 0; i < n; i++)
            if (tokens[i] == v) order[at++] = (int32_t)i;
        if (at > first) starts[segments++] = (int32_t)first;
    }
    while (segments <= n) starts[segments++] = (int32_t)n;
    model_write(m, m->order, order);
    model_write(m, m->starts, starts);
    free(order);
    free(starts);
}

/* A step number `step` (from 1) over one batch whose first sequence has the global number
 * `sample`. */
static inline StepParams lab_params(const Model *m, uint32_t step, int64_t sample, int64_t valid) {
    return (StepParams){.seed = 7,
                        .row_base = sample * m->use.T,
                        .step = step,
                        .training = 1,
                        .loss_scale = 1.0 / (double)valid,
                        .lr = 1e-2,
                        .max_grad_norm = 1.0};
}

static const Optimiser lab_optimiser = {.adamw = {0.9, 0.95, 1e-8, 0.1, 1.0},
                                        .muon = {0.95, 0.1, 2.0}};

/* The step result, once the stream has made it. */
static inline StepResult lab_result(const Model *m) {
    StepResult result;
    model_read(m, tensor_1d(m->step_result.data, DTYPE_U8, sizeof result), &result);
    return result;
}

/* Forward and backward over one batch, from zero gradients. */
static inline StepResult lab_gradients(Model *m, uint32_t step, const int32_t *tokens,
                                       const int32_t *targets) {
    const StepParams p = lab_params(m, step, 0, lab_valid(targets, m->use.B * m->use.T));
    model_begin_step(m);
    lab_batch(m, tokens, targets);
    model_set_step(m, &p);
    model_forward(m, true);
    model_backward(m);
    return lab_result(m);
}

/* Every bit of training's state: weights and moments of all parameters, in order; freed by the
 * caller. */
static inline char *lab_state(const Model *m, int64_t *bytes) {
    *bytes = 0;
    for (int i = 0; i < m->n_params; i++) *bytes += 3 * tensor_bytes(m->params[i].w);
    char *state = calloc((size_t)*bytes, 1), *at = state;
    for (int i = 0; i < m->n_params; i++) { /* Muon has no second moment */
        const Tensor part[3] = {m->params[i].w, m->params[i].m, m->params[i].v};
        for (int k = 0; k < 3; k++, at += tensor_bytes(part[0]))
            if (part[k].data) model_read(m, part[k], at);
    }
    return state;
}

/* A whole step on a batch that is a function of the step. */
static inline StepResult lab_train(Model *m, uint32_t step) {
    const int64_t n = m->use.B * m->use.T;
    int32_t *tokens = malloc(sizeof(int32_t) * 2 * (size_t)n), *targets = tokens + n;
    lab_tokens(&m->config, n, 100 + step, tokens, targets);
    lab_gradients(m, step, tokens, targets);
    free(tokens);
    model_update(m, &lab_optimiser);
    return lab_result(m);
}
