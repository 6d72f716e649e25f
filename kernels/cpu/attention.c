/* attention: causal, grouped, windowed, blocked. in q[T,H*D], k[.,K*D], v[.,K*D] -> out [T,H*D];
 * memo: log-sum-exp of the scores, [T,H].
 *
 * score(t, j) = cap(scale * q_t . k_j), cap(s) = cap * tanh(s / cap) where a cap is set; or with
 * ALiBi scale * (q_t . k_j + slope * j), j counted from the start of the document. A query at
 * place p sees keys p - window + 1 .. p, those before the start of its document excepted. Forward
 * is the online softmax (Milakov and Gimelshein 2018; Dao et al. 2022, algorithm 1): a block of
 * queries of all heads that share a kv head is packed as R rows, runs over blocks of KEYS keys and
 * keeps a running maximum and sum a row, so no T x T matrix exists and blocks that no query sees
 * are skipped. Backward recomputes probabilities from the log-sum-exp; with delta = rowsum(do * o):
 * dv = P^T do, ds = P (do v^T - delta) cap', dq = scale ds k, dk = scale ds^T q.
 *
 * Forward work is split over sequence, kv head and query block. Backward work is split over
 * sequence, kv head and, where these are fewer than the threads, over interleaved query blocks with
 * their own dk and dv, summed in order: same number of threads, same bits. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "vecmath.h"

#define FORMULA static inline
#include "../alibi.h"

enum { ROWS = 192, QUERIES_MIN = 16, QUERIES_MAX = 64, KEYS = 128, DIRECT_ROWS = 8 };
/* below every score; finite, so that differences stay numbers */
static const float LOWEST = -1e30f;

struct shape {
    const struct attention_params *a;
    int64_t group, D, ldq, ldk; /* query heads a kv head; row strides of q and k */
    /* query j of a sequence sees keys up to offset + j of the sequence's kv_rows */
    int64_t seq_len, offset, kv_rows;
    const int32_t *starts; /* of the batch, or NULL */
    int64_t block, blocks; /* queries a block, blocks a sequence */
};

struct tile {                             /* one thread's scratch: R = group * queries rows */
    float *q, *x, *y, *s, *d, *m, *l, *c; /* q x y [R,D], s d [R,KEYS], m l c [R] */
};

/* queries t0 .. t0 + n - 1 of sequence `seq`, heads g * group ... of kv head g */
struct block {
    int64_t seq, g, t0, n, rows, first_key, end_key;
};

/* Enough rows for a fast matrix product, and few enough queries to waste little above the
 * diagonal. */
static int64_t block_queries(int64_t group)
{
    return min64(QUERIES_MAX, max64(QUERIES_MIN, ROWS / group));
}

static struct shape shape_of(const struct op_args *c)
{
    const struct attention_params *a = &c->p.attention;
    const struct batch *b = c->batch;
    struct shape s = {.a = a, .group = a->heads / a->kv_heads, .D = a->head_dim};
    s.ldq = a->heads * s.D;
    s.ldk = a->kv_heads * s.D;
    s.seq_len = b->seq_len;
    s.kv_rows = b->kv_len > 0 ? b->kv_len : b->seq_len;
    s.offset = b->kv_len > 0 ? b->pos0 : 0;
    s.starts = b->starts;
    s.block = min64(block_queries(s.group), s.seq_len);
    s.blocks = (s.seq_len + s.block - 1) / s.block;
    return s;
}

static size_t tile_floats(int64_t group, int64_t D)
{
    size_t rows = (size_t)(block_queries(group) * group);
    return (rows * (size_t)(3 * D + 2 * KEYS + 3) + 15) & ~(size_t)15;
}

/* The number of parts into which the backward work of a kv head is split, so that all threads have
 * work. Each part but the first sums its own dk and dv. */
static int64_t part_count(const struct op_args *c)
{
    int64_t threads = c->x->threads, K = c->p.attention.kv_heads;
    return max64(1, min64(4, (2 * threads + K - 1) / K));
}

