/* loss on CUDA: see kernels/cpu/loss.c for formulas and shapes. Logits of a chunk of tokens lie in
 * scratch in the type of the activations and become their own gradients; everything taken of them
 * is computed in f32, long sums as in cuda.h. One block a token reads each row twice: once for the
 * softmaxes and the losses, once for the gradient. Whether a position is counted is known on the
 * device only, so that all are computed. Heads are of the type of the activations, or with f32
 * activations f32, bf16 or f16, then widened block by block. Refuses others. */
#include "weights.h"

/* Long rows are walked by one large block a processor, so that the second reading of them finds
 * them in the cache. */
/* WIDE: floats in a widened block of a head */
enum { THREADS_FEW = 256, THREADS_MOST = 1024, LONG_ROW = 32768, WIDE = 1 << 24 };

/* ---- scratch: student's logits, teacher's, one widened block */

/* Each chunk reads and writes the whole f32 gradient of the head, 8 bytes an entry for 2 * chunk
 * FLOP: on an H100 (700 TFLOP/s, 3 TB/s) about 930 tokens make that no longer than the product
 * itself. Beyond a few thousand nothing is gained. LOGITS bytes are 1,024 tokens of two models with
 * 128,256 ids in bf16, and 512 with 256,000. Whole multiples of 128, since that is what the
 * products' tiles are cut in. */
enum { CHUNK_UNIT = 128, CHUNK_LEAST = 256, CHUNK_MOST = 4096, LOGITS = 512 << 20 };

int64_t cuda_loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                        int64_t)
{
    int64_t bytes = (vocabulary + min(vocabulary, teacher_vocabulary)) *
                    (x->compute == DT_BF16 ? 2 : 4),
            chunk = LOGITS / bytes / CHUNK_UNIT * CHUNK_UNIT;
    return max((int64_t)CHUNK_LEAST, min(chunk, (int64_t)CHUNK_MOST));
}

static int64_t chunk_rows(const struct op_args *c)
{
    int64_t chunk = c->p.loss.chunk;
    return chunk > 0 && chunk < c->rows ? chunk : c->rows;
}

/* Logits of a token: the student's (0), or of the teacher's (1) those that the student has too. */
static int64_t logits_count(const struct op_args *c, int who)
{
    return who ? min(c->w[0].rows, c->w[2].rows) : c->w[0].rows;
}

/* Rows of logits start at whole vectors. */
static int64_t logits_ld(const struct op_args *c, int who)
{
    return (logits_count(c, who) + 7) / 8 * 8;
}

static size_t logits_bytes(const struct op_args *c, int who)
{
    size_t bytes = (size_t)(chunk_rows(c) * logits_ld(c, who)) *
                   (c->in[0].dtype == DT_BF16 ? 2 : 4);
    return (bytes + 63) & ~(size_t)63;
}

static int64_t wide_rows(const struct op_args *c, const struct operand *w)
{
    int64_t rows = w->cols > 0 && w->dtype != c->in[0].dtype ? WIDE / w->cols : w->rows;
    return rows < 16 ? min((int64_t)16, w->rows) : min(rows, w->rows);
}

static size_t wide_bytes(const struct op_args *c, const struct operand *w)
{
    return w->dtype != c->in[0].dtype ? (size_t)(wide_rows(c, w) * w->cols) * sizeof(float) : 0;
}

static size_t loss_scratch(const struct op_args *c)
{
    size_t student = wide_bytes(c, &c->w[0]), teacher = wide_bytes(c, &c->w[2]);
    return logits_bytes(c, 0) + logits_bytes(c, 1) + (student > teacher ? student : teacher);
}

/* ---- a row */

template <class T> struct logits {
    T *z;
    const float *bias;
    int64_t V, ld;
    float scale, cap;
};

static __device__ __forceinline__ float exp_as(float x, float) { return expf(x); }
static __device__ __forceinline__ float exp_as(float x, bf16) { return __expf(x); }
static __device__ __forceinline__ float tanh_as(float x, float) { return tanhf(x); }
/* off by f32's share of 1, which is what counts */
static __device__ __forceinline__ float tanh_as(float x, bf16)
{
    return 1 - 2 / (1 + __expf(2 * x));
}
template <class T> static __device__ __forceinline__ float exp_of(float x)
{
    return exp_as(x, T());
}

