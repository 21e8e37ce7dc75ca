/* Operands of a case (the shapes of ops.h) and random values for them. */
#include "driver.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- operands ---- */

static bool lacks(const OpCase *c, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = c->without; at && *at; at += strspn(at, " ")) {
        const size_t word = strcspn(at, " ");
        if (word == length && !strncmp(at, name, length)) return true;
        at += word;
    }
    return false;
}

static void add(Call *call, const char *name, OperandType type, OperandUse use, int rank,
                const int64_t *dim) {
    CHECK(call->n_operands < MAX_OPERANDS, "%s", name);
    Operand *o = &call->operand[call->n_operands++];
    *o = (Operand){.name = name, .type = type, .use = use, .rank = rank, .shares = -1};
    for (int i = 0; i < TENSOR_MAX_RANK; i++) o->dim[i] = i < rank ? dim[i] : 1;
    if (lacks(&call->c, name)) return;
    o->value = malloc((size_t)operand_count(o) * sizeof *o->value);
    CHECK(o->value, "no memory");
}
#define ADD(name, type, use, ...)                                                                  \
    add(call, name, OPERAND_##type, USE_##use, (int)COUNT_OF(((int64_t[]){__VA_ARGS__})),          \
        (const int64_t[]){__VA_ARGS__})

static void share(Call *call, const char *out, const char *in) {
    if (call->c.in_place) call_find(call, out)->shares = (int)(call_find(call, in) - call->operand);
}

static void add_embedding(Call *call, OpShape s, int64_t context) {
    if (call->c.op == OP_EMBED_FORWARD) {
        ADD("x", ACT, OUT, s.B, s.T, s.C);
        ADD("wte", ACT, IN, s.Vp, s.C);
        ADD("wpe", ACT, IN, context, s.C);
        ADD("tokens", INT, IN, s.B, s.T);
        ADD("position", INT, IN, s.B);
    } else {
        ADD("dwte", MASTER, ADD, s.Vp, s.C);
        ADD("dwpe", MASTER, ADD, context, s.C);
        ADD("dx", ACT, IN, s.B, s.T, s.C);
        ADD("tokens", INT, IN, s.B, s.T);
        ADD("order", INT, IN, s.B * s.T);
        ADD("starts", INT, IN, s.B * s.T + 1);
    }
}

static void add_norm(Call *call, int64_t N, int64_t C) {
    if (call->c.op == OP_RESIDUAL_NORM_FORWARD) {
        ADD("res", ACT, OUT, N, C);
        ADD("y", ACT, OUT, N, C);
        ADD("mean", MASTER, OUT, N);
        ADD("rstd", MASTER, OUT, N);
        ADD("res_in", ACT, IN, N, C);
        ADD("x", ACT, IN, N, C);
        ADD("w", ACT, IN, C);
        ADD("b", ACT, IN, C);
        share(call, "res", "res_in");
    } else {
        ADD("dres", ACT, ADD, N, C);
        ADD("dx", ACT, OUT, N, C);
        ADD("dw", MASTER, ADD, C);
        ADD("db", MASTER, ADD, C);
        ADD("dbias_prev", MASTER, ADD, C);
        ADD("dy", ACT, IN, N, C);
        ADD("res", ACT, IN, N, C);
        ADD("mean", MASTER, IN, N);
        ADD("rstd", MASTER, IN, N);
        ADD("w", ACT, IN, C);
    }
}

static void add_linear(Call *call, int64_t N, int64_t C, int64_t O) {
    if (call->c.op == OP_LINEAR_FORWARD) {
        ADD("y", ACT, OUT, N, O);
        ADD("aux", ACT, OUT, N, O);
        ADD("x", ACT, IN, N, C);
        ADD("w", ACT, IN, O, C);
        ADD("bias", ACT, IN, O);
    } else if (call->c.op == OP_LINEAR_BACKWARD_INPUT) {
        ADD("dx", ACT, OUT, N, C);
        ADD("dbias_prev", MASTER, ADD, C);
        ADD("dy", ACT, IN, N, O);
        ADD("w", ACT, IN, O, C);
        ADD("aux", ACT, IN, N, C);
    } else {
        ADD("dw", MASTER, ADD, O, C);
        ADD("dbias", MASTER, ADD, O);
        ADD("dy", ACT, IN, N, O);
        ADD("x", ACT, IN, N, C);
    }
}

