/* The loss against logits, softmaxes and gradients in double precision, one position after the
 * other. */
#include "listing.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

struct naive {
    struct trial *t;
    /* logits of student and teacher, gradient of a row of logits; expected results */
    double *z[2], *g, *out, *dx, *dw, *db;
    double *log_p[2], *moved, *direction, *slope; /* rows of logits */
    double largest;                               /* logit before scale and cap */
    int64_t row, label;
    int slopes_differ; /* rows where the gradient here is not that of the values here */
};

static int is_bf16(const struct trial *t) { return t->call.x->compute == DT_BF16; }

/* Logits of the last quarter of the vocabulary are far larger than those before, so that the base
 * of the exponentials has to move. */
static int has_step(const struct trial *t) { return t->number == 16 || t->number == 18; }

/* ce and kl, each loss alone, all of them, and others that are drawn, of those that the teacher
 * allows. */
static struct loss_kind draw_kind(struct trial *t, int teacher, enum teacher_form form)
{
    struct loss_kind kind = {.temperature = (float[]){1, 2, 0.5f}[t->number / 2 % 3],
                             .jsd_beta = t->number % 2 ? 0.5f : 0.2f,
                             .squared = t->number % 3 == 1};
    const unsigned all = (1u << LOSS_COUNT) - 1;
    if (t->number < 4)
        kind.set = LOSS_BIT(ce) | LOSS_BIT(kl);
    else if (t->number < 4 + LOSS_COUNT)
        kind.set = 1u << (t->number - 4);
    else
        kind.set = t->number % 2 ? all : 1 + (unsigned)rng_below(&t->rng, all);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (teacher ? !loss_possible((enum loss)i, form) : loss_table[i].needs_teacher)
            kind.set &= ~(1u << i);
    if (!kind.set)
        kind.set = teacher ? LOSS_BIT(ce) | LOSS_BIT(kl) : LOSS_BIT(ce);
    return kind;
}

/* Entries of the teacher's vocabulary. */
static int64_t teacher_entries(const struct op_args *c)
{
    const struct loss_teacher *given = &c->p.loss.teacher;
    return given->form == TEACHER_LOGITS ? given->n : c->w[2].rows;
}

static void loss_shape(struct trial *t, enum teacher_form form)
{
    int64_t E = test_size(t, 1, 30), Et = test_size(t, 1, 30),
            V = t->large ? 3001 : test_size(t, 1, 150), Vt = V;
    struct op_args *c = &t->call;
    /* half-precision heads of more than one widened block, the teacher's and the student's */
    if (t->number == 16)
        Et = 1500;
    if (t->number == 18)
        E = 700;
    if (t->number % 4 == 1)
        Vt += test_size(t, 1, 20);
    if (t->number % 4 == 2)
        V += test_size(t, 1, 20);
    if (t->number % 4 == 1 && t->call.x->device == DEVICE_CPU) /* a width that q8_0 supports */
        E = Q8_BLOCK * (t->large ? 25 : 1 + t->number % 3);
    if (t->number % 3 == 2 && t->call.x->device == DEVICE_CPU)
        Et = Q8_BLOCK * (t->large ? 50 : 1 + t->number % 2);
    test_rows(t, 1, test_size(t, 1, 40), 0);
    int model = form == TEACHER_MODEL && t->number % 5 != 4;
    int teacher = model || form != TEACHER_MODEL;
    c->in[0] = test_operand(c->rows, E);
    c->in[1] = test_operand(model ? c->rows : 0, Et);
    c->w[0] = test_operand(V, E);
    c->w[2] = test_operand(model ? Vt : 0, Et);
    int biases = t->number % 3 == 0 || has_step(t);
    c->w[1] = test_operand(biases ? V : 0, 1);
    c->w[3] = test_operand(biases ? c->w[2].rows : 0, 1);
    c->w[0].dtype = (enum dtype[]){DT_F32, E % Q8_BLOCK ? DT_F32 : DT_Q8_0, DT_BF16,
                                   DT_F16}[t->number % 4];
    c->w[2].dtype = (enum dtype[]){DT_F16, DT_BF16,
                                   Et % Q8_BLOCK ? DT_F32 : DT_Q8_0}[t->number % 3];
    if (is_bf16(t))
        c->in[0].dtype = c->in[1].dtype = c->w[0].dtype = c->w[2].dtype = DT_BF16;
    int64_t chunk = t->number % 2 ? test_size(t, 1, c->rows) : 0;
    c->p.loss = (struct loss_params){.kind = draw_kind(t, teacher, form),
                                     .teacher = {form, form == TEACHER_LOGITS ? Vt : LISTED},
                                     .logit_scale = t->number % 7 == 3 ? 0.6f : 1,
                                     .logit_cap = t->number % 4 == 3 ? 6 : 0,
                                     .teacher_logit_scale = model ? 1.2f : 1,
                                     .teacher_logit_cap = model && t->number % 4 == 2 ? 5 : 0,
                                     .chunk = chunk,
                                     .gradients = 1};
    c->out = test_operand(c->rows, loss_columns(c->p.loss.kind.set));
    c->out.dtype = DT_F64;
}

