/* From a rank and target sizes to the kept units of every layer and the spec of the slice. See
 * slice.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "slice.h"

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static struct kept kept_all(int64_t n)
{
    struct kept k = {n, n, 1, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n; i++)
        k.index[i] = i;
    return k;
}

/* The best n of `of` units, best first. */
static struct kept kept_best(const int32_t *order, int64_t n, int64_t of)
{
    struct kept k = {n, of, 1, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n; i++)
        k.index[i] = order[i];
    return k;
}

static void original_order(struct kept *k)
{
    qsort(k->index, (size_t)k->n, sizeof *k->index, ascending);
}

struct planner {
    const struct model_spec *source;
    const struct rank *rank;
    const char *rank_path;
    const struct slice_target *target;
    struct err *e;
};

/* The order of an entry; NULL with the error set if the rank lacks it. */
static const int32_t *order_of(const struct planner *w, int64_t entry)
{
    if (w->rank && w->rank->order[entry])
        return w->rank->order[entry];
    struct axes a;
    struct tensor t;
    axes_from_model(&a, w->source);
    axes_add_vocab(&a, w->source);
    axes_tensor(&a, entry, DT_I32, &t);
    axes_free(&a);
    if (w->rank)
        err_set(w->e, "%s has no order of %s, which this cut needs%s", w->rank_path, t.name,
                entry == axes_entry(AXIS_V, -1) ? ": give rank the scores of score-vocab too" : "");
    else if (w->target->in_order && entry == axes_entry(AXIS_V, -1))
        err_set(w->e, "a sorted model keeps its token ids: choose tokens by --rank, in a step of "
                      "its own");
    else if (w->target->in_order)
        err_set(w->e, "the layers of a sorted model keep their places: choose those to remove with "
                      "--drop-layers, not with --num-hidden-layers");
    else
        err_set(w->e, "this cut needs --rank FILE, which gives the order of %s", t.name);
    return NULL;
}

/* n of the `of` units of an axis that is not nested, by its order; where no unit is removed or
 * moved, it needs none. */
static struct kept kept_by_rank(const struct planner *w, enum axis axis, int64_t layer, int64_t n,
                                int64_t of, int sort)
{
    const int32_t *order;
    if ((n == of && !sort) || (w->target->in_order && axis != AXIS_L)) {
        struct kept k = kept_all(of);
        k.n = n;
        return k;
    }
    if (!(order = order_of(w, axes_entry(axis, layer))))
        return (struct kept){0};
    struct kept k = kept_best(order, n, of);
    if (!sort)
        original_order(&k);
    return k;
}

/* The requested size, 0: none. Refuses more than the source has. */
static int64_t asked(const struct planner *w, enum axis axis, int64_t layer)
{
    const struct range *r = ranges_find(&w->target->size[axis], axis < LAYER_AXES ? 0 : layer);
    int64_t have = model_spec_size(w->source, axis, layer);
    if (!r || !have)
        return 0;
    const char *option = axis_rows[axis].option;
    if (axis == AXIS_V && r->value <= have)
        return vocab_can_have(w->target->vocab, option, r->value, have, w->e) ? r->value : 0;
    if (r->value <= have)
        return r->value;
    if (axis < LAYER_AXES)
        err_set(w->e, "--%s must be at most %" PRId64 ", not %" PRId64, option, have, r->value);
    else
        err_set(w->e, "--%s must be at most %" PRId64 " in layer %" PRId64 ", not %" PRId64, option,
                have, layer, r->value);
    return 0;
}

/* The tokens that stay; like layers, they are never sorted. */
static struct kept keep_tokens(const struct planner *w)
{
    int64_t n = w->e->set ? 0 : asked(w, AXIS_V, 0), of = w->source->vocab_size;
    if (w->e->set)
        return (struct kept){0};
    if (!n || n == of)
        return kept_all(of);
    const int32_t *order = order_of(w, axes_entry(AXIS_V, -1));
    struct kept k = {n, of, 1, mem_alloc((size_t)n * sizeof(int64_t))};
    if (order)
        vocab_choose(w->target->vocab, order, n, k.index);
    return k;
}

