/* Weights, gradients and moments in memory, and the ranks' parts of them (partition.h). With one
 * rank there is one slice a parameter; without ranks nothing is reduced or gathered. */
#include "params.h"
#include <stdlib.h>

static int64_t n_ranks(const Model *m) { return i64_max(1, m->use.ranks); }

/* When the backward pass has finished a gradient. A tied head's is the embedding's, which comes
 * last. */
static int stage_of(const Model *m, const Param *p) {
    const int id = (int)(p->spec - param_specs);
    if (p->layer >= 0) return shard_stage_of_layer(m, p->layer);
    if (id == PARAM_HEAD || id == PARAM_LNF_W || id == PARAM_LNF_B) return 0;
    return shard_stage_of_layer(m, -1);
}

/* Products read a copy: then the masters are the optimiser's state like the moments. */
static bool has_copy(const Model *m) { return m->backend->compute != m->backend->master; }
static bool shares_masters(const Model *m) { return m->use.zero && has_copy(m); }

/* ---- plan ---- */

static void plan_partition(Model *m) {
    PartitionItem *items = calloc((size_t)m->n_params, sizeof *items);
    CHECK(items, "no memory for a list of parameters");
    for (int i = 0; i < m->n_params; i++) {
        Param *p = &m->params[i];
        const int64_t rows = p->spec->rows(&m->config);
        p->w = p->spec->cols ? tensor_2d(NULL, m->backend->master, rows, p->spec->cols(&m->config))
                             : tensor_1d(NULL, m->backend->master, rows);
        items[i] = (PartitionItem){.count = tensor_count(p->w),
                                   .stage = stage_of(m, p),
                                   .whole = param_by_muon(m, p)};
    }
    const int64_t bucket = m->use.bucket_bytes / dtype_bytes(m->backend->master);
    partition_make(&m->partition, items, m->n_params, (int)n_ranks(m), bucket);
    for (int i = 0; i < m->n_params; i++) m->params[i].offset = items[i].offset;
    free(items);
}

/* Moments of a parameter or slice in the shape of `like`. */
static void plan_moments(Model *m, const Param *p, Tensor *m_slot, Tensor *v_slot, Tensor like) {
    const bool muon = param_by_muon(m, p);
    arena_add(&m->arena, m_slot, muon ? "Muon momentum" : "AdamW m", ARENA_OPTIMISER,
              m->backend->master, like.rank, like.dim);
    if (!muon)
        arena_add(&m->arena, v_slot, "AdamW v", ARENA_OPTIMISER, m->backend->master, like.rank,
                  like.dim);
}

static bool is_whole(const ParamSlice *s) { return s->count == tensor_count(s->param->w); }

/* The shape of a slice. */
static Tensor slice_like(const ParamSlice *s) {
    return is_whole(s) ? s->param->w : tensor_1d(NULL, s->param->w.dtype, s->count);
}

/* Of all parameters, or of the slices of this rank. */
static void plan_optimiser(Model *m) {
    const Partition *cut = &m->partition;
    if (m->use.zero)
        for (int i = cut->first_slice[m->use.rank]; i < cut->first_slice[m->use.rank + 1]; i++) {
            ParamSlice *s = &m->slices[i];
            plan_moments(m, s->param, &s->m, &s->v, slice_like(s));
        }
    else
        for (int i = 0; i < m->n_params; i++) {
            Param *p = &m->params[i];
            plan_moments(m, p, &p->m, &p->v, p->w);
        }
}

void shard_plan(Model *m) {
    const DType act = m->backend->compute, master = m->backend->master;
    Arena *a = &m->arena;
    plan_partition(m);
    const Partition *p = &m->partition;
    if (has_copy(m)) {
        ARENA_ADD(a, &m->flat_w, "master weights",
                  m->use.training ? ARENA_OPTIMISER : ARENA_PARAMETERS, master,
                  shares_masters(m) ? p->count / n_ranks(m) : p->count);
        ARENA_ADD(a, &m->flat_act, "compute weights", ARENA_PARAMETERS, act, p->count);
    } else
        ARENA_ADD(a, &m->flat_w, "weights", ARENA_PARAMETERS, master, p->count);
    m->reduced_stage = REDUCE_OFF;
    if (!m->use.training) return;
    ARENA_ADD(a, &m->flat_grad, "gradients", ARENA_GRADIENTS, master, p->count);
    m->slices = calloc((size_t)p->n_slices, sizeof *m->slices);
    m->grad_list = calloc((size_t)p->n_slices, sizeof *m->grad_list);
    CHECK(m->slices && m->grad_list, "no memory for a list of %d slices", p->n_slices);
    for (int i = 0; i < p->n_slices; i++)
        m->slices[i] = (ParamSlice){.param = &m->params[p->slices[i].item],
                                    .first = p->slices[i].first,
                                    .count = p->slices[i].count};
    plan_optimiser(m);
    ARENA_ADD(a, &m->grad_flags, "statistics", ARENA_ACTIVATIONS, DTYPE_I32, p->n_slices);
    if (m->use.ranks)
        ARENA_ADD(a, &m->rank_results, "statistics", ARENA_ACTIVATIONS, DTYPE_U8,
                  n_ranks(m) * (int64_t)sizeof(StepResult));
}

