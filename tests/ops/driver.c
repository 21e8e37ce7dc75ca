#include "driver.h"
#include "plugin.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values on the device ---- */

static DType type_on(const Backend *b, OperandType type) {
    return type == OPERAND_INT ? DTYPE_I32 : type == OPERAND_ACT ? b->compute : b->master;
}

static void encode(void *to, const double *from, int64_t n, DType type) {
    for (int64_t i = 0; i < n; i++) {
        const float f = (float)from[i];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        if (type == DTYPE_F64) ((double *)to)[i] = from[i];
        else if (type == DTYPE_F32) ((float *)to)[i] = f;
        else if (type == DTYPE_I32) ((int32_t *)to)[i] = (int32_t)from[i];
        else if (type == DTYPE_BF16) ((uint16_t *)to)[i] = (uint16_t)(bits >> 16); /* is rounded */
        else CHECK(false, "dtype %s", dtype_name(type));
    }
}

static void decode(double *to, const void *from, int64_t n, DType type) {
    for (int64_t i = 0; i < n; i++) {
        if (type == DTYPE_F64) to[i] = ((const double *)from)[i];
        else if (type == DTYPE_F32) to[i] = ((const float *)from)[i];
        else if (type == DTYPE_I32) to[i] = ((const int32_t *)from)[i];
        else {
            const uint32_t bits = (uint32_t)((const uint16_t *)from)[i] << 16;
            float f;
            memcpy(&f, &bits, sizeof f);
            to[i] = f;
        }
    }
}

/* Bytes behind every block on the device; a kernel that writes them is caught. */
enum { GUARD = 64, GUARD_BYTE = 0xA5 };

static void *device_new(Backend *b, const void *from, int64_t bytes) {
    char *memory = b->alloc(b, bytes + GUARD);
    CHECK(memory, "no device memory for %ld bytes", (long)bytes);
    if (from && bytes) b->copy(b, memory, from, bytes, COPY_TO_DEVICE, NULL);
    b->fill(b, memory + bytes, GUARD_BYTE, GUARD, NULL);
    b->stream_finish(b, NULL);
    return memory;
}

static void device_read(Backend *b, void *to, const void *from, int64_t bytes, const char *name) {
    unsigned char guard[GUARD];
    if (bytes) b->copy(b, to, from, bytes, COPY_TO_HOST, NULL);
    b->copy(b, guard, (const char *)from + bytes, GUARD, COPY_TO_HOST, NULL);
    b->stream_finish(b, NULL);
    for (int i = 0; i < GUARD; i++)
        CHECK(guard[i] == GUARD_BYTE, "the op wrote beyond the end of %s", name);
}

/* ---- the call ---- */

static Tensor find(const Call *call, const Tensor *t, const char *name) {
    for (int i = 0; i < call->n_operands; i++)
        if (!strcmp(call->operand[i].name, name)) return t[i];
    CHECK(false, "%s has no operand %s", op_names[call->c.op], name);
    return TENSOR_NONE;
}

#define OF(name) find(call, t, #name)

/* The ops on packed q, k and v. */
static void dispatch_heads(const Call *call, const Tensor *t, const OpContext *cx, const Ops *ops) {
    const OpCase *c = &call->c;
    switch (c->op) {
    case OP_ATTENTION_FORWARD:
        ops->attention_forward(cx, OF(y), OF(lse), OF(qkv), c->shape.H, c->shape.K, call->drop);
        break;
    case OP_ATTENTION_BACKWARD:
        ops->attention_backward(cx, OF(dqkv), OF(dbias), OF(dy), OF(y), OF(qkv), OF(lse),
                                c->shape.H, c->shape.K, call->drop);
        break;
    case OP_ATTENTION_DECODE:
        ops->attention_decode(cx, OF(y), OF(k_cache), OF(v_cache), OF(qkv), OF(position),
                              c->shape.H, c->shape.K);
        break;
    case OP_ROTATE_FORWARD:
        ops->rotate_forward(cx, OF(qkv), OF(rstd), OF(position), c->shape.H, c->shape.K,
                            call->rotation);
        break;
    case OP_ROTATE_BACKWARD:
        ops->rotate_backward(cx, OF(dqkv), OF(dbias), OF(qkv), OF(rstd), c->shape.H, c->shape.K,
                             call->rotation);
        break;
    default: CHECK(false, "%s", op_names[c->op]);
    }
}

/* Matrix i of (n,R,C); none of none. */
static Tensor matrix_of(Tensor all, int64_t i) {
    if (!all.data) return TENSOR_NONE;
    const Tensor one = tensor_rows(all, i, 1);
    return tensor_2d(one.data, one.dtype, one.dim[1], one.dim[2]);
}

