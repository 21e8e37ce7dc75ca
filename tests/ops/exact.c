/* Inputs whose results are exact: small integers and powers of two, with saturated softmaxes and
 * GELUs, so that any correct order of operations gives the same bits. */
#include "driver.h"
#include <math.h>
#include <string.h>

/* Integers from -most to most, times unit. */
static void integers(Call *call, const char *name, int64_t most, double unit) {
    const Operand *o = call_find(call, name);
    for (int64_t i = 0; o && o->value && i < operand_count(o); i++)
        o->value[i] = unit * (double)(call_random(call, name, i, 2 * most + 1) - most);
}

/* GELU of this is itself and of its negative is 0, even in a double. */
static const double SATURATED = 64;

/* 0 or SATURATED: the slope of GELU is 1/2 and 1. (Far below 0 an implementation may stop at the
 * last value that it can represent, so the slope there has no one right answer.) */
static void half_saturated(Call *call, const char *name) {
    const Operand *o = call_find(call, name);
    for (int64_t i = 0; o && o->value && i < operand_count(o); i++)
        o->value[i] = call_random(call, name, i, 2) ? SATURATED : 0;
}

static void exact_linear(Call *call) {
    const bool gelu = call->c.activation == ACTIVATION_GELU;
    const bool forward = call->c.op == OP_LINEAR_FORWARD;
    const double unit = gelu && forward ? SATURATED : 1;
    integers(call, "x", 2, 1);
    integers(call, "w", 2, unit);
    integers(call, "bias", 3, unit);
    integers(call, "dy", 2, 1);
    if (forward) return;
    if (gelu) half_saturated(call, "aux");
    else integers(call, "aux", 2, 1);
}

/* ---- norm: a row is m + s * (+1 or -1), as many of each: its mean is m, its deviation s ---- */

typedef struct NormRow {
    double mean, deviation; /* the deviation is a power of two */
} NormRow;

static NormRow norm_row(const Call *call, int64_t n) {
    const double mean = (double)(call_random(call, "row mean", n, 7) - 3);
    return (NormRow){call->c.kind == NORM_LAYER ? mean : 0,
                     ldexp(1, (int)call_random(call, "row deviation", n, 3) - 1)};
}

/* + - + - of each four columns, or - + - +. */
static double norm_sign(const Call *call, int64_t i) {
    const bool flip = call_random(call, "sign", i / 4, 2);
    return (i % 2 == 0) == flip ? 1 : -1;
}

static bool exact_norm_forward(Call *call, int64_t N, int64_t C) {
    double *res_in = call_value(call, "res_in"), *x = call_value(call, "x");
    call->eps = 0;
    integers(call, "x", 3, 1);
    integers(call, "w", 2, 1);
    integers(call, "b", 2, 1);
    for (int64_t i = 0; i < N * C; i++) {
        const NormRow row = norm_row(call, i / C);
        const double branch = x ? call_mask(call, call->params.row_base * C + i) * x[i] : 0;
        res_in[i] = row.mean + row.deviation * norm_sign(call, i) - branch;
    }
    return C % 4 == 0;
}

/* g = a + m + k * xhat with a = (z, z, -z, -z) on each four columns, which is orthogonal to 1 and
 * to xhat: so mean(g) = m and mean(g * xhat) = k. */
static bool exact_norm_backward(Call *call, int64_t N, int64_t C) {
    double *dy = call_value(call, "dy"), *w = call_value(call, "w"), *res = call_value(call, "res");
    double *mean = call_value(call, "mean"), *rstd = call_value(call, "rstd");
    for (int64_t c = 0; w && c < C; c++) w[c] = call_random(call, "w", c, 2) ? 1 : -1;
    for (int64_t i = 0; i < N * C; i++) {
        const int64_t n = i / C, c = i % C;
        const NormRow row = norm_row(call, n);
        const double xhat = norm_sign(call, i), a = (double)call_random(call, "a", i / 4, 5);
        const double m = (double)call_random(call, "m", n, 3) - 1;
        const double k = (double)call_random(call, "k", n, 3) - 1;
        res[i] = row.mean + row.deviation * xhat;
        dy[i] = ((c % 4 < 2 ? a : -a) + m + k * xhat) * (w ? w[c] : 1);
        if (mean) mean[n] = row.mean;
        rstd[n] = 1 / row.deviation;
    }
    return C % 4 == 0;
}

