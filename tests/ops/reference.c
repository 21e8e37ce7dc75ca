/* Every op by the formula in ops.h, in double, one plain loop after the other. Slow and short:
 * nothing here is shared with the kernels that it checks. */
#include "driver.h"
#include "rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define V(name) call_value(call, name)

double call_mask(const Call *call, int64_t index) {
    if (call->drop.rate <= 0 || !call->params.training) return 1;
    const double rate = (double)call->drop.rate;
    const double u = (double)rng_uniform(call->params.seed, call->params.step, call->drop.site,
                                         (uint64_t)index);
    return u >= rate ? 1 / (1 - rate) : 0;
}

static double gelu(double u) {
    return u / 2 * (1 + tanh(sqrt(2 / M_PI) * (u + 0.044715 * u * u * u)));
}

static double gelu_slope(double u) {
    const double c = sqrt(2 / M_PI), t = tanh(c * (u + 0.044715 * u * u * u));
    return (1 + t) / 2 + u / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * u * u);
}

static double activate(const Call *call, double u) {
    if (call->c.activation == ACTIVATION_RELU2) return u > 0 ? u * u : 0;
    return call->c.activation == ACTIVATION_GELU ? gelu(u) : u;
}

static double activation_slope(const Call *call, double u) {
    if (call->c.activation == ACTIVATION_RELU2) return u > 0 ? 2 * u : 0;
    return call->c.activation == ACTIVATION_GELU ? gelu_slope(u) : 1;
}

/* ---- embedding ---- */

static void embed_forward(Call *call, OpShape s) {
    double *x = V("x"), *wte = V("wte"), *wpe = V("wpe"), *tokens = V("tokens");
    const double *position = V("position");
    for (int64_t n = 0; n < s.B * s.T; n++)
        for (int64_t c = 0; c < s.C; c++) {
            const int64_t t = n % s.T + (position ? (int64_t)position[n / s.T] : 0);
            x[n * s.C + c] = wte[(int64_t)tokens[n] * s.C + c] + (wpe ? wpe[t * s.C + c] : 0);
        }
}

static void embed_backward(Call *call, OpShape s) {
    double *dwte = V("dwte"), *dwpe = V("dwpe"), *dx = V("dx"), *tokens = V("tokens");
    for (int64_t n = 0; n < s.B * s.T; n++)
        for (int64_t c = 0; c < s.C; c++) {
            dwte[(int64_t)tokens[n] * s.C + c] += dx[n * s.C + c];
            if (dwpe) dwpe[n % s.T * s.C + c] += dx[n * s.C + c];
        }
}

/* ---- norm ---- */

static void norm_forward(Call *call, int64_t N, int64_t C) {
    double *res = V("res"), *y = V("y"), *mean = V("mean"), *rstd = V("rstd");
    const double *res_in = V("res_in"), *x = V("x"), *w = V("w"), *b = V("b");
    double *row = malloc((size_t)C * sizeof *row);
    CHECK(row, "no memory");
    for (int64_t n = 0; n < N; n++) {
        double mu = 0, variance = 0;
        for (int64_t c = 0; c < C; c++) {
            const int64_t i = n * C + c;
            row[c] = res_in[i] + (x ? call_mask(call, call->params.row_base * C + i) * x[i] : 0);
            if (res) res[i] = row[c];
        }
        if (call->c.kind == NORM_LAYER)
            for (int64_t c = 0; c < C; c++) mu += row[c];
        mu /= (double)C;
        for (int64_t c = 0; c < C; c++) variance += (row[c] - mu) * (row[c] - mu);
        rstd[n] = 1 / sqrt(variance / (double)C + call->eps);
        if (mean) mean[n] = mu;
        for (int64_t c = 0; c < C; c++)
            y[n * C + c] = (row[c] - mu) * rstd[n] * (w ? w[c] : 1) + (b ? b[c] : 0);
    }
    free(row);
}