/* The last matrix first: an op must not take it for granted that they follow each other. */
static void dispatch_muon(const Call *call, const Tensor *t, const OpContext *cx, const Ops *ops) {
    const int64_t n = call->c.shape.B;
    MuonMatrix *list = malloc((size_t)n * sizeof *list);
    CHECK(list, "no memory");
    for (int64_t i = 0; i < n; i++)
        list[n - 1 - i] = (MuonMatrix){matrix_of(OF(w), i), matrix_of(OF(w_act), i),
                                       matrix_of(OF(mom), i), matrix_of(OF(grad), i)};
    ops->muon(cx, list, n, call->muon);
    free(list);
}

static void dispatch(const Call *call, const Tensor *t, const OpContext *cx, const Ops *ops) {
    const OpCase *c = &call->c;
    switch (c->op) {
    case OP_EMBED_FORWARD:
        ops->embed_forward(cx, OF(x), OF(wte), OF(wpe), OF(tokens), OF(position));
        break;
    case OP_EMBED_BACKWARD:
        ops->embed_backward(cx, OF(dwte), OF(dwpe), OF(dx), OF(tokens), OF(order), OF(starts));
        break;
    case OP_RESIDUAL_NORM_FORWARD:
        ops->residual_norm_forward(cx, OF(res), OF(y), OF(mean), OF(rstd), OF(res_in), OF(x), OF(w),
                                   OF(b), c->kind, call->eps, call->drop);
        break;
    case OP_RESIDUAL_NORM_BACKWARD:
        ops->residual_norm_backward(cx, OF(dres), OF(dx), OF(dw), OF(db), OF(dbias_prev), OF(dy),
                                    OF(res), OF(mean), OF(rstd), OF(w), c->kind, call->drop);
        break;
    case OP_LINEAR_FORWARD:
        ops->linear_forward(cx, OF(y), OF(aux), OF(x), OF(w), OF(bias), c->activation);
        break;
    case OP_LINEAR_BACKWARD_INPUT:
        ops->linear_backward_input(cx, OF(dx), OF(dbias_prev), OF(dy), OF(w), OF(aux),
                                   c->activation);
        break;
    case OP_LINEAR_BACKWARD_WEIGHT:
        ops->linear_backward_weight(cx, OF(dw), OF(dbias), OF(dy), OF(x));
        break;
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_BACKWARD:
    case OP_ATTENTION_DECODE:
    case OP_ROTATE_FORWARD:
    case OP_ROTATE_BACKWARD: dispatch_heads(call, t, cx, ops); break;
    case OP_SWIGLU_FORWARD: ops->swiglu_forward(cx, OF(y), OF(u)); break;
    case OP_SWIGLU_BACKWARD: ops->swiglu_backward(cx, OF(du), OF(dy), OF(u)); break;
    case OP_RECURRENCE_FORWARD:
        ops->recurrence_forward(cx, OF(h), OF(u), OF(h0), OF(w));
        break;
    case OP_RECURRENCE_BACKWARD:
        ops->recurrence_backward(cx, OF(du), OF(dh), OF(h), OF(w));
        break;
    case OP_ACTIVATION_FORWARD: ops->activation_forward(cx, OF(y), OF(x), c->activation); break;
    case OP_ACTIVATION_BACKWARD:
        ops->activation_backward(cx, OF(dx), OF(dy), OF(x), c->activation);
        break;
    case OP_DROPOUT_FORWARD: ops->dropout_forward(cx, OF(y), OF(x), call->drop); break;
    case OP_DROPOUT_BACKWARD: ops->dropout_backward(cx, OF(dx), OF(dy), call->drop); break;
    case OP_CLASSIFIER:
        ops->classifier(cx, OF(losses), OF(dlogits), OF(logits), OF(targets), c->shape.V,
                        c->softcap);
        break;
    case OP_NEGATIVE_SAMPLING: ops->negative_sampling(cx, OF(losses), OF(dx), OF(x)); break;
    case OP_LOSS_SUM: ops->loss_sum(cx, OF(losses)); break;
    case OP_GRAD_NORM: ops->grad_norm(cx, OF(flags), t + 1, N_GRADS); break;
    case OP_ADAMW:
        ops->adamw(cx, OF(w), OF(w_act), OF(m), OF(v), OF(grad), call->adamw);
        break;
    case OP_MUON: dispatch_muon(call, t, cx, ops); break;
    case OP_KINDS: break;
    }
}
#undef OF

