/* A position whose teacher lists some entries (kernels/loss.h), for loss.cu: as in
 * kernels/cpu/loss_listing.c, one block a token. The listed logits are taken out of the row before
 * it is summed up, and put back as gradients. What is of listed entries is in f64; each thread has
 * some of them, and the block's sums are left in every thread. */
#ifndef PARE_CUDA_LOSS_LISTING_H
#define PARE_CUDA_LOSS_LISTING_H

#include "loss_row.h"

/* points: the student's logits of the listed entries */
struct listing {
    int64_t n;
    const int32_t *ids;
    const float *log_p;
    float *points;
};

/* The thread's share of the entries there are: they come first. */
#define EACH_LISTED(l, i) \
    for (int64_t i = threadIdx.x; i < (l).n && (l).ids[i] < INT32_MAX; i += blockDim.x)

static __device__ __forceinline__ listing listing_at(struct loss_teacher t, const char *token_data,
                                                     float *points, int64_t token)
{
    const int32_t *ids = (const int32_t *)(const void *)(token_data + token * (8 * t.n + 4));
    return {t.n, ids, (const float *)(const void *)(ids + t.n), points + token * t.n};
}

template <class T> static __device__ void hide(const logits<T> &h, T *z, const listing &l)
{
    EACH_LISTED(l, i)
    {
        l.points[i] = finish(h, widen(z[l.ids[i]]), l.ids[i]);
        z[l.ids[i]] = narrow<T>(-INFINITY);
    }
    __syncthreads();
}

/* A sum of e^(z / temperature - base). */
struct pool {
    double base, sum;
};
static __device__ __forceinline__ double log_of(const pool &s) { return s.base + log(s.sum); }

/* The block's softmax of the entries that are not listed. */
template <class T> static __device__ pool join_rest(const softmax<T> &s)
{
    float max = block_max(s.max);
    double own = (double)s.sum * (double)exp_of<T>((s.max - max) * s.inv_temperature);
    pool all = {(double)max * (double)s.inv_temperature, block_sum(own)};
    return all;
}

static __device__ pool with_points(const pool &rest, double inv_temperature, const listing &l)
{
    pool all = rest;
    double own = 0;
    EACH_LISTED(l, i)
    all.base = fmax(all.base, (double)l.points[i] * inv_temperature);
    all.base = block_max(all.base);
    EACH_LISTED(l, i)
    own += exp((double)l.points[i] * inv_temperature - all.base);
    all.sum = block_sum(own) + (rest.sum > 0 ? rest.sum * exp(rest.base - all.base) : 0);
    return all;
}

/* The bins of a row: the listed entries and, as number n, all others. log_s, log_t: what their
 * logarithms are relative to. */
struct bins {
    listing l;
    double inv_temperature, log_s, log_t, log_rest;
    bool has_rest;
};

static __device__ struct loss_bin bin_at(const bins &b, int64_t i)
{
    struct loss_bin v;
    v.log_s = (i < b.l.n ? (double)b.l.points[i] * b.inv_temperature : b.log_rest) - b.log_s;
    v.log_t = (double)b.l.log_p[i] - b.log_t;
    v.s = exp(v.log_s);
    v.t = exp(v.log_t);
    return v;
}

static __device__ bins bins_of(const row_params &p, const listing &l, const pool &rest)
{
    bins b = {l, (double)p.inv_temperature, 0, 0, log_of(rest), p.teacher.form == TEACHER_REST};
    pool none = {-INFINITY, 0};
    b.log_s = log_of(
        with_points(p.teacher.form == TEACHER_TOP ? none : rest, b.inv_temperature, l));
    if (p.teacher.form == TEACHER_TERMS)
        return b;
    double mass = 0;
    EACH_LISTED(l, i)
    mass += exp((double)l.log_p[i]);
    b.log_t = log(block_sum(mass) + (b.has_rest ? exp((double)l.log_p[l.n]) : 0));
    return b;
}

/* A loss's terms of a bin. The teacher's probability of an entry may be too small to be stored. */
static __device__ struct loss_bin_terms terms_at(const row_params &p, int loss, struct loss_bin v)
{
    struct loss_bin_terms none = {0, 0};
    if (!(v.t > 0))
        return none;
    switch (loss) {
#define LOSS(name, ...) \
    case LOSS_##name: \
        return name##_bin(v, p.kind);
#include "../losses.def"
#undef LOSS
    default: return none;
    }
}

/* A loss of the row, and what its gradient is made of. */
struct listing_loss {
    double w, value, slopes;
};

/* mix: += the part of all entries that are not listed */
static __device__ listing_loss loss_over(const row_params &p, int loss, const bins &b,
                                         const pool &rest, double w, struct loss_mix &mix)
{
    listing_loss sum = {w, 0, 0};
    struct loss_bin_terms last = {0, 0};
    EACH_LISTED(b.l, i)
    {
        struct loss_bin_terms x = terms_at(p, loss, bin_at(b, i));
        sum.value += x.value;
        sum.slopes += x.slope;
    }
    if (b.has_rest)
        last = terms_at(p, loss, bin_at(b, b.l.n));
    sum.value = block_sum(sum.value) + last.value;
    sum.slopes = block_sum(sum.slopes) + last.slope;
    double s_rest = exp(b.log_rest - b.log_s);
    if (p.teacher.form != TEACHER_TOP && rest.sum > 0)
        mix.student += (float)(w * b.inv_temperature * (last.slope - s_rest * sum.slopes) /
                               rest.sum);
    return sum;
}

