/* attention in bf16 on tensor cores; sums and softmax f32. See kernels/cpu/attention.c for the
 * formulas, attention.h for the packing of rows.
 *
 * Forward (Dao 2023, FlashAttention-2): a block of WARPS warps holds a tile of rows, 16 MT a warp,
 * and walks over tiles of BN keys with an online softmax. The next keys are loaded while the values
 * are multiplied, the values while the scores are. Backward is two passes that recompute the
 * probabilities from the log-sum-exp: one over keys for dq, one over rows for dk and dv, each sum
 * in one block, so that nothing depends on the order of blocks. Weights and their gradients are
 * rounded to bf16 before they are multiplied. Head sizes up to 256 (others are refused); tiles are
 * cut for DP = 32, 64, 96, 128 and 256 so that sums stay in registers (tests/bench/sass: at most 16
 * bytes are spilled where D is a multiple of 8) and a block takes at most SHARED_MOST. */
#include "attention_tensor.h"

static const float MINUS_INFINITY = -INFINITY;

/* ---- forward */

template <int DP> struct forward_tiling {
    enum {
        MT = DP > 128 ? 1 : 2,
        WARPS = 4,
        ROWS = 16 * MT * WARPS,
        BN = DP > 64 ? 32 : 64,
        LD = DP + 8
    };
};

template <int MT> struct softmax_state {
    float max[MT][2], sum[MT][2];
};

/* x: [16 MT, 8 NT] of a warp whose rows start at `row`, keys at `key`; first_keys: of those rows.
 * Entries of keys that are not visible, or from `end` on, become `hidden`. */
template <int MT, int NT>
static __device__ __forceinline__ void hide_keys(const attention_shape &s, float (&x)[MT][NT][4],
                                                 const int *first_keys, int row, int key, int end,
                                                 float hidden)
{
    int lane = (int)threadIdx.x % WARP;
    forget(row);
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
            int i = m * 16 + side * 8 + lane / 4, p = row_position(s, row + i);
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int j = key + n * 8 + lane % 4 * 2 + e;
                    if (j >= end || !is_seen(p, first_keys[i], j))
                        x[m][n][2 * side + e] = hidden;
                }
        }
}

/* x becomes weights relative to the new maxima; sums and o are rescaled to them. A thread's sum
 * covers its own columns. */
template <int MT, int NT, int DT>
static __device__ __forceinline__ void softmax_step(float factor, float (&x)[MT][NT][4],
                                                    softmax_state<MT> &state, float (&o)[MT][DT][4])
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
            float old = state.max[m][side], max = old, sum = 0;
#pragma unroll
            for (int n = 0; n < NT; n++)
                max = fmaxf(max, fmaxf(x[m][n][2 * side], x[m][n][2 * side + 1]));
            max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 1));
            max = fmaxf(max, __shfl_xor_sync(ALL_LANES, max, 2));
            float shift = max == MINUS_INFINITY ? 0 : max * factor,
                  rescale = exp2_fast(old * factor - shift);
            /* otherwise rescale is 1 in the whole warp, as for most tiles of keys */
            bool grown = __any_sync(ALL_LANES, max > old);
#pragma unroll
            for (int n = 0; n < NT; n++)
#pragma unroll
                for (int e = 2 * side; e < 2 * side + 2; e++)
                    sum += x[m][n][e] = exp2_fast(x[m][n][e] * factor - shift);
            state.max[m][side] = max;
            state.sum[m][side] = state.sum[m][side] * rescale + sum;
#pragma unroll
            for (int d = 0; d < DT && grown; d++) {
                o[m][d][2 * side] *= rescale;
                o[m][d][2 * side + 1] *= rescale;
            }
        }
}

struct forward_output {
    bf16 *out;
    float *memo, *parts;
};

