/* Copies between host and device. */
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

/* Sets elements [first, first + n) of a tensor. */
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

/* Elements [first, first + n) of a parameter's master weights, as far as this rank keeps them. */
static void write_masters(Model *m, const Param *p, int64_t first, int64_t n, const float *values) {
    for (int i = 0; i < m->partition.n_slices; i++) {
        const ParamSlice *s = &m->slices[i];
        const int64_t from = i64_max(first, s->first), to = i64_min(first + n, s->first + s->count);
        if (s->param != p || !s->w.data || from >= to) continue;
        model_write_f32(m, tensor_1d((float *)s->w.data + (from - s->first), DTYPE_F32, to - from),
                        values + (from - first));
    }
}

void model_write_param(Model *m, Param *p, int64_t first, int64_t n, const float *values) {
    if (p->w.data)
        write_as(m, p->w, first, n, values);
    else
        write_masters(m, p, first, n, values);
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