/* ---- after the commit ---- */

/* Elements from `first` on of a flat array, in the shape of `like`; none of no array. */
static Tensor view(Tensor flat, int64_t first, Tensor like) {
    if (!flat.data) return TENSOR_NONE;
    like.data = (char *)flat.data + first * dtype_bytes(flat.dtype);
    like.dtype = flat.dtype;
    return like;
}

static void point_slices(Model *m) {
    for (int i = 0; i < m->partition.n_slices; i++) {
        ParamSlice *s = &m->slices[i];
        const Tensor like = slice_like(s);
        const int owner = m->partition.slices[i].owner;
        const int64_t first = s->param->offset + s->first;
        if (!shares_masters(m))
            s->w = view(m->flat_w, first, like);
        else if (owner == m->use.rank)
            s->w = view(m->flat_w, partition_own_place(&m->partition, owner, first), like);
        s->w_act = view(m->flat_act, first, like);
        s->grad = view(m->flat_grad, first, like);
        Param *p = &m->params[m->partition.slices[i].item];
        if (!m->use.zero) {
            s->m = view(p->m, s->first, like);
            s->v = view(p->v, s->first, like);
        } else if (is_whole(s)) {
            p->m = s->m;
            p->v = s->v;
            if (s->w.data) p->w = s->w;
        }
    }
}

/* By shape; then as they lie in memory, so that the order is always the same. */
static int muon_order(const void *a, const void *b) {
    const Tensor *x = &((const MuonMatrix *)a)->w, *y = &((const MuonMatrix *)b)->w;
    for (int i = 0; i < 2; i++)
        if (x->dim[i] != y->dim[i]) return x->dim[i] < y->dim[i] ? -1 : 1;
    return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
}

/* The matrices whose momentum is kept here. */
static void list_muon(Model *m) {
    m->muon_list = calloc((size_t)m->n_params * PARAM_PARTS_MAX, sizeof *m->muon_list);
    CHECK(m->muon_list, "no memory for a list of matrices");
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        if (!param_by_muon(m, p) || !p->m.data) continue;
        int64_t rows[PARAM_PARTS_MAX], first = 0;
        const int n = model_param_parts(p->spec, &m->config, rows);
        for (int k = 0; k < n; first += rows[k++])
            m->muon_list[m->n_muon++] = (MuonMatrix){
                .w = tensor_rows(p->w, first, rows[k]),
                .w_act = p->w_act.data ? tensor_rows(p->w_act, first, rows[k]) : TENSOR_NONE,
                .mom = tensor_rows(p->m, first, rows[k]),
                .grad = tensor_rows(p->grad, first, rows[k])};
    }
    qsort(m->muon_list, (size_t)m->n_muon, sizeof *m->muon_list, muon_order);
}

void shard_commit(Model *m) {
    Backend *b = m->backend;
    for (int i = 0; i < m->n_params; i++) {
        Param *p = &m->params[i];
        p->w_act = view(m->flat_act, p->offset, p->w);
        p->grad = view(m->flat_grad, p->offset, p->w);
        if (!shares_masters(m)) p->w = view(m->flat_w, p->offset, p->w);
    }
    if (!m->use.training) return;
    point_slices(m);
    const int own = m->partition.first_slice[m->use.rank];
    for (int i = own; i < m->partition.first_slice[m->use.rank + 1]; i++)
        m->grad_list[i - own] = m->slices[i].grad;
    if (m->use.muon) list_muon(m);
    if (!m->use.ranks) return;
    m->rank_stream = b->stream_create(b);
    m->final = b->event_create(b);
    m->reduced = b->event_create(b);
    m->marks = b->alloc_pinned(b, MODEL_MARKS * sizeof *m->marks);
    CHECK(m->marks, "no pinned memory");
    if (!m->use.zero) return;
    const int n_stages = 1 + shard_stage_of_layer(m, -1);
    m->gathered = calloc((size_t)n_stages, sizeof(Event *));
    CHECK(m->gathered, "no memory for %d events", n_stages);
    for (int i = 0; i < n_stages; i++) {
        m->gathered[i] = b->event_create(b);
        b->event_record(b, m->gathered[i], m->rank_stream);
    }
}

void shard_free(Model *m) {
    Backend *b = m->backend;
    if (m->rank_stream) {
        b->stream_destroy(b, m->rank_stream);
        b->event_destroy(b, m->final);
        b->event_destroy(b, m->reduced);
        b->free_pinned(b, m->marks);
    }
    for (int i = 0; m->gathered && i <= shard_stage_of_layer(m, -1); i++)
        b->event_destroy(b, m->gathered[i]);
    free(m->gathered);
    partition_free(&m->partition);
    free(m->slices);
    free(m->grad_list);
    free(m->muon_list);
}