/* Row r of the output from a thread's columns of it; `sum` over the whole row. */
template <int DT, bool ALIGNED>
static __device__ __forceinline__ void put_output(const attention_shape &s,
                                                  const forward_output &to, const row_tile &t,
                                                  int r, const float (&o)[DT][4], int side,
                                                  float max, float sum)
{
    int column = (int)threadIdx.x % 4 * 2;
    if (to.parts) {
        float *part = part_of(s, to.parts, (int)blockIdx.y, t.item, r);
#pragma unroll
        for (int d = 0; d < DT; d++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (d * 8 + column + e < s.D)
                    part[d * 8 + column + e] = o[d][2 * side + e];
        if (column == 0) {
            part[s.D] = max;
            part[s.D + 1] = sum;
        }
        return;
    }
    bf16 *row = to.out + row_at(s, t.seq, t.g, r);
    float inverse = 1 / sum;
#pragma unroll
    for (int d = 0; d < DT; d++)
        put_pair<ALIGNED>(row, d * 8 + column, s.D, false, o[d][2 * side] * inverse,
                          o[d][2 * side + 1] * inverse);
    if (to.memo && column == 0)
        to.memo[memo_at(s, t.seq, t.g, r)] = max + logf(sum);
}

template <int DP, bool ALIGNED>
static __global__ void __launch_bounds__(forward_tiling<DP>::WARPS *WARP)
    forward(attention_shape s, const bf16 *q, const bf16 *k, const bf16 *v, forward_output to,
            int splits)
{
    typedef forward_tiling<DP> F;
    enum {
        MT = F::MT,
        BN = F::BN,
        LD = F::LD,
        NT = BN / 8,
        DT = DP / 8,
        THREADS = F::WARPS * WARP
    };
    SHARED_DYNAMIC(bf16, qs);
    bf16 *ks = qs + F::ROWS * LD, *vs = ks + BN * LD;
    int *first_keys = (int *)(vs + BN * LD);
    read_offset(&s);
    row_tile t = row_tile_of(s, F::ROWS);
    if (splits > 1)
        split_keys(&t, splits, BN);
    int mine = (int)threadIdx.x / WARP * 16 * MT, row = t.first + mine,
        lane = (int)threadIdx.x % WARP;
    int p0 = row_position(s, row), p1 = row_position(s, min(row + 16 * MT, s.rows) - 1);
    softmax_state<MT> state;
    float o[MT][DT][4];
    clear(o);
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        state.max[i / 2][i % 2] = MINUS_INFINITY;
        state.sum[i / 2][i % 2] = 0;
    }
    load_first_keys<F::ROWS, THREADS>(s, first_keys, t.seq, t.first);
    first_keys += mine;
    load_rows<DP, F::ROWS, THREADS, ALIGNED>(s, qs, q, t.seq, t.g, t.first);
    if (t.from < t.end)
        load_keys<DP, BN, THREADS, ALIGNED>(s, ks, k, t.seq, t.g, t.from, t.end);
    for (int key = t.from; key < t.end; key += BN) {
        float x[MT][NT][4];
        async_wait();
        /* keys have arrived, the values of the step before have been read */
        __syncthreads();
        bool busy = key <= p1 && key + BN > first_keys[0];
        load_keys<DP, BN, THREADS, ALIGNED>(s, vs, v, t.seq, t.g, key, t.end);
        if (busy)
            rows_times_rows<MT, NT, DP / 16, LD>(x, qs + mine * LD, ks);
        async_wait();
        __syncthreads(); /* values have arrived, keys have been read */
        if (key + BN < t.end)
            load_keys<DP, BN, THREADS, ALIGNED>(s, ks, k, t.seq, t.g, key + BN, t.end);
        if (!busy)
            continue;
        cap_scores(s.rule, x);
        if (!ALIGNED && s.alibi)
            add_positions(s, x, first_keys, t.g, row, key);
        if (key + BN - 1 > p0 || key < first_keys[16 * MT - 1] || key + BN > t.end)
            hide_keys(s, x, first_keys, row, key, t.end, MINUS_INFINITY);
        softmax_step(s.rule.factor, x, state, o);
        uint32_t weights[MT][NT / 2][4];
        to_fragments(weights, x);
        weights_times_rows<MT, DT, NT / 2, LD>(o, weights, vs);
    }
    async_wait();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int side = 0; side < 2; side++) {
            float sum = state.sum[m][side];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            int r = row + m * 16 + side * 8 + lane / 4;
            if (r < s.rows)
                put_output<DT, ALIGNED>(s, to, t, r, o[m], side,
                                        state.max[m][side] * s.rule.factor * LN_2, sum);
        }
}

