/* Residual add + LayerNorm or RMSNorm (ops.h), a row at a time. RMSNorm is LayerNorm of mean 0. */
#include "mask.h"

/* Columns masked at once; the mask stays in the first-level cache. */
enum { MASK_COLUMNS = 256 };

/* ---- forward ---- */

static void add_masked(real *res, const real *res_in, const real *x, int64_t C, const Mask *mask,
                       uint64_t index) {
    if (!mask->on) {
#pragma omp simd
        for (int64_t c = 0; c < C; c++) res[c] = res_in[c] + x[c];
        return;
    }
    for (int64_t first = 0; first < C; first += MASK_COLUMNS) {
        real keep[MASK_COLUMNS];
        const int64_t n = i64_min(MASK_COLUMNS, C - first);
        mask_run(keep, mask, index + (uint64_t)first, n);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) res[first + i] = res_in[first + i] + keep[i] * x[first + i];
    }
}

static real mean_of(const real *x, int64_t C) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += x[c];
    return sum / (real)C;
}

/* mean_C((x - mean)^2) */
static real mean_square(const real *x, int64_t C, real mean) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += (x[c] - mean) * (x[c] - mean);
    return sum / (real)C;
}

static void scale_row(real *restrict y, const real *restrict x, int64_t C, real mean, real rstd,
                      const real *restrict w, const real *restrict b) {
    for (int64_t c = 0; c < C; c++) y[c] = (x[c] - mean) * rstd * (w ? w[c] : 1) + (b ? b[c] : 0);
}

void OP(cpu_residual_norm_forward)(const OpContext *cx, Tensor res, Tensor y, Tensor mean,
                                   Tensor rstd, Tensor res_in, Tensor x, Tensor w, Tensor b,
                                   NormKind kind, double eps, Dropout drop) {
    const int64_t N = res_in.dim[0], C = res_in.dim[1];
    CHECK_TENSOR(res_in, REAL_DTYPE, N, C);
    CHECK_TENSOR(y, REAL_DTYPE, N, C);
    CHECK_TENSOR(rstd, REAL_DTYPE, N);
    if (kind == NORM_LAYER) CHECK_TENSOR(mean, REAL_DTYPE, N);
    CHECK_OPTIONAL(x, REAL_DTYPE, N, C);
    if (x.data) CHECK_TENSOR(res, REAL_DTYPE, N, C);
    CHECK_OPTIONAL(w, REAL_DTYPE, C);
    CHECK_OPTIONAL(b, REAL_DTYPE, C);
    const Mask mask = mask_make(cx, drop);
    const int64_t row_base = cx->params->row_base;

#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const real *row = (const real *)res_in.data + n * C;
        if (x.data) {
            real *sum = (real *)res.data + n * C;
            add_masked(sum, row, (const real *)x.data + n * C, C, &mask,
                       (uint64_t)(row_base + n) * (uint64_t)C);
            row = sum;
        }
        const real mu = kind == NORM_LAYER ? mean_of(row, C) : 0;
        const real scale = 1 / real_sqrt(mean_square(row, C, mu) + (real)eps);
        scale_row((real *)y.data + n * C, row, C, mu, scale, w.data, b.data);
        if (kind == NORM_LAYER) ((real *)mean.data)[n] = mu;
        ((real *)rstd.data)[n] = scale;
    }
}

/* ---- backward ---- */

/* Column sums in a fixed order: the rows are cut into at most MOST_CHUNKS chunks of LEAST_ROWS rows
 * or more, by N alone; each chunk leaves its sums in scratch, then every column adds its chunks in
 * order. */
enum { LEAST_ROWS = 32, MOST_CHUNKS = 64, SUMS = 3 }; /* of dw, db, dbias_prev */

static int64_t rows_per_chunk(int64_t N) { return i64_max(LEAST_ROWS, i64_div_up(N, MOST_CHUNKS)); }

/* For the most chunks that so many rows or fewer are cut into. */
int64_t OP(cpu_norm_scratch)(const OpShape *shape) {
    const int64_t chunks = i64_min(MOST_CHUNKS, i64_div_up(shape->B * shape->T, LEAST_ROWS));
    return chunks * SUMS * shape->C * (int64_t)sizeof(real);
}

typedef struct NormRow {
    const real *dy, *res;
    real mean, rstd;
    bool centred; /* LayerNorm */
} NormRow;

