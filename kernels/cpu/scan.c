/* scan: the state space of Mamba-2 (Dao and Gu 2024, arXiv 2405.21060, section 3.1; the step as in
 * Gu and Dao 2023, section 3.6). in x[T,M*P] B[T,G*N] C[T,G*N] dt[T,M], w0 = A_log[M],
 * w1 = dt_bias[M], w2 = D[M] -> y[T,M*P]. Head m of group m / (M/G), with A = -exp(A_log), keeps
 * h[P,N], which is zero before the first token of a document; at each token
 *
 *   d = clamp(softplus(dt + dt_bias), dt_min, dt_max),  u = d x
 *   h = exp(d A) h + u B^T,  y = h C + D x
 *
 * Backward, from the last token to the first, with dh = 0 after the last one of a document:
 *
 *   dh += dy C^T,  dC = h^T dy,  dB = dh^T u,  du = dh B,  da = exp(d A) (dh . h before the token)
 *   dx = d du + D dy,  dd = du . x + A da,  dA += d da,  dD += dy . x,  then dh = exp(d A) dh
 *
 * The recurrence is computed token by token: h stays in the cache, and a token takes 5 operations
 * an entry of it, no more than the products of the chunked form. The channels of a head, which do
 * not depend on each other, are vectorised, WIDE at a time. Backward keeps h before every CHUNK
 * tokens, and computes those between again.
 *
 * Work is split over sequences, groups and, where these are fewer than the threads, the heads of a
 * group in parts, which have their own dB and dC, summed in order: same number of threads, same
 * bits. State: h of each head, [M, N, P]. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "../../lib/base/minmax.h"
#include "../op.h"
#include "lanes.h"

enum { VECTORS = LANES / 4, WIDE = VECTORS * LANES, CHUNK = 16 };

struct step {              /* of a token and head */
    float d, decay, slope; /* slope: of d with respect to dt */
    int is_first;          /* of its document */
};

/* One head of a sequence, and a thread's scratch for it: h, dh and none (zeros) [N, WIDE], kept
 * [CHUNK + 1] of these, starts one for every chunk; steps, dd, da [seq_len] */
struct head {
    const struct op_args *c;
    const struct scan_params *s;
    int64_t seq, m, T, N;
    float A, D;
    lanes *h, *dh, *none, *kept, *starts;
    struct step *steps;
    float *dd, *da, *sums; /* sums: dB and dC of a token, [2, N] in whole vectors */
};

/* ---- scratch */