/* Losses of the row, all of them in every thread; *values by thread 0. */
static __device__ void losses_over(const row_params &p, const bins &b, const pool &all,
                                   const pool &rest, float label, struct loss_mix &mix,
                                   listing_loss (&losses)[LOSS_COUNT], double *values)
{
    double square = p.kind.squared ? (double)p.kind.temperature * (double)p.kind.temperature : 1;
    struct loss_row row = {};
    row.all.sum = all.sum;
    row.all.log_sum = log_of(all);
    row.label = (double)label;
    for (int loss = 0; loss < LOSS_COUNT; loss++) {
        double w = (double)p.step[LOSS_SCALE] * (double)p.step[LOSS_WEIGHTS + loss], value;
        losses[loss] = {0, 0, 0};
        if (!(p.kind.set >> loss & 1))
            continue;
        if (loss == LOSS_ce) {
            value = ce_finish(&row, NULL, w, &mix, NULL);
        } else {
            losses[loss] = loss_over(p, loss, b, rest, w * square, mix);
            value = square * losses[loss].value;
        }
        if (threadIdx.x == 0)
            *values = value;
        values++;
    }
}

/* Entries that are not listed. */
template <class T>
static __device__ void put_rest(const logits<T> &h, T *z, const row_params &p,
                                const struct loss_mix &mix, float base, float rest_base,
                                int32_t label)
{
    constexpr int N = VECTOR<T>;
    softmax<T> all = {base, 1, 0}, student = {rest_base / p.inv_temperature, p.inv_temperature, 0};
    each_vector<N>(h.V, h.V, [&](int i, int n, int) {
        float v[N], d[N] = {};
        load_logits(h, z, i, n, v);
        add_softmax(d, mix.all, all, v, n);
        add_softmax(d, mix.student, student, v, n);
        finish_gradient(h, v, i, label, mix.label, d);
        store_some(z, i, n, d);
    });
    __syncthreads();
}

template <class T>
static __device__ void put_points(const logits<T> &h, T *z, const row_params &p,
                                  const struct loss_mix &mix, double base, const bins &b,
                                  const listing_loss (&losses)[LOSS_COUNT], int32_t label)
{
    double slope = h.cap > 0 ? 1 / (double)h.cap : 0;
    EACH_LISTED(b.l, i)
    {
        struct loss_bin v = bin_at(b, i);
        double logit = (double)b.l.points[i], x = logit * slope,
               d = mix.all != 0 ? (double)mix.all * exp(logit - base) : 0;
        if (b.l.ids[i] == label)
            d += (double)mix.label;
        for (int loss = 0; loss < LOSS_COUNT; loss++)
            if (losses[loss].w != 0)
                d += losses[loss].w * b.inv_temperature *
                     (terms_at(p, loss, v).slope - v.s * losses[loss].slopes);
        z[b.l.ids[i]] = narrow<T>((float)(d * (1 - x * x) * (double)h.scale));
    }
}

/* One block a token. out [., columns]; points [., listed entries]: scratch. */
template <class T>
static __global__ void __launch_bounds__(THREADS_FEW)
    row_listings(logits<T> h, const int32_t *labels, row_params p, const char *token_data,
                 float *points, int columns, double *out)
{
    constexpr int N = VECTOR<T>;
    int32_t label = labels[blockIdx.x];
    T *z = h.z + blockIdx.x * h.ld;
    out += blockIdx.x * (int64_t)columns;
    if (label < 0) {
        skip_row(h, z, p, columns, out);
        return;
    }
    listing l = listing_at(p.teacher, token_data, points, blockIdx.x);
    float own = finish(h, widen(z[label]), label), e[N], v[N];
    __syncthreads(); /* every thread has read the label's logit */
    hide(h, z, l);
    softmax<T> all = begin_softmax<T>(1), student = begin_softmax<T>(p.inv_temperature);
    each_vector<N>(h.V, h.V, [&](int i, int n, int) {
        load_logits(h, z, i, n, v);
        take_in(all, v, n, e);
        if (!p.one_softmax)
            take_in(student, v, n, e);
    });
    pool rest_of_all = join_rest(all), rest = p.one_softmax ? rest_of_all : join_rest(student),
         whole = with_points(rest_of_all, 1, l);
    bins b = bins_of(p, l, rest);
    struct loss_mix mix = {0, 0, 0, 0};
    listing_loss losses[LOSS_COUNT];
    losses_over(p, b, whole, rest, own, mix, losses, out);
    if (!p.want_gradient)
        return;
    put_rest(h, z, p, mix, (float)whole.base, (float)rest.base, label);
    put_points(h, z, p, mix, whole.base, b, losses, label);
}

/* Logits that came with the tokens, as zt [n, ld]. */
template <class T>
static __global__ void fill_logits(const float *given, int64_t stride, T *zt, int64_t V, int64_t ld)
{
    for (int64_t i = threadIdx.x; i < V; i += blockDim.x)
        zt[blockIdx.x * ld + i] = narrow<T>(given[blockIdx.x * stride + i]);
}

#endif
