/* attention in f32 with plain multiplications, for --compute f32: the same walk over tiles as
 * attention_tensor.cu. A block has 16 threads for each four rows (in the pass for dk and dv: keys);
 * a thread holds four rows of each product, its scores at every 16th column and its sums at four
 * columns of every 64. Tiles are [n, DP] floats, rows DP + 4 apart, zeros beyond the head size, and
 * cut so that a block takes at most SHARED_MOST. */
#include "attention.h"

template <int DP> struct plain_tiling {
    enum {
        ROWS = 4096 / DP,
        BN = DP > 128 ? 16 : 32,
        LD = DP + 4,
        LW = BN + 4,
        CT = BN / 16,
        DT = DP / 64,
        THREADS = ROWS * 4
    };
};

static __device__ __forceinline__ float4 float4_at(const float *p) { return *(const float4 *)p; }

static __device__ __forceinline__ float value_at(const float *p, int i, int n)
{
    return i < n ? p[i] : 0;
}

/* One row of a tile, by the 16 threads whose number `at` is; NULL: zeros. */
template <int DP>
static __device__ __forceinline__ void load_row(float *to, const float *from, int n, bool aligned,
                                                int at)
{
    for (int i = at * 4; i < DP; i += 64) {
        float4 v = make_float4(0, 0, 0, 0);
        if (from && aligned && i < n)
            v = float4_at(from + i);
        else if (from)
            v = make_float4(value_at(from, i, n), value_at(from, i + 1, n),
                            value_at(from, i + 2, n), value_at(from, i + 3, n));
        *(float4 *)(to + i) = v;
    }
}

template <int DP, int N>
static __device__ __forceinline__ void load_rows(const attention_shape &s, float *to,
                                                 const float *x, int seq, int g, int first)
{
    for (int i = (int)threadIdx.x / 16; i < N; i += plain_tiling<DP>::THREADS / 16)
        load_row<DP>(to + i * (DP + 4),
                     first + i < s.rows ? x + row_at(s, seq, g, first + i) : NULL, s.D, s.aligned,
                     (int)threadIdx.x % 16);
}

template <int DP, int N>
static __device__ __forceinline__ void load_keys(const attention_shape &s, float *to,
                                                 const float *x, int seq, int g, int first, int end)
{
    for (int i = (int)threadIdx.x / 16; i < N; i += plain_tiling<DP>::THREADS / 16)
        load_row<DP>(to + i * (DP + 4), first + i < end ? x + key_at(s, seq, g, first + i) : NULL,
                     s.D, s.aligned, (int)threadIdx.x % 16);
}

/* x = A B^T: the thread's four rows of tile a, every 16th of tile b. */
template <int DP, int CT>
static __device__ __forceinline__ void rows_times_rows(float (&x)[4][CT], const float *a,
                                                       const float *b)
{
    a += (int)threadIdx.x / 16 * 4 * (DP + 4);
    b += (int)threadIdx.x % 16 * (DP + 4);
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < CT; j++)
            x[i][j] = 0;
#pragma unroll 4
    for (int k = 0; k < DP; k += 4) {
        float4 other[CT];
#pragma unroll
        for (int j = 0; j < CT; j++)
            other[j] = float4_at(b + j * 16 * (DP + 4) + k);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float4 r = float4_at(a + i * (DP + 4) + k);
#pragma unroll
            for (int j = 0; j < CT; j++)
                x[i][j] += r.x * other[j].x + r.y * other[j].y + r.z * other[j].z +
                           r.w * other[j].w;
        }
    }
}

/* o += W B: the thread's four rows of the weights w [., BN], rows LW apart, and its columns of tile
 * b [BN, DP]. */
template <int DP>
static __device__ __forceinline__ void weights_times_rows(float (&o)[4][DP / 64][4], const float *w,
                                                          const float *b)
{
    typedef plain_tiling<DP> F;
    w += (int)threadIdx.x / 16 * 4 * F::LW;
    b += (int)threadIdx.x % 16 * 4;
#pragma unroll 2
    for (int k = 0; k < F::BN; k++)
#pragma unroll
        for (int d = 0; d < F::DT; d++) {
            float4 r = float4_at(b + k * F::LD + d * 64);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float f = w[i * F::LW + k];
                o[i][d][0] += f * r.x;
                o[i][d][1] += f * r.y;
                o[i][d][2] += f * r.z;
                o[i][d][3] += f * r.w;
            }
        }
}