template <class T>
static __device__ __forceinline__ float finish(const logits<T> &h, float z, int64_t v)
{
    z += h.bias ? h.bias[v] : 0;
    return h.cap > 0 ? h.cap * tanh_as(h.scale / h.cap * z, T()) : h.scale * z;
}

/* Logits i .. i + N - 1 of a row, bias, scale and cap done; -infinity from V on. */
template <class T, int N>
static __device__ __forceinline__ void load_logits(const logits<T> &h, const T *row, int64_t i,
                                                   float (&v)[N])
{
    if (i + N <= h.V) {
        load(row + i, v);
    } else {
#pragma unroll
        for (int k = 0; k < N; k++)
            v[k] = i + k < h.V ? widen(row[i + k]) : 0;
    }
#pragma unroll
    for (int k = 0; k < N; k++)
        v[k] = i + k < h.V ? finish(h, v[k], i + k) : -INFINITY;
}

/* A softmax that is summed up: sum of e^((z - max) * inv_temperature), and of that times what it is
 * to weigh. */
template <class S> struct softmax {
    float max;
    S sum, cross;
};

/* Takes in the first `n` of N logits; other: what they are compared with, or NULL. */
template <class T, int N>
static __device__ __forceinline__ void take_in(softmax<long_sum<T>> &s, const float (&z)[N],
                                               const float *other, int64_t n, float inv_temperature)
{
    float top = s.max;
    if (n <= 0)
        return;
#pragma unroll
    for (int k = 0; k < N; k++)
        top = k < n ? fmaxf(top, z[k]) : top;
    if (top > s.max) {
        float f = exp_of<T>((s.max - top) * inv_temperature);
        s.sum *= (long_sum<T>)f;
        s.cross *= (long_sum<T>)f;
        s.max = top;
    }
#pragma unroll
    for (int k = 0; k < N; k++) {
        float e = k < n ? exp_of<T>((z[k] - s.max) * inv_temperature) : 0;
        s.sum += (long_sum<T>)e;
        if (other && k < n)
            s.cross += (long_sum<T>)e * ((long_sum<T>)z[k] - (long_sum<T>)other[k]);
    }
}

struct row_sums {
    float max;
    double sum, cross;
};

/* The block's softmax; every thread gets it. */
template <class T>
static __device__ row_sums join(const softmax<long_sum<T>> &s, float inv_temperature)
{
    float max = block_max(s.max), f = exp_of<T>((s.max - max) * inv_temperature);
    double sum = block_sum((double)s.sum * (double)f),
           cross = block_sum((double)s.cross * (double)f);
    return {max, sum, cross};
}

static __device__ __forceinline__ double log_sum(const row_sums &s, float inv_temperature)
{
    return (double)s.max * (double)inv_temperature + log(s.sum);
}

struct row_params {
    int64_t shared;
    int want_gradient;
    float ce_weight, kl_weight, inv_temperature;
    const float *scale;
};

/* What the gradient of a row is made of: first e^(z - max) + second e^((z - max2) inv_temperature)
 * - third e^((zt - max3) inv_temperature), less `hit` at the label. */
struct mix {
    float first, max, second, max2, third, max3, hit;
};

template <class T, bool TEACHER>
static __device__ __forceinline__ void put_gradient(const logits<T> &h, const logits<T> &ht, T *z,
                                                    const T *zt, const row_params &p, const mix &m,
                                                    int32_t label)
{
    constexpr int N = VECTOR<T>;
    float slope = h.cap > 0 ? 1 / h.cap : 0, v[N], vt[N] = {};
    for (int64_t i = (int64_t)threadIdx.x * N; i < h.V; i += (int64_t)blockDim.x * N) {
        load_logits(h, z, i, v);
        if (TEACHER && i < p.shared)
            load_logits(ht, zt, i, vt);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float x = v[k] * slope, g = m.first * exp_of<T>(v[k] - m.max);
            if (TEACHER && i + k < p.shared) {
                if (m.second != 0)
                    g += m.second * exp_of<T>((v[k] - m.max2) * p.inv_temperature);
                g -= m.third * exp_of<T>((vt[k] - m.max3) * p.inv_temperature);
            }
            if (i + k == label)
                g -= m.hit;
            v[k] = g * (1 - x * x) * h.scale;
        }
        if (i + N <= h.V)
            store(z + i, v);
        else
            for (int k = 0; k < N && i + k < h.V; k++)
                z[i + k] = narrow<T>(v[k]);
    }
}

