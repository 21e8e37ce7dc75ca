/* Word embeddings by skip-gram with negative sampling (Mikolov and others 2013): a word's vector is
 * trained to tell the words beside it in the text from words drawn at random.
 *
 *   x_0 = table[word];  x_1 = table[V + neighbour];  x_2 .. = table[V + others]
 *   loss = log(1 + e^-(x_0 . x_1)) + sum over the others of log(1 + e^(x_0 . x))
 *
 * The second half of the table is the words as neighbours; it serves training alone. */
#include "params.h"

#define OPS(m) ((m)->backend->ops)

static void plan(Model *m) {
    const ModelConfig *c = &m->config;
    Arena *a = &m->arena;
    ARENA_ADD(a, &m->x, "embedding", ARENA_ACTIVATIONS, m->backend->compute, m->use.B, m->use.T,
              c->channels);
    ARENA_ADD(a, &m->losses, "statistics", ARENA_ACTIVATIONS, m->backend->master, m->use.B);
}

static void plan_decode(Model *m) { CHECK(!m->use.decode_batch, "no language model"); }

/* The gradient takes the place of what was looked up. */
static void forward(Model *m, bool gradient) {
    model_wait_gather(m);
    OPS(m)->embed_forward(&m->cx, m->x, param_weight(m, PARAM_WORDS, 0), TENSOR_NONE, m->tokens,
                          TENSOR_NONE);
    OPS(m)->negative_sampling(&m->cx, m->losses, gradient ? m->x : TENSOR_NONE, m->x);
    OPS(m)->loss_sum(&m->cx, m->losses);
}

static void backward(Model *m) {
    OPS(m)->embed_backward(&m->cx, param_grad(m, PARAM_WORDS, 0), TENSOR_NONE, m->x, m->tokens,
                           m->order, m->starts);
}

static void decode(Model *m, const int32_t *tokens, int64_t n_rows, const int32_t *position) {
    (void)tokens, (void)n_rows, (void)position;
    CHECK(false, "a model of kind %d decodes nothing", (int)m->config.kind);
}

const ModelPasses skipgram_passes = {plan, plan_decode, forward, backward, decode};