/* ---- attention: row i attends to one row j, all other probabilities are 0 in a double ---- */

/* Keys are 2048 times the bits of j as +1 and -1, each bit repeated, and a query is the code of its
 * j: a wrong key scores at least 1024 less. Scores are integers where sqrt(D) is a power of two. */
enum { CODE_BITS = 9, KEY = 2048 };

static double code(int64_t j, int64_t d, int64_t D) {
    const int64_t bit = d / (D / CODE_BITS);
    return bit >= CODE_BITS ? 0 : (j >> bit & 1) ? 1 : -1;
}

/* Row n of qkv; `position` is its place in the sequence. */
static void exact_row(Call *call, double *row, int64_t n, int64_t position) {
    const OpShape s = call->c.shape;
    for (int64_t h = 0; h < s.H + 2 * s.K; h++) {
        const int64_t j = call_random(call, "attended", n * s.H + h, position + 1);
        for (int64_t d = 0; d < s.D; d++) {
            const int64_t i = h * s.D + d;
            if (h < s.H) row[i] = code(j, d, s.D);
            else if (h < s.H + s.K) row[i] = KEY * code(position, d, s.D);
            else row[i] = (double)call_random(call, "v", n * s.K * s.D + i, 9) - 4;
        }
    }
}

static bool exact_attention(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t R = (s.H + 2 * s.K) * s.D, context = i64_max(s.T, call->c.context);
    const double *position = call_value(call, "position");
    double *qkv = call_value(call, "qkv"), *k_cache = call_value(call, "k_cache");
    if ((s.D != 16 && s.D != 64) || context > 1 << CODE_BITS) return false;
    for (int64_t n = 0; n < s.B * s.T; n++)
        exact_row(call, qkv + n * R, n, n % s.T + (position ? (int64_t)position[n / s.T] : 0));
    for (int64_t i = 0; k_cache && i < s.B * s.K * context * s.D; i++)
        k_cache[i] = KEY * code(i / s.D % context, i % s.D, s.D);
    integers(call, "v_cache", 4, 1);
    integers(call, "dy", 3, 1);
    if (call->c.op != OP_ATTENTION_BACKWARD) return true;

    OpCase c = call->c;
    c.op = OP_ATTENTION_FORWARD;
    c.without = NULL;
    Call forward;
    const bool exact = call_make_exact(&forward, &c, call->act, call->master);
    call_reference(&forward);
    static const char *const saved[] = {"y", "lse"};
    for (int i = 0; i < 2; i++) {
        const Operand *o = call_find(call, saved[i]);
        memcpy(o->value, call_value(&forward, saved[i]),
               (size_t)operand_count(o) * sizeof *o->value);
    }
    call_free(&forward);
    return exact;
}

/* ---- rotation: rows at position 0 stay as they are, and so do zeros everywhere else ---- */

/* Is row n of qkv turned? Then its heads of q and k are 0. */
static bool turned(Call *call, int64_t n) {
    const double *position = call_value(call, "position");
    const int64_t T = call->c.shape.T;
    return call->c.turn && n % T + (position ? (int64_t)position[n / T] : 0) > 0;
}

/* With the norm, each four values are +-1, +-1, +-1 and +-3, whose mean square is 3; eps is 1, so
 * rstd is 1/2, and 1 for zeros. */
static bool exact_rotate_forward(Call *call, OpShape s) {
    double *qkv = call_value(call, "qkv"), *position = call_value(call, "position");
    const bool norm = call_value(call, "rstd");
    const int64_t R = (s.H + 2 * s.K) * s.D, qk = (s.H + s.K) * s.D;
    call->rotation.eps = 1;
    for (int64_t b = 1; position && b < s.B; b += 2) position[b] = 0;
    integers(call, "qkv", 4, 1);
    for (int64_t i = 0; i < s.B * s.T * R; i++) {
        if (i % R >= qk) continue;
        const bool three = call_random(call, "three", i / 4, 4) == i % 4;
        if (norm) qkv[i] = (call_random(call, "sign", i, 2) ? 1 : -1) * (three ? 3 : 1);
        if (turned(call, i / R)) qkv[i] = 0;
    }
    return !norm || s.D % 4 == 0;
}