static void add_attention(Call *call, OpShape s, int64_t context) {
    const int64_t R = (s.H + 2 * s.K) * s.D, out = s.H * s.D;
    if (call->c.op == OP_ATTENTION_FORWARD) {
        ADD("y", ACT, OUT, s.B, s.T, out);
        ADD("lse", MASTER, OUT, s.B, s.H, s.T);
        ADD("qkv", ACT, IN, s.B, s.T, R);
    } else if (call->c.op == OP_ATTENTION_BACKWARD) {
        ADD("dqkv", ACT, OUT, s.B, s.T, R);
        ADD("dbias", MASTER, ADD, R);
        ADD("dy", ACT, IN, s.B, s.T, out);
        ADD("y", ACT, IN, s.B, s.T, out);
        ADD("qkv", ACT, IN, s.B, s.T, R);
        ADD("lse", MASTER, IN, s.B, s.H, s.T);
    } else {
        ADD("y", ACT, OUT, s.B, s.T, out);
        ADD("k_cache", ACT, ADD, s.B, s.K, context, s.D);
        ADD("v_cache", ACT, ADD, s.B, s.K, context, s.D);
        ADD("qkv", ACT, IN, s.B, s.T, R);
        ADD("position", INT, IN, s.B);
    }
}

static void add_rotate(Call *call, OpShape s) {
    const int64_t R = (s.H + 2 * s.K) * s.D, N = s.B * s.T;
    if (call->c.op == OP_ROTATE_FORWARD) {
        ADD("qkv", ACT, ADD, s.B, s.T, R);
        ADD("rstd", MASTER, OUT, N, s.H + s.K);
        ADD("position", INT, IN, s.B);
    } else {
        ADD("dqkv", ACT, ADD, s.B, s.T, R);
        ADD("dbias", MASTER, ADD, R);
        ADD("qkv", ACT, IN, s.B, s.T, R);
        ADD("rstd", MASTER, IN, N, s.H + s.K);
    }
}

static void add_optimiser(Call *call, int64_t N, int64_t C) {
    if (call->c.op == OP_GRAD_NORM) {
        ADD("flags", INT, OUT, N_GRADS);
        ADD("grad 0", MASTER, IN, C);
        ADD("grad 1", MASTER, IN, N, C);
        ADD("grad 2", MASTER, IN, 1);
        ADD("grad 3", MASTER, IN, C, C);
    } else if (call->c.op == OP_MUON) {
        const OpShape s = call->c.shape;
        ADD("w", MASTER, ADD, s.B, s.O, C);
        ADD("w_act", ACT, OUT, s.B, s.O, C);
        ADD("mom", MASTER, ADD, s.B, s.O, C);
        ADD("grad", MASTER, IN, s.B, s.O, C);
    } else {
        ADD("w", MASTER, ADD, N, C);
        ADD("w_act", ACT, OUT, N, C);
        ADD("m", MASTER, ADD, N, C);
        ADD("v", MASTER, ADD, N, C);
        ADD("grad", MASTER, IN, N, C);
    }
}

static void add_sampling(Call *call, OpShape s) {
    ADD("losses", MASTER, OUT, s.B);
    ADD("dx", ACT, OUT, s.B, s.T, s.C);
    ADD("x", ACT, IN, s.B, s.T, s.C);
    share(call, "dx", "x");
}

static void add_rowwise(Call *call, int64_t N, OpShape s) {
    switch (call->c.op) {
    case OP_SWIGLU_FORWARD:
        ADD("y", ACT, OUT, N, s.C);
        ADD("u", ACT, IN, N, 2 * s.C);
        break;
    case OP_SWIGLU_BACKWARD:
        ADD("du", ACT, OUT, N, 2 * s.C);
        ADD("dy", ACT, IN, N, s.C);
        ADD("u", ACT, IN, N, 2 * s.C);
        break;
    case OP_RECURRENCE_FORWARD:
        ADD("h", ACT, OUT, s.T, s.B, s.C);
        ADD("u", ACT, IN, s.T, s.B, s.C);
        ADD("h0", ACT, IN, s.B, s.C);
        ADD("w", ACT, IN, s.C, s.C);
        share(call, "h", "u");
        break;
    case OP_RECURRENCE_BACKWARD:
        ADD("du", ACT, OUT, s.T, s.B, s.C);
        ADD("dh", ACT, IN, s.T, s.B, s.C);
        ADD("h", ACT, IN, s.T, s.B, s.C);
        ADD("w", ACT, IN, s.C, s.C);
        share(call, "du", "dh");
        break;
    case OP_ACTIVATION_FORWARD:
        ADD("y", ACT, OUT, s.B, s.T, s.C);
        ADD("x", ACT, IN, s.B, s.T, s.C);
        break;
    case OP_ACTIVATION_BACKWARD:
        ADD("dx", ACT, OUT, s.B, s.T, s.C);
        ADD("dy", ACT, IN, s.B, s.T, s.C);
        ADD("x", ACT, IN, s.B, s.T, s.C);
        share(call, "dx", "dy");
        break;
    case OP_DROPOUT_FORWARD:
        ADD("y", ACT, OUT, N, s.C);
        ADD("x", ACT, IN, N, s.C);
        share(call, "y", "x");
        break;
    case OP_DROPOUT_BACKWARD:
        ADD("dx", ACT, OUT, N, s.C);
        ADD("dy", ACT, IN, N, s.C);
        share(call, "dx", "dy");
        break;
    case OP_CLASSIFIER:
        ADD("losses", MASTER, OUT, N);
        ADD("dlogits", ACT, OUT, N, s.Vp);
        ADD("logits", ACT, IN, N, s.Vp);
        ADD("targets", INT, IN, N);
        share(call, "dlogits", "logits");
        break;
    case OP_NEGATIVE_SAMPLING: add_sampling(call, s); break;
    default: ADD("losses", MASTER, IN, N);
    }
}

