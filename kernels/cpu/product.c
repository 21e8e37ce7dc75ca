/* The product of two matrices on one thread, in blocks that fit the caches (Goto and van de Geijn
 * 2008, "Anatomy of high-performance matrix multiplication"): a block of a is packed for the second
 * cache, unless its rows lie well as they are, then panels of b, WIDTH columns each, for the first,
 * and the small kernel of vector.h runs down the block once for each panel.
 *
 * A result's terms are added in the order of `inner`, whatever the rows and columns of the call. */
#include "vector.h"

#ifndef PUCK_TILES /* else product_tiles.c has it */
#include <stdalign.h>

enum {
    BLOCK_ROWS = (PRODUCT_ROWS + ROWS - 1) / ROWS * ROWS,
    BLOCK_INNER = 256, /* a panel of b is 256 x WIDTH: 8 to 32 KiB */
    /* Between packed rows: not a power of two, whose multiples share few sets of a cache. */
    PACKED_ROW = BLOCK_INNER + 16,
    /* Whole rows that are no farther apart are read where they are; a block of them fits the second
     * cache even if their distance is a power of two. */
    NEAR_ROW = 1024,
    STRIPE = 8,
    CACHE_LINE = 64
};

/* ---- packing ---- */

/* to (inner,WIDTH) = b's first `cols` columns, zeros behind. */
static void pack_panel(real *to, Matrix b, int64_t inner, int64_t cols) {
    const int64_t squares = b.row == 1 ? cols / LANES : 0, whole = inner / LANES * LANES;
    for (int64_t s = 0; s < squares; s++)
        for (int64_t i = 0; i < whole; i += LANES)
            transpose(to + i * WIDTH + s * LANES, WIDTH, b.data + i + s * LANES * b.col, b.col);
    for (int64_t i = 0; i < inner; i++) {
        const real *const from = b.data + i * b.row;
        if (cols == WIDTH && b.col == 1) { /* the common case: a constant length */
            memcpy(to + i * WIDTH, from, WIDTH * sizeof *to);
            __builtin_prefetch(from + WIDTH, 0, 2);
            __builtin_prefetch(from + WIDTH + LANES, 0, 2);
            continue;
        }
        for (int64_t j = i < whole ? squares * LANES : 0; j < cols; j++)
            to[i * WIDTH + j] = from[j * b.col];
        for (int64_t j = cols; j < WIDTH; j++) to[i * WIDTH + j] = 0;
    }
}

/* Groups of ROWS rows, the last one filled up with zeros. Where a's rows are contiguous they are
 * kept so, PACKED_ROW apart; otherwise its columns are, ROWS apart. */
static void pack_block(real *to, Matrix a, int64_t rows, int64_t inner) {
    const int64_t all = i64_round_up(rows, ROWS);
    if (a.col == 1) {
        for (int64_t r = 0; r < rows; r++)
            memcpy(to + r * PACKED_ROW, a.data + r * a.row, (size_t)inner * sizeof *to);
        for (int64_t r = rows; r < all; r++)
            memset(to + r * PACKED_ROW, 0, (size_t)inner * sizeof *to);
        return;
    }
    const int64_t whole = rows / ROWS * ROWS;
    for (int64_t i0 = 0; i0 < inner; i0 += STRIPE) /* so that lines of `to` are filled at once */
        for (int64_t r = 0; r < whole; r += ROWS)
            for (int64_t i = i0; i < i64_min(i0 + STRIPE, inner); i++)
                memcpy(to + r * PACKED_ROW + i * ROWS, a.data + i * a.col + r, ROWS * sizeof *to);
    for (int64_t i = 0; i < inner && whole < all; i++)
        for (int64_t r = whole; r < all; r++)
            to[whole * PACKED_ROW + i * ROWS + r - whole] = r < rows ? a.data[i * a.col + r] : 0;
}

/* ---- the product ---- */

/* ROWS x WIDTH of the result. Rows of a are `lda` apart, or its columns ROWS. */
static void kernel(real *c, int64_t ldc, const real *a, int64_t lda, const real *b, int64_t k,
                   bool by_rows, bool add) {
    if (by_rows) vector_product(ROWS, c, ldc, a, lda, 1, b, WIDTH, WIDTH, k, add);
    else vector_product(ROWS, c, ldc, a, 1, ROWS, b, WIDTH, WIDTH, k, add);
}

