/* cpu_product on matrix tiles (Intel's AMX: eight registers of 16 rows of 64 bytes).
 *
 * The unit multiplies bf16 into float sums, at 16 times the rate of vectors of floats. A float of
 * 24 significant bits is exactly the sum of three bf16 of 8 bits each, x = high + middle + low, so
 *   a b = hh + hm + mh + mm + hl + lh  (h for high, m for middle, l for low)
 * misses ml, lm and ll, less than 2^-23 of |a b| together: a float product for six of bf16 (Henry,
 * Tang and Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations").
 *
 * Blocking is product.c's: a block of a, split and packed, stays in the second cache, panels of b
 * in the first. A result's terms are added in an order that depends on `inner` alone. */
#include "common.h"

#ifdef PUCK_TILES
#include <immintrin.h>
#include <stdalign.h>

enum {
    SIDE = 16,            /* rows of a tile register, and floats of one of its rows */
    LOG_SIDE = 4,
    DEPTH = 2 * SIDE,     /* bf16 of one of its rows: terms that one instruction adds */
    SQUARE = 2 * SIDE,    /* of the result: 2 x 2 registers */
    PARTS = 3,            /* high, middle, low */
    BLOCK_INNER = 256,
    TILE_BYTES = SIDE * DEPTH * (int)sizeof(uint16_t),
    /* A step is DEPTH terms of SQUARE rows of a or columns of b: PARTS pairs of tiles. */
    STEP_BYTES = PARTS * 2 * TILE_BYTES,
    STEPS = BLOCK_INNER / DEPTH,
    BLOCK_SQUARES = PRODUCT_ROWS / SQUARE
};

#define UNROLL _Pragma("GCC unroll 16")

/* ---- splitting and packing ---- */

/* The parts of 2 x SIDE floats. Cutting the low half off a float leaves 8 significant bits, and the
 * differences are exact; the last one has no more than 8 bits left. */
typedef struct Split {
    __m512i part[PARTS][2];
} Split;

static inline Split split(__m512 x0, __m512 x1) {
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    __m512 x[2] = {x0, x1};
    Split s;
    for (int part = 0; part < PARTS; part++)
        for (int i = 0; i < 2; i++) {
            s.part[part][i] = _mm512_and_si512(_mm512_castps_si512(x[i]), high);
            x[i] = _mm512_sub_ps(x[i], _mm512_castsi512_ps(s.part[part][i]));
        }
    return s;
}

/* A row of a's tiles: DEPTH terms in order. `to` is the row in the high part's tile. */
static inline void split_row(char *to, __m512 x0, __m512 x1) {
    const __m512i upper_halves = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19,
        17, 15, 13, 11, 9, 7, 5, 3, 1);
    const Split s = split(x0, x1);
    for (int part = 0; part < PARTS; part++)
        _mm512_store_si512(
            to + part * 2 * TILE_BYTES,
            _mm512_permutex2var_epi16(s.part[part][0], upper_halves, s.part[part][1]));
}

/* A row of b's tiles: two terms of each column, side by side. */
static inline void split_pair(char *to, __m512 x0, __m512 x1) {
    const Split s = split(x0, x1);
    for (int part = 0; part < PARTS; part++)
        _mm512_store_si512(to + part * 2 * TILE_BYTES,
                           _mm512_or_si512(_mm512_srli_epi32(s.part[part][0], 16),
                                           s.part[part][1]));
}

/* The transpose of a SIDE x SIDE square, by rounds of shuffling the first half of its rows into the
 * second, like cards: each round moves one bit of the row's number into the column's. Unrolled, as
 * the rows stay in registers. */
static inline void transpose(__m512 v[SIDE]) {
    const __m512i lower =
        _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i upper =
        _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8);
    UNROLL for (int round = 0; round < LOG_SIDE; round++) {
        __m512 next[SIDE];
        UNROLL for (int i = 0; i < SIDE / 2; i++) {
            next[2 * i] = _mm512_permutex2var_ps(v[i], lower, v[i + SIDE / 2]);
            next[2 * i + 1] = _mm512_permutex2var_ps(v[i], upper, v[i + SIDE / 2]);
        }
        UNROLL for (int i = 0; i < SIDE; i++) v[i] = next[i];
    }
}

static inline void load_square(__m512 v[SIDE], const float *from, int64_t stride) {
    UNROLL for (int i = 0; i < SIDE; i++) v[i] = _mm512_loadu_ps(from + i * stride);
}

/* Packs SIDE rows of a, DEPTH terms each, `row` apart. */
static void pack_rows(char *to, const float *from, int64_t row) {
    UNROLL for (int i = 0; i < SIDE; i++, to += 64, from += row)
        split_row(to, _mm512_loadu_ps(from), _mm512_loadu_ps(from + SIDE));
}

/* The same where it is the terms that are `term` apart, and a term's rows are contiguous. */
static void pack_rows_turned(char *to, const float *from, int64_t term) {
    __m512 v[2][SIDE];
    UNROLL for (int half = 0; half < 2; half++) {
        load_square(v[half], from + half * SIDE * term, term);
        transpose(v[half]);
    }
    UNROLL for (int i = 0; i < SIDE; i++) split_row(to + i * 64, v[0][i], v[1][i]);
}