static int64_t chunks_of(int64_t T) { return (T + CHUNK - 1) / CHUNK; }
static int64_t whole_lanes(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

static size_t head_bytes(const struct op_args *c)
{
    int64_t T = c->batch->seq_len, N = c->p.scan.state;
    size_t states = (size_t)((3 + CHUNK + 1 + chunks_of(T)) * N * WIDE) * sizeof(float);
    size_t sums = (size_t)(2 * whole_lanes(N)) * sizeof(float);
    return arena_round(states + sums + (size_t)T * (sizeof(struct step) + 2 * sizeof(float)));
}

/* Into how many parts the heads of a group are split. */
static int64_t part_count(const struct op_args *c)
{
    const struct scan_params *s = &c->p.scan;
    return min64(s->heads / s->groups, (c->x->threads + s->groups - 1) / s->groups);
}

/* of each sequence and head: gradients of A, dt_bias and D */
enum { OF_A, OF_BIAS, OF_D, VECTOR_SUMS };
static size_t vector_bytes(const struct op_args *c)
{
    size_t n = (size_t)(c->batch->n_seq * c->p.scan.heads);
    return arena_round(n * VECTOR_SUMS * sizeof(double));
}
/* dB and dC of a part, [T, G*N] each */
static size_t part_bytes(const struct op_args *c)
{
    return 2 * (size_t)(c->rows * c->p.scan.groups * c->p.scan.state) * sizeof(float);
}

static size_t scan_scratch(const struct op_args *c)
{
    return (size_t)c->x->threads * head_bytes(c) + vector_bytes(c) +
           (size_t)(part_count(c) - 1) * part_bytes(c);
}

static double *vector_sums(const struct op_args *c, int64_t seq, int64_t m)
{
    char *all = (char *)c->scratch + (size_t)c->x->threads * head_bytes(c);
    return (double *)all + (seq * c->p.scan.heads + m) * VECTOR_SUMS;
}

/* The dB (which = 0) or dC (1) of part `part` > 0. */
static float *part_sums(const struct op_args *c, int64_t part, int which)
{
    char *all = (char *)vector_sums(c, 0, 0) + vector_bytes(c);
    return (float *)(all + (size_t)(2 * (part - 1) + which) * (part_bytes(c) / 2));
}

/* ---- a head */

static void step_of(const struct head *a, int64_t t, float dt, struct step *s)
{
    const int32_t *starts = a->c->batch->starts;
    int64_t place = a->c->batch->pos0 + t;
    float soft = fmaxf(dt, 0) + log1pf(expf(-fabsf(dt)));
    int is_clamped = soft < a->s->dt_min || soft > a->s->dt_max;
    s->d = fminf(fmaxf(soft, a->s->dt_min), a->s->dt_max);
    if (dt != dt)
        s->d = dt;
    s->slope = is_clamped ? 0 : 1 / (1 + expf(-dt));
    s->is_first = place == (starts ? starts[a->seq * a->T + t] : 0);
    s->decay = s->is_first ? 0 : expf(s->d * a->A);
}

static struct head head_of(const struct op_args *c, int64_t seq, int64_t m)
{
    const float *dt = c->in[3].v, *bias = c->w[1].v;
    struct head a = {.c = c, .s = &c->p.scan, .seq = seq, .m = m};
    a.T = c->batch->seq_len;
    a.N = a.s->state;
    a.A = -expf(((const float *)c->w[0].v)[m]);
    a.D = ((const float *)c->w[2].v)[m];
    int64_t vectors = a.N * VECTORS;
    a.h = (lanes *)((char *)c->scratch + (size_t)omp_get_thread_num() * head_bytes(c));
    a.dh = a.h + vectors;
    a.none = a.dh + vectors;
    a.kept = a.none + vectors;
    a.starts = a.kept + (CHUNK + 1) * vectors;
    a.sums = (float *)(a.starts + chunks_of(a.T) * vectors);
    a.steps = (struct step *)(a.sums + 2 * whole_lanes(a.N));
    a.dd = (float *)(a.steps + a.T);
    a.da = a.dd + a.T;
    memset(a.none, 0, (size_t)vectors * sizeof *a.none);
    for (int64_t t = 0; t < a.T; t++)
        step_of(&a, t, dt[(seq * a.T + t) * a.s->heads + m] + bias[m], &a.steps[t]);
    return a;
}

/* Where token t's channels from `first` on are in x, y and their gradients. */
static int64_t channels_at(const struct head *a, int64_t t, int64_t first)
{
    const struct scan_params *s = a->s;
    return ((a->seq * a->T + t) * s->heads + a->m) * s->head_dim + first;
}

/* Where B and C of token t are. */
static int64_t group_at(const struct head *a, int64_t t)
{
    const struct scan_params *s = a->s;
    return ((a->seq * a->T + t) * s->groups + a->m / (s->heads / s->groups)) * a->N;
}
static const float *B_of(const struct head *a, int64_t t)
{
    return (const float *)a->c->in[1].v + group_at(a, t);
}
static const float *C_of(const struct head *a, int64_t t)
{
    return (const float *)a->c->in[2].v + group_at(a, t);
}

/* Channels from `first` on, as many as there are; the rest zeros. */
static void channels_read(const struct head *a, const float *row, int64_t first, lanes to[VECTORS])
{
    for (int v = 0; v < VECTORS; v++)
        to[v] = (lanes){0};
    memcpy(to, row, (size_t)min64(WIDE, a->s->head_dim - first) * sizeof(float));
}

/* to = decay from + u B^T and, if C is given, y = to C */
static inline __attribute__((always_inline)) void advance(const lanes *from, lanes *to, int64_t N,
                                                          float decay, const float *B,
                                                          const lanes *u, const float *C, lanes *y)
{
    lanes sum[VECTORS] = {0};
    for (int64_t n = 0; n < N; n++)
        for (int v = 0; v < VECTORS; v++) {
            lanes h = decay * from[n * VECTORS + v] + B[n] * u[v];
            to[n * VECTORS + v] = h;
            if (C)
                sum[v] += C[n] * h;
        }
    for (int v = 0; v < VECTORS && C; v++)
        y[v] = sum[v];
}

/* ---- forward */

static float *state_row(const struct head *a, int64_t n, int64_t first)
{
    const struct scan_params *s = a->s;
    return a->c->state + ((a->seq * s->heads + a->m) * a->N + n) * s->head_dim + first;
}

static void state_read(const struct head *a, int64_t first)
{
    int is_kept = a->c->state && a->c->batch->pos0;
    memset(a->h, 0, (size_t)(a->N * WIDE) * sizeof(float));
    for (int64_t n = 0; n < a->N && is_kept; n++)
        channels_read(a, state_row(a, n, first), first, a->h + n * VECTORS);
}

static void state_write(const struct head *a, int64_t first)
{
    size_t bytes = (size_t)min64(WIDE, a->s->head_dim - first) * sizeof(float);
    for (int64_t n = 0; n < a->N && a->c->state; n++)
        memcpy(state_row(a, n, first), a->h + n * VECTORS, bytes);
}

static void forward_channels(const struct head *a, int64_t first)
{
    size_t bytes = (size_t)min64(WIDE, a->s->head_dim - first) * sizeof(float);
    state_read(a, first);
    for (int64_t t = 0; t < a->T; t++) {
        const struct step *s = &a->steps[t];
        int64_t at = channels_at(a, t, first);
        lanes x[VECTORS], u[VECTORS], y[VECTORS];
        channels_read(a, (const float *)a->c->in[0].v + at, first, x);
        for (int v = 0; v < VECTORS; v++)
            u[v] = s->d * x[v];
        advance(s->is_first ? a->none : a->h, a->h, a->N, s->decay, B_of(a, t), u, C_of(a, t), y);
        for (int v = 0; v < VECTORS; v++)
            y[v] += a->D * x[v];
        memcpy((float *)a->c->out.v + at, y, bytes);
    }
    state_write(a, first);
}

static void scan_fwd(const struct op_args *c)
{
    int64_t M = c->p.scan.heads, items = c->batch->n_seq * M;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < items; i++) {
        struct head a = head_of(c, i / M, i % M);
        for (int64_t first = 0; first < a.s->head_dim; first += WIDE)
            forward_channels(&a, first);
    }
}

