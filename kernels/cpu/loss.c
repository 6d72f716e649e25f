/* loss: output head and losses in one, a chunk of tokens at a time: logits of all tokens never exist at once, gradients are added at once.
 *
 * in0 [T,E] student's normed hidden, in1 [T,Et] teacher's or absent; w0 [V,E], w1 [V], w2 [Vt,Et], w3 [Vt]: heads (f32, bf16, f16) and biases.
 * out: f64 [T,2] = ce, kl of each position, 0 where the label is negative. Formulas: struct loss_params in op.h; with p_s = softmax(z_s / tau),
 * the gradient with respect to the student's logit z_s[v] is
 *     scale * (ce_weight * (softmax(z_s)[v] - [v = label]) + kl_weight / tau * (p_s[v] - p_t[v])) * (1 - (z_s[v] / cap)^2) * logit_scale
 * (Hinton et al. 2015, equation 2, without their factor tau^2). Exponentials are f32 and relative to the maximum, sums of them f32 over
 * PIECE entries and f64 over the pieces.
 * Scratch: student's logits [chunk,V], which become their gradients, teacher's [chunk,Vt], one block of a head widened to f32. */
#include <math.h>
#include <string.h>

#include "../op.h"
#include "vecmath.h"

enum { WIDE = 1 << 19, COLUMNS = 256, PIECE = 1024 };    /* floats in a widened block of a head; columns of a bias sum; entries of an f32 sum */

struct head {                               /* z [n,V] = cap(x [n,E] w^T + bias) */
    const struct operand *w, *bias;
    const float *x;
    int64_t V, E;
    float scale, cap;
    float *z;
};

struct work {
    struct head student, teacher;
    float *wide;
    int64_t n, shared;                      /* rows of this chunk; entries that both vocabularies have */
    const int32_t *labels;
    double *out;
    int want_gradient;
};

static int64_t chunk_rows(const struct call *c)
{
    int64_t chunk = c->p.loss.chunk;
    return chunk > 0 && chunk < c->rows ? chunk : c->rows;
}

static int64_t wide_rows(const struct operand *w)
{
    int64_t rows = w->cols > 0 ? WIDE / w->cols : 0;
    return rows < 16 ? 16 : rows > w->rows ? w->rows : rows;
}

static size_t wide_floats(const struct operand *w)
{
    return w->rows > 0 && w->dtype != DT_F32 ? (size_t)(wide_rows(w) * w->cols) : 0;
}

static size_t logit_floats(const struct call *c, const struct operand *w)
{
    return ((size_t)(chunk_rows(c) * w->rows) + 15) & ~(size_t)15;
}

size_t loss_scratch(const struct call *c)
{
    size_t s = wide_floats(&c->w[0]), t = wide_floats(&c->w[2]);
    return 4 * (logit_floats(c, &c->w[0]) + logit_floats(c, &c->w[2]) + (s > t ? s : t));
}

/* The rows of a head in f32, `*rows` of them from `from` on: in place, or widened block by block. */
static const float *head_rows(const struct call *c, const struct head *h, float *wide, int64_t from, int64_t *rows)
{
    int64_t left = h->V - from;
    if (h->w->dtype == DT_F32) {
        *rows = left;
        return (const float *)h->w->v + from * h->E;
    }
    *rows = left < wide_rows(h->w) ? left : wide_rows(h->w);
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < *rows; i++)
        vec_widen(wide + i * h->E, (const uint16_t *)h->w->v + (from + i) * h->E, h->w->dtype, h->E);
    return wide;
}

static void head_products(const struct call *c, const struct work *k, const struct head *h)
{
    for (int64_t v = 0, rows; v < h->V; v += rows) {
        const float *w = head_rows(c, h, k->wide, v, &rows);
        mm('N', 'T', k->n, rows, h->E, 1, h->x, h->E, w, h->E, 0, h->z + v, h->V);
    }
}

/* Bias, scale and cap of one row of logits. */
static void finish_logits(const struct head *h, float *restrict z)
{
    const float *restrict bias = h->bias->v;
    for (int64_t v = 0; bias && v < h->V; v++)
        z[v] += bias[v];
    if (h->cap > 0) {
        float inner = h->scale / h->cap;
#pragma omp simd
        for (int64_t v = 0; v < h->V; v++)
            z[v] = h->cap * vec_tanh(inner * z[v]);
    } else if (h->scale != 1) {
        for (int64_t v = 0; v < h->V; v++)
            z[v] *= h->scale;
    }
}

