/* All shapes of a grid within a band of parameters: see search.h. */
#include "search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"

/* ---- lists of sizes */

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int refuse_text(enum axis axis, const char *text, struct err *e)
{
    return err_set(e, "--%s takes sizes such as 24,32,48 or 1024:4096:256%s, not \"%s\"",
                   axis_rows[axis].brief,
                   axis == AXIS_F ? ", or 2.5x,4x, times the hidden size" : "", text);
}

/* A size, or thousandths if an x follows it. 0: neither. */
static int64_t number(const char **at, int *by_width)
{
    char *end;
    double n = strtod(*at, &end);
    *by_width = end > *at && *end == 'x';
    n *= *by_width ? 1000 : 1;
    *at = end + *by_width;
    return n >= 1 && n < 1e15 && n == (double)(int64_t)n ? (int64_t)n : 0;
}

static int add(struct search_list *l, int64_t value, enum axis axis, struct err *e)
{
    if (l->n == SEARCH_SIZES)
        return err_set(e, "--%s has more than %d sizes", axis_rows[axis].brief, SEARCH_SIZES);
    if (l->n % 64 == 0)
        l->value = mem_grow(l->value, (size_t)(l->n + 64) * sizeof *l->value);
    l->value[l->n++] = value;
    return 0;
}

/* "32" or "24:48:8", up to the comma. */
static int add_range(struct search_list *l, const char **at, const char *text, enum axis axis,
                     struct err *e)
{
    int64_t part[3] = {0, 0, 1};
    int n = 0, by_width = 0, first = l->n == 0;
    do {
        *at += n > 0;
        part[n] = number(at, &by_width);
        if (!part[n] || (!first && by_width != l->by_width) || (by_width && axis != AXIS_F))
            return refuse_text(axis, text, e);
        first = 0;
        l->by_width = by_width;
    } while (++n < 3 && **at == ':');
    if (n == 2 || (**at && **at != ','))
        return refuse_text(axis, text, e);
    for (int64_t v = part[0]; v <= (n == 1 ? part[0] : part[1]); v += part[2])
        if (add(l, v, axis, e))
            return -1;
    return l->n ? 0 : refuse_text(axis, text, e);
}

static int64_t largest(const struct model_spec *h, enum axis axis)
{
    int64_t most = 0;
    for (int64_t l = 0; l < (axis < LAYER_AXES ? 1 : h->num_hidden_layers); l++)
        if (model_spec_size(h, axis, l) > most)
            most = model_spec_size(h, axis, l);
    return most;
}

static void sort(struct search_list *l)
{
    int64_t n = 0;
    qsort(l->value, (size_t)l->n, sizeof *l->value, ascending);
    for (int64_t i = 0; i < l->n; i++)
        if (!i || l->value[i] != l->value[n - 1])
            l->value[n++] = l->value[i];
    l->n = n;
}

int search_list_read(struct search_list *l, enum axis axis, const char *text,
                     const struct model_spec *source, struct err *e)
{
    const char *at = text;
    *l = (struct search_list){0};
    if (!model_spec_uses(source, axis))
        return err_set(e, "--%s must be left out: no layer of the model has any",
                       axis_rows[axis].brief);
    for (int more = 1; more && !e->set; at += more) {
        add_range(l, &at, text, axis, e);
        more = *at == ',';
    }
    if (!e->set)
        sort(l);
    l->largest = largest(source, axis);
    int64_t most = e->set ? 0 : l->value[l->n - 1];
    if (l->by_width)
        most /= 1000;
    if (most > l->largest)
        err_set(e, "--%s must be at most %" PRId64 ", that of the model, not %" PRId64,
                axis_rows[axis].brief, l->largest, most);
    if (!e->set && (axis == AXIS_H || axis == AXIS_K) && l->value[0] < l->largest &&
        model_spec_flag(source, "alibi"))
        err_set(e, "--%s must be %" PRId64 ": a model with ALiBi keeps all its heads",
                axis_rows[axis].brief, l->largest);
    if (e->set)
        search_list_free(l);
    return e->set ? -1 : 0;
}

void search_list_free(struct search_list *l)
{
    free(l->value);
    *l = (struct search_list){0};
}

