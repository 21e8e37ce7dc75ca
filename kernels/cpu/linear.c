/* Linear layers. A product is cut into tiles by its shape alone; tasks.h hands the tiles out and
 * each one is multiplied on a single thread, so the bits do not depend on the thread count.
 * What follows a product (bias, activation, sums for bias gradients) is done to a tile while it is
 * in cache. */
#include "activation.h"
#include "tasks.h"

enum {
    /* Largest tile. The first operand is packed anew for every tile: larger tiles repack less,
     * smaller ones keep the epilogue in cache and feed more threads. */
    TILE_ROWS = PRODUCT_ROWS, TILE_COLS = 512,
    /* Fewer tiles are halved, down to TILE_SIDE. The more there are, the less do threads wait for
     * each other, and rows of tiles cost nothing where the second operand is packed once. */
    TILE_COUNT = 4, TILE_COUNT_FREE = 8,
    TILE_SIDE = 64,
    TILE_ALIGN = 32, /* of a halved side: the kernels' rows and columns */
    /* The second operand is packed once for all tiles, unless that is too much for a second cache
     * of today; then anew for every tile, too. */
    PACKED_BYTES = 2 << 20
};

/* The tiling of a rows x cols result: tiles of `tile_rows` x `tile_cols`, the last ones smaller.
 * `packed`: bytes of the second operand if it is packed once, else 0. */
typedef struct Tiling {
    int64_t rows, cols, tile_rows, tile_cols, down, across, packed;
} Tiling;

typedef struct Tile {
    int64_t row, col, rows, cols, down;
} Tile;

static int64_t halved(int64_t side) { return i64_round_up(i64_div_up(side, 2), TILE_ALIGN); }

/* For a second operand that takes `packed` bytes when packed; 0: it is not to be packed once. */
static Tiling tiling_make(int64_t rows, int64_t cols, int64_t packed) {
    Tiling g = {rows, cols, rows, cols, 1, 1, packed <= PACKED_BYTES ? packed : 0};
    while (g.tile_rows > TILE_ROWS) g.tile_rows = halved(g.tile_rows);
    while (g.tile_cols > TILE_COLS) g.tile_cols = halved(g.tile_cols);
    for (;;) {
        g.down = i64_div_up(rows, g.tile_rows);
        g.across = i64_div_up(cols, g.tile_cols);
        /* Rows first, if that repacks nothing. */
        const bool by_rows = g.packed ? g.tile_rows > TILE_SIDE : g.tile_rows >= g.tile_cols;
        int64_t *side = by_rows ? &g.tile_rows : &g.tile_cols;
        const int64_t enough = g.packed && by_rows ? TILE_COUNT_FREE : TILE_COUNT;
        if (g.down * g.across >= enough || *side <= TILE_SIDE) break;
        *side = halved(*side);
    }
    if (g.down == 1) g.packed = 0;
    return g;
}

/* For a product over `inner` terms. */
static Tiling linear_tiling(int64_t rows, int64_t cols, int64_t inner) {
    return tiling_make(rows, cols, OP(cpu_packed_bytes)(cols, inner));
}

/* Threads get runs of consecutive tiles, which share the larger of the two operands: rows and
 * columns of the result are rows of one each. With few columns that also keeps rows with the thread
 * that made them in the op before, so they are still in its cache. */
static Tile tiling_tile(const Tiling *g, int64_t i) {
    const bool wide = g->cols > g->rows;
    Tile t = {.down = wide ? i % g->down : i / g->across};
    t.row = t.down * g->tile_rows;
    t.col = (wide ? i / g->down : i % g->across) * g->tile_cols;
    t.rows = i64_min(g->tile_rows, g->rows - t.row);
    t.cols = i64_min(g->tile_cols, g->cols - t.col);
    return t;
}