static Tensor upload(Backend *b, const Operand *o) {
    Tensor t = {NULL, type_on(b, o->type), o->rank, {1, 1, 1, 1}};
    if (!o->value) return TENSOR_NONE;
    for (int i = 0; i < o->rank; i++) t.dim[i] = o->dim[i];
    if (o->shares >= 0) return t; /* gets the other's memory */
    void *host = malloc((size_t)tensor_bytes(t) + 1);
    CHECK(host, "no memory");
    encode(host, o->value, tensor_count(t), t.dtype);
    t.data = device_new(b, host, tensor_bytes(t));
    free(host);
    return t;
}

static bool is_shared(const Call *call, int i) {
    for (int k = 0; k < call->n_operands; k++)
        if (call->operand[k].value && call->operand[k].shares == i) return true;
    return false;
}

/* Outputs come back; inputs must be as they were. */
static void download(Backend *b, const Call *call, int i, Tensor t) {
    const Operand *o = &call->operand[i];
    const int64_t n = tensor_count(t), bytes = tensor_bytes(t);
    char *host = malloc((size_t)bytes + 1), *sent = malloc((size_t)bytes + 1);
    CHECK(host && sent, "no memory");
    device_read(b, host, t.data, bytes, o->name);
    encode(sent, o->value, n, t.dtype);
    if (o->use & USE_OUT) decode(o->value, host, n, t.dtype);
    else if (!is_shared(call, i))
        CHECK(!memcmp(host, sent, (size_t)bytes), "%s changed its input %s", op_names[call->c.op],
              o->name);
    free(host);
    free(sent);
}

void call_run(Call *call, Backend *b) {
    Tensor t[MAX_OPERANDS];
    for (int i = 0; i < call->n_operands; i++) t[i] = upload(b, &call->operand[i]);
    for (int i = 0; i < call->n_operands; i++)
        if (call->operand[i].shares >= 0) t[i].data = t[call->operand[i].shares].data;
    const int64_t scratch = b->ops->scratch(call->c.op, &call->c.shape, &b->properties);
    OpContext cx = {.backend = b, .scratch_bytes = scratch};
    cx.params = device_new(b, &call->params, sizeof call->params);
    cx.result = device_new(b, &call->result, sizeof call->result);
    cx.scratch = device_new(b, NULL, scratch);
    b->fill(b, cx.scratch, 0xFF, scratch, NULL); /* NaN */

    dispatch(call, t, &cx, b->ops);

    b->stream_finish(b, NULL);
    for (int i = 0; i < call->n_operands; i++)
        if (t[i].data) download(b, call, i, t[i]);
    device_read(b, &call->result, cx.result, sizeof call->result, "result");
    char *host = malloc((size_t)scratch + 1);
    CHECK(host, "no memory");
    device_read(b, host, cx.scratch, scratch, "scratch");
    free(host);
    for (int i = 0; i < call->n_operands; i++)
        if (t[i].data && call->operand[i].shares < 0) b->free(b, t[i].data);
    b->free(b, cx.scratch);
    b->free(b, cx.result);
    b->free(b, (void *)cx.params);
}

/* ---- comparison ---- */

/* |got - want| / |want|. No case has an answer that is not finite. */
static double distance(const double *got, const double *want, int64_t n) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(got[i]) || !isfinite(want[i])) return INFINITY;
        difference += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return difference > 0 ? sqrt(difference / (norm > 0 ? norm : 1)) : 0;
}

/* StepResult as numbers, so that all of it is compared like an output. */
typedef struct Numbers {
    double value[5];
} Numbers;
static const char *const result_names[] = {"loss", "grad_norm", "clip_factor", "bad", "first_bad"};

static Numbers numbers(StepResult r) {
    return (Numbers){{r.loss, r.grad_norm, r.clip_factor, r.bad, r.first_bad}};
}

/* The largest error, each divided by what bound_of says; NULL: by 1. */
static double largest(const Call *got, const Call *want, const char **where,
                      double (*bound_of)(const Call *, const Operand *)) {
    double worst = 0;
    for (int i = 0; i < got->n_operands; i++) {
        const Operand *o = &got->operand[i];
        if (!o->value || !(o->use & USE_OUT)) continue;
        const double error = distance(o->value, want->operand[i].value, operand_count(o)) /
                             (bound_of ? bound_of(got, o) : 1);
        if (error > worst) worst = error, *where = o->name;
    }
    const Numbers a = numbers(got->result), b = numbers(want->result);
    for (int64_t i = 0; i < COUNT_OF(result_names); i++) {
        const double error =
            distance(&a.value[i], &b.value[i], 1) / (bound_of ? bound_of(got, NULL) : 1);
        if (error > worst) worst = error, *where = result_names[i];
    }
    return worst;
}