static float row_max(const float *z, int64_t n)
{
    float max = z[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    return max;
}

/* sum of e^((z - max) * sharp) over a piece */
static float piece_sum(const float *z, int64_t n, float max, float sharp)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += vec_exp((z[i] - max) * sharp);
    return sum;
}

/* zt becomes e^((zt - max) * sharp); returns their sum, and in *cross the sum of them times (zt - zs). */
static double teacher_weights(float *restrict zt, const float *restrict zs, int64_t n, float max, float sharp, double *cross)
{
    double sum = 0, products = 0;
#pragma omp simd reduction(+ : sum, products)
    for (int64_t i = 0; i < n; i++) {
        float e = vec_exp((zt[i] - max) * sharp);
        sum += (double)e;
        products += (double)e * ((double)zt[i] - (double)zs[i]);
        zt[i] = e;
    }
    *cross = products;
    return sum;
}

/* Softmax over a row's first n entries: e^((z - max) * sharp) / sum. */
struct soft { float max, sharp; double sum; };

/* One pass over memory: where a piece has a new maximum, the sum so far is taken relative to it. */
static struct soft soften(const float *z, int64_t n, float sharp)
{
    struct soft s = {.max = z[0], .sharp = sharp};
    for (int64_t first = 0; first < n; first += PIECE) {
        int64_t k = n - first < PIECE ? n - first : PIECE;
        float max = row_max(z + first, k);
        if (max > s.max) {
            s.sum *= exp((double)(s.max - max) * (double)sharp);
            s.max = max;
        }
        s.sum += (double)piece_sum(z + first, k, s.max, sharp);
    }
    return s;
}

static double log_sum(const struct soft *s) { return (double)s->max * s->sharp + log(s->sum); }

/* What the gradient of a row is made of: first * e^(..) + second * e^(..) - teacher * et, times (1 - (z slope)^2) gain. */
struct mix { float first, max, sharp, second, max2, sharp2, teacher, slope, gain; };

static inline __attribute__((always_inline)) void mix_range(float *restrict z, const float *restrict et, int64_t n, struct mix m, int two)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = z[i] * m.slope, g = m.first * vec_exp((z[i] - m.max) * m.sharp);
        if (two)
            g += m.second * vec_exp((z[i] - m.max2) * m.sharp2);
        if (et)
            g -= m.teacher * et[i];
        z[i] = g * (1 - x * x) * m.gain;
    }
}

/* z becomes d loss / d (x w^T). ce: softmax over V; kl: student's over the first `shared`, where et / et_sum is the teacher's. et NULL: no kl. */
static void row_gradient(const struct call *c, const struct work *k, float *z, int32_t label, const struct soft *ce, const struct soft *kl,
                         const float *et, double et_sum)
{
    const struct loss_params *p = &c->p.loss;
    const struct head *h = &k->student;
    double a = (double)p->scale[0] * p->ce_weight, b = et ? (double)p->scale[0] * p->kl_weight * kl->sharp : 0;
    struct mix m = {.first = (float)(a / ce->sum), .max = ce->max, .sharp = 1, .slope = h->cap > 0 ? 1 / h->cap : 0, .gain = h->scale};
    float x = z[label] * m.slope, hit = (float)a * (1 - x * x) * m.gain;
    int64_t shared = b != 0 ? k->shared : 0;
    mix_range(z + shared, NULL, h->V - shared, m, 0);
    if (b != 0) {
        m.second = (float)(b / kl->sum);
        m.max2 = kl->max;
        m.sharp2 = kl->sharp;
        m.teacher = (float)(b / et_sum);
        if (shared == h->V && kl->sharp == 1) {         /* one softmax serves both */
            m.first += m.second;
            mix_range(z, et, shared, m, 0);
        } else {
            mix_range(z, et, shared, m, 1);
        }
    }
    z[label] -= hit;
}

