/* Rotary positions and QK-norm (ops.h), in place on packed rows of q, k, v.
 *
 * Positions are cut into at most MOST_CHUNKS chunks by T alone. A chunk's task takes one position
 * of all sequences after the other: so its cosines and sines are computed once for all of their
 * heads, which is cheap enough to do in double, and column sums have one owner and one order.
 * Rotating back is rotating by the negative angle, and so is NanoChat's sign. */
#include "common.h"

enum { MOST_CHUNKS = 64 };

/* Rows of qkv are R apart. */
typedef struct Shape {
    int64_t B, T, H, K, D, R, chunk, n_chunks;
} Shape;

static Shape shape_make(int64_t B, int64_t T, int64_t H, int64_t K, int64_t D) {
    const int64_t chunk = i64_max(1, i64_div_up(T, MOST_CHUNKS));
    return (Shape){B, T, H, K, D, (H + 2 * K) * D, chunk, i64_div_up(T, chunk)};
}

static Shape shape_check(Tensor qkv, int64_t H, int64_t K) {
    const int64_t R = qkv.dim[2];
    CHECK_TENSOR(qkv, REAL_DTYPE, -1, -1, R);
    CHECK(H > 0 && K > 0 && R > 0 && R % (2 * (H + 2 * K)) == 0,
          "rows of %ld, %ld + 2*%ld heads of even size", (long)R, (long)H, (long)K);
    return shape_make(qkv.dim[0], qkv.dim[1], H, K, R / (H + 2 * K));
}

/* Scratch: (D/2) doubles of frequencies, then per chunk D/2 cosines, D/2 sines and, backward, R
 * column sums. */
static int64_t chunk_reals(const Shape *s, bool sums) { return s->D + (sums ? s->R : 0); }

/* For the most chunks that so many positions or fewer are cut into. */
static int64_t scratch_bytes(const Shape *s, bool sums) {
    return s->D / 2 * (int64_t)sizeof(double) +
           i64_min(s->T, MOST_CHUNKS) * chunk_reals(s, sums) * (int64_t)sizeof(real);
}

int64_t OP(cpu_rope_scratch)(OpKind op, const OpShape *shape) {
    const Shape s = shape_make(shape->B, shape->T, shape->H, shape->K, shape->D);
    return scratch_bytes(&s, op == OP_ROTATE_BACKWARD);
}

typedef struct Scratch {
    const double *frequency; /* the angle of every pair at position 1 */
    real *chunks;
} Scratch;

/* Frequencies are negative where the call turns the other way, and 0 where it does not turn: cosine
 * 1 and sine 0 change no value. */
static Scratch scratch_make(const OpContext *cx, const Shape *s, Rotation r, bool back) {
    const int64_t needed = scratch_bytes(s, back);
    CHECK(cx->scratch_bytes >= needed, "scratch of %ld bytes, %ld needed", (long)cx->scratch_bytes,
          (long)needed);
    double *const frequency = cx->scratch;
    void *const rest = frequency + s->D / 2;
    for (int64_t i = 0; i < s->D / 2; i++) {
        const double turn = pow(r.base, -2.0 * (double)i / (double)s->D);
        frequency[i] = !r.rotates ? 0 : r.reversed != back ? -turn : turn;
    }
    return (Scratch){frequency, rest};
}

static void fill_angles(real *cosine, real *sine, const double *frequency, int64_t position,
                        int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double angle = (double)position * frequency[i];
        cosine[i] = (real)cos(angle);
        sine[i] = (real)sin(angle);
    }
}

/* x = x cos + (-x2, x1) sin over both halves of a head, half = D/2. Returns the sum of squares. */
static real turn(real *restrict x, const real *restrict cosine, const real *restrict sine,
                 int64_t half) {
    real *restrict x2 = x + half;
    real squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < half; i++) {
        const real a = x[i] * cosine[i] - x2[i] * sine[i];
        const real b = x2[i] * cosine[i] + x[i] * sine[i];
        x[i] = a;
        x2[i] = b;
        squares += a * a + b * b;
    }
    return squares;
}

