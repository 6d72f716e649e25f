/* Ops that are forward only: AdamW, sums of squares, statistics of activations, cosines of rows,
 * parts of a range, the cache of keys and values, picked entries. */
#include "reference.h"

#include <math.h>
#include <string.h>

static double *doubles(struct trial *t, int64_t n)
{
    return memset(test_buffer(t, (size_t)n * 8), 0, (size_t)n * 8);
}

static float *floats(struct trial *t, int64_t n, double spread)
{
    float *p = test_buffer(t, (size_t)n * 4);
    test_fill(t, p, n, spread);
    return p;
}

/* The kernel's copy of activations x, in their type; x is rounded to it. */
static void *as_activations(struct trial *t, struct operand *o, float *x)
{
    o->dtype = t->call.x->compute;
    return o->dtype == DT_BF16 ? test_narrow(t, x, o->rows * o->cols) : x;
}

static int near(double got, double want, double tolerance)
{
    return fabs(got - want) <= tolerance * fabs(want);
}

static const char *adamw_whole(struct trial *t)
{
    static const float steps[4] = {3e-3f, 1.7f, 2.9f, 0.5f};
    float *step = memcpy(test_buffer(t, sizeof steps), steps, sizeof steps);
    int64_t n = t->large ? 100003 : test_size(t, 1, 300),
            n_edges = t->number % 3 ? 2 * test_size(t, 1, 6) : 0;
    int64_t *edges = memset(test_buffer(t, sizeof *edges * (size_t)(n_edges + 1)), 0,
                            sizeof *edges);
    float *x[4];
    double *want[3], b1 = 0.9f, b2 = 0.95f, eps = 1e-8f, lr = step[0],
                     weight_decay = t->number % 2 ? 0.1f : 0;
    /* some of them at the same place, at times the first and the last value */
    for (int64_t i = 0, at = 0; i < n_edges; i++) {
        if (t->number % 4 == 1)
            at = i * n / (n_edges - 1);
        else
            at += (int64_t)rng_below(&t->rng, (uint64_t)(n / n_edges + 1));
        edges[i] = at;
    }
    for (int i = 0; i < 4; i++)
        x[i] = floats(t, n, i == 2 ? 1e-2 : 1);
    for (int i = 0; i < 3; i++)
        want[i] = doubles(t, n);
    for (int64_t i = 0, at = 0; i < n; i++) {
        for (; at < n_edges && edges[at] <= i; at++)
            ;
        double decay = at % 2 || !n_edges ? weight_decay : 0;
        x[2][i] = fabsf(x[2][i]);
        double g = (double)x[3][i] * step[3];
        want[1][i] = b1 * x[1][i] + (1 - b1) * g;
        want[2][i] = b2 * x[2][i] + (1 - b2) * g * g;
        want[0][i] = x[0][i] - lr * decay * x[0][i] -
                     lr * want[1][i] * step[1] / (sqrt(want[2][i] * step[2]) + eps);
    }
    t->call.p.adamw = (struct adamw_params){
        x[0], x[1], x[2],  x[3],   n, 0.9f, 0.95f, 1e-8f, (float)weight_decay,
        step, NULL, edges, n_edges};
    uint16_t *narrow = t->call.x->compute == DT_BF16 ? test_buffer(t, (size_t)n * sizeof *narrow)
                                                     : NULL;
    t->call.p.adamw.copy = narrow;
    test_call(t, &t->call, 0);
    for (int64_t i = 0; narrow && i < n; i++)
        if (narrow[i] != f32_to_bf16(x[0][i]))
            return "the copy is not p in bf16";
    for (int i = 0; i < 3; i++)
        if (test_error(x[i], want[i], n) > 1e-6)
            return (const char *[]){"p differs", "m differs", "v differs"}[i];
    return NULL;
}