/* ---- backward */

/* In: x scores (capped), d = do v^T of the same places. Out: x probabilities, d gradients of the
 * scores before cap and scale. `stats`: of the element. */
template <bool CAPPED>
static __device__ __forceinline__ void score_gradient(const score_rule &rule, float &x, float &d,
                                                      float2 stats)
{
    float p = exp2_fast(x * rule.factor - stats.x);
    d = p * (d - stats.y);
    if (CAPPED)
        d *= cap_slope(rule, x);
    x = p;
}

template <int DP> struct query_tiling {
    enum {
        MT = DP > 128 ? 1 : 2,
        WARPS = DP > 128 ? 2 : 4,
        ROWS = 16 * MT * WARPS,
        BN = 32,
        LD = DP + 8
    };
};

template <bool CAPPED, int MT, int NT>
static __device__ __forceinline__ void query_gradients(const score_rule &rule,
                                                       float (&x)[MT][NT][4], float (&d)[MT][NT][4],
                                                       const float2 *stats)
{
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                score_gradient<CAPPED>(rule, x[m][n][e], d[m][n][e], stats[m * 16 + e / 2 * 8]);
}

/* A thread's columns of a row: set to factor * sums, or += that; of the first n columns. */
template <int DT, bool ALIGNED>
static __device__ __forceinline__ void put_columns(bf16 *row, int n, bool set,
                                                   const float (&sums)[DT][4], int side,
                                                   float factor)
{
#pragma unroll
    for (int d = 0; d < DT; d++)
        put_pair<ALIGNED>(row, d * 8 + (int)threadIdx.x % 4 * 2, n, !set,
                          sums[d][2 * side] * factor, sums[d][2 * side + 1] * factor);
}

/* dq += scale ds k, for a tile of rows over all the keys that they see. Keys are double-buffered,
 * since they are needed from first to last. */
template <int DP, bool ALIGNED>
static __global__ void __launch_bounds__(query_tiling<DP>::WARPS *WARP)
    backward_queries(attention_shape s, const bf16 *q, const bf16 *k, const bf16 *v,
                     const bf16 *dout, const float2 *all_stats, bf16 *dq)
{
    typedef query_tiling<DP> F;
    enum {
        MT = F::MT,
        BN = F::BN,
        LD = F::LD,
        NT = BN / 8,
        DT = DP / 8,
        THREADS = F::WARPS * WARP
    };
    SHARED_DYNAMIC(bf16, qs);
    /* two tiles */
    bf16 *dos = qs + F::ROWS * LD, *vs = dos + F::ROWS * LD, *keys = vs + BN * LD;
    row_tile t = row_tile_of(s, F::ROWS);
    int mine = (int)threadIdx.x / WARP * 16 * MT, row = t.first + mine,
        lane = (int)threadIdx.x % WARP;
    int p0 = row_position(s, row), p1 = row_position(s, min(row + 16 * MT, s.rows) - 1);
    float2 *stats = (float2 *)(keys + 2 * BN * LD);
    int *first_keys = (int *)(stats + F::ROWS);
    float sums[MT][DT][4];
    clear(sums);
    for (int i = (int)threadIdx.x; i < F::ROWS; i += THREADS)
        stats[i] = row_stats2(s, all_stats, t.item, t.first + i);
    load_first_keys<F::ROWS, THREADS>(s, first_keys, t.seq, t.first);
    first_keys += mine;
    load_rows<DP, F::ROWS, THREADS, ALIGNED>(s, qs, q, t.seq, t.g, t.first);
    load_rows<DP, F::ROWS, THREADS, ALIGNED>(s, dos, dout, t.seq, t.g, t.first);
    load_keys<DP, BN, THREADS, ALIGNED>(s, keys, k, t.seq, t.g, t.from, t.end);
    load_keys<DP, BN, THREADS, ALIGNED>(s, vs, v, t.seq, t.g, t.from, t.end);
    for (int key = t.from, stage = 0; key < t.end; key += BN, stage ^= 1) {
        bool more = key + BN < t.end;
        float x[MT][NT][4], d[MT][NT][4];
        async_wait();
        /* keys and values have arrived, the other keys have been read */
        __syncthreads();
        bool busy = key <= p1 && key + BN > first_keys[0];
        if (more)
            load_keys<DP, BN, THREADS, ALIGNED>(s, keys + (stage ^ 1) * BN * LD, k, t.seq, t.g,
                                                key + BN, t.end);
        if (busy) {
            rows_times_rows<MT, NT, DP / 16, LD>(x, qs + mine * LD, keys + stage * BN * LD);
            rows_times_rows<MT, NT, DP / 16, LD>(d, dos + mine * LD, vs);
        }
        __syncthreads(); /* values have been read */
        if (more)
            load_keys<DP, BN, THREADS, ALIGNED>(s, vs, v, t.seq, t.g, key + BN, t.end);
        if (!busy)
            continue;
        cap_scores(s.rule, x);
        if (!ALIGNED && s.alibi)
            add_positions(s, x, first_keys, t.g, row, key);
        if (s.rule.cap > 0)
            query_gradients<true>(s.rule, x, d, stats + mine + lane / 4);
        else
            query_gradients<false>(s.rule, x, d, stats + mine + lane / 4);
        if (key + BN - 1 > p0 || key < first_keys[16 * MT - 1])
            hide_keys(s, d, first_keys, row, key, t.end, 0);
        uint32_t weights[MT][NT / 2][4];
        to_fragments(weights, d);
        weights_times_rows<MT, DT, NT / 2, LD>(sums, weights, keys + stage * BN * LD);
    }
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        int r = row + i * 8 + lane / 4;
        if (r < s.rows)
            put_columns<DT, ALIGNED>(dq + row_at(s, t.seq, t.g, r), s.D, s.set_q, sums[i / 2],
                                     i % 2, s.scale);
    }
}