static void norm_backward(Call *call, int64_t N, int64_t C) {
    double *dres = V("dres"), *dx = V("dx"), *dw = V("dw"), *db = V("db");
    double *dbias_prev = V("dbias_prev");
    const double *dy = V("dy"), *res = V("res"), *mean = V("mean"), *rstd = V("rstd"), *w = V("w");
    for (int64_t n = 0; n < N; n++) {
        double sum_g = 0, sum_gx = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t c = 0; c < C; c++) {
                const int64_t i = n * C + c;
                const double xhat = (res[i] - (mean ? mean[n] : 0)) * rstd[n];
                const double g = dy[i] * (w ? w[c] : 1);
                if (pass == 0) {
                    sum_g += g;
                    sum_gx += g * xhat;
                    continue;
                }
                const double mean_g = call->c.kind == NORM_LAYER ? sum_g / (double)C : 0;
                dres[i] += rstd[n] * (g - mean_g - xhat * (sum_gx / (double)C));
                const double branch = call_mask(call, call->params.row_base * C + i) * dres[i];
                if (dx) dx[i] = branch;
                if (dw) dw[c] += dy[i] * xhat;
                if (db) db[c] += dy[i];
                if (dbias_prev) dbias_prev[c] += branch;
            }
    }
}

/* ---- linear ---- */

static void linear_forward(Call *call, int64_t N, int64_t C, int64_t O) {
    double *y = V("y"), *aux = V("aux");
    const double *x = V("x"), *w = V("w"), *bias = V("bias");
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++) {
            double u = bias ? bias[o] : 0;
            for (int64_t c = 0; c < C; c++) u += x[n * C + c] * w[o * C + c];
            y[n * O + o] = activate(call, u);
            if (aux) aux[n * O + o] = u;
        }
}

static void linear_backward_input(Call *call, int64_t N, int64_t C, int64_t O) {
    double *dx = V("dx"), *dbias_prev = V("dbias_prev");
    const double *dy = V("dy"), *w = V("w"), *aux = V("aux");
    for (int64_t n = 0; n < N; n++) {
        double *row = dx + n * C;
        memset(row, 0, (size_t)C * sizeof *row);
        for (int64_t o = 0; o < O; o++)
            for (int64_t c = 0; c < C; c++) row[c] += dy[n * O + o] * w[o * C + c];
        for (int64_t c = 0; c < C; c++) {
            if (aux) row[c] *= activation_slope(call, aux[n * C + c]);
            if (dbias_prev) dbias_prev[c] += row[c];
        }
    }
}

static void linear_backward_weight(Call *call, int64_t N, int64_t C, int64_t O) {
    double *dw = V("dw"), *dbias = V("dbias");
    const double *dy = V("dy"), *x = V("x");
    for (int64_t n = 0; n < N; n++)
        for (int64_t o = 0; o < O; o++) {
            for (int64_t c = 0; c < C; c++) dw[o * C + c] += dy[n * O + o] * x[n * C + c];
            if (dbias) dbias[o] += dy[n * O + o];
        }
}

/* ---- attention ---- */

/* Offsets into qkv of one (batch, head): the row of position 0; later rows are R further each. */
typedef struct Head {
    int64_t q, k, v, R;
} Head;

static Head head_at(OpShape s, int64_t b, int64_t h) {
    const int64_t R = (s.H + 2 * s.K) * s.D, row = b * s.T * R, shared = h / (s.H / s.K);
    return (Head){row + h * s.D, row + (s.H + shared) * s.D, row + (s.H + s.K + shared) * s.D, R};
}

