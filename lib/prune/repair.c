/* Repair, layer by layer: see repair.h. Of both models only one layer is in memory, beside the
 * streams of all tokens. A layer of the slice is fitted and written once the uncut model's stream
 * has passed it and the removed layers behind it. */
#include "repair.h"

#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "../data/data.h"
#include "least_squares.h"

/* tokens of a batch, unless a sequence is longer */
enum { BATCH = 1024, WRITERS = 2 };

/* A matrix that writes to the stream: the linear line of each kind of block whose outputs are
 * hidden channels. direct: nothing but the addition follows. */
struct writer {
    const char *stem;
    unsigned kind;
    int direct;
};

/* What a tap copies to, if not NULL: [rows of a batch, columns]. */
struct side {
    struct model m;
    struct tape *tape;
    struct arena there;                /* weights of a layer, in device memory */
    float *stream;                     /* [tokens, E] before the current layer */
    float *in[WRITERS], *out[WRITERS]; /* of the writers of the layer that runs */
};

struct repair {
    struct exec *x;
    const struct slice_plan *p;
    const struct repair_text *text;
    double ridge;
    struct err *e;
    struct writer writers[WRITERS];
    struct side source, slice;
    int64_t longest, at_once; /* tokens of a sequence; sequences of a batch */
    struct arena memory;
    /* [tokens, E] of the source's layer: what its attention writes, and, if a norm follows it,
     * what its MLP writes; else NULL */
    float *written[WRITERS];
    float *z, *y, *r;     /* of a batch: inputs and outputs of a matrix; what is to be fitted */
    unsigned char *whole; /* a tensor of the source */
    struct arena held;    /* tensors of a layer of the slice, */
    void **values;        /* of each tensor of the slice: where it is held */
    int next, first, end; /* tensor of the source to be read; those of the slice that are held */
    unsigned changed;     /* kinds of which the layer that is held differs from the source's */
    struct repair_result result;
};

/* ---- text */

static void text_add(struct repair_text *t, const uint32_t *ids, int64_t n)
{
    t->ids = mem_grow(t->ids, (size_t)(t->tokens + n) * sizeof *t->ids);
    t->lengths = mem_grow(t->lengths, (size_t)(t->n_seq + 1) * sizeof *t->lengths);
    for (int64_t i = 0; i < n; i++)
        t->ids[t->tokens + i] = (int32_t)ids[i];
    t->tokens += n;
    t->lengths[t->n_seq++] = n;
}

int repair_text_read(struct repair_text *text, struct st_in *in, int64_t most,
                     const struct model_spec *h, struct err *e)
{
    struct sequences s;
    const uint32_t *ids;
    int64_t n;
    int more;
    *text = (struct repair_text){0};
    if (sequences_open(&s, in, 0, h, e))
        return -1;
    s.part.max_tokens = most;
    while ((more = sequences_next(&s, &ids, &n)) > 0 && !sequences_check(&s, ids, n, h->vocab_size))
        text_add(text, ids, n);
    sequences_close(&s);
    return e->set ? -1 : more;
}

void repair_text_free(struct repair_text *text)
{
    free(text->ids);
    free(text->lengths);
}

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

static void writers_find(const struct family *f, struct writer writers[WRITERS])
{
    int n = 0;
    for (const struct family_line *l = f->block; l->out && n < WRITERS; l++) {
        const struct family_tensor *t = l->op == OP_linear ? weight_of(f, l->weight) : NULL;
        if (t && t->axes[0] == AXIS_E)
            writers[n++] = (struct writer){l->weight, l->kinds, is_added(l)};
    }
}

static int tensor_of(const struct model_spec *h, int64_t layer, const char *stem, const char *what)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "layers.%lld.%s.%s", (long long)layer, stem, what);
    return model_spec_find(h, name);
}

