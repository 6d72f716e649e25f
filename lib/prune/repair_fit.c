/* The matrices that are fitted, running a layer of the uncut model or of the slice, and fitting:
 * see repair_private.h. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "repair_private.h"

/* ---- which matrices */

static const struct family_tensor *weight_of(const struct family *f, const char *stem)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "layers.{L}.%s.weight", stem);
    for (const struct family_tensor *t = f->tensors; t->name; t++)
        if (!strcmp(t->name, name))
            return t;
    return NULL;
}

/* Does the line write hidden channels? The matrix of a mixture lies transposed. */
static int is_writer(const struct family *f, const struct family_line *l)
{
    int is_mixture = l->op == OP_mixture;
    const struct family_tensor *t = NULL;
    if (is_mixture || l->op == OP_linear)
        t = weight_of(f, l->weight);
    return t && t->axes[is_mixture] == AXIS_E;
}

void repair_find_writers(struct repair *r)
{
    const struct family *f = r->from->family;
    for (const struct family_line *l = f->block; l->out; l++)
        if (is_writer(f, l)) {
            assert(r->n_writers < WRITERS);
            r->writers[r->n_writers++] = l;
        }
}

int repair_has_writer(const struct repair *r, const struct model_spec *h, int64_t layer, int w)
{
    return model_spec_has_line(h, r->writers[w], layer);
}

/* Is the line's output added to the stream as it is? */
static int is_added(const struct model_spec *h, const struct family_line *line, int64_t layer)
{
    for (const struct family_line *l = line + 1; l->out; l++)
        for (int i = 0; i < OP_INPUTS; i++)
            if (l->in[i] && !strcmp(l->in[i], line->out) && model_spec_has_line(h, l, layer))
                return l->op == OP_add && !strcmp(l->out, "x");
    return 0;
}

int repair_makes_up(const struct repair *r, int64_t layer, int w)
{
    const struct model_spec *h = &r->p->spec;
    for (int v = w + 1; v < r->n_writers; v++)
        if (repair_has_writer(r, h, layer, v))
            return 0;
    return is_added(h, r->writers[w], layer);
}

int repair_tensor(const struct model_spec *h, int64_t layer, const char *stem, const char *what)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "layers.%lld.%s.%s", (long long)layer, stem, what);
    return model_spec_find(h, name);
}

/* ---- running a model, a layer of a batch at a time */

struct portion {
    struct batch b;
    int64_t sequence, row; /* the next ones */
    int64_t rows;
};

/* The next sequences of the same length; 0: no more. */
static int portion_next(const struct repair *r, struct portion *at)
{
    const int64_t *lengths = r->text->lengths + at->sequence;
    int64_t left = r->text->n_seq - at->sequence, n = 1;
    at->row += at->rows;
    if (left < 1)
        return 0;
    while (n < min64(left, r->at_once) && lengths[n] == lengths[0])
        n++;
    at->b = (struct batch){.n_seq = n, .seq_len = lengths[0], .ids = r->text->ids + at->row};
    at->rows = n * lengths[0];
    at->sequence += n;
    return 1;
}

static void catch_operand(float *to, const struct tapped *t, const struct operand *v)
{
    if (to)
        exec_get(t->x, to + t->first * t->b->seq_len * v->cols, v->v,
                 (size_t)(v->rows * v->cols) * sizeof(float));
}

static void catch_values(void *user, const struct tapped *t)
{
    catch_operand(*(float **)user, t, t->values);
}

static void catch_weights(void *user, const struct tapped *t)
{
    catch_operand(*(float **)user, t, &t->call->in[1]);
}

int repair_taps_add(struct repair *r, struct side *s)
{
    const struct model_spec *h = &s->m.spec;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        for (int w = 0; w < r->n_writers; w++) {
            const char *stem = r->writers[w]->weight;
            if (!repair_has_writer(r, h, l, w))
                continue;
            if (tape_tap(s->tape, TAP_INPUT_OF, l, stem, catch_values, &s->in[w], r->e) ||
                tape_tap(s->tape, TAP_OUTPUT_OF, l, stem, catch_values, &s->out[w], r->e) ||
                (r->writers[w]->op == OP_mixture &&
                 tape_tap(s->tape, TAP_INPUT_OF, l, stem, catch_weights, &s->weights, r->e)))
                return -1;
        }
    return 0;
}

static float *stream_at(const struct side *s, const struct portion *at)
{
    return s->stream + at->row * s->m.spec.hidden_size;
}