/* Packs SIDE columns of b, DEPTH terms each; the terms are `term` apart. */
static void pack_columns(char *to, const float *from, int64_t term) {
    UNROLL for (int i = 0; i < SIDE; i++, to += 64, from += 2 * term)
        split_pair(to, _mm512_loadu_ps(from), _mm512_loadu_ps(from + term));
}

/* The same where it is the columns that are `col` apart. */
static void pack_columns_turned(char *to, const float *from, int64_t col) {
    UNROLL for (int half = 0; half < 2; half++) {
        __m512 v[SIDE];
        load_square(v, from + half * SIDE, col);
        transpose(v);
        UNROLL for (int i = 0; i < SIDE; i += 2, to += 64) split_pair(to, v[i], v[i + 1]);
    }
}

/* Packs DEPTH terms of SQUARE lines (rows of a, or columns of b) whose floats are `line` and `term`
 * apart; one of the two is 1. What is beyond `lines` and `terms` counts as zeros. */
static void pack_step(char *to, const float *from, int64_t line, int64_t term, int64_t lines,
                      int64_t terms, bool rows) {
    alignas(64) float edge[SQUARE * DEPTH];
    if (lines < SQUARE || terms < DEPTH) {
        memset(edge, 0, sizeof edge);
        for (int64_t i = 0; i < i64_min(lines, SQUARE); i++)
            for (int64_t k = 0; k < i64_min(terms, DEPTH); k++)
                edge[i * DEPTH + k] = from[i * line + k * term];
        from = edge;
        line = DEPTH;
        term = 1;
    }
    for (int half = 0; half < 2; half++, to += TILE_BYTES, from += SIDE * line) {
        if (rows && term == 1) pack_rows(to, from, line);
        else if (rows) pack_rows_turned(to, from, term);
        else if (term == 1) pack_columns_turned(to, from, line);
        else pack_columns(to, from, term);
    }
}

/* ---- prefetching ---- */

static Matrix matrix_at(Matrix m, int64_t row, int64_t col) {
    return (Matrix){m.data + row * m.row + col * m.col, m.row, m.col};
}

/* Asks for rows of contiguous floats ahead of their use: the processor does not foresee the jump
 * from one square or panel to the next. */
static void prefetch_rows(const float *from, int64_t stride, int64_t rows, int64_t cols) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j += SIDE) __builtin_prefetch(from + i * stride + j, 0, 2);
}

/* One of `shares` parts of a panel of b, (terms, cols). */
static void prefetch_columns(Matrix b, int64_t terms, int64_t cols, int64_t share, int64_t shares) {
    const int64_t rows = b.col == 1 ? terms : cols, first = rows * share / shares;
    const int64_t end = rows * (share + 1) / shares, stride = b.col == 1 ? b.row : b.col;
    prefetch_rows(b.data + first * stride, stride, end - first, b.col == 1 ? cols : terms);
}

/* ---- the product ---- */

/* The registers: 0 to 3 hold the result, 4 and 5 rows of a, 6 and 7 columns of b. */
typedef struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;
static const TileConfig eight_tiles = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE},
};

#define LOAD_ROWS(part)                                                                            \
    _tile_loadd(4, a + (part) * 2 * TILE_BYTES, 64);                                               \
    _tile_loadd(5, a + (part) * 2 * TILE_BYTES + TILE_BYTES, 64)
#define LOAD_COLUMNS(part)                                                                         \
    _tile_loadd(6, b + (part) * 2 * TILE_BYTES, 64);                                               \
    _tile_loadd(7, b + (part) * 2 * TILE_BYTES + TILE_BYTES, 64)
#define MULTIPLY()                                                                                 \
    _tile_dpbf16ps(0, 4, 6);                                                                       \
    _tile_dpbf16ps(1, 4, 7);                                                                       \
    _tile_dpbf16ps(2, 5, 6);                                                                       \
    _tile_dpbf16ps(3, 5, 7)