/* DH: columns of dk and dv that a block sums up; all of them, or side where registers do not
 * suffice. */
template <int DP> struct key_tiling {
    enum {
        DH = DP > 128 ? DP / 2 : DP,
        MT = DP > 64 ? 1 : 2,
        WARPS = DP > 128 ? 2 : 4,
        BN = 16 * MT * WARPS,
        ROWS = DP > 64 && DP <= 128 ? 64 : 32,
        LD = DP + 8
    };
};

template <bool CAPPED, int MT, int NT>
static __device__ __forceinline__ void key_gradients(const score_rule &rule, float (&x)[MT][NT][4],
                                                     float (&d)[MT][NT][4], const float2 *stats)
{
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float2 of_row = stats[n * 8 + (int)threadIdx.x % 4 * 2 + e];
#pragma unroll
            for (int m = 0; m < MT; m++) {
                score_gradient<CAPPED>(rule, x[m][n][e], d[m][n][e], of_row);
                score_gradient<CAPPED>(rule, x[m][n][e + 2], d[m][n][e + 2], of_row);
            }
        }
}

/* x, d: [16 MT, 8 NT] of keys from `key` on and rows from `row` on; zero where the row does not see
 * the key. first_keys: of the rows. */
template <int MT, int NT>
static __device__ __forceinline__ void hide_rows(const attention_shape &s, float (&x)[MT][NT][4],
                                                 float (&d)[MT][NT][4], const int *first_keys,
                                                 int key, int row)
{
    int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int i = n * 8 + lane % 4 * 2 + e % 2, p = row_position(s, row + i);
#pragma unroll
            for (int m = 0; m < MT; m++)
                if (!is_seen(p, first_keys[i], key + m * 16 + e / 2 * 8 + lane / 4))
                    x[m][n][e] = d[m][n][e] = 0;
        }
}

/* dv += p^T do, dk += scale ds^T q, for a tile of keys over all the rows that see them; everything
 * transposed, so that a warp owns its keys. Queries are double-buffered, since they are needed from
 * first to last. blockIdx.y: which columns. */
