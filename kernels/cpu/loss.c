/* loss: output head and losses in one, a chunk of tokens and a piece of the vocabulary at a time:
 * logits of all tokens never exist at once, gradients are added at once.
 *
 * in0 [T,E] student's normed hidden, in1 [T,Et] teacher's or absent; w0 [V,E], w1 [V], w2 [Vt,Et],
 * w3 [Vt]: heads (f32, bf16, f16, q8_0) and biases. out: f64 [T,2] = ce, kl of each position, 0
 * where the label is negative. Formulas: struct loss_params in op.h; with p_s = softmax(z_s / tau),
 * the gradient with respect to the student's logit z_s[v] is
 *     scale * (ce_weight * (softmax(z_s)[v] - [v = label]) + kl_weight / tau * (p_s[v] - p_t[v])) *
 * (1 - (z_s[v] / cap)^2) * logit_scale (Hinton et al. 2015, equation 2, without their factor
 * tau^2). Exponentials are f32 and relative to a base near the maximum so far, sums of them f32
 * over RUN entries and f64 beyond (the online softmax of Milakov and Gimelshein 2018; a base that
 * may stay HEADROOM below the maximum saves the walk that would look for it first).
 *
 * Each thread has a range of the vocabulary and walks over it in pieces that its own cache holds,
 * since everything but the products is bound by memory: values are taken from a piece right after
 * its product, and in a second walk over the kept pieces gradients are made and used while they are
 * there. Threads meet three times a chunk: the sums of the ranges become those of the rows, and the
 * ranges' parts of in0's gradient are added up, both in the order of the ranges. Without gradients
 * nothing is kept. Scratch: sums of each row for each range; its part of in0's gradient; logits of
 * student and teacher, [piece][chunk, entries]; a widened piece. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "weights.h"

#if defined __AVX512F__
enum { VECTOR = 16 };
#elif defined __AVX__
enum { VECTOR = 8 };
#else
enum { VECTOR = 4 };
#endif
enum {
    PIECE_FLOATS = 1 << 17,
    HEAD_FLOATS = 1 << 20,
    PIECE_MIN = 64,
    HEADROOM = 16,
    /* so that each lane of a vector adds up 32 entries in f32, whatever its width */
    RUN = 32 * VECTOR
};

struct head { /* z [n, width of a piece] = cap(x [n,E] w^T + bias) */
    const struct operand *w, *bias;
    const float *x;
    int64_t V, E;
    float scale, cap;
    float *z;
};

/* Of entries so far: the sum of e^(z * inv_temperature - base), where no exponent is beyond
 * HEADROOM. base -infinity: none yet. */
struct soft {
    double sum;
    float base, inv_temperature;
};

/* What a row's gradient is made of: first * e^(..) + second * e^(..) - teacher * e^(..), times (1 -
 * (z slope)^2) gain. */
struct mix {
    float first, base, inv_temperature, second, base2, inv_temperature2, teacher, base3, slope,
        gain;
};

struct row {
    struct soft ce, kl, teacher;
    double cross; /* sum of the teacher's e^(..) times (z_t - z_s) */
    /* the student's logit of the label, where the range has it */
    float label;
    struct mix mix;
};

struct work {
    struct head student, teacher;
    struct row *rows; /* [ranges][n] */
    float *dx, *wide; /* [ranges][n, E], [ranges][piece, E] */
    /* rows of this chunk; entries that both vocabularies have; entries of a piece */
    int64_t n, shared, piece, ranges;
    const int32_t *labels;
    double *out;
    int one_softmax; /* of the student serves both losses */
};

