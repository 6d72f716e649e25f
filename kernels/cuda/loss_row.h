/* A position's losses, for loss.cu: one block a token reads its row of logits twice, once for the
 * softmaxes and the sums of the losses, once for the gradient; three times where a loss's terms
 * need finished softmaxes. */
#ifndef PARE_CUDA_LOSS_ROW_H
#define PARE_CUDA_LOSS_ROW_H

#include "cuda.h"

#define FORMULA static __device__ __forceinline__
#define formula_log logf
#include "../loss_formulas.h"

/* Long rows are walked by large blocks, of which a multiprocessor holds two: few enough for the
 * second reading to find the rows in the cache, and one works while the other waits. */
enum { THREADS_FEW = 256, THREADS_MOST = 512, LONG_ROW = 32768 };

/* ---- logits */

template <class T> struct logits {
    T *z;
    const float *bias;
    int64_t V, ld;
    float scale, cap;
};

static __device__ __forceinline__ float tanh_as(float x, float) { return tanhf(x); }
/* the error is relative to 1, which is what matters */
static __device__ __forceinline__ float tanh_as(float x, bf16)
{
    return 1 - quotient<bf16>(2, 1 + exp_of<bf16>(2 * x));
}

/* What is hidden stays so: loss_listing.h. */
template <class T> static __device__ __forceinline__ float capped(const logits<T> &h, float z)
{
    return z > -INFINITY ? h.cap * tanh_as(h.scale / h.cap * z, T()) : z;
}

template <class T>
static __device__ __forceinline__ float finish(const logits<T> &h, float z, int64_t v)
{
    z += h.bias ? h.bias[v] : 0;
    return h.cap > 0 ? capped(h, z) : h.scale * z;
}

/* Calls f(i, n, m) for every vector of N entries that is the thread's: from entry i on there are n
 * of V and m of the first `shared`; both are the constant N but for the last vectors, so that the
 * compiler drops what f does for parts of a vector. */
template <int N, class F>
static __device__ __forceinline__ void each_vector(int64_t V, int64_t shared, F f)
{
    int i = (int)threadIdx.x * N, all = (int)V, both = (int)shared, step = (int)blockDim.x * N;
    for (; i + N <= min(all, both); i += step)
        f(i, N, N);
    for (; i < all; i += step)
        f(i, min(N, all - i), max(0, min(N, both - i)));
}

/* n logits from entry i on, bias, scale and cap done; -infinity after them. */
template <class T, int N>
static __device__ __forceinline__ void load_logits(const logits<T> &h, const T *row, int i, int n,
                                                   float (&v)[N])
{
    if (n == N)
        load(row + i, v);
#pragma unroll
    for (int k = 0; k < N && n < N; k++)
        v[k] = k < n ? widen(row[i + k]) : -INFINITY;
    if (h.bias)
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] += k < n ? h.bias[i + k] : 0;
    if (h.cap > 0) {
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = capped(h, v[k]);
    } else {
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] *= h.scale;
    }
}

/* Stores the first n of N values at entry i of a row. */
template <class T, int N>
static __device__ __forceinline__ void store_some(T *row, int i, int n, const float (&v)[N])
{
    if (n == N)
        store(row + i, v);
#pragma unroll
    for (int k = 0; k < N && n < N; k++)
        if (k < n)
            row[i + k] = narrow<T>(v[k]);
}

/* ---- sums over a row */

/* The temperature's softmax of the student is that of all entries where these are the same. */
struct row_params {
    struct loss_kind kind;
    struct loss_teacher teacher;
    const float *step; /* scale and weights */
    int64_t shared;    /* entries that both vocabularies have */
    float inv_temperature;
    bool want_gradient, one_softmax;
};

/* Kernels are compiled for the sets that are used most, and once for any: then the set is looked up
 * as they run. */
enum { SET_CE = LOSS_BIT(ce), SET_KL = SET_CE | LOSS_BIT(kl), SET_ANY = (1 << LOSS_COUNT) - 1 };

template <unsigned SET> static __device__ __forceinline__ bool has(const row_params &p, int loss)
{
    return SET >> loss & 1 && (SET != SET_ANY || p.kind.set >> loss & 1);
}