static double dot(const double *a, const double *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static double score(const double *qkv, Head at, int64_t i, int64_t j, int64_t D) {
    return dot(qkv + at.q + i * at.R, qkv + at.k + j * at.R, D) / sqrt((double)D);
}

static double mask_ij(const Call *call, int64_t b, int64_t h, int64_t i, int64_t j) {
    const OpShape s = call->c.shape;
    const int64_t batch = call->params.row_base / s.T + b;
    return call_mask(call, ((batch * s.H + h) * s.T + i) * s.T + j);
}

static void attention_forward(Call *call, OpShape s) {
    double *y = V("y"), *lse = V("lse"), *qkv = V("qkv");
    for (int64_t b = 0; b < s.B; b++)
        for (int64_t h = 0; h < s.H; h++)
            for (int64_t i = 0; i < s.T; i++) {
                const Head at = head_at(s, b, h);
                double most = -INFINITY, sum = 0, *out = y + ((b * s.T + i) * s.H + h) * s.D;
                for (int64_t j = 0; j <= i; j++) most = fmax(most, score(qkv, at, i, j, s.D));
                for (int64_t j = 0; j <= i; j++) sum += exp(score(qkv, at, i, j, s.D) - most);
                memset(out, 0, (size_t)s.D * sizeof *out);
                for (int64_t j = 0; j <= i; j++) {
                    const double p = exp(score(qkv, at, i, j, s.D) - most) / sum;
                    const double keep = mask_ij(call, b, h, i, j) * p;
                    for (int64_t d = 0; d < s.D; d++) out[d] += keep * qkv[at.v + j * at.R + d];
                }
                lse[(b * s.H + h) * s.T + i] = most + log(sum);
            }
}

static void attention_backward(Call *call, OpShape s) {
    double *dqkv = V("dqkv"), *dbias = V("dbias");
    const double *dy = V("dy"), *y = V("y"), *qkv = V("qkv"), *lse = V("lse");
    const int64_t R = (s.H + 2 * s.K) * s.D;
    memset(dqkv, 0, (size_t)(s.B * s.T * R) * sizeof *dqkv);
    for (int64_t b = 0; b < s.B; b++)
        for (int64_t h = 0; h < s.H; h++)
            for (int64_t i = 0; i < s.T; i++) {
                const Head at = head_at(s, b, h);
                const int64_t out = ((b * s.T + i) * s.H + h) * s.D;
                const double y_dy = dot(dy + out, y + out, s.D);
                for (int64_t j = 0; j <= i; j++) {
                    const int64_t q = at.q + i * R, k = at.k + j * R, v = at.v + j * R;
                    const double keep = mask_ij(call, b, h, i, j);
                    const double p =
                        exp(score(qkv, at, i, j, s.D) - lse[(b * s.H + h) * s.T + i]);
                    const double dp = keep * dot(dy + out, qkv + v, s.D);
                    const double ds = p * (dp - y_dy) / sqrt((double)s.D);
                    for (int64_t d = 0; d < s.D; d++) {
                        dqkv[v + d] += keep * p * dy[out + d];
                        dqkv[q + d] += ds * qkv[k + d];
                        dqkv[k + d] += ds * qkv[q + d];
                    }
                }
            }
    for (int64_t n = 0; n < s.B * s.T; n++)
        for (int64_t r = 0; dbias && r < R; r++) dbias[r] += dqkv[n * R + r];
}

/* The caches are first extended by the new rows; then every new row attends to what is there. */
static void attention_decode(Call *call, OpShape s) {
    double *y = V("y"), *k_cache = V("k_cache"), *v_cache = V("v_cache");
    const double *qkv = V("qkv"), *position = V("position");
    const int64_t context = i64_max(s.T, call->c.context), D = s.D;
    for (int64_t b = 0; b < s.B; b++) {
        const int64_t before = (int64_t)position[b];
        for (int64_t h = 0; h < s.H; h++) {
            const Head at = head_at(s, b, h);
            const int64_t cache = (b * s.K + h / (s.H / s.K)) * context * D;
            for (int64_t t = 0; t < s.T; t++)
                for (int64_t d = 0; d < D; d++) {
                    k_cache[cache + (before + t) * D + d] = qkv[at.k + t * at.R + d];
                    v_cache[cache + (before + t) * D + d] = qkv[at.v + t * at.R + d];
                }
            for (int64_t t = 0; t < s.T; t++) {
                double most = -INFINITY, sum = 0, *out = y + ((b * s.T + t) * s.H + h) * D;
                memset(out, 0, (size_t)D * sizeof *out);
                for (int pass = 0; pass < 3; pass++)
                    for (int64_t j = 0; j <= before + t; j++) {
                        const double *q = qkv + at.q + t * at.R;
                        const double u = dot(q, k_cache + cache + j * D, D) / sqrt((double)D);
                        if (pass == 0) most = fmax(most, u);
                        if (pass == 1) sum += exp(u - most);
                        for (int64_t d = 0; pass == 2 && d < D; d++)
                            out[d] += exp(u - most) / sum * v_cache[cache + j * D + d];
                    }
            }
        }
    }
}

/* ---- rotation, SwiGLU ---- */

/* to = x cos + r(x) sin at `position`, of one head; back: with - instead of +. */
static void rotated(const Call *call, double *to, const double *x, int64_t position, bool back) {
    const int64_t D = call->c.shape.D;
    for (int64_t d = 0; d < D; d++) {
        const bool second = d >= D / 2;
        const int64_t pair = second ? d - D / 2 : d, other = second ? pair : d + D / 2;
        const double base = call->rotation.base;
        const double angle = (double)position * pow(base, -2 * (double)pair / (double)D);
        const double r = second == call->rotation.reversed ? -x[other] : x[other];
        const double sine = back ? -sin(angle) : sin(angle);
        to[d] = call->rotation.rotates ? x[d] * cos(angle) + r * sine : x[d];
    }
}

static void rotate_forward(Call *call, OpShape s) {
    double *rstd = V("rstd"), *position = V("position");
    const int64_t R = (s.H + 2 * s.K) * s.D;
    double *turned = malloc((size_t)s.D * sizeof *turned);
    CHECK(turned, "no memory");
    for (int64_t n = 0; n < s.B * s.T; n++)
        for (int64_t h = 0; h < s.H + s.K; h++) {
            double *x = V("qkv") + n * R + h * s.D;
            const int64_t first = position ? (int64_t)position[n / s.T] : 0;
            rotated(call, turned, x, first + n % s.T, false);
            const double mean = dot(turned, turned, s.D) / (double)s.D;
            const double by = rstd ? 1 / sqrt(mean + call->rotation.eps) : 1;
            if (rstd) rstd[n * (s.H + s.K) + h] = by;
            for (int64_t d = 0; d < s.D; d++) x[d] = turned[d] * by;
        }
    free(turned);
}

static void rotate_backward(Call *call, OpShape s) {
    double *dqkv = V("dqkv"), *dbias = V("dbias"), *rstd = V("rstd");
    const int64_t R = (s.H + 2 * s.K) * s.D;
    double *g = malloc((size_t)s.D * sizeof *g);
    CHECK(g, "no memory");
    for (int64_t n = 0; n < s.B * s.T; n++) {
        for (int64_t h = 0; h < s.H + s.K; h++) {
            double *dy = dqkv + n * R + h * s.D, *y = V("qkv") + n * R + h * s.D;
            const double along = dot(dy, y, s.D) / (double)s.D;
            for (int64_t d = 0; d < s.D; d++)
                g[d] = rstd ? rstd[n * (s.H + s.K) + h] * (dy[d] - y[d] * along) : dy[d];
            rotated(call, dy, g, n % s.T, true);
        }
        for (int64_t r = 0; dbias && r < R; r++) dbias[r] += dqkv[n * R + r];
    }
    free(g);
}

static void swiglu(Call *call, int64_t N, int64_t F) {
    double *y = V("y"), *du = V("du"), *dy = V("dy");
    for (int64_t i = 0; i < N * F; i++) {
        const int64_t gate_at = i / F * 2 * F + i % F, up_at = gate_at + F;
        const double gate = V("u")[gate_at], up = V("u")[up_at], s = 1 / (1 + exp(-gate));
        if (y) y[i] = gate * s * up;
        if (du) du[gate_at] = dy[i] * up * (s + gate * s * (1 - s));
        if (du) du[up_at] = dy[i] * gate * s;
    }
}

static void recurrence_forward(Call *call, OpShape s) {
    double *h = V("h");
    const int64_t C = s.C;
    for (int64_t i = 0; i < s.T * s.B; i++)
        for (int64_t c = 0; c < C; c++) {
            const double *before = i < s.B ? V("h0") + i * C : h + (i - s.B) * C;
            h[i * C + c] = tanh(V("u")[i * C + c] + dot(before, V("w") + c * C, C));
        }
}

static void recurrence_backward(Call *call, OpShape s) {
    double *du = V("du");
    const int64_t C = s.C;
    for (int64_t i = s.T * s.B - 1; i >= 0; i--)
        for (int64_t c = 0; c < C; c++) {
            double sum = V("dh")[i * C + c], state = V("h")[i * C + c];
            for (int64_t k = 0; i < (s.T - 1) * s.B && k < C; k++)
                sum += du[(i + s.B) * C + k] * V("w")[k * C + c];
            du[i * C + c] = sum * (1 - state * state);
        }
}

/* ---- loss and optimiser ---- */

static void negative_sampling(Call *call, OpShape s) {
    double *losses = V("losses"), *dx = V("dx");
    const int64_t C = s.C;
    for (int64_t b = 0; b < s.B; b++) {
        const double *x = V("x") + b * s.T * C;
        losses[b] = 0;
        for (int64_t c = 0; dx && c < C; c++) dx[b * s.T * C + c] = 0;
        for (int64_t t = 1; t < s.T; t++) {
            const double score = dot(x, x + t * C, C), sign = t == 1 ? -1 : 1;
            const double g = (1 / (1 + exp(-score)) - (t == 1)) * call->params.loss_scale;
            losses[b] += fmax(sign * score, 0) + log1p(exp(-fabs(score)));
            for (int64_t c = 0; dx && c < C; c++) {
                dx[(b * s.T + t) * C + c] = g * x[c];
                dx[b * s.T * C + c] += g * x[t * C + c];
            }
        }
    }
}

static void classifier(Call *call, int64_t N, int64_t n_vocab, int64_t Vp) {
    double *losses = V("losses"), *dlogits = V("dlogits"), cap = call->c.softcap;
    const double *logits = V("logits"), *targets = V("targets");
    double *row = malloc((size_t)Vp * sizeof *row);
    CHECK(row, "no memory");
    for (int64_t n = 0; n < N; n++) {
        const double *x = logits + n * Vp;
        const int64_t target = (int64_t)targets[n];
        double most = -INFINITY, sum = 0;
        for (int64_t i = 0; i < Vp; i++) row[i] = cap > 0 ? cap * tanh(x[i] / cap) : x[i];
        for (int64_t i = 0; i < n_vocab; i++) most = fmax(most, row[i]);
        for (int64_t i = 0; i < n_vocab; i++) sum += exp(row[i] - most);
        losses[n] = target < 0 ? 0 : log(sum) + (most - row[target]);
        for (int64_t i = 0; dlogits && i < Vp; i++) {
            const double p = exp(row[i] - most) / sum, cosine = cosh(cap > 0 ? x[i] / cap : 0);
            dlogits[n * Vp + i] = target < 0 || i >= n_vocab
                                      ? 0
                                      : (p - (i == target ? 1 : 0)) * call->params.loss_scale /
                                            (cosine * cosine); /* 1 - tanh^2 */
        }
    }
    free(row);
}

static void grad_norm(Call *call) {
    double sum = 0;
    StepResult *r = &call->result;
    r->first_bad = -1;
    for (int k = 0; k < N_GRADS; k++) {
        const Operand *o = &call->operand[k + 1];
        bool bad = false;
        for (int64_t i = 0; i < operand_count(o); i++) {
            sum += o->value[i] * o->value[i];
            bad |= !isfinite(o->value[i]);
        }
        call->operand[0].value[k] = bad;
        if (bad && r->first_bad < 0) r->first_bad = k;
    }
    const double most = call->params.max_grad_norm;
    r->grad_norm = sqrt(sum);
    r->clip_factor = most > 0 ? fmin(1, most / r->grad_norm) : 1;
    r->bad = r->first_bad >= 0 || !isfinite(r->loss);
}

static void adamw(Call *call, int64_t n) {
    double *w = V("w"), *w_act = V("w_act"), *m = V("m"), *v = V("v"), *grad = V("grad");
    const AdamW a = call->adamw;
    const double t = call->params.step, lr = call->params.lr * a.lr_scale;
    for (int64_t i = 0; i < n && !call->result.bad; i++) {
        const double g = grad[i] * call->result.clip_factor;
        m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
        v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
        const double mhat = m[i] / (1 - pow(a.beta1, t)), vhat = v[i] / (1 - pow(a.beta2, t));
        w[i] -= lr * (mhat / (sqrt(vhat) + a.eps) + a.weight_decay * w[i]);
        if (w_act) w_act[i] = w[i];
    }
}

/* One Newton-Schulz step of x (m,n), m <= n. */
static void newton_schulz(double *x, int64_t m, int64_t n) {
    double *A = calloc((size_t)(m * m), sizeof *A), *P = calloc((size_t)(m * m), sizeof *P);
    double *next = calloc((size_t)(m * n), sizeof *next);
    CHECK(A && P && next, "no memory");
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < m; j++) A[i * m + j] = dot(x + i * n, x + j * n, n);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < m; j++)
            P[i * m + j] = (i == j ? 3.4445 : 0) - 4.7750 * A[i * m + j] +
                           2.0315 * dot(A + i * m, A + j * m, m); /* A is symmetric */
    for (int64_t i = 0; i < m; i++)
        for (int64_t k = 0; k < m; k++)
            for (int64_t j = 0; j < n; j++) next[i * n + j] += P[i * m + k] * x[k * n + j];
    memcpy(x, next, (size_t)(m * n) * sizeof *x);
    free(A);
    free(P);
    free(next);
}