/* The thread's part of weights to where the 16 threads of its rows read it. */
template <int DP, int CT>
static __device__ __forceinline__ void share_weights(float *w, const float (&x)[4][CT])
{
    w += (int)threadIdx.x / 16 * 4 * plain_tiling<DP>::LW + (int)threadIdx.x % 16;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < CT; j++)
            w[i * plain_tiling<DP>::LW + 16 * j] = x[i][j];
    __syncwarp();
}

static __device__ __forceinline__ float score_of(const attention_shape &s, float x)
{
    return s.cap > 0 ? s.cap * tanhf(s.scale * x / s.cap) : s.scale * x;
}

/* A product with what is due to the key's position: `place` keys are before it. */
static __device__ __forceinline__ float with_position(const attention_shape &s, float x,
                                                      float slope, int place)
{
    return s.alibi ? x + alibi_bias(slope, place) : x;
}

/* Sum or maximum over the 16 threads of a row. */
static __device__ __forceinline__ float row_sum(float v)
{
    for (int bits = 8; bits; bits /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}

static __device__ __forceinline__ float row_max(float v)
{
    for (int bits = 8; bits; bits /= 2)
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, bits));
    return v;
}

/* ---- forward */

struct plain_softmax {
    float max[4], sum[4];
};

/* Scores of keys from `key` on become weights relative to the new maxima; sums and o are rescaled
 * to them. */
template <int DP, int CT>
static __device__ __forceinline__ void softmax_step(const attention_shape &s, float (&x)[4][CT],
                                                    plain_softmax &state, float (&o)[4][DP / 64][4],
                                                    int seq, int g, int first, int key, int end)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int p = row_position(s, first + i), from = first_key(s, seq, first + i);
        float old = state.max[i], max = old, sum = 0, slope = row_slope(s, g, first + i);
#pragma unroll
        for (int j = 0; j < CT; j++) {
            int at = key + (int)threadIdx.x % 16 + 16 * j;
            x[i][j] = with_position(s, x[i][j], slope, at - from);
            x[i][j] = at < end && is_seen(p, from, at) ? score_of(s, x[i][j]) : -INFINITY;
            max = fmaxf(max, x[i][j]);
        }
        max = row_max(max);
        float shift = max == -INFINITY ? 0 : max, rescale = expf(old - shift);
#pragma unroll
        for (int j = 0; j < CT; j++)
            sum += x[i][j] = expf(x[i][j] - shift);
        state.max[i] = max;
        state.sum[i] = state.sum[i] * rescale + sum;
#pragma unroll
        for (int d = 0; d < DP / 64; d++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                o[i][d][e] *= rescale;
    }
}

struct plain_output {
    float *out, *memo, *parts;
};