int search_check_vocab(const struct search *s, struct model_in *in, const char *operand,
                       struct err *e)
{
    const struct search_list *l = &s->lists[AXIS_V];
    struct vocab v;
    if (!l->n || l->value[0] == l->largest)
        return 0;
    if (!vocab_open(&v, in, operand, NULL, e))
        for (int64_t i = 0; i < l->n; i++)
            if (!vocab_can_have(&v, axis_rows[AXIS_V].brief, l->value[i], l->largest, e))
                break;
    vocab_close(&v);
    return e->set ? -1 : 0;
}

/* ---- counting */

/* A tensor of the family as a layer of the source has it, -1: as the model has it. */
struct term {
    const struct family_tensor *t;
    int64_t layer;
};
struct searching {
    const struct search *s;
    struct model_spec h; /* the shape at hand; layers: a copy */
    struct layer *layers;
    struct term *terms;
    int n_terms, even; /* even: all layers are alike */
    enum axis order[AXIS_COUNT];
    int depth;
    int64_t tries, found_n;
    search_found *found;
    void *user;
    struct err *e;
};

/* Those that a search looks at: the first stands for all where all are alike. */
static int64_t layers_seen(const struct searching *w)
{
    return w->even ? 1 : w->h.num_hidden_layers;
}

static int add_term(void *user, const struct model_spec *h, const struct family_tensor *t,
                    int64_t layer)
{
    struct searching *w = user;
    (void)h;
    if (layer < layers_seen(w)) {
        w->terms = mem_grow(w->terms, (size_t)(w->n_terms + 1) * sizeof *w->terms);
        w->terms[w->n_terms++] = (struct term){t, layer};
    }
    return 0;
}

/* Parameters of the shape at hand. */
static int64_t count(struct searching *w)
{
    const struct model_spec *h = &w->h;
    int64_t sum = 0;
    for (int i = 0; i < w->n_terms; i++) {
        const struct term *x = &w->terms[i];
        if (x->layer >= layers_seen(w))
            continue;
        int64_t n = model_spec_dimension(h, x->t->axes[0], x->layer);
        if (w->s->active)
            n = footprint_rows_used(h, x->t, x->layer, n);
        if (x->t->axes[1])
            n *= model_spec_dimension(h, x->t->axes[1], x->layer);
        sum += w->even && x->layer >= 0 ? n * h->num_hidden_layers : n;
    }
    w->tries++;
    return sum;
}

/* ---- sizes */

static int is_listed(const struct searching *w, enum axis axis) { return w->s->lists[axis].n > 0; }

/* Query heads follow KV heads, or the other way round, and Mamba heads their groups, as in a cut.
 */
static void couple(const struct searching *w, int64_t l)
{
    const struct layer *from = &w->s->source->layers[l];
    struct layer *y = &w->layers[l];
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++) {
        enum axis outer = axis_rows[x].inside;
        if (!outer || axis_rows[x].each || !layer_size(from, x))
            continue;
        int64_t each = layer_size(from, x) / layer_size(from, outer);
        if (!is_listed(w, x))
            layer_set_size(y, x, layer_size(y, outer) * each);
        else if (!is_listed(w, outer) && each == 1)
            layer_set_size(y, outer, layer_size(y, x));
    }
}

/* A multiple of the hidden size that no layer can be cut to stays in range. */
static void set_size(struct searching *w, enum axis axis, int64_t value)
{
    const struct search_list *sizes = &w->s->lists[axis];
    if (sizes->by_width)
        value = min64(value * w->h.hidden_size / 1000, sizes->largest + 1);
    if (axis < LAYER_AXES) {
        model_spec_set_size(&w->h, axis, 0, value);
        return;
    }
    for (int64_t l = 0; l < layers_seen(w); l++)
        if (layer_size(&w->s->source->layers[l], axis)) {
            layer_set_size(&w->layers[l], axis, value);
            couple(w, l);
        }
}

/* All axes from this depth on at their smallest or largest; layers are outermost, so that all
 * others see as many as there are. */
static int64_t count_end(struct searching *w, int depth, int at_most)
{
    for (int d = depth; d < w->depth; d++) {
        const struct search_list *l = &w->s->lists[w->order[d]];
        set_size(w, w->order[d], l->value[at_most ? l->n - 1 : 0]);
    }
    return count(w);
}