/* SQUARE x SQUARE of the result: c = a b, or c += a b. The small terms of a step come first. */
static void square(float *c, int64_t ldc, const char *a, const char *b, int64_t steps, bool add) {
    const int64_t row_bytes = ldc * (int64_t)sizeof *c;
    __asm__ volatile("" ::: "memory"); /* the intrinsics do not say that they read memory */
    if (add) {
        _tile_loadd(0, c, row_bytes);
        _tile_loadd(1, c + SIDE, row_bytes);
        _tile_loadd(2, c + SIDE * ldc, row_bytes);
        _tile_loadd(3, c + SIDE * ldc + SIDE, row_bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t i = 0; i < steps; i++, a += STEP_BYTES, b += STEP_BYTES) {
        LOAD_ROWS(2);
        LOAD_COLUMNS(0);
        MULTIPLY(); /* low high */
        LOAD_ROWS(1);
        MULTIPLY(); /* middle high */
        LOAD_COLUMNS(1);
        MULTIPLY(); /* middle middle */
        LOAD_ROWS(0);
        MULTIPLY(); /* high middle */
        LOAD_COLUMNS(2);
        MULTIPLY(); /* high low */
        LOAD_COLUMNS(0);
        MULTIPLY(); /* high high */
    }
    _tile_stored(0, c, row_bytes);
    _tile_stored(1, c + SIDE, row_bytes);
    _tile_stored(2, c + SIDE * ldc, row_bytes);
    _tile_stored(3, c + SIDE * ldc + SIDE, row_bytes);
}

/* The same at the result's edge, beside it. */
static void square_at_edge(float *c, int64_t ldc, int64_t rows, int64_t cols, const char *a,
                           const char *b, int64_t steps, bool add) {
    alignas(64) float all[SQUARE * SQUARE] = {0};
    for (int64_t i = 0; add && i < rows; i++)
        memcpy(all + i * SQUARE, c + i * ldc, (size_t)cols * sizeof *c);
    square(all, SQUARE, a, b, steps, add);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * ldc, all + i * SQUARE, (size_t)cols * sizeof *c);
}

/* SQUARE columns of the result: a packed block of a by a packed panel of b. `next` is what the
 * panel after this one will be packed from. */
static void column(float *c, int64_t ldc, const char *block, const char *panel, int64_t rows,
                   int64_t cols, int64_t terms, bool add, Matrix next, int64_t next_cols) {
    const int64_t steps = i64_div_up(terms, DEPTH), squares = i64_div_up(rows, SQUARE);
    for (int64_t i = 0; i < squares; i++, c += SQUARE * ldc, block += steps * STEP_BYTES) {
        const int64_t height = i64_min(SQUARE, rows - i * SQUARE);
        prefetch_columns(next, terms, next_cols, i, squares);
        if (i + 1 < squares)
            prefetch_rows(c + SQUARE * ldc, ldc, i64_min(SQUARE, rows - (i + 1) * SQUARE), cols);
        if (height == SQUARE && cols == SQUARE) square(c, ldc, block, panel, steps, add);
        else square_at_edge(c, ldc, height, cols, block, panel, steps, add);
    }
}

/* Packs `terms` terms of SQUARE columns of b. */
static void pack_panel(char *to, Matrix b, int64_t cols, int64_t terms) {
    for (int64_t i = 0; i < terms; i += DEPTH, to += STEP_BYTES)
        pack_step(to, b.data + i * b.row, b.col, b.row, cols, terms - i, false);
}

/* Bytes of a panel of all terms. */
static int64_t panel_bytes(int64_t inner) { return i64_div_up(inner, DEPTH) * STEP_BYTES; }

int64_t OP(cpu_packed_bytes)(int64_t cols, int64_t inner) {
    return i64_div_up(cols, SQUARE) * panel_bytes(inner);
}

void OP(cpu_pack)(void *packed, Matrix b, int64_t cols, int64_t inner) {
    char *to = packed;
    for (int64_t j = 0; j < cols; j += SQUARE, to += panel_bytes(inner))
        pack_panel(to, matrix_at(b, 0, j), i64_min(SQUARE, cols - j), inner);
}

/* Packs rows [0, rows) of terms [k, k + terms) of a. */
static void pack_block(char *to, Matrix a, int64_t rows, int64_t k, int64_t terms) {
    for (int64_t r = 0; r < rows; r += SQUARE)
        for (int64_t i = 0; i < terms; i += DEPTH, to += STEP_BYTES) {
            const float *const from = a.data + r * a.row + (k + i) * a.col;
            if (r + SQUARE < rows)
                prefetch_rows(from + SQUARE * a.row, a.col == 1 ? a.row : a.col, SQUARE, DEPTH);
            pack_step(to, from, a.row, a.col, rows - r, terms - i, true);
        }
}

void OP(cpu_product)(real *c, int64_t ldc, Matrix a, Matrix b, const void *packed, int64_t rows,
                     int64_t cols, int64_t inner, bool add) {
    CHECK(rows <= PRODUCT_ROWS, "%ld rows", (long)rows);
    alignas(64) char block[BLOCK_SQUARES * STEPS * STEP_BYTES], panel[STEPS * STEP_BYTES];
    _tile_loadconfig(&eight_tiles);
    for (int64_t k = 0; k < inner; k += BLOCK_INNER) {
        const int64_t terms = i64_min(BLOCK_INNER, inner - k);
        pack_block(block, a, rows, k, terms);
        for (int64_t j = 0; j < cols; j += SQUARE) {
            const int64_t width = i64_min(SQUARE, cols - j), left = cols - j - width;
            const int64_t at = j / SQUARE * panel_bytes(inner) + k / DEPTH * STEP_BYTES;
            const char *const from = packed ? (const char *)packed + at : panel;
            if (!packed) pack_panel(panel, matrix_at(b, k, j), width, terms);
            column(c + j, ldc, block, from, rows, width, terms, add || k > 0,
                   matrix_at(b, k, j + SQUARE), packed ? 0 : i64_min(SQUARE, left));
        }
    }
    _tile_release();
}
#endif
