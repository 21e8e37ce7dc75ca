/* One optimiser step around the passes, and copies between host and device. */
#include "params.h"
#include <stdlib.h>
#include <string.h>

void model_read(const Model *m, Tensor t, void *host) {
    Backend *b = m->backend;
    model_wait_gather(m);
    b->copy(b, host, t.data, tensor_bytes(t), COPY_TO_HOST, m->cx.stream);
    b->stream_finish(b, m->cx.stream);
}

void model_write(Model *m, Tensor t, const void *host) {
    Backend *b = m->backend;
    model_wait_gather(m);
    b->copy(b, t.data, host, tensor_bytes(t), COPY_TO_DEVICE, m->cx.stream);
    b->stream_finish(b, m->cx.stream);
}

/* Round to nearest, ties to even; NaN stays NaN. */
static uint16_t bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static void write_as(Model *m, Tensor t, int64_t first, int64_t n, const float *values) {
    void *staged = malloc((size_t)(n * dtype_bytes(t.dtype)));
    CHECK(staged, "no memory to stage %ld values", (long)n);
    for (int64_t i = 0; i < n; i++) {
        if (t.dtype == DTYPE_F32)
            ((float *)staged)[i] = values[i];
        else if (t.dtype == DTYPE_F64)
            ((double *)staged)[i] = values[i];
        else
            ((uint16_t *)staged)[i] = bf16_from_float(values[i]);
    }
    char *to = (char *)t.data + first * dtype_bytes(t.dtype);
    model_write(m, tensor_1d(to, t.dtype, n), staged);
    free(staged);
}

void model_write_f32(Model *m, Tensor t, const float *host) {
    write_as(m, t, 0, tensor_count(t), host);
}

void model_write_param(Model *m, Param *p, int64_t first, int64_t n, const float *values) {
    if (p->w.data)
        write_as(m, p->w, first, n, values);
    else
        shard_write_masters(m, p, first, n, values);
    if (p->w_act.data) write_as(m, p->w_act, first, n, values);
}

void model_read_f32(const Model *m, Tensor t, float *host) {
    if (t.dtype == DTYPE_F32) {
        model_read(m, t, host);
        return;
    }
    const int64_t n = tensor_count(t);
    void *staged = malloc((size_t)tensor_bytes(t));
    CHECK(staged, "no memory to stage %ld values", (long)n);
    model_read(m, t, staged);
    for (int64_t i = 0; i < n; i++) {
        if (t.dtype == DTYPE_F64)
            host[i] = (float)((const double *)staged)[i];
        else {
            const uint32_t bits = (uint32_t)((const uint16_t *)staged)[i] << 16; /* bf16 */
            memcpy(&host[i], &bits, sizeof bits);
        }
    }
    free(staged);
}

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