/* Can a layer of the source be cut to this? */
static int can_cut(const struct model_spec *source, const struct layer *from,
                   const struct layer *to)
{
    if (layer_size(from, AXIS_X) && layer_size(to, AXIS_X) < source->experts_per_token)
        return 0;
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++) {
        enum axis outer = axis_rows[x].inside;
        if (!layer_size(from, x))
            continue;
        if (layer_size(to, x) < 1 || layer_size(to, x) > layer_size(from, x))
            return 0;
        if (outer && !axis_rows[x].each &&
            !units_nest(layer_size(to, x), layer_size(to, outer),
                        layer_size(from, x) / layer_size(from, outer)))
            return 0;
    }
    return 1;
}

/* ---- the search */

static void leaf(struct searching *w)
{
    const struct model_spec *source = w->s->source;
    for (int64_t l = 0; l < w->h.num_hidden_layers; l++) {
        struct layer from = source->layers[l];
        for (enum axis x = LAYER_AXES; w->even && x < AXIS_COUNT; x++)
            layer_set_size(&from, x, layer_size(&w->layers[0], x));
        w->layers[l] = w->even ? from : w->layers[l];
        if (!can_cut(source, &source->layers[l], &w->layers[l]))
            return;
    }
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        if (is_listed(w, x) && !model_spec_uses(&w->h, x))
            return;
    struct footprint f = model_footprint(&w->h, &w->s->at);
    if (w->s->kv_most && f.kv_bytes > w->s->kv_most)
        return;
    if (w->found_n++ == SEARCH_FOUND)
        err_set(w->e,
                "more than %d shapes are in the band: give fewer sizes, or a smaller --tolerance",
                SEARCH_FOUND);
    else if (w->found)
        w->found(w->user, &w->h, &f);
}

/* The first size of the axis at this depth with which the largest shape reaches the band. */
static int64_t first_size(struct searching *w, int depth)
{
    const struct search_list *l = &w->s->lists[w->order[depth]];
    int64_t low = 0, high = l->n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        set_size(w, w->order[depth], l->value[middle]);
        if (count_end(w, depth + 1, 1) < w->s->least)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void descend(struct searching *w, int depth)
{
    if (depth == w->depth) {
        leaf(w);
        return;
    }
    const struct search_list *l = &w->s->lists[w->order[depth]];
    for (int64_t i = first_size(w, depth); i < l->n && !w->e->set; i++) {
        set_size(w, w->order[depth], l->value[i]);
        if (count_end(w, depth + 1, 0) > w->s->most)
            break;
        descend(w, depth + 1);
        if (w->tries > SEARCH_TRIES)
            err_set(w->e,
                    "the grid is too large: %d shapes were counted, and it is not done; give "
                    "fewer sizes",
                    SEARCH_TRIES);
    }
}

static int is_even(const struct model_spec *h)
{
    for (int64_t l = 1; l < h->num_hidden_layers; l++)
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            if (layer_size(&h->layers[l], x) != layer_size(&h->layers[0], x) ||
                h->layers[l].kinds != h->layers[0].kinds)
                return 0;
    return 1;
}

int64_t search_run(const struct search *s, search_found *found, void *user, struct err *e)
{
    static const enum axis order[] = {AXIS_L, AXIS_E, AXIS_V, AXIS_K, AXIS_H, AXIS_F,
                                      AXIS_X, AXIS_N, AXIS_S, AXIS_G, AXIS_M, AXIS_R};
    struct searching w = {.s = s, .h = *s->source, .found = found, .user = user, .e = e};
    size_t bytes = (size_t)s->source->num_hidden_layers * sizeof *w.layers;
    w.layers = w.h.layers = mem_alloc(bytes);
    memcpy(w.layers, s->source->layers, bytes);
    w.even = is_even(s->source);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (s->lists[order[i]].n)
            w.order[w.depth++] = order[i];
    model_spec_visit(s->source, add_term, &w);
    int64_t all = count_end(&w, 0, 1);
    if (w.depth || (all >= s->least && all <= s->most))
        descend(&w, 0);
    free(w.terms);
    free(w.layers);
    return e->set ? -1 : w.found_n;
}

char *search_options(const struct search *s, const struct model_spec *shape)
{
    char *text = mem_string("");
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (s->lists[x].n)
            text = mem_append(text, " --%s %" PRId64, axis_rows[x].option, largest(shape, x));
    return text;
}
