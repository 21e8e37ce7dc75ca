/* What every cpu kernel shares: the type `real`, its exponential, operand checks, prototypes.
 *
 * Each kernel file is built up to four times: `real` is float; on x86-64 float again for processors
 * with 512-bit vectors (-DPUCK_WIDE), and for those with matrix tiles too (-DPUCK_TILES), which
 * backend.c chooses where it runs; and double for gradient checks (-DPUCK_REAL_F64). OP() gives the
 * builds different function names, so that one library holds all.
 *
 * Parallel loops run under OpenMP with the thread count that the back end has set. Work is cut by
 * shape alone, and every sum has one owner and one order, so the bits do not depend on it. */
#pragma once
#include "ops.h"
#include <math.h>
#include <string.h>

#ifdef PUCK_REAL_F64
typedef double real;
#define REAL_DTYPE DTYPE_F64
#define OP(name) name##_f64
#else
typedef float real;
#define REAL_DTYPE DTYPE_F32
#if defined PUCK_TILES
#define OP(name) name##_tiles
#elif defined PUCK_WIDE
#define OP(name) name##_wide
#else
#define OP(name) name##_f32
#endif
#endif

/* The border check: CHECK_TENSOR(x, REAL_DTYPE, N, C). -1 accepts any length. */
#define CHECK_TENSOR(t, type, ...)                                                                 \
    CHECK(TENSOR_IS(t, type, __VA_ARGS__),                                                         \
          "%s wants %s (%s), got %s rank %d (%ld, %ld, %ld, %ld)", #t, dtype_name(type),           \
          #__VA_ARGS__, (t).data ? dtype_name((t).dtype) : "none", (t).rank, (long)(t).dim[0],     \
          (long)(t).dim[1], (long)(t).dim[2], (long)(t).dim[3])
/* The same for an operand marked "or none". */
#define CHECK_OPTIONAL(t, type, ...)                                                               \
    do {                                                                                           \
        if (tensor_present(t)) CHECK_TENSOR(t, type, __VA_ARGS__);                                 \
    } while (0)

static inline real real_max(real a, real b) { return a > b ? a : b; }

#ifdef PUCK_REAL_F64
static inline real real_sqrt(real x) { return sqrt(x); }
static inline real real_log(real x) { return log(x); }
static inline real real_fma(real a, real b, real c) { return fma(a, b, c); }
static inline real real_exp(real x) { return exp(x); }
#else
static inline real real_sqrt(real x) { return sqrtf(x); }
static inline real real_log(real x) { return logf(x); }
static inline real real_fma(real a, real b, real c) { return fmaf(a, b, c); }

/* e^x and e^x - 1 without branches, so that gcc vectorises loops that call them.
 *
 * x = n ln 2 + r with |r| <= ln 2 / 2;  e^r = 1 + p, p = r + r^2 q(r), q fitted here for the least
 * relative error (3e-9). Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. 2^n
 * is applied as 2 * 2^(n-1), because n reaches 128. */
typedef struct RealExp {
    real p, half; /* e^x = 2 half (1 + p) */
} RealExp;

static inline RealExp real_exp_parts(real x) {
    const float rounder = 0x1.8p23f;
    const float shifted = fmaf(x, 0x1.715476p0f, rounder);
    const float n = shifted - rounder;
    float r = fmaf(n, -0x1.62e400p-1f, x); /* ln 2 in two parts: n * the first is exact */
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    float q = 0x1.6a23d0p-10f;
    q = fmaf(q, r, 0x1.123a20p-7f);
    q = fmaf(q, r, 0x1.5558f2p-5f);
    q = fmaf(q, r, 0x1.555492p-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 126u) << 23; /* the low bits of `rounder` are 0: they hold n */
    float half;
    memcpy(&half, &bits, sizeof half);
    return (RealExp){fmaf(r * r, q, r), half};
}

/* Error below 2 ulp, NaN stays NaN. Below REAL_EXP_LOWEST, whose result is the last that is safely
 * a normal number, it is 0. */