/* y is +-1 and dy = a + k*y with a = z*y in the first two of each four columns and -z*y in the
 * others, which is orthogonal to y: so mean(dy * y) = k. */
static bool exact_rotate_backward(Call *call, OpShape s) {
    double *dqkv = call_value(call, "dqkv"), *y = call_value(call, "qkv");
    double *rstd = call_value(call, "rstd");
    const int64_t heads = s.H + s.K, R = (heads + s.K) * s.D;
    integers(call, "dqkv", 4, 1);
    for (int64_t i = 0; rstd && i < s.B * s.T * heads; i++)
        rstd[i] = ldexp(1, (int)call_random(call, "rstd", i, 3) - 1);
    for (int64_t i = 0; i < s.B * s.T * R; i++) {
        if (i % R >= heads * s.D) continue;
        const double k = (double)call_random(call, "k", i / s.D, 3) - 1;
        const double z = (double)call_random(call, "z", i / 4, 5) * (i % 4 < 2 ? 1 : -1);
        y[i] = call_random(call, "sign", i, 2) ? 1 : -1;
        dqkv[i] = turned(call, i / R) ? 0 : (z + k) * y[i];
    }
    return !rstd || s.D % 4 == 0;
}

/* ---- the rest ---- */

/* silu(0) = 0 with slope 1/2; silu(SATURATED) is itself with slope 1. */
static void exact_swiglu(Call *call) {
    const int64_t F = call->c.shape.C;
    half_saturated(call, "u");
    const Operand *u = call_find(call, "u");
    for (int64_t i = 0; i < operand_count(u); i++)
        if (i % (2 * F) >= F) u->value[i] = (double)call_random(call, "up", i, 9) - 4;
    integers(call, "dy", 4, 1);
}

/* Each value goes on to one other. Forward the state is -1, 0 or 1, as tanh(+-SATURATED) is +-1;
 * backward the slope 1 - h^2 is 0 or 1. */
static void exact_recurrence(Call *call, OpShape s, const char *input, const char *state,
                             double weight) {
    integers(call, input, 1, SATURATED);
    integers(call, state, 1, 1);
    double *w = call_value(call, "w");
    for (int64_t i = 0; i < s.C * s.C; i++)
        w[i] = i % s.C == (i / s.C + 1) % s.C ? (i % 2 ? weight : -weight) : 0;
}

/* One logit of a row far above the others: the target's in every other row. */
static void exact_classifier(Call *call) {
    const OpShape s = call->c.shape;
    double *logits = call_value(call, "logits"), *targets = call_value(call, "targets");
    for (int64_t n = 0; n < s.B * s.T; n++) {
        for (int64_t i = 0; i < s.V; i++) logits[n * s.Vp + i] = 0;
        const bool hit = n % 2 == 0 && targets[n] >= 0;
        const int64_t top = hit ? (int64_t)targets[n] : call_random(call, "top", n, s.V);
        logits[n * s.Vp + top] = 1024;
    }
}

/* One column alone is not 0, and so every score is SATURATED squared or its negative: its loss is
 * that or 0, and the slope of it 1 or 0. */
static void exact_sampling(Call *call, OpShape s) {
    double *x = call_value(call, "x");
    for (int64_t row = 0; row < s.B * s.T; row++)
        for (int64_t c = 0; c < s.C; c++)
            x[row * s.C + c] = c != row / s.T % s.C                ? 0
                               : call_random(call, "sign", row, 2) ? SATURATED
                                                                   : -SATURATED;
}

