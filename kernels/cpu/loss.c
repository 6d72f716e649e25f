/* loss: output head and losses in one, a chunk of tokens and a piece of the vocabulary at a time:
 * logits of all tokens never exist at once, gradients are added at once.
 *
 * in0 [T,E] student's normed hidden, in1 [T,Et] teacher's or absent; w0 [V,E], w1 [V], w2 [Vt,Et],
 * w3 [Vt]: heads (f32, bf16, f16, q8_0) and biases. out: f64 [T, columns]: the losses of each
 * position (losses.def, loss_row.h), 0 where the label is negative. The gradient with respect to x
 * w^T is that with respect to the logit times (1 - (logit / cap)^2) * logit_scale.
 *
 * The vocabulary is cut into as many ranges as threads were asked for, of which each thread takes
 * its share, and processed in pieces that fit a core's own cache, since everything but the products
 * is bound by memory: losses are accumulated from a piece right after its product, and in a second
 * pass over the kept pieces gradients are computed and used while they are in cache. Threads meet
 * three times a chunk: the sums of the ranges become those of the rows, and the ranges' parts of
 * in0's gradient are added up, both in the order of the ranges, so that results do not depend on
 * how many threads there really are. A loss whose terms need finished softmaxes costs one more
 * pass. Without that and without gradients nothing is kept. Scratch: sums of each row for each
 * range; its part of in0's gradient; logits of student and teacher, [piece][chunk, entries]; a
 * widened piece. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "loss_listing.h"
#include "weights.h"

enum { PIECE_FLOATS = 1 << 17, HEAD_FLOATS = 1 << 20, PIECE_MIN = 64 };

struct head { /* z [n, width of a piece] = cap(x [n,E] w^T + bias) */
    const struct operand *w, *bias;
    const float *x;
    int64_t V, E;
    float scale, cap;
    float *z;
};

struct work {
    struct head student, teacher;
    struct row_plan plan;
    struct row *rows; /* [ranges][n] */
    float *dx, *wide; /* [ranges][n, E], [ranges][piece, E] */
    float *points;    /* [n, listed entries] */
    /* rows of this chunk; entries that both vocabularies have; entries of a piece */
    int64_t n, shared, piece, ranges;
    const int32_t *labels;
    const char *token_data; /* of this chunk */
    int64_t token_bytes;
    double *out;
    int columns;
};

/* A part of the vocabulary, with its scratch: entries first .. end - 1. */
struct range {
    int64_t index, first, end;
    struct row *rows;
    float *dx, *wide;
};

static size_t rounded(int64_t floats) { return ((size_t)floats + 15) & ~(size_t)15; }

static int64_t chunk_rows(const struct op_args *c)
{
    int64_t chunk = c->p.loss.chunk;
    return chunk > 0 && chunk < c->rows ? chunk : c->rows;
}

static int64_t piece_for(const struct op_args *c, int64_t rows)
{
    int64_t piece = min64(PIECE_FLOATS / max64(1, rows),
                          HEAD_FLOATS / max64(1, max64(c->w[0].cols, c->w[2].cols)));
    return max64(PIECE_MIN, piece / PIECE_MIN * PIECE_MIN);
}

static int64_t piece_entries(const struct op_args *c) { return piece_for(c, chunk_rows(c)); }

/* Does the teacher come with the tokens, as logits or as listed entries? */
static int is_given(const struct op_args *c) { return c->p.loss.teacher.form == TEACHER_LOGITS; }
static int is_listing(const struct op_args *c) { return loss_is_listing(c->p.loss.teacher); }

static int64_t shared_entries(const struct op_args *c)
{
    return min64(c->w[0].rows, is_given(c) ? c->p.loss.teacher.n : c->w[2].rows);
}

/* A widened piece. Scratch is planned for the longest call, and pieces are largest in the shortest:
 * so both sizes here are bounds that never shrink with the number of rows. */