/* The rows of the call get to their places, and no others change. */
static const char *cache_whole(struct trial *t)
{
    int64_t n_seq = test_size(t, 1, 4), T = t->large ? 300 : test_size(t, 1, 9), pos0 = 0,
            cols = test_size(t, 1, 40);
    if (t->number % 3)
        pos0 = test_size(t, 1, 20);
    test_rows(t, n_seq, T, pos0);
    t->batch.kv_len = pos0 + T + (int64_t)rng_below(&t->rng, 5);
    int64_t kept = n_seq * t->batch.kv_len;
    float *x = floats(t, n_seq * T * cols, 1), *y = floats(t, kept * cols, 1);
    t->call.in[0] = test_operand(t->call.rows, cols);
    t->call.out = test_operand(kept, cols);
    t->call.in[0].v = as_activations(t, &t->call.in[0], x);
    t->call.out.v = as_activations(t, &t->call.out, y);
    double *want = doubles(t, kept * cols);
    for (int64_t i = 0; i < kept * cols; i++)
        want[i] = y[i];
    for (int64_t i = 0; i < n_seq * T * cols; i++)
        want[(i / (T * cols) * t->batch.kv_len + pos0) * cols + i % (T * cols)] = x[i];
    test_call(t, &t->call, 0);
    float *got = test_widen(t, t->call.out.v, t->call.out.dtype, kept * cols);
    for (int64_t i = 0; i < kept * cols; i++)
        if (got[i] != want[i])
            return "a row is not where it should be";
    return NULL;
}

const struct op_test cache_test = {.whole = cache_whole};

const struct op_test adamw_test = {.whole = adamw_whole};

static const char *sumsq_whole(struct trial *t)
{
    int64_t rows = test_size(t, 1, 5), cols = t->large ? 50021 : test_size(t, 1, 300);
    double want = 4, *got = doubles(t, 2);
    float *x = floats(t, rows * cols, t->number % 2 ? 1 : 1e15);
    got[0] = got[1] = 4;
    t->call.in[0] = test_operand(rows, cols);
    t->call.in[0].v = as_activations(t, &t->call.in[0], x);
    for (int64_t i = 0; i < rows * cols; i++)
        want += (double)x[i] * x[i];
    t->call.p.sumsq.out = &got[0];
    test_call(t, &t->call, 0);
    struct exec other = *t->call.x;
    other.threads = 3;
    t->call.x = &other;
    t->call.p.sumsq.out = &got[1];
    test_call(t, &t->call, 0);
    if (got[0] != got[1])
        return "the sum depends on the number of threads";
    return near(got[0], want, 1e-12) ? NULL : "the sum differs";
}

const struct op_test sumsq_test = {.whole = sumsq_whole};

static const char *column_sum_whole(struct trial *t)
{
    int64_t rows = t->large ? 5003 : test_size(t, 1, 40), cols = test_size(t, 1, 4);
    double *x = doubles(t, rows * cols), *got = doubles(t, cols), *want = doubles(t, cols),
           *size = doubles(t, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        x[i] = rng_normal(&t->rng);
    for (int64_t i = 0; i < cols; i++)
        got[i] = want[i] = size[i] = 100 + (double)i;
    for (int64_t i = 0; i < rows * cols; i++) {
        want[i % cols] += x[i];
        size[i % cols] += fabs(x[i]);
    }
    t->call.in[0] = (struct operand){.v = x, .dtype = DT_F64, .rows = rows, .cols = cols};
    t->call.rows = rows;
    t->call.p.column_sum.out = got;
    test_call(t, &t->call, 0);
    for (int64_t i = 0; i < cols; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-13 * size[i]))
            return "a sum differs";
    return NULL;
}

const struct op_test column_sum_test = {.whole = column_sum_whole};

/* s of position `at` and channel or unit `i`. */
static double activity(const struct trial *t, const float *x, int64_t at, int64_t i)
{
    const struct seq_stats_params *p = &t->call.p.seq_stats;
    const float *row = x + at * p->units * p->width;
    double sum = 0;
    if (!p->norm)
        return row[i];
    for (int64_t j = 0; j < p->width; j++)
        sum += (double)row[i * p->width + j] * row[i * p->width + j];
    return sqrt(sum);
}

