/* The matrices that are fitted, running a layer of the uncut model or of the slice, and fitting:
 * see repair_private.h. */
#include <stdio.h>
#include <string.h>

#include "../base/minmax.h"
#include "least_squares.h"
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

/* Is the line's output added to the stream as it is? */
static int is_added(const struct family_line *line)
{
    for (const struct family_line *l = line + 1; l->out; l++)
        for (int i = 0; i < OP_INPUTS; i++)
            if (l->in[i] && !strcmp(l->in[i], line->out))
                return l->op == OP_add;
    return 0;
}

void repair_writers(const struct family *f, struct writer writers[WRITERS])
{
    int n = 0;
    for (const struct family_line *l = f->block; l->out && n < WRITERS; l++) {
        const struct family_tensor *t = l->op == OP_linear ? weight_of(f, l->weight) : NULL;
        if (t && t->axes[0] == AXIS_E)
            writers[n++] = (struct writer){l->weight, l->kinds, is_added(l)};
    }
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

static void catch_values(void *user, const struct tapped *t)
{
    float *const *to = user;
    const struct operand *v = t->values;
    if (*to)
        exec_get(t->x, *to + t->first * t->b->seq_len * v->cols, v->v,
                 (size_t)(v->rows * v->cols) * sizeof(float));
}

int repair_taps_add(struct repair *r, struct side *s)
{
    const struct model_spec *h = &s->m.spec;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        for (int w = 0; w < WRITERS; w++) {
            const char *stem = r->writers[w].stem;
            if (h->layers[l].kinds & r->writers[w].kind &&
                (tape_tap(s->tape, TAP_INPUT_OF, l, stem, catch_values, &s->in[w], r->e) ||
                 tape_tap(s->tape, TAP_OUTPUT_OF, l, stem, catch_values, &s->out[w], r->e)))
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
        for (int w = 0; w < WRITERS; w++)
            s->out[w] = is_kept && r->written[w] ? r->written[w] + at.row * E : NULL;
        if (run_layer(r, s, layer, &at, 1))
            return -1;
    }
    return 0;
}

/* ---- fitting a layer of the slice */

int repair_is_last(const struct repair *r, int64_t layer, int w)
{
    return w == WRITERS - 1 || !(r->p->spec.layers[layer].kinds & r->writers[w + 1].kind);
}

/* What writer w of the slice's layer should write of a portion, less r->y, what it writes: to r->r,
 * [rows, E of the slice]. The last of a layer should write the way from the stream before the layer
 * to where the next one begins, but for what the attention before it writes. */
static void set_missing(const struct repair *r, int64_t layer, int w, const struct portion *at)
{
    const struct model_spec *h = &r->slice.m.spec;
    const struct kept *kept = &r->p->kept[AXIS_E];
    int64_t E = r->source.m.spec.hidden_size, n = kept->n;
    int all = r->writers[w].direct && repair_is_last(r, layer, w),
        attends = w && h->layers[layer].kinds & r->writers[0].kind;
    const float *own = r->written[w], *end = r->source.stream, *attention = r->written[0],
                *start = stream_at(&r->slice, at);
    float scale = (float)h->residual_scale;
    for (int64_t t = 0; t < at->rows; t++)
        for (int64_t i = 0; i < n; i++) {
            int64_t k = t * n + i, from = (at->row + t) * E + kept->index[i];
            float wanted = all ? (end[from] - start[k]) / scale : own[from];
            if (all && attends)
                wanted -= attention[from];
            r->r[k] = wanted - r->y[k];
        }
}

/* values += D, rounded to their own type */
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

static int sums_add(struct repair *r, int64_t layer, int w, struct least_squares *sums)
{
    struct side *s = &r->slice;
    s->in[w] = r->z;
    s->out[w] = r->y;
    int bad = 0;
    for (struct portion at = {0}; !bad && portion_next(r, &at);)
        if (!(bad = run_layer(r, s, layer, &at, 0))) {
            set_missing(r, layer, w, &at);
            least_squares_add(sums, r->z, r->r, at.rows);
        }
    s->in[w] = s->out[w] = NULL;
    return bad;
}

static void count(struct repair_result *all, const struct least_squares *s, double squares)
{
    double tokens = (double)s->rows / (double)s->inputs;
    all->left += s->left / squares;
    if (!all->fitted || tokens < all->tokens_per_input)
        all->tokens_per_input = tokens;
    all->fitted++;
}

int repair_fit(struct repair *r, int64_t layer, int w)
{
    const char *stem = r->writers[w].stem;
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
            err_set(r->e, "layer %lld, %s: %s", (long long)r->p->kept[AXIS_L].index[layer], stem,
                    why.msg);
        } else if (squares) {
            count(&r->result, &sums, squares);
            change_values(r, weight, sums.cross);
            if (bias >= 0)
                change_values(r, bias, sums.offset);
        }
    }
    least_squares_close(&sums);
    return r->e->set ? -1 : 0;
}