static size_t wide_floats(const struct op_args *c)
{
    int64_t floats = 0, piece = piece_for(c, 1);
    for (int i = 0; i <= 2; i += 2)
        if (c->w[i].dtype != DT_F32)
            floats = max64(floats, min64(piece, c->w[i].rows) * c->w[i].cols);
    return rounded(floats);
}

/* Is a second pass over the logits needed? */
static int kept(const struct op_args *c)
{
    return c->p.loss.gradients || row_second_walk(&c->p.loss);
}

/* Number of logits of a head of V entries kept at a time: all, or a piece of each range. */
static size_t logit_floats(const struct op_args *c, int64_t V)
{
    int64_t rows = chunk_rows(c);
    if (kept(c))
        return rounded(rows * V);
    return rounded(c->x->threads * min64(rows * V, max64(PIECE_FLOATS, rows * PIECE_MIN)));
}

static size_t row_floats(const struct op_args *c)
{
    return rounded(chunk_rows(c) * (int64_t)(sizeof(struct row) / sizeof(float)));
}
static size_t dx_floats(const struct op_args *c)
{
    return c->p.loss.gradients ? rounded(chunk_rows(c) * c->w[0].cols) : 0;
}

static size_t point_floats(const struct op_args *c)
{
    return is_listing(c) ? rounded(chunk_rows(c) * c->p.loss.teacher.n) : 0;
}

static size_t loss_scratch(const struct op_args *c)
{
    size_t range = row_floats(c) + dx_floats(c) + wide_floats(c);
    return sizeof(float) * ((size_t)c->x->threads * range + logit_floats(c, c->w[0].rows) +
                            logit_floats(c, shared_entries(c)) + point_floats(c));
}

static struct range range_of(const struct op_args *c, const struct work *k, int64_t i)
{
    struct range r = {.index = i,
                      .rows = k->rows + i * k->n,
                      .dx = k->dx + (size_t)i * dx_floats(c),
                      .wide = k->wide + (size_t)i * wide_floats(c)};
    int64_t units = (k->student.V + PIECE_MIN - 1) / PIECE_MIN;
    r.first = min64(units * i / k->ranges * PIECE_MIN, k->student.V);
    r.end = min64(units * (i + 1) / k->ranges * PIECE_MIN, k->student.V);
    return r;
}

/* The end of the piece that begins at entry v. Pieces do not cross the end of the shared
 * vocabulary. */
static int64_t piece_end(const struct work *k, const struct range *r, int64_t v)
{
    int64_t end = min64(v + k->piece, r->end);
    return v < k->shared ? min64(end, k->shared) : end;
}

static float *piece_logits(const struct op_args *c, const struct work *k, const struct range *r,
                           const struct head *h, int64_t v)
{
    return h->z + k->n * (kept(c) ? v : r->index * min64(h->V, k->piece));
}

static void head_product(const struct op_args *c, const struct work *k, const struct range *r,
                         const struct head *h, int64_t v, int64_t width)
{
    mm('N', 'T', k->n, width, h->E, h->x, h->E, weight_rows(h->w, v, width, r->wide), h->E, 0,
       piece_logits(c, k, r, h, v), width);
}