static void draw_labels(struct trial *t)
{
    int32_t *labels = test_buffer(t, (size_t)t->call.rows * sizeof *labels);
    int64_t V = t->call.w[0].rows;
    for (int64_t i = 0; i < t->call.rows; i++)
        labels[i] = rng_below(&t->rng, 4) ? (int32_t)rng_below(&t->rng, (uint64_t)V) : -100;
    if (t->number == 11)
        for (int64_t i = 0; i < t->call.rows; i++)
            labels[i] = -100;
    t->batch.labels = labels;
    float *step = test_buffer(t, LOSS_STEP * sizeof *step);
    step[LOSS_SCALE] = 0.37f;
    for (int i = 0; i < LOSS_COUNT; i++)
        step[LOSS_WEIGHTS + i] = (float[]){0.8f, 1.5f, 0, 0.1f}[(3 * t->number + i) % 4];
    t->call.step = step;
}

static void draw_token_data(struct trial *t)
{
    struct loss_teacher form = t->call.p.loss.teacher;
    t->batch.token_bytes = loss_token_bytes(form);
    if (!t->batch.token_bytes)
        return;
    char *data = test_buffer(t, (size_t)(t->call.rows * t->batch.token_bytes));
    t->batch.token_data = data;
    for (int64_t i = 0; i < t->call.rows; i++) {
        void *token = data + i * t->batch.token_bytes;
        if (form.form == TEACHER_LOGITS)
            test_fill(t, token, form.n, 2);
        else
            listing_draw(&t->rng, t->call.w[0].rows, token, (float *)token + LISTED);
    }
}

static const float *token_data(const struct trial *t, int64_t row)
{
    return (const float *)((const char *)t->batch.token_data + row * t->batch.token_bytes);
}

static double *doubles(struct trial *t, int64_t n)
{
    return memset(test_buffer(t, (size_t)n * 8), 0, (size_t)n * 8);
}

/* Values rounded to the operand's dtype; gradients, where wanted, are pre-filled, and their doubles
 * with them. */
static void draw_operand(struct trial *t, struct operand *o, double **exact, double **gradient,
                         double spread)
{
    int64_t n = o->rows * o->cols;
    if (!n)
        return;
    float *f = test_buffer(t, (size_t)n * 4);
    o->v = test_buffer(t, (size_t)dtype_bytes(o->dtype, n));
    test_fill(t, f, n, spread);
    for (int64_t i = n / 4 * 3; i < n && o->cols == 1 && has_step(t); i++)
        f[i] += 40;
    test_store(o->v, o->dtype, f, n);
    *exact = doubles(t, n);
    for (int64_t i = 0; i < n; i++)
        (*exact)[i] = (double)f[i];
    if (!gradient)
        return;
    float *g = test_buffer(t, (size_t)n * 4);
    *gradient = doubles(t, n);
    test_fill(t, g, n, 1);
    o->g = o == &t->call.in[0] && is_bf16(t) ? test_narrow(t, g, n) : g;
    for (int64_t i = 0; i < n; i++)
        (*gradient)[i] = (double)g[i];
}