/* What one thread works on: entries first .. end - 1. */
struct range {
    int64_t index, first, end;
    struct row *rows;
    float *dx, *wide;
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static size_t rounded(int64_t floats) { return ((size_t)floats + 15) & ~(size_t)15; }

static int64_t chunk_rows(const struct op_args *c)
{
    int64_t chunk = c->p.loss.chunk;
    return chunk > 0 && chunk < c->rows ? chunk : c->rows;
}

static int64_t piece_for(const struct op_args *c, int64_t rows)
{
    int64_t piece = least(PIECE_FLOATS / most(1, rows),
                          HEAD_FLOATS / most(1, most(c->w[0].cols, c->w[2].cols)));
    return most(PIECE_MIN, piece / PIECE_MIN * PIECE_MIN);
}

static int64_t piece_entries(const struct op_args *c) { return piece_for(c, chunk_rows(c)); }

static int64_t shared_entries(const struct op_args *c) { return least(c->w[0].rows, c->w[2].rows); }

/* A widened piece. Scratch is planned for the longest call, and pieces are largest in the shortest:
 * so both sizes here are bounds that never shrink with the number of rows. */
static size_t wide_floats(const struct op_args *c)
{
    int64_t floats = 0, piece = piece_for(c, 1);
    for (int i = 0; i <= 2; i += 2)
        if (c->w[i].dtype != DT_F32)
            floats = most(floats, least(piece, c->w[i].rows) * c->w[i].cols);
    return rounded(floats);
}

/* Logits that are kept at a time, of a head of V entries: all, or a piece of each range. */
static size_t logit_floats(const struct op_args *c, int64_t V)
{
    int64_t rows = chunk_rows(c);
    if (c->p.loss.gradients)
        return rounded(rows * V);
    return rounded(c->x->threads * least(rows * V, most(PIECE_FLOATS, rows * PIECE_MIN)));
}

static size_t row_floats(const struct op_args *c)
{
    return rounded(chunk_rows(c) * (int64_t)(sizeof(struct row) / sizeof(float)));
}
static size_t dx_floats(const struct op_args *c)
{
    return c->p.loss.gradients ? rounded(chunk_rows(c) * c->w[0].cols) : 0;
}

static size_t loss_scratch(const struct op_args *c)
{
    size_t range = row_floats(c) + dx_floats(c) + wide_floats(c);
    return sizeof(float) * ((size_t)c->x->threads * range + logit_floats(c, c->w[0].rows) +
                            logit_floats(c, shared_entries(c)));
}

static struct range range_of(const struct op_args *c, const struct work *k, int64_t i)
{
    struct range r = {.index = i,
                      .rows = k->rows + i * k->n,
                      .dx = k->dx + (size_t)i * dx_floats(c),
                      .wide = k->wide + (size_t)i * wide_floats(c)};
    int64_t units = (k->student.V + PIECE_MIN - 1) / PIECE_MIN;
    r.first = least(units * i / k->ranges * PIECE_MIN, k->student.V);
    r.end = least(units * (i + 1) / k->ranges * PIECE_MIN, k->student.V);
    return r;
}

/* Where the piece that begins at entry v ends. Pieces end where the vocabularies part. */
static int64_t piece_end(const struct work *k, const struct range *r, int64_t v)
{
    int64_t end = least(v + k->piece, r->end);
    return v < k->shared ? least(end, k->shared) : end;
}

static float *piece_logits(const struct op_args *c, const struct work *k, const struct range *r,
                           const struct head *h, int64_t v)
{
    return h->z + k->n * (c->p.loss.gradients ? v : r->index * least(h->V, k->piece));
}

static void head_product(const struct op_args *c, const struct work *k, const struct range *r,
                         const struct head *h, int64_t v, int64_t width)
{
    mm('N', 'T', k->n, width, h->E, h->x, h->E, weight_rows(h->w, v, width, r->wide), h->E, 0,
       piece_logits(c, k, r, h, v), width);
}

/* Bias, scale and cap of n logits from entry v on. */
static void finish_logits(const struct head *h, int64_t v, float *restrict z, int64_t n)
{
    const float *restrict bias = h->bias->v;
    for (int64_t i = 0; bias && i < n; i++)
        z[i] += bias[v + i];
    if (h->cap > 0) {
        float inner = h->scale / h->cap;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            z[i] = h->cap * vec_tanh(inner * z[i]);
    } else if (h->scale != 1) {
        for (int64_t i = 0; i < n; i++)
            z[i] *= h->scale;
    }
}

/* Sums over n entries with the base as it is; *top: the largest exponent. zs, not NULL: *cross =
 * sum of the e^(..) times (z - zs). */
static inline __attribute__((always_inline)) float entries_sum(const struct soft *s, const float *z,
                                                               const float *zs, int64_t n,
                                                               float *top, float *cross)
{
    float base = s->base, inv_temperature = s->inv_temperature, sum = 0, apart = 0,
          peak = -INFINITY;
#pragma omp simd reduction(+ : sum, apart) reduction(max : peak)
    for (int64_t i = 0; i < n; i++) {
        float x = FMA(z[i], inv_temperature, -base), e = vec_exp_normal(x);
        peak = x > peak ? x : peak;
        sum += e;
        if (zs)
            apart += e * (z[i] - zs[i]);
    }
    *top = peak;
    *cross = apart;
    return sum;
}

static float largest(const float *z, int64_t n)
{
    float max = z[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++)
        max = z[i] > max ? z[i] : max;
    return max;
}

/* Adds n entries z to s, and with zs the sum of their e^(..) times (z - zs) to *cross. */
static inline __attribute__((always_inline)) void add_entries(struct soft *s, const float *z,
                                                              const float *zs, int64_t n,
                                                              double *cross)
{
    float top, apart;
    if (s->base == -INFINITY)
        s->base = largest(z, n) * s->inv_temperature;
    float sum = entries_sum(s, z, zs, n, &top, &apart);
    if (top > HEADROOM) {
        double before = s->base;
        s->base += top;
        before = exp(before - (double)s->base);
        s->sum *= before;
        *cross *= before;
        sum = entries_sum(s, z, zs, n, &top, &apart);
    }
    s->sum += (double)sum;
    *cross += (double)apart;
}

/* Two forms that are compiled once each. */
static void add_student_entries(struct soft *s, const float *z, int64_t n)
{
    double none = 0;
    add_entries(s, z, NULL, n, &none);
}

static void add_teacher_entries(struct row *r, const float *zt, const float *zs, int64_t n)
{
    add_entries(&r->teacher, zt, zs, n, &r->cross);
}

static double log_sum(const struct soft *s) { return (double)s->base + log(s->sum); }

static void begin_row(const struct op_args *c, struct row *r)
{
    float inv_temperature = 1 / c->p.loss.temperature;
    *r = (struct row){.ce = {.base = -INFINITY, .inv_temperature = 1},
                      .kl = {.base = -INFINITY, .inv_temperature = inv_temperature},
                      .teacher = {.base = -INFINITY, .inv_temperature = inv_temperature}};
}

/* Entries v .. v + width - 1 of row t. zt: of the teacher, or NULL. */
static void row_values(const struct work *k, struct row *r, int64_t t, int64_t v, int64_t width,
                       float *z, float *zt)
{
    int64_t at = k->labels[t] - v;
    finish_logits(&k->student, v, z, width);
    if (zt)
        finish_logits(&k->teacher, v, zt, width);
    if (at >= 0 && at < width)
        r->label = z[at];
    for (int64_t i = 0; i < width; i += RUN) {
        int64_t n = least(RUN, width - i);
        add_student_entries(&r->ce, z + i, n);
        if (zt && !k->one_softmax)
            add_student_entries(&r->kl, z + i, n);
        if (zt)
            add_teacher_entries(r, zt + i, z + i, n);
    }
}

/* Adds what another range has seen; returns what that one's sums were multiplied with, and in *own
 * what these were. */
static double soft_add(struct soft *s, const struct soft *other, double *own)
{
    float base = other->base > s->base ? other->base : s->base;
    double theirs = other->base == base ? 1 : exp((double)other->base - (double)base);
    *own = s->base == base ? 1 : exp((double)s->base - (double)base);
    s->sum = s->sum * *own + other->sum * theirs;
    s->base = base;
    return theirs;
}

/* The row's sums over the whole vocabulary, left in range 0. */
static struct row *merge_row(const struct work *k, int64_t t)
{
    struct row *r = &k->rows[t];
    for (int64_t i = 1; i < k->ranges; i++) {
        const struct row *other = &k->rows[i * k->n + t];
        double own;
        soft_add(&r->ce, &other->ce, &own);
        soft_add(&r->kl, &other->kl, &own);
        double theirs = soft_add(&r->teacher, &other->teacher, &own);
        r->cross = r->cross * own + other->cross * theirs;
        r->label += other->label;
    }
    if (k->one_softmax)
        r->kl = r->ce;
    return r;
}

/* The row's losses, and how its gradient is mixed. */
static void end_row(const struct op_args *c, const struct work *k, int64_t t)
{
    const struct loss_params *p = &c->p.loss;
    struct row *r = merge_row(k, t);
    double a = (double)p->scale[0] * p->ce_weight,
           b = k->shared ? (double)p->scale[0] * p->kl_weight * r->teacher.inv_temperature : 0;
    k->out[2 * t] = log_sum(&r->ce) - (double)r->label;
    if (k->shared)
        k->out[2 * t + 1] = r->cross / r->teacher.sum * r->teacher.inv_temperature -
                            log_sum(&r->teacher) + log_sum(&r->kl);
    r->mix = (struct mix){.first = (float)(a / r->ce.sum),
                          .base = r->ce.base,
                          .inv_temperature = 1,
                          .gain = k->student.scale};
    if (k->student.cap > 0)
        r->mix.slope = 1 / k->student.cap;
    if (b == 0)
        return;
    r->mix.second = (float)(b / r->kl.sum);
    r->mix.base2 = r->kl.base;
    r->mix.inv_temperature2 = r->kl.inv_temperature;
    r->mix.teacher = (float)(b / r->teacher.sum);
    r->mix.base3 = r->teacher.base;
    if (k->one_softmax) {
        r->mix.first += r->mix.second;
        r->mix.second = 0;
    }
}

static inline __attribute__((always_inline)) void mix_entries(float *restrict z,
                                                              const float *restrict zt, int64_t n,
                                                              struct mix m, int two)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = z[i] * m.slope,
              g = m.first * vec_exp_normal(FMA(z[i], m.inv_temperature, -m.base));
        if (two)
            g += m.second * vec_exp_normal(FMA(z[i], m.inv_temperature2, -m.base2));
        if (zt)
            g -= m.teacher * vec_exp_normal(FMA(zt[i], m.inv_temperature2, -m.base3));
        z[i] = g * (1 - x * x) * m.gain;
    }
}

