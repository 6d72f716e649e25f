/* Shared by the kernels of attention: how queries are packed into rows, which keys a row sees, the
 * arguments of a launch.
 *
 * All query heads that share a kv head are treated together: row r of (sequence, kv head) is query
 * r / group of head g * group + r % group, so that keys and values are read once for the group, one
 * token's few rows fill a tile in generation, and dk, dv need no sum over heads. */
#ifndef PARE_CUDA_ATTENTION_H
#define PARE_CUDA_ATTENTION_H

#include <limits.h>

#include "cuda.h"

#define FORMULA static __device__ __forceinline__
#include "../alibi.h"

/* Weights are 2^(factor * x): x is the product of query and key or, with a cap, cap * tanh(scale *
 * product / cap) = cap * tanh(inner * product / (2 log2 e)). slope: 1 / cap. */
struct score_rule {
    float factor, inner, cap, slope;
};

struct attention_shape {
    int heads, kv_heads, group, D, window;
    /* query j sees keys up to offset + j of the sequence's kv_rows; rows = seq_len * group */
    int seq_len, kv_rows, offset, rows;
    const int32_t *offset_there; /* read in place of `offset` by forward, or NULL */
    unsigned group_inverse;      /* r / group = high half of 2 r * inverse */
    const int32_t *starts;       /* of the batch, or NULL */
    int ldq, ldk;                /* row strides of q and k */
    float scale, cap;            /* scale > 0 */
    score_rule rule;
    int items;                /* sequences * kv heads */
    bool set_q, set_k, set_v; /* gradients: set, not added to */
    bool alibi;
    /* rows of every operand start at 16 bytes and hold whole 16 bytes, and there is no ALiBi: the
     * kernels for this common case have no registers to spare */
    bool aligned;
};

static __device__ __forceinline__ void read_offset(attention_shape *s)
{
    if (s->offset_there)
        s->offset = *s->offset_there;
}

/* A tile's share of the work: rows first .. first + n - 1 of sequence seq and kv head g, which see
 * keys from .. end - 1 at most. */
struct row_tile {
    int item, seq, g, first, from, end;
};

static __device__ __forceinline__ int row_token(const attention_shape &s, int r)
{
    return (int)(((uint64_t)(2 * (unsigned)r) * s.group_inverse) >> 32);
}

/* ALiBi: of row r, a query of one of the heads of kv head g; there is no window then, so that
 * positions count from a row's first key. */
static __device__ __forceinline__ float row_slope(const attention_shape &s, int g, int r)
{
    return alibi_slope(g * s.group + r - row_token(s, r) * s.group, s.heads);
}

static __device__ __forceinline__ int row_position(const attention_shape &s, int r)
{
    return s.offset + row_token(s, r);
}

/* The first key that row r of sequence seq sees: later for later rows; none for rows beyond the
 * last. */
static __device__ __forceinline__ int first_key(const attention_shape &s, int seq, int r)
{
    if (r >= s.rows)
        return INT_MAX;
    int t = row_token(s, r), start = s.starts ? s.starts[seq * s.seq_len + t] : 0;
    return s.window > 0 ? max(start, s.offset + t - s.window + 1) : start;
}

/* Index of the first value of row r in q, and of its log-sum-exp in memo. */
static __device__ __forceinline__ int64_t row_at(const attention_shape &s, int seq, int g, int r)
{
    int t = row_token(s, r);
    return (int64_t)(seq * s.seq_len + t) * s.ldq + (int64_t)(g * s.group + r - t * s.group) * s.D;
}

static __device__ __forceinline__ int64_t memo_at(const attention_shape &s, int seq, int g, int r)
{
    int t = row_token(s, r);
    return (int64_t)(seq * s.seq_len + t) * s.heads + g * s.group + r - t * s.group;
}

static __device__ __forceinline__ int64_t key_at(const attention_shape &s, int seq, int g, int key)
{
    return (int64_t)(seq * s.kv_rows + key) * s.ldk + (int64_t)g * s.D;
}

/* Tiles of n rows; blocks are dealt last tile first, since it sees most keys, and heads side by
 * side. */
static __device__ __forceinline__ row_tile row_tile_of(const attention_shape &s, int n)
{
    int tiles = (s.rows + n - 1) / n, item = (int)blockIdx.x % s.items;
    row_tile t = {
        item, item / s.kv_heads, item % s.kv_heads, (tiles - 1 - (int)blockIdx.x / s.items) * n, 0,
        0};
    t.from = first_key(s, t.seq, t.first);
    t.end = row_position(s, min(t.first + n, s.rows) - 1) + 1;
    return t;
}

/* blockIdx.y's piece of the keys, whole tiles of n but for the last; maybe none. */
static __device__ __forceinline__ void split_keys(row_tile *t, int splits, int n)
{
    int each = ((t->end - t->from + splits - 1) / splits + n - 1) / n * n;
    t->from += (int)blockIdx.y * each;
    t->end = min(t->end, t->from + each);
}

/* Does the row at place p see the key, if it sees none before `first`? */
static __device__ __forceinline__ bool is_seen(int p, int first, int key)
{
    return key <= p && key >= first;
}

/* The first token of a sequence whose document starts after a key; seq_len: none. */
static __device__ __forceinline__ int next_document(const attention_shape &s, int seq, int key)
{
    const int32_t *starts = s.starts + seq * s.seq_len;
    int end = s.seq_len;
    for (int low = max(0, key + 1 - s.offset); low < end;) {
        int middle = low + (end - low) / 2;
        if (starts[middle] > key)
            end = middle;
        else
            low = middle + 1;
    }
    return end;
}

/* The rows that see any of the keys first .. first + n - 1: *from .. *end - 1. */
static __device__ __forceinline__ void rows_of_keys(const attention_shape &s, int seq, int first,
                                                    int n, int *from, int *end)
{
    int last = first + n - 1, token_end = s.starts ? next_document(s, seq, last) : s.seq_len;
    if (s.window > 0)
        token_end = min(token_end, last + s.window - s.offset);
    *from = max(0, first - s.offset) * s.group;
    *end = token_end * s.group;
}

/* What backward needs of a row, packed like the rows: log-sum-exp, and delta = sum of do * o. */
static __device__ __forceinline__ float2 row_stats(const attention_shape &s, const float2 *stats,
                                                   int item, int r)
{
    return r < s.rows ? stats[(int64_t)item * s.rows + r] : make_float2(INFINITY, 0);
}

/* A piece of generation's keys, summed up on its own: [splits, items, rows] of D sums, their
 * maximum and the sum of weights. */
static __device__ __forceinline__ float *part_of(const attention_shape &s, float *parts, int split,
                                                 int item, int r)
{
    return parts + (((int64_t)split * s.items + item) * s.rows + r) * (s.D + 2);
}

/* What a launch needs; `parts` where splits > 1, `stats` backward only. */
struct attention_launch {
    const struct op_args *c;
    attention_shape s;
    int splits;
    float *parts;
    const float2 *stats;
};
/* bf16, attention_tensor.cu */
void attention_tensor_forward(const struct attention_launch *l);
void attention_tensor_backward(const struct attention_launch *l);
/* f32, attention_plain.cu */
void attention_plain_forward(const struct attention_launch *l);
void attention_plain_backward(const struct attention_launch *l);

#endif
