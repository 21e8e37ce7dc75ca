/* Causal attention. One task owns one head of one sequence (backward: one key-value head, with all
 * the query heads that read it), so every sum has one owner. Its keys and values are first packed
 * into scratch, padded to whole vectors; then tiles of QUERIES x KEYS scores live in cache, never
 * T x T (Dao 2022, "FlashAttention": the running maximum and sum).
 *
 * Inside a tile all products go through one small kernel, product(): ROWS rows of the result at a
 * time, which also is the grain at which the causal triangle is trimmed. */
#include "mask.h"
#include "tasks.h"
#include "vector.h"

enum {
    QUERIES = 48, /* a multiple of ROWS */
    KEYS = 64     /* a multiple of WIDTH */
};

/* vector_product of any number of rows up to ROWS. */
static void product(int64_t rows, real *c, int64_t ldc, const real *a, int64_t a_row, int64_t a_col,
                    const real *b, int64_t ldb, int64_t n, int64_t k, bool add) {
    switch (rows) {
    case 1: vector_product(1, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
    case 2: vector_product(2, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
    case 3: vector_product(3, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
    case 4: vector_product(4, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
    case 5: vector_product(5, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
#if ROWS > 6
    case 6: vector_product(6, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
    case 7: vector_product(7, c, ldc, a, a_row, a_col, b, ldb, n, k, add); return;
#endif
    default: vector_product(ROWS, c, ldc, a, a_row, a_col, b, ldb, n, k, add);
    }
}

/* Sizes of a call. Rows of qkv are R apart, those of y and dy H*D. Dp is D in whole kernels. */
typedef struct Shape {
    int64_t B, T, H, K, D, Dp, R, Tk; /* Tk: T padded to whole tiles of keys */
    real scale;
} Shape;

static Shape shape_make(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D) {
    return (Shape){.B = B,
                   .T = T,
                   .H = H,
                   .K = K,
                   .D = D,
                   .Dp = i64_round_up(D, WIDTH),
                   .R = (H + 2 * K) * D,
                   .Tk = i64_round_up(T, KEYS),
                   .scale = 1 / real_sqrt((real)D)};
}

static Shape shape_check(Tensor qkv, int64_t H, int64_t K) {
    CHECK(H > 0 && K > 0 && H % K == 0, "%ld heads on %ld key-value heads", (long)H, (long)K);
    const int64_t R = qkv.dim[2];
    CHECK_TENSOR(qkv, REAL_DTYPE, -1, -1, R);
    CHECK(R > 0 && R % (H + 2 * K) == 0, "rows of %ld, %ld + 2*%ld heads", (long)R, (long)H,
          (long)K);
    return shape_make(qkv.dim[0], qkv.dim[1], H, K, R / (H + 2 * K));
}

/* ---- scratch: one slab a thread; backward: then (B, R) column sums ---- */

static int64_t forward_slab(const Shape *s) { return (2 * s->Tk + QUERIES) * s->Dp; }

static int64_t backward_slab(const Shape *s) {
    return (5 * s->Tk + 3 * QUERIES) * s->Dp + 2 * QUERIES * KEYS;
}

static int64_t backward_reals(const Shape *s, int64_t n_threads) {
    return n_threads * backward_slab(s) + s->B * s->R;
}

int64_t OP(cpu_attention_scratch)(OpKind op, const OpShape *shape, const DeviceProperties *device) {
    if (op == OP_ATTENTION_DECODE) return 0;
    const Shape s = shape_make(shape->B, shape->T, shape->H, shape->K, shape->D);
    const int64_t n_threads = i64_max(1, device->n_units);
    const int64_t reals =
        op == OP_ATTENTION_FORWARD ? n_threads * forward_slab(&s) : backward_reals(&s, n_threads);
    return reals * (int64_t)sizeof(real);
}

static real *scratch_check(const OpContext *cx, int64_t reals) {
    CHECK(cx->scratch_bytes >= reals * (int64_t)sizeof(real), "scratch of %ld bytes, %ld needed",
          (long)cx->scratch_bytes, (long)(reals * (int64_t)sizeof(real)));
    return cx->scratch;
}

/* ---- packing ---- */

/* to (D) = scale * from (D). */
static inline void scale_row(real *to, const real *from, int64_t D, real scale) {
    int64_t d = 0;
    for (; d + LANES <= D; d += LANES) *(vec *)(to + d) = *(const vec *)(from + d) * scale;
    for (; d < D; d++) to[d] = from[d] * scale;
}

/* to (T,Dp) = scale * from (T,D), rows of `from` ld apart; the padding is 0. */
static void pack_rows(real *to, const real *from, int64_t ld, int64_t T, const Shape *s,
                      real scale) {
    for (int64_t t = 0; t < T; t++) {
        scale_row(to + t * s->Dp, from + t * ld, s->D, scale);
        for (int64_t d = s->D; d < s->Dp; d++) to[t * s->Dp + d] = 0;
    }
}

/* kt (Tk/KEYS,Dp,KEYS): tiles of keys (T,D), transposed, the padding 0. By way of rows (Tk,Dp):
 * those of qkv are so far apart that few of them fit into the first cache's sets at once. */
static void pack_transposed(real *kt, real *rows, const real *keys, const Shape *s) {
    pack_rows(rows, keys, s->R, s->T, s, 1);
    memset(rows + s->T * s->Dp, 0, (size_t)((s->Tk - s->T) * s->Dp) * sizeof *rows);
    for (int64_t k = 0; k < s->Tk; k += LANES)
        for (int64_t d = 0; d < s->Dp; d += LANES)
            transpose(kt + k / KEYS * KEYS * s->Dp + d * KEYS + k % KEYS, KEYS,
                      rows + k * s->Dp + d, s->Dp);
}

/* ---- forward ---- */

/* The masks of one row of scores: those of keys k0 .. k0+KEYS-1 for query i of head h. */
static void mask_row(real mask[KEYS], const Mask *m, const Shape *s, int64_t batch, int64_t h,
                     int64_t i, int64_t k0, int64_t n) {
    mask_run(mask, m, (uint64_t)(((batch * s->H + h) * s->T + i) * s->T + k0), n);
}

/* `rows` rows of a tile, KEYS apart. p: n scores a row in, n a multiple of WIDTH; out come
 * exp(scale * score - top), 0 from `valid` on, which is row 0's; each row sees one key more. The
 * sums so far are brought to the new maxima; factor[i] does the same to what else depends on them.
 * Rows go through each stage together, as one row's sums and exponentials wait for each other. */
static void softmax_rows(real *p, int64_t rows, int valid, int n, real scale, real *top, real *sum,
                         real factor[ROWS]) {
    n = n / WIDTH * WIDTH; /* tells the compiler */
    for (int i = 0; i < ROWS; i++) factor[i] = 0;
    for (int i = 0; i < rows; i++) {
        real *const row = p + i * KEYS;
        real highest = top[i];
#pragma omp simd reduction(max : highest)
        for (int j = 0; j < n; j++) {
            row[j] = j < valid + i ? row[j] * scale : -(real)INFINITY;
            highest = real_max(row[j], highest);
        }
        factor[i] = top[i] - highest;
        top[i] = highest;
    }
#pragma omp simd
    for (int i = 0; i < ROWS; i++) factor[i] = real_exp(factor[i]);
    for (int i = 0; i < rows; i++) {
        real *const row = p + i * KEYS;
        const real highest = top[i];
        real added = 0;
#pragma omp simd reduction(+ : added)
        for (int j = 0; j < n; j++) {
            row[j] = real_exp(row[j] - highest);
            added += row[j];
        }
        sum[i] = sum[i] * factor[i] + added;
    }
}

/* Queries q0 .. q0+n-1 of one head; q is row q0's, batch the sequence's global number. */
static void forward_tile(real *y, real *lse, const real *q, const real *kt, const real *v,
                         real *out, int64_t q0, int64_t n, int64_t batch, int64_t h, const Shape *s,
                         const Mask *m) {
    real top[QUERIES], sum[QUERIES] = {0}, p[ROWS * KEYS], mask[KEYS], factor[ROWS];
    for (int64_t i = 0; i < n; i++) top[i] = -(real)INFINITY;
    for (int64_t k0 = 0; k0 < q0 + n; k0 += KEYS)
        for (int64_t r = 0; r < n; r += ROWS) {
            const int64_t rows = i64_min(ROWS, n - r);
            const int64_t keys = i64_min(KEYS, q0 + r + rows - k0); /* that some row sees */
            if (keys <= 0) continue;
            const int64_t valid = q0 + r + 1 - k0, padded = i64_round_up(keys, WIDTH);
            real *const o = out + r * s->Dp;
            product(rows, p, KEYS, q + r * s->R, s->R, 1, kt + k0 * s->Dp, KEYS, padded, s->D,
                    false);
            softmax_rows(p, rows, (int)valid, (int)padded, s->scale, top + r, sum + r, factor);
            for (int64_t i = 0; k0 > 0 && i < rows; i++)
                if (factor[i] != 1) scale_row(o + i * s->Dp, o + i * s->Dp, s->Dp, factor[i]);
            for (int64_t i = 0; m->on && i < rows; i++) {
                const int64_t seen = i64_max(0, i64_min(KEYS, valid + i));
                mask_row(mask, m, s, batch, h, q0 + r + i, k0, seen);
                for (int64_t j = 0; j < seen; j++) p[i * KEYS + j] *= mask[j];
            }
            product(rows, o, s->Dp, p, KEYS, 1, v + k0 * s->Dp, s->Dp, s->Dp, keys, k0 > 0);
        }
    for (int64_t i = 0; i < n; i++) {
        scale_row(y + i * s->H * s->D, out + i * s->Dp, s->D, 1 / sum[i]);
        lse[i] = top[i] + real_log(sum[i]);
    }
}

void OP(cpu_attention_forward)(const OpContext *cx, Tensor y, Tensor lse, Tensor qkv,
                               int64_t n_heads, int64_t n_kv_heads, Dropout drop) {
    const Shape s = shape_check(qkv, n_heads, n_kv_heads);
    CHECK_TENSOR(y, REAL_DTYPE, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(lse, REAL_DTYPE, s.B, s.H, s.T);
    real *const scratch = scratch_check(cx, omp_get_max_threads() * forward_slab(&s));
    const Mask m = mask_make(cx, drop);
    const int64_t first = cx->params->row_base / s.T;
    Tasks heads;
    tasks_start(&heads, s.B * s.H);
#pragma omp parallel
    for (int64_t task, passed = 0; (task = tasks_next(&heads, &passed)) >= 0;) {
        const int64_t b = task / s.H, h = task % s.H;
        const real *const row = (const real *)qkv.data + b * s.T * s.R;
        const real *const keys = row + (s.H + h / (s.H / s.K)) * s.D, *const q = row + h * s.D;
        real *const kt = scratch + omp_get_thread_num() * forward_slab(&s);
        real *const v = kt + s.Tk * s.Dp, *const out = v + s.Tk * s.Dp;
        pack_transposed(kt, v, keys, &s);
        pack_rows(v, keys + s.K * s.D, s.R, s.T, &s, 1);
        for (int64_t q0 = 0; q0 < s.T; q0 += QUERIES)
            forward_tile((real *)y.data + ((b * s.T + q0) * s.H + h) * s.D,
                         (real *)lse.data + task * s.T + q0, q + q0 * s.R, kt, v, out, q0,
                         i64_min(QUERIES, s.T - q0), first + b, h, &s, &m);
    }
}

/* ---- backward ---- */

/* A task's slab. Letters as in ops.h; q is scaled, so the scores need no factor, nor does dk. */
typedef struct Slab {
    real *kt, *vt, *k, *dk, *dv; /* a whole key-value head */
    real *q, *dy, *dq, *p, *ds;  /* a tile of queries */
    real lse[QUERIES], delta[QUERIES];
} Slab;

static Slab slab_make(real *at, const Shape *s) {
    Slab w;
    w.kt = at;
    w.vt = w.kt + s->Tk * s->Dp;
    w.k = w.vt + s->Tk * s->Dp;
    w.dk = w.k + s->Tk * s->Dp;
    w.dv = w.dk + s->Tk * s->Dp;
    w.q = w.dv + s->Tk * s->Dp;
    w.dy = w.q + QUERIES * s->Dp;
    w.dq = w.dy + QUERIES * s->Dp;
    w.p = w.dq + QUERIES * s->Dp;
    w.ds = w.p + QUERIES * KEYS;
    return w;
}

/* One row of a tile: p holds scores, ds holds dy.v; out come mask * p and ds, 0 from `valid` on. */
static void backward_row(real *p, real *ds, const real *mask, int valid, int n, real lse,
                         real delta) {
#pragma omp simd
    for (int j = 0; j < n; j++) {
        const real e = real_exp(p[j] - lse);
        const real d = e * (mask[j] * ds[j] - delta);
        p[j] = j < valid ? e * mask[j] : 0;
        ds[j] = j < valid ? d : 0;
    }
    memset(p + n, 0, (size_t)(KEYS - n) * sizeof *p);
    memset(ds + n, 0, (size_t)(KEYS - n) * sizeof *ds);
}

/* One tile of QUERIES x KEYS: adds to dq, dk, dv. */
static void backward_tile(const Slab *w, int64_t q0, int64_t n, int64_t k0, int64_t batch,
                          int64_t h, const Shape *s, const Mask *m) {
    real mask[KEYS];
    for (int j = 0; j < KEYS; j++) mask[j] = 1;
    for (int64_t r = 0; r < n; r += ROWS) {
        const int64_t rows = i64_min(ROWS, n - r);
        const int64_t keys = i64_max(0, i64_min(KEYS, q0 + r + rows - k0));
        const int64_t padded = i64_round_up(keys, WIDTH);
        product(rows, w->p + r * KEYS, KEYS, w->q + r * s->Dp, s->Dp, 1, w->kt + k0 * s->Dp, KEYS,
                padded, s->D, false);
        product(rows, w->ds + r * KEYS, KEYS, w->dy + r * s->Dp, s->Dp, 1, w->vt + k0 * s->Dp, KEYS,
                padded, s->D, false);
        for (int64_t i = r; i < r + rows; i++) {
            const int64_t valid = i64_max(0, i64_min(KEYS, q0 + i + 1 - k0));
            if (m->on) mask_row(mask, m, s, batch, h, q0 + i, k0, valid);
            backward_row(w->p + i * KEYS, w->ds + i * KEYS, mask, (int)valid, (int)padded,
                         w->lse[i], w->delta[i]);
        }
        product(rows, w->dq + r * s->Dp, s->Dp, w->ds + r * KEYS, KEYS, 1, w->k + k0 * s->Dp, s->Dp,
                s->Dp, keys, true);
    }
    const int64_t keys = i64_min(KEYS, q0 + n - k0);
    for (int64_t j = 0; j < keys; j += ROWS) {
        const int64_t rows = i64_min(ROWS, keys - j);
        const int64_t i = i64_max(0, k0 + j - q0); /* the first query that sees key j */
        product(rows, w->dv + (k0 + j) * s->Dp, s->Dp, w->p + i * KEYS + j, 1, KEYS,
                w->dy + i * s->Dp, s->Dp, s->Dp, n - i, true);
        product(rows, w->dk + (k0 + j) * s->Dp, s->Dp, w->ds + i * KEYS + j, 1, KEYS,
                w->q + i * s->Dp, s->Dp, s->Dp, n - i, true);
    }
}

/* to (n,D), rows R apart, = scale * from (n,Dp); sums += their column sums, row by row. */
static void unpack_rows(real *to, real *sums, const real *from, int64_t n, real scale,
                        const Shape *s) {
    for (int64_t t = 0; t < n; t++)
        for (int64_t d = 0; d < s->D; d++) {
            const real x = from[t * s->Dp + d] * scale;
            to[t * s->R + d] = x;
            sums[d] += x;
        }
}

typedef struct Backward {
    real *dqkv, *sums; /* sums: (B,R), over T */
    const real *dy, *y, *qkv, *lse;
    int64_t first; /* number of the first sequence in the global batch */
} Backward;

static void backward_head(const Backward *p, Slab *w, int64_t b, int64_t h, const Shape *s,
                          const Mask *m) {
    const int64_t ld = s->H * s->D;
    for (int64_t q0 = 0; q0 < s->T; q0 += QUERIES) {
        const int64_t n = i64_min(QUERIES, s->T - q0), row = b * s->T + q0;
        const real *const dy = p->dy + row * ld + h * s->D, *const y = p->y + row * ld + h * s->D;
        pack_rows(w->q, p->qkv + row * s->R + h * s->D, s->R, n, s, s->scale);
        pack_rows(w->dy, dy, ld, n, s, 1);
        for (int64_t i = 0; i < n; i++) {
            real sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t d = 0; d < s->D; d++) sum += dy[i * ld + d] * y[i * ld + d];
            w->delta[i] = sum;
            w->lse[i] = p->lse[(b * s->H + h) * s->T + q0 + i];
        }
        memset(w->dq, 0, (size_t)(n * s->Dp) * sizeof *w->dq);
        for (int64_t k0 = 0; k0 < q0 + n; k0 += KEYS)
            backward_tile(w, q0, n, k0, p->first + b, h, s, m);
        unpack_rows(p->dqkv + row * s->R + h * s->D, p->sums + b * s->R + h * s->D, w->dq, n,
                    s->scale, s);
    }
}

static void backward_task(const Backward *p, real *slab, int64_t b, int64_t kv, const Shape *s,
                          const Mask *m) {
    Slab w = slab_make(slab, s);
    const int64_t group = s->H / s->K;
    const int64_t k_at = (s->H + kv) * s->D, v_at = k_at + s->K * s->D;
    const int64_t row = b * s->T * s->R;
    pack_transposed(w.vt, w.k, p->qkv + row + v_at, s);
    pack_transposed(w.kt, w.k, p->qkv + row + k_at, s);
    memset(w.dk, 0, (size_t)(2 * s->Tk * s->Dp) * sizeof *w.dk); /* and dv behind it */
    memset(p->sums + b * s->R + kv * group * s->D, 0, (size_t)(group * s->D) * sizeof(real));
    memset(p->sums + b * s->R + k_at, 0, (size_t)s->D * sizeof(real));
    memset(p->sums + b * s->R + v_at, 0, (size_t)s->D * sizeof(real));
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) backward_head(p, &w, b, h, s, m);
    unpack_rows(p->dqkv + row + k_at, p->sums + b * s->R + k_at, w.dk, s->T, 1, s);
    unpack_rows(p->dqkv + row + v_at, p->sums + b * s->R + v_at, w.dv, s->T, 1, s);
}

void OP(cpu_attention_backward)(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor dy, Tensor y,
                                Tensor qkv, Tensor lse, int64_t n_heads, int64_t n_kv_heads,
                                Dropout drop) {
    const Shape s = shape_check(qkv, n_heads, n_kv_heads);
    CHECK_TENSOR(dqkv, REAL_DTYPE, s.B, s.T, s.R);
    CHECK_OPTIONAL(dbias, REAL_DTYPE, s.R);
    CHECK_TENSOR(dy, REAL_DTYPE, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(y, REAL_DTYPE, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(lse, REAL_DTYPE, s.B, s.H, s.T);
    real *const sums = scratch_check(cx, backward_reals(&s, omp_get_max_threads()));
    real *const slabs = sums + s.B * s.R;
    const Backward p = {.dqkv = dqkv.data,
                        .sums = sums,
                        .dy = dy.data,
                        .y = y.data,
                        .qkv = qkv.data,
                        .lse = lse.data,
                        .first = cx->params->row_base / s.T};
    const Mask m = mask_make(cx, drop);
    Tasks heads;
    tasks_start(&heads, s.B * s.K);
#pragma omp parallel
    {
        for (int64_t task, passed = 0; (task = tasks_next(&heads, &passed)) >= 0;)
            backward_task(&p, slabs + omp_get_thread_num() * backward_slab(&s), task / s.K,
                          task % s.K, &s, &m);
        if (tensor_present(dbias)) {
            real *const total = dbias.data;
#pragma omp barrier
#pragma omp for simd schedule(static)
            for (int64_t c = 0; c < s.R; c++) {
                real sum = 0;
                for (int64_t b = 0; b < s.B; b++) sum += sums[b * s.R + c];
                total[c] += sum;
            }
        }
    }
}

/* ---- decode ---- */

/* One query over n cached keys: y is both the running sum and the result. */
static void decode_row(real *y, const real *q, const real *k, const real *v, int64_t n,
                       const Shape *s) {
    real top = -(real)INFINITY, sum = 0, p[KEYS], factor[ROWS];
    memset(y, 0, (size_t)s->D * sizeof *y);
    for (int64_t k0 = 0; k0 < n; k0 += KEYS) {
        const int64_t keys = i64_min(KEYS, n - k0);
        for (int64_t j = 0; j < keys; j++) {
            const real *const key = k + (k0 + j) * s->D;
            real dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t d = 0; d < s->D; d++) dot += q[d] * key[d];
            p[j] = dot;
        }
        softmax_rows(p, 1, (int)keys, (int)i64_round_up(keys, WIDTH), s->scale, &top, &sum, factor);
        scale_row(y, y, s->D, factor[0]);
        for (int64_t j = 0; j < keys; j++) {
            const real *const value = v + (k0 + j) * s->D;
#pragma omp simd
            for (int64_t d = 0; d < s->D; d++) y[d] += p[j] * value[d];
        }
    }
    for (int64_t d = 0; d < s->D; d++) y[d] /= sum;
}

void OP(cpu_attention_decode)(const OpContext *cx, Tensor y, Tensor k_cache, Tensor v_cache,
                              Tensor qkv, Tensor position, int64_t n_heads, int64_t n_kv_heads) {
    (void)cx;
    const Shape s = shape_check(qkv, n_heads, n_kv_heads);
    const int64_t context = k_cache.dim[2], group = s.H / s.K;
    CHECK_TENSOR(y, REAL_DTYPE, s.B, s.T, s.H * s.D);
    CHECK_TENSOR(k_cache, REAL_DTYPE, s.B, s.K, context, s.D);
    CHECK_TENSOR(v_cache, REAL_DTYPE, s.B, s.K, context, s.D);
    CHECK_TENSOR(position, DTYPE_I32, s.B);
    const int32_t *const past = position.data;
    for (int64_t b = 0; b < s.B; b++)
        CHECK(past[b] >= 0 && past[b] + s.T <= context, "rows %ld..%ld of a cache of %ld",
              (long)past[b], (long)(past[b] + s.T), (long)context);
    const real *const rows = qkv.data;
    real *const k = k_cache.data, *const v = v_cache.data, *const out = y.data;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t head = 0; head < s.B * s.K; head++) {
            const int64_t b = head / s.K, kv = head % s.K, at = (head * context + past[b]) * s.D;
            for (int64_t t = 0; t < s.T; t++) {
                const real *const from = rows + (b * s.T + t) * s.R + (s.H + kv) * s.D;
                memcpy(k + at + t * s.D, from, (size_t)s.D * sizeof *k);
                memcpy(v + at + t * s.D, from + s.K * s.D, (size_t)s.D * sizeof *v);
            }
        }
#pragma omp for schedule(static)
        for (int64_t task = 0; task < s.B * s.H; task++) {
            const int64_t b = task / s.H, h = task % s.H;
            const int64_t cache = (b * s.K + h / group) * context * s.D;
            for (int64_t t = 0; t < s.T; t++)
                decode_row(out + ((b * s.T + t) * s.H + h) * s.D,
                           rows + (b * s.T + t) * s.R + h * s.D, k + cache, v + cache,
                           past[b] + t + 1, &s);
        }
    }
}
