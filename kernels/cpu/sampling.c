/* Negative sampling: the loss of word embeddings and its gradient, in one (ops.h). */
#include "common.h"

/* Rows of a group besides the first, and columns that are worked on at once. */
enum { OTHERS_MAX = 256, COLUMNS = 64, LANES = 16 };

/* In lanes of its own, so that the order of the sum does not depend on where the rows lie. */
static double dot(const real *a, const real *b, int64_t n) {
    real sum[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int64_t k = 0; k < LANES; k++) sum[k] += a[i + k] * b[i + k];
    for (int64_t k = 0; i + k < n; k++) sum[k] += a[i + k] * b[i + k];
    double total = 0;
    for (int64_t k = 0; k < LANES; k++) total += (double)sum[k];
    return total;
}

/* log(1 + e^-m) and its derivative's size, 1/(1 + e^m), of a margin m; no overflow on either
 * side. */
static double logistic(double margin, double *slope) {
    const double e = exp(-fabs(margin));
    *slope = (margin > 0 ? e : 1) / (1 + e);
    return (margin > 0 ? 0 : -margin) + log1p(e);
}

/* The gradient of one group, which may lie where the group itself does: each column of it is read
 * before it is written. */
static void write_gradient(real *dx, const real *x, const real *g, int64_t T, int64_t C) {
    for (int64_t c = 0; c < C; c += COLUMNS) {
        const int64_t n = i64_min(COLUMNS, C - c);
        real word[COLUMNS], sum[COLUMNS] = {0};
        memcpy(word, x + c, (size_t)n * sizeof *word);
        for (int64_t t = 1; t < T; t++) {
            const real *other = x + t * C + c;
            real *out = dx + t * C + c;
            for (int64_t i = 0; i < n; i++) {
                sum[i] += g[t - 1] * other[i];
                out[i] = g[t - 1] * word[i];
            }
        }
        memcpy(dx + c, sum, (size_t)n * sizeof *sum);
    }
}

void OP(cpu_negative_sampling)(const OpContext *cx, Tensor losses, Tensor dx, Tensor x) {
    const int64_t B = x.dim[0], T = x.dim[1], C = x.dim[2];
    CHECK_TENSOR(losses, REAL_DTYPE, B);
    CHECK_OPTIONAL(dx, REAL_DTYPE, B, T, C);
    CHECK_TENSOR(x, REAL_DTYPE, B, T, C);
    CHECK(T >= 2 && T <= OTHERS_MAX + 1, "%ld rows in a group", (long)T);
    const double loss_scale = cx->params->loss_scale;

#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < B; b++) {
        const real *group = (const real *)x.data + b * T * C;
        real g[OTHERS_MAX];
        double loss = 0;
        for (int64_t t = 1; t < T; t++) {
            const double score = dot(group, group + t * C, C), sign = t == 1 ? 1 : -1;
            double slope;
            loss += logistic(sign * score, &slope);
            g[t - 1] = (real)(-sign * slope * loss_scale);
        }
        ((real *)losses.data)[b] = (real)loss;
        if (dx.data) write_gradient((real *)dx.data + b * T * C, group, g, T, C);
    }
}
