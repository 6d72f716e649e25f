/* Repair, layer by layer: see repair.h. Of both models only one layer is in memory, beside the
 * streams of all tokens. A layer of the slice is fitted and written once the uncut model's stream
 * has passed it and the removed layers behind it. */
#include <stdlib.h>

#include "../base/minmax.h"
#include "../data/data.h"
#include "repair_private.h"

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

/* ---- memory */

static int64_t layer_of(const struct model_spec *h, int i)
{
    int64_t layer;
    model_spec_axes(h, i, &layer);
    return layer;
}

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
    return !s->tape || repair_taps_add(r, s) ? -1 : 0;
}

static int64_t most_inputs(const struct repair *r)
{
    const struct model_spec *h = &r->p->spec;
    int64_t most = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        for (int w = 0; w < r->n_writers; w++) {
            if (!repair_has_writer(r, h, l, w))
                continue;
            int i = repair_tensor(h, l, r->writers[w]->weight, "weight");
            most = max64(most, r->writers[w]->op == OP_mixture ? h->layers[l].moe_intermediate_size
                                                               : h->tensors[i].shape[1]);
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
    size_t states, batch, values;
};

/* Is what the writer adds in the uncut model kept of all tokens? */
static int is_kept_of_all(const struct repair *r, int w)
{
    const struct model_spec *h = &r->p->spec;
    int any = w == 0;
    for (int64_t l = 0; l < h->num_hidden_layers && !any; l++)
        any = repair_has_writer(r, h, l, w) && !repair_makes_up(r, l, w);
    return any;
}

static struct sizes sizes_of(const struct repair *r)
{
    int64_t E = r->source.m.spec.hidden_size, T = r->text->tokens, rows = r->at_once * r->longest;
    size_t streams = 1;
    for (int w = 0; w < r->n_writers; w++)
        streams += (size_t)is_kept_of_all(r, w);
    return (struct sizes){streams * floats(T * E) + floats(T * r->p->spec.hidden_size),
                          floats(rows * most_inputs(r)) + 2 * floats(rows * E),
                          most_bytes(&r->source.m.spec) + largest_layer(&r->p->spec, NULL, 1)};
}

/* room for the largest mixture of any layer */
static struct experts largest_experts(const struct repair *r)
{
    const struct model_spec *h = &r->p->spec;
    struct experts x = {.top = h->experts_per_token,
                        .hidden = h->hidden_size,
                        .tokens = r->text->tokens,
                        .batch = r->at_once * r->longest};
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        x.count = max64(x.count, h->layers[l].num_experts);
        x.neurons = max64(x.neurons, h->layers[l].moe_intermediate_size);
    }
    return x;
}

struct repair_memory repair_memory(const struct repair *r)
{
    struct sizes s = sizes_of(r);
    size_t layers = largest_layer(&r->source.m.spec, &r->source.m, 1) +
                    largest_layer(&r->p->spec, &r->slice.m, 0);
    return (struct repair_memory){
        tape_bytes(r->source.tape) + tape_bytes(r->slice.tape) + (int64_t)layers,
        (int64_t)(s.batch + s.values) + least_squares_bytes(most_inputs(r), r->p->spec.hidden_size),
        (int64_t)s.states, experts_bytes(&r->experts)};
}

static float *take_floats(struct repair *r, int64_t n) { return arena_take(&r->memory, floats(n)); }