void repair_plan(struct slice_plan *p)
{
    struct writer writers[WRITERS];
    writers_find(p->spec.family, writers);
    for (int64_t l = 0; l < p->spec.num_hidden_layers; l++)
        for (int w = 0; w < WRITERS; w++) {
            int i = tensor_of(&p->spec, l, writers[w].stem, "weight");
            if (i >= 0 && p->spec.tensors[i].dtype == DT_Q8_0)
                p->spec.tensors[i].dtype = DT_F32;
        }
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

static int taps_add(struct repair *r, struct side *s)
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

/* The source's stream before the first layer. */
static int run_start(struct repair *r)
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

/* The source's layer; is_kept: keeps what the slice's layer is fitted to. */
static int run_source(struct repair *r, int64_t layer, int is_kept)
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

/* Is the matrix the last of its layer? Then it also makes up for what is removed behind it. */
static int is_last(const struct repair *r, int64_t layer, int w)
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
    int all = r->writers[w].direct && is_last(r, layer, w),
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

/* values += D, in their own type */
static void values_add(void *values, enum dtype d, const double *change, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        char *at = (char *)values + dtype_bytes(d, i);
        float x;
        to_f32(&x, at, d, 1);
        x = (float)(x + change[i]);
        from_f32(at, d, &x, 1);
    }
}

static void lend(struct repair *r, struct side *s, int i, const void *values, enum dtype d)
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
    lend(r, &r->slice, i, r->values[i], t->dtype);
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
    all->fewest = all->fitted && all->fewest < tokens ? all->fewest : tokens;
    all->fitted++;
}