/* Matrix number `matrix`. */
static void muon(Call *call, int64_t matrix, int64_t R, int64_t C) {
    const int64_t from = matrix * R * C;
    double *w = V("w") + from, *w_act = V("w_act"), *mom = V("mom") + from, norm = 0;
    const double *grad = V("grad") + from;
    const Muon u = call->muon;
    const bool tall = R > C;
    const double lr = call->params.lr * u.lr_scale;
    double *x = malloc((size_t)(R * C) * sizeof *x);
    CHECK(x, "no memory");
#define AT(i) x[tall ? (i) % C * R + (i) / C : (i)] /* with at most as many rows as columns */
    for (int64_t i = 0; i < R * C; i++) {
        const double g = grad[i] * call->result.clip_factor;
        mom[i] = u.momentum * mom[i] + (1 - u.momentum) * g;
        AT(i) = (1 - u.momentum) * g + u.momentum * mom[i];
        norm += AT(i) * AT(i);
    }
    for (int64_t i = 0; i < R * C; i++) x[i] /= norm > 0 ? sqrt(norm) : 1;
    for (int step = 0; step < 5; step++) newton_schulz(x, i64_min(R, C), i64_max(R, C));
    for (int64_t i = 0; i < R * C; i++) {
        w[i] -= lr * (sqrt(fmax(1, (double)R / (double)C)) * AT(i) + u.weight_decay * w[i]);
        if (w_act) w_act[from + i] = w[i];
    }
#undef AT
    free(x);
}