static const char *seq_stats_compare(const struct trial *t, const float *x, int64_t channels)
{
    const struct seq_stats_params *p = &t->call.p.seq_stats;
    for (int64_t at = 0; at < t->batch.n_seq * channels; at++) {
        int64_t first = at / channels * t->batch.seq_len, T = t->batch.seq_len;
        double absolute = 0, squares = 0, mean = 0, variance = 0;
        for (int64_t j = 0; j < T; j++) {
            double s = activity(t, x, first + j, at % channels);
            absolute += fabs(s) / (double)T;
            squares += s * s;
            mean += s / (double)T;
        }
        for (int64_t j = 0; j < T; j++)
            variance += pow(activity(t, x, first + j, at % channels) - mean, 2) / (double)T;
        if (p->out_mean && !near(p->out_mean[at], absolute, 1e-12))
            return "mean differs";
        if (p->out_l2 && !near(p->out_l2[at], sqrt(squares), 1e-12))
            return "l2 differs";
        if (p->out_var &&
            fabs(p->out_var[at] - variance) > 1e-9 * variance + 1e-13 * squares / (double)T)
            return "variance differs";
    }
    return NULL;
}

static const char *seq_stats_whole(struct trial *t)
{
    int norm = t->number % 2;
    int64_t units = t->large ? 300 : test_size(t, 1, 12), width = test_size(t, 1, 9),
            channels = norm ? units : units * width;
    test_rows(t, test_size(t, 1, 4), test_size(t, 1, 40), 0);
    float *x = floats(t, t->call.rows * units * width, 1);
    for (int64_t i = 0; i < t->call.rows * units * width; i++)
        if (t->number % 3 == 2)
            x[i] += 1000;
        else if (t->number % 3 == 1 && i < units * width)
            x[i] *= 1000; /* the first position differs from the others, as in real models */
    double *out[3];
    for (int i = 0; i < 3; i++)
        out[i] = t->number % 5 == i ? NULL : doubles(t, t->batch.n_seq * channels);
    t->call.in[0] = test_operand(t->call.rows, units * width);
    t->call.in[0].v = as_activations(t, &t->call.in[0], x);
    t->call.p.seq_stats = (struct seq_stats_params){units, width, norm, out[0], out[1], out[2]};
    test_call(t, &t->call, 0);
    return seq_stats_compare(t, x, channels);
}

const struct op_test seq_stats_test = {.whole = seq_stats_whole};

/* Of row i of two of the ring's points. */
static double cosine(const float *a, const float *b, int64_t i, int64_t cols)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t j = i * cols; j < (i + 1) * cols; j++) {
        ab += (double)a[j] * b[j];
        aa += (double)a[j] * a[j];
        bb += (double)b[j] * b[j];
    }
    return aa == 0 || bb == 0 ? 0 : ab / sqrt(aa * bb);
}

static const char *row_cosine_compare(const struct trial *t, const float *ring)
{
    const struct row_cosine_params *r = &t->call.p.row_cosine;
    int64_t T = t->call.rows, cols = t->call.in[0].cols, slot = t->call.in[0].rows * cols;
    for (int64_t at = 0; at < (r->to - r->from) * r->back * T; at++) {
        int64_t p = r->from + at / T / r->back, n = 1 + at / T % r->back;
        double want = p < n ? 0
                            : cosine(ring + p % r->slots * slot, ring + (p - n) % r->slots * slot,
                                     at % T, cols);
        if (!(fabs(r->out[at] - want) < 1e-13))
            return p < n ? "a cosine of a point that does not exist was written"
                         : "a cosine differs";
    }
    return NULL;
}

static const char *row_cosine_whole(struct trial *t)
{
    int64_t cols = t->large ? 3001 : test_size(t, 1, 90), back = test_size(t, 1, 7),
            points = test_size(t, 1, 9), from = test_size(t, 0, 12), slots = back + points;
    test_rows(t, 1, test_size(t, 1, 60), 0);
    t->call.in[0] = test_operand(t->call.rows + test_size(t, 0, 2), cols);
    int64_t slot = t->call.in[0].rows * cols;
    float *ring = floats(t, slots * slot, t->number % 2 ? 1 : 1e-3);
    memset(ring + from % slots * slot, 0, (size_t)cols * 4);
    struct operand all = test_operand(slots * t->call.in[0].rows, cols);
    t->call.in[0].v = as_activations(t, &all, ring);
    t->call.in[0].dtype = all.dtype;
    t->call.p.row_cosine = (struct row_cosine_params){slots, from, from + points, back,
                                                      doubles(t, points * back * t->call.rows)};
    test_call(t, &t->call, 0);
    return row_cosine_compare(t, ring);
}

