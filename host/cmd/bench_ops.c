/* The op table that times: see bench.h. FLOPs and bytes are those that the op's formula needs
 * (every operand once, an accumulated one twice), whatever a kernel does. */
#include "bench.h"
#include "train.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const Ops *real_ops(const OpContext *cx) { return ((TimedBackend *)cx->backend)->real; }

static double bytes_of(const Tensor *list, int64_t n) {
    double bytes = 0;
    for (int64_t i = 0; i < n; i++)
        if (tensor_present(list[i])) bytes += (double)tensor_bytes(list[i]);
    return bytes;
}
#define BYTES(...)                                                                                 \
    bytes_of((const Tensor[]){__VA_ARGS__}, COUNT_OF(((const Tensor[]){__VA_ARGS__})))

static double begin(const OpContext *cx) {
    cx->backend->stream_finish(cx->backend, cx->stream);
    return time_now();
}

static void __attribute__((format(printf, 6, 7))) end(const OpContext *cx, double start,
                                                      const char *op, double flops, double bytes,
                                                      const char *shape, ...) {
    cx->backend->stream_finish(cx->backend, cx->stream);
    const double sec = time_now() - start;
    BenchTable *table = ((TimedBackend *)cx->backend)->table;
    if (!table) return;
    BenchRow row = {.flops = flops, .bytes = bytes};
    snprintf(row.op, sizeof row.op, "%s", op);
    va_list args;
    va_start(args, shape);
    vsnprintf(row.shape, sizeof row.shape, shape, args);
    va_end(args);
    bench_add(table, &row, sec);
}

static void timed_embed_forward(const OpContext *cx, Tensor x, Tensor wte, Tensor wpe,
                                Tensor tokens, Tensor position) {
    const double start = begin(cx);
    real_ops(cx)->embed_forward(cx, x, wte, wpe, tokens, position);
    end(cx, start, "embed_forward", 0, 2 * BYTES(x) + BYTES(tokens), "%ld x %ld x %ld",
        (long)x.dim[0], (long)x.dim[1], (long)x.dim[2]);
}

/* The tokens that occur: as many as begin somewhere, see ops.h. */
static double distinct_tokens(const OpContext *cx, Tensor starts) {
    Backend *b = cx->backend;
    const int64_t N = starts.dim[0] - 1;
    int32_t *host = malloc((size_t)tensor_bytes(starts));
    CHECK(host, "no memory for %ld rows", (long)N);
    b->copy(b, host, starts.data, tensor_bytes(starts), COPY_TO_HOST, cx->stream);
    b->stream_finish(b, cx->stream);
    int64_t n = 0;
    while (host[n] < N) n++;
    free(host);
    return (double)n;
}

static void timed_embed_backward(const OpContext *cx, Tensor dwte, Tensor dwpe, Tensor dx,
                                 Tensor tokens, Tensor order, Tensor starts) {
    const double row_bytes = BYTES(dwte) / (double)dwte.dim[0];
    const double bytes = 2 * distinct_tokens(cx, starts) * row_bytes +
                         BYTES(dx, dwpe, dwpe, tokens, order, starts);
    const double start = begin(cx);
    real_ops(cx)->embed_backward(cx, dwte, dwpe, dx, tokens, order, starts);
    end(cx, start, "embed_backward", 0, bytes, "%ld x %ld x %ld", (long)dx.dim[0],
        (long)dx.dim[1], (long)dx.dim[2]);
}

static void timed_residual_norm_forward(const OpContext *cx, Tensor res, Tensor y, Tensor mean,
                                        Tensor rstd, Tensor res_in, Tensor x, Tensor w, Tensor b,
                                        NormKind kind, double eps, Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->residual_norm_forward(cx, res, y, mean, rstd, res_in, x, w, b, kind, eps, drop);
    end(cx, start, "residual_norm_forward", 0, BYTES(res, y, mean, rstd, res_in, x, w, b),
        "%ld x %ld%s%s", (long)y.dim[0], (long)y.dim[1], tensor_present(x) ? ", add" : "",
        drop.rate > 0 ? ", dropout" : "");
}

static void timed_residual_norm_backward(const OpContext *cx, Tensor dres, Tensor dx, Tensor dw,
                                         Tensor db, Tensor dbias_prev, Tensor dy, Tensor res,
                                         Tensor mean, Tensor rstd, Tensor w, NormKind kind,
                                         Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->residual_norm_backward(cx, dres, dx, dw, db, dbias_prev, dy, res, mean, rstd, w,
                                         kind, drop);
    end(cx, start, "residual_norm_backward", 0,
        BYTES(dres, dres, dx, dw, dw, db, db, dbias_prev, dbias_prev, dy, res, mean, rstd, w),
        "%ld x %ld%s", (long)dy.dim[0], (long)dy.dim[1], drop.rate > 0 ? ", dropout" : "");
}