/* The same at the result's edge: what sticks out over it is computed too, beside it. */
static void kernel_at_edge(real *c, int64_t ldc, int64_t rows, int64_t cols, const real *a,
                           int64_t lda, const real *b, int64_t k, bool by_rows, bool add) {
    real all[ROWS * WIDTH] = {0};
    kernel(all, WIDTH, a, lda, b, k, by_rows, false);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + all[i * WIDTH + j];
}

/* c (rows,cols) (+)= groups of rows, each ROWS * lda behind the last, times a packed panel;
 * cols <= WIDTH. */
static void block_times_panel(real *c, int64_t ldc, const real *a, int64_t lda, const real *panel,
                              int64_t rows, int64_t cols, int64_t inner, bool by_rows, bool add) {
    for (int64_t r = 0; r < rows; r += ROWS, c += ROWS * ldc, a += ROWS * lda) {
        const int64_t n = i64_min(ROWS, rows - r);
        if (n == ROWS && cols == WIDTH) kernel(c, ldc, a, lda, panel, inner, by_rows, add);
        else kernel_at_edge(c, ldc, n, cols, a, lda, panel, inner, by_rows, add);
    }
}

static Matrix matrix_at(Matrix m, int64_t row, int64_t col) {
    return (Matrix){m.data + row * m.row + col * m.col, m.row, m.col};
}

int64_t OP(cpu_packed_bytes)(int64_t cols, int64_t inner) {
    return i64_round_up(cols, WIDTH) * inner * (int64_t)sizeof(real);
}

void OP(cpu_pack)(void *packed, Matrix b, int64_t cols, int64_t inner) {
    real *to = packed;
    for (int64_t j = 0; j < cols; j += WIDTH, to += WIDTH * inner)
        pack_panel(to, matrix_at(b, 0, j), inner, i64_min(WIDTH, cols - j));
}

void OP(cpu_product)(real *c, int64_t ldc, Matrix a, Matrix b, const void *packed, int64_t rows,
                     int64_t cols, int64_t inner, bool add) {
    CHECK(rows <= PRODUCT_ROWS, "%ld rows", (long)rows);
    alignas(CACHE_LINE) real block[BLOCK_ROWS * PACKED_ROW], panel[BLOCK_INNER * WIDTH];
    const bool as_is = a.col == 1 && a.row <= NEAR_ROW && rows % ROWS == 0;
    const int64_t n_blocks = i64_div_up(inner, BLOCK_INNER);
    const int64_t most = i64_round_up(i64_div_up(inner, n_blocks), LANES);
    for (int64_t i = 0; i < inner; i += most) {
        const int64_t k = i64_min(most, inner - i);
        if (!as_is) pack_block(block, matrix_at(a, 0, i), rows, k);
        for (int64_t j = 0; j < cols; j += WIDTH) {
            const int64_t width = i64_min(WIDTH, cols - j);
            const real *const from = packed ? (const real *)packed + j * inner + i * WIDTH : panel;
            if (!packed) pack_panel(panel, matrix_at(b, i, j), k, width);
            block_times_panel(c + j, ldc, as_is ? a.data + i : block, as_is ? a.row : PACKED_ROW,
                              from, rows, width, k, a.col == 1, add || i > 0);
        }
    }
}
#endif

/* ---- matrix times vector ---- */

enum { DOTS = 4 }; /* rows at a time: enough sums in flight to hide an addition's latency */

static real vec_sum(vec v) {
    real sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

void OP(cpu_product_vector)(real *y, const real *a, const real *x, int64_t rows, int64_t inner,
                            bool add) {
    const int64_t whole = inner / LANES * LANES;
    for (int64_t r = 0; r < rows; r++) {
        const real *const row = a + r * inner;
        vec sum[DOTS] = {{0}};
        int64_t i = 0;
        for (; i + DOTS * LANES <= whole; i += DOTS * LANES)
            for (int s = 0; s < DOTS; s++)
                sum[s] += *(const vec *)(row + i + s * LANES) * *(const vec *)(x + i + s * LANES);
        for (; i < whole; i += LANES) sum[0] += *(const vec *)(row + i) * *(const vec *)(x + i);
        real total = vec_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
        for (; i < inner; i++) total += row[i] * x[i];
        y[r] = (add ? y[r] : 0) + total;
    }
}