void OP(cpu_rotate_forward)(const OpContext *cx, Tensor qkv, Tensor rstd, Tensor position,
                            int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const Shape s = shape_check(qkv, n_heads, n_kv_heads);
    const int64_t heads = s.H + s.K, half = s.D / 2;
    CHECK_OPTIONAL(rstd, REAL_DTYPE, s.B * s.T, heads);
    CHECK_OPTIONAL(position, DTYPE_I32, s.B);
    const Scratch scratch = scratch_make(cx, &s, r, false);
    const int32_t *const first = position.data;
    real *const norms = rstd.data;

#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.n_chunks; k++) {
        real *const cosine = scratch.chunks + k * chunk_reals(&s, false);
        real *const sine = cosine + half;
        for (int64_t t = k * s.chunk; t < i64_min(s.T, (k + 1) * s.chunk); t++)
            for (int64_t b = 0; b < s.B; b++) {
                const int64_t row = b * s.T + t;
                if (first || b == 0)
                    fill_angles(cosine, sine, scratch.frequency, (first ? first[b] : 0) + t, half);
                for (int64_t h = 0; h < heads; h++) {
                    real *const x = (real *)qkv.data + row * s.R + h * s.D;
                    const real squares = turn(x, cosine, sine, half);
                    if (!norms) continue;
                    const real scale = 1 / real_sqrt(squares / (real)s.D + (real)r.eps);
                    for (int64_t d = 0; d < s.D; d++) x[d] *= scale;
                    norms[row * heads + h] = scale;
                }
            }
    }
}

/* Back through the norm, rstd * (dy - y * mean_D(dy * y)), then turned as above. */
static void norm_turn(real *restrict dy, const real *restrict y, real rstd,
                      const real *restrict cosine, const real *restrict sine, int64_t half) {
    real *restrict dy2 = dy + half;
    const real *restrict y2 = y + half;
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < half; i++) sum += dy[i] * y[i] + dy2[i] * y2[i];
    const real along = sum / (real)(2 * half);
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const real a = rstd * (dy[i] - y[i] * along), b = rstd * (dy2[i] - y2[i] * along);
        dy[i] = a * cosine[i] - b * sine[i];
        dy2[i] = b * cosine[i] + a * sine[i];
    }
}

/* dbias += the chunks' column sums, in their order. */
static void add_sums(real *dbias, const real *sums, const Shape *s) {
    const int64_t stride = chunk_reals(s, true);
#pragma omp parallel for simd schedule(static)
    for (int64_t c = 0; c < s->R; c++) {
        real sum = 0;
        for (int64_t k = 0; k < s->n_chunks; k++) sum += sums[k * stride + c];
        dbias[c] += sum;
    }
}

void OP(cpu_rotate_backward)(const OpContext *cx, Tensor dqkv, Tensor dbias, Tensor qkv,
                             Tensor rstd, int64_t n_heads, int64_t n_kv_heads, Rotation r) {
    const Shape s = shape_check(dqkv, n_heads, n_kv_heads);
    const int64_t heads = s.H + s.K, half = s.D / 2;
    CHECK_TENSOR(qkv, REAL_DTYPE, s.B, s.T, s.R);
    CHECK_OPTIONAL(rstd, REAL_DTYPE, s.B * s.T, heads);
    CHECK_OPTIONAL(dbias, REAL_DTYPE, s.R);
    const Scratch scratch = scratch_make(cx, &s, r, true);
    const real *const norms = rstd.data;

#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.n_chunks; k++) {
        real *const cosine = scratch.chunks + k * chunk_reals(&s, true);
        real *const sine = cosine + half, *const sums = sine + half;
        memset(sums, 0, (size_t)s.R * sizeof *sums);
        for (int64_t t = k * s.chunk; t < i64_min(s.T, (k + 1) * s.chunk); t++) {
            fill_angles(cosine, sine, scratch.frequency, t, half);
            for (int64_t b = 0; b < s.B; b++) {
                const int64_t row = b * s.T + t;
                real *const grad = (real *)dqkv.data + row * s.R;
                const real *const y = (const real *)qkv.data + row * s.R;
                for (int64_t h = 0; h < heads; h++) {
                    real *const g = grad + h * s.D;
                    const real *const out = y + h * s.D;
                    if (norms) norm_turn(g, out, norms[row * heads + h], cosine, sine, half);
                    else turn(g, cosine, sine, half);
                }
                if (!dbias.data) continue;
                for (int64_t c = 0; c < s.R; c++) sums[c] += grad[c];
            }
        }
    }
    if (dbias.data) add_sums(dbias.data, scratch.chunks + s.D, &s);
}