/* Units nested in those of another axis: the same number is kept in each outer unit that stays. */
static int sizes_inside(const struct planner *w, enum axis axis, int64_t layer,
                        int64_t n[AXIS_COUNT])
{
    enum axis outer = axis_rows[axis].inside;
    int64_t all = model_spec_size(w->source, outer, layer),
            each = model_spec_size(w->source, axis, layer) / all;
    if (!n[outer])
        n[outer] = n[axis] && each == 1 ? n[axis] : all;
    if (!n[axis])
        n[axis] = n[outer] * each;
    if (units_nest(n[axis], n[outer], each))
        return 0;
    return err_set(w->e,
                   "layer %" PRId64 ": with %s %" PRId64 ", --%s must be a multiple of %" PRId64
                   " up to %" PRId64 ", not %" PRId64,
                   layer, axis_rows[outer].name, n[outer], axis_rows[axis].option, n[outer],
                   n[outer] * each, n[axis]);
}

static void check_experts(const struct planner *w, int64_t layer, int64_t n)
{
    if (n && n < w->source->experts_per_token)
        err_set(w->e,
                "layer %" PRId64 ": --num-experts must be at least %" PRId64
                ", the number of experts that work for each token, not %" PRId64,
                layer, w->source->experts_per_token, n);
}

/* The size along each axis that a layer keeps. */
static int layer_sizes(const struct planner *w, int64_t layer, int64_t n[AXIS_COUNT])
{
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        n[x] = asked(w, x, layer);
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        if (!w->e->set && axis_rows[x].inside && !axis_rows[x].each &&
            model_spec_size(w->source, x, layer))
            sizes_inside(w, x, layer, n);
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        n[x] = n[x] ? n[x] : model_spec_size(w->source, x, layer);
    check_experts(w, layer, n[AXIS_X]);
    return w->e->set ? -1 : 0;
}

/* The best n units of a nested axis, the same number in each kept outer unit. */
static struct kept kept_inside(const struct planner *w, enum axis axis, int64_t layer, int64_t n,
                               const struct kept *outer, int sort)
{
    int64_t of = layer_units(&w->source->layers[layer], axis), each = of / outer->of,
            keep = n / outer->n;
    int by_place = (keep == each && !sort) || w->target->in_order || axis_rows[axis].place < 0;
    const int32_t *order = by_place ? NULL : order_of(w, axes_entry(axis, layer));
    struct kept k = {n, of, 1, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n && !w->e->set; i++) {
        int64_t first = outer->index[i / keep] * each;
        k.index[i] = order ? order[first + i % keep] : first + i % keep;
    }
    if (!sort)
        original_order(&k);
    return k;
}

/* The units of an axis of a source's layer that the slice's layer y, of the sizes of `to`, keeps;
 * those of the axis they are nested in come first. */
static void keep_units(const struct planner *w, struct slice_layer *y, enum axis axis,
                       int64_t layer, const struct layer *to)
{
    enum axis outer = axis_rows[axis].inside;
    const struct layer *from = &w->source->layers[layer];
    struct kept *k = &y->kept[axis];
    int sort = w->target->sort && model_spec_has_units(w->source, axis, layer);
    if ((axis_rows[axis].place < 0 && !outer) || !layer_size(from, axis) || k->index || w->e->set)
        return;
    if (outer) {
        keep_units(w, y, outer, layer, to);
        if (!w->e->set)
            *k = kept_inside(w, axis, layer, layer_units(to, axis), &y->kept[outer], sort);
    } else {
        *k = kept_by_rank(w, axis, layer, layer_size(to, axis), layer_size(from, axis), sort);
    }
    k->width = layer_width(from, axis);
}

/* The layers that stay: the best ones, or those not listed to be dropped. */
static struct kept keep_layers(const struct planner *w)
{
    int64_t have = w->source->num_hidden_layers, n = asked(w, AXIS_L, 0);
    const struct ranges *drop = &w->target->drop_layers;
    if (w->e->set)
        return (struct kept){0};
    if (!drop->n)
        return kept_by_rank(w, AXIS_L, -1, n ? n : have, have, 0);
    struct kept k = kept_all(have);
    k.n = 0;
    for (int64_t l = 0; l < have; l++)
        if (!ranges_find(drop, l))
            k.index[k.n++] = l;
    if (!k.n)
        err_set(w->e, "--drop-layers leaves no layer");
    return k;
}

