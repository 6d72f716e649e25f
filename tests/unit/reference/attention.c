/* Reference of attention: every score of a row, its softmax, the weighted sum. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

/* Heads in groups, windows, caps, documents, head sizes of pruned models, full and partial blocks
 * of queries and keys, rows of a longer cache. */
static void attention_shape(struct trial *t)
{
    static const int64_t sizes[] = {7, 8, 64, 80, 128, 1, 256, 96, 33},
                         large_sizes[] = {128, 13, 200, 96};
    int64_t K = test_size(t, 1, t->large ? 1 : 3);
    int64_t H = K * test_size(t, 1, t->large ? 2 : 4);
    int64_t D = t->large ? large_sizes[t->number % 4] : sizes[t->number % 9];
    int64_t n_seq = t->large ? 1 : test_size(t, 1, 3),
            T = t->large ? 300 + 50 * (t->number % 4) : test_size(t, 1, 40);
    int cached = t->number % 4 == 3;
    if (cached)
        test_rows(t, n_seq, test_size(t, 1, 6), test_size(t, 0, t->number % 8 == 7 ? 600 : T));
    else
        test_rows(t, n_seq, T, 0);
    t->batch.kv_len = cached ? t->batch.pos0 + t->batch.seq_len + (int64_t)rng_below(&t->rng, 5)
                             : 0;
    t->spread = t->number % 6 == 5 ? 4 : 1;
    /* queries that see only themselves have no gradient, only the rounding of large values */
    if (t->number % 6 != 5)
        test_documents(t);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, H * D);
    t->call.in[1] = t->call.in[2] = test_operand(
        n_seq * (cached ? t->batch.kv_len : t->batch.seq_len), K * D);
    int64_t window = t->number % 3 == 1 ? test_size(t, 1, T) : 0;
    if (t->number == 17)
        window = 66; /* ends one token after a tile of a device's kernel */
    t->call.p.attention = (struct attention_params){
        H, K, D, window, 1 / sqrtf((float)D), t->number % 5 == 2 ? 3 : 0, 0};
    t->call.p.attention.alibi = !window && t->number % 5 != 2 && t->number % 2;
}

static double score(const struct trial *t, const double *q, const double *k)
{
    const struct attention_params *p = &t->call.p.attention;
    double s = 0;
    for (int64_t i = 0; i < p->head_dim; i++)
        s += q[i] * k[i];
    s *= (double)p->scale;
    return p->cap != 0 ? p->cap * tanh(s / p->cap) : s;
}

static double to_bf16(double x) { return (double)bf16_to_f32(f32_to_bf16((float)x)); }

/* Of a head, as Press et al. 2022 describe it. */
static double slope_of(int64_t head, int64_t heads)
{
    int64_t power = 1;
    while (2 * power <= heads)
        power *= 2;
    if (head >= power)
        return slope_of(2 * (head - power), 2 * power);
    return to_bf16(pow(2, -8.0 * (double)(head + 1) / (double)power));
}

/* One query of one head, which sees keys first .. last; k and v point at key 0 of its sequence and
 * kv head. */
static void attend(const struct trial *t, const double *q, const double *k, const double *v,
                   int64_t first, int64_t last, double slope, double *w, double *out)
{
    const struct attention_params *p = &t->call.p.attention;
    int64_t D = p->head_dim, stride = p->kv_heads * D;
    double max = -INFINITY, sum = 0;
    for (int64_t j = first; j <= last; j++)
        max = fmax(max, w[j] = score(t, q, k + j * stride) +
                               (double)p->scale * to_bf16(slope * to_bf16((double)(j - first))));
    for (int64_t j = first; j <= last; j++)
        sum += w[j] = exp(w[j] - max);
    for (int64_t i = 0; i < D; i++)
        out[i] = 0;
    for (int64_t j = first; j <= last; j++)
        for (int64_t i = 0; i < D; i++)
            out[i] += w[j] / sum * v[j * stride + i];
}

static void attention_reference(const struct trial *t, double *out)
{
    const struct attention_params *p = &t->call.p.attention;
    int64_t T = t->batch.seq_len, length = t->batch.kv_len ? t->batch.kv_len : T,
            start = t->batch.kv_len ? t->batch.pos0 : 0, D = p->head_dim;
    double *w = calloc((size_t)length, sizeof *w);
    for (int64_t r = 0; r < t->call.rows; r++) {
        int64_t last = start + r % T, first = test_start(t, r);
        if (p->window && first <= last - p->window)
            first = last - p->window + 1;
        for (int64_t h = 0; h < p->heads; h++) {
            int64_t q = (r * p->heads + h) * D,
                    kv = (r / T * length * p->kv_heads + h / (p->heads / p->kv_heads)) * D;
            attend(t, t->v[IN0] + q, t->v[IN1] + kv, t->v[IN2] + kv, first, last,
                   p->alibi ? slope_of(h, p->heads) : 0, w, out + q);
        }
    }
    free(w);
}

/* weights, their gradients, results; and gradients of scores cancel in sums */
const struct op_test attention_test = {attention_shape, attention_reference, .tolerance = 2e-6,
                                       .roundings = 8};
