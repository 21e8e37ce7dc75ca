/* One optimiser step around the passes. */
#include "params.h"

void model_forward(Model *m, bool gradient) { model_passes(m)->forward(m, gradient); }

void model_backward(Model *m) { model_passes(m)->backward(m); }

void model_set_step(Model *m, const StepParams *p) {
    Backend *b = m->backend;
    b->copy(b, m->step_params.data, p, sizeof *p, COPY_TO_DEVICE, m->cx.stream);
}

void model_begin_step(Model *m) {
    Backend *b = m->backend;
    b->fill(b, m->step_result.data, 0, sizeof(StepResult), m->cx.stream);
    if (m->use.training)
        b->fill(b, m->arena.base[ARENA_GRADIENTS], 0, m->arena.bytes[ARENA_GRADIENTS],
                m->cx.stream);
}

/* One call for all matrices of a shape. */
static void update_by_muon(const Model *m, Muon constants) {
    const MuonMatrix *const list = m->muon_list;
    for (int64_t first = 0, end; first < m->n_muon; first = end) {
        const Tensor *const w = &list[first].w;
        for (end = first + 1; end < m->n_muon; end++)
            if (list[end].w.dim[0] != w->dim[0] || list[end].w.dim[1] != w->dim[1]) break;
        m->backend->ops->muon(&m->cx, list + first, end - first, constants);
    }
}

/* Of this rank's slices, then of all ranks. */
static void update_norm(Model *m) {
    Backend *b = m->backend;
    const Partition *p = &m->partition;
    const int64_t n = p->first_slice[m->use.rank + 1] - p->first_slice[m->use.rank];
    if (n > 0)
        b->ops->grad_norm(&m->cx, tensor_1d(m->grad_flags.data, DTYPE_I32, n), m->grad_list, n);
    if (!m->use.ranks) return;
    b->all_gather(b, m->rank_results, m->step_result, m->cx.stream);
    b->ops->join_results(&m->cx, m->rank_results, partition_most_slices(p));
}

void model_update(Model *m, const Optimiser *constants) {
    update_norm(m);
    for (int i = 0; i < m->partition.n_slices; i++) {
        const ParamSlice *s = &m->slices[i];
        AdamW group = constants->adamw;
        if (!s->m.data || param_by_muon(m, s->param)) continue;
        if (!s->param->spec->decays) group.weight_decay = 0;
        m->backend->ops->adamw(&m->cx, s->w, s->w_act, s->m, s->v, s->grad, group);
    }
    update_by_muon(m, constants->muon);
}
