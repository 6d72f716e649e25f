/* attention on CUDA: see kernels/cpu/attention.c for formulas and shapes. Here: the shape of a
 * call, its scratch, and the two small kernels around the large ones of attention_tensor.cu (bf16)
 * and attention_plain.cu (f32).
 *
 * Generation with few rows splits the keys over blocks, each with its own softmax, whose sums a
 * last kernel joins. Refuses head sizes above 256, and sequences of more than 2^31 / group^2
 * tokens. */
#include "attention.h"

enum { HEAD_MOST = 256, ROWS_FEW = 64, SPLITS_MOST = 32, WARPS = 4 };

static int pieces_of(int64_t keys)
{
    return (int)min((keys + KEY_PIECE - 1) / KEY_PIECE, (int64_t)SPLITS_MOST);
}

/* The number of pieces into which a call splits its keys. */
static int splits_of(const struct op_args *c)
{
    const struct attention_params *a = &c->p.attention;
    const struct batch *b = c->batch;
    if (b->kv_len <= 0 || b->seq_len * (a->heads / a->kv_heads) > ROWS_FEW)
        return 1;
    return pieces_of(b->pos0 + b->seq_len);
}

/* Forward: the pieces of a split; backward: two floats a row and head. A call does one of them. A
 * call that is too long to be split plans for the shorter ones that will be. */
static size_t attention_scratch(const struct op_args *c)
{
    const struct attention_params *a = &c->p.attention;
    const struct batch *b = c->batch;
    int64_t few = min(b->seq_len, ROWS_FEW / (a->heads / a->kv_heads));
    int64_t parts = 0, stats = 2 * c->rows * a->heads;
    if (b->kv_len > KEY_PIECE)
        parts = pieces_of(b->kv_len) * b->n_seq * few * a->heads * (a->head_dim + 2);
    return (size_t)max(parts, stats) * sizeof(float);
}

static attention_shape shape_of(const struct op_args *c)
{
    const struct attention_params *a = &c->p.attention;
    const struct batch *b = c->batch;
    attention_shape s = {};
    s.heads = (int)a->heads;
    s.kv_heads = (int)a->kv_heads;
    s.group = s.heads / s.kv_heads;
    s.D = (int)a->head_dim;
    s.window = (int)a->window;
    s.seq_len = (int)b->seq_len;
    s.kv_rows = (int)(b->kv_len > 0 ? b->kv_len : b->seq_len);
    s.offset = b->kv_len > 0 ? (int)b->pos0 : 0;
    s.offset_there = b->kv_len > 0 ? b->pos0_there : NULL;
    s.starts = b->starts;
    s.rows = s.seq_len * s.group;
    s.group_inverse = (1u << 31) / (unsigned)s.group + ((1u << 31) % (unsigned)s.group > 0);
    s.ldq = s.heads * s.D;
    s.ldk = s.kv_heads * s.D;
    s.scale = a->scale;
    s.cap = a->cap;
    s.rule = {LOG2_E * s.scale, 0, 0, 0};
    if (s.cap > 0)
        s.rule = {LOG2_E, 2 * LOG2_E * s.scale / s.cap, s.cap, 1 / s.cap};
    s.set_q = c->in[0].overwrite;
    s.set_k = c->in[1].overwrite;
    s.set_v = c->in[2].overwrite;
    s.alibi = a->alibi;
    s.items = (int)(b->n_seq * a->kv_heads);
    s.aligned = a->head_dim % (c->out.dtype == DT_BF16 ? 8 : 4) == 0 && !a->alibi;
    const void *all[] = {c->in[0].v, c->in[1].v, c->in[2].v, c->out.v,
                         c->in[0].g, c->in[1].g, c->in[2].g, c->out.g};
    for (const void *p : all)
        s.aligned = s.aligned && aligned16(p);
    return s;
}

static int attention_check(const struct op_args *c, struct err *e)
{
    const struct attention_params *a = &c->p.attention;
    int64_t group = a->heads / a->kv_heads, most = INT32_MAX / (group * group);
    if (a->head_dim > HEAD_MOST)
        return err_set(e, "attention on CUDA takes heads of at most %d channels, not %lld",
                       HEAD_MOST, (long long)a->head_dim);
    if (c->batch->seq_len > most) /* where group_inverse stops being exact */
        return err_set(e,
                       "attention on CUDA takes sequences of at most %lld tokens with %lld query "
                       "heads a KV head, not %lld",
                       (long long)most, (long long)group, (long long)c->batch->seq_len);
    return 0;
}