/* What follows a product, for its row of the table. */
static const char *const after[] = {[ACTIVATION_NONE] = "", [ACTIVATION_GELU] = ", GELU",
                                    [ACTIVATION_RELU2] = ", ReLU^2"};

static void timed_linear_forward(const OpContext *cx, Tensor y, Tensor aux, Tensor x, Tensor w,
                                 Tensor bias, Activation activation) {
    const double start = begin(cx);
    real_ops(cx)->linear_forward(cx, y, aux, x, w, bias, activation);
    end(cx, start, "linear_forward", 2.0 * (double)tensor_count(y) * (double)x.dim[1],
        BYTES(y, aux, x, w, bias), "%ld x %ld -> %ld%s", (long)x.dim[0], (long)x.dim[1],
        (long)y.dim[1], after[activation]);
}

static void timed_linear_backward_input(const OpContext *cx, Tensor dx, Tensor dbias_prev,
                                        Tensor dy, Tensor w, Tensor aux, Activation activation) {
    const double start = begin(cx);
    real_ops(cx)->linear_backward_input(cx, dx, dbias_prev, dy, w, aux, activation);
    end(cx, start, "linear_backward_input", 2.0 * (double)tensor_count(dy) * (double)dx.dim[1],
        BYTES(dx, dbias_prev, dbias_prev, dy, w, aux), "%ld x %ld -> %ld%s", (long)dy.dim[0],
        (long)dy.dim[1], (long)dx.dim[1], after[activation]);
}

static void timed_linear_backward_weight(const OpContext *cx, Tensor dw, Tensor dbias, Tensor dy,
                                         Tensor x) {
    const double start = begin(cx);
    real_ops(cx)->linear_backward_weight(cx, dw, dbias, dy, x);
    end(cx, start, "linear_backward_weight", 2.0 * (double)tensor_count(dy) * (double)x.dim[1],
        BYTES(dw, dw, dbias, dbias, dy, x), "%ld rows, %ld x %ld", (long)x.dim[0],
        (long)dw.dim[0], (long)dw.dim[1]);
}

/* Multiply-adds of one product over the causal triangle, all heads. */
static double causal_products(Tensor lse, Tensor y) {
    const double B = (double)y.dim[0], T = (double)y.dim[1];
    CHECK(lse.rank == 3, "lse of rank %d", lse.rank);
    return B * T * (T + 1) / 2 * (double)y.dim[2];
}

static void timed_attention_forward(const OpContext *cx, Tensor y, Tensor lse, Tensor qkv,
                                    int64_t n_heads, int64_t n_kv_heads, Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->attention_forward(cx, y, lse, qkv, n_heads, n_kv_heads, drop);
    end(cx, start, "attention_forward", 2 * 2 * causal_products(lse, y), BYTES(y, lse, qkv),
        "%ld x %ld, %ld heads of %ld%s", (long)y.dim[0], (long)y.dim[1], (long)n_heads,
        (long)(y.dim[2] / n_heads), drop.rate > 0 ? ", dropout" : "");
}

static void timed_attention_backward(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor dy,
                                     Tensor y, Tensor qkv, Tensor lse, int64_t n_heads,
                                     int64_t n_kv_heads, Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->attention_backward(cx, dqkv, dbias, dy, y, qkv, lse, n_heads, n_kv_heads, drop);
    end(cx, start, "attention_backward", 5 * 2 * causal_products(lse, y),
        BYTES(dqkv, dbias, dbias, dy, y, qkv, lse), "%ld x %ld, %ld heads of %ld%s",
        (long)y.dim[0], (long)y.dim[1], (long)n_heads, (long)(y.dim[2] / n_heads),
        drop.rate > 0 ? ", dropout" : "");
}

/* Called with a cache that is full, see bench.c: all of it is read. */
static void timed_attention_decode(const OpContext *cx, Tensor y, Tensor k_cache, Tensor v_cache,
                                   Tensor qkv, Tensor position, int64_t n_heads,
                                   int64_t n_kv_heads) {
    const double start = begin(cx);
    real_ops(cx)->attention_decode(cx, y, k_cache, v_cache, qkv, position, n_heads, n_kv_heads);
    end(cx, start, "attention_decode", 0, BYTES(y, k_cache, v_cache, qkv),
        "%ld x %ld, %ld heads of %ld, %ld cached", (long)y.dim[0], (long)y.dim[1], (long)n_heads,
        (long)(y.dim[2] / n_heads), (long)k_cache.dim[2]);
}

