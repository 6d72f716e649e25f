/* relation on CUDA: see kernels/cpu/relation.c. A block of rows of one head at a time: two products
 * give the scores in f32, one block of threads a row makes of them the row's loss, or the gradients
 * of its scores, from which two products make those of in0. The losses of the heads lie in scratch
 * until all are there. */
#include "cuda.h"

enum { THREADS = 128, SCORES = 1 << 22 };

/* Rows at a time; more for shorter sequences, and never more scratch for them. */
static int64_t block_rows(const struct op_args *c)
{
    int64_t rows = SCORES / max(c->batch->seq_len, (int64_t)1);
    return max((int64_t)16, rows / 16 * 16);
}

static int64_t score_bytes(const struct op_args *c)
{
    int64_t most = max((int64_t)SCORES, 16 * c->batch->seq_len),
            all = c->batch->seq_len * c->batch->seq_len;
    return (int64_t)arena_round((size_t)min(most, all) * sizeof(float));
}

/* Scores of student and teacher, gradients of scores, losses of every head. */
static size_t relation_scratch(const struct op_args *c)
{
    return (size_t)(3 * score_bytes(c)) + (size_t)(c->rows * c->p.relation.heads) * sizeof(double);
}

static double *head_losses(const struct op_args *c)
{
    return (double *)(void *)((char *)c->scratch + 3 * score_bytes(c));
}

/* The rows of a head that one product takes, first .. end - 1 of its sequence. */
struct rows_of_head {
    int64_t seq, head, first, end;
};

/* A softmax of a row of n scores times `scale`: the largest exponent, the sum of exponentials
 * relative to it, log sum exp. */
struct softmax {
    float most;
    double sum, log_sum;
};
static __device__ softmax row_softmax(const float *x, int64_t n, float scale)
{
    float most = -INFINITY;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        most = fmaxf(most, x[i] * scale);
    most = block_max(most);
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        sum += (double)expf(x[i] * scale - most);
    sum = block_sum(sum);
    return {most, sum, (double)most + log(sum)};
}

struct scales {
    float student, teacher;
};

/* Of one sequence; starts: NULL: 0. */
struct tokens_of {
    const int32_t *labels, *starts;
    __device__ int64_t start(int64_t t) const { return starts ? starts[t] : 0; }
    __device__ bool is_padding(int64_t t) const { return labels[t] == LABEL_PADDING; }
};

static __global__ void __launch_bounds__(THREADS)
    row_divergences(const float *s, const float *r, int64_t first, int64_t end, scales k,
                    tokens_of tokens, double *out)
{
    int64_t t = first + blockIdx.x, start = tokens.start(t), n = t + 1 - start;
    s += blockIdx.x * end + start;
    r += blockIdx.x * end + start;
    if (tokens.is_padding(t)) {
        if (threadIdx.x == 0)
            out[t] = 0;
        return;
    }
    softmax of_s = row_softmax(s, n, k.student), of_r = row_softmax(r, n, k.teacher);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) {
        float y = r[i] * k.teacher;
        sum += (double)expf(y - of_r.most) * ((double)y - s[i] * k.student);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[t] = sum / of_r.sum - of_r.log_sum + of_s.log_sum;
}

/* Gradients of a row's scores, zeros after its n entries. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    score_gradients(const float *s, const float *r, int64_t first, int64_t end, scales k,
                    tokens_of tokens, float weight, const float *step, T *g)
{
    int64_t t = first + blockIdx.x, start = tokens.start(t);
    int64_t n = tokens.is_padding(t) ? 0 : t + 1 - start;
    float f = weight * step[STATE_SCALE] * step[STATE_WEIGHT];
    s += blockIdx.x * end + start;
    r += blockIdx.x * end + start;
    g += blockIdx.x * end + start;
    softmax of_s = row_softmax(s, n, k.student), of_r = row_softmax(r, n, k.teacher);
    float fs = (float)(f / of_s.sum), fr = (float)(f / of_r.sum);
    for (int64_t i = (int64_t)threadIdx.x - start; i < end - start; i += THREADS)
        g[i] = narrow<T>(i >= 0 && i < n ? fs * expf(s[i] * k.student - of_s.most) -
                                               fr * expf(r[i] * k.teacher - of_r.most)
                                         : 0);
}

/* Where the vectors of a head begin, at a row of its sequence. */
template <class T>
static T *vectors(const struct op_args *c, const struct operand *o, void *base,
                  const rows_of_head &b, int64_t row)
{
    return (T *)base + (b.seq * c->batch->seq_len + row) * o->cols +
           b.head * (o->cols / c->p.relation.heads);
}

