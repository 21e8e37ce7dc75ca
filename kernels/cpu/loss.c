/* Softmax + cross-entropy, fused, and the sum of losses (ops.h). */
#include "common.h"

/* Exponentials of a run are summed in `real`, runs in double: 50000 keep their last bits. */
enum { RUN = 1024 };

/* Sum of exp(x - shift); kept in `keep` if that is not NULL. keep may be x. */
static double sum_exp(real *keep, const real *x, int64_t n, real shift) {
    double total = 0;
    for (int64_t first = 0; first < n; first += RUN) {
        const int64_t end = i64_min(n, first + RUN);
        real sum = 0;
        if (keep) {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < end; i++) {
                const real e = real_exp(x[i] - shift);
                keep[i] = e;
                sum += e;
            }
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t i = first; i < end; i++) sum += real_exp(x[i] - shift);
        }
        total += (double)sum;
    }
    return total;
}

/* z = c tanh(x/c) and its derivative 1 - (z/c)^2. With e = exp(-2|x|/c):
 *   tanh(|x|/c) = (1 - e)/(1 + e),  1 - tanh^2 = 4e/(1 + e)^2
 * Both keep all digits, near 0 as well as where tanh is almost 1. */
typedef struct Capped {
    real z, slope;
} Capped;

static inline Capped soft_cap(real x, real cap) {
    const RealExpPair p = real_exp_pair((x < 0 ? 2 * x : -2 * x) / cap);
    const real inverse = 1 / (2 + p.less), size = cap * (-p.less * inverse);
    return (Capped){x < 0 ? -size : size, 4 * p.e * (inverse * inverse)};
}

/* sum_exp of the capped x. */
static double sum_exp_capped(const real *x, int64_t n, real shift, real cap) {
    double total = 0;
    for (int64_t first = 0; first < n; first += RUN) {
        const int64_t end = i64_min(n, first + RUN);
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < end; i++) sum += real_exp(soft_cap(x[i], cap).z - shift);
        total += (double)sum;
    }
    return total;
}

/* grad = scale * exp(capped x - shift) * slope. The cap is computed again rather than kept: grad
 * may be x, and the slope of a value close to the cap cannot be had from its z. */
static void grad_capped(real *grad, const real *x, int64_t n, real shift, real cap, real scale) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const Capped c = soft_cap(x[i], cap);
        grad[i] = real_exp(c.z - shift) * scale * c.slope;
    }
}

typedef struct Classifier {
    int64_t V, Vp;
    double loss_scale;
    real cap; /* 0: none */
} Classifier;

static real classify_row(real *grad, const real *logits, int64_t target, const Classifier *k) {
    if (target < 0) {
        if (grad) memset(grad, 0, (size_t)k->Vp * sizeof *grad);
        return 0;
    }
    CHECK(target < k->V, "target %ld; the vocabulary has %ld", (long)target, (long)k->V);
    Capped at_target = {logits[target], 1}; /* read before grad overwrites it */
    real most = logits[0];
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < k->V; i++) most = real_max(most, logits[i]);
    double sum;
    if (k->cap > 0) {
        at_target = soft_cap(at_target.z, k->cap);
        most = soft_cap(most, k->cap).z;
        sum = sum_exp_capped(logits, k->V, most, k->cap);
    } else {
        sum = sum_exp(grad, logits, k->V, most);
    }
    if (grad) {
        const real factor = (real)(k->loss_scale / sum);
        if (k->cap > 0) grad_capped(grad, logits, k->V, most, k->cap, factor);
        else
            for (int64_t i = 0; i < k->V; i++) grad[i] *= factor;
        grad[target] -= (real)k->loss_scale * at_target.slope;
        memset(grad + k->V, 0, (size_t)(k->Vp - k->V) * sizeof *grad);
    }
    return (real)(log(sum) + ((double)most - (double)at_target.z));
}

void OP(cpu_classifier)(const OpContext *cx, Tensor losses, Tensor dlogits, Tensor logits,
                        Tensor targets, int64_t n_vocab, double softcap) {
    const int64_t N = logits.dim[0], Vp = logits.dim[1];
    CHECK_TENSOR(losses, REAL_DTYPE, N);
    CHECK_OPTIONAL(dlogits, REAL_DTYPE, N, Vp);
    CHECK_TENSOR(logits, REAL_DTYPE, N, Vp);
    CHECK_TENSOR(targets, DTYPE_I32, N);
    CHECK(n_vocab > 0 && n_vocab <= Vp, "%ld of %ld columns", (long)n_vocab, (long)Vp);
    const Classifier k = {n_vocab, Vp, cx->params->loss_scale, (real)softcap};

#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        real *grad = dlogits.data ? (real *)dlogits.data + n * Vp : NULL;
        ((real *)losses.data)[n] = classify_row(grad, (const real *)logits.data + n * Vp,
                                                ((const int32_t *)targets.data)[n], &k);
    }
}

void OP(cpu_loss_sum)(const OpContext *cx, Tensor losses) {
    const int64_t N = losses.dim[0];
    CHECK_TENSOR(losses, REAL_DTYPE, N);
    const real *loss = losses.data;
    double sum = 0;
    for (int64_t n = 0; n < N; n++) sum += (double)loss[n];
    cx->result->loss += cx->params->loss_scale * sum;
}
