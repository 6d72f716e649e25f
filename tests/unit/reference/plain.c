/* References of the ops of a tape except attention and loss. */
#include "reference.h"

#include <math.h>

static void elementwise_shape(struct trial *t, int inputs)
{
    int64_t cols = test_size(t, 1, 200);
    test_rows(t, test_size(t, 1, 3), t->large ? 300 : test_size(t, 1, 20), 0);
    for (int i = 0; i < inputs; i++)
        t->call.in[i] = test_operand(t->call.rows, t->large ? 257 : cols);
    t->call.out = t->call.in[0];
}

/* The dtype of a trial's matrix; q8_0 only at widths that it supports. */
static void draw_dtype(struct trial *t, struct operand *w)
{
    w->dtype = (enum dtype[]){DT_F32, DT_BF16, DT_F16, DT_Q8_0}[(t->number + t->number / 4) % 4];
    if (w->dtype == DT_Q8_0)
        w->cols = (w->cols + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
}

static int64_t draw_size(struct trial *t, int64_t large, int64_t low, int64_t high)
{
    return t->large ? large : test_size(t, low, high);
}

static void embed_shape(struct trial *t)
{
    /* more ids than one digit of the CUDA sort, and one of them in half of the positions */
    int many = t->number == 16;
    int64_t V = many ? 1300 : test_size(t, 1, 50);
    int64_t E = many ? 24 : draw_size(t, 301, 1, 150);
    test_rows(t, test_size(t, 1, 3), t->large ? 250 : test_size(t, 1, 30), 0);
    int32_t *ids = test_buffer(t, (size_t)t->call.rows * sizeof *ids);
    for (int64_t i = 0; i < t->call.rows; i++)
        ids[i] = many && rng_below(&t->rng, 2) ? 777 : (int32_t)rng_below(&t->rng, (uint64_t)V);
    t->batch.ids = ids;
    t->call.w[0] = test_operand(V, E);
    draw_dtype(t, &t->call.w[0]);
    t->call.out = test_operand(t->call.rows, t->call.w[0].cols);
    t->call.p.scale.scale = t->number % 2 ? 1 : 3.5f;
}

static void embed_reference(const struct trial *t, double *out)
{
    int64_t E = t->call.w[0].cols;
    for (int64_t i = 0; i < t->call.rows; i++)
        for (int64_t j = 0; j < E; j++)
            out[i * E + j] = t->call.p.scale.scale * t->v[W0][t->batch.ids[i] * E + j];
}

const struct op_test embed_test = {embed_shape, embed_reference, .tolerance = 1e-6, .roundings = 2,
                                   .matrix = 1};

static void position_shape(struct trial *t)
{
    elementwise_shape(t, 1);
    t->batch.pos0 = (int64_t)rng_below(&t->rng, 5);
    test_documents(t);
    t->call.w[0] = test_operand(t->batch.pos0 + t->batch.seq_len + 2, t->call.in[0].cols);
}

static void position_reference(const struct trial *t, double *out)
{
    int64_t E = t->call.out.cols;
    for (int64_t r = 0; r < t->call.rows; r++) {
        int64_t position = t->batch.pos0 + r % t->batch.seq_len - test_start(t, r);
        for (int64_t i = 0; i < E; i++)
            out[r * E + i] = t->v[IN0][r * E + i] + t->v[W0][position * E + i];
    }
}

const struct op_test position_test = {position_shape, position_reference, .tolerance = 1e-6,
                                      .roundings = 2, .matrix = 1};

static void linear_shape(struct trial *t)
{
    int64_t N = draw_size(t, 301, 1, 150), M = draw_size(t, 263, 1, 150);
    test_rows(t, 1, t->number % 4 == 1 ? 1 + t->number / 4 % 5 : draw_size(t, 130, 1, 40), 0);
    /* so wide that the product for the weights' gradient is computed in pieces */
    if (t->number == 18)
        M = 1030;
    if (t->number == 17) { /* long rows: several pieces of a row, several panels on each device */
        t->call.rows = t->batch.seq_len = 7;
        N = 9001;
        M = 470;
    }
    if (t->number == 19) /* the same straight from memory */
        t->call.rows = t->batch.seq_len = 1, N = 9001;
    t->call.w[0] = test_operand(M, N);
    draw_dtype(t, &t->call.w[0]);
    t->call.in[0] = test_operand(t->call.rows, t->call.w[0].cols);
    if (t->number % 2)
        t->call.w[1] = test_operand(M, 1);
    t->call.out = test_operand(t->call.rows, M);
    if (t->number / 2 % 2)
        t->call.in[1] = t->call.out;
}

static void linear_reference(const struct trial *t, double *out)
{
    int64_t N = t->call.w[0].cols, M = t->call.w[0].rows;
    for (int64_t i = 0; i < t->call.rows; i++)
        for (int64_t j = 0; j < M; j++) {
            double s = t->v[W1] ? t->v[W1][j] : 0;
            s += t->v[IN1] ? t->v[IN1][i * M + j] : 0;
            for (int64_t k = 0; k < N; k++)
                s += t->v[IN0][i * N + k] * t->v[W0][j * N + k];
            out[i * M + j] = s;
        }
}

const struct op_test linear_test = {linear_shape, linear_reference, .tolerance = 1e-6,
                                    .roundings = 2, .matrix = 1};

static void norm_shape(struct trial *t, int weights)
{
    /* sums of a CUDA block that just fill the default amount of shared memory, or exceed it */
    int wide = t->number == 16;
    int64_t groups = t->number % 2 ? test_size(t, 1, 5) : 1;
    int64_t n = wide ? 6144 : draw_size(t, 177, 2, 90);
    test_rows(t, test_size(t, 1, 3), wide ? 3 : draw_size(t, 250, 1, 20), 0);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, groups * n);
    for (int i = 0; i < weights; i++)
        if (t->number % 5 != 4 - i) /* sometimes absent */
            t->call.w[i] = test_operand((t->number + i) % 4 < 2 ? n : groups * n, 1);
    t->call.p.norm = (struct norm_params){groups, t->number % 3 ? 1e-5f : 0.1f,
                                          (float)(t->number % 2)};
    t->spread = t->number % 3 == 2 ? 30 : 1;
}

