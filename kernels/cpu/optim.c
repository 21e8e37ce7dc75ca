/* Gradient norm with the check for non-finite values, and AdamW (ops.h). */
#include "common.h"

/* A tensor's squares are summed in at most MOST_PIECES pieces, cut by its length alone, each in
 * double, then added in order. In double the squares of finite floats cannot overflow. */
enum { MOST_PIECES = 256, LEAST_PIECE = 16384 };

static double sum_squares(const real *x, int64_t n) {
    double piece[MOST_PIECES];
    const int64_t length = i64_max(LEAST_PIECE, i64_div_up(n, MOST_PIECES));
    const int64_t n_pieces = i64_div_up(n, length);

#pragma omp parallel for schedule(static) if (n_pieces > 1)
    for (int64_t p = 0; p < n_pieces; p++) {
        const int64_t end = i64_min(n, (p + 1) * length);
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = p * length; i < end; i++) sum += (double)x[i] * (double)x[i];
        piece[p] = sum;
    }
    double total = 0;
    for (int64_t p = 0; p < n_pieces; p++) total += piece[p];
    return total;
}

/* From the sum of all squares and the loss. */
static void finish_norm(const OpContext *cx, double squares) {
    StepResult *result = cx->result;
    const double most = cx->params->max_grad_norm;
    result->grad_norm = sqrt(squares);
    result->clip_factor = most > 0 && result->grad_norm > most ? most / result->grad_norm : 1;
    result->bad = !isfinite(squares) || !isfinite(result->loss);
}

void OP(cpu_grad_norm)(const OpContext *cx, Tensor flags, const Tensor *grads, int64_t n) {
    CHECK_TENSOR(flags, DTYPE_I32, n);
    StepResult *result = cx->result;
    double total = 0;
    result->first_bad = -1;
    for (int64_t i = 0; i < n; i++) {
        CHECK(grads[i].data && grads[i].dtype == REAL_DTYPE, "gradient %ld", (long)i);
        const double squares = sum_squares(grads[i].data, tensor_count(grads[i]));
        const bool bad = !isfinite(squares);
        ((int32_t *)flags.data)[i] = bad;
        if (bad && result->first_bad < 0) result->first_bad = (int32_t)i;
        total += squares;
    }
    finish_norm(cx, total);
}

void OP(cpu_join_results)(const OpContext *cx, Tensor results, int64_t stride) {
    const StepResult *rank = results.data;
    const int64_t n = tensor_count(results) / (int64_t)sizeof *rank;
    StepResult joined = {.first_bad = -1};
    double total = 0;
    CHECK(n * (int64_t)sizeof *rank == tensor_bytes(results), "%ld ranks", (long)n);
    for (int64_t r = 0; r < n; r++) {
        joined.loss += rank[r].loss;
        total += rank[r].grad_norm * rank[r].grad_norm;
        if (joined.first_bad < 0 && rank[r].bad && rank[r].first_bad >= 0)
            joined.first_bad = (int32_t)(r * stride) + rank[r].first_bad;
    }
    *cx->result = joined;
    finish_norm(cx, total);
}

/* Constants of one call, bias corrections folded in. */
typedef struct AdamWStep {
    real clip, beta1, rest1, beta2, rest2; /* rest = 1 - beta */
    real correct1, correct2;               /* 1 / (1 - beta^t) */
    real lr, eps, weight_decay;
} AdamWStep;

static AdamWStep adamw_step(const StepParams *p, const StepResult *result, AdamW c) {
    return (AdamWStep){.clip = (real)result->clip_factor,
                       .beta1 = (real)c.beta1,
                       .rest1 = (real)(1 - c.beta1),
                       .beta2 = (real)c.beta2,
                       .rest2 = (real)(1 - c.beta2),
                       .correct1 = (real)(1 / (1 - pow(c.beta1, p->step))),
                       .correct2 = (real)(1 / (1 - pow(c.beta2, p->step))),
                       .lr = (real)(p->lr * c.lr_scale),
                       .eps = (real)c.eps,
                       .weight_decay = (real)c.weight_decay};
}

/* Elements of one task. Fixed, so that each element is in the same vector lane or loop tail
 * whatever the number of threads. */
enum { ADAMW_BLOCK = 4096 };

static void adamw_block(real *restrict w, real *restrict m, real *restrict v,
                        const real *restrict grad, int64_t n, AdamWStep s) {
    for (int64_t i = 0; i < n; i++) {
        const real g = grad[i] * s.clip;
        const real m1 = s.beta1 * m[i] + s.rest1 * g, v1 = s.beta2 * v[i] + s.rest2 * g * g;
        m[i] = m1;
        v[i] = v1;
        const real update = m1 * s.correct1 / (real_sqrt(v1 * s.correct2) + s.eps);
        w[i] -= s.lr * (update + s.weight_decay * w[i]);
    }
}

void OP(cpu_adamw)(const OpContext *cx, Tensor w, Tensor w_act, Tensor m, Tensor v, Tensor grad,
                   AdamW constants) {
    const Tensor all[] = {w, m, v, grad};
    const int64_t n = tensor_count(w);
    for (int64_t i = 0; i < COUNT_OF(all); i++)
        CHECK(tensor_is(all[i], REAL_DTYPE, w.rank, w.dim), "operand %ld", (long)i);
    CHECK(!w_act.data || tensor_is(w_act, REAL_DTYPE, w.rank, w.dim), "w_act");
    if (cx->result->bad) return;
    const AdamWStep step = adamw_step(cx->params, cx->result, constants);

#pragma omp parallel for schedule(static) if (n > ADAMW_BLOCK)
    for (int64_t first = 0; first < n; first += ADAMW_BLOCK) {
        const int64_t count = i64_min(ADAMW_BLOCK, n - first);
        real *to = (real *)w.data + first;
        adamw_block(to, (real *)m.data + first, (real *)v.data + first,
                    (const real *)grad.data + first, count, step);
        if (w_act.data) memcpy((real *)w_act.data + first, to, (size_t)count * sizeof(real));
    }
}