static void timed_rotate_forward(const OpContext *cx, Tensor qkv, Tensor rstd, Tensor position,
                                 int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const double start = begin(cx);
    real_ops(cx)->rotate_forward(cx, qkv, rstd, position, n_heads, n_kv_heads, r);
    end(cx, start, "rotate_forward", 0, 2 * BYTES(qkv) + BYTES(rstd), "%ld x %ld x %ld",
        (long)qkv.dim[0], (long)qkv.dim[1], (long)qkv.dim[2]);
}

static void timed_rotate_backward(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor qkv,
                                  Tensor rstd, int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const double start = begin(cx);
    real_ops(cx)->rotate_backward(cx, dqkv, dbias, qkv, rstd, n_heads, n_kv_heads, r);
    end(cx, start, "rotate_backward", 0, BYTES(dqkv, dqkv, dbias, dbias, qkv, rstd),
        "%ld x %ld x %ld", (long)qkv.dim[0], (long)qkv.dim[1], (long)qkv.dim[2]);
}

static void timed_swiglu_forward(const OpContext *cx, Tensor y, Tensor u) {
    const double start = begin(cx);
    real_ops(cx)->swiglu_forward(cx, y, u);
    end(cx, start, "swiglu_forward", 0, BYTES(y, u), "%ld x %ld", (long)y.dim[0], (long)y.dim[1]);
}

static double recurrence_flops(Tensor h, Tensor w) {
    return 2 * (double)tensor_count(h) * (double)w.dim[0];
}

static void timed_recurrence_forward(const OpContext *cx, Tensor h, Tensor u, Tensor h0, Tensor w) {
    const double start = begin(cx);
    real_ops(cx)->recurrence_forward(cx, h, u, h0, w);
    end(cx, start, "recurrence_forward", recurrence_flops(h, w), BYTES(h, u, h0, w),
        "%ld x %ld x %ld", (long)h.dim[0], (long)h.dim[1], (long)h.dim[2]);
}

static void timed_recurrence_backward(const OpContext *cx, Tensor du, Tensor dh, Tensor h,
                                      Tensor w) {
    const double start = begin(cx);
    real_ops(cx)->recurrence_backward(cx, du, dh, h, w);
    end(cx, start, "recurrence_backward", recurrence_flops(h, w), BYTES(du, dh, h, w),
        "%ld x %ld x %ld", (long)h.dim[0], (long)h.dim[1], (long)h.dim[2]);
}

static void timed_swiglu_backward(const OpContext *cx, Tensor du, Tensor dy, Tensor u) {
    const double start = begin(cx);
    real_ops(cx)->swiglu_backward(cx, du, dy, u);
    end(cx, start, "swiglu_backward", 0, BYTES(du, dy, u), "%ld x %ld", (long)dy.dim[0],
        (long)dy.dim[1]);
}

static void timed_activation_forward(const OpContext *cx, Tensor y, Tensor x, Activation a) {
    const double start = begin(cx);
    real_ops(cx)->activation_forward(cx, y, x, a);
    end(cx, start, "activation_forward", 0, BYTES(y, x), "%ld x %ld", (long)y.dim[0],
        (long)y.dim[1]);
}

static void timed_activation_backward(const OpContext *cx, Tensor dx, Tensor dy, Tensor x,
                                      Activation a) {
    const double start = begin(cx);
    real_ops(cx)->activation_backward(cx, dx, dy, x, a);
    end(cx, start, "activation_backward", 0, BYTES(dx, dy, x), "%ld x %ld", (long)dx.dim[0],
        (long)dx.dim[1]);
}

static void timed_dropout_forward(const OpContext *cx, Tensor y, Tensor x, Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->dropout_forward(cx, y, x, drop);
    end(cx, start, "dropout_forward", 0, BYTES(y, x), "%ld x %ld", (long)y.dim[0], (long)y.dim[1]);
}

static void timed_dropout_backward(const OpContext *cx, Tensor dx, Tensor dy, Dropout drop) {
    const double start = begin(cx);
    real_ops(cx)->dropout_backward(cx, dx, dy, drop);
    end(cx, start, "dropout_backward", 0, BYTES(dx, dy), "%ld x %ld", (long)dx.dim[0],
        (long)dx.dim[1]);
}

