/* Rows by expert: see routes.h. */
#include "routes.h"

#include <string.h>

#include "weights.h"

void routes_choose(const float *weight, int64_t X, int64_t top, int32_t *chosen)
{
    int64_t n = 0;
    for (int64_t i = 0; i < X; i++) { /* the largest so far, descending */
        int64_t at = n;
        while (at > 0 && weight[i] > weight[chosen[at - 1]])
            at--;
        if (at == top)
            continue;
        n += n < top;
        memmove(chosen + at + 1, chosen + at, (size_t)(n - 1 - at) * sizeof *chosen);
        chosen[at] = (int32_t)i;
    }
    for (int64_t i = 1; i < top; i++) { /* ascending */
        int32_t one = chosen[i];
        int64_t at = i;
        for (; at > 0 && chosen[at - 1] > one; at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = one;
    }
}

static struct routes sizes_of(const struct op_args *c)
{
    const struct operand *w = &c->w[0];
    int64_t X = c->in[1].cols;
    struct routes r = {.X = X, .top = c->p.route.top, .E = w->cols, .N = w->rows / X};
    r.linear = (struct op_args){.x = c->x, .batch = c->batch, .rows = c->rows};
    r.linear.in[0] = (struct operand){.dtype = DT_F32, .rows = c->rows, .cols = r.E};
    r.linear.out = (struct operand){.dtype = DT_F32, .rows = c->rows, .cols = r.N};
    r.linear.w[0] = *w;
    r.linear.w[0].rows = r.N;
    return r;
}

static size_t lists_bytes(const struct routes *r, int64_t rows)
{
    return arena_round((size_t)(r->X + 1 + rows * r->top + r->top) * sizeof(int32_t));
}

static size_t block_bytes(int64_t rows, int64_t n)
{
    return arena_round((size_t)(rows * n) * sizeof(float));
}

size_t routes_scratch(const struct op_args *c, int wides)
{
    struct routes r = sizes_of(c);
    return lists_bytes(&r, c->rows) + (size_t)wides * block_bytes(c->rows, r.E) +
           block_bytes(c->rows, r.N) + linear_cpu.scratch(&r.linear);
}

/* A counting sort. `first` holds counts, then where each expert's rows end so far. */
static void sort_rows(struct routes *r, const float *weights, int64_t T)
{
    int32_t *chosen = r->row + T * r->top;
    memset(r->first, 0, (size_t)(r->X + 1) * sizeof *r->first);
    for (int64_t t = 0; t < T; t++) {
        routes_choose(weights + t * r->X, r->X, r->top, chosen);
        for (int64_t j = 0; j < r->top; j++)
            r->first[chosen[j] + 1]++;
    }
    for (int64_t e = 0; e < r->X; e++)
        r->first[e + 1] += r->first[e];
    for (int64_t t = T - 1; t >= 0; t--) {
        routes_choose(weights + t * r->X, r->X, r->top, chosen);
        for (int64_t j = r->top - 1; j >= 0; j--)
            r->row[--r->first[chosen[j] + 1]] = (int32_t)(t * r->top + j);
    }
    /* first[e + 1] has become where expert e begins */
    memmove(r->first, r->first + 1, (size_t)r->X * sizeof *r->first);
    r->first[r->X] = (int32_t)(T * r->top);
}

struct routes routes_of(const struct op_args *c, int wides)
{
    struct routes r = sizes_of(c);
    char *at = c->scratch;
    r.first = (int32_t *)at;
    r.row = r.first + r.X + 1;
    at += lists_bytes(&r, c->rows);
    r.wide = (float *)at;
    at += (size_t)wides * block_bytes(c->rows, r.E);
    r.narrow = (float *)at;
    r.linear.scratch = at + block_bytes(c->rows, r.N);
    sort_rows(&r, c->in[1].v, c->rows);
    return r;
}

void routes_gather(const struct routes *r, int64_t e, const float *from, int64_t n, int by_token,
                   float *to)
{
    const int32_t *row = r->row + r->first[e];
    int64_t rows = routes_count(r, e);
#pragma omp parallel for schedule(static) num_threads(r->linear.x->threads) if (rows * n > 32768)
    for (int64_t k = 0; k < rows; k++)
        memcpy(to + k * n, from + (by_token ? row[k] / r->top : row[k]) * n,
               (size_t)n * sizeof *to);
}

struct op_args routes_linear(const struct routes *r, const struct op_args *c, int64_t e)
{
    struct op_args l = r->linear;
    l.rows = l.in[0].rows = l.out.rows = routes_count(r, e);
    l.w[0].v = (char *)c->w[0].v + e * r->N * weight_bytes(c->w[0].dtype, r->E);
    if (c->w[0].g)
        l.w[0].g = c->w[0].g + e * r->N * r->E;
    return l;
}

/* What linear computes as the gradient of its input. */
void routes_output(const struct routes *r, const struct op_args *c, int64_t e, const float *h)
{
    struct op_args l = routes_linear(r, c, e);
    routes_gather(r, e, h, r->N, 0, r->narrow);
    l.out.g = r->narrow;
    l.in[0].g = r->wide;
    l.in[0].overwrite = 1;
    l.w[0].g = NULL;
    linear_cpu.backward(&l);
}