double call_error(const Call *got, const Call *want, const char **where) {
    return largest(got, want, where, NULL);
}

bool call_same_bits(const Call *a, const Call *b, const char **where) {
    for (int i = 0; i < a->n_operands; i++) {
        const Operand *o = &a->operand[i];
        if (!o->value || !(o->use & USE_OUT)) continue;
        *where = o->name;
        if (memcmp(o->value, b->operand[i].value, (size_t)operand_count(o) * sizeof *o->value))
            return false;
    }
    *where = "result";
    return !memcmp(&a->result, &b->result, sizeof a->result);
}

/* Unit roundoff: half the distance from 1 to the next number. */
static double roundoff(DType t) {
    return t == DTYPE_F64 ? 0x1p-53 : t == DTYPE_F32 ? 0x1p-24 : 0x1p-8;
}

/* The longest sum of an op: after n additions of numbers of random sign, both the sum and its
 * rounding error grow like sqrt(n) times the summands, the error with one more factor sqrt(n) *
 * roundoff. */
static int64_t longest_sum(const OpCase *c) {
    const OpShape *s = &c->shape;
    const int64_t N = s->B * s->T, context = i64_max(s->T, c->context);
    switch (c->op) {
    case OP_EMBED_BACKWARD:
    case OP_LINEAR_BACKWARD_WEIGHT:
    case OP_LOSS_SUM: return N;
    case OP_RESIDUAL_NORM_FORWARD:
    case OP_LINEAR_FORWARD: return s->C;
    case OP_RESIDUAL_NORM_BACKWARD: return i64_max(N, s->C);
    case OP_LINEAR_BACKWARD_INPUT: return i64_max(N, s->O);
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_DECODE: return context + s->D;
    case OP_ATTENTION_BACKWARD: return N + s->D;
    case OP_ROTATE_FORWARD: return s->D;
    case OP_ROTATE_BACKWARD: return i64_max(N, s->D);
    case OP_CLASSIFIER: return s->V;
    case OP_RECURRENCE_FORWARD: /* an error of one step is about as large in the next */
    case OP_RECURRENCE_BACKWARD: return s->T * s->C;
    case OP_NEGATIVE_SAMPLING: return s->T + s->C;
    case OP_GRAD_NORM: return N * s->C;
    case OP_MUON: return i64_max(s->O, s->C);
    default: return 1;
    }
}

/* How often the error of a sum enters the result, and how much larger it gets there.
 *
 * Muon: an error of X made in one Newton-Schulz step reaches O along the singular vectors i and j
 * about min(3.4445^5, 1 / (s_i + s_j)) times as large: the slope of the steps, as long as they
 * enlarge, and that of the polar factor. In a random matrix of norm 1 most s are near
 * 1 / sqrt(side), so errors grow by about sqrt(side), as X itself does, and keep their size beside
 * it; the few directions with small s hold a small part of an error. That leaves the errors of five
 * polynomials and of their products with X. */
static double magnification(const OpCase *c) { return c->op == OP_MUON ? 10 : 1; }

/* Roundings to act on the way to an output: an act value is rounded when it is stored, and about
 * once more before (probabilities that enter a product, say). Muon rounds X and two polynomials in
 * each of five steps; fifteen independent errors add up to sqrt(15) of one. A recurrence rounds
 * its state in every step. */
static double roundings(const OpCase *c) {
    const bool recurs = c->op == OP_RECURRENCE_FORWARD || c->op == OP_RECURRENCE_BACKWARD;
    return 2 * sqrt(c->op == OP_MUON ? 15 : recurs ? (double)c->shape.T : 1);
}

/* SUMS: the constant of the argument above, and the few operations that follow a sum. On cpu the
 * errors seen are at most two thirds of the bound, most a tenth. */
static double sum_tolerance(const Call *call) {
    const double SUMS = 2;
    return SUMS * sqrt((double)longest_sum(&call->c)) * magnification(&call->c) *
           roundoff(call->master);
}

double call_tolerance(const Call *call) {
    return roundings(&call->c) * roundoff(call->act) + sum_tolerance(call);
}

/* f32 outputs that are made of values rounded to act: statistics of the residual stream and of
 * heads, column sums of a gradient, and what Muon makes. */