/* Logits v .. v + width - 1 of row t become d loss / d (x w^T). */
static void row_gradient(const struct op_args *c, const struct work *k, int64_t t, int64_t v,
                         int64_t width, float *z, const float *zt)
{
    const struct mix *m = &k->rows[t].mix;
    int64_t at = k->labels[t] - v;
    if (zt && m->teacher != 0)
        m->second != 0 ? mix_entries(z, zt, width, *m, 1) : mix_entries(z, zt, width, *m, 0);
    else
        mix_entries(z, NULL, width, *m, 0);
    if (at >= 0 && at < width) {
        float x = k->rows[t].label * m->slope;
        z[at] -= c->p.loss.scale[0] * c->p.loss.ce_weight * (1 - x * x) * m->gain;
    }
}

static int counted(const struct work *k, int64_t t) { return k->labels[t] >= 0; }

static void range_values(const struct op_args *c, const struct work *k, const struct range *r)
{
    for (int64_t t = 0; t < k->n; t++)
        begin_row(c, &r->rows[t]);
    for (int64_t v = r->first, width; v < r->end; v += width) {
        width = piece_end(k, r, v) - v;
        float *z = piece_logits(c, k, r, &k->student, v),
              *zt = v < k->shared ? piece_logits(c, k, r, &k->teacher, v) : NULL;
        head_product(c, k, r, &k->student, v, width);
        if (zt)
            head_product(c, k, r, &k->teacher, v, width);
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                row_values(k, &r->rows[t], t, v, width, z + t * width, zt ? zt + t * width : NULL);
    }
}