static size_t attention_scratch(const struct op_args *c)
{
    const struct attention_params *a = &c->p.attention;
    size_t tiles = (size_t)c->x->threads * tile_floats(a->heads / a->kv_heads, a->head_dim);
    return 4 * (tiles + (size_t)(part_count(c) - 1) * 2 *
                            (size_t)(c->in[1].rows * a->kv_heads * a->head_dim));
}

static struct tile tile_of(const struct op_args *c, const struct shape *s)
{
    int64_t R = block_queries(s->group) * s->group;
    float *p = (float *)c->scratch + (size_t)omp_get_thread_num() * tile_floats(s->group, s->D);
    struct tile t = {.q = p, .x = p + R * s->D, .y = p + 2 * R * s->D};
    t.s = p + 3 * R * s->D;
    t.d = t.s + R * KEYS;
    t.m = t.d + R * KEYS;
    t.l = t.m + R;
    t.c = t.l + R;
    return t;
}

/* The first key that query t of a sequence sees: later for later queries. */
static int64_t first_key(const struct shape *s, int64_t seq, int64_t t)
{
    int64_t start = s->starts ? s->starts[seq * s->seq_len + t] : 0;
    return s->a->window > 0 ? max64(start, s->offset + t - s->a->window + 1) : start;
}

static struct block block_of(const struct shape *s, int64_t seq, int64_t g, int64_t i)
{
    struct block b = {.seq = seq, .g = g, .t0 = i * s->block};
    b.n = min64(s->block, s->seq_len - b.t0);
    b.rows = b.n * s->group;
    b.end_key = s->offset + b.t0 + b.n;
    b.first_key = first_key(s, seq, b.t0);
    return b;
}

/* Row r of a block is query t0 + r % n of head g * group + r / n. */
static const float *query_row(const struct shape *s, const struct block *b, const float *x,
                              int64_t r)
{
    return x + (b->seq * s->seq_len + b->t0 + r % b->n) * s->ldq +
           (b->g * s->group + r / b->n) * s->D;
}

static int64_t memo_index(const struct shape *s, const struct block *b, int64_t r)
{
    return (b->seq * s->seq_len + b->t0 + r % b->n) * s->a->heads + b->g * s->group + r / b->n;
}

static const float *key_row(const struct shape *s, const struct block *b, const void *x,
                            int64_t key)
{
    return (const float *)x + (b->seq * s->kv_rows + key) * s->ldk + b->g * s->D;
}

static void pack_rows(const struct shape *s, const struct block *b, const float *x, float scale,
                      float *restrict to)
{
    for (int64_t r = 0; r < b->rows; r++) {
        const float *from = query_row(s, b, x, r);
        for (int64_t i = 0; i < s->D; i++)
            to[r * s->D + i] = scale * from[i];
    }
}

/* Keys of the block of `n` that starts at `key` which row r sees: *from .. *to - 1, maybe none. */
static void visible(const struct shape *s, const struct block *b, int64_t r, int64_t key, int64_t n,
                    int64_t *from, int64_t *to)
{
    int64_t query = b->t0 + r % b->n;
    *from = max64(0, first_key(s, b->seq, query) - key);
    *to = min64(n, s->offset + query + 1 - key);
    if (*to < *from)
        *from = *to = 0;
}