static void add_operands(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t N = s.B * s.T, context = i64_max(s.T, call->c.context);
    switch (call->c.op) {
    case OP_EMBED_FORWARD:
    case OP_EMBED_BACKWARD: add_embedding(call, s, context); break;
    case OP_RESIDUAL_NORM_FORWARD:
    case OP_RESIDUAL_NORM_BACKWARD: add_norm(call, N, s.C); break;
    case OP_LINEAR_FORWARD:
    case OP_LINEAR_BACKWARD_INPUT:
    case OP_LINEAR_BACKWARD_WEIGHT: add_linear(call, N, s.C, s.O); break;
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_BACKWARD:
    case OP_ATTENTION_DECODE: add_attention(call, s, context); break;
    case OP_ROTATE_FORWARD:
    case OP_ROTATE_BACKWARD: add_rotate(call, s); break;
    case OP_GRAD_NORM:
    case OP_ADAMW:
    case OP_MUON: add_optimiser(call, N, s.C); break;
    default: add_rowwise(call, N, s);
    }
}

/* ---- access ---- */

Operand *call_find(Call *call, const char *name) {
    for (int i = 0; i < call->n_operands; i++)
        if (!strcmp(call->operand[i].name, name)) return &call->operand[i];
    return NULL;
}

double *call_value(Call *call, const char *name) {
    const Operand *o = call_find(call, name);
    return o ? o->value : NULL;
}

int64_t operand_count(const Operand *o) {
    int64_t n = 1;
    for (int i = 0; i < o->rank; i++) n *= o->dim[i];
    return n;
}

double value_round(double value, DType type) {
    if (type == DTYPE_F64 || type == DTYPE_I32 || isnan(value)) return value;
    const float f = (float)value;
    if (type == DTYPE_F32) return f;
    uint32_t bits; /* bf16: to nearest, ties to even */
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
    float rounded;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}

static void round_operand(const Call *call, Operand *o) {
    if (!o->value || o->type == OPERAND_INT) return;
    const DType type = o->type == OPERAND_ACT ? call->act : call->master;
    for (int64_t i = 0; i < operand_count(o); i++) o->value[i] = value_round(o->value[i], type);
}

static uint32_t site_of(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return rng_site(RNG_TEST, hash & 0xFFFFFF);
}

int64_t call_random(const Call *call, const char *use, int64_t i, int64_t n) {
    return (int64_t)rng_below((uint64_t)n, call->params.seed, 0, site_of(use), (uint64_t)i);
}

/* ---- values ---- */

static void fill_random(Call *call) {
    for (int k = 0; k < call->n_operands; k++) {
        const Operand *o = &call->operand[k];
        const uint32_t site = site_of(o->name);
        for (int64_t i = 0; o->value && i < operand_count(o); i++) {
            if (o->type == OPERAND_INT) o->value[i] = -77;
            else if (o->use == USE_OUT) o->value[i] = NAN;
            else o->value[i] = rng_normal(call->params.seed, 0, site, (uint64_t)i);
        }
    }
}

/* values = values * by */
static void scale(Call *call, const char *name, double by) {
    const Operand *o = call_find(call, name);
    for (int64_t i = 0; o && o->value && i < operand_count(o); i++) o->value[i] *= by;
}

static void fill_integers(Call *call, const char *name, int64_t below) {
    const Operand *o = call_find(call, name);
    for (int64_t i = 0; o && o->value && i < operand_count(o); i++)
        o->value[i] = (double)call_random(call, name, i, below);
}

/* A stable sort of rows by token, and where each token's rows start. */
static void sort_tokens(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t N = s.B * s.T;
    const double *tokens = call_value(call, "tokens");
    double *order = call_value(call, "order"), *starts = call_value(call, "starts");
    int64_t placed = 0, segment = 0;
    for (int64_t v = 0; v < s.V; v++) {
        const int64_t first = placed;
        for (int64_t n = 0; n < N; n++)
            if (tokens[n] == (double)v) order[placed++] = (double)n;
        if (placed > first) starts[segment++] = (double)first;
    }
    while (segment <= N) starts[segment++] = (double)N;
}