static bool made_of_act(OpKind op, const char *name) {
    return (op == OP_RESIDUAL_NORM_FORWARD && (!strcmp(name, "mean") || !strcmp(name, "rstd"))) ||
           (op == OP_LINEAR_BACKWARD_INPUT && !strcmp(name, "dbias_prev")) ||
           (op == OP_RESIDUAL_NORM_BACKWARD && !strcmp(name, "dbias_prev")) ||
           ((op == OP_ATTENTION_BACKWARD || op == OP_ROTATE_BACKWARD) && !strcmp(name, "dbias")) ||
           (op == OP_MUON && !strcmp(name, "w"));
}

/* NULL: a number of StepResult. Other f32 outputs have the two roundings of f32 itself. */
static double output_tolerance(const Call *call, const Operand *o) {
    if (o && (o->type == OPERAND_ACT || made_of_act(call->c.op, o->name)))
        return call_tolerance(call);
    return sum_tolerance(call) + 2 * roundoff(call->master);
}

double call_excess(const Call *got, const Call *want, const char **where) {
    return largest(got, want, where, output_tolerance);
}

/* ---- around the calls ---- */

static void log_nothing(int level, const char *text) { (void)level, (void)text; }
static void all_reduce(void *data, int64_t n, DType t) { (void)data, (void)n, (void)t; }
static void gather(void *recv, const void *send, int64_t n, DType t) {
    memmove(recv, send, (size_t)(n * dtype_bytes(t)));
}
static void broadcast(void *data, int64_t bytes, int root) { (void)data, (void)bytes, (void)root; }
static void fatal(const char *text) {
    fprintf(stderr, "%s\n", text);
    abort();
}

HostServices driver_host(int n_threads) {
    return (HostServices){.n_ranks = 1,
                          .n_threads = n_threads,
                          .log = log_nothing,
                          .fatal = fatal,
                          .all_reduce = all_reduce,
                          .reduce_scatter = gather,
                          .all_gather = gather,
                          .broadcast = broadcast};
}

#ifndef __x86_64__ /* whose builds there are */
#define backend_open_cpu_wide backend_open_cpu_base
#endif

void driver_open_cpu(Backend *b, int build, int n_threads) {
    Error e = {0};
    const HostServices host = driver_host(n_threads);
    const bool open = build == CPU_F64    ? backend_open_cpu_f64(b, &host, &e)
                      : build == CPU_BASE ? backend_open_cpu_base(b, &host, &e)
                      : build == (int)backend_cpu_best() || build == CPU_BEST
                          ? backend_open_cpu(b, &host, &e)
                          : backend_open_cpu_wide(b, &host, &e);
    CHECK(open, "%s", e.text);
}

void driver_open_device(Backend *b, const char *device, const char *dtype) {
    char path[4096];
    Error e = {0};
    const char *puck = getenv("PUCK"), *slash = puck ? strrchr(puck, '/') : NULL;
    const int length = slash ? (int)(slash - puck) : 1;
    snprintf(path, sizeof path, "%.*s/libpuck_%s.so", length, slash ? puck : ".", device);
    CHECK(plugin_open(b, strchr(device, '/') ? device : path, dtype, 1, &e), "%s", e.text);
}

bool driver_is_emulator(const Backend *b) { return !strcmp(b->name, "emu"); }

bool driver_has_time_for(const Backend *b, const OpCase *c) {
    return !c->hot || (!driver_is_emulator(b) && !getenv("PUCK_TEST_SMALL"));
}

bool driver_covers(const int counts[OP_KINDS], const double worst[OP_KINDS],
                   bool (*wants)(OpKind)) {
    bool all = true;
    for (int op = 0; op < OP_KINDS; op++) {
        const bool wanted = !wants || wants((OpKind)op);
        if (wanted) printf("# %-24s %3d cases", op_names[op], counts[op]);
        if (wanted && worst) printf("  worst %.2g of the bound", worst[op]);
        if (wanted) printf("\n");
        all &= !wanted || counts[op] > 0;
    }
    return all;
}

void driver_check_scratch(const Backend *b) {
    OpShape s = {.B = 1, .C = 128, .O = 384, .H = 4, .K = 4, .D = 32, .V = 65, .Vp = 128};
    for (int op = 0; op < OP_KINDS; op++) {
        int64_t before = 0;
        for (s.T = 1; s.T < 2200; s.T++) {
            const int64_t bytes = b->ops->scratch((OpKind)op, &s, &b->properties);
            CHECK(bytes >= before, "%s, %s: %ld bytes for %ld rows, %ld for one less", b->name,
                  op_names[op], (long)bytes, (long)s.T, (long)before);
            before = bytes;
        }
    }
}