template <int DP>
static __device__ __forceinline__ void put_output(const attention_shape &s, const plain_output &to,
                                                  const row_tile &t, int r,
                                                  const float (&o)[DP / 64][4], float max,
                                                  float sum)
{
    float *row = to.parts ? part_of(s, to.parts, (int)blockIdx.y, t.item, r)
                          : to.out + row_at(s, t.seq, t.g, r),
          factor = to.parts ? 1 : 1 / sum;
    int column = (int)threadIdx.x % 16 * 4;
#pragma unroll
    for (int d = 0; d < DP / 64; d++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (d * 64 + column + e < s.D)
                row[d * 64 + column + e] = o[d][e] * factor;
    if (column == 0 && to.parts) {
        row[s.D] = max;
        row[s.D + 1] = sum;
    } else if (column == 0 && to.memo) {
        to.memo[memo_at(s, t.seq, t.g, r)] = max + logf(sum);
    }
}

template <int DP>
static __global__ void __launch_bounds__(plain_tiling<DP>::THREADS)
    forward(attention_shape s, const float *q, const float *k, const float *v, plain_output to,
            int splits)
{
    typedef plain_tiling<DP> F;
    SHARED_DYNAMIC(float, qs);
    float *ks = qs + F::ROWS * F::LD, *vs = ks + F::BN * F::LD, *ws = vs + F::BN * F::LD;
    read_offset(&s);
    row_tile t = row_tile_of(s, F::ROWS);
    if (splits > 1)
        split_keys(&t, splits, F::BN);
    int first = t.first + (int)threadIdx.x / 16 * 4;
    plain_softmax state;
    float o[4][F::DT][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        state.max[i] = -INFINITY;
        state.sum[i] = 0;
    }
    load_rows<DP, F::ROWS>(s, qs, q, t.seq, t.g, t.first);
    for (int key = t.from; key < t.end; key += F::BN) {
        float x[4][F::CT];
        __syncthreads();
        load_keys<DP, F::BN>(s, ks, k, t.seq, t.g, key, t.end);
        load_keys<DP, F::BN>(s, vs, v, t.seq, t.g, key, t.end);
        __syncthreads();
        rows_times_rows<DP>(x, qs, ks);
        softmax_step<DP>(s, x, state, o, t.seq, t.g, first, key, t.end);
        share_weights<DP>(ws, x);
        weights_times_rows<DP>(o, ws, vs);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float sum = row_sum(state.sum[i]);
        if (first + i < s.rows)
            put_output<DP>(s, to, t, first + i, o[i], state.max[i], sum);
    }
}

/* ---- backward */

/* In: x scores before scale and cap, d = do v^T. Out: x probability, d gradient of the score before
 * scale and cap. */
static __device__ __forceinline__ void score_gradient(const attention_shape &s, float &x, float &d,
                                                      float2 stats, bool seen)
{
    float score = score_of(s, x), y = s.cap > 0 ? score / s.cap : 0;
    x = seen ? expf(score - stats.x) : 0;
    d = seen ? x * (d - stats.y) * (1 - y * y) : 0;
}

template <int DP>
static __device__ __forceinline__ void put_columns(float *row, int n, bool set,
                                                   const float (&sums)[DP / 64][4], float factor)
{
#pragma unroll
    for (int d = 0; d < DP / 64; d++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int i = d * 64 + (int)threadIdx.x % 16 * 4 + e;
            if (i < n)
                row[i] = (set ? 0 : row[i]) + factor * sums[d][e];
        }
}

template <int DP>
static __global__ void __launch_bounds__(plain_tiling<DP>::THREADS)
    backward_queries(attention_shape s, const float *q, const float *k, const float *v,
                     const float *dout, const float2 *all_stats, float *dq)
{
    typedef plain_tiling<DP> F;
    SHARED_DYNAMIC(float, qs);
    float *dos = qs + F::ROWS * F::LD, *ks = dos + F::ROWS * F::LD, *vs = ks + F::BN * F::LD,
          *ws = vs + F::BN * F::LD;
    row_tile t = row_tile_of(s, F::ROWS);
    int first = t.first + (int)threadIdx.x / 16 * 4;
    float2 stats[4];
    float sums[4][F::DT][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++)
        stats[i] = row_stats(s, all_stats, t.item, first + i);
    load_rows<DP, F::ROWS>(s, qs, q, t.seq, t.g, t.first);
    load_rows<DP, F::ROWS>(s, dos, dout, t.seq, t.g, t.first);
    for (int key = t.from; key < t.end; key += F::BN) {
        float x[4][F::CT], d[4][F::CT];
        __syncthreads();
        load_keys<DP, F::BN>(s, ks, k, t.seq, t.g, key, t.end);
        load_keys<DP, F::BN>(s, vs, v, t.seq, t.g, key, t.end);
        __syncthreads();
        rows_times_rows<DP>(x, qs, ks);
        rows_times_rows<DP>(d, dos, vs);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int p = row_position(s, first + i), from = first_key(s, t.seq, first + i);
            float slope = row_slope(s, t.g, first + i);
#pragma unroll
            for (int j = 0; j < F::CT; j++) {
                int at = key + (int)threadIdx.x % 16 + 16 * j;
                x[i][j] = with_position(s, x[i][j], slope, at - from);
                score_gradient(s, x[i][j], d[i][j], stats[i], at < t.end && is_seen(p, from, at));
            }
        }
        share_weights<DP>(ws, d);
        weights_times_rows<DP>(sums, ws, ks);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (first + i < s.rows)
            put_columns<DP>(dq + row_at(s, t.seq, t.g, first + i), s.D, s.set_q, sums[i], s.scale);
}

/* Transposed: the thread's four are keys, the tiles that are walked over are rows. */
template <int DP>
static __global__ void __launch_bounds__(plain_tiling<DP>::THREADS)
    backward_keys(attention_shape s, const float *q, const float *k, const float *v,
                  const float *dout, const float2 *all_stats, float *dk, float *dv)
{
    typedef plain_tiling<DP> F;
    SHARED_DYNAMIC(float, ks);
    float *vs = ks + F::ROWS * F::LD, *qs = vs + F::ROWS * F::LD, *dos = qs + F::BN * F::LD,
          *ws = dos + F::BN * F::LD;
    int item = (int)blockIdx.x % s.items, seq = item / s.kv_heads, g = item % s.kv_heads,
        tile = (int)blockIdx.x / s.items * F::ROWS, from, end;
    int first = tile + (int)threadIdx.x / 16 * 4, keys = s.offset + s.seq_len;
    float dks[4][F::DT][4] = {}, dvs[4][F::DT][4] = {};
    rows_of_keys(s, seq, tile, F::ROWS, &from, &end);
    load_keys<DP, F::ROWS>(s, ks, k, seq, g, tile, keys);
    load_keys<DP, F::ROWS>(s, vs, v, seq, g, tile, keys);
    for (int row = from; row < end; row += F::BN) {
        float x[4][F::CT], d[4][F::CT];
        __syncthreads();
        load_rows<DP, F::BN>(s, qs, q, seq, g, row);
        load_rows<DP, F::BN>(s, dos, dout, seq, g, row);
        __syncthreads();
        rows_times_rows<DP>(x, ks, qs);
        rows_times_rows<DP>(d, vs, dos);
#pragma unroll
        for (int j = 0; j < F::CT; j++) {
            int r = row + (int)threadIdx.x % 16 + 16 * j;
            int p = row_position(s, r), from = first_key(s, seq, r);
            float2 stats = row_stats(s, all_stats, item, r);
            float slope = row_slope(s, g, r);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i][j] = with_position(s, x[i][j], slope, first + i - from);
                score_gradient(s, x[i][j], d[i][j], stats, is_seen(p, from, first + i));
            }
        }
        share_weights<DP>(ws, x);
        if (dv)
            weights_times_rows<DP>(dvs, ws, dos);
        share_weights<DP>(ws, d);
        if (dk)
            weights_times_rows<DP>(dks, ws, qs);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t at = key_at(s, seq, g, first + i);
        if (first + i < keys && dk)
            put_columns<DP>(dk + at, s.D, s.set_k, dks[i], s.scale);
        if (first + i < keys && dv)
            put_columns<DP>(dv + at, s.D, s.set_v, dvs[i], 1);
    }
}