#define REAL_EXP_LOWEST (-86.98f)
static inline real real_exp(real x) {
    const RealExp e = real_exp_parts(x > 89.0f ? 89.0f : x);
    const float p = e.p + 1.0f;
    return x < REAL_EXP_LOWEST ? 0.0f : (p + p) * e.half;
}

#endif

/* e^x and e^x - 1 at once, for x <= 0. Near 0 the latter keeps digits that a difference loses. */
typedef struct RealExpPair {
    real e, less;
} RealExpPair;

static inline RealExpPair real_exp_pair(real x) {
#ifdef PUCK_REAL_F64
    return (RealExpPair){exp(x), expm1(x)};
#else
    const RealExp e = real_exp_parts(x < REAL_EXP_LOWEST ? REAL_EXP_LOWEST : x);
    const float scale = e.half + e.half;
    return (RealExpPair){x < REAL_EXP_LOWEST ? 0.0f : fmaf(scale, e.p, scale),
                         fmaf(scale, e.p, scale - 1.0f)};
#endif
}

/* Ops' slots, same order, same signatures: backend.c fills the table with them. */
void OP(cpu_embed_forward)(const OpContext *, Tensor x, Tensor wte, Tensor wpe, Tensor tokens,
                           Tensor position);
void OP(cpu_embed_backward)(const OpContext *, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens,
                            Tensor order, Tensor starts);
void OP(cpu_residual_norm_forward)(const OpContext *, Tensor res, Tensor y, Tensor mean,
                                   Tensor rstd, Tensor res_in, Tensor x, Tensor w, Tensor b,
                                   NormKind kind, double eps, Dropout drop);
void OP(cpu_residual_norm_backward)(const OpContext *, Tensor dres, Tensor dx, Tensor dw, Tensor db,
                                    Tensor dbias_prev, Tensor dy, Tensor res, Tensor mean,
                                    Tensor rstd, Tensor w, NormKind kind, Dropout drop);
void OP(cpu_linear_forward)(const OpContext *, Tensor y, Tensor aux, Tensor x, Tensor w,
                            Tensor bias, Activation);
void OP(cpu_linear_backward_input)(const OpContext *, Tensor dx, Tensor dbias_prev, Tensor dy,
                                   Tensor w, Tensor aux, Activation);
void OP(cpu_linear_backward_weight)(const OpContext *, Tensor dw, Tensor dbias, Tensor dy,
                                    Tensor x);
void OP(cpu_attention_forward)(const OpContext *, Tensor y, Tensor lse, Tensor qkv, int64_t n_heads,
                               int64_t n_kv_heads, Dropout drop);
void OP(cpu_attention_backward)(const OpContext *, Tensor dqkv, Tensor dbias, Tensor dy, Tensor y,
                                Tensor qkv, Tensor lse, int64_t n_heads, int64_t n_kv_heads,
                                Dropout drop);
void OP(cpu_attention_decode)(const OpContext *, Tensor y, Tensor k_cache, Tensor v_cache,
                              Tensor qkv, Tensor position, int64_t n_heads, int64_t n_kv_heads);
void OP(cpu_activation_forward)(const OpContext *, Tensor y, Tensor x, Activation);
void OP(cpu_activation_backward)(const OpContext *, Tensor dx, Tensor dy, Tensor x, Activation);
void OP(cpu_dropout_forward)(const OpContext *, Tensor y, Tensor x, Dropout drop);
void OP(cpu_dropout_backward)(const OpContext *, Tensor dx, Tensor dy, Dropout drop);
void OP(cpu_classifier)(const OpContext *, Tensor losses, Tensor dlogits, Tensor logits,
                        Tensor targets, int64_t n_vocab, double softcap);
void OP(cpu_loss_sum)(const OpContext *, Tensor losses);
void OP(cpu_grad_norm)(const OpContext *, Tensor flags, const Tensor *grads, int64_t n);
void OP(cpu_join_results)(const OpContext *, Tensor results, int64_t stride);
void OP(cpu_rotate_forward)(const OpContext *, Tensor qkv, Tensor rstd, Tensor position,
                            int64_t n_heads, int64_t n_kv_heads, Rotation);
