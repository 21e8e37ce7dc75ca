/* Gradients of causal attention in bf16 on tensor cores (mma.sync), for head sizes that are
 * multiples of 8. Two kernels, so that every sum has one owner and one order:
 *   keys_kernel     a block owns a tile of keys of one key-value head and walks the queries that
 *                   see them, of all heads that share it. Scores stand transposed, keys in rows: so
 *                   p and ds leave the products' registers as the operands of dv and dk.
 *   queries_kernel  a block owns a tile of queries and walks the keys that they see: dq.
 * p is computed again from the saved lse: with lse2 = lse / ln 2, p = 2^(s * scale2 - lse2). */
#include "attention_tile.cuh"

/* ---- dk and dv ---- */

template <int DP> struct KeysTile {
    static const int BN = attention_tile(DP), MT = BN / (WARPS * 16), BM = 32;
    static const int STAGE = 2 * BM * (Tile<DP>::LD * (int)sizeof(bf16) + (int)sizeof(float));
    static const int BYTES = 2 * BN * Tile<DP>::LD * (int)sizeof(bf16) + 2 * STAGE;
};

/* One stage of keys_kernel's queries in shared memory. */
template <int DP> struct KeysStage {
    bf16 *q, *dy;
    float *lse2, *delta;
    __device__ KeysStage(bf16 *at)
        : q(at), dy(q + KeysTile<DP>::BM * Tile<DP>::LD),
          lse2((float *)(dy + KeysTile<DP>::BM * Tile<DP>::LD)), delta(lse2 + KeysTile<DP>::BM) {}
};

/* Starts the copy of queries q0 .. q0+BM-1 of head h. */
template <int DP>
__device__ static inline void keys_load(KeysStage<DP> to, const AttentionBackward &p,
                                        const Heads &s, int b, int h, int q0) {
    constexpr int BM = KeysTile<DP>::BM;
    const int64_t row = (int64_t)b * s.T + q0, stats = ((int64_t)b * s.H + h) * s.Tp + q0;
    tile_load<BM, DP, THREADS>(to.q, (const bf16 *)p.qkv + row * s.R + h * s.D, s.R, s.T - q0, s.D);
    tile_load<BM, DP, THREADS>(to.dy, (const bf16 *)p.dy + (row * s.H + h) * s.D, s.H * s.D,
                               s.T - q0, s.D);
    const int i = (int)threadIdx.x * 4;
    if (i < BM) {
        cp_async_16(to.lse2 + i, p.lse2 + stats + i, 16);
        cp_async_16(to.delta + i, p.delta + stats + i, 16);
    }
}

/* d (16 * MT keys, BM queries) = rows row0.. of `keys` times the transposed rows of `queries`. */
template <int DP, int MT, int BM>
__device__ static inline void keys_by_queries(float (*d)[BM / 8][4], const bf16 *keys,
                                              const bf16 *queries, int row0, int l) {
#pragma unroll
    for (int i = 0; i < DP / 16; i++) {
        uint32_t a[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++) tile_a<DP>(a[m], keys, row0 + 16 * m, 16 * i, l);
#pragma unroll
        for (int j = 0; j < BM / 8; j += 2) {
            uint32_t x[4];
            tile_b<DP>(x, queries, 8 * j, 16 * i, l);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma_bf16(d[m][j], a[m], x);
                mma_bf16(d[m][j + 1], a[m], x + 2);
            }
        }
    }
}

/* Writes factor * sum (16, DP) as rows row0.. of `to`, R apart, those before n_rows. */
template <int DP>
__device__ static inline void store_rows(bf16 *to, const float (*sum)[4], float factor, int row0,
                                         int n_rows, const Heads &s, int l) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = row0 + l / 4 + 8 * half;
        if (row >= n_rows) continue;
        bf16 *const at = to + (int64_t)row * s.R + l % 4 * 2;
#pragma unroll
        for (int j = 0; j < DP / 8; j++)
            if (8 * j < s.D)
                *(uint32_t *)(at + 8 * j) =
                    pack_bf16(sum[j][2 * half] * factor, sum[j][2 * half + 1] * factor);
    }
}

/* to[d] = factor * sum over the block's rows of sum (16 * MT, DP), in a fixed order. `partial`:
 * (WARPS, DP) in shared memory. */