static void timed_classifier(const OpContext *cx, Tensor losses, Tensor dlogits, Tensor logits,
                             Tensor targets, int64_t n_vocab, double softcap) {
    const double start = begin(cx);
    real_ops(cx)->classifier(cx, losses, dlogits, logits, targets, n_vocab, softcap);
    end(cx, start, "classifier", 0, BYTES(losses, dlogits, logits, targets), "%ld x %ld",
        (long)logits.dim[0], (long)logits.dim[1]);
}

static void timed_negative_sampling(const OpContext *cx, Tensor losses, Tensor dx, Tensor x) {
    const double start = begin(cx);
    real_ops(cx)->negative_sampling(cx, losses, dx, x);
    end(cx, start, "negative_sampling", 0, BYTES(losses, dx, x), "%ld x %ld x %ld", (long)x.dim[0],
        (long)x.dim[1], (long)x.dim[2]);
}

static void timed_loss_sum(const OpContext *cx, Tensor losses) {
    const double start = begin(cx);
    real_ops(cx)->loss_sum(cx, losses);
    end(cx, start, "loss_sum", 0, BYTES(losses), "%ld", (long)losses.dim[0]);
}

static void timed_grad_norm(const OpContext *cx, Tensor flags, const Tensor *grads, int64_t n) {
    const double start = begin(cx);
    real_ops(cx)->grad_norm(cx, flags, grads, n);
    end(cx, start, "grad_norm", 0, bytes_of(grads, n), "%ld tensors", (long)n);
}

static void timed_adamw(const OpContext *cx, Tensor w, Tensor w_act, Tensor m, Tensor v,
                        Tensor grad, AdamW constants) {
    const double start = begin(cx);
    real_ops(cx)->adamw(cx, w, w_act, m, v, grad, constants);
    end(cx, start, "adamw", 0, BYTES(w, w, w_act, m, m, v, v, grad), "%ld x %ld", (long)w.dim[0],
        w.rank > 1 ? (long)w.dim[1] : 1L);
}

/* A step is three products; half of each symmetric one is needed. */
static void timed_muon(const OpContext *cx, const MuonMatrix *matrices, int64_t n,
                       Muon constants) {
    const MuonMatrix *const m = &matrices[0];
    const double rows = (double)m->w.dim[0], cols = (double)m->w.dim[1], steps = 5;
    const double side = rows < cols ? rows : cols;
    const double start = begin(cx);
    real_ops(cx)->muon(cx, matrices, n, constants);
    end(cx, start, "muon", (double)n * steps * (3 * rows * cols * side + side * side * side),
        (double)n * BYTES(m->w, m->w, m->w_act, m->mom, m->mom, m->grad), "%ld of %ld x %ld",
        (long)n, (long)m->w.dim[0], (long)m->w.dim[1]);
}

/* scratch() is the real table's: it makes plans and has no context to be timed in. */
static const Ops timed_ops = {.embed_forward = timed_embed_forward,
                              .embed_backward = timed_embed_backward,
                              .residual_norm_forward = timed_residual_norm_forward,
                              .residual_norm_backward = timed_residual_norm_backward,
                              .linear_forward = timed_linear_forward,
                              .linear_backward_input = timed_linear_backward_input,
                              .linear_backward_weight = timed_linear_backward_weight,
                              .attention_forward = timed_attention_forward,
                              .attention_backward = timed_attention_backward,
                              .attention_decode = timed_attention_decode,
                              .rotate_forward = timed_rotate_forward,
                              .rotate_backward = timed_rotate_backward,
                              .recurrence_forward = timed_recurrence_forward,
                              .recurrence_backward = timed_recurrence_backward,
                              .swiglu_forward = timed_swiglu_forward,
                              .swiglu_backward = timed_swiglu_backward,
                              .activation_forward = timed_activation_forward,
                              .activation_backward = timed_activation_backward,
                              .dropout_forward = timed_dropout_forward,
                              .dropout_backward = timed_dropout_backward,
                              .classifier = timed_classifier,
                              .negative_sampling = timed_negative_sampling,
                              .loss_sum = timed_loss_sum,
                              .grad_norm = timed_grad_norm,
                              .adamw = timed_adamw,
                              .muon = timed_muon};

void timed_backend_make(TimedBackend *t, const Backend *real) {
    *t = (TimedBackend){.backend = *real, .ops = timed_ops, .real = real->ops};
    t->ops.scratch = real->ops->scratch;
    t->ops.join_results = real->ops->join_results; /* of ranks: no op of one process */
    t->backend.ops = &t->ops;
}
