/* The op table. For each op: the formula, the operands, who accumulates. Nothing else describes it.
 *
 * Letters: B batch, T time, C channels, H query heads, K key-value heads, D head size,
 *   V vocabulary, Vp vocabulary padded, N = B*T rows, O outputs of a linear layer,
 *   R = (H + 2K)*D packed q, k, v.
 * Dtypes: "act" is Backend.compute (activations, and the weights that products read); "f32" is
 *   Backend.master (f64 in the double build of the cpu ops, where act is f64 too).
 * Order: outputs before inputs. A Tensor whose data is NULL is absent; only operands marked
 *   "or none" may be.
 * Sums: a parameter's gradient is f32 and `+=`; an activation's gradient is `=`, except in
 *   residual_norm_backward, which adds into the gradient of the residual stream.
 * Checks: an op checks every operand's dtype and shape once, at its border, with CHECK.
 * Step values: learning rate, seed, clip factor and the like live in StepParams and StepResult, on
 *   the device, so a captured graph never has them baked in. */
#pragma once
#include "backend.h"

/* Written by the host before every micro-batch. */
typedef struct StepParams {
    uint64_t seed;
    int64_t row_base;    /* first row's number in the global batch: index of random numbers */
    uint32_t step;       /* attempted updates, from 1: Adam's t, and the step of random numbers */
    uint32_t training;   /* 0: dropout is off */
    double loss_scale;   /* 1 / valid targets of the global batch */
    double lr;           /* the schedule's learning rate */
    double max_grad_norm; /* 0: no clipping */
} StepParams;

/* Written by the device, read by the host one step late. Zeroed by the host before every step. */
typedef struct StepResult {
    double loss;        /* += mean loss over valid targets of the global batch (nats) */
    double grad_norm;   /* L2 norm of all gradients, before clipping */
    double clip_factor; /* gradients are multiplied by it: min(1, max_grad_norm / grad_norm) */
    int32_t bad;        /* 1: a gradient or the loss is not finite; the optimiser writes nothing */
    int32_t first_bad;  /* number of the first tensor with a non-finite gradient; -1: none */
} StepResult;

typedef struct OpContext {
    Backend *backend;
    Stream *stream;
    const StepParams *params; /* device memory */
    StepResult *result;       /* device memory */
    void *scratch;            /* device memory, at least Ops.scratch() bytes for the call */
    int64_t scratch_bytes;
} OpContext;

/* keep with probability 1 - rate, scaled by 1/(1 - rate):
 *   mask(i) = rng_uniform(seed, step, site, i) >= rate ? 1/(1 - rate) : 0
 * i is the element's index in the global batch. Off where rate is 0 or params->training is 0. */
typedef struct Dropout {
    float rate;
    uint32_t site;
} Dropout;
#define DROPOUT_OFF ((Dropout){0, 0})

typedef enum Activation { ACTIVATION_NONE, ACTIVATION_GELU, ACTIVATION_RELU2 } Activation;

typedef enum NormKind { NORM_LAYER, NORM_RMS } NormKind;

/* Rotary positions (Su and others 2021). The angle of pair i at position p is p * base^(-2i/D). */
typedef struct Rotation {
    bool rotates; /* false: QK-norm alone */
    bool reversed; /* NanoChat's sign; Llama's otherwise */
    double base;
    double eps; /* of the norm of each rotated head; used where rstd is there */
} Rotation;

/* Muon's constants. The learning rate is params->lr * lr_scale. */
typedef struct Muon {
    double momentum, weight_decay, lr_scale;
} Muon;

/* One matrix of a call of Muon: see muon below. */
typedef struct MuonMatrix {
    Tensor w, w_act, mom, grad;
} MuonMatrix;

/* Shape of a call, for scratch(). Fields that an op does not use are 0. */
typedef struct OpShape {
    int64_t B, T, C, H, K, D, V, Vp, O;
} OpShape;

typedef enum OpKind {
    OP_EMBED_FORWARD, OP_EMBED_BACKWARD,
    OP_RESIDUAL_NORM_FORWARD, OP_RESIDUAL_NORM_BACKWARD,
    OP_LINEAR_FORWARD, OP_LINEAR_BACKWARD_INPUT, OP_LINEAR_BACKWARD_WEIGHT,
    OP_ATTENTION_FORWARD, OP_ATTENTION_BACKWARD, OP_ATTENTION_DECODE,
    OP_ACTIVATION_FORWARD, OP_ACTIVATION_BACKWARD,
    OP_SWIGLU_FORWARD, OP_SWIGLU_BACKWARD,
    OP_RECURRENCE_FORWARD, OP_RECURRENCE_BACKWARD,
    OP_ROTATE_FORWARD, OP_ROTATE_BACKWARD,
    OP_DROPOUT_FORWARD, OP_DROPOUT_BACKWARD,
    OP_CLASSIFIER, OP_NEGATIVE_SAMPLING, OP_LOSS_SUM, OP_GRAD_NORM, OP_ADAMW, OP_MUON,
    OP_KINDS
} OpKind;