/* One block a token. out [., 2]: ce, kl. */
template <class T, bool TEACHER>
static __global__ void __launch_bounds__(THREADS_MOST)
    row_losses(logits<T> h, logits<T> ht, const int32_t *labels, row_params p, double *out)
{
    constexpr int N = VECTOR<T>;
    typedef long_sum<T> S;
    int32_t label = labels[blockIdx.x];
    T *z = h.z + blockIdx.x * h.ld;
    const T *zt = TEACHER ? ht.z + blockIdx.x * ht.ld : NULL;
    softmax<S> all = {-INFINITY, 0, 0}, part = all, teacher = all;
    /* one softmax of the student serves both losses */
    bool same = p.shared == h.V && p.inv_temperature == 1;
    if (label < 0) {
        for (int64_t i = threadIdx.x; p.want_gradient && i < h.V; i += blockDim.x)
            z[i] = narrow<T>(0);
        if (threadIdx.x < 2)
            out[2 * blockIdx.x + threadIdx.x] = 0;
        return;
    }
    for (int64_t i = (int64_t)threadIdx.x * N; i < h.V; i += (int64_t)blockDim.x * N) {
        float v[N], vt[N];
        load_logits(h, z, i, v);
        take_in<T>(all, v, NULL, h.V - i, 1);
        if (TEACHER && i < p.shared) {
            load_logits(ht, zt, i, vt);
            if (!same)
                take_in<T>(part, v, NULL, p.shared - i, p.inv_temperature);
            take_in<T>(teacher, vt, v, p.shared - i, p.inv_temperature);
        }
    }
    double at_label = (double)finish(h, widen(z[label]), label), scale = (double)p.scale[0];
    row_sums ce = join<T>(all, 1), kl = TEACHER && !same ? join<T>(part, p.inv_temperature) : ce,
             t = {};
    mix m = {(float)(scale * (double)p.ce_weight / ce.sum), ce.max, 0, kl.max, 0, 0,
             (float)(scale * (double)p.ce_weight)};
    if (TEACHER) {
        double b = scale * (double)p.kl_weight * (double)p.inv_temperature;
        t = join<T>(teacher, p.inv_temperature);
        (same ? m.first : m.second) += (float)(b / kl.sum);
        m.third = (float)(b / t.sum);
        m.max3 = t.max;
    }
    if (threadIdx.x == 0) {
        out[2 * blockIdx.x] = log_sum(ce, 1) - at_label;
        out[2 * blockIdx.x + 1] = TEACHER ? t.cross / t.sum * (double)p.inv_temperature -
                                                log_sum(t, p.inv_temperature) +
                                                log_sum(kl, p.inv_temperature)
                                          : 0;
    }
    if (p.want_gradient)
        put_gradient<T, TEACHER>(h, ht, z, zt, p, m, label);
}

/* ---- a chunk */

static const char *rows_from(const struct operand *x, int64_t from)
{
    return (const char *)x->v + from * x->cols * (x->dtype == DT_BF16 ? 2 : 4);
}

/* Logits of rows from .. from + n - 1 of student (0) or teacher (1). */
static void head_products(const struct op_args *c, int who, void *z, float *wide, int64_t from,
                          int64_t n)
{
    const struct operand *w = &c->w[2 * who];
    enum dtype d = c->in[0].dtype;
    int64_t E = w->cols, V = logits_count(c, who), ld = logits_ld(c, who), step = wide_rows(c, w),
            rows;
    for (int64_t v = 0; v < V; v += rows) {
        rows = min(V - v, step);
        cuda_mm(c, 'N', 'T', n, rows, E, 1, rows_from(&c->in[who], from), d, E,
                weight_panel(c, w, d, wide, v, rows), d, E, 0,
                (char *)z + v * (d == DT_BF16 ? 2 : 4), d, ld);
    }
}