template <int DP, int MT>
__device__ static inline void store_sums(float *to, const float (*sum)[DP / 8][4], float factor,
                                         float *partial, int D) {
    const int l = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
#pragma unroll
    for (int j = 0; j < DP / 8; j++)
#pragma unroll
        for (int x = 0; x < 2; x++) {
            float total = 0;
#pragma unroll
            for (int m = 0; m < MT; m++) total += sum[m][j][x] + sum[m][j][2 + x];
#pragma unroll
            for (int offset = 4; offset < WARP; offset *= 2)
                total += __shfl_xor_sync(ALL_LANES, total, offset);
            if (l < 4) partial[warp * DP + 8 * j + 2 * l + x] = total;
        }
    BARRIER();
    const int d = (int)threadIdx.x;
    if (d >= D) return;
    float total = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) total += partial[w * DP + d];
    to[d] = total * factor;
}

/* Columns dk and dv of dqkv (B,T,R). Block: a tile of keys of one key-value head of one sequence,
 * the longest first. */
template <int DP, bool DROP>
__global__ void __launch_bounds__(THREADS) keys_kernel(AttentionBackward p, Heads s) {
    constexpr int MT = KeysTile<DP>::MT, BN = KeysTile<DP>::BN, BM = KeysTile<DP>::BM;
    constexpr int LD = Tile<DP>::LD, QN = BM / 8;
    constexpr int STAGE = KeysTile<DP>::STAGE / (int)sizeof(bf16);
    DYN_SHARED(bf16, shared);
    SHARED(float, partial, 2 * WARPS * DP);
    bf16 *const k_tile = shared, *const v_tile = k_tile + BN * LD, *const stages = v_tile + BN * LD;

    const int key_tiles = (s.T + BN - 1) / BN, head = (int)blockIdx.x / key_tiles;
    const int k0 = (int)blockIdx.x % key_tiles * BN, b = head / s.K, kv = head % s.K;
    const int group = s.H / s.K, l = (int)threadIdx.x % WARP;
    const int warp_row = (int)threadIdx.x / WARP * 16 * MT;
    const int64_t columns = (int64_t)b * s.T * s.R + (s.H + kv) * s.D;
    const int n_steps = group * ((s.T + BM - 1) / BM - k0 / BM);
    const float scale2 = s.scale * LOG2_E;
    Mask mask = {};
    if (DROP) mask = mask_make(p.params, p.drop);
    const float keep = DROP && mask.on ? mask.scale : 1;

    keys_values_load<BN, DP>(k_tile, (const bf16 *)p.qkv + columns, s, k0);
    keys_load<DP>(KeysStage<DP>(stages), p, s, b, kv * group, k0);
    CP_ASYNC_COMMIT();

    float dk[MT][DP / 8][4] = {}, dv[MT][DP / 8][4] = {};
    for (int n = 0, q0, next_q0 = k0, h, next_h = kv * group; n < n_steps; n++) {
        CP_ASYNC_WAIT(0);
        BARRIER(); /* step n's queries are here, and nobody reads the other stage any more */
        q0 = next_q0, h = next_h;
        next_q0 += BM;
        if (next_q0 >= s.T) next_q0 = k0, next_h++;
        if (n + 1 < n_steps) {
            keys_load<DP>(KeysStage<DP>(stages + (n + 1) % 2 * STAGE), p, s, b, next_h, next_q0);
            CP_ASYNC_COMMIT();
        }
        const KeysStage<DP> in(stages + n % 2 * STAGE);
        if (q0 + BM - 1 < k0 + warp_row) continue; /* none of them sees this warp's keys */

        float pt[MT][QN][4] = {}, ds[MT][QN][4] = {};
        keys_by_queries<DP, MT, BM>(pt, k_tile, in.q, warp_row, l);
        keys_by_queries<DP, MT, BM>(ds, v_tile, in.dy, warp_row, l);
        const bool diagonal = q0 < k0 + warp_row + 16 * MT - 1;
        uint32_t kept[MT];
#pragma unroll
        for (int m = 0; m < MT; m++)
            kept[m] = !DROP || !mask.on
                          ? ~0u
                          : attention_mask_bits_transposed<QN>(
                                mask, s.T, attention_mask_row(mask, s, b, h, 0), q0,
                                k0 + warp_row + 16 * m, l);
#pragma unroll
        for (int j = 0; j < QN; j++) {
            const float2 lse2 = *(const float2 *)(in.lse2 + 8 * j + l % 4 * 2);
            const float2 delta = *(const float2 *)(in.delta + 8 * j + l % 4 * 2);
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const int query = q0 + 8 * j + l % 4 * 2 + c % 2;
                    const int key = k0 + warp_row + 16 * m + l / 4 + c / 2 * 8;
                    float pr = exp2_approx(fmaf(pt[m][j][c], scale2, -(c % 2 ? lse2.y : lse2.x)));
                    if (diagonal && key > query) pr = 0;
                    const bool keeps = !DROP || kept[m] >> (4 * j + c) & 1;
                    ds[m][j][c] =
                        pr * ((keeps ? ds[m][j][c] * keep : 0) - (c % 2 ? delta.y : delta.x));
                    pt[m][j][c] = keeps ? pr : 0;
                }
        }
        add_product<DP, MT, QN>(dv, pt, in.dy, l);
        add_product<DP, MT, QN>(dk, ds, in.q, l);
    }
    bf16 *const to = (bf16 *)p.dqkv + columns;