/* ---- backward */

/* Token t without its output: *to = the state after it. */
static void replay(const struct head *a, int64_t t, int64_t first, const lanes *from, lanes *to)
{
    const struct step *s = &a->steps[t];
    lanes u[VECTORS];
    channels_read(a, (const float *)a->c->in[0].v + channels_at(a, t, first), first, u);
    for (int v = 0; v < VECTORS; v++)
        u[v] *= s->d;
    advance(s->is_first ? a->none : from, to, a->N, s->decay, B_of(a, t), u, NULL, NULL);
}

/* The states before each chunk. */
static void keep_starts(const struct head *a, int64_t first)
{
    int64_t vectors = a->N * VECTORS;
    memset(a->h, 0, (size_t)vectors * sizeof *a->h);
    for (int64_t t = 0; t < a->T; t++) {
        if (t % CHUNK == 0)
            memcpy(a->starts + t / CHUNK * vectors, a->h, (size_t)vectors * sizeof *a->h);
        replay(a, t, first, a->h, a->h);
    }
}

/* sums[i] += the sum of v[i] */
static void add_sums(lanes v[LANES], float *sums)
{
    lanes_transpose(v);
    for (int i = 1; i < LANES; i++)
        v[0] += v[i];
    *(lanes *)sums += v[0];
}