/* No less than for any smaller N, as plans ask for the largest. */
int64_t OP(cpu_linear_scratch)(OpKind op, const OpShape *s, const DeviceProperties *device) {
    (void)device;
    const int64_t N = s->B * s->T, cols = op == OP_LINEAR_FORWARD ? s->O : s->C;
    const int64_t inner = op == OP_LINEAR_FORWARD          ? s->C
                          : op == OP_LINEAR_BACKWARD_INPUT ? s->O
                                                           : N;
    const int64_t packed = i64_min(PACKED_BYTES, OP(cpu_packed_bytes)(cols, inner));
    if (op != OP_LINEAR_BACKWARD_INPUT) return packed;
    /* Largest tiles have more than TILE_ROWS / 2 rows; of smaller ones there are few. */
    const int64_t most_down = i64_max(2 * TILE_COUNT_FREE, i64_div_up(N, TILE_ROWS / 2));
    return packed + most_down * cols * (int64_t)sizeof(real);
}

/* Packs the second operand, b (inner,cols), once if the tiling wants it so. All threads call it and
 * leave it together; returns where, or NULL. */
static char *pack_once(const OpContext *cx, const Tiling *g, Matrix b, int64_t inner) {
    if (!g->packed) return NULL;
    CHECK(cx->scratch_bytes >= g->packed, "scratch of %ld bytes", (long)cx->scratch_bytes);
    char *const to = cx->scratch;
#pragma omp for schedule(static)
    for (int64_t col = 0; col < g->cols; col += PACKED_COLS)
        OP(cpu_pack)(to + OP(cpu_packed_bytes)(col, inner),
                     (Matrix){b.data + col * b.col, b.row, b.col},
                     i64_min(PACKED_COLS, g->cols - col), inner);
    return to;
}

/* A tile of c = a b, or c += a b; b is `packed` unless that is NULL. */
static void tile_product(real *c, int64_t ldc, Matrix a, Matrix b, const char *packed,
                         const Tile *t, int64_t inner, bool add) {
    c += t->row * ldc + t->col;
    a.data += t->row * a.row;
    b.data += t->col * b.col;
    if (packed) packed += OP(cpu_packed_bytes)(t->col, inner);
    OP(cpu_product)(c, ldc, a, b, packed, t->rows, t->cols, inner, add);
}

/* A tile of u = x w^T + bias. The product adds to the bias laid down first. */
static void forward_tile(real *u, const Tile *t, int64_t O, int64_t C, const real *x, const real *w,
                         const real *bias, const char *packed) {
    if (bias)
        for (int64_t r = t->row; r < t->row + t->rows; r++)
            memcpy(u + r * O + t->col, bias + t->col, (size_t)t->cols * sizeof *u);
    if (t->rows == 1) /* decoding: reads the weights once, without packing them */
        OP(cpu_product_vector)(u + t->row * O + t->col, w + t->col * C, x + t->row * C, t->cols, C,
                               bias != NULL);
    else
        tile_product(u, O, (Matrix){x, C, 1}, (Matrix){w, 1, C}, packed, t, C, bias != NULL);
}

void OP(cpu_linear_forward)(const OpContext *cx, Tensor y, Tensor aux, Tensor x, Tensor w,
                            Tensor bias, Activation activation) {
    const int64_t N = x.dim[0], C = x.dim[1], O = w.dim[0];
    CHECK_TENSOR(x, REAL_DTYPE, N, C);
    CHECK_TENSOR(w, REAL_DTYPE, O, C);
    CHECK_TENSOR(y, REAL_DTYPE, N, O);
    CHECK_OPTIONAL(aux, REAL_DTYPE, N, O);
    CHECK_OPTIONAL(bias, REAL_DTYPE, O);
    const Tiling g = linear_tiling(N, O, C);
    real *u = tensor_present(aux) ? aux.data : y.data;
    real *out = y.data;
    Tasks tiles;
    tasks_start(&tiles, g.down * g.across);
#pragma omp parallel
    {
        const char *const packed = pack_once(cx, &g, (Matrix){w.data, 1, C}, C);
        for (int64_t i, passed = 0; (i = tasks_next(&tiles, &passed)) >= 0;) {
            const Tile t = tiling_tile(&g, i);
            forward_tile(u, &t, O, C, x.data, w.data, bias.data, packed);
            for (int64_t r = t.row; r < t.row + t.rows; r++) {
                const int64_t at = r * O + t.col;
                activation_apply(out + at, u + at, t.cols, activation);
            }
        }
    }
}