#pragma unroll
    for (int m = 0; m < MT; m++) {
        store_rows<DP>(to, dk[m], s.scale, k0 + warp_row + 16 * m, s.T, s, l);
        store_rows<DP>(to + s.K * s.D, dv[m], keep, k0 + warp_row + 16 * m, s.T, s, l);
    }
    if (!p.sums) return;
    float *const column = p.sums + ((int64_t)b * key_tiles + k0 / BN) * s.R + (s.H + kv) * s.D;
    store_sums<DP, MT>(column, dk, s.scale, partial, s.D);
    store_sums<DP, MT>(column + s.K * s.D, dv, keep, partial + WARPS * DP, s.D);
}

/* ---- dq ---- */

template <int DP> struct QueriesTile {
    static const int BM = attention_tile(DP), MT = BM / (WARPS * 16), BN = 32;
    static const int BYTES = (2 * BM + 4 * BN) * Tile<DP>::LD * (int)sizeof(bf16);
};

/* Columns dq of dqkv (B,T,R). Block: a tile of queries of one head of one sequence, the longest
 * first. */
template <int DP, bool DROP>
__global__ void __launch_bounds__(THREADS) queries_kernel(AttentionBackward p, Heads s) {
    constexpr int MT = QueriesTile<DP>::MT, BM = QueriesTile<DP>::BM, BN = QueriesTile<DP>::BN;
    constexpr int LD = Tile<DP>::LD, SN = BN / 8, DK = DP / 16;
    DYN_SHARED(bf16, shared);
    SHARED(float, partial, WARPS *DP);
    bf16 *const q_tile = shared, *const dy_tile = q_tile + BM * LD;
    bf16 *const kv_tile = dy_tile + BM * LD;

    const int tiles = (s.T + BM - 1) / BM, head = (int)blockIdx.x / tiles;
    const int q0 = (tiles - 1 - (int)blockIdx.x % tiles) * BM, b = head / s.H, h = head % s.H;
    const int l = (int)threadIdx.x % WARP, warp_row = (int)threadIdx.x / WARP * 16 * MT;
    const int64_t row = (int64_t)b * s.T + q0;
    const bf16 *const k =
        (const bf16 *)p.qkv + (int64_t)b * s.T * s.R + (s.H + h / (s.H / s.K)) * s.D;
    const int n_tiles = (min(q0 + BM, s.T) + BN - 1) / BN;
    const float scale2 = s.scale * LOG2_E;
    Mask mask = {};
    if (DROP) mask = mask_make(p.params, p.drop);
    const float keep = DROP && mask.on ? mask.scale : 1;

    tile_load<BM, DP, THREADS>(q_tile, (const bf16 *)p.qkv + row * s.R + h * s.D, s.R, s.T - q0,
                               s.D);
    tile_load<BM, DP, THREADS>(dy_tile, (const bf16 *)p.dy + (row * s.H + h) * s.D, s.H * s.D,
                               s.T - q0, s.D);
    keys_values_load<BN, DP>(kv_tile, k, s, 0);
    CP_ASYNC_COMMIT();

    float dq[MT][DP / 8][4] = {}, lse2[MT][2], delta[MT][2];
    uint32_t q[MT][DK][4], dy[MT][DK][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int64_t at =
                (int64_t)head * s.Tp + q0 + warp_row + 16 * m + l / 4 + 8 * half;
            lse2[m][half] = p.lse2[at];
            delta[m][half] = p.delta[at];
        }
    for (int n = 0; n < n_tiles; n++) {
        CP_ASYNC_WAIT(0);
        BARRIER(); /* tile n is here, and nobody reads the other stage any more */
        if (n == 0)
#pragma unroll
            for (int m = 0; m < MT; m++)
#pragma unroll
                for (int i = 0; i < DK; i++) {
                    tile_a<DP>(q[m][i], q_tile, warp_row + 16 * m, 16 * i, l);
                    tile_a<DP>(dy[m][i], dy_tile, warp_row + 16 * m, 16 * i, l);
                }
        const int k0 = n * BN, k1 = k0 + BN;
        const bf16 *const k_tile = kv_tile + n % 2 * 2 * BN * LD, *const v_tile = k_tile + BN * LD;
        if (n + 1 < n_tiles) {
            keys_values_load<BN, DP>(kv_tile + (n + 1) % 2 * 2 * BN * LD, k, s, k1);
            CP_ASYNC_COMMIT();
        }
        if (k0 > q0 + warp_row + 16 * MT - 1) continue; /* none of this warp's queries sees it */

        float ds[MT][SN][4] = {}, dp[MT][SN][4] = {};
#pragma unroll
        for (int i = 0; i < DK; i++)
#pragma unroll
            for (int j = 0; j < SN; j += 2) {
                uint32_t kt[4], vt[4];
                tile_b<DP>(kt, k_tile, 8 * j, 16 * i, l);
                tile_b<DP>(vt, v_tile, 8 * j, 16 * i, l);
#pragma unroll
                for (int m = 0; m < MT; m++) {
                    mma_bf16(ds[m][j], q[m][i], kt);
                    mma_bf16(ds[m][j + 1], q[m][i], kt + 2);
                    mma_bf16(dp[m][j], dy[m][i], vt);
                    mma_bf16(dp[m][j + 1], dy[m][i], vt + 2);
                }
            }
#pragma unroll
        for (int m = 0; m < MT; m++) {
            const int query = q0 + warp_row + 16 * m + l / 4, key = k0 + l % 4 * 2;
            const bool diagonal = k1 - 1 > q0 + warp_row + 16 * m;
            uint32_t kept = ~0u;
            if (DROP && mask.on)
                kept = attention_mask_bits<SN>(mask, s.T, attention_mask_row(mask, s, b, h, 0),
                                               q0 + warp_row + 16 * m, k0, l);
#pragma unroll
            for (int j = 0; j < SN; j++)
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    const bool keeps = !DROP || kept >> (4 * j + c) & 1;
                    float pr = exp2_approx(fmaf(ds[m][j][c], scale2, -lse2[m][c / 2]));
                    if (diagonal && key + 8 * j + c % 2 > query + c / 2 * 8) pr = 0;
                    ds[m][j][c] = pr * ((keeps ? dp[m][j][c] * keep : 0) - delta[m][c / 2]);
                }
        }
        add_product<DP, MT, SN>(dq, ds, k_tile, l);
    }
    bf16 *const to = (bf16 *)p.dqkv + (int64_t)b * s.T * s.R + h * s.D;