/* Saved statistics of the random inputs, from the forward op's reference. */
static void fill_saved(Call *call, OpKind forward, const char *from, const char *to,
                       const char *const saved[2]) {
    OpCase c = call->c;
    c.op = forward;
    c.without = forward == OP_RESIDUAL_NORM_FORWARD ? "res x w b" : NULL;
    c.rate = forward == OP_ATTENTION_FORWARD ? c.rate : 0;
    Call before;
    call_make(&before, &c, call->act, call->master);
    round_operand(call, call_find(call, from));
    const Operand *input = call_find(call, from);
    memcpy(call_value(&before, to), input->value,
           (size_t)operand_count(input) * sizeof *input->value);
    call_reference(&before);
    for (int i = 0; i < 2; i++) {
        const Operand *o = call_find(call, saved[i]);
        if (o->value)
            memcpy(o->value, call_value(&before, saved[i]),
                   (size_t)operand_count(o) * sizeof *o->value);
    }
    call_free(&before);
}

static void fill_classifier(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t N = s.B * s.T;
    double *logits = call_value(call, "logits"), *targets = call_value(call, "targets");
    scale(call, "logits", 4);
    fill_integers(call, "targets", s.V);
    for (int64_t n = 0; n < N; n++) {
        if (n % 5 == 3) targets[n] = -1;
        for (int64_t i = s.V; i < s.Vp; i++) logits[n * s.Vp + i] = 1e4; /* must not matter */
    }
}

static void fill_special(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t context = i64_max(s.T, call->c.context);
    fill_integers(call, "tokens", s.V);
    fill_integers(call, "position", context - s.T + 1);
    switch (call->c.op) {
    case OP_EMBED_BACKWARD: sort_tokens(call); break;
    case OP_LINEAR_FORWARD:
    case OP_RECURRENCE_FORWARD:
    case OP_RECURRENCE_BACKWARD:
    case OP_LINEAR_BACKWARD_INPUT: scale(call, "w", 1 / sqrt((double)s.C)); break;
    case OP_RESIDUAL_NORM_BACKWARD:
        fill_saved(call, OP_RESIDUAL_NORM_FORWARD, "res", "res_in",
                   (const char *const[]){"mean", "rstd"});
        break;
    case OP_ATTENTION_BACKWARD:
        fill_saved(call, OP_ATTENTION_FORWARD, "qkv", "qkv", (const char *const[]){"y", "lse"});
        break;
    case OP_ROTATE_BACKWARD:
        fill_saved(call, OP_ROTATE_FORWARD, "qkv", "qkv", (const char *const[]){"qkv", "rstd"});
        break;
    case OP_CLASSIFIER: fill_classifier(call); break;
    case OP_MUON: scale(call, "w", 1 / sqrt((double)i64_max(s.O, s.C))); break; /* like O */
    case OP_ADAMW: {
        const Operand *v = call_find(call, "v");
        for (int64_t i = 0; i < operand_count(v); i++) v->value[i] *= v->value[i];
        break;
    }
    default: break;
    }
}

void call_make(Call *call, const OpCase *c, DType act, DType master) {
    const int64_t N = c->shape.B * c->shape.T;
    *call = (Call){.c = *c,
                   .act = act,
                   .master = master,
                   .params = {.seed = 0x9E3779B97F4A7C15u,
                              .row_base = c->row_base,
                              .step = 7,
                              .training = 1,
                              .loss_scale = 1 / (double)N,
                              .lr = 0.01,
                              .max_grad_norm = N > 1 ? 1 : 0},
                   .result = {.loss = 0.25, .clip_factor = 0.5},
                   .drop = {(float)c->rate, rng_site(RNG_TEST, 1)},
                   .eps = 1e-5,
                   .rotation = {c->turn != 0, c->turn < 0, .base = 10000, .eps = 1e-5},
                   .adamw = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1,
                             .lr_scale = 0.5},
                   .muon = {.momentum = 0.95, .weight_decay = 0.1, .lr_scale = 100}};
    add_operands(call);
    fill_random(call);
    fill_special(call);
    for (int i = 0; i < call->n_operands; i++) round_operand(call, &call->operand[i]);
}

void call_free(Call *call) {
    for (int i = 0; i < call->n_operands; i++) free(call->operand[i].value);
    call->n_operands = 0;
}

void call_copy(Call *to, const Call *from) {
    *to = *from;
    for (int i = 0; i < from->n_operands; i++) {
        const Operand *o = &from->operand[i];
        if (!o->value) continue;
        const size_t bytes = (size_t)operand_count(o) * sizeof *o->value;
        to->operand[i].value = malloc(bytes);
        CHECK(to->operand[i].value, "no memory");
        memcpy(to->operand[i].value, o->value, bytes);
    }
}