static double norm_weight(const struct trial *t, int w, int64_t channel, int64_t n, double plus,
                          double absent)
{
    if (!t->v[w])
        return absent;
    return plus + t->v[w][t->call.w[w - W0].rows == n ? channel % n : channel];
}

static void norm_reference(const struct trial *t, double *out, int centre)
{
    const struct norm_params *p = &t->call.p.norm;
    int64_t cols = t->call.out.cols, n = cols / p->groups;
    for (int64_t first = 0; first < t->call.rows * cols; first += n) {
        const double *x = t->v[IN0] + first;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < n && centre; i++)
            mean += x[i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            square += (x[i] - mean) * (x[i] - mean) / (double)n;
        for (int64_t i = 0; i < n; i++)
            out[first + i] = (x[i] - mean) / sqrt(square + p->eps) *
                                 norm_weight(t, W0, first % cols + i, n, p->plus1, 1) +
                             (centre ? norm_weight(t, W1, first % cols + i, n, 0, 0) : 0);
    }
}

static void rmsnorm_shape(struct trial *t) { norm_shape(t, 1); }
static void rmsnorm_reference(const struct trial *t, double *out) { norm_reference(t, out, 0); }

const struct op_test rmsnorm_test = {rmsnorm_shape, rmsnorm_reference, .tolerance = 1e-6,
                                     .roundings = 2};
static void layernorm_shape(struct trial *t) { norm_shape(t, 2); }
static void layernorm_reference(const struct trial *t, double *out) { norm_reference(t, out, 1); }

const struct op_test layernorm_test = {layernorm_shape, layernorm_reference, .tolerance = 1e-6,
                                       .roundings = 2};