/* dres += ..., and this row's share of dw and db. */
static void backward_row(real *restrict dres, real *restrict dw, real *restrict db,
                         const real *restrict w, NormRow r, int64_t C) {
    const real *restrict dy = r.dy, *restrict res = r.res;
    real sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t c = 0; c < C; c++) {
        const real xhat = (res[c] - r.mean) * r.rstd, g = w ? dy[c] * w[c] : dy[c];
        sum_g += g;
        sum_gx += g * xhat;
        dw[c] += dy[c] * xhat;
        db[c] += dy[c];
    }
    const real mean_g = r.centred ? sum_g / (real)C : 0, mean_gx = sum_gx / (real)C;
    for (int64_t c = 0; c < C; c++) {
        const real xhat = (res[c] - r.mean) * r.rstd, g = w ? dy[c] * w[c] : dy[c];
        dres[c] += r.rstd * (g - mean_g - xhat * mean_gx);
    }
}

/* dx = mask * dres */
static void mask_row(real *restrict dx, const real *restrict dres, int64_t C, const Mask *mask,
                     uint64_t index) {
    if (!mask->on) {
        memcpy(dx, dres, (size_t)C * sizeof *dx);
        return;
    }
    mask_run(dx, mask, index, C);
    for (int64_t c = 0; c < C; c++) dx[c] *= dres[c];
}

/* Adds every chunk's sums to dw, db and dbias_prev, as far as they are there. */
static void add_chunks(const Tensor sums[SUMS], const real *partial, int64_t n_chunks, int64_t C) {
    enum { COLUMNS = 64 };
    const int64_t n_blocks = i64_div_up(C, COLUMNS);
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < SUMS * n_blocks; task++) {
        const int64_t s = task / n_blocks, first = task % n_blocks * COLUMNS;
        if (!sums[s].data) continue;
        real total[COLUMNS] = {0}, *to = (real *)sums[s].data + first;
        const int64_t n = i64_min(COLUMNS, C - first);
        for (int64_t k = 0; k < n_chunks; k++) {
            const real *from = partial + (k * SUMS + s) * C + first;
            for (int64_t i = 0; i < n; i++) total[i] += from[i];
        }
        for (int64_t i = 0; i < n; i++) to[i] += total[i];
    }
}

void OP(cpu_residual_norm_backward)(const OpContext *cx, Tensor dres, Tensor dx, Tensor dw,
                                    Tensor db, Tensor dbias_prev, Tensor dy, Tensor res,
                                    Tensor mean, Tensor rstd, Tensor w, NormKind kind,
                                    Dropout drop) {
    const int64_t N = dres.dim[0], C = dres.dim[1];
    const bool centred = kind == NORM_LAYER;
    CHECK_TENSOR(dres, REAL_DTYPE, N, C);
    CHECK_OPTIONAL(dx, REAL_DTYPE, N, C);
    CHECK_OPTIONAL(dw, REAL_DTYPE, C);
    CHECK_OPTIONAL(db, REAL_DTYPE, C);
    CHECK_OPTIONAL(dbias_prev, REAL_DTYPE, C);
    CHECK_TENSOR(dy, REAL_DTYPE, N, C);
    CHECK_TENSOR(res, REAL_DTYPE, N, C);
    if (centred) CHECK_TENSOR(mean, REAL_DTYPE, N);
    CHECK_TENSOR(rstd, REAL_DTYPE, N);
    CHECK_OPTIONAL(w, REAL_DTYPE, C);
    CHECK(dx.data || drop.rate <= 0, "dropout %g without dx", (double)drop.rate);
    const Mask mask = mask_make(cx, drop);
    const int64_t row_base = cx->params->row_base;
    const int64_t n_rows = rows_per_chunk(N), n_chunks = i64_div_up(N, n_rows);
    const int64_t needed = n_chunks * SUMS * C * (int64_t)sizeof(real);
    CHECK(cx->scratch_bytes >= needed, "scratch %ld of %ld", (long)cx->scratch_bytes, (long)needed);
    real *partial = cx->scratch;

#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < n_chunks; k++) {
        real *sum_w = partial + k * SUMS * C, *sum_b = sum_w + C, *sum_prev = sum_b + C;
        memset(sum_w, 0, (size_t)(SUMS * C) * sizeof *sum_w);
        for (int64_t n = k * n_rows; n < i64_min(N, (k + 1) * n_rows); n++) {
            const NormRow row = {.dy = (const real *)dy.data + n * C,
                                 .res = (const real *)res.data + n * C,
                                 .mean = centred ? ((const real *)mean.data)[n] : 0,
                                 .rstd = ((const real *)rstd.data)[n],
                                 .centred = centred};
            real *grad = (real *)dres.data + n * C;
            backward_row(grad, sum_w, sum_b, w.data, row, C);
            if (dx.data) {
                real *out = (real *)dx.data + n * C;
                mask_row(out, grad, C, &mask, (uint64_t)(row_base + n) * (uint64_t)C);
                grad = out;
            }
            if (dbias_prev.data)
                for (int64_t c = 0; c < C; c++) sum_prev[c] += grad[c];
        }
    }
    add_chunks((const Tensor[SUMS]){dw, db, dbias_prev}, partial, n_chunks, C);
}