/* dx *= activation'(aux) over a tile, and the tile's column sums into `sums` (may be NULL). */
static void backward_epilogue(real *dx, const real *aux, real *sums, const Tile *t, int64_t C,
                              Activation activation) {
    if (sums) memset(sums, 0, (size_t)t->cols * sizeof *sums);
    for (int64_t r = t->row; r < t->row + t->rows; r++) {
        real *d = dx + r * C + t->col;
        if (aux)
            activation_apply_derivative(d, d, aux + r * C + t->col, t->cols, activation);
        if (sums)
#pragma omp simd
            for (int64_t c = 0; c < t->cols; c++) sums[c] += d[c];
    }
}

void OP(cpu_linear_backward_input)(const OpContext *cx, Tensor dx, Tensor dbias_prev, Tensor dy,
                                   Tensor w, Tensor aux, Activation activation) {
    const int64_t N = dy.dim[0], O = w.dim[0], C = w.dim[1];
    CHECK_TENSOR(dy, REAL_DTYPE, N, O);
    CHECK_TENSOR(w, REAL_DTYPE, O, C);
    CHECK_TENSOR(dx, REAL_DTYPE, N, C);
    CHECK_OPTIONAL(dbias_prev, REAL_DTYPE, C);
    CHECK_OPTIONAL(aux, REAL_DTYPE, N, C);
    CHECK(tensor_present(aux) == (activation != ACTIVATION_NONE), "activation %d", (int)activation);
    const Tiling g = linear_tiling(N, C, O);
    real *sums = NULL; /* (g.down, C): column sums of each row of tiles */
    if (tensor_present(dbias_prev)) {
        CHECK(cx->scratch_bytes >= g.packed + g.down * C * (int64_t)sizeof *sums,
              "scratch of %ld bytes", (long)cx->scratch_bytes);
        sums = (void *)((char *)cx->scratch + g.packed);
    }
    real *const to = dx.data;
    const Matrix from = {dy.data, O, 1}, weight = {w.data, C, 1};
    Tasks tiles;
    tasks_start(&tiles, g.down * g.across);
#pragma omp parallel
    {
        const char *const packed = pack_once(cx, &g, weight, O);
        for (int64_t i, passed = 0; (i = tasks_next(&tiles, &passed)) >= 0;) {
            const Tile t = tiling_tile(&g, i);
            tile_product(to, C, from, weight, packed, &t, O, false);
            backward_epilogue(to, aux.data, sums ? sums + t.down * C + t.col : NULL, &t, C,
                              activation);
        }
        if (sums) {
            real *const total = dbias_prev.data;
#pragma omp barrier
#pragma omp for simd schedule(static)
            for (int64_t c = 0; c < C; c++) {
                real sum = 0;
                for (int64_t down = 0; down < g.down; down++) sum += sums[down * C + c];
                total[c] += sum;
            }
        }
    }
}

/* bias (O) += columns [row, row + rows) of dy (N,O), summed. */
static void add_row_sums(real *bias, const real *dy, int64_t row, int64_t rows, int64_t N,
                         int64_t O) {
    real sums[TILE_ROWS] = {0};
    for (int64_t n = 0; n < N; n++)
#pragma omp simd
        for (int64_t o = 0; o < rows; o++) sums[o] += dy[n * O + row + o];
    for (int64_t o = 0; o < rows; o++) bias[row + o] += sums[o];
}

void OP(cpu_linear_backward_weight)(const OpContext *cx, Tensor dw, Tensor dbias, Tensor dy,
                                    Tensor x) {
    const int64_t N = x.dim[0], C = x.dim[1], O = dy.dim[1];
    CHECK_TENSOR(x, REAL_DTYPE, N, C);
    CHECK_TENSOR(dy, REAL_DTYPE, N, O);
    CHECK_TENSOR(dw, REAL_DTYPE, O, C);
    CHECK_OPTIONAL(dbias, REAL_DTYPE, O);
    const Tiling g = linear_tiling(O, C, N);
    const Matrix from = {dy.data, 1, O}, input = {x.data, C, 1};
    Tasks tiles;
    tasks_start(&tiles, g.down * g.across);
#pragma omp parallel
    {
        const char *const packed = pack_once(cx, &g, input, N);
        for (int64_t i, passed = 0; (i = tasks_next(&tiles, &passed)) >= 0;) {
            const Tile t = tiling_tile(&g, i);
            tile_product(dw.data, C, from, input, packed, &t, N, true);
            if (dbias.data && !t.col) add_row_sums(dbias.data, dy.data, t.row, t.rows, N, O);
        }
    }
}

