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

/* Has a layer units of the axis? */
static int is_used(const struct model_spec *h, enum axis axis)
{
    unsigned kinds = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        kinds |= h->layers[l].kinds;
    return axis < LAYER_AXES || kinds & family_axis_kinds(h->family, axis);
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
    if (!is_used(source, axis))
        return err_set(e, "--%s must be left out: no layer of the model has %s",
                       axis_rows[axis].brief,
                       block_kind_name(family_axis_kinds(source->family, axis)));
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
    if (e->set)
        search_list_free(l);
    return e->set ? -1 : 0;
}

void search_list_free(struct search_list *l)
{
    free(l->value);
    *l = (struct search_list){0};
}

/* ---- counting */

/* A tensor of the family as the model has it. */
struct term {
    enum axis axes[2];
    unsigned kinds; /* 0: outside the layers */
    int looked_up;
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

static int add_term(void *user, const struct model_spec *h, const struct family_tensor *t,
                    int64_t layer)
{
    struct searching *w = user;
    w->terms = mem_grow(w->terms, (size_t)(w->n_terms + 1) * sizeof *w->terms);
    w->terms[w->n_terms++] = (struct term){{t->axes[0], t->axes[1]},
                                           layer < 0 ? 0 : family_tensor_kinds(h->family, t),
                                           footprint_is_looked_up(h, t)};
    return layer > 0;
}

/* Of the tensors outside the layers (layer -1) or in one. */
static int64_t count_part(const struct searching *w, int64_t layer)
{
    int64_t sum = 0;
    unsigned kinds = layer < 0 ? 0 : w->layers[layer].kinds;
    for (int i = 0; i < w->n_terms; i++) {
        const struct term *t = &w->terms[i];
        if (layer < 0 ? t->kinds : !(t->kinds & kinds))
            continue;
        int64_t n = w->s->active && t->looked_up ? 1
                                                 : model_spec_dimension(&w->h, t->axes[0], layer);
        sum += t->axes[1] ? n * model_spec_dimension(&w->h, t->axes[1], layer) : n;
    }
    return sum;
}

/* Those that a search looks at: the first stands for all where all are alike. */
static int64_t layers_seen(const struct searching *w)
{
    return w->even ? 1 : w->h.num_hidden_layers;
}

static int64_t count(struct searching *w)
{
    int64_t sum = 0;
    for (int64_t l = 0; l < layers_seen(w); l++)
        sum += count_part(w, l);
    w->tries++;
    return count_part(w, -1) + (w->even ? sum * w->h.num_hidden_layers : sum);
}

/* ---- sizes */

static int is_listed(const struct searching *w, enum axis axis) { return w->s->lists[axis].n > 0; }

/* Query heads follow KV heads, or the other way round, as in a cut. */
static void couple_heads(const struct searching *w, int64_t l)
{
    const struct layer *from = &w->s->source->layers[l];
    struct layer *y = &w->layers[l];
    int64_t each = from->num_attention_heads / from->num_key_value_heads;
    if (!is_listed(w, AXIS_H))
        y->num_attention_heads = y->num_key_value_heads * each;
    else if (!is_listed(w, AXIS_K) && each == 1)
        y->num_key_value_heads = y->num_attention_heads;
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
    for (int64_t l = 0; l < layers_seen(w); l++) {
        layer_set_size(&w->layers[l], axis, value);
        couple_heads(w, l);
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
static int can_cut(const struct layer *from, const struct layer *to)
{
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++) {
        enum axis outer = axis_rows[x].inside;
        if (!layer_size(from, x))
            continue;
        if (layer_size(to, x) < 1 || layer_size(to, x) > layer_size(from, x))
            return 0;
        if (outer && !units_nest(layer_size(to, x), layer_size(to, outer),
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
        if (!can_cut(&source->layers[l], &w->layers[l]))
            return;
    }
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        if (is_listed(w, x) && !is_used(&w->h, x))
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

/* A layer with every kind of block gives all terms. */
static void collect_terms(struct searching *w)
{
    int64_t layers = w->h.num_hidden_layers;
    unsigned kinds = w->layers[0].kinds;
    w->h.num_hidden_layers = 1;
    w->layers[0].kinds = family_kinds(w->h.family);
    model_spec_visit(&w->h, add_term, w);
    w->layers[0].kinds = kinds;
    w->h.num_hidden_layers = layers;
}

int64_t search_run(const struct search *s, search_found *found, void *user, struct err *e)
{
    static const enum axis order[] = {AXIS_L, AXIS_E, AXIS_K, AXIS_H, AXIS_F};
    struct searching w = {.s = s, .h = *s->source, .found = found, .user = user, .e = e};
    size_t bytes = (size_t)s->source->num_hidden_layers * sizeof *w.layers;
    if (family_has_axis(s->source->family, AXIS_X))
        return err_set(e, "shapes of mixtures of experts are not searched: slice-model --dry-run "
                          "shows what one costs");
    w.layers = w.h.layers = mem_alloc(bytes);
    memcpy(w.layers, s->source->layers, bytes);
    w.even = is_even(s->source);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        if (s->lists[order[i]].n)
            w.order[w.depth++] = order[i];
    collect_terms(&w);
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
            text = mem_append(text, " --%s %" PRId64, axis_rows[x].option,
                              model_spec_size(shape, x, 0));
    return text;
}
