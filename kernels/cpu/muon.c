/* Muon (ops.h): momentum, then the update made nearly orthogonal by Newton-Schulz steps.
 *
 * X stays as it lies, (R,C): with fewer columns than rows the formula of the transpose becomes
 * X = X (a I + b A + c A A) with A = X^T X, so nothing is transposed; a square takes
 * this form, whose products are packed faster. With the square completed,
 *   a I + b A + c A A = c S S + (a - b^2/4c) I,   S = A + (b/2c) I,
 * both symmetric matrices are a product of a matrix and its transpose plus a multiple of I, of
 * which half the tiles suffice, and the step is three products and no other pass over memory.
 *
 * Of several small matrices each thread takes whole ones, and no thread waits for another until all
 * are done; a large one, or one by itself, is shared by all threads, which meet after every pass.
 * The bits are the same either way. */
#include "common.h"
#include <omp.h>

enum {
    STEPS = 5,
    BLOCK = 4096, /* elements of one task of the passes that are no products */
    /* Whole matrices are taken if there are so many, and the arrays of one fit so many bytes: half
     * of a second cache of today. */
    WHOLE_MATRICES = 4,
    WHOLE_BYTES = 1 << 20
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
    void *packed;              /* an operand of both; NULL where threads share the matrix */
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

/* Bytes of the arrays of one matrix, but for what a thread by itself packs. */
static int64_t work_bytes(int64_t R, int64_t C) {
    const WorkSizes n = work_sizes(R, C);
    return n.squares * (int64_t)sizeof(double) + 2 * (n.full + n.square) * (int64_t)sizeof(real);
}

static int64_t whole_bytes(int64_t R, int64_t C) {
    return work_bytes(R, C) + OP(cpu_packed_bytes)(i64_min(R, C), i64_max(R, C));
}

/* Whether a thread takes whole matrices. */
static bool takes_whole(int64_t n, int64_t R, int64_t C) {
    return n >= WHOLE_MATRICES && whole_bytes(R, C) <= WHOLE_BYTES;
}

/* The arrays of one matrix, or of one for each thread. */
int64_t OP(cpu_muon_scratch)(const OpShape *s, const DeviceProperties *device) {
    return takes_whole(s->B, s->O, s->C) ? whole_bytes(s->O, s->C) * device->n_units
                                         : work_bytes(s->O, s->C);
}

/* The arrays of one matrix, at `memory`. */
static Work work_make(char *memory, int64_t R, int64_t C, bool whole) {
    const WorkSizes n = work_sizes(R, C);
    Work work = {.squares = (void *)memory};
    work.x = (void *)(work.squares + n.squares);
    work.next = work.x + n.full;
    work.shifted = work.next + n.full;
    work.quadratic = work.shifted + n.square;
    work.packed = whole ? work.quadratic + n.square : NULL;
    return work;
}

/* The threads that share a matrix, and the number of the calling one among them. */
typedef struct Team {
    int number, size;
} Team;

static void team_wait(Team team) {
    if (team.size > 1) {
#pragma omp barrier
    }
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

/* O from work->x, in work->x or work->next, where the result points. */
static const real *newton_schulz(const Work *work, int64_t R, int64_t C) {
    const bool alone = work->packed;
    const double a = COEFFICIENT_A, b = COEFFICIENT_B, c = COEFFICIENT_C;
    const int64_t side = i64_min(R, C);
    Gram shift = {.rows = R, .cols = C, .transposed = R >= C, .alpha = 1,
                  .diagonal = (real)(b / (2 * c))};
    const Gram square = {work->shifted, side, side, true, (real)c, (real)(a - b * b / (4 * c))};
    const real *x = work->x;
    real *to = work->next;
    for (int step = 0; step < STEPS; step++) {
        shift.x = x;
        OP(cpu_linear_gram)(work->shifted, &shift, work->packed);
        OP(cpu_linear_gram)(work->quadratic, &square, work->packed);
        if (R >= C) OP(cpu_linear_product)(to, x, work->quadratic, R, C, C, alone);
        else OP(cpu_linear_product)(to, work->quadratic, x, R, R, C, alone);
        x = to;
        to = to == work->next ? work->x : work->next;
    }
    return x;
}

/* One matrix; called by all threads of the team. */
static void update(const Work *work, const MuonMatrix *m, int64_t R, int64_t C, MuonStep s,
                   Team team) {
    const int64_t n = R * C, first = team.number * BLOCK, stride = team.size * BLOCK;
    real *const to = m->w.data, *const copy = m->w_act.data;
    for (int64_t at = first; at < n; at += stride)
        work->squares[at / BLOCK] =
            momentum_block(work->x + at, (real *)m->mom.data + at, (const real *)m->grad.data + at,
                           i64_min(BLOCK, n - at), s);
    team_wait(team);
    double sum = 0;
    for (int64_t i = 0; i < i64_div_up(n, BLOCK); i++) sum += work->squares[i];
    const real scale = (real)(1 / (sqrt(sum) + NORM_EPS));
    for (int64_t at = first; at < n; at += stride)
        for (int64_t i = at; i < i64_min(at + BLOCK, n); i++) work->x[i] *= scale;
    team_wait(team);

    const real *const o = newton_schulz(work, R, C);
    for (int64_t at = first; at < n; at += stride) {
        const int64_t count = i64_min(BLOCK, n - at);
        for (int64_t i = at; i < at + count; i++)
            to[i] -= s.lr * (s.scale * o[i] + s.weight_decay * to[i]);
        if (copy) memcpy(copy + at, to + at, (size_t)count * sizeof *to);
    }
    team_wait(team); /* before the next matrix takes the arrays */
}

void OP(cpu_muon)(const OpContext *cx, const MuonMatrix *matrices, int64_t n, Muon constants) {
    CHECK(n > 0, "%ld matrices", (long)n);
    const int64_t R = matrices[0].w.dim[0], C = matrices[0].w.dim[1];
    for (int64_t i = 0; i < n; i++) {
        CHECK_TENSOR(matrices[i].w, REAL_DTYPE, R, C);
        CHECK_TENSOR(matrices[i].mom, REAL_DTYPE, R, C);
        CHECK_TENSOR(matrices[i].grad, REAL_DTYPE, R, C);
        CHECK_OPTIONAL(matrices[i].w_act, REAL_DTYPE, R, C);
    }
    const DeviceProperties *const device = &cx->backend->properties;
    CHECK(cx->scratch_bytes >= OP(cpu_muon_scratch)(&(OpShape){.B = n, .O = R, .C = C}, device),
          "scratch of %ld bytes", (long)cx->scratch_bytes);
    if (cx->result->bad) return;
    const MuonStep s = muon_step(cx, constants, R, C);
    if (takes_whole(n, R, C)) {
#pragma omp parallel for schedule(dynamic) num_threads(device->n_units)
        for (int64_t i = 0; i < n; i++) {
            char *const mine = (char *)cx->scratch + omp_get_thread_num() * whole_bytes(R, C);
            const Work work = work_make(mine, R, C, true);
            update(&work, &matrices[i], R, C, s, (Team){0, 1});
        }
        return;
    }
    const Work work = work_make(cx->scratch, R, C, false);
#pragma omp parallel
    {
        const Team team = {omp_get_thread_num(), omp_get_num_threads()};
        for (int64_t i = 0; i < n; i++) update(&work, &matrices[i], R, C, s, team);
    }
}