/* One counted position: values into out[2], and where wanted the student's logits turned into their gradient. */
static void row_loss(const struct call *c, const struct work *k, int64_t t)
{
    const struct head *s = &k->student;
    float *z = s->z + t * s->V, *zt = k->shared ? k->teacher.z + t * k->teacher.V : NULL, sharp = 1 / c->p.loss.temperature;
    double *out = k->out + 2 * t, et_sum = 0, cross;
    finish_logits(s, z);
    struct soft ce = soften(z, s->V, 1), kl = ce;
    out[0] = log_sum(&ce) - (double)z[k->labels[t]];
    if (zt) {
        finish_logits(&k->teacher, zt);
        if (k->shared < s->V || sharp != 1)
            kl = soften(z, k->shared, sharp);
        struct soft teacher = {.max = row_max(zt, k->shared), .sharp = sharp};
        et_sum = teacher.sum = teacher_weights(zt, z, k->shared, teacher.max, sharp, &cross);
        out[1] = cross / et_sum * sharp - log_sum(&teacher) + log_sum(&kl);
    }
    if (k->want_gradient)
        row_gradient(c, k, z, k->labels[t], &ce, &kl, zt, et_sum);
}

static int counted(const struct call *c, int64_t t) { return c->batch->labels[t] >= 0; }

static void chunk_values(const struct call *c, const struct work *k, int64_t from)
{
    head_products(c, k, &k->student);
    if (k->shared)
        head_products(c, k, &k->teacher);
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t t = 0; t < k->n; t++)
        if (counted(c, from + t))
            row_loss(c, k, t);
        else if (k->want_gradient)
            memset(k->student.z + t * k->student.V, 0, (size_t)k->student.V * sizeof(float));
}

static void bias_gradient(const struct call *c, const struct work *k)
{
    const struct head *h = &k->student;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t v = 0; v < h->V; v += COLUMNS) {
        int64_t n = h->V - v < COLUMNS ? h->V - v : COLUMNS;
        double sums[COLUMNS] = {0};
        for (int64_t t = 0; t < k->n; t++)
            for (int64_t i = 0; i < n; i++)
                sums[i] += (double)h->z[t * h->V + v + i];
        for (int64_t i = 0; i < n; i++)
            c->w[1].g[v + i] += (float)sums[i];
    }
}

static void chunk_gradients(const struct call *c, const struct work *k, int64_t from)
{
    const struct head *h = &k->student;
    float *dx = c->in[0].g ? c->in[0].g + from * h->E : NULL;
    for (int64_t v = 0, rows; dx && v < h->V; v += rows) {
        const float *w = head_rows(c, h, k->wide, v, &rows);
        mm('N', 'N', k->n, h->E, rows, 1, h->z + v, h->V, w, h->E, 1, dx, h->E);
    }
    if (c->w[0].g)
        mm('T', 'N', h->V, h->E, k->n, 1, h->z, h->V, h->x, h->E, 1, c->w[0].g, h->E);
    if (c->w[1].g)
        bias_gradient(c, k);
}

static struct head head_of(const struct call *c, int i, float *z)
{
    const struct loss_params *p = &c->p.loss;
    const struct operand *w = &c->w[2 * i];
    return (struct head){.w = w, .bias = &c->w[2 * i + 1], .x = c->in[i].v, .V = w->rows, .E = w->cols, .z = z,
                         .scale = i ? p->teacher_logit_scale : p->logit_scale, .cap = i ? p->teacher_logit_cap : p->logit_cap};
}

void loss_fwd_cpu(const struct call *c)
{
    const struct loss_params *p = &c->p.loss;
    float *z = c->scratch, *zt = z + logit_floats(c, &c->w[0]);
    struct work k = {.student = head_of(c, 0, z), .teacher = head_of(c, 1, zt), .wide = zt + logit_floats(c, &c->w[2])};
    const float *x = k.student.x, *xt = k.teacher.x;
    if (c->in[1].v && c->w[2].v)
        k.shared = k.student.V < k.teacher.V ? k.student.V : k.teacher.V;
    k.want_gradient = (c->in[0].g || c->w[0].g || c->w[1].g) && (p->ce_weight != 0 || (k.shared && p->kl_weight != 0));
    memset(c->out.v, 0, (size_t)c->rows * 2 * sizeof(double));
    for (int64_t t = 0; t < c->rows; t += k.n) {
        k.n = 1;
        if (!counted(c, t))
            continue;
        k.n = c->rows - t < chunk_rows(c) ? c->rows - t : chunk_rows(c);
        while (!counted(c, t + k.n - 1))        /* what is not counted at either end costs nothing */
            k.n--;
        k.student.x = x + t * k.student.E;
        k.teacher.x = k.shared ? xt + t * k.teacher.E : NULL;
        k.labels = c->batch->labels + t;
        k.out = (double *)c->out.v + 2 * t;
        chunk_values(c, &k, t);
        if (k.want_gradient)
            chunk_gradients(c, &k, t);
    }
}