int repair_run_start(struct repair *r)
{
    struct side *s = &r->source;
    size_t row = (size_t)s->m.spec.hidden_size * sizeof(float);
    for (struct portion at = {0}; portion_next(r, &at);) {
        if (tape_forward_range(s->tape, &at.b, 0, 0, r->e))
            return -1;
        exec_get(r->x, stream_at(s, &at), tape_boundary(s->tape, 0), (size_t)at.rows * row);
    }
    return 0;
}

/* One layer of a portion; advance: the stream becomes that behind the layer. */
static int run_layer(struct repair *r, struct side *s, int64_t layer, const struct portion *at,
                     int advance)
{
    size_t bytes = (size_t)(at->rows * s->m.spec.hidden_size) * sizeof(float);
    exec_put(r->x, tape_boundary(s->tape, layer), stream_at(s, at), bytes);
    if (tape_forward_range(s->tape, &at->b, layer, layer + 1, r->e))
        return -1;
    if (advance)
        exec_get(r->x, stream_at(s, at), tape_boundary(s->tape, layer + 1), bytes);
    return 0;
}

/* The slice's layer begins with the source's stream, of the channels that it keeps. */
static void take_stream(struct repair *r)
{
    const struct kept *kept = &r->p->kept[AXIS_E];
    int64_t E = r->source.m.spec.hidden_size;
    for (int64_t t = 0; t < r->text->tokens; t++)
        for (int64_t i = 0; i < kept->n; i++)
            r->slice.stream[t * kept->n + i] = r->source.stream[t * E + kept->index[i]];
}

int repair_run_source(struct repair *r, int64_t layer, int is_kept)
{
    struct side *s = &r->source;
    int64_t E = s->m.spec.hidden_size;
    if (is_kept)
        take_stream(r);
    for (struct portion at = {0}; portion_next(r, &at);) {
        for (int w = 0; w < r->n_writers; w++)
            s->out[w] = is_kept && r->written[w] ? r->written[w] + at.row * E : NULL;
        if (run_layer(r, s, layer, &at, 1))
            return -1;
    }
    return 0;
}

/* ---- fitting a layer of the slice */

/* What writer w of the slice's layer should write of a portion, less r->y, what it writes: [rows, E
 * of the slice]. One that makes up for what is removed should write the way from the stream before
 * the layer to where the next one begins, but for what the attention before it writes. */
static void set_missing(const struct repair *r, int64_t layer, int w, const struct portion *at,
                        float *to)
{
    const struct model_spec *h = &r->slice.m.spec;
    const struct kept *kept = &r->p->kept[AXIS_E];
    int64_t E = r->source.m.spec.hidden_size, n = kept->n;
    int all = repair_makes_up(r, layer, w), attends = w && repair_has_writer(r, h, layer, 0);
    const float *own = r->written[w], *end = r->source.stream, *attention = r->written[0],
                *start = stream_at(&r->slice, at);
    float scale = (float)h->residual_scale;
    for (int64_t t = 0; t < at->rows; t++)
        for (int64_t i = 0; i < n; i++) {
            int64_t k = t * n + i, from = (at->row + t) * E + kept->index[i];
            float wanted = all ? (end[from] - start[k]) / scale : own[from];
            if (all && attends)
                wanted -= attention[from];
            to[k] = wanted - r->y[k];
        }
}

/* values += change, rounded to their own type */
static void values_add(void *values, enum dtype d, const double *change, int64_t n)
{
    for (int64_t i = 0; i < n; i += Q8_BLOCK) {
        char *at = (char *)values + dtype_bytes(d, i);
        int64_t k = min64(n - i, Q8_BLOCK);
        float x[Q8_BLOCK];
        to_f32(x, at, d, k);
        for (int64_t j = 0; j < k; j++)
            x[j] = (float)(x[j] + change[i + j]);
        from_f32(at, d, x, k);
    }
}

void repair_lend(struct repair *r, struct side *s, int i, const void *values, enum dtype d)
{
    void *there = s->m.params[i].v;
    if (!there)
        there = arena_take(&s->there, (size_t)model_param_bytes(&s->m, i));
    model_param_put(&s->m, r->x, i, there, values, d);
}

static void change_values(struct repair *r, int i, const double *change)
{
    const struct tensor *t = &r->p->spec.tensors[i];
    values_add(r->values[i], t->dtype, change, tensor_count(t));
    repair_lend(r, &r->slice, i, r->values[i], t->dtype);
}

