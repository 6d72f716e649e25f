/* relation: how far the relations among the student's vectors in0[T,N] (queries, keys or values of
 * a block) are from those among the teacher's in1[T,M]: MiniLMv2 (Wang et al. 2021, arXiv
 * 2012.15828, section 3.1), within the causal mask of a decoder. The columns are divided
 * evenly into heads, whose width may differ between the two; with a head's vectors a_j,
 *
 *   R_tj = softmax over j = start..t of a_t a_j / sqrt(width), start the beginning of t's document
 *   out[t] = mean over the heads of sum_j R_tj (log R_tj - log S_tj), R the teacher's, S the
 * student's
 *
 * in f64, 0 for padding. Backward, with f the product of the params' weight and the step values and
 * G_tj = f / heads (S_tj - R_tj) / sqrt(width): in0.g_t += sum_j (G_tj + G_jt) a_j.
 *
 * ROWS rows of a head at a time, by matrix products: never T x T in memory. A thread takes whole
 * heads of whole sequences, so that it alone writes their gradient. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "vecmath.h"

enum { ROWS = 64 };

/* One head of one sequence: its first row's vector, of width columns, rows ld apart. */
struct vectors {
    const float *a;
    int64_t ld, width;
};

struct head {
    struct vectors student, teacher;
    const int32_t *labels, *starts; /* starts: NULL: 0 */
    float *scores[2];               /* scratch: [ROWS, seq_len] of student and teacher */
    double *out;                    /* [seq_len] */
    float *g;                       /* of the student's a */
};

static size_t block_floats(const struct op_args *c)
{
    return (size_t)(ROWS * c->batch->seq_len + 15) & ~(size_t)15;
}

/* The scores of every thread; then the losses of every head. */
static size_t relation_scratch(const struct op_args *c)
{
    return 2 * (size_t)c->x->threads * block_floats(c) * sizeof(float) +
           (size_t)(c->rows * c->p.relation.heads) * sizeof(double);
}

static struct vectors vectors_of(const struct op_args *c, int i, int64_t seq, int64_t head)
{
    int64_t ld = c->in[i].cols, width = ld / c->p.relation.heads;
    return (struct vectors){(const float *)c->in[i].v + seq * c->batch->seq_len * ld + head * width,
                            ld, width};
}

static double *head_losses(const struct op_args *c)
{
    return (double *)((float *)c->scratch + 2 * (size_t)c->x->threads * block_floats(c));
}

static struct head head_of(const struct op_args *c, int64_t seq, int64_t head)
{
    int64_t N = c->batch->seq_len;
    struct head h = {.student = vectors_of(c, 0, seq, head),
                     .teacher = vectors_of(c, 1, seq, head),
                     .labels = c->batch->labels + seq * N,
                     .starts = c->batch->starts ? c->batch->starts + seq * N : NULL};
    h.scores[0] = (float *)c->scratch + 2 * (size_t)omp_get_thread_num() * block_floats(c);
    h.scores[1] = h.scores[0] + block_floats(c);
    h.out = head_losses(c) + head * c->rows + seq * N;
    h.g = c->in[0].g ? c->in[0].g + (h.student.a - (const float *)c->in[0].v) : NULL;
    return h;
}

/* Products of the vectors first .. end - 1 with all up to end - 1. */
static void block_scores(const struct vectors *v, int64_t first, int64_t end, float *scores)
{
    mm('N', 'T', end - first, end, v->width, v->a + first * v->ld, v->ld, v->a, v->ld, 0, scores,
       end);
}

/* A softmax: the largest exponent, the sum of exponentials relative to it, log sum exp. */
struct softmax {
    float most;
    double sum, log_sum;
};

/* Replaces n scores by their exponents. */
static struct softmax row_softmax(float *restrict x, int64_t n, float scale)
{
    float most = -INFINITY;
    double sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) {
        x[i] *= scale;
        most = x[i] > most ? x[i] : most;
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)vec_exp(x[i] - most);
    return (struct softmax){most, sum, (double)most + log(sum)};
}

static float scale_of(const struct vectors *v) { return 1 / sqrtf((float)v->width); }