/* ---- launches */

template <int DP> static void launch_forward(const attention_launch *l)
{
    typedef plain_tiling<DP> F;
    const struct op_args *c = l->c;
    plain_output to = {(float *)c->out.v, c->memo, l->splits > 1 ? l->parts : NULL};
    constexpr size_t shared = ((F::ROWS + 2 * F::BN) * F::LD + F::ROWS * F::LW) * sizeof(float);
    static_assert(shared <= SHARED_MOST, "fits every card");
    LAUNCH(c, forward<DP>,
           dim3(blocks_of(l->s.rows, F::ROWS) * (unsigned)l->s.items, (unsigned)l->splits),
           F::THREADS, shared, l->s, (const float *)c->in[0].v, (const float *)c->in[1].v,
           (const float *)c->in[2].v, to, l->splits);
}

template <int DP> static void launch_backward(const attention_launch *l)
{
    typedef plain_tiling<DP> F;
    const struct op_args *c = l->c;
    const float *q = (const float *)c->in[0].v, *k = (const float *)c->in[1].v,
                *v = (const float *)c->in[2].v;
    constexpr size_t shared = (2 * (F::ROWS + F::BN) * F::LD + F::ROWS * F::LW) * sizeof(float);
    static_assert(shared <= SHARED_MOST, "fits every card");
    unsigned items = (unsigned)l->s.items;
    if (c->in[0].g)
        LAUNCH(c, backward_queries<DP>, blocks_of(l->s.rows, F::ROWS) * items, F::THREADS, shared,
               l->s, q, k, v, c->out.g, l->stats, c->in[0].g);
    if (c->in[1].g || c->in[2].g)
        LAUNCH(c, backward_keys<DP>, blocks_of(l->s.offset + l->s.seq_len, F::ROWS) * items,
               F::THREADS, shared, l->s, q, k, v, c->out.g, l->stats, c->in[1].g, c->in[2].g);
}

#define BY_HEAD_SIZE(run) \
    do { \
        if (l->s.D <= 64) \
            run<64>(l); \
        else if (l->s.D <= 128) \
            run<128>(l); \
        else \
            run<256>(l); \
    } while (0)

void attention_plain_forward(const attention_launch *l) { BY_HEAD_SIZE(launch_forward); }
void attention_plain_backward(const attention_launch *l) { BY_HEAD_SIZE(launch_backward); }