/* AdamW's constants of one parameter group. The learning rate is params->lr * lr_scale. */
typedef struct AdamW {
    double beta1, beta2, eps, weight_decay, lr_scale;
} AdamW;

typedef struct Ops {
    /* Bytes of scratch the call needs: pure, so a plan can be made for a device that is not
     * there. */
    int64_t (*scratch)(OpKind op, const OpShape *shape, const DeviceProperties *device);

    /* Embedding.   x[b,t] = wte[tokens[b,t]] + wpe[position[b] + t]
     *   x (B,T,C) act; wte (Vp,C) act; wpe (context,C) act or none
     *   tokens (B,T) i32; position (B) i32 or none: the first row's position, 0 if none */
    void (*embed_forward)(const OpContext *, Tensor x, Tensor wte, Tensor wpe, Tensor tokens,
                          Tensor position);
    /* dwte[v] += sum of dx over the rows that hold v; dwpe[t] += sum_B dx[b,t]
     *   dwte (Vp,C) f32; dwpe (context,C) f32 or none; dx (B,T,C) act; tokens (B,T) i32
     *   order (N) i32: row numbers sorted by token, stable; starts (N+1) i32: rows with one token
     *   are order[starts[s]] .. order[starts[s+1]-1]; unused starts are N
     *   So the sum's order is fixed. */
    void (*embed_backward)(const OpContext *, Tensor dwte, Tensor dwpe, Tensor dx, Tensor tokens,
                           Tensor order, Tensor starts);

    /* Residual add + norm.   res = res_in + mask*x;   y = norm(res)
     *   LayerNorm: y = (res - mean) * rstd * w + b,   rstd = 1/sqrt(var_C(res) + eps), var biased
     *   RMSNorm:   y = res * rstd * w,                rstd = 1/sqrt(mean_C(res^2) + eps)
     *   res, y, res_in, x (N,C) act; mean, rstd (N) f32, saved for backward (mean: LayerNorm only)
     *   w, b (C) act or none. Without x (none), the norm alone: res is none and res_in is read.
     *   res may be res_in. The mask's index is (row_base + row)*C + c. */
    void (*residual_norm_forward)(const OpContext *, Tensor res, Tensor y, Tensor mean, Tensor rstd,
                                  Tensor res_in, Tensor x, Tensor w, Tensor b, NormKind kind,
                                  double eps, Dropout drop);
    /* With xhat = (res - mean)*rstd and g = dy*w:
     *   LayerNorm: dres += rstd * (g - mean_C(g) - xhat * mean_C(g*xhat))
     *   RMSNorm:   dres += rstd * (g - xhat * mean_C(g*xhat))
     *   dw += sum_N dy*xhat;  db += sum_N dy;  dx = mask * dres (the updated one)
     *   dbias_prev += sum_N dx: the bias of the linear layer that made x
     *   dres, dy, res (N,C) act; mean, rstd (N) f32; w (C) act or none; dw, db, dbias_prev (C) f32
     *   or none; dx (N,C) act or none (x's gradient is dres itself; then drop must be off). */
    void (*residual_norm_backward)(const OpContext *, Tensor dres, Tensor dx, Tensor dw, Tensor db,
                                   Tensor dbias_prev, Tensor dy, Tensor res, Tensor mean,
                                   Tensor rstd, Tensor w, NormKind kind, Dropout drop);

    /* Linear.   u = x w^T + bias;   y = activation(u);   aux = u
     *   y (N,O) act; aux (N,O) act or none; x (N,C) act; w (O,C) act; bias (O) act or none */
    void (*linear_forward)(const OpContext *, Tensor y, Tensor aux, Tensor x, Tensor w, Tensor bias,
                           Activation);
    /* dx = (dy w) * activation'(aux);   dbias_prev += sum_N dx
     *   The activation is the one that made x, aux its input: so the product's epilogue finishes
     *   the gradient of the linear layer before. dx (N,C) act; dbias_prev (C) f32 or none;
     *   dy (N,O) act; w (O,C) act; aux (N,C) act, none with ACTIVATION_NONE */
    void (*linear_backward_input)(const OpContext *, Tensor dx, Tensor dbias_prev, Tensor dy,
                                  Tensor w, Tensor aux, Activation);
    /* dw += dy^T x;   dbias += sum_N dy
     *   dw (O,C) f32; dbias (O) f32 or none; dy (N,O), x (N,C) act */
    void (*linear_backward_weight)(const OpContext *, Tensor dw, Tensor dbias, Tensor dy, Tensor x);

    /* Causal self-attention, head h reading key-value head h/(H/K); never stores T x T.
     *   s_ij = q_i . k_j / sqrt(D) for j <= i;  p = softmax(s);  y_i = sum_j mask_ij p_ij v_j
     *   lse_i = log sum_j exp(s_ij), saved for backward
     *   y (B,T,H*D) act; lse (B,H,T) f32; qkv (B,T,R) act: heads of q, then of k, then of v
     *   The mask's index is ((batch*H + h)*T + i)*T + j with batch = row_base/T + b. */
    void (*attention_forward)(const OpContext *, Tensor y, Tensor lse, Tensor qkv, int64_t n_heads,
                              int64_t n_kv_heads, Dropout drop);
    /* dv_j = sum_i mask_ij p_ij dy_i;  dp_ij = mask_ij dy_i.v_j;  ds = p*(dp - dy_i.y_i);
     *   dq_i = sum_j ds_ij k_j / sqrt(D);  dk_j = sum_i ds_ij q_i / sqrt(D);  dbias += sum_N dqkv
     *   dqkv, qkv (B,T,R), dy, y (B,T,H*D) act; lse (B,H,T) f32; dbias (R) f32 or none. */
    void (*attention_backward)(const OpContext *, Tensor dqkv, Tensor dbias, Tensor dy, Tensor y,
                               Tensor qkv, Tensor lse, int64_t n_heads, int64_t n_kv_heads,
                               Dropout drop);
    /* Decode: T new rows a sequence enter the cache at position[b] and attend to all up to
     * themselves.
     *   y (B,T,H*D) act; k_cache, v_cache (B,K,context,D) act, `=` at the new positions; qkv
     *   (B,T,R) act; position (B) i32: rows of sequence b already in the cache;
     *   position[b]+T <= context */
    void (*attention_decode)(const OpContext *, Tensor y, Tensor k_cache, Tensor v_cache,
                             Tensor qkv, Tensor position, int64_t n_heads, int64_t n_kv_heads);

    /* Rotation and QK-norm, in place on the q and k heads of packed qkv; v stays.
     *   x' = x cos + r(x) sin,  r(x) = (-x2, x1) of the halves x = (x1, x2); reversed: (x2, -x1)
     *   y = x' * rstd,  rstd = 1/sqrt(mean_D(x'^2) + eps), where rstd is there; else y = x'
     *   qkv (B,T,R) act, D even; rstd (B*T, H+K) f32 or none, saved for backward
     *   position (B) i32 or none: the first row's position, 0 if none */
    void (*rotate_forward)(const OpContext *, Tensor qkv, Tensor rstd, Tensor position,
                           int64_t n_heads, int64_t n_kv_heads, Rotation);
    /* In place on dqkv, with y of the forward pass:
     *   g = rstd*(dy - y*mean_D(dy*y)), or dy without rstd;  dx = g cos - r(g) sin;
     *   dbias += sum_N of the result (q, k and v)
     *   dqkv, qkv (B,T,R) act: qkv is what rotate_forward made; rstd as there;
     *   dbias (R) f32 or none
     *   Positions are those of training: row t of each sequence is at t. */
    void (*rotate_backward)(const OpContext *, Tensor dqkv, Tensor dbias, Tensor qkv, Tensor rstd,
                            int64_t n_heads, int64_t n_kv_heads, Rotation);

    /* SwiGLU (Shazeer 2020):  y = silu(gate) * up,  silu(g) = g / (1 + e^-g)
     *   y (N,F) act; u (N,2F) act: F columns of gate, then F of up */
    void (*swiglu_forward)(const OpContext *, Tensor y, Tensor u);
    /* dgate = dy * up * silu'(gate);  dup = dy * silu(gate).   du, u (N,2F); dy (N,F) act */
    void (*swiglu_backward)(const OpContext *, Tensor du, Tensor dy, Tensor u);

    /* Recurrence (Elman 1990).   h_t = tanh(u_t + h_{t-1} w^T),   h_{-1} = h0
     *   h, u (T,B,C) act, h may be u; h0 (B,C), w (C,C) act */
    void (*recurrence_forward)(const OpContext *, Tensor h, Tensor u, Tensor h0, Tensor w);
    /* du_t = (dh_t + du_{t+1} w) * (1 - h_t^2),   du_T = 0
     *   du, dh, h (T,B,C) act, du may be dh. The gradient of w is linear_backward_weight's, of du
     *   and of h one step earlier; none goes to h0. */
    void (*recurrence_backward)(const OpContext *, Tensor du, Tensor dh, Tensor h, Tensor w);

    /* y = activation(x), any shape, act. ReLU^2 is max(u, 0)^2. GELU, in the tanh form of Hendrycks
     * and Gimpel 2016:
     *   gelu(u) = u/2 * (1 + tanh(sqrt(2/pi) * (u + 0.044715 u^3))) */
    void (*activation_forward)(const OpContext *, Tensor y, Tensor x, Activation);
    /* dx = dy * activation'(x); dx may be dy */
    void (*activation_backward)(const OpContext *, Tensor dx, Tensor dy, Tensor x, Activation);

    /* y = mask * x; y may be x. (N,C) act. The mask's index is (row_base + row)*C + c. */
    void (*dropout_forward)(const OpContext *, Tensor y, Tensor x, Dropout drop);
    /* dx = mask * dy; dx may be dy */
    void (*dropout_backward)(const OpContext *, Tensor dx, Tensor dy, Dropout drop);

    /* Softmax + cross-entropy over the first V of Vp columns of z = logits, or with a soft-cap
     * c > 0 (Gemma's form) z = c tanh(logits / c), whose gradient has the factor 1 - (z/c)^2.
     *   losses_n = lse_n - z[n, targets_n],  0 where targets_n < 0 (ignored)
     *   dz = (softmax(z) - onehot(target)) * loss_scale,  0 in ignored rows, columns >= V
     *   losses (N) f32; dlogits (N,Vp) act or none, may be logits; logits (N,Vp) act;
     *   targets (N) i32 */
    void (*classifier)(const OpContext *, Tensor losses, Tensor dlogits, Tensor logits,
                       Tensor targets, int64_t n_vocab, double softcap);
    /* Negative sampling (Mikolov and others 2013). Of the T >= 2 rows of a group b the first is a
     * word, the second one of its neighbours, the others are not:
     *   s_t = x_0 . x_t;   losses_b = log(1 + e^-s_1) + sum_{t>1} log(1 + e^s_t)
     *   dx_t = g_t x_0 for t > 0;   dx_0 = sum_{t>0} g_t x_t,
     *   g_t = (1/(1 + e^-s_t) - [t = 1]) * loss_scale
     *   losses (B) f32; dx (B,T,C) act or none, may be x; x (B,T,C) act */
    void (*negative_sampling)(const OpContext *, Tensor losses, Tensor dx, Tensor x);
    /* result->loss += loss_scale * sum_N losses, in a fixed order.   losses (N) f32 */
    void (*loss_sum)(const OpContext *, Tensor losses);

    /* result->grad_norm, clip_factor, bad, first_bad from all gradients, in a fixed order.
     *   grads: n tensors, f32, any shape, host array of device tensors; flags (n) i32: 1 where a
     *   tensor holds a value that is not finite */
    void (*grad_norm)(const OpContext *, Tensor flags, const Tensor *grads, int64_t n);

    /* With ranks, after grad_norm of what each rank has: *result of all of them, in rank order.
     *   loss = sum loss_r;   grad_norm = sqrt(sum grad_norm_r^2);   clip_factor, bad as above
     *   first_bad = r * stride + first_bad_r of the first rank that has one
     *   results (n * sizeof(StepResult)) u8: each rank's */
    void (*join_results)(const OpContext *, Tensor results, int64_t stride);

    /* AdamW (Loshchilov and Hutter 2019), one pass:  g = grad * clip_factor
     *   m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2
     *   w = w - lr (mhat / (sqrt(vhat) + eps) + weight_decay w),  mhat = m/(1-beta1^t), vhat too
     *   Writes nothing if result->bad. w, m, v, grad f32, one shape; w_act act or none: a copy
     *   of w. */
    void (*adamw)(const OpContext *, Tensor w, Tensor w_act, Tensor m, Tensor v, Tensor grad,
                  AdamW constants);

    /* Muon (Jordan and others 2024) on each of n matrices of R rows, C columns, which do not
     * overlap; many at once are faster than each by itself:  g = grad * clip_factor
     *   mom = momentum*mom + (1-momentum)*g;   u = (1-momentum)*g + momentum*mom   (Nesterov)
     *   O = five Newton-Schulz steps from u/(||u|| + 1e-30), on the side with fewer rows:
     *       X = a X + (b A + c A A) X,   A = X X^T,   (a, b, c) = (3.4445, -4.7750, 2.0315)
     *   w = w - lr (sqrt(max(1, R/C)) O + weight_decay w)
     *   Writes nothing if result->bad. w, mom, grad (R,C) f32; w_act (R,C) act or none: a copy
     *   of w.
     *   matrices: host array of device tensors. Shape for scratch: B = n, O = R, C. */
    void (*muon)(const OpContext *, const MuonMatrix *matrices, int64_t n, Muon constants);
} Ops;