/* One warp a row and head. */
template <class T>
static __global__ void join_parts(attention_shape s, float *parts, int splits, T *out, float *memo)
{
    int i = (int)blockIdx.x * WARPS + (int)threadIdx.x / WARP, item = i / s.rows, r = i % s.rows,
        seq = item / s.kv_heads, g = item % s.kv_heads;
    if (item >= s.items)
        return;
    float max = -INFINITY, sum = 0;
    for (int j = 0; j < splits; j++)
        max = fmaxf(max, part_of(s, parts, j, item, r)[s.D]);
    for (int j = 0; j < splits; j++)
        sum += part_of(s, parts, j, item, r)[s.D + 1] *
               expf(part_of(s, parts, j, item, r)[s.D] - max);
    for (int d = (int)threadIdx.x % WARP; d < s.D; d += WARP) {
        float o = 0;
        for (int j = 0; j < splits; j++)
            o += part_of(s, parts, j, item, r)[d] * expf(part_of(s, parts, j, item, r)[s.D] - max);
        out[row_at(s, seq, g, r) + d] = narrow<T>(o / sum);
    }
    if (memo && threadIdx.x % WARP == 0)
        memo[memo_at(s, seq, g, r)] = max + logf(sum);
}

/* delta = sum of do * o for each row of heads, in the order of memory: `lanes` threads share a row,
 * 16 bytes of bf16 at a time. */
template <class T>
static __global__ void __launch_bounds__(WARPS *WARP)
    row_stats_kernel(attention_shape s, int lanes, int64_t count, const T *out, const T *dout,
                     const float *memo, float2 *stats)
{
    enum { N = 8 };
    int64_t j = (int64_t)blockIdx.x * (WARPS * WARP / lanes) + (int)threadIdx.x / lanes;
    float delta = 0, a[N], b[N];
    out += j * s.D;
    dout += j * s.D;
    for (int d = (int)threadIdx.x % lanes * N; j < count && d < s.D; d += lanes * N) {
        if (s.aligned && d + N <= s.D) {
            load(out + d, a);
            load(dout + d, b);
        } else {
            for (int k = 0; k < N; k++) {
                a[k] = d + k < s.D ? widen(out[d + k]) : 0;
                b[k] = d + k < s.D ? widen(dout[d + k]) : 0;
            }
        }
#pragma unroll
        for (int k = 0; k < N; k++)
            delta += a[k] * b[k];
    }
    for (int bits = lanes / 2; bits; bits /= 2)
        delta += __shfl_xor_sync(ALL_LANES, delta, bits);
    if (j >= count || threadIdx.x % lanes)
        return;
    entry at = entry_of(j, s.heads), token = entry_of(at.row, s.seq_len);
    int h = (int)at.column, g = h / s.group;
    stats[(token.row * s.kv_heads + g) * s.rows + token.column * s.group + h - g * s.group] =
        make_float2(memo[j], delta);
}

static void launch_row_stats(const attention_launch *l)
{
    const struct op_args *c = l->c;
    int lanes = 8;
    while (lanes < WARP && lanes * 8 < l->s.D)
        lanes *= 2;
    int64_t count = c->rows * l->s.heads;
    BY_DTYPE(c->out.dtype, T,
             LAUNCH(c, row_stats_kernel<T>, blocks_of(count * lanes, WARPS * WARP), WARPS * WARP, 0,
                    l->s, lanes, count, (const T *)c->out.v, (const T *)(void *)c->out.g, c->memo,
                    (float2 *)c->scratch));
}

static void attention_fwd(const struct op_args *c)
{
    if (c->rows <= 0)
        return;
    attention_launch l = {c, shape_of(c), 1, (float *)c->scratch, NULL};
    l.splits = splits_of(c);
    (c->out.dtype == DT_BF16 ? attention_tensor_forward : attention_plain_forward)(&l);
    if (l.splits > 1)
        BY_DTYPE(c->out.dtype, T,
                 LAUNCH(c, join_parts<T>, blocks_of((int64_t)l.s.items * l.s.rows, WARPS),
                        WARPS * WARP, 0, l.s, l.parts, l.splits, (T *)c->out.v, c->memo));
    launched(c, "attention forward");
}

/* Gradients, to be overwritten, of keys that no query can see. */
static void zero_unseen(const struct op_args *c, const attention_shape *s)
{
    for (int i = 1; i < OP_INPUTS && s->kv_rows > s->offset + s->seq_len; i++)
        if (c->in[i].g && c->in[i].overwrite)
            exec_zero(c->x, c->in[i].g,
                      (size_t)dtype_bytes(c->in[i].dtype, c->in[i].rows * c->in[i].cols));
}

static void attention_bwd(const struct op_args *c)
{
    if (c->rows <= 0 || !(c->in[0].g || c->in[1].g || c->in[2].g))
        return;
    attention_launch l = {c, shape_of(c), 1, NULL, (const float2 *)c->scratch};
    zero_unseen(c, &l.s);
    launch_row_stats(&l);
    (c->out.dtype == DT_BF16 ? attention_tensor_backward : attention_plain_backward)(&l);
    launched(c, "attention backward");
}

const struct kernel attention_cuda = {.forward = attention_fwd,
                                      .backward = attention_bwd,
                                      .scratch = attention_scratch,
                                      .check = attention_check,
                                      .sets = 1};