static void count(struct repair_result *all, double left, double tokens_per_input)
{
    all->left += left;
    if (!all->fitted || tokens_per_input < all->tokens_per_input)
        all->tokens_per_input = tokens_per_input;
    all->fitted++;
}

static int fails(struct repair *r, int64_t layer, int w, const struct err *why)
{
    return err_set(r->e, "layer %lld, %s: %s", (long long)r->p->kept[AXIS_L].index[layer],
                   r->writers[w]->weight, why->msg);
}

/* ---- a matrix */

static int sums_add(struct repair *r, int64_t layer, int w, struct least_squares *sums)
{
    struct side *s = &r->slice;
    s->in[w] = r->z;
    s->out[w] = r->y;
    int bad = 0;
    for (struct portion at = {0}; !bad && portion_next(r, &at);)
        if (!(bad = run_layer(r, s, layer, &at, 0))) {
            set_missing(r, layer, w, &at, r->r);
            least_squares_add(sums, r->z, r->r, at.rows);
        }
    s->in[w] = s->out[w] = NULL;
    return bad;
}

static int fit_matrix(struct repair *r, int64_t layer, int w)
{
    const char *stem = r->writers[w]->weight;
    int weight = repair_tensor(&r->p->spec, layer, stem, "weight"),
        bias = repair_tensor(&r->p->spec, layer, stem, "bias");
    const struct tensor *t = &r->p->spec.tensors[weight];
    struct least_squares sums;
    struct err why = {0};
    if (least_squares_open(&sums, t->shape[1], t->shape[0], bias >= 0, r->e))
        return -1;
    if (!sums_add(r, layer, w, &sums)) {
        double squares = sums.squares;
        if (squares && least_squares_solve(&sums, r->ridge, &why)) {
            fails(r, layer, w, &why);
        } else if (squares) {
            count(&r->result, sums.left / squares, (double)sums.rows / (double)sums.inputs);
            change_values(r, weight, sums.cross);
            if (bias >= 0)
                change_values(r, bias, sums.offset);
        }
    }
    least_squares_close(&sums);
    return r->e->set ? -1 : 0;
}

/* ---- a mixture of experts */

static int gather_experts(struct repair *r, int64_t layer, int w)
{
    struct side *s = &r->slice;
    struct experts *x = &r->experts;
    int bad = 0;
    s->out[w] = r->y;
    for (struct portion at = {0}; !bad && portion_next(r, &at);) {
        int64_t row = at.row;
        s->in[w] = x->inputs + row * x->top * x->neurons;
        s->weights = x->weights + row * x->count;
        if (!(bad = run_layer(r, s, layer, &at, 0)))
            set_missing(r, layer, w, &at, x->missing + row * x->hidden);
    }
    s->in[w] = s->out[w] = s->weights = NULL;
    return bad;
}

/* In the tensor, row i of an expert is what its neuron i writes. */
static void change_experts(struct repair *r, int weight)
{
    const struct experts *x = &r->experts;
    enum dtype d = r->p->spec.tensors[weight].dtype;
    int64_t n = x->hidden * x->neurons;
    double *rows = mem_alloc((size_t)n * sizeof *rows);
    for (int64_t e = 0; e < x->count; e++) {
        for (int64_t i = 0; i < n; i++)
            rows[i % x->neurons * x->hidden + i / x->neurons] = x->change[e * n + i];
        values_add((char *)r->values[weight] + dtype_bytes(d, e * n), d, rows, n);
    }
    free(rows);
    repair_lend(r, &r->slice, weight, r->values[weight], d);
}

static int fit_experts(struct repair *r, int64_t layer, int w)
{
    const struct model_spec *h = &r->p->spec;
    struct experts *x = &r->experts;
    struct err why = {0};
    x->count = h->layers[layer].num_experts;
    x->neurons = h->layers[layer].moe_intermediate_size;
    if (gather_experts(r, layer, w))
        return -1;
    if (experts_fit(x, r->ridge, &why))
        return fails(r, layer, w, &why);
    if (!x->squares)
        return 0;
    count(&r->result, x->left / x->squares, (double)x->fewest / (double)x->neurons);
    change_experts(r, repair_tensor(h, layer, r->writers[w]->weight, "weight"));
    return 0;
}

int repair_fit(struct repair *r, int64_t layer, int w)
{
    return r->writers[w]->op == OP_mixture ? fit_experts(r, layer, w) : fit_matrix(r, layer, w);
}