const struct op_test row_cosine_test = {.whole = row_cosine_whole};

/* Parts that overlap nowhere: each is a corner of a matrix of in0, which lie one after the other
 * there; in out too, in the reverse order, with values between them that are not written. Returns
 * the values of both ranges. */
static struct gather_part draw_parts(struct trial *t, struct gather_part *parts, int64_t n)
{
    struct gather_part end = {.from = test_size(t, 0, 3), .to = test_size(t, 0, 3)};
    int64_t most = t->large ? 130 : 9;
    for (int64_t i = 0; i < n; i++) {
        int64_t rows = test_size(t, 1, most), cols = test_size(t, 1, most);
        int64_t left_out = test_size(t, 0, most), gap = test_size(t, 0, 2);
        parts[i] = (struct gather_part){end.from, 0, rows, cols, cols + left_out, cols + gap};
        end.from += rows * (cols + left_out) + gap;
    }
    for (int64_t i = n; i-- > 0;) {
        parts[i].to = end.to;
        end.to += parts[i].rows * parts[i].to_stride;
    }
    return end;
}

/* The value of in0 that becomes value i of out; -1: none. */
static int64_t gathered_from(const struct gather_part *parts, int64_t n, int64_t i)
{
    for (int64_t k = 0; k < n; k++)
        for (int64_t r = 0; r < parts[k].rows; r++) {
            int64_t column = i - parts[k].to - r * parts[k].to_stride;
            if (column >= 0 && column < parts[k].cols)
                return parts[k].from + r * parts[k].from_stride + column;
        }
    return -1;
}

static const char *gather_compare(struct trial *t, const float *x, const float *y, const float *dx,
                                  const float *dy, const struct gather_part *parts)
{
    int64_t n = t->call.out.cols, n_x = t->call.in[0].cols;
    double *want = doubles(t, n_x);
    for (int64_t i = 0; i < n; i++) {
        int64_t from = gathered_from(parts, t->call.p.gather.n_parts, i);
        if (y[i] != (from < 0 ? -7 : x[from]))
            return from < 0 ? "a value beside the parts was written" : "a value differs";
        if (from >= 0)
            want[from] = (double)dy[i];
    }
    for (int64_t i = 0; i < n_x; i++)
        if (dx[i] != (float)(want[i] + 5))
            return "a gradient differs";
    return NULL;
}

static const char *gather_whole(struct trial *t)
{
    int64_t n = t->large ? 3 : test_size(t, 1, 7);
    struct gather_part *parts = test_buffer(t, sizeof *parts * (size_t)n),
                       end = draw_parts(t, parts, n);
    struct operand *in = &t->call.in[0], *out = &t->call.out;
    *in = test_operand(1, end.from);
    *out = test_operand(1, end.to);
    float *x = floats(t, end.from, 1), *y = floats(t, end.to, 1), *dy = floats(t, end.to, 1);
    float *dx = floats(t, end.from, 1);
    for (int64_t i = 0; i < end.from; i++)
        dx[i] = 5;
    for (int64_t i = 0; i < end.to; i++)
        y[i] = -7;
    in->v = as_activations(t, in, x);
    out->v = as_activations(t, out, y);
    in->g = dx;
    out->g = dy;
    t->call.p.gather = (struct gather_params){parts, n, 0};
    for (int64_t i = 0; i < n; i++)
        if (parts[i].rows * parts[i].cols > t->call.p.gather.most)
            t->call.p.gather.most = parts[i].rows * parts[i].cols;
    test_call(t, &t->call, 0);
    test_call(t, &t->call, 1);
    return gather_compare(t, x, test_widen(t, out->v, out->dtype, end.to), dx, dy, parts);
}