/* ---- the spec of the slice */

/* The place in the slice of a source's layer; -1: it is dropped. */
static int64_t place_of(const struct kept *layers, int64_t layer)
{
    for (int64_t i = 0; i < layers->n; i++)
        if (layers->index[i] == layer)
            return i;
    return -1;
}

/* Is tensor i of the source the slice's tensor `to`? Both lists have the same order. */
static int becomes(const struct slice_plan *p, const struct model_spec *source, int i, int to)
{
    int64_t layer, slice_layer;
    if (to == p->spec.n_tensors)
        return 0;
    const char *stem = tensor_layer(source->tensors[i].name, &layer),
               *slice_stem = tensor_layer(p->spec.tensors[to].name, &slice_layer);
    int64_t place = layer < 0 ? layer : place_of(&p->kept[AXIS_L], layer);
    return !strcmp(stem, slice_stem) && slice_layer == place && (place >= 0 || layer < 0);
}

/* Removes one kind of block from the listed layers. */
static void drop_kind(const struct planner *w, struct slice_plan *p, enum block_kind kind,
                      const char *option, const struct ranges *list)
{
    for (int64_t i = 0; i < p->kept[AXIS_L].n; i++) {
        struct layer *y = &p->spec.layers[i];
        int64_t l = p->kept[AXIS_L].index[i];
        if (!ranges_find(list, l))
            continue;
        if (!(y->kinds & kind))
            err_set(w->e, "--%s: layer %" PRId64 " has no %s", option, l, block_kind_name(kind));
        if (y->kinds == kind)
            err_set(w->e, "--%s leaves nothing of layer %" PRId64 ": drop it with --drop-layers",
                    option, l);
        y->kinds &= ~kind;
    }
}

static const char *holder_of(const struct family *f, enum axis axis)
{
    unsigned kinds = family_axis_kinds(f, axis);
    return axis == AXIS_X || axis == AXIS_N || axis == AXIS_S ? "mixture of experts"
                                                              : block_kind_name(kinds);
}

/* Refuses a size that concerns only layers without a block of its kind. */
static void check_used(const struct planner *w, const struct slice_plan *p, enum axis axis,
                       const struct range *r)
{
    int64_t named = -1;
    if (!model_spec_uses(w->source, axis)) {
        err_set(w->e, "--%s must be left out: no layer of the model has any",
                axis_rows[axis].option);
        return;
    }
    for (int64_t i = 0; i < p->kept[AXIS_L].n; i++) {
        int64_t l = p->kept[AXIS_L].index[i];
        if (l < r->from || l > r->to)
            continue;
        if (model_spec_has_units(&p->spec, axis, i))
            return;
        named = l;
    }
    if (named >= 0)
        err_set(w->e,
                "--%s has size %" PRId64 " for layer %" PRId64
                ", but no %s stays there: leave that size out",
                axis_rows[axis].option, r->value, named, holder_of(w->source->family, axis));
}

static void shape_sizes(const struct planner *w, struct slice_plan *p)
{
    struct model_spec *h = &p->spec;
    h->num_hidden_layers = p->kept[AXIS_L].n;
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++) {
        int64_t n = x == AXIS_L ? 0 : asked(w, x, 0);
        if (n)
            model_spec_set_size(h, x, 0, n);
    }
    for (int64_t l = 0; l < p->kept[AXIS_L].n && !w->e->set; l++) {
        int64_t n[AXIS_COUNT] = {0}, from = p->kept[AXIS_L].index[l];
        h->layers[l] = w->source->layers[from];
        layer_sizes(w, from, n);
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            layer_set_size(&h->layers[l], x, n[x]);
    }
}

