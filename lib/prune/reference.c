/* The naive forward pass: see reference.h. Plain loops over a family's lines;
 * every slot is [T, cols] f64. Memory: the slots of one block and the logits. */
#include "reference.h"
#include "reference_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "dot.h"

/* ---- masks */

static char *mask_of(const struct kept *k)
{
    if (!k->index)
        return NULL;
    char *mask = mem_alloc((size_t)(k->of * k->width));
    for (int64_t i = 0; i < k->n; i++)
        memset(mask + k->index[i] * k->width, 1, (size_t)k->width);
    return mask;
}

static void masks_free(struct naive *w, enum axis from, enum axis to)
{
    for (enum axis x = from; x < to; x++) {
        free(w->mask[x]);
        w->mask[x] = NULL;
    }
}

/* The masks of a layer; 0 if the plan drops it. */
static int masks_of_layer(struct naive *w)
{
    masks_free(w, LAYER_AXES, AXIS_COUNT);
    w->kinds = w->m->spec.layers[w->layer].kinds;
    if (!w->plan)
        return 1;
    const struct kept *layers = &w->plan->kept[AXIS_L];
    for (int64_t i = 0; i < layers->n; i++) {
        if (layers->index[i] != w->layer)
            continue;
        w->kinds = w->plan->spec.layers[i].kinds;
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            w->mask[x] = mask_of(&w->plan->layers[i].kept[x]);
        return 1;
    }
    return 0;
}

static void mask_apply(const struct naive *w, const struct slot *s)
{
    const char *mask = w->mask[s->axis];
    for (int64_t i = 0; mask && i < w->T * s->cols; i++)
        if (!mask[i % s->cols])
            s->v[i] = 0;
}

/* ---- weights */

/* A vector (bias, norm) as f64; NULL where the tensor is absent. */
static double *vector_of(const struct naive *w, const char *stem, const char *suffix)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    const struct param *p = model_param((struct model *)w->m, w->layer, name);
    if (!p)
        return NULL;
    struct param row = {.v = p->v, .dtype = p->dtype, .rows = 1, .cols = p->rows};
    double *v = mem_alloc((size_t)p->rows * sizeof *v);
    naive_row(&row, 0, v);
    return v;
}

static const struct param *matrix_of(const struct naive *w, const char *stem)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "%s.weight", stem);
    return model_param((struct model *)w->m, w->layer, name);
}

static enum axis row_axis(const struct naive *w, const char *stem)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "%s%s.weight", w->layer < 0 ? "" : "layers.{L}.", stem);
    for (const struct family_tensor *t = w->m->spec.family->tensors; t->name; t++)
        if (!strcmp(t->name, name))
            return t->axes[0];
    return AXIS_NONE;
}

/* ---- ops: each returns the new value, [T, cols] */

static double *rows_of_table(const struct naive *w, const struct param *p, const struct slot *add,
                             double scale)
{
    double *y = naive_value(w, p->cols);
    for (int64_t t = 0; t < w->T; t++) {
        naive_row(p, add ? t : w->ids[t], y + t * p->cols);
        for (int64_t i = 0; i < p->cols; i++)
            y[t * p->cols + i] = scale * y[t * p->cols + i] + (add ? add->v[t * p->cols + i] : 0);
    }
    return y;
}

static double *linear(const struct naive *w, const struct param *p, const double *bias,
                      const double *x)
{
    double *y = naive_value(w, p->rows);
#pragma omp parallel if (p->rows * p->cols * w->T > 1 << 20)
    {
        double *row = mem_alloc((size_t)p->cols * sizeof *row);
#pragma omp for
        for (int64_t r = 0; r < p->rows; r++) {
            naive_row(p, r, row);
            for (int64_t t = 0; t < w->T; t++)
                y[t * p->rows + r] = dot64(row, x + t * p->cols, p->cols) + (bias ? bias[r] : 0);
        }
        free(row);
    }
    return y;
}

/* Normalises one row of n channels in place; only kept channels count. */
static void norm_row(double *x, const char *mask, int64_t n, int centred, double eps)
{
    double mean = 0, square = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (!mask || mask[i]) {
            mean += x[i];
            kept++;
        }
    mean = centred && kept ? mean / (double)kept : 0;
    for (int64_t i = 0; i < n; i++)
        if (!mask || mask[i])
            square += (x[i] - mean) * (x[i] - mean);
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) / sqrt(square / (double)(kept ? kept : 1) + eps);
}