const struct op_test gather_test = {.whole = gather_whole};

/* Is entry b of z after entry a, in the order by size and then id? */
static int is_after(const float *z, int64_t a, int64_t b)
{
    return z[b] < z[a] || (z[b] == z[a] && b > a);
}

/* A listing of the n largest entries of row z, with probabilities p. */
static const char *largest_compare(const float *z, const double *p, int64_t V, int64_t n,
                                   const int32_t *ids, const float *log_p)
{
    double rest = 0;
    int64_t at = 0;
    for (int64_t v = 0; v < V; v++) {
        int64_t before = 0;
        for (int64_t u = 0; u < V; u++)
            before += is_after(z, u, v);
        if (before >= n) {
            rest += p[v];
            continue;
        }
        if (ids[at] != v || !(fabs((double)log_p[at] - log(p[v])) < 1e-5))
            return "a largest entry or its probability differs";
        at++;
    }
    int is_right = rest > 0 ? fabs((double)log_p[n] - log(rest)) < 1e-5 : log_p[n] == -INFINITY;
    return is_right ? NULL : "the rest differs";
}

/* Each of the n draws must fall into its entry's share of the distribution. */
static const char *drawn_compare(const double *p, int64_t V, int64_t n, const double *u,
                                 const int32_t *ids, const float *log_p)
{
    double below = 0;
    int64_t at = 0, v = 0;
    for (int64_t k = 0; k < n && ids[k] < INT32_MAX; k++) {
        if (k && ids[k] <= ids[k - 1])
            return "ids do not ascend";
        for (; v < ids[k]; v++)
            below += p[v];
        int64_t count = llrint((double)n * exp((double)log_p[k]));
        for (; count > 0; count--, at++)
            if (at == n || u[at] < below - 1e-6 || u[at] > below + p[v] + 1e-6)
                return "a draw is not that of its number";
    }
    return at == n && v < V && log_p[n] == -INFINITY ? NULL : "draws are missing";
}

static const char *pick_whole(struct trial *t)
{
    int64_t V = t->large ? 3001 : test_size(t, 1, 600), drawn = t->number % 2,
            n = test_size(t, 1, !drawn && V < 20 ? V : 20);
    test_rows(t, 1, test_size(t, 1, 9), 0);
    float *z = floats(t, t->call.rows * V, t->number % 5 ? 3 : 30);
    for (int64_t i = 0; i < t->call.rows * V; i++)
        if (t->number % 4 < 2) /* many equal ones */
            z[i] = roundf(z[i]);
    t->call.in[0] = test_operand(t->call.rows, V);
    t->call.in[0].v = as_activations(t, &t->call.in[0], z);
    double *u = doubles(t, t->call.rows * n), *p = doubles(t, V);
    for (int64_t i = 0; i < t->call.rows; i++)
        for (int64_t k = 0; k < n; k++) /* ascending */
            u[i * n + k] = ((double)k + rng_uniform(&t->rng)) / (double)n;
    float temperature = (float[]){1, 2, 0.5f}[t->number % 3];
    int32_t *out = test_buffer(t, (size_t)(t->call.rows * (8 * n + 4)));
    t->call.p.pick = (struct pick_params){n, temperature, drawn ? u : NULL, out};
    test_call(t, &t->call, 0);
    for (int64_t i = 0; i < t->call.rows; i++) {
        const int32_t *ids = out + i * (2 * n + 1);
        const float *log_p = (const float *)(ids + n), *row = z + i * V;
        double sum = 0, max = -INFINITY;
        for (int64_t v = 0; v < V; v++)
            max = fmax(max, (double)row[v]);
        for (int64_t v = 0; v < V; v++)
            sum += p[v] = exp(((double)row[v] - max) / (double)temperature);
        for (int64_t v = 0; v < V; v++)
            p[v] /= sum;
        const char *wrong = drawn ? drawn_compare(p, V, n, u + i * n, ids, log_p)
                                  : largest_compare(row, p, V, n, ids, log_p);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const struct op_test pick_test = {.whole = pick_whole};