/* The entries of dh at a token: see the head of the file. du and da: sums over the states. */
static void backward_states(const struct head *a, const struct step *s, int64_t t,
                            const lanes *before, const lanes *after, const lanes *dy,
                            const lanes *u, lanes *du, lanes *da)
{
    const float *B = B_of(a, t), *C = C_of(a, t);
    lanes to_u[VECTORS] = {0}, to_a[VECTORS] = {0};
    for (int64_t first = 0; first < a->N; first += LANES) {
        lanes dB[LANES] = {0}, dC[LANES] = {0};
        for (int64_t n = first; n < min64(first + LANES, a->N); n++)
            for (int v = 0; v < VECTORS; v++) {
                int64_t i = n * VECTORS + v;
                lanes dh = a->dh[i] + C[n] * dy[v];
                dC[n - first] += after[i] * dy[v];
                dB[n - first] += dh * u[v];
                to_u[v] += B[n] * dh;
                to_a[v] += dh * before[i];
                a->dh[i] = s->decay * dh;
            }
        add_sums(dB, a->sums + first);
        add_sums(dC, a->sums + whole_lanes(a->N) + first);
    }
    memcpy(du, to_u, sizeof to_u);
    memcpy(da, to_a, sizeof to_a);
}

static void backward_token(const struct head *a, int64_t t, int64_t first, const lanes *before,
                           const lanes *after, double *dD)
{
    const struct step *s = &a->steps[t];
    int64_t at = channels_at(a, t, first), n = min64(WIDE, a->s->head_dim - first);
    lanes x[VECTORS], u[VECTORS], dy[VECTORS], du[VECTORS], da[VECTORS], dx[VECTORS];
    channels_read(a, (const float *)a->c->in[0].v + at, first, x);
    channels_read(a, a->c->out.g + at, first, dy);
    for (int v = 0; v < VECTORS; v++)
        u[v] = s->d * x[v];
    backward_states(a, s, t, s->is_first ? a->none : before, after, dy, u, du, da);
    for (int v = 0; v < VECTORS; v++) {
        lanes of_d = du[v] * x[v], of_D = dy[v] * x[v];
        dx[v] = s->d * du[v] + a->D * dy[v];
        a->dd[t] += lanes_sum(&of_d);
        a->da[t] += s->decay * lanes_sum(&da[v]);
        *dD += (double)lanes_sum(&of_D);
    }
    for (int64_t i = 0; i < n && a->c->in[0].g; i++)
        a->c->in[0].g[at + i] += ((const float *)dx)[i];
}

/* Adds dB and dC of token t to *sums; NULL: not wanted. */
static void add_group_sums(const struct head *a, int64_t t, float *const sums[2])
{
    for (int i = 0; i < 2; i++) {
        const float *from = a->sums + i * whole_lanes(a->N);
        for (int64_t n = 0; n < a->N && sums[i]; n++)
            sums[i][group_at(a, t) + n] += from[n];
    }
}