template <int DP, bool ALIGNED>
static __global__ void __launch_bounds__(key_tiling<DP>::WARPS *WARP)
    backward_keys(attention_shape s, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *dout,
                  const float2 *all_stats, bf16 *dk, bf16 *dv)
{
    typedef key_tiling<DP> F;
    enum {
        MT = F::MT,
        ROWS = F::ROWS,
        LD = F::LD,
        NT = ROWS / 8,
        DT = F::DH / 8,
        THREADS = F::WARPS * WARP
    };
    SHARED_DYNAMIC(bf16, ks);
    bf16 *vs = ks + F::BN * LD, *dos = vs + F::BN * LD, *queries = dos + ROWS * LD;
    float2 *stats = (float2 *)(queries + 2 * ROWS * LD);
    int *first_keys = (int *)(stats + 2 * ROWS);
    int item = (int)blockIdx.x % s.items, seq = item / s.kv_heads, g = item % s.kv_heads,
        first = (int)blockIdx.x / s.items * F::BN, from, end;
    int mine = (int)threadIdx.x / WARP * 16 * MT, key = first + mine,
        column = (int)blockIdx.y * F::DH;
    float dks[MT][DT][4], dvs[MT][DT][4];
    clear(dks);
    clear(dvs);
    rows_of_keys(s, seq, first, F::BN, &from, &end);
    load_keys<DP, F::BN, THREADS, ALIGNED>(s, ks, k, seq, g, first, s.offset + s.seq_len);
    load_keys<DP, F::BN, THREADS, ALIGNED>(s, vs, v, seq, g, first, s.offset + s.seq_len);
    load_rows<DP, ROWS, THREADS, ALIGNED>(s, queries, q, seq, g, from);
    load_rows<DP, ROWS, THREADS, ALIGNED>(s, dos, dout, seq, g, from);
    if (threadIdx.x < ROWS)
        stats[threadIdx.x] = row_stats2(s, all_stats, item, from + (int)threadIdx.x);
    load_first_keys<ROWS, THREADS>(s, first_keys, seq, from);
    for (int row = from, stage = 0; row < end; row += ROWS, stage ^= 1) {
        int p0 = row_position(s, row), p1 = row_position(s, min(row + ROWS, s.rows) - 1);
        const int *firsts = first_keys + stage * ROWS;
        bool more = row + ROWS < end;
        float x[MT][NT][4], d[MT][NT][4];
        uint32_t weights[MT][NT / 2][4];
        async_wait();
        /* rows have arrived, the queries before them have been read */
        __syncthreads();
        bool busy = key <= p1 && key + 16 * MT > firsts[0];
        if (more) {
            load_first_keys<ROWS, THREADS>(s, first_keys + (stage ^ 1) * ROWS, seq, row + ROWS);
            load_rows<DP, ROWS, THREADS, ALIGNED>(s, queries + (stage ^ 1) * ROWS * LD, q, seq, g,
                                                  row + ROWS);
            if (threadIdx.x < ROWS)
                stats[(stage ^ 1) * ROWS + threadIdx.x] = row_stats2(s, all_stats, item,
                                                                     row + ROWS + (int)threadIdx.x);
        }
        if (busy) {
            rows_times_rows<MT, NT, DP / 16, LD>(x, ks + mine * LD, queries + stage * ROWS * LD);
            rows_times_rows<MT, NT, DP / 16, LD>(d, vs + mine * LD, dos);
            cap_scores(s.rule, x);
            if (!ALIGNED && s.alibi)
                add_key_positions(s, x, firsts, g, row, key);
            if (s.rule.cap > 0)
                key_gradients<true>(s.rule, x, d, stats + stage * ROWS);
            else
                key_gradients<false>(s.rule, x, d, stats + stage * ROWS);
            if (key + 16 * MT - 1 > p0 || key < firsts[ROWS - 1])
                hide_rows(s, x, d, firsts, key, row);
            to_fragments(weights, x);
            if (dv)
                weights_times_rows<MT, DT, NT / 2, LD>(dvs, weights, dos + column);
        }
        __syncthreads(); /* do has been read */
        if (more)
            load_rows<DP, ROWS, THREADS, ALIGNED>(s, dos, dout, seq, g, row + ROWS);
        if (busy && dk) {
            to_fragments(weights, d);
            weights_times_rows<MT, DT, NT / 2, LD>(dks, weights,
                                                   queries + stage * ROWS * LD + column);
        }
    }
    async_wait();
#pragma unroll
    for (int i = 0; i < 2 * MT; i++) {
        int j = key + i * 8 + (int)threadIdx.x % WARP / 4;
        int64_t at = key_at(s, seq, g, j) + column;
        if (j >= s.offset + s.seq_len)
            continue;
        if (dk)
            put_columns<DT, ALIGNED>(dk + at, s.D - column, s.set_k, dks[i / 2], i % 2, s.scale);
        if (dv)
            put_columns<DT, ALIGNED>(dv + at, s.D - column, s.set_v, dvs[i / 2], i % 2, 1);
    }
}

