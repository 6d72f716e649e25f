/* row_cosine: cosines of rows at points of a ring. in0 [slots][in0.rows, N]: point p is in slot p %
 * slots, of which rows 0..T-1 are used. For points p = from..to-1 and n = 1..back with p - n >= 0,
 *
 *   out[((p - from) * back + n - 1) * T + t] = cosine of row t at p and at p - n
 *
 * in f64, 0 where a row is all zeros. Each row is taken at all points together, and so read from
 * memory once. */
#include <math.h>

#include "../../lib/base/minmax.h"
#include "../op.h"

enum { FOUR = 4, LANES = 8, LINE = 16 };
typedef double doubles __attribute__((vector_size(8 * LANES)));

static const float *row_at(const struct op_args *c, int64_t point, int64_t t)
{
    return (const float *)c->in[0].v +
           (point % c->p.row_cosine.slots * c->in[0].rows + t) * c->in[0].cols;
}

/* Vectors are passed by address: by value they would have another ABI on machines without AVX. */
static inline void widen(doubles *to, const float *p)
{
    *to = (doubles){p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]};
}

static inline double total(const doubles *v)
{
    double sum = 0;
    for (int l = 0; l < LANES; l++)
        sum += (*v)[l];
    return sum;
}

/* Dot products of FOUR early rows with FOUR late ones, and of the early ones with themselves: each
 * value read serves five sums. */
static void products(const float *const early[FOUR], const float *const late[FOUR], int64_t n,
                     double sum[FOUR][FOUR], double squares[FOUR])
{
    doubles s[FOUR][FOUR] = {0}, s2[FOUR] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        doubles x[FOUR], y[FOUR];
        for (int k = 0; k < FOUR; k++) {
            widen(&x[k], early[k] + i);
            widen(&y[k], late[k] + i);
        }
        for (int a = 0; a < FOUR; a++) {
            s2[a] += x[a] * x[a];
            for (int b = 0; b < FOUR; b++)
                s[a][b] += x[a] * y[b];
        }
    }
    for (int a = 0; a < FOUR; a++) {
        squares[a] = total(&s2[a]);
        for (int b = 0; b < FOUR; b++)
            sum[a][b] = total(&s[a][b]);
        for (int64_t l = i; l < n; l++) {
            squares[a] += (double)early[a][l] * early[a][l];
            for (int b = 0; b < FOUR; b++)
                sum[a][b] += (double)early[a][l] * late[b][l];
        }
    }
}

static double square(const float *x, int64_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * x[i];
    return sum;
}

/* Row t at FOUR points from p on; those from `end` on repeat the last one. Prefetches the next
 * row: the stride defeats the hardware prefetcher. */
static void rows_at(const struct op_args *c, int64_t t, int64_t p, int64_t end,
                    const float *row[FOUR])
{
    for (int64_t k = 0; k < FOUR; k++) {
        row[k] = row_at(c, min64(p + k, end - 1), t);
        for (int64_t i = 0; i < c->in[0].cols; i += LINE)
            /* past the end is allowed */
            __builtin_prefetch(row[k] + c->in[0].cols + i);
    }
}

/* The cosines of row t at points p..end-1, up to FOUR, with all before them. */
static void row_cosines(const struct op_args *c, int64_t t, int64_t p, int64_t end)
{
    const struct row_cosine_params *r = &c->p.row_cosine;
    const float *late[FOUR], *early[FOUR];
    double late_squares[FOUR], squares[FOUR], xy[FOUR][FOUR];
    rows_at(c, t, p, end, late);
    for (int k = 0; k < FOUR; k++)
        late_squares[k] = square(late[k], c->in[0].cols);
    for (int64_t q = max64(0, p - r->back); q < end - 1; q += FOUR) {
        rows_at(c, t, q, end - 1, early);
        products(early, late, c->in[0].cols, xy, squares);
        for (int64_t a = 0; a < FOUR && q + a < end - 1; a++)
            for (int64_t b = 0; p + b < end; b++) {
                int64_t n = p + b - q - a;
                double lengths = sqrt(squares[a]) * sqrt(late_squares[b]);
                double cosine = lengths == 0 ? 0 : xy[a][b] / lengths;
                if (n >= 1 && n <= r->back)
                    r->out[((p + b - r->from) * r->back + n - 1) * c->rows + t] = cosine;
            }
    }
}

static void row_cosine_fwd(const struct op_args *c)
{
    const struct row_cosine_params *r = &c->p.row_cosine;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t t = 0; t < c->rows; t++)
        for (int64_t p = r->from; p < r->to; p += FOUR)
            row_cosines(c, t, p, min64(p + FOUR, r->to));
}

const struct kernel row_cosine_cpu = {.forward = row_cosine_fwd};