static void bias_gradient(const float *g, int64_t rows, int64_t width, float *bias)
{
    for (int64_t v = 0; v < width; v += PIECE_MIN) {
        int64_t n = least(PIECE_MIN, width - v);
        double sums[PIECE_MIN] = {0};
        for (int64_t t = 0; t < rows; t++)
            for (int64_t i = 0; i < n; i++)
                sums[i] += (double)g[t * width + v + i];
        for (int64_t i = 0; i < n; i++)
            bias[v + i] += (float)sums[i];
    }
}

/* add: the gradient of the head holds something already */
static void range_gradients(const struct op_args *c, const struct work *k, const struct range *r,
                            int add)
{
    const struct head *h = &k->student;
    for (int64_t v = r->first, width; v < r->end; v += width) {
        width = piece_end(k, r, v) - v;
        float *g = piece_logits(c, k, r, h, v),
              *zt = v < k->shared ? piece_logits(c, k, r, &k->teacher, v) : NULL;
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                row_gradient(c, k, t, v, width, g + t * width, zt ? zt + t * width : NULL);
            else
                memset(g + t * width, 0, (size_t)width * sizeof *g);
        if (c->in[0].g)
            mm('N', 'N', k->n, h->E, width, g, width, weight_rows(h->w, v, width, r->wide), h->E,
               v > r->first, r->dx, h->E);
        if (c->w[0].g)
            mm('T', 'N', width, h->E, k->n, g, width, h->x, h->E, add, c->w[0].g + v * h->E, h->E);
        if (c->w[1].g)
            bias_gradient(g, k->n, width, c->w[1].g + v);
    }
}