static int shape_tensors(const struct planner *w, struct slice_plan *p)
{
    struct model_spec *h = &p->spec;
    int to = 0;
    model_spec_list_tensors(h, DT_F32);
    p->dest = mem_alloc((size_t)w->source->n_tensors * sizeof *p->dest);
    for (int i = 0; i < w->source->n_tensors; i++) {
        p->dest[i] = becomes(p, w->source, i, to) ? to++ : -1;
        if (p->dest[i] >= 0)
            h->tensors[to - 1].dtype = dtype_written(w->target->dtype, w->source->tensors[i].dtype,
                                                     &h->tensors[to - 1]);
    }
    return to == h->n_tensors ? 0
                              : err_set(w->e, "internal error: the tensors of the slice do not "
                                              "follow from those of the model");
}

/* With ALiBi, a head's place among all of them says how it weighs distance. */
static void check_alibi(const struct planner *w, const struct slice_plan *p)
{
    int fewer = 0;
    if (!model_spec_flag(w->source, "alibi"))
        return;
    for (int64_t l = 0; l < p->kept[AXIS_L].n; l++)
        fewer |= p->spec.layers[l].num_attention_heads !=
                 w->source->layers[p->kept[AXIS_L].index[l]].num_attention_heads;
    if (fewer || w->target->sort)
        err_set(w->e,
                "the heads of a model with ALiBi cannot be %s: how they weigh distance follows "
                "from their places among all heads",
                fewer ? "removed" : "sorted");
}

/* Which layers stay, and the spec: everything but the units. */
static int plan_shape(const struct planner *w, struct slice_plan *p)
{
    if (slice_target_check(w->target, w->source->num_hidden_layers, w->e))
        return -1;
    p->kept[AXIS_L] = keep_layers(w);
    if (w->e->set)
        return -1;
    model_spec_copy(&p->spec, w->source);
    shape_sizes(w, p);
    check_alibi(w, p);
    drop_kind(w, p, KIND_attention, "drop-attention", &w->target->drop_attention);
    drop_kind(w, p, KIND_mlp, "drop-mlp", &w->target->drop_mlp);
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        for (int64_t i = 0; i < w->target->size[x].n; i++)
            check_used(w, p, x, &w->target->size[x].list[i]);
    if (w->e->set)
        return -1;
    model_spec_update_config(&p->spec);
    return shape_tensors(w, p);
}

/* The units of every axis but the layers, as many as the spec has. */
static void plan_units(const struct planner *w, struct slice_plan *p)
{
    const struct model_spec *h = &p->spec;
    for (enum axis x = MODEL_AXES; x < LAYER_AXES && !w->e->set; x++)
        if (axis_rows[x].place >= 0 && x != AXIS_L && x != AXIS_V)
            p->kept[x] = kept_by_rank(w, x, -1, model_spec_size(h, x, 0),
                                      model_spec_size(w->source, x, 0), w->target->sort);
    p->kept[AXIS_V] = keep_tokens(w);
    p->layers = mem_alloc((size_t)p->kept[AXIS_L].n * sizeof *p->layers);
    for (int64_t l = 0; l < p->kept[AXIS_L].n; l++)
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            keep_units(w, &p->layers[l], x, p->kept[AXIS_L].index[l], &h->layers[l]);
}

int slice_plan_shape(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                     const char *rank_path, const struct slice_target *target, struct err *e)
{
    struct planner w = {source, rank, rank_path, target, e};
    *p = (struct slice_plan){.dtype = target->dtype};
    if (plan_shape(&w, p))
        slice_plan_free(p);
    return e->set ? -1 : 0;
}

int slice_plan_make(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                    const char *rank_path, const struct slice_target *target, struct err *e)
{
    struct planner w = {source, rank, rank_path, target, e};
    *p = (struct slice_plan){.dtype = target->dtype};
    if (!plan_shape(&w, p))
        plan_units(&w, p);
    if (e->set)
        slice_plan_free(p);
    return e->set ? -1 : 0;
}

void slice_plan_free(struct slice_plan *p)
{
    for (int64_t l = 0; p->layers && l < p->kept[AXIS_L].n; l++) {
        for (enum axis x = 0; x < AXIS_COUNT; x++)
            free(p->layers[l].kept[x].index);
        free(p->layers[l].merged);
    }
    for (enum axis x = 0; x < LAYER_AXES; x++)
        free(p->kept[x].index);
    free(p->layers);
    free(p->dest);
    if (p->spec.family)
        model_spec_free(&p->spec);
    *p = (struct slice_plan){0};
}