/* Whether losses of the set read those softmaxes, have sums that are weighted so, or have a part of
 * their own in the gradient. */
template <unsigned SET> static __device__ __forceinline__ bool reads(const row_params &p, int of)
{
    bool any = false;
#define LOSS(name, softmaxes, with, n, own, teacher, title) \
    any |= ((softmaxes)&of) && has<SET>(p, LOSS_##name);
#include "../losses.def"
#undef LOSS
    return any;
}
template <unsigned SET> static __device__ __forceinline__ bool sums_with(const row_params &p, int w)
{
    bool any = false;
#define LOSS(name, softmaxes, with, n, own, teacher, title) \
    any |= (with) == w && has<SET>(p, LOSS_##name);
#include "../losses.def"
#undef LOSS
    return any;
}
template <unsigned SET> static __device__ __forceinline__ bool has_own(const row_params &p)
{
    bool any = false;
#define LOSS(name, softmaxes, with, n, own, teacher, title) \
    any |= (own) && has<SET>(p, LOSS_##name);
#include "../losses.def"
#undef LOSS
    return any;
}

/* Sum of e^((z - max) * inv_temperature) so far; max is at least LOWEST, a number, so that nothing
 * that is hidden (-infinity) needs a case of its own. */
static const float LOWEST = -1e30f;
template <class T> struct softmax {
    float max, inv_temperature;
    long_sum<T> sum;
};

static __device__ __forceinline__ float exponential(const softmax<float> &s, float z)
{
    return expf((z - s.max) * s.inv_temperature);
}
static __device__ __forceinline__ float exponential(const softmax<bf16> &s, float z)
{
    float factor = LOG2_E * s.inv_temperature;
    return exp2_fast(fmaf(z, factor, -s.max * factor));
}

/* Sums of a thread, then of a block, over a row. */
template <class T> struct row_sums {
    softmax<T> all, student, teacher;
    long_sum<T> of[LOSS_COUNT][LOSS_SUMS];
};

template <class T, int N> struct entries { /* logits and exponentials */
    float zs[N], zt[N], s[N], t[N];
};

/* Multiplies those sums that are weighted with the softmax of that name. */
template <class T, unsigned SET>
static __device__ __forceinline__ void rescale(row_sums<T> &r, const row_params &p, int softmax,
                                               float factor)
{
#define LOSS(name, softmaxes, with, n, own, teacher, title) \
    if ((with) == softmax && has<SET>(p, LOSS_##name)) \
        for (int i = 0; i < (n); i++) \
            r.of[LOSS_##name][i] *= (long_sum<T>)factor;
#include "../losses.def"
#undef LOSS
}

/* Adds the first `n` of N logits, e: their exponentials. Returns the factor for earlier ones. */
template <class T, int N>
static __device__ __forceinline__ float take_in(softmax<T> &s, const float (&z)[N], int n,
                                                float (&e)[N])
{
    float top = s.max, factor = 1;
#pragma unroll
    for (int k = 0; k < N; k++)
        top = k < n ? fmaxf(top, z[k]) : top;
    if (top > s.max) {
        factor = exp_of<T>((s.max - top) * s.inv_temperature);
        s.sum *= (long_sum<T>)factor;
        s.max = top;
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
        e[k] = k < n ? exponential(s, z[k]) : 0;
        s.sum += (long_sum<T>)e[k];
    }
    return factor;
}

/* Adds the terms of the first `n` of N entries, of losses that are summed in the first walk (0) or
 * in the second one. */
template <class T, unsigned SET, int N>
static __device__ __forceinline__ void add_terms(row_sums<T> &r, const row_params &p, int walk,
                                                 const entries<T, N> &v, int n)
{
#define LOSS(name, softmaxes, with, n_sums, own, teacher, title) \
    if ((n_sums) > 0 && ((with) == WITH_BOTH) == walk && has<SET>(p, LOSS_##name)) \
        for (int k = 0; k < N; k++) { \
            if (k >= n) \
                break; \
            struct loss_entry x = {v.zs[k], v.zt[k], v.s[k], v.t[k]}; \
            struct loss_terms terms = name##_terms(x, p.kind); \
            r.of[LOSS_##name][0] += (long_sum<T>)terms.a; \
            r.of[LOSS_##name][1] += (long_sum<T>)terms.b; \
            r.of[LOSS_##name][2] += (long_sum<T>)terms.c; \
        }
#include "../losses.def"
#undef LOSS
}

template <class T> static __device__ __forceinline__ softmax<T> begin_softmax(float inv_temperature)
{
    softmax<T> s = {LOWEST, inv_temperature, 0};
    return s;
}

/* The thread's share of the first walk. */
template <class T, unsigned SET>
static __device__ row_sums<T> walk_row(const logits<T> &h, const logits<T> &ht, const T *z,
                                       const T *zt, const row_params &p)
{
    constexpr int N = VECTOR<T>;
    row_sums<T> r = {begin_softmax<T>(1),
                     begin_softmax<T>(p.inv_temperature),
                     begin_softmax<T>(p.inv_temperature),
                     {}};
    bool student = reads<SET>(p, OF_STUDENT), teacher = reads<SET>(p, OF_TEACHER),
         all = reads<SET>(p, OF_ALL) || (student && p.one_softmax);
    each_vector<N>(h.V, SET == SET_CE ? h.V : p.shared, [&](int i, int n, int m) {
        entries<T, N> v = {};
        load_logits(h, z, i, n, v.zs);
        float factor = all ? take_in(r.all, v.zs, n, v.s) : 1;
        if (SET == SET_CE || m == 0)
            return;
        load_logits(ht, zt, i, m, v.zt);
        if (student && !p.one_softmax)
            factor = take_in(r.student, v.zs, m, v.s);
        if (sums_with<SET>(p, WITH_STUDENT))
            rescale<T, SET>(r, p, WITH_STUDENT, factor);
        factor = teacher ? take_in(r.teacher, v.zt, m, v.t) : 1;
        if (sums_with<SET>(p, WITH_TEACHER))
            rescale<T, SET>(r, p, WITH_TEACHER, factor);
        add_terms<T, SET>(r, p, 0, v, m);
    });
    return r;
}

/* The block's softmax, in every thread. Returns the factor for the thread's sums that are weighted
 * with it. */
template <class T> static __device__ float join(softmax<T> &s, struct loss_softmax &whole)
{
    float max = block_max(s.max), factor = exp_of<T>((s.max - max) * s.inv_temperature);
    s.max = max;
    whole.sum = block_sum((double)s.sum * (double)factor);
    return factor;
}

template <class T>
static __device__ __forceinline__ double log_sum(const softmax<T> &s,
                                                 const struct loss_softmax &whole)
{
    return (double)s.max * (double)s.inv_temperature + log(whole.sum);
}

/* Softmaxes and sums of the block, both left in every thread; the logarithms only in thread 0. */
template <class T, unsigned SET>
static __device__ void join_row(row_sums<T> &r, const row_params &p, struct loss_row &row)
{
    bool all = reads<SET>(p, OF_ALL) || (reads<SET>(p, OF_STUDENT) && p.one_softmax);
    float factor = all ? join(r.all, row.all) : 1;
    if (reads<SET>(p, OF_STUDENT)) {
        if (p.one_softmax)
            r.student = r.all, row.student = row.all;
        else
            factor = join(r.student, row.student);
        rescale<T, SET>(r, p, WITH_STUDENT, factor);
    }
    if (reads<SET>(p, OF_TEACHER))
        rescale<T, SET>(r, p, WITH_TEACHER, join(r.teacher, row.teacher));
    if (threadIdx.x == 0) {
        row.all.log_sum = log_sum(r.all, row.all);
        row.student.log_sum = log_sum(r.student, row.student);
        row.teacher.log_sum = log_sum(r.teacher, row.teacher);
    }
}

/* The block's sums of losses, in every thread. */
template <class T, unsigned SET>
static __device__ void join_sums(const row_sums<T> &r, const row_params &p,
                                 double (&sums)[LOSS_COUNT][LOSS_SUMS])
{
#define LOSS(name, softmaxes, with, n, own, teacher, title) \
    if (has<SET>(p, LOSS_##name)) \
        for (int i = 0; i < (n); i++) \
            sums[LOSS_##name][i] = block_sum((double)r.of[LOSS_##name][i]);
#include "../losses.def"
#undef LOSS
}

/* ---- the gradient of a row */

/* The terms of a row's gradient. */
struct row_gradient {
    struct loss_mix mix;
    float own[LOSS_COUNT][LOSS_OWN];
    float share_s, share_t; /* 1 / sum of exponentials */
};

/* Probabilities of N entries in place of their exponentials. */
template <class T, int N>
static __device__ __forceinline__ void probabilities(const row_sums<T> &r, float share_s,
                                                     float share_t, entries<T, N> &v)
{
#pragma unroll
    for (int k = 0; k < N; k++) {
        v.s[k] = share_s * exponential(r.student, v.zs[k]);
        v.t[k] = share_t * exponential(r.teacher, v.zt[k]);
    }
}

/* The second walk: sums that need finished softmaxes. */
template <class T, unsigned SET>
static __device__ void walk_again(const logits<T> &h, const logits<T> &ht, const T *z, const T *zt,
                                  const row_params &p, const struct loss_row &row, row_sums<T> &r)
{
    constexpr int N = VECTOR<T>;
    each_vector<N>(p.shared, p.shared, [&](int i, int n, int) {
        entries<T, N> v = {};
        load_logits(h, z, i, n, v.zs);
        load_logits(ht, zt, i, n, v.zt);
        probabilities(r, (float)(1 / row.student.sum), (float)(1 / row.teacher.sum), v);
        add_terms<T, SET>(r, p, 1, v, n);
    });
}

/* Adds what gradients have of their own. v's probabilities are set. */
template <class T, unsigned SET, int N>
static __device__ __forceinline__ void add_own(float (&d)[N], const row_sums<T> &r,
                                               const row_params &p, const row_gradient &g,
                                               entries<T, N> &v, int n)
{
    if (reads<SET>(p, OF_TEACHER))
        probabilities(r, g.share_s, g.share_t, v);
#pragma unroll
    for (int k = 0; k < N; k++) {
        struct loss_entry x = {v.zs[k], v.zt[k], v.s[k], v.t[k]};
        float sum = 0;
#define LOSS(name, softmaxes, with, n_sums, has_own, teacher, title) \
    if ((has_own) && has<SET>(p, LOSS_##name)) \
        sum += name##_gradient(x, p.kind, g.own[LOSS_##name]);
#include "../losses.def"
#undef LOSS
        d[k] += k < n ? sum : 0;
    }
}

/* Adds the part of a gradient that is `factor` times the exponentials of the first n logits. */
template <class T, int N>
static __device__ __forceinline__ void add_softmax(float (&d)[N], float factor, const softmax<T> &s,
                                                   const float (&z)[N], int n)
{
    if (factor == 0)
        return;
#pragma unroll
    for (int k = 0; k < N; k++)
        d[k] += k < n ? factor * exponential(s, z[k]) : 0;
}

/* d: the gradient with respect to finished logits v. Becomes that with respect to the head's
 * products, with the label's part, if the label is among those from entry i on. */
template <class T, int N>
static __device__ __forceinline__ void finish_gradient(const logits<T> &h, const float (&v)[N],
                                                       int i, int32_t label, float of_label,
                                                       float (&d)[N])
{
    if ((unsigned)(label - i) < N)
#pragma unroll
        for (int k = 0; k < N; k++)
            d[k] += i + k == label ? of_label : 0;
    if (h.cap > 0) {
        float slope = 1 / h.cap;
#pragma unroll
        for (int k = 0; k < N; k++)
            d[k] *= 1 - v[k] * slope * (v[k] * slope);
    }
#pragma unroll
    for (int k = 0; k < N; k++)
        d[k] *= h.scale;
}

template <class T, unsigned SET>
static __device__ __forceinline__ void put_gradient(const logits<T> &h, const logits<T> &ht, T *z,
                                                    const T *zt, const row_params &p,
                                                    const row_sums<T> &r, const row_gradient &g,
                                                    int32_t label)
{
    constexpr int N = VECTOR<T>;
    const struct loss_mix mix = g.mix;
    each_vector<N>(h.V, SET == SET_CE ? h.V : p.shared, [&](int i, int n, int m) {
        entries<T, N> v = {};
        float d[N] = {};
        load_logits(h, z, i, n, v.zs);
        add_softmax(d, mix.all, r.all, v.zs, n);
        if (SET != SET_CE && m > 0) {
            load_logits(ht, zt, i, m, v.zt);
            add_softmax(d, mix.student, r.student, v.zs, m);
            add_softmax(d, mix.teacher, r.teacher, v.zt, m);
            if (has_own<SET>(p))
                add_own<T, SET>(d, r, p, g, v, m);
        }
        finish_gradient(h, v.zs, i, label, mix.label, d);
        store_some(z, i, n, d);
    });
}

/* ---- a row */

/* Thread 0: values of a row, and the terms of its gradient. */
template <unsigned SET>
static __device__ void end_row(const row_params &p, const struct loss_row &row,
                               const double (&sums)[LOSS_COUNT][LOSS_SUMS], double *values,
                               row_gradient &g)
{
    double scale = (double)p.step[LOSS_SCALE],
           square = p.kind.squared ? (double)p.kind.temperature * (double)p.kind.temperature : 1;
    g.mix = {0, 0, 0, 0};
    g.share_s = (float)(1 / row.student.sum);
    g.share_t = (float)(1 / row.teacher.sum);
#define LOSS(name, softmaxes, with, n, own_part, teacher, title) \
    if (has<SET>(p, LOSS_##name)) { \
        double factor = (softmaxes)&OF_TEACHER ? square : 1, \
               w = scale * (double)p.step[LOSS_WEIGHTS + LOSS_##name] * factor; \
        *values++ = factor * \
                    name##_finish(&row, sums[LOSS_##name], w, &g.mix, g.own[LOSS_##name]); \
    }
#include "../losses.def"
#undef LOSS
    if (p.one_softmax) {
        g.mix.all += g.mix.student;
        g.mix.student = 0;
    }
}

/* The label is negative: losses and gradients are 0. */
template <class T>
static __device__ void skip_row(const logits<T> &h, T *z, const row_params &p, int columns,
                                double *out)
{
    constexpr int N = VECTOR<T>;
    const float zeros[N] = {};
    auto clear = [&](int i, int n, int) { store_some(z, i, n, zeros); };
    each_vector<N>(p.want_gradient ? h.V : 0, h.V, clear);
    for (int i = (int)threadIdx.x; i < columns; i += (int)blockDim.x)
        out[i] = 0;
}

/* One block a token. out [., columns]. */
template <class T, unsigned SET>
static __global__ void __launch_bounds__(THREADS_MOST)
    row_losses(logits<T> h, logits<T> ht, const int32_t *labels, row_params p, int columns,
               double *out)
{
    SHARED(row_gradient, gradient, [1]);
    int32_t label = labels[blockIdx.x];
    T *z = h.z + blockIdx.x * h.ld;
    const T *zt = SET == SET_CE ? NULL : ht.z + blockIdx.x * ht.ld;
    out += blockIdx.x * (int64_t)columns;
    if (label < 0) {
        skip_row(h, z, p, columns, out);
        return;
    }
    row_sums<T> r = walk_row<T, SET>(h, ht, z, zt, p);
    struct loss_row row = {};
    double sums[LOSS_COUNT][LOSS_SUMS] = {};
    row.inv_temperature = (double)p.inv_temperature;
    row.entries = p.shared;
    row.kind = p.kind;
    row.label = (double)finish(h, widen(z[label]), label);
    join_row<T, SET>(r, p, row);
    if (sums_with<SET>(p, WITH_BOTH))
        walk_again<T, SET>(h, ht, z, zt, p, row, r);
    join_sums<T, SET>(r, p, sums);
    if (threadIdx.x == 0)
        end_row<SET>(p, row, sums, out, gradient[0]);
    __syncthreads();
    if (p.want_gradient)
        put_gradient<T, SET>(h, ht, z, zt, p, r, gradient[0], label);
}

#endif