#pragma unroll
    for (int m = 0; m < MT; m++)
        store_rows<DP>(to, dq[m], s.scale, q0 + warp_row + 16 * m, s.T, s, l);
    if (p.sums)
        store_sums<DP, MT>(p.sums + ((int64_t)b * tiles + q0 / BM) * s.R + h * s.D, dq, s.scale,
                           partial, s.D);
}

template <int DP, bool DROP>
static void backward_launch(const AttentionBackward *p, const Heads *s, cudaStream_t stream) {
    const int keys_bytes = KeysTile<DP>::BYTES, queries_bytes = QueriesTile<DP>::BYTES;
    const int64_t keys_blocks = i64_div_up(s->T, KeysTile<DP>::BN) * s->B * s->K;
    const int64_t queries_blocks = i64_div_up(s->T, QueriesTile<DP>::BM) * s->B * s->H;
    CUDA_CHECK(cudaFuncSetAttribute((const void *)keys_kernel<DP, DROP>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, keys_bytes));
    CUDA_CHECK(cudaFuncSetAttribute((const void *)queries_kernel<DP, DROP>,
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, queries_bytes));
    LAUNCH((keys_kernel<DP, DROP>), (unsigned)keys_blocks, THREADS, keys_bytes, stream, *p, *s);
    LAUNCH((queries_kernel<DP, DROP>), (unsigned)queries_blocks, THREADS, queries_bytes, stream, *p,
           *s);
}

void attention_backward_bf16(const AttentionBackward *p, const Heads *s, cudaStream_t stream) {
    const bool drop = p->drop.threshold > 0;
    if (s->D <= 32)
        (drop ? backward_launch<32, true> : backward_launch<32, false>)(p, s, stream);
    else if (s->D <= 64)
        (drop ? backward_launch<64, true> : backward_launch<64, false>)(p, s, stream);
    else
        (drop ? backward_launch<128, true> : backward_launch<128, false>)(p, s, stream);
}