/* ---- products for muon ---- */

/* Rows of one task of a symmetric n x n result. */
static int64_t gram_rows(int64_t n) {
    enum { TASKS = 8 };
    return i64_min(PRODUCT_ROWS, i64_round_up(i64_div_up(n, TASKS), TILE_ALIGN));
}

/* Copies rows [row, row + rows), columns [col, col + cols) of an n x n matrix to where its
 * transpose has them; square by square, for the cache. */
static void gram_mirror(real *out, int64_t n, int64_t row, int64_t rows, int64_t col,
                        int64_t cols) {
    enum { SQUARE = 16 };
    for (int64_t i0 = row; i0 < row + rows; i0 += SQUARE)
        for (int64_t j0 = col; j0 < col + cols; j0 += SQUARE)
            for (int64_t j = j0; j < i64_min(j0 + SQUARE, col + cols); j++)
                for (int64_t i = i0; i < i64_min(i0 + SQUARE, row + rows); i++)
                    out[j * n + i] = out[i * n + j];
}

/* The operands of x x^T or x^T x, (n,inner) by (inner,n): the second is the first, transposed. */
static Matrix gram_operand(const Gram *g, bool second) {
    return g->transposed == second ? (Matrix){g->x, g->cols, 1} : (Matrix){g->x, 1, g->cols};
}

/* Rows [row, row + strip) of the result, from the diagonal to the right, and their mirror image. */
static void gram_strip(real *out, const Gram *g, int64_t n, int64_t row, int64_t strip,
                       const char *packed) {
    const int64_t inner = g->transposed ? g->rows : g->cols;
    const Tile t = {.row = row, .col = row, .rows = i64_min(strip, n - row), .cols = n - row};
    tile_product(out, n, gram_operand(g, false), gram_operand(g, true), packed, &t, inner, false);
    real *const to = out + row * n + row;
    for (int64_t r = 0; r < t.rows; r++) {
        for (int64_t c = 0; c < t.cols; c++) to[r * n + c] *= g->alpha;
        to[r * n + r] += g->diagonal;
    }
    gram_mirror(out, n, row, t.rows, row + t.rows, t.cols - t.rows);
}

/* A task is a strip of rows; the longest come first. */
void OP(cpu_linear_gram)(real *out, const Gram *gram, void *packed) {
    const int64_t n = gram->transposed ? gram->cols : gram->rows, strip = gram_rows(n);
    const int64_t inner = gram->transposed ? gram->rows : gram->cols;
    if (packed) {
        OP(cpu_pack)(packed, gram_operand(gram, true), n, inner);
        for (int64_t row = 0; row < n; row += strip) gram_strip(out, gram, n, row, strip, packed);
    } else {
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < n; row += strip) gram_strip(out, gram, n, row, strip, NULL);
    }
}

/* Alone, tiles are as large as a product takes them, so that nothing is packed twice. */
void OP(cpu_linear_product)(real *out, const real *a, const real *b, int64_t rows, int64_t inner,
                            int64_t cols, bool alone) {
    if (alone) {
        for (int64_t row = 0; row < rows; row += PRODUCT_ROWS)
            OP(cpu_product)(out + row * cols, cols, (Matrix){a + row * inner, inner, 1},
                            (Matrix){b, cols, 1}, NULL, i64_min(PRODUCT_ROWS, rows - row), cols,
                            inner, false);
        return;
    }
    const Tiling g = tiling_make(rows, cols, 0);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < g.down * g.across; i++) {
        const Tile t = tiling_tile(&g, i);
        tile_product(out, cols, (Matrix){a, inner, 1}, (Matrix){b, cols, 1}, NULL, &t, inner,
                     false);
    }
}