static void rope_shape(struct trial *t)
{
    int64_t heads = test_size(t, 1, 5), half = test_size(t, 1, 20),
            D = 2 * half + (t->number % 3 ? test_size(t, 1, 9) : 0);
    test_rows(t, test_size(t, 1, 3), t->large ? 400 : test_size(t, 1, 20),
              (int64_t)rng_below(&t->rng, 7));
    test_documents(t);
    t->call.in[0] = t->call.out = test_operand(t->call.rows, heads * D);
    int64_t positions = t->batch.pos0 + t->batch.seq_len;
    float *cosine = test_buffer(t, (size_t)(positions * half) * 4),
          *sine = test_buffer(t, (size_t)(positions * half) * 4);
    for (int64_t i = 0; i < positions * half; i++) {
        double angle = 6.3 * rng_uniform(&t->rng);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    t->call.p.rope = (struct rope_params){heads, 2 * half, positions, t->number % 2, cosine, sine};
}

static void rope_reference(const struct trial *t, double *out)
{
    const struct rope_params *p = &t->call.p.rope;
    int64_t cols = t->call.out.cols, D = cols / p->heads, half = p->dims / 2;
    for (int64_t i = 0; i < t->call.rows * cols; i++)
        out[i] = t->v[IN0][i];
    for (int64_t r = 0; r < t->call.rows; r++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < half; i++) {
                int64_t position = t->batch.pos0 + r % t->batch.seq_len - test_start(t, r),
                        table = position * half + i, head = r * cols + h * D;
                int64_t a = head + (p->interleaved ? 2 * i : i),
                        b = head + (p->interleaved ? 2 * i + 1 : i + half);
                out[a] = t->v[IN0][a] * p->cos[table] - t->v[IN0][b] * p->sin[table];
                out[b] = t->v[IN0][b] * p->cos[table] + t->v[IN0][a] * p->sin[table];
            }
}

const struct op_test rope_test = {rope_shape, rope_reference, .tolerance = 1e-6, .roundings = 2};

static double act_of(enum act f, double x)
{
    switch (f) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return x * 0.5 * erfc(-x / sqrt(2));
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_RELU2: return x > 0 ? x * x : 0;
    case ACT_COUNT: break;
    }
    return NAN;
}

static void act_shape(struct trial *t)
{
    elementwise_shape(t, 1);
    t->call.p.act.f = t->number % ACT_COUNT;
    t->spread = t->number < 8 ? 2 : 5;
}

static void act_reference(const struct trial *t, double *out)
{
    for (int64_t i = 0; i < t->call.rows * t->call.out.cols; i++)
        out[i] = act_of(t->call.p.act.f, t->v[IN0][i]);
}

const struct op_test act_test = {act_shape, act_reference, .tolerance = 1e-6, .roundings = 2};

static void glu_shape(struct trial *t)
{
    elementwise_shape(t, 2);
    t->call.p.act.f = t->number % ACT_COUNT;
    t->spread = 2;
}

static void glu_reference(const struct trial *t, double *out)
{
    for (int64_t i = 0; i < t->call.rows * t->call.out.cols; i++)
        out[i] = act_of(t->call.p.act.f, t->v[IN0][i]) * t->v[IN1][i];
}

const struct op_test glu_test = {glu_shape, glu_reference, .tolerance = 1e-6, .roundings = 2};

static void add_shape(struct trial *t)
{
    elementwise_shape(t, 2);
    t->call.p.scale.scale = t->number % 2 ? 1 : 0.3f;
}

static void add_reference(const struct trial *t, double *out)
{
    for (int64_t i = 0; i < t->call.rows * t->call.out.cols; i++)
        out[i] = t->v[IN0][i] + t->call.p.scale.scale * t->v[IN1][i];
}

const struct op_test add_test = {add_shape, add_reference, .tolerance = 1e-6, .roundings = 2};

static void softcap_shape(struct trial *t)
{
    elementwise_shape(t, 1);
    t->call.p.scale = (struct scale_params){0.7f, t->number % 3 ? 5 : 0};
    t->spread = 6;
}

static void softcap_reference(const struct trial *t, double *out)
{
    double scale = t->call.p.scale.scale, cap = t->call.p.scale.cap;
    for (int64_t i = 0; i < t->call.rows * t->call.out.cols; i++)
        out[i] = cap != 0 ? cap * tanh(scale * t->v[IN0][i] / cap) : scale * t->v[IN0][i];
}

const struct op_test softcap_test = {softcap_shape, softcap_reference, .tolerance = 1e-6,
                                     .roundings = 2};
