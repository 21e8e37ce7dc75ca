/* Token and position embeddings (ops.h). */
#include "common.h"

void OP(cpu_embed_forward)(const OpContext *cx, Tensor x, Tensor wte, Tensor wpe, Tensor tokens,
                           Tensor position) {
    (void)cx;
    const int64_t B = x.dim[0], T = x.dim[1], C = x.dim[2], Vp = wte.dim[0], context = wpe.dim[0];
    CHECK_TENSOR(x, REAL_DTYPE, B, T, C);
    CHECK_TENSOR(wte, REAL_DTYPE, Vp, C);
    CHECK_OPTIONAL(wpe, REAL_DTYPE, context, C);
    CHECK_TENSOR(tokens, DTYPE_I32, B, T);
    CHECK_OPTIONAL(position, DTYPE_I32, B);
    const int32_t *token = tokens.data, *first = position.data;

#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < B * T; row++) {
        const int64_t v = token[row];
        CHECK(v >= 0 && v < Vp, "token %ld of row %ld; the vocabulary has %ld", (long)v, (long)row,
              (long)Vp);
        real *out = (real *)x.data + row * C;
        memcpy(out, (const real *)wte.data + v * C, (size_t)C * sizeof *out);
        if (!wpe.data) continue;
        const int64_t t = (first ? first[row / T] : 0) + row % T;
        CHECK(t >= 0 && t < context, "position %ld; the context has %ld", (long)t, (long)context);
        const real *add = (const real *)wpe.data + t * C;
        for (int64_t c = 0; c < C; c++) out[c] += add[c];
    }
}

/* One task sums EMBED_COLUMNS columns of one token's rows, so that a token that fills the batch is
 * still shared out, and its sum stays in the first-level cache. */
enum { EMBED_COLUMNS = 64 };

static void add_rows(real *sum, const real *dx, const int32_t *rows, int64_t n_rows, int64_t C,
                     int64_t n) {
    real total[EMBED_COLUMNS] = {0};
    for (int64_t r = 0; r < n_rows; r++) {
        const real *row = dx + rows[r] * C;
        for (int64_t c = 0; c < n; c++) total[c] += row[c];
    }
    for (int64_t c = 0; c < n; c++) sum[c] += total[c];
}

void OP(cpu_embed_backward)(const OpContext *cx, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens,
                            Tensor order, Tensor starts) {
    (void)cx;
    const int64_t B = dx.dim[0], T = dx.dim[1], C = dx.dim[2], N = B * T, Vp = dwte.dim[0];
    CHECK_TENSOR(dx, REAL_DTYPE, B, T, C);
    CHECK_TENSOR(dwte, REAL_DTYPE, Vp, C);
    CHECK_OPTIONAL(dwpe, REAL_DTYPE, -1, C);
    CHECK_TENSOR(tokens, DTYPE_I32, B, T);
    CHECK_TENSOR(order, DTYPE_I32, N);
    CHECK_TENSOR(starts, DTYPE_I32, N + 1);
    CHECK(!dwpe.data || dwpe.dim[0] >= T, "%ld rows; the context has %ld", (long)T,
          (long)dwpe.dim[0]);
    const int32_t *token = tokens.data, *rows = order.data, *start = starts.data;
    const real *grad = dx.data;
    int64_t n_segments = 0;
    while (start[n_segments] < N) n_segments++;
    const int64_t n_chunks = i64_div_up(C, EMBED_COLUMNS);

#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t task = 0; task < n_segments * n_chunks; task++) {
        const int64_t s = task / n_chunks, c = task % n_chunks * EMBED_COLUMNS;
        const int64_t v = token[rows[start[s]]];
        CHECK(v >= 0 && v < Vp, "token %ld; the vocabulary has %ld", (long)v, (long)Vp);
        add_rows((real *)dwte.data + v * C + c, grad + c, rows + start[s], start[s + 1] - start[s],
                 C, i64_min(EMBED_COLUMNS, C - c));
    }
    if (!dwpe.data) return;

#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        real *sum = (real *)dwpe.data + t * C;
        for (int64_t b = 0; b < B; b++) {
            const real *row = grad + (b * T + t) * C;
            for (int64_t c = 0; c < C; c++) sum[c] += row[c];
        }
    }
}