static void backward_channels(const struct head *a, int64_t first, float *const sums[2], double *dD)
{
    int64_t vectors = a->N * VECTORS;
    keep_starts(a, first);
    memset(a->dh, 0, (size_t)vectors * sizeof *a->dh);
    for (int64_t chunk = chunks_of(a->T) - 1; chunk >= 0; chunk--) {
        int64_t begin = chunk * CHUNK, n = min64(CHUNK, a->T - begin);
        memcpy(a->kept, a->starts + chunk * vectors, (size_t)vectors * sizeof *a->kept);
        for (int64_t i = 0; i < n; i++)
            replay(a, begin + i, first, a->kept + i * vectors, a->kept + (i + 1) * vectors);
        for (int64_t i = n - 1; i >= 0; i--) {
            const lanes *before = a->kept + i * vectors;
            memset(a->sums, 0, (size_t)(2 * whole_lanes(a->N)) * sizeof *a->sums);
            backward_token(a, begin + i, first, before, before + vectors, dD);
            add_group_sums(a, begin + i, sums);
        }
    }
}

static void backward_head(const struct head *a, float *const sums[2])
{
    double *of = vector_sums(a->c, a->seq, a->m);
    of[OF_A] = of[OF_BIAS] = of[OF_D] = 0;
    memset(a->dd, 0, (size_t)a->T * sizeof *a->dd);
    memset(a->da, 0, (size_t)a->T * sizeof *a->da);
    for (int64_t first = 0; first < a->s->head_dim; first += WIDE)
        backward_channels(a, first, sums, &of[OF_D]);
    for (int64_t t = 0; t < a->T; t++) {
        const struct step *s = &a->steps[t];
        float ddt = s->slope * (a->dd[t] + a->A * a->da[t]);
        if (a->c->in[3].g)
            a->c->in[3].g[(a->seq * a->T + t) * a->s->heads + a->m] += ddt;
        of[OF_BIAS] += (double)ddt;
        of[OF_A] += (double)(s->d * a->da[t]);
    }
    of[OF_A] *= (double)a->A; /* dA / dA_log = A */
}

/* Heads part, part + parts, ... of a group. */
static void backward_part(const struct op_args *c, int64_t seq, int64_t group, int64_t part,
                          int64_t parts)
{
    int64_t each = c->p.scan.heads / c->p.scan.groups, T = c->batch->seq_len, N = c->p.scan.state,
            cols = c->p.scan.groups * N;
    float *sums[2] = {c->in[1].g, c->in[2].g};
    for (int i = 0; i < 2 && part; i++) {
        sums[i] = part_sums(c, part, i);
        for (int64_t row = seq * T; row < (seq + 1) * T; row++)
            memset(sums[i] + row * cols + group * N, 0, (size_t)N * sizeof(float));
    }
    for (int64_t m = part; m < each; m += parts) {
        struct head a = head_of(c, seq, group * each + m);
        backward_head(&a, sums);
    }
}

/* The sums of the parts, and of the sequences. */
static void join(const struct op_args *c, int64_t parts)
{
    int64_t n = c->rows * c->p.scan.groups * c->p.scan.state;
    for (int64_t part = 1; part < parts; part++)
        for (int i = 0; i < 2; i++) {
            const float *from = part_sums(c, part, i);
            for (int64_t k = 0; k < n && c->in[1 + i].g; k++)
                c->in[1 + i].g[k] += from[k];
        }
    for (int i = 0; i < VECTOR_SUMS; i++)
        for (int64_t m = 0; m < c->p.scan.heads && c->w[i].g; m++) {
            double sum = 0;
            for (int64_t seq = 0; seq < c->batch->n_seq; seq++)
                sum += vector_sums(c, seq, m)[i];
            c->w[i].g[m] += (float)sum;
        }
}

static void scan_bwd(const struct op_args *c)
{
    int64_t G = c->p.scan.groups, parts = part_count(c), items = c->batch->n_seq * G * parts;
#pragma omp parallel for schedule(static) num_threads(c->x->threads)
    for (int64_t i = 0; i < items; i++)
        backward_part(c, i / parts / G, i / parts % G, i % parts, parts);
    join(c, parts);
}

const struct kernel scan_cpu = {.forward = scan_fwd, .backward = scan_bwd, .scratch = scan_scratch};
