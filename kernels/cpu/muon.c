/* Muon (ops.h): momentum, then the update made nearly orthogonal by Newton-Schulz steps.
 *
 * X stays as it lies, (R,C): with fewer columns than rows the formula of the transpose becomes
 * X = X (a I + b A + c A A) with A = X^T X, so nothing is transposed; a square takes
 * this form, whose products are packed faster. With the square completed,
 *   a I + b A + c A A = c S S + (a - b^2/4c) I,   S = A + (b/2c) I,
 * both symmetric matrices are a product of a matrix and its transpose plus a multiple of I, of
 * which half the tiles suffice, and the step is three products and no other pass over memory. */
#include "common.h"

enum {
    STEPS = 5,
    BLOCK = 4096 /* elements of one task of the passes that are no products */
};

static const double COEFFICIENT_A = 3.4445, COEFFICIENT_B = -4.7750, COEFFICIENT_C = 2.0315;

/* Added to the norm, so that an update of zeros stays zeros. Far below every other norm, so that
 * the scale of the gradient does not matter; its inverse fits a float. */
static const double NORM_EPS = 1e-30;

/* The scratch of a call. */
typedef struct Work {
    double *squares;           /* sum of squares of each block */
    real *x, *next;            /* (R,C) */
    real *shifted, *quadratic; /* (side,side), side = min(R,C): S and the polynomial above */
} Work;

/* Elements of each array, rounded up so that all begin at a cache line. */
typedef struct WorkSizes {
    int64_t squares, full, square;
} WorkSizes;

static WorkSizes work_sizes(int64_t R, int64_t C) {
    const int64_t side = i64_min(R, C), line = 16;
    return (WorkSizes){i64_round_up(i64_div_up(R * C, BLOCK), line), i64_round_up(R * C, line),
                       i64_round_up(side * side, line)};
}

int64_t OP(cpu_muon_scratch)(const OpShape *s) {
    const WorkSizes n = work_sizes(s->O, s->C);
    return n.squares * (int64_t)sizeof(double) + 2 * (n.full + n.square) * (int64_t)sizeof(real);
}

static Work work_make(const OpContext *cx, int64_t R, int64_t C) {
    CHECK(cx->scratch_bytes >= OP(cpu_muon_scratch)(&(OpShape){.O = R, .C = C}),
          "scratch of %ld bytes", (long)cx->scratch_bytes);
    const WorkSizes n = work_sizes(R, C);
    Work work = {.squares = cx->scratch};
    work.x = (void *)(work.squares + n.squares);
    work.next = work.x + n.full;
    work.shifted = work.next + n.full;
    work.quadratic = work.shifted + n.square;
    return work;
}

/* Constants of one call. */
typedef struct MuonStep {
    real clip, momentum, rest; /* rest = 1 - momentum */
    real lr, scale, weight_decay;
} MuonStep;

static MuonStep muon_step(const OpContext *cx, Muon c, int64_t R, int64_t C) {
    return (MuonStep){.clip = (real)cx->result->clip_factor,
                      .momentum = (real)c.momentum,
                      .rest = (real)(1 - c.momentum),
                      .lr = (real)(cx->params->lr * c.lr_scale),
                      .scale = (real)(R > C ? sqrt((double)R / (double)C) : 1),
                      .weight_decay = (real)c.weight_decay};
}

/* Writes the update u and the new momentum, returns the sum of u^2. */
static double momentum_block(real *restrict u, real *restrict mom, const real *restrict grad,
                             int64_t n, MuonStep s) {
    for (int64_t i = 0; i < n; i++) {
        const real g = s.rest * (grad[i] * s.clip);
        mom[i] = s.momentum * mom[i] + g;
        u[i] = g + s.momentum * mom[i];
    }
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)u[i] * (double)u[i];
    return sum;
}

/* Called by all threads of a team: O from work->x, in work->x or work->next, where the result
 * points. */
static const real *newton_schulz(const Work *work, int64_t R, int64_t C) {
    const double a = COEFFICIENT_A, b = COEFFICIENT_B, c = COEFFICIENT_C;
    const real *x = work->x;
    real *to = work->next;
    for (int step = 0; step < STEPS; step++) {
        const int64_t side = i64_min(R, C);
        OP(cpu_linear_gram)(work->shifted, x, R, C, R >= C, 1, (real)(b / (2 * c)));
        OP(cpu_linear_gram)(work->quadratic, work->shifted, side, side, true, (real)c,
                            (real)(a - b * b / (4 * c)));
        if (R >= C) OP(cpu_linear_product)(to, x, work->quadratic, R, C, C);
        else OP(cpu_linear_product)(to, work->quadratic, x, R, R, C);
        x = to;
        to = to == work->next ? work->x : work->next;
    }
    return x;
}

void OP(cpu_muon)(const OpContext *cx, Tensor w, Tensor w_act, Tensor mom, Tensor grad,
                  Muon constants) {
    const int64_t R = w.dim[0], C = w.dim[1], n = R * C;
    CHECK_TENSOR(w, REAL_DTYPE, R, C);
    CHECK_TENSOR(mom, REAL_DTYPE, R, C);
    CHECK_TENSOR(grad, REAL_DTYPE, R, C);
    CHECK_OPTIONAL(w_act, REAL_DTYPE, R, C);
    if (cx->result->bad) return;
    const Work work = work_make(cx, R, C);
    const MuonStep s = muon_step(cx, constants, R, C);

#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t at = 0; at < n; at += BLOCK)
            work.squares[at / BLOCK] =
                momentum_block(work.x + at, (real *)mom.data + at, (const real *)grad.data + at,
                               i64_min(BLOCK, n - at), s);
        double sum = 0;
        for (int64_t i = 0; i < i64_div_up(n, BLOCK); i++) sum += work.squares[i];
        const real scale = (real)(1 / (sqrt(sum) + NORM_EPS));
#pragma omp for simd schedule(static)
        for (int64_t i = 0; i < n; i++) work.x[i] *= scale;

        const real *const o = newton_schulz(&work, R, C);
        real *const to = w.data, *const copy = w_act.data;
#pragma omp for schedule(static)
        for (int64_t at = 0; at < n; at += BLOCK) {
            const int64_t count = i64_min(BLOCK, n - at);
            for (int64_t i = at; i < at + count; i++)
                to[i] -= s.lr * (s.scale * o[i] + s.weight_decay * to[i]);
            if (copy) memcpy(copy + at, to + at, (size_t)count * sizeof *to);
        }
    }
}