template <class T>
static void block_scores(const struct op_args *c, int i, const rows_of_head &b, float *scores)
{
    const struct operand *o = &c->in[i];
    cuda_mm(c, 'N', 'T', b.end - b.first, b.end, o->cols / c->p.relation.heads, 1,
            vectors<T>(c, o, o->v, b, b.first), o->dtype, o->cols, vectors<T>(c, o, o->v, b, 0),
            o->dtype, o->cols, 0, scores, DT_F32, b.end);
}

static float scale_of(const struct op_args *c, int i)
{
    return 1 / sqrtf((float)(c->in[i].cols / c->p.relation.heads));
}

template <class T> static void block_gradients(const struct op_args *c, const rows_of_head &b, T *g)
{
    const struct operand *o = &c->in[0];
    int64_t width = o->cols / c->p.relation.heads, n = b.end - b.first;
    cuda_mm(c, 'N', 'N', n, width, b.end, 1, g, o->dtype, b.end, vectors<T>(c, o, o->v, b, 0),
            o->dtype, o->cols, 1, vectors<T>(c, o, o->g, b, b.first), o->dtype, o->cols);
    cuda_mm(c, 'T', 'N', b.end, width, n, 1, g, o->dtype, b.end, vectors<T>(c, o, o->v, b, b.first),
            o->dtype, o->cols, 1, vectors<T>(c, o, o->g, b, 0), o->dtype, o->cols);
}

template <class T> static void run_block(const struct op_args *c, const rows_of_head &b, int back)
{
    float *s = (float *)c->scratch, *r = (float *)(void *)((char *)s + score_bytes(c));
    T *g = (T *)(void *)((char *)s + 2 * score_bytes(c));
    int64_t row = b.seq * c->batch->seq_len;
    tokens_of tokens = {c->batch->labels + row, c->batch->starts ? c->batch->starts + row : NULL};
    scales k = {scale_of(c, 0), scale_of(c, 1)};
    unsigned n = (unsigned)(b.end - b.first);
    block_scores<T>(c, 0, b, s);
    block_scores<T>(c, 1, b, r);
    if (!back) {
        LAUNCH(c, row_divergences, n, THREADS, 0, (const float *)s, (const float *)r, b.first,
               b.end, k, tokens, head_losses(c) + b.head * c->rows + b.seq * c->batch->seq_len);
        return;
    }
    LAUNCH(c, score_gradients<T>, n, THREADS, 0, (const float *)s, (const float *)r, b.first, b.end,
           k, tokens, c->p.relation.weight * k.student / (float)c->p.relation.heads, c->step, g);
    block_gradients<T>(c, b, g);
}

static void each_block(const struct op_args *c, int back)
{
    int64_t N = c->batch->seq_len, rows = block_rows(c);
    for (int64_t seq = 0; seq < c->batch->n_seq; seq++)
        for (int64_t head = 0; head < c->p.relation.heads; head++)
            for (int64_t first = 0; first < N; first += rows) {
                rows_of_head b = {seq, head, first, min(first + rows, N)};
                BY_DTYPE(c->in[0].dtype, T, run_block<T>(c, b, back));
            }
}

struct mean_of_heads {
    const double *losses;
    double *out;
    int64_t rows, heads;
    template <int N> __device__ void at(int64_t t) const
    {
        double sum = 0;
        for (int64_t i = 0; i < heads; i++)
            sum += losses[i * rows + t];
        out[t] = sum / (double)heads;
    }
};

static void relation_fwd(const struct op_args *c)
{
    each_block(c, 0);
    map<float>(c, c->rows, 0,
               mean_of_heads{head_losses(c), (double *)c->out.v, c->rows, c->p.relation.heads});
    launched(c, "relation forward");
}

static void relation_bwd(const struct op_args *c)
{
    if (c->in[0].g)
        each_block(c, 1);
    launched(c, "relation backward");
}

const struct kernel relation_cuda = {
    .forward = relation_fwd, .backward = relation_bwd, .scratch = relation_scratch};
