/* A small model with known values, for tests of checkpoints. */
#pragma once
#include "checkpoint.h"
#include "rng.h"
#include "scratch.h"

static const ModelConfig tiny_config = {.vocab = 67,
                                        .context = 5,
                                        .layers = 2,
                                        .heads = 2,
                                        .channels = 8,
                                        .hidden = 32,
                                        .bias = true,
                                        .norm_eps = 1e-5,
                                        .dropout = 0.1,
                                        .rope_base = 10000}; /* as every reader has it */

typedef struct Tiny {
    HostServices host;
    Backend backend;
    Model m;
} Tiny;

static inline void tiny_log(int level, const char *text) { (void)level, (void)text; }

static inline void tiny_open_with(Tiny *t, const ModelConfig *config, const ModelUse *use) {
    *t = (Tiny){.host = {.n_ranks = 1, .n_threads = 1, .log = tiny_log}};
    Error e;
    if (!backend_open_cpu(&t->backend, &t->host, &e)) fail_msg("%s", e.text);
    model_plan(&t->m, config, use, &t->backend);
    if (!model_commit(&t->m, &e)) fail_msg("%s", e.text);
}

/* Weights and, for training, AdamW's moments; no activations. */
static inline void tiny_open(Tiny *t, const ModelConfig *config, bool training) {
    tiny_open_with(t, config, &(ModelUse){.training = training});
}

static inline void tiny_close(Tiny *t) {
    model_free(&t->m);
    t->backend.close(&t->backend);
}

/* The memory of a tensor: the cpu back end's is the host's. */
static inline float *tiny_data(Tensor t) { return t.data; }

/* Elements that a file holds: rows of the vocabulary's padding are not. */
static inline int64_t tiny_live(const Model *m, const Param *p) {
    return tensor_count(p->w) / p->w.dim[0] * param_live_rows(p->spec, &m->config);
}

static inline void tiny_fill_tensor(Tensor t, int64_t live, uint64_t seed, uint32_t site) {
    for (int64_t i = 0; i < live; i++)
        tiny_data(t)[i] = (float)rng_normal(seed, 0, site, (uint64_t)i);
}

/* Every weight and moment a function of the seed and its place; the padding stays zero. */
static inline void tiny_fill(Tiny *t, uint64_t seed) {
    for (int i = 0; i < t->m.n_params; i++) {
        const Param *p = &t->m.params[i];
        const int64_t live = tiny_live(&t->m, p);
        tiny_fill_tensor(p->w, live, seed, 3 * (uint32_t)i);
        if (!p->m.data) continue;
        tiny_fill_tensor(p->m, live, seed, 3 * (uint32_t)i + 1);
        if (p->v.data) tiny_fill_tensor(p->v, live, seed, 3 * (uint32_t)i + 2);
    }
}

static inline bool tiny_same_tensor(Tensor a, Tensor b) {
    return tensor_count(a) == tensor_count(b) &&
           memcmp(a.data, b.data, (size_t)tensor_bytes(a)) == 0;
}

/* Bit equality of weights and, if both have them, moments. */
static inline bool tiny_same(const Tiny *a, const Tiny *b) {
    bool same = a->m.n_params == b->m.n_params;
    for (int i = 0; same && i < a->m.n_params; i++) {
        const Param *p = &a->m.params[i], *q = &b->m.params[i];
        same = tiny_same_tensor(p->w, q->w);
        if (same && p->m.data && q->m.data)
            same = tiny_same_tensor(p->m, q->m) && (!p->v.data || tiny_same_tensor(p->v, q->v));
    }
    return same;
}

static inline void tiny_tokenizer(Tokenizer *t) {
    int32_t codes[67];
    Error e;
    for (int32_t i = 0; i < 67; i++) codes[i] = 33 + i;
    if (!tokenizer_from_codes(t, codes, 67, &e)) fail_msg("%s", e.text);
}

static inline TrainState tiny_state(int64_t step) {
    return (TrainState){.step = step,
                        .samples = 12 * step,
                        .tokens = 768 * step,
                        .best_loss = 1.5,
                        .best_step = step,
                        .eval_due = true,
                        .tokenizer_hash = UINT64_MAX - 1,
                        .data_hash = 0x8000000000000001u,
                        .elapsed_sec = 0.1};
}