static float dot(const float *restrict a, const float *restrict b, int64_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* out[R,n] = x[R,D] y[n,D]^T, y with row stride ldk. For the few rows of generation a library call
 * is not worthwhile. */
static void rows_dot_keys(const struct shape *s, int64_t R, int64_t n, const float *x,
                          const float *y, float *out)
{
    if (R > DIRECT_ROWS) {
        mm('N', 'T', R, n, s->D, x, s->D, y, s->ldk, 0, out, n);
        return;
    }
    for (int64_t j = 0; j < n; j++)
        for (int64_t r = 0; r < R; r++)
            out[r * n + j] = dot(x + r * s->D, y + j * s->ldk, s->D);
}

/* out[R,D] += p[R,n] y[n,D] */
static void rows_add_keys(const struct shape *s, int64_t R, int64_t n, const float *p,
                          const float *y, float *restrict out)
{
    if (R > DIRECT_ROWS) {
        mm('N', 'N', R, s->D, n, p, n, y, s->ldk, 1, out, s->D);
        return;
    }
    for (int64_t j = 0; j < n; j++)
        for (int64_t r = 0; r < R; r++)
            for (int64_t i = 0; i < s->D; i++)
                out[r * s->D + i] += p[r * n + j] * y[j * s->ldk + i];
}

static void cap_scores(float *restrict s, int64_t n, float cap)
{
    float inverse = 1 / cap;
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        s[i] = cap * vec_tanh(s[i] * inverse);
}

/* ALiBi: what is due to the positions of keys from `key` on. Those that a row does not see get
 * something finite. */
static void add_positions(const struct shape *s, const struct block *b, float *restrict x,
                          int64_t key, int64_t n)
{
    for (int64_t r = 0; r < b->rows; r++) {
        int64_t head = b->g * s->group + r / b->n;
        float slope = alibi_slope((int)head, (int)s->a->heads), scale = s->a->scale;
        int first = (int)(key - first_key(s, b->seq, b->t0 + r % b->n));
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            x[r * n + j] += scale * alibi_bias(slope, first + (int)j);
    }
}

/* From products of scaled queries with keys from `key` on. */
static void finish_scores(const struct shape *s, const struct block *b, float *x, int64_t key,
                          int64_t n)
{
    if (s->a->cap > 0)
        cap_scores(x, b->rows * n, s->a->cap);
    if (s->a->alibi)
        add_positions(s, b, x, key, n);
}

static float row_max(const float *s, int64_t from, int64_t to, float max)
{
#pragma omp simd reduction(max : max)
    for (int64_t j = from; j < to; j++)
        max = s[j] > max ? s[j] : max;
    return max;
}

/* s = e^(s - shift) where visible, else 0. Returns the sum. */
static float row_exp(float *restrict s, int64_t from, int64_t to, int64_t n, float shift)
{
    float sum = 0;
    memset(s, 0, (size_t)from * sizeof *s);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = from; j < to; j++) {
        float e = vec_exp_normal(s[j] - shift);
        s[j] = e;
        sum += e;
    }
    memset(s + to, 0, (size_t)(n - to) * sizeof *s);
    return sum;
}

/* One key block of the online softmax: t->s becomes weights relative to the new maxima, t->y and
 * t->l are rescaled to them. */
static void softmax_step(const struct shape *s, const struct block *b, const struct tile *t,
                         int64_t key, int64_t n)
{
    int64_t from, to;
    for (int64_t r = 0; r < b->rows; r++) {
        visible(s, b, r, key, n, &from, &to);
        float max = row_max(t->s + r * n, from, to, t->m[r]);
        t->c[r] = t->m[r] - max;
        t->m[r] = max;
    }
#pragma omp simd
    for (int64_t r = 0; r < b->rows; r++)
        t->c[r] = vec_exp_normal(t->c[r]);
    for (int64_t r = 0; r < b->rows; r++) {
        visible(s, b, r, key, n, &from, &to);
        float sum = row_exp(t->s + r * n, from, to, n, t->m[r]), rescale = t->c[r];
        t->l[r] = t->l[r] * rescale + sum;
        if (rescale != 1)
            for (int64_t i = 0; i < s->D; i++)
                t->y[r * s->D + i] *= rescale;
    }
}