void OP(cpu_rotate_backward)(const OpContext *, Tensor dqkv, Tensor dbias, Tensor qkv, Tensor rstd,
                             int64_t n_heads, int64_t n_kv_heads, Rotation);
void OP(cpu_swiglu_forward)(const OpContext *, Tensor y, Tensor u);
void OP(cpu_swiglu_backward)(const OpContext *, Tensor du, Tensor dy, Tensor u);
void OP(cpu_recurrence_forward)(const OpContext *, Tensor h, Tensor u, Tensor h0, Tensor w);
void OP(cpu_recurrence_backward)(const OpContext *, Tensor du, Tensor dh, Tensor h, Tensor w);
void OP(cpu_negative_sampling)(const OpContext *, Tensor losses, Tensor dx, Tensor x);
void OP(cpu_muon)(const OpContext *, const MuonMatrix *matrices, int64_t n, Muon constants);
void OP(cpu_adamw)(const OpContext *, Tensor w, Tensor w_act, Tensor m, Tensor v, Tensor grad,
                   AdamW constants);

/* Scratch bytes of the families that need some: Ops.scratch asks the one that owns the op. */
int64_t OP(cpu_linear_scratch)(OpKind, const OpShape *, const DeviceProperties *);
int64_t OP(cpu_attention_scratch)(OpKind, const OpShape *, const DeviceProperties *);
int64_t OP(cpu_muon_scratch)(const OpShape *, const DeviceProperties *);
int64_t OP(cpu_recurrence_scratch)(const OpShape *);
int64_t OP(cpu_norm_scratch)(const OpShape *); /* residual_norm_backward */
int64_t OP(cpu_rope_scratch)(OpKind, const OpShape *);

/* One operand of a product in memory: element (i, k) is data[i * row + k * col]. One of the strides
 * is 1. */
typedef struct Matrix {
    const real *data;
    int64_t row, col;
} Matrix;

/* c (rows,cols) = a b, or c += a b: a (rows,inner), b (inner,cols), rows of c ldc apart; at most
 * PRODUCT_ROWS rows. On the calling thread alone, with some 300 KB of its stack. A caller that
 * multiplies b more than once may pack it beforehand, with the same bits: then b is not read. NULL:
 * it is packed as it is read. */
enum { PRODUCT_ROWS = 256 };
void OP(cpu_product)(real *c, int64_t ldc, Matrix a, Matrix b, const void *packed, int64_t rows,
                     int64_t cols, int64_t inner, bool add);
/* Where `col` is a multiple of PACKED_COLS, the columns from there on begin
 * cpu_packed_bytes(col, inner) behind the first. */
enum { PACKED_COLS = 32 };
int64_t OP(cpu_packed_bytes)(int64_t cols, int64_t inner);
void OP(cpu_pack)(void *packed, Matrix b, int64_t cols, int64_t inner);
/* y (rows) = a x, or y += a x: a (rows,inner) without gaps. Reads a once; one thread. */
void OP(cpu_product_vector)(real *y, const real *a, const real *x, int64_t rows, int64_t inner,
                            bool add);

/* Products of plain arrays, for muon. All threads of a team call them and leave them together; or
 * the calling thread alone does everything. Both give the same bits. */
/* out (n,n) = alpha x x^T + diagonal I, x (n,k) rows x cols;  transposed: alpha x^T x, x (k,n) */
typedef struct Gram {
    const real *x;
    int64_t rows, cols;
    bool transposed;
    real alpha, diagonal;
} Gram;
/* `packed`: alone, with space for cpu_packed_bytes(n, k); else NULL. */
void OP(cpu_linear_gram)(real *out, const Gram *gram, void *packed);
/* out (rows,cols) = a b, a (rows,inner), b (inner,cols) */
void OP(cpu_linear_product)(real *out, const real *a, const real *b, int64_t rows, int64_t inner,
                            int64_t cols, bool alone);