static double *norm(const struct naive *w, const struct family_line *l, const struct slot *in)
{
    int64_t weights = matrix_of(w, l->weight)->rows,
            n = model_spec_norm_width(&w->m->spec, l->weight, weights, w->layer),
            rows = w->T * in->cols / n;
    double *gain = vector_of(w, l->weight, ".weight"), *bias = vector_of(w, l->weight, ".bias"),
           *y = naive_value(w, in->cols);
    const char *mask = w->mask[in->axis];
    memcpy(y, in->v, (size_t)(w->T * in->cols) * sizeof *y);
    for (int64_t r = 0; r < rows; r++) {
        norm_row(y + r * n, mask ? mask + r * n % in->cols : NULL, n, l->op == OP_layernorm,
                 w->m->spec.norm_eps);
        for (int64_t i = r * n; i < (r + 1) * n; i++)
            y[i] = y[i] * (gain[i % weights] + w->m->spec.family->norm_plus1) +
                   (bias ? bias[i % weights] : 0);
    }
    free(gain);
    free(bias);
    return y;
}

static double *rope(const struct naive *w, const struct slot *in)
{
    const struct layer *y = &w->m->spec.layers[w->layer];
    const struct rope_table *r = &w->m->spec.ropes[y->rope];
    int is_long = r->long_after > 0 && w->T > r->long_after;
    const double *freq = is_long ? r->long_inv_freq : r->inv_freq,
                 factor = is_long ? r->long_factor : r->factor;
    double *out = naive_value(w, in->cols);
    memcpy(out, in->v, (size_t)(w->T * in->cols) * sizeof *out);
    for (int64_t t = 0; t < w->T; t++)
        for (double *h = out + t * in->cols; h < out + (t + 1) * in->cols; h += y->head_dim)
            for (int64_t i = 0; i < r->dims / 2; i++) {
                int64_t a = r->interleaved ? 2 * i : i,
                        b = r->interleaved ? a + 1 : i + r->dims / 2;
                double c = factor * cos((double)t * freq[i]), s = factor * sin((double)t * freq[i]),
                       x = h[a], z = h[b];
                h[a] = x * c - z * s;
                h[b] = z * c + x * s;
            }
    return out;
}

static double capped(double x, double cap) { return cap > 0 ? cap * tanh(x / cap) : x; }

static double bf16(double x) { return (double)bf16_to_f32(f32_to_bf16((float)x)); }

/* ALiBi (kernels/alibi.h) of head h of n: 2^(-8 (h + 1) / n), and so on between those of a power of
 * two. */
static double slope_of(int64_t h, int64_t n)
{
    int64_t power = 1;
    while (2 * power <= n)
        power *= 2;
    return h < power ? bf16(exp2(-8.0 * (double)(h + 1) / (double)power))
                     : slope_of(2 * (h - power), 2 * power);
}

static void attend(const struct layer *y, double cap, double slope, int64_t t, const double *q,
                   const double *k, const double *v, double *score, double *out)
{
    int64_t D = y->head_dim,
            from = y->sliding_window && t >= y->sliding_window ? t - y->sliding_window + 1 : 0,
            stride = y->num_key_value_heads * D;
    double most = -INFINITY, sum = 0;
    for (int64_t j = from; j <= t; j++) {
        score[j] = dot64(q, k + j * stride, D) + bf16(slope * bf16((double)j));
        score[j] = capped(y->attention_scale * score[j], cap);
        most = score[j] > most ? score[j] : most;
    }
    for (int64_t j = from; j <= t; j++)
        sum += score[j] = exp(score[j] - most);
    for (int64_t j = from; j <= t; j++)
        for (int64_t d = 0; d < D; d++)
            out[d] += score[j] / sum * v[j * stride + d];
}

static double *attention(const struct naive *w, const struct slot *q, const struct slot *k,
                         const struct slot *v)
{
    const struct layer *y = &w->m->spec.layers[w->layer];
    int64_t H = y->num_attention_heads, D = y->head_dim, G = H / y->num_key_value_heads;
    int has_alibi = model_spec_flag(&w->m->spec, "alibi");
    double *out = naive_value(w, H * D), *score = naive_value(w, 1);
    for (int64_t t = 0; t < w->T; t++)
        for (int64_t h = 0; h < H; h++)
            attend(y, w->m->spec.attention_cap, has_alibi ? slope_of(h, H) : 0, t,
                   q->v + (t * H + h) * D, k->v + h / G * D, v->v + h / G * D, score,
                   out + (t * H + h) * D);
    free(score);
    return out;
}