/* ---- collectives ---- */

/* All of a bucket in a flat array, and this rank's piece of it. */
static Tensor bucket_all(const Model *m, Tensor flat, const PartitionBucket *k) {
    return view(flat, k->first, tensor_1d(NULL, flat.dtype, k->piece * n_ranks(m)));
}
static Tensor bucket_own(const Model *m, Tensor flat, const PartitionBucket *k) {
    return view(flat, k->first + m->use.rank * k->piece, tensor_1d(NULL, flat.dtype, k->piece));
}

/* Summed in two halves whether the second is needed or not, so that the bits are the same. */
static void reduce_bucket(Model *m, const PartitionBucket *k) {
    Backend *b = m->backend;
    const Tensor all = bucket_all(m, m->flat_grad, k), own = bucket_own(m, m->flat_grad, k);
    b->reduce_scatter(b, own, all, m->rank_stream);
    if (!m->use.zero) b->all_gather(b, all, own, m->rank_stream);
}

/* Copies the step's number to a mark. */
static void reach_mark(Model *m, int i) {
    const char *step = (const char *)m->step_params.data + offsetof(StepParams, step);
    m->backend->copy(m->backend, &m->marks[i], step, sizeof m->marks[i], COPY_TO_HOST,
                     m->cx.stream);
}

void shard_reduce_stage(Model *m, int stage) {
    Backend *b = m->backend;
    bool waited = false;
    for (int i = 0; i < m->partition.n_buckets; i++) {
        const PartitionBucket *k = &m->partition.buckets[i];
        if (k->stage <= m->reduced_stage || k->stage > stage) continue;
        if (i == 0) reach_mark(m, 0);
        if (!waited) {
            b->event_record(b, m->final, m->cx.stream);
            b->stream_wait(b, m->rank_stream, m->final);
            waited = true;
        }
        reduce_bucket(m, k);
    }
    if (stage > m->reduced_stage) m->reduced_stage = stage;
}

void model_reduce(Model *m) {
    Backend *b = m->backend;
    if (!m->use.ranks) return;
    if (m->reduced_stage == REDUCE_OFF) m->reduced_stage = -1;
    shard_reduce_stage(m, shard_stage_of_layer(m, -1));
    m->reduced_stage = REDUCE_OFF;
    reach_mark(m, 1);
    b->event_record(b, m->reduced, m->rank_stream);
    b->stream_wait(b, m->cx.stream, m->reduced);
}

static bool has_buckets(const Model *m, int stage) {
    for (int i = 0; i < m->partition.n_buckets; i++)
        if (m->partition.buckets[i].stage == stage) return true;
    return false;
}

/* A forward pass comes to the stages from the last to the first. */
void model_gather(Model *m) {
    Backend *b = m->backend;
    if (!m->use.zero) return;
    b->event_record(b, m->final, m->cx.stream);
    b->stream_wait(b, m->rank_stream, m->final);
    for (int stage = shard_stage_of_layer(m, -1); stage >= 0; stage--) {
        for (int i = 0; i < m->partition.n_buckets; i++) {
            const PartitionBucket *k = &m->partition.buckets[i];
            const Tensor flat = has_copy(m) ? m->flat_act : m->flat_w;
            if (k->stage != stage) continue;
            b->all_gather(b, bucket_all(m, flat, k), bucket_own(m, flat, k), m->rank_stream);
        }
        if (has_buckets(m, stage)) b->event_record(b, m->gathered[stage], m->rank_stream);
    }
}

void shard_wait_stage(const Model *m, int stage) {
    if (m->use.zero && has_buckets(m, stage))
        m->backend->stream_wait(m->backend, m->cx.stream, m->gathered[stage]);
}

void model_wait_gather(const Model *m) {
    for (int stage = shard_stage_of_layer(m, -1); stage >= 0; stage--) shard_wait_stage(m, stage);
}

/* ---- masters that are shared out ---- */

void model_gather_masters(Model *m) {
    Backend *b = m->backend;
    if (!shares_masters(m)) return;
    model_wait_gather(m); /* one collective at a time */
    for (int i = 0; i < m->partition.n_buckets; i++) {
        const PartitionBucket *k = &m->partition.buckets[i];
        const Tensor all = bucket_all(m, m->flat_grad, k), own = bucket_own(m, m->flat_grad, k);
        const Tensor from = view(m->flat_w, k->first / n_ranks(m), own);
        b->copy(b, own.data, from.data, tensor_bytes(own), COPY_ON_DEVICE, m->cx.stream);
        b->all_gather(b, all, own, m->cx.stream);
    }
}

Tensor model_master(const Model *m, const Param *p) { return shares_masters(m) ? p->grad : p->w; }