static int memory_open(struct repair *r)
{
    struct sizes s = sizes_of(r);
    int64_t E = r->source.m.spec.hidden_size, T = r->text->tokens, rows = r->at_once * r->longest;
    size_t held = largest_layer(&r->p->spec, NULL, 1);
    if (arena_open(&r->memory, s.states + s.batch + s.values - held, r->e) ||
        arena_open(&r->held, held, r->e) || experts_open(&r->experts, r->e))
        return -1;
    r->source.stream = take_floats(r, T * E);
    r->slice.stream = take_floats(r, T * r->p->spec.hidden_size);
    for (int w = 0; w < r->n_writers; w++)
        r->written[w] = is_kept_of_all(r, w) ? take_floats(r, T * E) : NULL;
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

/* ---- tensors in, tensors out */

static unsigned kinds_of(const struct model_spec *h, int i)
{
    int64_t layer;
    return family_tensor_kinds(h->family, model_spec_axes(h, i, &layer));
}

/* Reads a tensor of the source, and holds what the slice keeps of it. */
static int take_tensor(struct repair *r, int64_t layer, int is_needed)
{
    int i = r->next++, to = r->p->dest[i];
    const struct tensor *t = &r->from->tensors[i];
    if (to >= 0)
        r->values[to] = arena_take(&r->held, (size_t)tensor_bytes(&r->p->spec.tensors[to]));
    if (r->io->read(r->io->user, i, r->whole, to < 0 ? NULL : r->values[to]))
        return -1;
    if (is_needed)
        repair_lend(r, &r->source, i, r->whole, t->dtype);
    if (to < 0)
        return 0;
    r->end = to + 1;
    if (layer >= 0)
        repair_lend(r, &r->slice, to, r->values[to], r->p->spec.tensors[to].dtype);
    if (tensor_count(t) != tensor_count(&r->p->spec.tensors[to]))
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
static int take_layer(struct repair *r, int64_t layer, int is_needed)
{
    const struct model_spec *h = &r->source.m.spec;
    forget(&r->source);
    while (r->next < h->n_tensors && layer_of(h, r->next) == layer)
        if (take_tensor(r, layer, is_needed))
            return -1;
    return 0;
}

static int write_held(struct repair *r)
{
    for (; r->first < r->end; r->first++)
        if (r->io->write(r->io->user, r->first, r->values[r->first]))
            return -1;
    forget(&r->slice);
    r->held.used = 0;
    r->changed = 0;
    return 0;
}

/* The slice's layer, which is held: the source's stream has come to where the next one begins. */
static int finish_layer(struct repair *r, int64_t layer, int is_followed)
{
    unsigned kinds = r->p->spec.layers[layer].kinds,
             had = r->source.m.spec.layers[r->p->kept[AXIS_L].index[layer]].kinds;
    for (int w = 0; w < r->n_writers; w++) {
        if (!repair_has_writer(r, &r->p->spec, layer, w))
            continue;
        int makes_up = repair_makes_up(r, layer, w) && (!is_followed || kinds != had);
        if ((r->changed & r->writers[w]->kinds || makes_up) && repair_fit(r, layer, w))
            return -1;
    }
    return write_held(r);
}

static int run_layers(struct repair *r)
{
    const struct kept *kept = &r->p->kept[AXIS_L];
    int64_t layers = r->source.m.spec.num_hidden_layers, next = 0; /* layer of the slice */
    for (int64_t l = 0; l < layers; l++) {
        int is_kept = next < kept->n && kept->index[next] == l;
        if (is_kept && next && finish_layer(r, next - 1, kept->index[next - 1] == l - 1))
            return -1;
        if (take_layer(r, l, 1) || repair_run_source(r, l, is_kept))
            return -1;
        next += is_kept;
    }
    return finish_layer(r, next - 1, kept->index[next - 1] == layers - 1);
}

int repair_run(struct repair *r, const struct repair_io *io, struct repair_result *result)
{
    r->io = io;
    if (memory_open(r) || take_layer(r, -1, 1) || repair_run_start(r) || write_held(r) ||
        run_layers(r) || take_layer(r, -1, 0) || write_held(r))
        return -1;
    *result = r->result;
    result->left /= result->fitted ? (double)result->fitted : 1;
    return 0;
}

struct repair *repair_open(struct exec *x, const struct slice_plan *p,
                           const struct model_spec *source, const struct repair_text *text,
                           double ridge, struct err *e)
{
    if (family_has_axis(source->family, AXIS_M)) {
        err_set(e, "--repair refits the matrices of attention, MLPs and experts, not yet those of "
                   "Mamba layers: leave it out and train the slice");
        return NULL;
    }
    struct repair *r = mem_alloc(sizeof *r);
    *r = (struct repair){.x = x, .p = p, .from = source, .text = text, .ridge = ridge, .e = e};
    repair_find_writers(r);
    for (int64_t i = 0; i < text->n_seq; i++)
        r->longest = max64(r->longest, text->lengths[i]);
    r->at_once = max64(1, min64(BATCH / r->longest, text->n_seq));
    r->experts = largest_experts(r);
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
    experts_close(&r->experts);
    free(r->values);
    free(r);
}