/* ---- launches */

template <int DP, bool ALIGNED> static void launch_forward(const attention_launch *l)
{
    typedef forward_tiling<DP> F;
    const struct op_args *c = l->c;
    forward_output to = {(bf16 *)c->out.v, c->memo, l->splits > 1 ? l->parts : NULL};
    constexpr size_t shared = (F::ROWS + 2 * F::BN) * F::LD * sizeof(bf16) + F::ROWS * sizeof(int);
    static_assert(shared <= SHARED_MOST, "fits every card");
    LAUNCH(c, (forward<DP, ALIGNED>),
           dim3(blocks_of(l->s.rows, F::ROWS) * (unsigned)l->s.items, (unsigned)l->splits),
           F::WARPS * WARP, shared, l->s, (const bf16 *)c->in[0].v, (const bf16 *)c->in[1].v,
           (const bf16 *)c->in[2].v, to, l->splits);
}

template <int DP, bool ALIGNED> static void launch_backward(const attention_launch *l)
{
    typedef query_tiling<DP> Q;
    typedef key_tiling<DP> K;
    const struct op_args *c = l->c;
    const bf16 *q = (const bf16 *)c->in[0].v, *k = (const bf16 *)c->in[1].v,
               *v = (const bf16 *)c->in[2].v, *dout = (const bf16 *)(void *)c->out.g;
    bf16 *dq = (bf16 *)(void *)c->in[0].g, *dk = (bf16 *)(void *)c->in[1].g,
         *dv = (bf16 *)(void *)c->in[2].g;
    constexpr size_t queries = (2 * Q::ROWS + 3 * Q::BN) * Q::LD * sizeof(bf16) +
                               Q::ROWS * (sizeof(float2) + sizeof(int));
    constexpr size_t keys = (2 * K::BN + 3 * K::ROWS) * K::LD * sizeof(bf16) +
                            2 * K::ROWS * (sizeof(float2) + sizeof(int));
    static_assert(queries <= SHARED_MOST && keys <= SHARED_MOST, "fits every card");
    if (dq)
        LAUNCH(c, (backward_queries<DP, ALIGNED>),
               blocks_of(l->s.rows, Q::ROWS) * (unsigned)l->s.items, Q::WARPS * WARP, queries, l->s,
               q, k, v, dout, l->stats, dq);
    if (dk || dv)
        LAUNCH(
            c, (backward_keys<DP, ALIGNED>),
            dim3(blocks_of(l->s.offset + l->s.seq_len, K::BN) * (unsigned)l->s.items, DP / K::DH),
            K::WARPS * WARP, keys, l->s, q, k, v, dout, l->stats, dk, dv);
}

/* Operands that are not aligned have fewer sizes to choose from. */
#define BY_HEAD_SIZE(run) \
    do { \
        const int D = l->s.D, aligned = l->s.aligned; \
        if (aligned && D <= 32) \
            run<32, true>(l); \
        else if (aligned && D <= 64) \
            run<64, true>(l); \
        else if (aligned && D <= 96) \
            run<96, true>(l); \
        else if (aligned && D <= 128) \
            run<128, true>(l); \
        else if (aligned) \
            run<256, true>(l); \
        else if (D <= 64) \
            run<64, false>(l); \
        else if (D <= 128) \
            run<128, false>(l); \
        else \
            run<256, false>(l); \
    } while (0)

void attention_tensor_forward(const attention_launch *l) { BY_HEAD_SIZE(launch_forward); }
void attention_tensor_backward(const attention_launch *l) { BY_HEAD_SIZE(launch_backward); }
