/* Causal attention in bf16 on tensor cores (mma.sync), for head sizes that are multiples of 8.
 *
 * Forward, after Dao 2023 ("FlashAttention-2"): a block owns a tile of queries, each warp 16 * MT
 * of them, and walks the keys they see. Scores, probabilities and the output stay in registers; the
 * keys and values of the next tile arrive in shared memory while this one is multiplied.
 *
 * All tiles have DP columns, D rounded up to 32, 64 or 128; the columns in between are 0. */
#include "attention_tile.cuh"

/* Sizes that depend on the head: rows of 16 per warp, and keys a tile. */
template <int DP> struct ForwardTile {
    static const int MT = DP == 128 ? 1 : 2, BM = WARPS * 16 * MT, BN = 64;
    static const int BYTES = (BM + 4 * BN) * Tile<DP>::LD * (int)sizeof(bf16);
};

/* One row of scores in a quad of lanes: s holds q.k in, p = 2^(scale2 * (s - top)) out; this lane's
 * part of the sum moves on. top follows the maximum only once p would pass 2^8, so what was summed
 * seldom needs a factor, which is returned. */
template <int N>
__device__ static inline float softmax_row(float (*s)[4], int half, float scale2, float *top,
                                           float *sum) {
    float highest = -INFINITY;
#pragma unroll
    for (int n = 0; n < N; n++) highest = fmaxf(highest, fmaxf(s[n][half], s[n][half + 1]));
    highest = quad_max(highest);
    float factor = 1, added = 0;
    if ((highest - *top) * scale2 > 8) {
        factor = exp2_approx((*top - highest) * scale2);
        *top = highest;
    }
    const float shift = *top * scale2;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int c = half; c < half + 2; c++) {
            s[n][c] = exp2_approx(fmaf(s[n][c], scale2, -shift));
            added += s[n][c];
        }
    *sum = *sum * factor + added;
    return factor;
}

/* y (B,T,H*D), lse (B,H,T) from qkv (B,T,R). Block: a tile of queries of one head of one sequence,
 * the longest first. */
template <int DP, bool DROP>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(bf16 *y, float *lse, const bf16 *qkv, Heads s, const StepParams *params,
                   MaskRate rate) {
    constexpr int MT = ForwardTile<DP>::MT, BM = ForwardTile<DP>::BM, BN = ForwardTile<DP>::BN;
    constexpr int LD = Tile<DP>::LD, SN = BN / 8, DN = DP / 8, DK = DP / 16;
    DYN_SHARED(bf16, shared);
    bf16 *const q_tile = shared, *const kv_tile = shared + BM * LD;

    const int tiles = (s.T + BM - 1) / BM, head = (int)blockIdx.x / tiles;
    const int q0 = (tiles - 1 - (int)blockIdx.x % tiles) * BM, b = head / s.H, h = head % s.H;
    const int l = (int)threadIdx.x % WARP, warp_row = (int)threadIdx.x / WARP * 16 * MT;
    const bf16 *const rows = qkv + (int64_t)b * s.T * s.R;
    const bf16 *const k = rows + (s.H + h / (s.H / s.K)) * s.D;
    const int n_tiles = (min(q0 + BM, s.T) + BN - 1) / BN;
    const float scale2 = s.scale * LOG2_E;
    Mask mask = {};
    if (DROP) mask = mask_make(params, rate);

    float out[MT][DN][4] = {}, top[MT][2], sum[MT][2] = {};
    uint32_t q[MT][DK][4];
#pragma unroll
    for (int m = 0; m < MT; m++) top[m][0] = top[m][1] = -INFINITY;

    tile_load<BM, DP, THREADS>(q_tile, rows + (int64_t)q0 * s.R + h * s.D, s.R, s.T - q0, s.D);
    keys_values_load<BN, DP>(kv_tile, k, s, 0);
    CP_ASYNC_COMMIT();
    for (int n = 0; n < n_tiles; n++) {
        CP_ASYNC_WAIT(0);
        BARRIER(); /* tile n is here, and nobody reads the other stage any more */
        if (n == 0)
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < DK; i++)
                    tile_a<DP>(q[m][i], q_tile, warp_row + 16 * m, 16 * i, l);
        const int k0 = n * BN, k1 = k0 + BN;
        const bf16 *const k_tile = kv_tile + n % 2 * 2 * BN * LD, *const v_tile = k_tile + BN * LD;
        if (n + 1 < n_tiles) {
            keys_values_load<BN, DP>(kv_tile + (n + 1) % 2 * 2 * BN * LD, k, s, k1);
            CP_ASYNC_COMMIT();
        }
        if (k0 > q0 + warp_row + 16 * MT - 1) continue; /* none of this warp's queries sees it */

        float p[MT][SN][4] = {};
#pragma unroll
        for (int i = 0; i < DK; i++)
#pragma unroll
            for (int j = 0; j < SN; j += 2) {
                uint32_t kt[4];
                tile_b<DP>(kt, k_tile, 8 * j, 16 * i, l);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    mma_bf16(p[m][j], q[m][i], kt);
                    mma_bf16(p[m][j + 1], q[m][i], kt + 2);
                }
            }