/* ---- all ---- */

static void elementwise(Call *call, int64_t n) {
    const double *x = V("x"), *dy = V("dy");
    double *y = V("y"), *dx = V("dx");
    const int64_t first = call->params.row_base * call->c.shape.C;
    for (int64_t i = 0; i < n; i++) switch (call->c.op) {
        case OP_ACTIVATION_FORWARD: y[i] = activate(call, x[i]); break;
        case OP_ACTIVATION_BACKWARD: dx[i] = dy[i] * activation_slope(call, x[i]); break;
        case OP_DROPOUT_FORWARD: y[i] = call_mask(call, first + i) * x[i]; break;
        default: dx[i] = call_mask(call, first + i) * dy[i];
        }
}

void call_reference(Call *call) {
    const OpShape s = call->c.shape;
    const int64_t N = s.B * s.T;
    switch (call->c.op) {
    case OP_EMBED_FORWARD: embed_forward(call, s); break;
    case OP_EMBED_BACKWARD: embed_backward(call, s); break;
    case OP_RESIDUAL_NORM_FORWARD: norm_forward(call, N, s.C); break;
    case OP_RESIDUAL_NORM_BACKWARD: norm_backward(call, N, s.C); break;
    case OP_LINEAR_FORWARD: linear_forward(call, N, s.C, s.O); break;
    case OP_LINEAR_BACKWARD_INPUT: linear_backward_input(call, N, s.C, s.O); break;
    case OP_LINEAR_BACKWARD_WEIGHT: linear_backward_weight(call, N, s.C, s.O); break;
    case OP_ATTENTION_FORWARD: attention_forward(call, s); break;
    case OP_ATTENTION_BACKWARD: attention_backward(call, s); break;
    case OP_ATTENTION_DECODE: attention_decode(call, s); break;
    case OP_ROTATE_FORWARD: rotate_forward(call, s); break;
    case OP_ROTATE_BACKWARD: rotate_backward(call, s); break;
    case OP_SWIGLU_FORWARD:
    case OP_SWIGLU_BACKWARD: swiglu(call, N, s.C); break;
    case OP_RECURRENCE_FORWARD: recurrence_forward(call, s); break;
    case OP_RECURRENCE_BACKWARD: recurrence_backward(call, s); break;
    case OP_ACTIVATION_FORWARD:
    case OP_ACTIVATION_BACKWARD:
    case OP_DROPOUT_FORWARD:
    case OP_DROPOUT_BACKWARD: elementwise(call, N * s.C); break;
    case OP_CLASSIFIER: classifier(call, N, s.V, s.Vp); break;
    case OP_NEGATIVE_SAMPLING: negative_sampling(call, s); break;
    case OP_LOSS_SUM:
        for (int64_t n = 0; n < N; n++)
            call->result.loss += call->params.loss_scale * V("losses")[n];
        break;
    case OP_GRAD_NORM: grad_norm(call); break;
    case OP_ADAMW: adamw(call, N * s.C); break;
    case OP_MUON:
        for (int64_t i = 0; i < s.B; i++) muon(call, i, s.O, s.C);
        break;
    case OP_KINDS: break;
    }
}