/* Row t's gradient of in0, from the parts of all ranges that are not empty. */
static void add_dx(const struct op_args *c, const struct work *k, int64_t t, float *restrict dx)
{
    for (int64_t i = 0; i < k->ranges; i++) {
        struct range r = range_of(c, k, i);
        for (int64_t e = 0; r.first < r.end && e < k->student.E; e++)
            dx[e] += r.dx[t * k->student.E + e];
    }
}

/* dx: gradient of this chunk's rows of in0, or NULL. */
static void run_chunk(const struct op_args *c, const struct work *k, int with_gradient, int add,
                      float *dx)
{
#pragma omp parallel num_threads(c->x->threads)
    {
        struct range r = range_of(c, k, omp_get_thread_num());
        range_values(c, k, &r);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                end_row(c, k, t);
        if (with_gradient) {
            range_gradients(c, k, &r, add);
#pragma omp barrier
#pragma omp for schedule(static)
            for (int64_t t = 0; t < (dx ? k->n : 0); t++)
                add_dx(c, k, t, dx + t * k->student.E);
        }
    }
}

static struct head head_of(const struct op_args *c, int i, float *z)
{
    const struct loss_params *p = &c->p.loss;
    const struct operand *w = &c->w[2 * i];
    return (struct head){.w = w,
                         .bias = &c->w[2 * i + 1],
                         .x = c->in[i].v,
                         .V = w->rows,
                         .E = w->cols,
                         .z = z,
                         .scale = i ? p->teacher_logit_scale : p->logit_scale,
                         .cap = i ? p->teacher_logit_cap : p->logit_cap};
}

static struct work work_of(const struct op_args *c)
{
    int64_t ranges = c->x->threads;
    float *dx = (float *)c->scratch + (size_t)ranges * row_floats(c),
          *wide = dx + (size_t)ranges * dx_floats(c);
    float *z = wide + (size_t)ranges * wide_floats(c), *zt = z + logit_floats(c, c->w[0].rows);
    struct work k = {.student = head_of(c, 0, z),
                     .teacher = head_of(c, 1, zt),
                     .rows = c->scratch,
                     .dx = dx,
                     .wide = wide,
                     .ranges = ranges,
                     .piece = piece_entries(c)};
    if (c->in[1].v && c->w[2].v)
        k.shared = shared_entries(c);
    k.teacher.V = k.shared; /* the rest of a larger one does not count */
    k.one_softmax = k.shared == k.student.V && c->p.loss.temperature == 1;
    return k;
}

static void loss_fwd(const struct op_args *c)
{
    const struct loss_params *p = &c->p.loss;
    struct work k = work_of(c);
    const float *x = k.student.x, *xt = k.teacher.x;
    int with_gradient = p->gradients && (c->in[0].g || c->w[0].g || c->w[1].g) &&
                        (p->ce_weight != 0 || (k.shared && p->kl_weight != 0));
    int add = !c->w[0].overwrite;
    memset(c->out.v, 0, (size_t)c->rows * 2 * sizeof(double));
    for (int64_t t = 0; t < c->rows; t += k.n) {
        k.n = 1;
        k.labels = c->batch->labels + t;
        if (!counted(&k, 0))
            continue;
        k.n = least(chunk_rows(c), c->rows - t);
        /* what is not counted at either end costs nothing */
        while (!counted(&k, k.n - 1))
            k.n--;
        k.student.x = x + t * k.student.E;
        k.teacher.x = k.shared ? xt + t * k.teacher.E : NULL;
        k.out = (double *)c->out.v + 2 * t;
        run_chunk(c, &k, with_gradient, add, c->in[0].g ? c->in[0].g + t * k.student.E : NULL);
        add |= with_gradient;
    }
    if (c->w[0].g && !add) /* nothing was counted */
        memset(c->w[0].g, 0, (size_t)(c->w[0].rows * c->w[0].cols) * sizeof *c->w[0].g);
}

const struct kernel loss_cpu = {.forward = loss_fwd, .scratch = loss_scratch, .sets = 1};