static double activate(enum act f, double x)
{
    switch (f) {
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    default: return x > 0 ? x * x : 0; /* ACT_RELU2 */
    }
}

/* act, glu, add: entry by entry. */
static double *entrywise(const struct naive *w, const struct family_line *l, const struct slot *a,
                         const struct slot *b)
{
    enum op op = l->op;
    enum act f = model_spec_activation(&w->m->spec, l);
    double *y = naive_value(w, a->cols), scale = w->m->spec.residual_scale;
    for (int64_t i = 0; i < w->T * a->cols; i++)
        if (op == OP_add)
            y[i] = a->v[i] + scale * b->v[i];
        else
            y[i] = activate(f, a->v[i]) * (op == OP_glu ? b->v[i] : 1);
    return y;
}

static double *scan(const struct naive *w, const char *stem, const struct slot *const in[OP_INPUTS])
{
    double *of[] = {vector_of(w, stem, ".weight"), vector_of(w, stem, ".bias"),
                    vector_of(w, stem, ".skip")},
           *y = naive_scan(w, in, (const double *const *)of);
    for (int i = 0; i < 3; i++)
        free(of[i]);
    return y;
}

/* ---- lines */

static struct slot *slot_find(struct naive *w, const char *name)
{
    for (int i = 0; i < SLOTS; i++)
        if (w->slots[i].name && name && !strcmp(w->slots[i].name, name))
            return &w->slots[i];
    err_set(w->e, "family %s: a line reads \"%s\" before it is written", w->m->spec.family->name,
            name ? name : "");
    return NULL;
}

static void slot_set(struct naive *w, const char *name, struct slot value)
{
    int i = 0;
    while (i < SLOTS && w->slots[i].name && strcmp(w->slots[i].name, name))
        i++;
    if (i == SLOTS) {
        free(value.v);
        err_set(w->e, "family %s has more than %d slots", w->m->spec.family->name, SLOTS);
        return;
    }
    free(w->slots[i].v);
    value.name = name;
    w->slots[i] = value;
    mask_apply(w, &w->slots[i]);
}

/* The value of a line; v NULL with e set if the op has no reference here. */
static struct slot line_value(struct naive *w, const struct family_line *l,
                              const struct slot *const in[OP_INPUTS], const struct param *p)
{
    struct slot out = in[0] ? *in[0]
                            : (struct slot){.axis = AXIS_E, .cols = w->m->spec.hidden_size};
    double *bias;
    switch (l->op) {
    case OP_embed:
        /* sqrt of the kept width */
        out.v = rows_of_table(w, p, NULL,
                              w->plan ? w->plan->spec.embed_scale : w->m->spec.embed_scale);
        break;
    case OP_position: out.v = rows_of_table(w, p, in[0], 1); break;
    case OP_linear:
        bias = vector_of(w, l->weight, ".bias");
        out = (struct slot){
            .axis = row_axis(w, l->weight), .cols = p->rows, .v = linear(w, p, bias, in[0]->v)};
        free(bias);
        break;
    case OP_rmsnorm:
    case OP_layernorm: out.v = norm(w, l, in[0]); break;
    case OP_rope: out.v = rope(w, in[0]); break;
    case OP_attention: out.v = attention(w, in[0], in[1], in[2]); break;
    case OP_act:
    case OP_glu:
    case OP_add: out.v = entrywise(w, l, in[0], in[1]); break;
    case OP_route: out.v = naive_route(w, in[0]); break;
    case OP_experts:
        out = (struct slot){
            .axis = AXIS_N, .cols = p->rows, .v = naive_experts(w, p, in[0], in[1], 0)};
        break;
    case OP_mixture:
        out = (struct slot){
            .axis = AXIS_E, .cols = p->cols, .v = naive_experts(w, p, in[0], in[1], 1)};
        break;
    case OP_conv:
        bias = vector_of(w, l->weight, ".bias");
        out.v = naive_conv(w, p, bias, in[0]);
        free(bias);
        break;
    case OP_scan: out.v = scan(w, l->weight, in); break;
    case OP_rowgate: out.v = naive_rowgate(w, in[0], in[1]); break;
    default:
        err_set(w->e, "op \"%s\" of family %s has no reference implementation to verify with",
                ops[l->op].name, w->m->spec.family->name);
        out.v = NULL;
    }
    return out;
}