static void forward_block(const struct op_args *c, const struct shape *s, const struct block *b)
{
    struct tile t = tile_of(c, s);
    pack_rows(s, b, c->in[0].v, s->a->scale, t.q);
    memset(t.y, 0, (size_t)(b->rows * s->D) * sizeof *t.y);
    for (int64_t r = 0; r < b->rows; r++) {
        t.m[r] = LOWEST;
        t.l[r] = 0;
    }
    for (int64_t key = b->first_key, n; key < b->end_key; key += n) {
        n = min64(KEYS, b->end_key - key);
        rows_dot_keys(s, b->rows, n, t.q, key_row(s, b, c->in[1].v, key), t.s);
        finish_scores(s, b, t.s, key, n);
        softmax_step(s, b, &t, key, n);
        rows_add_keys(s, b->rows, n, t.s, key_row(s, b, c->in[2].v, key), t.y);
    }
    for (int64_t r = 0; r < b->rows; r++) {
        float *out = (float *)query_row(s, b, c->out.v, r), inverse = 1 / t.l[r];
        for (int64_t i = 0; i < s->D; i++)
            out[i] = t.y[r * s->D + i] * inverse;
        if (c->memo)
            c->memo[memo_index(s, b, r)] = t.m[r] + logf(t.l[r]);
    }
}

static void attention_fwd(const struct op_args *c)
{
    struct shape s = shape_of(c);
    int64_t heads = c->batch->n_seq * s.a->kv_heads, items = heads * s.blocks;
#pragma omp parallel for schedule(dynamic) num_threads(c->x->threads)
    for (int64_t i = 0; i < items; i++) { /* late blocks have the most keys and go first */
        int64_t head = i % heads;
        struct block b = block_of(&s, head / s.a->kv_heads, head % s.a->kv_heads,
                                  s.blocks - 1 - i / heads);
        forward_block(c, &s, &b);
    }
}

/* t->m = log-sum-exp, t->l = delta = rowsum(do * o), t->q = scale * q, t->x = do */
static void backward_rows(const struct op_args *c, const struct shape *s, const struct block *b,
                          const struct tile *t)
{
    pack_rows(s, b, c->in[0].v, s->a->scale, t->q);
    pack_rows(s, b, c->out.g, 1, t->x);
    memset(t->y, 0, (size_t)(b->rows * s->D) * sizeof *t->y);
    for (int64_t r = 0; r < b->rows; r++) {
        t->m[r] = c->memo[memo_index(s, b, r)];
        t->l[r] = dot(t->x + r * s->D, query_row(s, b, c->out.v, r), s->D);
    }
}

/* In: s scores (capped), d = do v^T. Out: s probabilities, d gradient of the scores before the cap.
 */
static void score_gradients(const struct shape *s, const struct block *b, const struct tile *t,
                            int64_t key, int64_t n)
{
    float slope = s->a->cap > 0 ? 1 / s->a->cap : 0;
    for (int64_t r = 0; r < b->rows; r++) {
        float *restrict p = t->s + r * n, *restrict d = t->d + r * n, shift = t->m[r],
                        delta = t->l[r];
        int64_t from, to;
        visible(s, b, r, key, n, &from, &to);
        memset(p, 0, (size_t)from * sizeof *p);
        memset(d, 0, (size_t)from * sizeof *d);
#pragma omp simd
        for (int64_t j = from; j < to; j++) {
            float e = vec_exp_normal(p[j] - shift), x = p[j] * slope;
            d[j] = e * (d[j] - delta) * (1 - x * x);
            p[j] = e;
        }
        memset(p + to, 0, (size_t)(n - to) * sizeof *p);
        memset(d + to, 0, (size_t)(n - to) * sizeof *d);
    }
}

/* dk, dv: where this block's sums go, [kv_rows, D] of its sequence and kv head with row stride ld;
 * NULL = not wanted. */