/* First step from zero moments: mhat / sqrt(vhat) is the gradient's sign. */
static void exact_adamw(Call *call) {
    const Operand *grad = call_find(call, "grad");
    for (int64_t i = 0; i < operand_count(grad); i++)
        grad->value[i] = ldexp(call_random(call, "sign", i, 2) ? 1 : -1,
                               (int)call_random(call, "power", i, 5) - 2);
    integers(call, "w", 3, 1);
    integers(call, "m", 0, 1);
    integers(call, "v", 0, 1);
    call->params.step = 1;
    call->params.lr = 0.125;
    call->adamw = (AdamW){.beta1 = 0.5, .beta2 = 0.75, .weight_decay = 0.5, .lr_scale = 0.5};
}

/* A momentum that the gradient turns into an update of zeros: what stays is momentum and decay. */
static void exact_muon(Call *call) {
    const Operand *grad = call_find(call, "grad");
    double *mom = call_value(call, "mom");
    integers(call, "grad", 4, 4);
    integers(call, "w", 3, 1);
    for (int64_t i = 0; i < operand_count(grad); i++)
        mom[i] = -3 * call->result.clip_factor * grad->value[i];
    call->params.lr = 0.125;
    call->muon = (Muon){.momentum = 0.5, .weight_decay = 0.5, .lr_scale = 0.5};
}

bool call_make_exact(Call *call, const OpCase *from, DType act, DType master) {
    OpCase c = *from;
    if (c.rate > 0) c.rate = 0.5; /* so the mask is 0 or 2 */
    call_make(call, &c, act, master);
    call->params.loss_scale = 0.125;
    const int64_t N = c.shape.B * c.shape.T, C = c.shape.C;
    static const char *const sums[] = {"dwte", "dwpe", "dres", "dw", "db", "dbias_prev", "dbias"};
    for (int64_t i = 0; i < COUNT_OF(sums); i++) integers(call, sums[i], 4, 1);
    static const char *const grads[N_GRADS] = {"grad 0", "grad 1", "grad 2", "grad 3"};
    switch (c.op) {
    case OP_EMBED_FORWARD:
        integers(call, "wte", 8, 1);
        integers(call, "wpe", 8, 1);
        break;
    case OP_EMBED_BACKWARD: integers(call, "dx", 4, 1); break;
    case OP_RESIDUAL_NORM_FORWARD: return exact_norm_forward(call, N, C);
    case OP_RESIDUAL_NORM_BACKWARD: return exact_norm_backward(call, N, C);
    case OP_LINEAR_FORWARD:
    case OP_LINEAR_BACKWARD_INPUT:
    case OP_LINEAR_BACKWARD_WEIGHT: exact_linear(call); break;
    case OP_ATTENTION_FORWARD:
    case OP_ATTENTION_BACKWARD:
    case OP_ATTENTION_DECODE: return exact_attention(call);
    case OP_ROTATE_FORWARD: return exact_rotate_forward(call, c.shape);
    case OP_ROTATE_BACKWARD: return exact_rotate_backward(call, c.shape);
    case OP_SWIGLU_FORWARD:
    case OP_SWIGLU_BACKWARD: exact_swiglu(call); break;
    case OP_RECURRENCE_FORWARD: exact_recurrence(call, c.shape, "u", "h0", SATURATED); break;
    case OP_RECURRENCE_BACKWARD: exact_recurrence(call, c.shape, "dh", "h", 1); break;
    case OP_ACTIVATION_FORWARD: integers(call, "x", 1, SATURATED); break;
    case OP_ACTIVATION_BACKWARD:
        if (c.activation == ACTIVATION_GELU) half_saturated(call, "x");
        else integers(call, "x", 3, 1);
        integers(call, "dy", 4, 1);
        break;
    case OP_DROPOUT_FORWARD:
    case OP_DROPOUT_BACKWARD:
        integers(call, "x", 4, 1);
        integers(call, "dy", 4, 1);
        break;
    case OP_CLASSIFIER: exact_classifier(call); return c.softcap == 0;
    case OP_NEGATIVE_SAMPLING: exact_sampling(call, c.shape); break;
    case OP_LOSS_SUM: integers(call, "losses", 8, 1); break;
    case OP_GRAD_NORM:
        for (int i = 0; i < N_GRADS; i++) integers(call, grads[i], 3, 1);
        break;
    case OP_ADAMW: exact_adamw(call); break;
    case OP_MUON: exact_muon(call); break;
    case OP_KINDS: break;
    }
    return true;
}