/* In bf16 the product is rounded, before bias, scale and cap. */
static void naive_logits(struct naive *k, int who, int64_t row)
{
    const struct loss_params *p = &k->t->call.p.loss;
    int64_t V = k->t->call.w[2 * who].rows, E = k->t->call.w[2 * who].cols;
    const double *x = k->t->v[IN0 + who] + row * E, *w = k->t->v[W0 + 2 * who],
                 *b = k->t->v[W1 + 2 * who];
    double scale = who ? p->teacher_logit_scale : p->logit_scale,
           cap = who ? p->teacher_logit_cap : p->logit_cap;
    for (int64_t v = 0; v < V; v++) {
        double s = 0;
        for (int64_t e = 0; e < E; e++)
            s += x[e] * w[v * E + e];
        k->largest = fmax(k->largest, fabs(s));
        if (is_bf16(k->t))
            s = (double)bf16_to_f32(f32_to_bf16((float)s));
        s += b ? b[v] : 0;
        k->z[who][v] = cap != 0 ? cap * tanh(scale * s / cap) : scale * s;
    }
}

/* The teacher's, where they come with the tokens. */
static void given_logits(struct naive *k, int64_t row)
{
    const float *given = token_data(k->t, row);
    for (int64_t v = 0; v < teacher_entries(&k->t->call); v++) {
        k->z[1][v] = (double)(is_bf16(k->t) ? bf16_to_f32(f32_to_bf16(given[v])) : given[v]);
        k->largest = fmax(k->largest, fabs(k->z[1][v]));
    }
}

static double naive_log_sum(const double *z, int64_t n, double temperature)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        max = fmax(max, z[i] / temperature);
    for (int64_t i = 0; i < n; i++)
        sum += exp(z[i] / temperature - max);
    return max + log(sum);
}