static int run_line(struct naive *w, const struct family_line *l)
{
    const struct slot *in[OP_INPUTS] = {0};
    const struct param *p = l->weight ? matrix_of(w, l->weight) : NULL;
    if ((l->kinds && !(l->kinds & w->kinds)) || !model_spec_has_line(&w->m->spec, l, w->layer))
        return 0;
    if (l->weight && !p)
        return err_set(w->e, "tensor %s.weight is missing", l->weight);
    for (int i = 0; i < ops[l->op].inputs; i++)
        if (!(in[i] = slot_find(w, l->in[i])))
            return -1;
    struct slot value = line_value(w, l, in, p);
    if (value.v)
        slot_set(w, l->out, value);
    return w->e->set ? -1 : 0;
}

static int run_lines(struct naive *w, const struct family_line *lines)
{
    for (; lines->out; lines++)
        if (run_line(w, lines))
            return -1;
    return 0;
}

static int run_head(struct naive *w, double *logits)
{
    const struct model_spec *h = &w->m->spec;
    const struct slot *n = slot_find(w, "n");
    const struct param *p = matrix_of(w, h->tie_word_embeddings ? "embed_tokens" : "lm_head");
    if (!n || !p)
        return err_set(w->e, "the model has no output head");
    double *bias = vector_of(w, "lm_head", ".bias"), *y = linear(w, p, bias, n->v);
    for (int64_t i = 0; i < w->T * p->rows; i++)
        logits[i] = capped(h->logit_scale * y[i], h->logit_cap);
    free(bias);
    free(y);
    return 0;
}

/* ---- sections */

int naive_section(struct naive *w, int64_t section, double *logits)
{
    const struct family *f = w->m->spec.family;
    int is_block = section >= 0 && section < w->m->spec.num_hidden_layers;
    w->layer = is_block ? section : -1;
    if (section < 0)
        return run_lines(w, f->start);
    if (is_block)
        return masks_of_layer(w) ? run_lines(w, f->block) : 0;
    masks_free(w, LAYER_AXES, AXIS_COUNT);
    return run_lines(w, f->end) || run_head(w, logits) ? -1 : 0;
}

static int text_check(const struct model_spec *h, const uint32_t *ids, int64_t T, struct err *e)
{
    for (int64_t t = 0; t < T; t++)
        if (ids[t] >= (uint64_t)h->vocab_size)
            return err_set(e, "token id %u is outside the vocabulary of %lld tokens", ids[t],
                           (long long)h->vocab_size);
    if (h->learned_positions && T > h->max_position_embeddings)
        return err_set(e, "%lld tokens exceed the model's %lld learned positions", (long long)T,
                       (long long)h->max_position_embeddings);
    return 0;
}

struct naive *naive_open(const struct model *m, const struct slice_plan *plan, const uint32_t *ids,
                         int64_t T, struct err *e)
{
    if (text_check(&m->spec, ids, T, e))
        return NULL;
    struct naive *w = mem_alloc(sizeof *w);
    *w = (struct naive){.m = m, .plan = plan, .ids = ids, .T = T, .e = e};
    for (enum axis x = MODEL_AXES; plan && x < LAYER_AXES; x++)
        w->mask[x] = mask_of(&plan->kept[x]);
    return w;
}

void naive_close(struct naive *w)
{
    for (int i = 0; w && i < SLOTS; i++)
        free(w->slots[i].v);
    if (w)
        masks_free(w, 0, AXIS_COUNT);
    free(w);
}

int naive_logits(const struct model *m, const struct slice_plan *plan, const uint32_t *ids,
                 int64_t T, double *logits, struct err *e)
{
    struct naive *w = naive_open(m, plan, ids, T, e);
    int bad = !w;
    for (int64_t l = SECTION_START; l <= m->spec.num_hidden_layers && !bad; l++)
        bad = naive_section(w, l, logits);
    naive_close(w);
    return bad ? -1 : 0;
}