template <class T> static logits<T> logits_of(const struct op_args *c, int who, void *z)
{
    const struct loss_params *p = &c->p.loss;
    return {(T *)z,
            (const float *)c->w[2 * who + 1].v,
            logits_count(c, who),
            logits_ld(c, who),
            who ? p->teacher_logit_scale : p->logit_scale,
            who ? p->teacher_logit_cap : p->logit_cap};
}

template <class T>
static void chunk_values(const struct op_args *c, const row_params &p, void *z, void *zt,
                         int64_t from, int64_t n)
{
    const int32_t *labels = c->batch->labels + from;
    double *out = (double *)c->out.v + 2 * from;
    logits<T> h = logits_of<T>(c, 0, z), ht = logits_of<T>(c, 1, zt);
    unsigned threads = h.V < LONG_ROW ? THREADS_FEW : THREADS_MOST;
    if (p.shared)
        LAUNCH(c, (row_losses<T, true>), (unsigned)n, threads, 0, h, ht, labels, p, out);
    else
        LAUNCH(c, (row_losses<T, false>), (unsigned)n, threads, 0, h, ht, labels, p, out);
}

static void chunk_gradients(const struct op_args *c, void *z, float *wide, int64_t from, int64_t n)
{
    const struct operand *w = &c->w[0];
    enum dtype d = c->in[0].dtype;
    int64_t E = w->cols, ld = logits_ld(c, 0), step = wide_rows(c, w), size = d == DT_BF16 ? 2 : 4,
            rows;
    for (int64_t v = 0; c->in[0].g && v < w->rows; v += rows) {
        rows = min(w->rows - v, step);
        cuda_mm(c, 'N', 'N', n, E, rows, 1, (char *)z + v * size, d, ld,
                weight_panel(c, w, d, wide, v, rows), d, E, v > 0 || !c->in[0].overwrite,
                (char *)(void *)c->in[0].g + from * E * size, d, E);
    }
    if (w->g)
        cuda_mm(c, 'T', 'N', w->rows, E, n, 1, z, d, ld, rows_from(&c->in[0], from), d, E,
                from > 0 || !w->overwrite, w->g, DT_F32, E);
    if (c->w[1].g)
        BY_DTYPE(d, T, add_row_sums(c, (const T *)z, n, w->rows, ld, c->w[1].g));
}

/* Fresh gradients that neither loss has a part in. */
static void zero_overwrite(const struct op_args *c)
{
    const struct operand *all[] = {&c->in[0], &c->w[0]};
    for (const struct operand *o : all)
        if (o->g && o->overwrite)
            exec_zero(c->x, o->g,
                      (size_t)dtype_bytes(o == all[0] ? o->dtype : DT_F32, o->rows * o->cols));
}

static void loss_fwd(const struct op_args *c)
{
    const struct loss_params *p = &c->p.loss;
    int has_teacher = c->in[1].v && c->w[2].v;
    enum dtype d = c->in[0].dtype;
    char *z = (char *)c->scratch, *zt = z + logits_bytes(c, 0);
    float *wide = (float *)(void *)(zt + logits_bytes(c, 1));
    row_params r = {has_teacher ? logits_count(c, 1) : 0,
                    0,
                    p->ce_weight,
                    p->kl_weight,
                    1 / p->temperature,
                    p->scale};
    r.want_gradient = p->gradients && (c->in[0].g || c->w[0].g || c->w[1].g) &&
                      (p->ce_weight != 0 || (r.shared && p->kl_weight != 0));
    if (weights_refused(c, "loss", &c->w[0], d) || weights_refused(c, "loss", &c->w[2], d))
        return;
    if (!r.want_gradient)
        zero_overwrite(c);
    for (int64_t t = 0, n; t < c->rows; t += n) {
        n = min(c->rows - t, chunk_rows(c));
        head_products(c, 0, z, wide, t, n);
        if (has_teacher)
            head_products(c, 1, zt, wide, t, n);
        BY_DTYPE(d, T, chunk_values<T>(c, r, z, zt, t, n));
        if (r.want_gradient)
            chunk_gradients(c, z, wide, t, n);
    }
    launched(c, "loss");
}

const struct kernel loss_cuda = {.forward = loss_fwd, .scratch = loss_scratch, .sets = 1};