static void backward_block(const struct op_args *c, const struct shape *s, const struct block *b,
                           float *dk, float *dv, int64_t ld)
{
    struct tile t = tile_of(c, s);
    int64_t R = b->rows, D = s->D;
    backward_rows(c, s, b, &t);
    for (int64_t key = b->first_key, n; key < b->end_key; key += n) {
        n = min64(KEYS, b->end_key - key);
        const float *k = key_row(s, b, c->in[1].v, key), *v = key_row(s, b, c->in[2].v, key);
        mm('N', 'T', R, n, D, t.q, D, k, s->ldk, 0, t.s, n);
        mm('N', 'T', R, n, D, t.x, D, v, s->ldk, 0, t.d, n);
        finish_scores(s, b, t.s, key, n);
        score_gradients(s, b, &t, key, n);
        if (dv)
            mm('T', 'N', n, D, R, t.s, n, t.x, D, 1, dv + key * ld, ld);
        if (dk)
            mm('T', 'N', n, D, R, t.d, n, t.q, D, 1, dk + key * ld, ld);
        if (c->in[0].g)
            mm('N', 'N', R, D, n, t.d, n, k, s->ldk, 1, t.y, D);
    }
    for (int64_t r = 0; c->in[0].g && r < R; r++) {
        float *restrict dq = (float *)query_row(s, b, c->in[0].g, r);
        for (int64_t i = 0; i < D; i++)
            dq[i] += s->a->scale * t.y[r * D + i];
    }
}

/* The dk (which = 0) or dv (1) that part `part` > 0 of a kv head sums up, [kv_rows, D]. */
static float *part_sums(const struct op_args *c, const struct shape *s, int64_t part, int which,
                        int64_t seq, int64_t g)
{
    float *base = (float *)c->scratch + (size_t)c->x->threads * tile_floats(s->group, s->D);
    int64_t all = c->in[1].rows * s->ldk;
    return base + ((part - 1) * 2 + which) * all + (seq * s->a->kv_heads + g) * s->kv_rows * s->D;
}

static void backward_part(const struct op_args *c, const struct shape *s, int64_t seq, int64_t g,
                          int64_t part, int64_t parts)
{
    int64_t ld = part ? s->D : s->ldk;
    float *sums[2] = {c->in[1].g, c->in[2].g};
    for (int i = 0; i < 2; i++) {
        if (!sums[i])
            continue;
        struct block whole = {.seq = seq, .g = g};
        sums[i] = part ? part_sums(c, s, part, i, seq, g) : (float *)key_row(s, &whole, sums[i], 0);
        if (part)
            memset(sums[i], 0, (size_t)(s->kv_rows * s->D) * sizeof *sums[i]);
    }
    for (int64_t i = part; i < s->blocks; i += parts) {
        struct block b = block_of(s, seq, g, i);
        backward_block(c, s, &b, sums[0], sums[1], ld);
    }
}

static void add_parts(const struct op_args *c, const struct shape *s, int64_t seq, int64_t g,
                      int64_t parts)
{
    struct block whole = {.seq = seq, .g = g};
    for (int which = 0; which < 2; which++)
        for (int64_t part = 1; part < parts && c->in[1 + which].g; part++) {
            const float *restrict from = part_sums(c, s, part, which, seq, g);
            float *restrict to = (float *)key_row(s, &whole, c->in[1 + which].g, 0);
            for (int64_t j = 0; j < s->kv_rows; j++)
                for (int64_t i = 0; i < s->D; i++)
                    to[j * s->ldk + i] += from[j * s->D + i];
        }
}

static void attention_bwd(const struct op_args *c)
{
    struct shape s = shape_of(c);
    int64_t heads = c->batch->n_seq * s.a->kv_heads, parts = min64(part_count(c), s.blocks);
    if (heads >= 4 * c->x->threads)
        parts = 1;
#pragma omp parallel num_threads(c->x->threads)
    {
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < heads * parts; i++)
            backward_part(c, &s, i / parts / s.a->kv_heads, i / parts % s.a->kv_heads, i % parts,
                          parts);
#pragma omp for
        for (int64_t i = 0; i < heads; i++)
            add_parts(c, &s, i / s.a->kv_heads, i % s.a->kv_heads, parts);
    }
}

const struct kernel attention_cpu = {
    .forward = attention_fwd, .backward = attention_bwd, .scratch = attention_scratch};
