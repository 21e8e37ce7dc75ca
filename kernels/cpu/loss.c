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

static real classify_row(real *grad, const real *logits, int64_t target, int64_t V, int64_t Vp,
                         double loss_scale) {
    if (target < 0) {
        if (grad) memset(grad, 0, (size_t)Vp * sizeof *grad);
        return 0;
    }
    CHECK(target < V, "target %ld; the vocabulary has %ld", (long)target, (long)V);
    const real at_target = logits[target]; /* read before grad overwrites it */
    real most = logits[0];
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < V; i++) most = real_max(most, logits[i]);
    const double sum = sum_exp(grad, logits, V, most);
    if (grad) {
        const real factor = (real)(loss_scale / sum);
        for (int64_t i = 0; i < V; i++) grad[i] *= factor;
        grad[target] -= (real)loss_scale;
        memset(grad + V, 0, (size_t)(Vp - V) * sizeof *grad);
    }
    return (real)(log(sum) + ((double)most - (double)at_target));
}

void OP(cpu_classifier)(const OpContext *cx, Tensor losses, Tensor dlogits, Tensor logits,
                        Tensor targets, int64_t n_vocab) {
    const int64_t N = logits.dim[0], Vp = logits.dim[1];
    CHECK_TENSOR(losses, REAL_DTYPE, N);
    CHECK_OPTIONAL(dlogits, REAL_DTYPE, N, Vp);
    CHECK_TENSOR(logits, REAL_DTYPE, N, Vp);
    CHECK_TENSOR(targets, DTYPE_I32, N);
    CHECK(n_vocab > 0 && n_vocab <= Vp, "%ld of %ld columns", (long)n_vocab, (long)Vp);
    const double loss_scale = cx->params->loss_scale;

#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        real *grad = dlogits.data ? (real *)dlogits.data + n * Vp : NULL;
        ((real *)losses.data)[n] =
            classify_row(grad, (const real *)logits.data + n * Vp,
                         ((const int32_t *)targets.data)[n], n_vocab, Vp, loss_scale);
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