/* The divergence of a row of n scores. */
static double row_divergence(const struct head *h, float *restrict s, float *restrict r, int64_t n)
{
    struct softmax of_s = row_softmax(s, n, scale_of(&h->student)),
                   of_r = row_softmax(r, n, scale_of(&h->teacher));
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)vec_exp(r[i] - of_r.most) * ((double)r[i] - s[i]);
    return sum / of_r.sum - of_r.log_sum + of_s.log_sum;
}

/* Replaces a row of n scores by the gradients with respect to them, and `more` entries after it by
 * zeros. */
static void row_gradient(const struct head *h, float *restrict s, float *restrict r, int64_t n,
                         int64_t more, float f)
{
    struct softmax of_s = row_softmax(s, n, scale_of(&h->student)),
                   of_r = row_softmax(r, n, scale_of(&h->teacher));
    float fs = (float)(f / of_s.sum), fr = (float)(f / of_r.sum);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        s[i] = fs * vec_exp(s[i] - of_s.most) - fr * vec_exp(r[i] - of_r.most);
    memset(s + n, 0, (size_t)more * sizeof *s);
}

static int is_padding(const struct head *h, int64_t t) { return h->labels[t] == LABEL_PADDING; }
static int64_t start_of(const struct head *h, int64_t t) { return h->starts ? h->starts[t] : 0; }

static void block_forward(const struct head *h, int64_t first, int64_t end)
{
    block_scores(&h->student, first, end, h->scores[0]);
    block_scores(&h->teacher, first, end, h->scores[1]);
    for (int64_t t = first; t < end; t++) {
        int64_t start = start_of(h, t), at = (t - first) * end + start;
        h->out[t] = is_padding(h, t)
                        ? 0
                        : row_divergence(h, h->scores[0] + at, h->scores[1] + at, t + 1 - start);
    }
}

static void block_backward(const struct head *h, int64_t first, int64_t end, float f)
{
    const struct vectors *v = &h->student;
    float *g = h->scores[0];
    block_scores(v, first, end, g);
    block_scores(&h->teacher, first, end, h->scores[1]);
    for (int64_t t = first; t < end; t++) {
        int64_t start = start_of(h, t), n = is_padding(h, t) ? 0 : t + 1 - start;
        float *row = g + (t - first) * end;
        memset(row, 0, (size_t)start * sizeof *row);
        row_gradient(h, row + start, h->scores[1] + (t - first) * end + start, n, end - start - n,
                     f);
    }
    mm('N', 'N', end - first, v->width, end, g, end, v->a, v->ld, 1, h->g + first * v->ld, v->ld);
    mm('T', 'N', end, v->width, end - first, g, end, v->a + first * v->ld, v->ld, 1, h->g, v->ld);
}

/* Every block of every head of every sequence; forward without f. */
static void each_block(const struct op_args *c, const float *f)
{
    int64_t heads = c->p.relation.heads, N = c->batch->seq_len;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < c->batch->n_seq * heads; i++) {
        struct head h = head_of(c, i / heads, i % heads);
        for (int64_t first = 0; first < N; first += ROWS) {
            int64_t end = min64(first + ROWS, N);
            if (f)
                block_backward(&h, first, end, *f);
            else
                block_forward(&h, first, end);
        }
    }
}

static void relation_fwd(const struct op_args *c)
{
    int64_t heads = c->p.relation.heads;
    const double *losses = head_losses(c);
    double *out = c->out.v;
    each_block(c, NULL);
    for (int64_t t = 0; t < c->rows; t++) {
        double sum = 0;
        for (int64_t i = 0; i < heads; i++)
            sum += losses[i * c->rows + t];
        out[t] = sum / (double)heads;
    }
}

static void relation_bwd(const struct op_args *c)
{
    int64_t heads = c->p.relation.heads;
    struct vectors v = vectors_of(c, 0, 0, 0);
    float f = c->p.relation.weight * c->step[STATE_SCALE] * c->step[STATE_WEIGHT] / (float)heads *
              scale_of(&v);
    if (c->in[0].g)
        each_block(c, &f);
}

const struct kernel relation_cpu = {
    .forward = relation_fwd, .backward = relation_bwd, .scratch = relation_scratch};