/* Softmaxes of both at the temperature, logarithms, over n entries. */
static void naive_softmax(const double *z, int64_t n, double temperature, double *log_p)
{
    double all = naive_log_sum(z, n, temperature);
    for (int64_t v = 0; v < n; v++)
        log_p[v] = z[v] / temperature - all;
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Each returns the loss by its definition in losses.def, and its gradient with respect to z in
 * d. */

static double naive_ce(const struct pair *p, double *d)
{
    for (int64_t v = 0; v < p->n; v++)
        d[v] = exp(p->s[v]) - (v == p->label);
    return -p->s[p->label];
}

static double naive_kl(const struct pair *p, double *d)
{
    double kl = 0;
    for (int64_t v = 0; v < p->n; v++) {
        kl += exp(p->t[v]) * (p->t[v] - p->s[v]);
        d[v] = (exp(p->s[v]) - exp(p->t[v])) / p->temperature;
    }
    return kl;
}

static double naive_rkl(const struct pair *p, double *d)
{
    double kl = 0;
    for (int64_t v = 0; v < p->n; v++)
        kl += exp(p->s[v]) * (p->s[v] - p->t[v]);
    for (int64_t v = 0; v < p->n; v++)
        d[v] = exp(p->s[v]) * (p->s[v] - p->t[v] - kl) / p->temperature;
    return kl;
}

/* log(p / m), m the mixture of both: of the student's p or the teacher's; 0 where p is 0. */
static double log_to_mixture(const struct pair *p, const double *log_p, int64_t v)
{
    double m = p->beta * exp(p->t[v]) + (1 - p->beta) * exp(p->s[v]);
    return exp(log_p[v]) > 0 ? log_p[v] - log(m) : 0;
}

static double naive_jsd(const struct pair *p, double *d)
{
    double of_t = 0, of_s = 0;
    for (int64_t v = 0; v < p->n; v++) {
        of_t += exp(p->t[v]) * log_to_mixture(p, p->t, v);
        of_s += exp(p->s[v]) * log_to_mixture(p, p->s, v);
    }
    for (int64_t v = 0; v < p->n; v++)
        d[v] = (1 - p->beta) * exp(p->s[v]) * (log_to_mixture(p, p->s, v) - of_s) / p->temperature;
    return p->beta * of_t + (1 - p->beta) * of_s;
}

static double naive_mse(const struct pair *p, double *d)
{
    double sum = 0;
    for (int64_t v = 0; v < p->n; v++) {
        sum += pow(p->z[v] - p->zt[v], 2);
        d[v] = 2 * (p->z[v] - p->zt[v]) / (double)p->n;
    }
    return sum / (double)p->n;
}

static double naive_cosine(const struct pair *p, double *d)
{
    double square = dot(p->z, p->z, p->n), norms = sqrt(square * dot(p->zt, p->zt, p->n)),
           cosine = dot(p->z, p->zt, p->n) / norms;
    for (int64_t v = 0; v < p->n; v++)
        d[v] = cosine * p->z[v] / square - p->zt[v] / norms;
    return 1 - cosine;
}

static double (*const naive_losses[])(const struct pair *p, double *d) = {
#define LOSS(name, ...) [LOSS_##name] = naive_##name,
#include "../../../kernels/losses.def"
#undef LOSS
};

static double listed_loss(const struct naive *k, enum loss loss, const struct pair *p)
{
    const float *data = token_data(k->t, k->row);
    const struct loss_listing l = {(const int32_t *)data, data + LISTED};
    return listing_loss(&l, k->t->call.p.loss.teacher.form, loss, p, k->slope);
}

/* A loss at the student's logits z; g: += w times its gradient with respect to them, unless NULL.
 */
static double naive_loss(const struct naive *k, enum loss loss, const double *z, double w,
                         double *g)
{
    const struct op_args *c = &k->t->call;
    const struct loss_kind *kind = &c->p.loss.kind;
    int64_t V = c->w[0].rows, shared = teacher_entries(c) < V ? teacher_entries(c) : V;
    int listing = loss_is_listing(c->p.loss.teacher) && loss_table[loss].needs_teacher;
    int warm = loss_table[loss].has_temperature;
    double square = warm && kind->squared ? pow(kind->temperature, 2) : 1;
    struct pair p = {z,
                     k->z[1],
                     k->log_p[0],
                     k->log_p[1],
                     loss_table[loss].needs_teacher && !listing ? shared : V,
                     k->label,
                     warm ? kind->temperature : 1,
                     kind->jsd_beta};
    naive_softmax(z, p.n, p.temperature, k->log_p[0]);
    naive_softmax(p.zt, shared, p.temperature, k->log_p[1]);
    double value = square * (listing ? listed_loss(k, loss, &p) : naive_losses[loss](&p, k->slope));
    for (int64_t v = 0; g && v < p.n; v++)
        g[v] += w * square * k->slope[v];
    return value;
}

/* Weighted sum of the row's losses at logits z + h d. */
static double naive_along(const struct naive *k, const double *d, double h)
{
    const struct op_args *c = &k->t->call;
    double sum = 0;
    for (int64_t v = 0; v < c->w[0].rows; v++)
        k->moved[v] = k->z[0][v] + h * d[v];
    for (int i = 0; i < LOSS_COUNT; i++)
        if (c->p.loss.kind.set >> i & 1)
            sum += (double)c->step[LOSS_WEIGHTS + i] *
                   naive_loss(k, (enum loss)i, k->moved, 0, NULL);
    return sum;
}

/* The gradient in g against central differences along a drawn direction. */
static int gradient_is_slope(const struct naive *k)
{
    int64_t V = k->t->call.w[0].rows;
    double h = 1e-5, *d = k->direction;
    for (int64_t v = 0; v < V; v++)
        d[v] = rng_normal(&k->t->rng);
    double slope = (naive_along(k, d, h) - naive_along(k, d, -h)) / (2 * h), got = dot(k->g, d, V),
           size = sqrt(dot(k->g, k->g, V));
    return fabs(got - slope) <= 1e-5 * (size + fabs(slope)) + 1e-8;
}

/* Values of a row, and its gradient with respect to the logits. */
static void naive_row(struct naive *k, int64_t row, int32_t label)
{
    const struct op_args *c = &k->t->call;
    const struct loss_params *p = &c->p.loss;
    int64_t V = c->w[0].rows;
    double *value = k->out + row * c->out.cols;
    k->label = label;
    k->row = row;
    memset(k->g, 0, (size_t)V * sizeof *k->g);
    for (int i = 0; i < LOSS_COUNT; i++)
        if (p->kind.set >> i & 1)
            *value++ = naive_loss(k, (enum loss)i, k->z[0], (double)c->step[LOSS_WEIGHTS + i],
                                  k->g);
    k->slopes_differ += !gradient_is_slope(k);
    for (int64_t v = 0; v < V; v++)
        k->g[v] *= c->step[LOSS_SCALE] * p->logit_scale *
                   (p->logit_cap != 0 ? 1 - pow(k->z[0][v] / p->logit_cap, 2) : 1);
}

static void naive_gradients(const struct naive *k, int64_t row)
{
    const struct op_args *c = &k->t->call;
    int64_t V = c->w[0].rows, E = c->w[0].cols;
    for (int64_t v = 0; v < V; v++) {
        if (k->db)
            k->db[v] += k->g[v];
        for (int64_t e = 0; e < E; e++) {
            k->dx[row * E + e] += k->g[v] * k->t->v[W0][v * E + e];
            k->dw[v * E + e] += k->g[v] * k->t->v[IN0][row * E + e];
        }
    }
}

/* In bf16 a product midway between two numbers may be rounded the other way: a logit is then off by
 * 2^-8 of itself, a loss by as much as two logits. Gradients of logits are rounded to bf16, where
 * two or three of them may dominate, and in0's once more. */
static const char *compare(const struct naive *k)
{
    const struct op_args *c = &k->t->call;
    const double *out = c->out.v;
    int bf16 = is_bf16(k->t);
    double value = bf16 ? 2 * k->largest / 256 : 2e-6;
    double gradient = bf16 ? 4 / 512.0 : 1e-5;
    if (k->slopes_differ)
        return "the reference's own gradients are not the slopes of its values";
    for (int64_t i = 0; i < c->rows * c->out.cols; i++)
        if (!(fabs(out[i] - k->out[i]) <= value * (bf16 ? 1 : 1 + fabs(k->out[i])))) {
            static char text[80];
            snprintf(text, sizeof text, "loss %d of set %x is %g, not %g", (int)(i % c->out.cols),
                     c->p.loss.kind.set, out[i], k->out[i]);
            return text;
        }
    if (c->in[0].g &&
        test_error(test_widen(k->t, c->in[0].g, c->in[0].dtype, c->rows * c->w[0].cols), k->dx,
                   c->rows * c->w[0].cols) > gradient)
        return "gradient of in0 differs";
    if (c->w[0].g && test_error(c->w[0].g, k->dw, c->w[0].rows * c->w[0].cols) > gradient)
        return "gradient of w0 differs";
    return c->w[1].g && test_error(c->w[1].g, k->db, c->w[1].rows) > gradient
               ? "gradient of w1 differs"
               : NULL;
}

/* With one thread where two are requested: the same to the last bit as with two. */
static const char *run_limited(struct naive *k)
{
    struct op_args c = k->t->call;
    size_t values = (size_t)(c.rows * c.out.cols) * sizeof(double),
           gradient = (size_t)(c.w[0].rows * c.w[0].cols) * sizeof(float);
    void *out[2];
    float *g[2];
    for (int i = 0; i < 2; i++) {
        c.out.v = out[i] = test_buffer(k->t, values);
        c.w[0].g = g[i] = test_buffer(k->t, gradient);
        c.w[0].overwrite = 1;
        c.in[0].g = c.w[1].g = NULL;
        omp_set_max_active_levels(i == 0);
        test_call(k->t, &c, 0);
        omp_set_max_active_levels(1);
    }
    return memcmp(out[0], out[1], values) || memcmp(g[0], g[1], gradient)
               ? "fewer threads than asked for give other results"
               : NULL;
}

/* All gradients first; then one that is not wanted stays untouched, and the values are the same to
 * the last bit. */
static const char *run_twice(struct naive *k)
{
    struct op_args *c = &k->t->call;
    size_t bytes = (size_t)(c->rows * c->out.cols) * sizeof(double);
    test_call(k->t, c, 0);
    const char *wrong = compare(k);
    if (!wrong)
        wrong = run_limited(k);
    if (wrong)
        return wrong;
    void *first = memcpy(test_buffer(k->t, bytes), c->out.v, bytes);
    c->in[0].g = c->w[1].g = NULL;
    if (k->t->number % 2)
        c->w[0].g = NULL;
    test_call(k->t, c, 0);
    if (memcmp(first, c->out.v, bytes))
        return "values depend on the gradients that are wanted";
    /* without gradients less is kept, in less scratch */
    struct op_args values = *c;
    values.p.loss.gradients = 0;
    values.scratch = test_buffer(k->t, op_scratch(OP_loss, &values));
    test_call(k->t, &values, 0);
    if (memcmp(first, c->out.v, bytes))
        return "values without gradients differ";
    int64_t counted = -1;
    for (int64_t i = 0; i < c->rows; i++)
        counted = c->batch->labels[i] >= 0 ? i : counted;
    if (counted < 0)
        return NULL;
    from_f32((char *)c->in[0].v + counted * c->w[0].cols * (is_bf16(k->t) ? 2 : 4), c->in[0].dtype,
             &(float){NAN}, 1);
    test_call(k->t, c, 0);
    return isnan(((double *)c->out.v)[c->out.cols * counted])
               ? NULL
               : "a NaN in in0 leaves no trace in the loss";
}

static const char *loss_trial(struct trial *t, enum teacher_form form)
{
    struct op_args *c = &t->call;
    struct naive k = {.t = t};
    loss_shape(t, form);
    draw_labels(t);
    draw_token_data(t);
    double **gradients[] = {&k.dx, NULL, &k.dw, &k.db, NULL, NULL};
    struct operand *operands[] = {&c->in[0], &c->in[1], &c->w[0], &c->w[1], &c->w[2], &c->w[3]};
    double **exact[] = {&t->v[IN0], &t->v[IN1], &t->v[W0], &t->v[W1], &t->v[W2], &t->v[W3]};
    for (int i = 0; i < 6; i++)
        draw_operand(t, operands[i], exact[i], gradients[i],
                     i == 2 || i == 4 ? 2 / sqrt((double)operands[i]->cols) : 1);
    /* the contents of a gradient to be overwritten do not count */
    if (t->number % 3 == 2 && op_kernel(c->x, OP_loss)->sets) {
        size_t n = (size_t)(c->w[0].rows * c->w[0].cols);
        c->w[0].overwrite = 1;
        c->w[0].g = test_buffer(t, n * sizeof(float));
        memset(k.dw, 0, n * sizeof *k.dw);
    }
    k.z[0] = doubles(t, c->w[0].rows);
    k.z[1] = doubles(t, teacher_entries(c));
    double **rows[] = {&k.g, &k.log_p[0], &k.log_p[1], &k.moved, &k.direction, &k.slope};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = doubles(t, c->w[0].rows + teacher_entries(c));
    k.out = doubles(t, c->rows * c->out.cols);
    c->out.v = doubles(t, c->rows * c->out.cols);
    for (int64_t row = 0; row < c->rows; row++) {
        if (t->batch.labels[row] < 0)
            continue;
        naive_logits(&k, 0, row);
        if (t->v[W2])
            naive_logits(&k, 1, row);
        if (form == TEACHER_LOGITS)
            given_logits(&k, row);
        naive_row(&k, row, t->batch.labels[row]);
        naive_gradients(&k, row);
    }
    return run_twice(&k);
}

static const char *loss_whole(struct trial *t)
{
    struct op_args drawn = t->call;
    const char *wrong = loss_trial(t, TEACHER_MODEL);
    for (enum teacher_form form = TEACHER_LOGITS; form <= TEACHER_REST && !wrong; form++) {
        t->call = drawn;
        memset(t->v, 0, sizeof t->v);
        wrong = loss_trial(t, form);
    }
    return wrong;
}

const struct op_test loss_test = {.whole = loss_whole};