static int fit(struct repair *r, int64_t layer, int w)
{
    const char *stem = r->writers[w].stem;
    int weight = tensor_of(&r->p->spec, layer, stem, "weight"),
        bias = tensor_of(&r->p->spec, layer, stem, "bias");
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

/* ---- tensors in, tensors out */

static int64_t layer_of(const struct model_spec *h, int i)
{
    int64_t layer;
    model_spec_axes(h, i, &layer);
    return layer;
}

static unsigned kinds_of(const struct model_spec *h, int i)
{
    int64_t layer;
    return family_tensor_kinds(h->family, model_spec_axes(h, i, &layer));
}

/* Reads a tensor of the source, and holds what the slice keeps of it. */
static int take_tensor(struct repair *r, struct model_in *in, int64_t layer, int is_needed)
{
    struct tensor t;
    int i = r->next++, to = r->p->dest[i];
    int64_t bytes = to < 0 ? 0 : tensor_bytes(&r->p->spec.tensors[to]);
    if (model_next(in, &t) <= 0)
        return -1;
    if (to >= 0)
        r->values[to] = arena_take(&r->held, (size_t)bytes);
    if (slice_take(r->p, in, &t, i, r->whole, to < 0 ? NULL : r->values[to]))
        return -1;
    if (is_needed)
        lend(r, &r->source, i, r->whole, t.dtype);
    if (to < 0)
        return 0;
    r->end = to + 1;
    if (layer >= 0)
        lend(r, &r->slice, to, r->values[to], r->p->spec.tensors[to].dtype);
    if (bytes != tensor_bytes(&t) || memcmp(r->whole, r->values[to], (size_t)bytes))
        r->changed |= kinds_of(&r->p->spec, to);
    return 0;
}

static void forget(struct side *s)
{
    for (int i = 0; i < s->m.spec.n_tensors; i++)
        s->m.params[i].v = NULL;
    s->there.used = 0;
}

/* Reads the tensors that come next and belong to the layer. */
static int take_layer(struct repair *r, struct model_in *in, int64_t layer, int is_needed)
{
    const struct model_spec *h = &r->source.m.spec;
    forget(&r->source);
    while (r->next < h->n_tensors && layer_of(h, r->next) == layer)
        if (take_tensor(r, in, layer, is_needed))
            return -1;
    return 0;
}

static int write_held(struct repair *r, repair_write *write, void *user)
{
    for (; r->first < r->end; r->first++)
        if (write(user, r->first, r->values[r->first]))
            return -1;
    forget(&r->slice);
    r->held.used = 0;
    r->changed = 0;
    return 0;
}

/* The slice's layer, which is held: the source's stream has come to where the next one begins. */
static int finish_layer(struct repair *r, int64_t layer, int is_followed, repair_write *write,
                        void *user)
{
    unsigned kinds = r->p->spec.layers[layer].kinds,
             had = r->source.m.spec.layers[r->p->kept[AXIS_L].index[layer]].kinds;
    for (int w = 0; w < WRITERS; w++) {
        int makes_up = is_last(r, layer, w) && (!is_followed || kinds != had);
        if (kinds & r->writers[w].kind && (r->changed & r->writers[w].kind || makes_up) &&
            fit(r, layer, w))
            return -1;
    }
    return write_held(r, write, user);
}

static int run_layers(struct repair *r, struct model_in *in, repair_write *write, void *user)
{
    const struct kept *kept = &r->p->kept[AXIS_L];
    int64_t layers = r->source.m.spec.num_hidden_layers, next = 0; /* layer of the slice */
    for (int64_t l = 0; l < layers; l++) {
        int is_kept = next < kept->n && kept->index[next] == l;
        if (is_kept && next &&
            finish_layer(r, next - 1, kept->index[next - 1] == l - 1, write, user))
            return -1;
        if (take_layer(r, in, l, 1) || run_source(r, l, is_kept))
            return -1;
        next += is_kept;
    }
    return finish_layer(r, next - 1, kept->index[next - 1] == layers - 1, write, user);
}

/* ---- memory */

/* The most that the tensors of a layer take together, or those outside the layers, as they are
 * stored or, with a model, in its memory. */
static size_t largest_layer(const struct model_spec *h, const struct model *m, int outside)
{
    size_t most = 0, bytes = 0;
    int64_t layer = -1;
    for (int i = 0; i < h->n_tensors; i++) {
        bytes = layer_of(h, i) == layer ? bytes : 0;
        layer = layer_of(h, i);
        if (layer >= 0 || outside)
            bytes += arena_round(
                (size_t)(m ? model_param_bytes(m, i) : tensor_bytes(&h->tensors[i])));
        most = bytes > most ? bytes : most;
    }
    return most;
}

static int side_open(struct repair *r, struct side *s, const struct model_spec *h)
{
    struct tape_spec spec = {.model = &s->m,
                             .n_seq = r->at_once,
                             .seq_len = r->longest,
                             .end = TAPE_NO_HEAD,
                             .blocks_apart = 1};
    model_open_frozen(&s->m, h);
    model_plan(&s->m, r->x);
    s->tape = tape_record(r->x, &spec, r->e);
    return !s->tape || taps_add(r, s) ? -1 : 0;
}

static int64_t most_inputs(const struct repair *r)
{
    const struct model_spec *h = &r->p->spec;
    int64_t most = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        for (int w = 0; w < WRITERS; w++) {
            int i = tensor_of(h, l, r->writers[w].stem, "weight");
            most = i < 0 ? most : max64(most, h->tensors[i].shape[1]);
        }
    return most;
}

static size_t most_bytes(const struct model_spec *h)
{
    int64_t most = 0;
    for (int i = 0; i < h->n_tensors; i++)
        most = max64(most, tensor_bytes(&h->tensors[i]));
    return arena_round((size_t)most);
}

static size_t floats(int64_t n) { return arena_round((size_t)n * sizeof(float)); }

struct sizes {
    size_t streams, batch, values;
};

static struct sizes sizes_of(const struct repair *r)
{
    int64_t E = r->source.m.spec.hidden_size, T = r->text->tokens, rows = r->at_once * r->longest;
    int is_normed = !r->writers[1].direct;
    return (struct sizes){(size_t)(2 + is_normed) * floats(T * E) +
                              floats(T * r->p->spec.hidden_size),
                          floats(rows * most_inputs(r)) + 2 * floats(rows * E),
                          most_bytes(&r->source.m.spec) + largest_layer(&r->p->spec, NULL, 1)};
}

int64_t repair_bytes(const struct repair *r, int64_t *streams)
{
    struct sizes s = sizes_of(r);
    *streams = (int64_t)s.streams;
    return tape_bytes(r->source.tape) + tape_bytes(r->slice.tape) +
           (int64_t)(largest_layer(&r->source.m.spec, &r->source.m, 1) +
                     largest_layer(&r->p->spec, &r->slice.m, 0) + s.batch + s.values) +
           least_squares_bytes(most_inputs(r), r->p->spec.hidden_size);
}

static float *take_floats(struct repair *r, int64_t n) { return arena_take(&r->memory, floats(n)); }

static int memory_open(struct repair *r)
{
    struct sizes s = sizes_of(r);
    int64_t E = r->source.m.spec.hidden_size, T = r->text->tokens, rows = r->at_once * r->longest;
    size_t held = largest_layer(&r->p->spec, NULL, 1);
    if (arena_open(&r->memory, s.streams + s.batch + s.values - held, r->e) ||
        arena_open(&r->held, held, r->e))
        return -1;
    r->source.stream = take_floats(r, T * E);
    r->slice.stream = take_floats(r, T * r->p->spec.hidden_size);
    r->written[0] = take_floats(r, T * E);
    r->written[1] = r->writers[1].direct ? NULL : take_floats(r, T * E);
    r->z = take_floats(r, rows * most_inputs(r));
    r->y = take_floats(r, rows * E);
    r->r = take_floats(r, rows * E);
    r->whole = arena_take(&r->memory, most_bytes(&r->source.m.spec));
    r->values = mem_alloc((size_t)r->p->spec.n_tensors * sizeof *r->values);
    return exec_arena(r->x, &r->source.there, largest_layer(&r->source.m.spec, &r->source.m, 1),
                      r->e) ||
                   exec_arena(r->x, &r->slice.there, largest_layer(&r->p->spec, &r->slice.m, 0),
                              r->e) ||
                   tape_open(r->source.tape, r->e) || tape_open(r->slice.tape, r->e)
               ? -1
               : 0;
}

int repair_run(struct repair *r, struct model_in *in, repair_write *write, void *user,
               struct repair_result *result)
{
    struct tensor t;
    model_digest(in);
    if (memory_open(r) || take_layer(r, in, -1, 1) || run_start(r) || write_held(r, write, user) ||
        run_layers(r, in, write, user) || take_layer(r, in, -1, 0) || write_held(r, write, user) ||
        model_next(in, &t))
        return -1;
    *result = r->result;
    result->left /= result->fitted ? (double)result->fitted : 1;
    return 0;
}

struct repair *repair_open(struct exec *x, const struct slice_plan *p,
                           const struct model_spec *source, const struct repair_text *text,
                           double ridge, struct err *e)
{
    struct repair *r = mem_alloc(sizeof *r);
    *r = (struct repair){.x = x, .p = p, .text = text, .ridge = ridge, .e = e};
    writers_find(source->family, r->writers);
    for (int64_t i = 0; i < text->n_seq; i++)
        r->longest = max64(r->longest, text->lengths[i]);
    r->at_once = max64(1, min64(BATCH / r->longest, text->n_seq));
    if (side_open(r, &r->source, source) || side_open(r, &r->slice, &p->spec)) {
        repair_close(r);
        return NULL;
    }
    return r;
}

static void side_close(struct side *s)
{
    tape_close(s->tape);
    model_free(&s->m);
    arena_close(&s->there);
}

void repair_close(struct repair *r)
{
    side_close(&r->source);
    side_close(&r->slice);
    arena_close(&r->memory);
    arena_close(&r->held);
    free(r->values);
    free(r);
}