/* Entries v .. v + width - 1 of the teacher's logits that came with the tokens. */
static void given_logits(const struct op_args *c, const struct work *k, const struct range *r,
                         int64_t v, int64_t width)
{
    float *z = piece_logits(c, k, r, &k->teacher, v);
    for (int64_t t = 0; t < k->n; t++)
        memcpy(z + t * width, (const float *)(k->token_data + t * k->token_bytes) + v,
               (size_t)width * sizeof *z);
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

static struct row_listing listing_of(const struct work *k, int64_t t)
{
    return row_listing(k->plan.teacher, k->token_data + t * k->token_bytes,
                       k->points + t * k->plan.teacher.n);
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
    if (loss_is_listing(k->plan.teacher)) {
        struct row_listing l = listing_of(k, t);
        row_hide(&l, z, v, width);
    }
    row_add(&k->plan, r, z, zt, width);
}

static int counted(const struct work *k, int64_t t) { return k->labels[t] >= 0; }

static void range_values(const struct op_args *c, const struct work *k, const struct range *r)
{
    for (int64_t t = 0; t < k->n; t++)
        row_begin(&k->plan, &r->rows[t]);
    for (int64_t v = r->first, width; v < r->end; v += width) {
        width = piece_end(k, r, v) - v;
        float *z = piece_logits(c, k, r, &k->student, v),
              *zt = v < k->shared ? piece_logits(c, k, r, &k->teacher, v) : NULL;
        head_product(c, k, r, &k->student, v, width);
        if (zt && is_given(c))
            given_logits(c, k, r, v, width);
        else if (zt)
            head_product(c, k, r, &k->teacher, v, width);
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                row_values(k, &r->rows[t], t, v, width, z + t * width, zt ? zt + t * width : NULL);
    }
}

/* After the rows were merged into those of range 0. */
static void range_second(const struct op_args *c, const struct work *k, const struct range *r)
{
    for (int64_t v = r->first, width; v < min64(r->end, k->shared); v += width) {
        width = piece_end(k, r, v) - v;
        const float *z = piece_logits(c, k, r, &k->student, v),
                    *zt = piece_logits(c, k, r, &k->teacher, v);
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                row_add_second(&k->plan, &r->rows[t], &k->rows[t], z + t * width, zt + t * width,
                               width);
    }
}

static void bias_gradient(const float *g, int64_t rows, int64_t width, float *bias)
{
    for (int64_t v = 0; v < width; v += PIECE_MIN) {
        int64_t n = min64(PIECE_MIN, width - v);
        double sums[PIECE_MIN] = {0};
        for (int64_t t = 0; t < rows; t++)
            for (int64_t i = 0; i < n; i++)
                sums[i] += (double)g[t * width + v + i];
        for (int64_t i = 0; i < n; i++)
            bias[v + i] += (float)sums[i];
    }
}

/* Logits of row t become gradients. */
static void piece_gradient(const struct work *k, int64_t t, int64_t v, int64_t width, float *g,
                           const float *zt)
{
    if (!counted(k, t)) {
        memset(g, 0, (size_t)width * sizeof *g);
        return;
    }
    row_gradient(&k->plan, &k->rows[t], k->labels[t] - v, g, zt, width);
    if (loss_is_listing(k->plan.teacher)) {
        struct row_listing l = listing_of(k, t);
        row_show(&l, g, v, width);
    }
}

/* add: add to the gradient of the head instead of overwriting it */
static void range_gradients(const struct op_args *c, const struct work *k, const struct range *r,
                            int add)
{
    const struct head *h = &k->student;
    for (int64_t v = r->first, width; v < r->end; v += width) {
        width = piece_end(k, r, v) - v;
        float *g = piece_logits(c, k, r, h, v),
              *zt = v < k->shared ? piece_logits(c, k, r, &k->teacher, v) : NULL;
        for (int64_t t = 0; t < k->n; t++)
            piece_gradient(k, t, v, width, g + t * width, zt ? zt + t * width : NULL);
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

/* The sums of row t in all ranges, left in range 0's. */
static void merge_row(const struct work *k, int64_t t, int second)
{
    for (int64_t i = 1; i < k->ranges; i++)
        (second ? row_merge_second : row_merge)(&k->plan, &k->rows[t], &k->rows[i * k->n + t]);
}

static void end_row(const struct work *k, int64_t t)
{
    double *values = k->out + t * k->columns;
    if (!loss_is_listing(k->plan.teacher)) {
        row_end(&k->plan, &k->rows[t], values);
        return;
    }
    struct row_listing l = listing_of(k, t);
    row_end_listing(&k->plan, &k->rows[t], &l, k->labels[t], values);
}

/* The threads of a region share the ranges, however many threads there are. */
#define EACH_RANGE(r) \
    for (int64_t index = omp_get_thread_num(); index < k->ranges; index += omp_get_num_threads()) \
        for (struct range r = range_of(c, k, index); r.index >= 0; r.index = -1)

/* Values of the chunk, and what its gradients are made of; called by all threads of a region. */
static void chunk_values(const struct op_args *c, const struct work *k)
{
    EACH_RANGE(r)
    range_values(c, k, &r);
#pragma omp barrier
    if (k->plan.second_walk) {
#pragma omp for schedule(static)
        for (int64_t t = 0; t < k->n; t++)
            if (counted(k, t))
                merge_row(k, t, 0);
        EACH_RANGE(r)
        range_second(c, k, &r);
#pragma omp barrier
    }
#pragma omp for schedule(static)
    for (int64_t t = 0; t < k->n; t++)
        if (counted(k, t)) {
            merge_row(k, t, k->plan.second_walk);
            end_row(k, t);
        }
}

/* dx: gradient of this chunk's rows of in0, or NULL. add: see range_gradients. */
static void run_chunk(const struct op_args *c, const struct work *k, int with_gradient, int add,
                      float *dx)
{
#pragma omp parallel num_threads(c->x->threads)
    {
        chunk_values(c, k);
        if (with_gradient) {
            EACH_RANGE(r)
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
    const struct loss_params *p = &c->p.loss;
    int64_t ranges = c->x->threads;
    float *dx = (float *)c->scratch + (size_t)ranges * row_floats(c),
          *wide = dx + (size_t)ranges * dx_floats(c);
    float *z = wide + (size_t)ranges * wide_floats(c), *zt = z + logit_floats(c, c->w[0].rows),
          *points = zt + logit_floats(c, shared_entries(c));
    struct work k = {.student = head_of(c, 0, z),
                     .teacher = head_of(c, 1, zt),
                     .rows = c->scratch,
                     .dx = dx,
                     .wide = wide,
                     .points = points,
                     .token_bytes = c->batch->token_bytes,
                     .ranges = ranges,
                     .piece = piece_entries(c)};
    if (is_given(c) || (c->in[1].v && c->w[2].v))
        k.shared = shared_entries(c);
    k.teacher.V = k.shared; /* entries beyond it do not count */
    k.columns = loss_columns(p->kind.set);
    k.plan = row_plan(p, k.student.V, k.shared);
    k.plan.step = c->step;
    k.plan.slope = k.student.cap > 0 ? 1 / k.student.cap : 0;
    k.plan.gain = k.student.scale;
    return k;
}

static int any_weight(const struct op_args *c)
{
    int any = 0;
    for (int i = 0; i < LOSS_COUNT; i++)
        any |= (c->p.loss.kind.set >> i & 1) && c->step[LOSS_WEIGHTS + i] != 0;
    return any;
}

static void loss_fwd(const struct op_args *c)
{
    const struct loss_params *p = &c->p.loss;
    struct work k = work_of(c);
    const float *x = k.student.x, *xt = k.teacher.x;
    int with_gradient = p->gradients && (c->in[0].g || c->w[0].g || c->w[1].g) && any_weight(c);
    int add = !c->w[0].overwrite;
    memset(c->out.v, 0, (size_t)(c->rows * k.columns) * sizeof(double));
    for (int64_t t = 0; t < c->rows; t += k.n) {
        k.n = 1;
        k.labels = c->batch->labels + t;
        if (!counted(&k, 0))
            continue;
        k.n = min64(chunk_rows(c), c->rows - t);
        /* skip uncounted positions at both ends */
        while (!counted(&k, k.n - 1))
            k.n--;
        k.student.x = x + t * k.student.E;
        k.teacher.x = xt ? xt + t * k.teacher.E : NULL;
        k.token_data = (const char *)c->batch->token_data + t * k.token_bytes;
        k.out = (double *)c->out.v + k.columns * t;
        run_chunk(c, &k, with_gradient, add, c->in[0].g ? c->in[0].g + t * k.student.E : NULL);
        add |= with_gradient;
    }
    if (c->w[0].g && !add) /* nothing was counted */
        memset(c->w[0].g, 0, (size_t)(c->w[0].rows * c->w[0].cols) * sizeof *c->w[0].g);
}

const struct kernel loss_cpu = {.forward = loss_fwd, .scratch = loss_scratch, .sets = 1};
