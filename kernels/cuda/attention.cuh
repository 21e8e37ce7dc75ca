/* What the attention kernels share: sizes, launchers of each family, and the rows of statistics.
 *
 *   attention.cu         the ops: checks at the border, choice of a family, statistics
 *   attention_bf16.cu    tensor cores, bf16, head sizes that are multiples of 8; its gradients in
 *                        attention_backward_bf16.cu, what both share in attention_tile.cuh
 *   attention_plain.cu   every type and head size, one thread a row: f32, and odd head sizes
 *   attention_decode.cu  one new row a sequence against a long cache */
#pragma once
#include "mask.cuh"
#include "ops_cuda.h"

enum {
    ATTENTION_MAX_D = 128,
    ATTENTION_PAD = 128 /* rows of statistics are padded to a multiple of every tile */
};

/* Sizes of a call. Rows of qkv are R apart, those of y and dy H*D. */
struct Heads {
    int B, T, H, K, D, R;
    int Tp;      /* T padded: length of a row of statistics */
    float scale; /* 1 / sqrt(D) */
};

/* Operands of a pass; those that it does not use are NULL. Shapes as in ops.h. */
struct AttentionForward {
    void *y;
    float *lse;
    const void *qkv;
    const StepParams *params;
    MaskRate drop;
};
struct AttentionBackward {
    void *dqkv;
    const void *dy, *qkv;
    const float *lse2;  /* (B*H, Tp): lse / ln 2, and infinity in the padding, so that p is 0 */
    const float *delta; /* (B*H, Tp): dy.y, and 0 in the padding */
    float *sums; /* bf16: (B * attention_tiles, R), column sums of each tile of dqkv; or NULL */
    const StepParams *params;
    MaskRate drop;
};

/* Rows of queries, or of keys, of a block of the backward pass on tensor cores. */
constexpr int attention_tile(int64_t D) { return D <= 64 ? 128 : 64; }
static inline int64_t attention_tiles(int64_t T, int64_t D) {
    return i64_div_up(T, attention_tile(D));
}

/* Keys and values of the plain forward kernel: in qkv, or in the caches of decode. */
struct AttentionKeys {
    const void *k, *v;
    int64_t batch, head, row;  /* elements from one to the next */
    const int32_t *position;   /* (B) keys before the first query; NULL: none */
};

void attention_forward_bf16(const AttentionForward *, const Heads *, cudaStream_t);
void attention_backward_bf16(const AttentionBackward *, const Heads *, cudaStream_t);
void attention_forward_plain(const AttentionForward *, const AttentionKeys *, const Heads *, DType,
                             cudaStream_t);
void attention_backward_plain(const AttentionBackward *, const Heads *, DType, cudaStream_t);
Heads attention_heads(Tensor qkv, int64_t n_heads, int64_t n_kv_heads);
int64_t attention_decode_scratch(const OpShape *, const DeviceProperties *);

/* Index of the mask of (query i, key 0) of head h in sequence b of this pass. */
__device__ static inline uint64_t attention_mask_row(const Mask &m, const Heads &s, int b, int h,
                                                     int i) {
    const int64_t batch = m.row_base / s.T + b;
    return (uint64_t)(((batch * s.H + h) * s.T + i) * s.T);
}

__device__ static inline bool attention_keeps(const Mask &m, uint64_t index) {
    return rng_word(m.seed, m.step, m.site, index) >> 8 >= m.threshold;
}

static const float LOG2_E = 1.44269504088896341f, LN_2 = 0.693147180559945309f;