#pragma unroll
        for (int m = 0; m < MT; m++) {
            const int row = q0 + warp_row + 16 * m + l / 4, key = k0 + l % 4 * 2;
            if (k1 - 1 > q0 + warp_row + 16 * m)
#pragma unroll
                for (int j = 0; j < SN; j++)
#pragma unroll
                    for (int c = 0; c < 4; c++)
                        if (key + 8 * j + c % 2 > row + c / 2 * 8) p[m][j][c] = -INFINITY;
            float factor[2];
#pragma unroll
            for (int half = 0; half < 2; half++)
                factor[half] = softmax_row<SN>(p[m], 2 * half, scale2, &top[m][half],
                                               &sum[m][half]);
            if (__any_sync(ALL_LANES, factor[0] != 1 || factor[1] != 1))
#pragma unroll
                for (int j = 0; j < DN; j++)
#pragma unroll
                    for (int c = 0; c < 4; c++) out[m][j][c] *= factor[c / 2];
            if (DROP && mask.on) {
                const uint32_t bits = attention_mask_bits<SN>(
                    mask, s.T, attention_mask_row(mask, s, b, h, 0), q0 + warp_row + 16 * m, k0, l);
#pragma unroll
                for (int i = 0; i < 4 * SN; i++)
                    p[m][i / 4][i % 4] = bits >> i & 1 ? p[m][i / 4][i % 4] : 0;
            }
        }
        add_product<DP, MT, SN>(out, p, v_tile, l);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = q0 + warp_row + 16 * m + l / 4 + 8 * half;
            const float total = quad_sum(sum[m][half]);
            const float factor = (DROP && mask.on ? mask.scale : 1) / total;
            if (row >= s.T) continue;
            if (l % 4 == 0)
                lse[(int64_t)head * s.T + row] = top[m][half] * s.scale + logf(total);
            bf16 *const to = y + ((int64_t)b * s.T + row) * s.H * s.D + h * s.D + l % 4 * 2;
#pragma unroll
            for (int j = 0; j < DN; j++)
                if (8 * j < s.D)
                    *(uint32_t *)(to + 8 * j) = pack_bf16(out[m][j][2 * half] * factor,
                                                          out[m][j][2 * half + 1] * factor);
        }
}

template <int DP, bool DROP>
static void forward_launch(const AttentionForward *p, const Heads *s, cudaStream_t stream) {
    const int bytes = ForwardTile<DP>::BYTES;
    const int64_t blocks = i64_div_up(s->T, ForwardTile<DP>::BM) * s->B * s->H;
    CUDA_CHECK(cudaFuncSetAttribute((const void *)forward_kernel<DP, DROP>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    LAUNCH((forward_kernel<DP, DROP>), (unsigned)blocks, THREADS, bytes, stream, (bf16 *)p->y,
           p->lse, (const bf16 *)p->qkv, *s, p->params, p->drop);
}

void attention_forward_bf16(const AttentionForward *p, const Heads *s, cudaStream_t stream) {
    const bool drop = p->drop.threshold > 0;
    if (s->D <= 32)
        (drop ? forward_launch<32, true> : forward_launch<32, false>)(p, s, stream);
    else if (s->D <= 64)
        (drop ? forward_launch<64, true> : forward_launch<64, false>)(p, s, stream);
    else
        (drop ? forward_launch<128, true> : forward_launch<128, false>)(p, s, stream);
}
