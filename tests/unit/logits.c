/* Rows of logits streams: what is written of a listing comes back, what is damaged is refused, and
 * the gradient from draws is on average that of the whole distribution. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/data/data.h"
#include "check.h"

enum { V = 11, T = 4000, MOST = 12 };

static struct exec x;
static const float teacher[V] = {2, -1, 0.5f, 0, 1.5f, -3, 2.5f, 0.1f, -0.4f, 1, -2};
static const float student[V] = {0, 1, 0.5f, -1, 2, 0, 0.3f, -2, 1.2f, 0, 0.7f};

/* What op loss reads of a token, for n entries. */
struct token {
    int32_t ids[MOST];
    float log_p[MOST + 1];
};

static struct token unpacked(const struct logits_spec *s, const unsigned char *row, int *failed)
{
    int32_t data[2 * MOST + 1];
    struct token t;
    *failed = logits_unpack(s, row, data);
    memcpy(t.ids, data, (size_t)s->n * sizeof *data);
    memcpy(t.log_p, data + s->n, (size_t)(s->n + 1) * sizeof *data);
    return t;
}

static void check_rows(void)
{
    /* ids of three bytes */
    struct logits_spec top = {.form = LOGITS_TOP, .n = 2, .tail = 1, .vocab_size = 70000},
                       sample = {.form = LOGITS_SAMPLE, .n = 4, .vocab_size = 70000};
    static const int32_t ids[] = {513, 69999, INT32_MAX, INT32_MAX};
    static const float halves[] = {-1, -1.5f, -229.f / 256},
                       counts[] = {-0.287682f, -1.386294f, -INFINITY, -INFINITY, -INFINITY};
    struct loss_listing l = {ids, halves}, drawn = {ids, counts};
    unsigned char row[20];
    int failed;
    CHECK(logits_row_bytes(&top) == 2 * 3 + 3 * 2 && logits_row_bytes(&sample) == 4 * 3, "bytes");
    logits_pack(&top, &l, row);
    static const unsigned char f16[] = {0x00, 0xbc, 0x00, 0xbe, 0x28, 0xbb};
    CHECK(!memcmp(row, "\x01\x02\x00\x6f\x11\x01", 6) && !memcmp(row + 6, f16, 6), "a row of top");
    struct token t = unpacked(&top, row, &failed);
    CHECK(!failed && !memcmp(t.ids, ids, 8) && !memcmp(t.log_p, halves, 12), "top comes back");
    logits_pack(&sample, &drawn, row);
    CHECK(!memcmp(row, "\x01\x02\x00\x01\x02\x00\x01\x02\x00\x6f\x11\x01", 12), "a row of draws");
    t = unpacked(&sample, row, &failed);
    CHECK(!failed && t.ids[0] == 513 && t.ids[1] == 69999 && t.ids[2] == INT32_MAX &&
              fabsf(t.log_p[0] - logf(0.75f)) < 1e-6f && fabsf(t.log_p[1] - logf(0.25f)) < 1e-6f &&
              t.log_p[2] == -INFINITY && t.log_p[4] == -INFINITY,
          "draws come back as shares");
    sample.vocab_size = 69999;
    unpacked(&sample, row, &failed);
    CHECK(failed, "an id beyond the vocabulary is refused");
    sample.vocab_size = 70000;
    memcpy(row + 3, "\x00\x02\x00", 3);
    unpacked(&sample, row, &failed);
    CHECK(failed, "draws that do not ascend are refused");
    logits_pack(&top, &l, row);
    row[7] = 0x38; /* + 0.5 */
    unpacked(&top, row, &failed);
    CHECK(failed, "a probability above 1 is refused");
    static const unsigned char sums[] = {0xb8, 0xc4}; /* the first is exp(-0.5), exp(-4) */
    for (int i = 0; i < 2; i++) {
        logits_pack(&top, &l, row);
        row[7] = sums[i];
        unpacked(&top, row, &failed);
        CHECK(failed, "probabilities that do not sum to 1 are refused");
    }
    top.tail = 0;
    logits_pack(&top, &l, row);
    row[7] = row[9] = 0xcb; /* exp(-14) each, less than a 70,000th */
    unpacked(&top, row, &failed);
    CHECK(failed, "probabilities that cannot be the largest are refused");
    top.tail = 1;
    logits_pack(&top, &l, row);
    memcpy(row + 3, row, 3);
    unpacked(&top, row, &failed);
    CHECK(failed, "an entry that is there twice is refused");
    struct logits_spec full = {.form = LOGITS_FULL, .vocab_size = 3};
    float logits[] = {1, -2, 3}, *z = logits;
    CHECK(!logits_unpack(&full, (unsigned char *)logits, row) &&
              !memcmp(row, logits, sizeof logits),
          "full logits come back");
    for (int i = 0; i < 2; i++) {
        z[1] = i ? INFINITY : NAN;
        CHECK(logits_unpack(&full, (unsigned char *)logits, row), "%g is no logit", (double)z[1]);
    }
}

static void check_uniform(void)
{
    struct logits_spec s = {.form = LOGITS_SAMPLE, .n = MOST, .seed = 5};
    double a[MOST], b[MOST], sum = 0;
    logits_uniform(&s, 3, 4, a);
    logits_uniform(&s, 3, 4, b);
    CHECK(!memcmp(a, b, sizeof a), "the same token has the same numbers");
    logits_uniform(&s, 4, 3, b);
    CHECK(memcmp(a, b, sizeof a), "another token has others");
    s.seed = 6;
    logits_uniform(&s, 3, 4, b);
    CHECK(memcmp(a, b, sizeof a), "another seed gives others");
    for (int i = 0; i < 1000; i++) {
        logits_uniform(&s, 0, i, a);
        for (int k = 0; k < MOST; k++) {
            sum += a[k] / (1000 * MOST);
            CHECK(a[k] >= 0 && a[k] < 1 && (!k || a[k] >= a[k - 1]), "they ascend in [0,1)");
        }
    }
    CHECK(fabs(sum - 0.5) < 5 / sqrt(12.0 * 1000 * MOST), "their mean is %g", sum);
}

