/* Passes as graphs: captured once, then replayed. See model.h, model_micro_step. */
#include "params.h"

typedef void Work(Model *m, const Optimiser *constants);

static void replay(Model *m, Replay *r, Work *work, const Optimiser *constants) {
    Backend *b = m->backend;
    if (r->calls++ == 0 || !m->use.graph || !b->captures) {
        work(m, constants);
        return;
    }
    if (!r->graph) {
        b->capture_begin(b, m->cx.stream);
        work(m, constants);
        r->graph = b->capture_end(b, m->cx.stream);
    }
    b->graph_replay(b, r->graph, m->cx.stream);
}

static void micro_step(Model *m, const Optimiser *constants) {
    (void)constants;
    model_forward(m, true);
    model_backward(m);
}

static void micro_last(Model *m, const Optimiser *constants) {
    m->reduced_stage = -1;
    micro_step(m, constants);
    model_reduce(m);
}

void model_micro_step(Model *m) { replay(m, &m->micro_step, micro_step, NULL); }

void model_micro_last(Model *m) {
    if (m->use.ranks)
        replay(m, &m->micro_last, micro_last, NULL);
    else
        model_micro_step(m);
}

void model_update_step(Model *m, const Optimiser *constants) {
    replay(m, &m->update_step, model_update, constants);
    model_gather(m);
}