/* ---- draws */

/* T tokens with the teacher's logits each: rows, as a stream has them. */
static void draw_rows(const struct logits_spec *s, unsigned char *rows)
{
    size_t listing = (size_t)(8 * s->n + 4);
    float *z = malloc(T * sizeof teacher);
    double *u = malloc((size_t)(T * s->n) * sizeof *u);
    char *out = malloc(T * listing);
    for (int t = 0; t < T; t++) {
        memcpy(z + t * V, teacher, sizeof teacher);
        logits_uniform(s, t / 100, t % 100, u + t * s->n);
    }
    struct op_args c = {.x = &x, .rows = T};
    c.in[0] = (struct operand){.v = z, .dtype = DT_F32, .rows = T, .cols = V};
    c.p.pick = (struct pick_params){s->n, (float)s->temperature, u, out};
    c.scratch = malloc(op_scratch(OP_pick, &c));
    op_forward(OP_pick, &c);
    for (int t = 0; t < T; t++) {
        const int32_t *ids = (const void *)(out + (size_t)t * listing);
        struct loss_listing l = {ids, (const float *)(ids + s->n)};
        logits_pack(s, &l, rows + t * logits_row_bytes(s));
    }
    free(c.scratch);
    free(z);
    free(u);
    free(out);
}

/* The gradients of kl with respect to the student's logits, [T,V], to be freed. */
static float *gradients(const struct logits_spec *s, const unsigned char *rows)
{
    struct loss_teacher form = {TEACHER_TERMS, s->n};
    float step[LOSS_STEP] = {[LOSS_SCALE] = 1, [LOSS_WEIGHTS + LOSS_kl] = 1}, identity[V * V] = {0},
          *z = malloc(T * sizeof student), *g = calloc(T, sizeof student);
    int32_t *labels = calloc(T, sizeof *labels);
    double *out = malloc(T * sizeof *out);
    struct batch b = {
        .n_seq = 1, .seq_len = T, .labels = labels, .token_bytes = loss_token_bytes(form)};
    char *data = malloc((size_t)(T * b.token_bytes));
    b.token_data = data;
    for (int t = 0; t < T; t++) {
        memcpy(z + t * V, student, sizeof student);
        CHECK(!logits_unpack(s, rows + t * logits_row_bytes(s), data + t * b.token_bytes),
              "token %d", t);
    }
    for (int v = 0; v < V; v++)
        identity[v * (V + 1)] = 1;
    struct op_args c = {.x = &x, .batch = &b, .rows = T, .step = step};
    c.in[0] = (struct operand){.v = z, .g = g, .dtype = DT_F32, .rows = T, .cols = V};
    c.w[0] = (struct operand){.v = identity, .dtype = DT_F32, .rows = V, .cols = V};
    c.out = (struct operand){.v = out, .dtype = DT_F64, .rows = T, .cols = 1};
    c.p.loss = (struct loss_params){
        .kind = {.set = LOSS_BIT(kl), .temperature = (float)s->temperature},
        .teacher = form,
        .logit_scale = 1,
        .gradients = 1};
    c.scratch = malloc(op_scratch(OP_loss, &c));
    op_forward(OP_loss, &c);
    free(c.scratch);
    free(labels);
    free(data);
    free(out);
    free(z);
    return g;
}

static void softmax(const float *z, double temperature, double *p)
{
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += p[v] = exp((double)z[v] / temperature);
    for (int v = 0; v < V; v++)
        p[v] /= sum;
}

/* The mean over T draws is within five standard errors of the gradient of the whole distribution,
 * and single ones are not. */
static void check_unbiased(int64_t n, double temperature)
{
    struct logits_spec s = {
        .form = LOGITS_SAMPLE, .n = n, .temperature = temperature, .seed = 1, .vocab_size = V};
    unsigned char *rows = malloc((size_t)(T * logits_row_bytes(&s)));
    double ps[V], pt[V];
    draw_rows(&s, rows);
    float *g = gradients(&s, rows);
    softmax(student, temperature, ps);
    softmax(teacher, temperature, pt);
    for (int v = 0; v < V; v++) {
        double mean = 0, spread = 0, want = (ps[v] - pt[v]) / temperature,
               variance = pt[v] * (1 - pt[v]) / (double)n / (temperature * temperature);
        for (int t = 0; t < T; t++) {
            mean += (double)g[t * V + v] / T;
            spread += pow((double)g[t * V + v] - want, 2) / T;
        }
        CHECK(fabs(mean - want) <= 5 * sqrt(variance / T),
              "n %lld, temperature %g: the mean gradient of %d is %g, not %g", (long long)n,
              temperature, v, mean, want);
        CHECK(fabs(spread / variance - 1) < 0.5, "n %lld: the variance of %d is %g, not %g",
              (long long)n, v, spread, variance);
    }
    free(rows);
    free(g);
}

int main(void)
{
    CHECK(exec_open(&x, DEVICE_CPU, 2) == 0, "%s", x.err.msg);
    check_rows();
    check_uniform();
    check_unbiased(1, 1);
    check_unbiased(3, 1);
    check_unbiased(MOST, 1); /* more draws than entries: some are drawn several times */
    check_unbiased(4, 2);
    exec_close(&x);
    return check_report();
}
