/* From a rank and target sizes to the kept units of every layer and the head of the slice. See
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
    struct kept k = {n, n, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n; i++)
        k.index[i] = i;
    return k;
}

/* The best n of `of` units, in original order. */
static struct kept kept_best(const int32_t *order, int64_t n, int64_t of)
{
    struct kept k = {n, of, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n; i++)
        k.index[i] = order[i];
    qsort(k.index, (size_t)n, sizeof *k.index, ascending);
    return k;
}

/* The channels of kept heads of `dim` each. */
static struct kept kept_channels(const struct kept *heads, int64_t dim)
{
    struct kept k = {heads->n * dim, heads->of * dim,
                     mem_alloc((size_t)(heads->n * dim) * sizeof(int64_t))};
    for (int64_t i = 0; i < k.n; i++)
        k.index[i] = heads->index[i / dim] * dim + i % dim;
    return k;
}

struct planner {
    const struct model_spec *source;
    const struct rank *rank;
    const char *rank_path;
    struct slice_target target;
    struct err *e;
};

/* The order of an entry; NULL with the error set where the rank lacks it. */
static const int32_t *order_of(const struct planner *w, int64_t entry)
{
    if (w->rank && w->rank->order[entry])
        return w->rank->order[entry];
    struct axes a;
    struct tensor t;
    axes_from_model(&a, w->source);
    axes_tensor(&a, entry, DT_I32, &t);
    axes_free(&a);
    if (w->rank)
        err_set(w->e, "%s has no order of %s, which this cut needs", w->rank_path, t.name);
    else
        err_set(w->e, "this cut needs a rank (--rank FILE): an order of %s", t.name);
    return NULL;
}

/* n of `of` units by an entry's order; n == of keeps all and needs no order. */
static struct kept kept_by_rank(const struct planner *w, int64_t entry, int64_t n, int64_t of)
{
    const int32_t *order;
    if (n == of)
        return kept_all(of);
    return (order = order_of(w, entry)) ? kept_best(order, n, of) : (struct kept){0};
}

static int check_target(const struct planner *w, const char *what, int64_t target, int64_t have,
                        int64_t layer)
{
    if (target >= 0 && target <= have)
        return 0;
    if (layer < 0)
        return err_set(w->e, "--%s %" PRId64 " is more than the model has (%" PRId64 ")", what,
                       target, have);
    return err_set(w->e, "--%s %" PRId64 " is more than layer %" PRId64 " has (%" PRId64 ")", what,
                   target, layer, have);
}

/* How many query heads and KV groups a layer keeps. */
static int head_targets(const struct planner *w, int64_t layer, int64_t *heads, int64_t *groups)
{
    const struct layer *y = &w->source->layers[layer];
    int64_t H = y->num_attention_heads, K = y->num_key_value_heads, G = H / K,
            h = w->target.num_attention_heads, k = w->target.num_key_value_heads;
    if (check_target(w, "num-attention-heads", h, H, layer) ||
        check_target(w, "num-key-value-heads", k, K, layer))
        return -1;
    if (!k)
        k = h && G == 1 ? h : K;
    if (!h)
        h = k * G;
    if (h % k || h / k > G)
        return err_set(w->e,
                       "layer %" PRId64 " has %" PRId64
                       " attention heads in a KV group: with %" PRId64
                       " KV heads --num-attention-heads is a multiple of %" PRId64 " up to %" PRId64
                       ", not %" PRId64,
                       layer, G, k, k, k * G, h);
    *heads = h;
    *groups = k;
    return 0;
}

/* The best n / groups query heads of every kept group. */
static struct kept kept_heads(const struct planner *w, int64_t layer, int64_t n,
                              const struct kept *groups)
{
    int64_t G = w->source->layers[layer].num_attention_heads / groups->of, keep = n / groups->n;
    const int32_t *order = keep == G ? NULL : order_of(w, axes_entry(AXIS_H, layer));
    struct kept k = {n, groups->of * G, mem_alloc((size_t)n * sizeof(int64_t))};
    for (int64_t i = 0; i < n && !w->e->set; i++) {
        int64_t first = groups->index[i / keep] * G;
        k.index[i] = order ? order[first + i % keep] : first + i % keep;
    }
    qsort(k.index, (size_t)n, sizeof *k.index, ascending);
    return k;
}

static int plan_layer(const struct planner *w, struct slice_layer *y)
{
    const struct layer *s = &w->source->layers[y->source];
    int64_t heads = 0, groups = 0,
            ffn = w->target.intermediate_size ? w->target.intermediate_size : s->intermediate_size;
    if (check_target(w, "intermediate-size", ffn, s->intermediate_size, y->source) ||
        head_targets(w, y->source, &heads, &groups))
        return -1;
    y->ffn = kept_by_rank(w, axes_entry(AXIS_F, y->source), ffn, s->intermediate_size);
    y->groups = kept_by_rank(w, axes_entry(AXIS_K, y->source), groups, s->num_key_value_heads);
    if (w->e->set)
        return -1;
    y->heads = kept_heads(w, y->source, heads, &y->groups);
    y->hd = kept_channels(&y->heads, s->head_dim);
    y->kd = kept_channels(&y->groups, s->head_dim);
    return w->e->set ? -1 : 0;
}

/* "0,3,12-19", the argument of an option -> listed[layer] = 1. */
static int parse_layers(const struct planner *w, const char *option, const char *list, char *listed)
{
    const char *p = list;
    int64_t L = w->source->num_hidden_layers;
    if (!*list)
        return err_set(w->e, "--%s is a list such as 0,3,12-19, not empty", option);
    while (*p) {
        char *end;
        long long from = strtoll(p, &end, 10), to = from;
        if (end == p || *p < '0' || *p > '9')
            return err_set(w->e, "--%s %s is no list such as 0,3,12-19", option, list);
        if (*end == '-') {
            p = end + 1;
            to = strtoll(p, &end, 10);
            if (end == p || *p < '0' || *p > '9')
                return err_set(w->e, "--%s %s is no list such as 0,3,12-19", option, list);
        }
        if (from > to || to >= L)
            return err_set(w->e, "--%s %s: the model's layers are 0 to %" PRId64, option, list,
                           L - 1);
        memset(listed + from, 1, (size_t)(to - from + 1));
        if (*end && (*end != ',' || !end[1]))
            return err_set(w->e, "--%s %s is no list such as 0,3,12-19", option, list);
        p = *end ? end + 1 : end;
    }
    return 0;
}

static struct kept kept_layers(const struct planner *w)
{
    int64_t L = w->source->num_hidden_layers,
            target = w->target.num_hidden_layers ? w->target.num_hidden_layers : L;
    if (!w->target.drop_layers)
        return check_target(w, "num-hidden-layers", target, L, -1)
                   ? (struct kept){0}
                   : kept_by_rank(w, axes_entry(AXIS_L, -1), target, L);
    char *dropped = mem_alloc((size_t)L);
    struct kept k = kept_all(L);
    k.n = 0;
    if (!parse_layers(w, "drop-layers", w->target.drop_layers, dropped))
        for (int64_t l = 0; l < L; l++)
            if (!dropped[l])
                k.index[k.n++] = l;
    if (!k.n)
        err_set(w->e, "--drop-layers %s leaves no layer", w->target.drop_layers);
    free(dropped);
    return k;
}

/* ---- the head of the slice */

/* The tensor of the slice that a source tensor becomes; -1: it leaves. */
static int dest_of(const struct slice_plan *p, const struct model_spec *source, int i)
{
    int64_t layer, to = 0;
    const struct family_tensor *f = model_spec_axes(source, i, &layer);
    if (layer < 0)
        return model_spec_find(&p->spec, source->tensors[i].name);
    while (to < p->spec.num_hidden_layers && p->layers[to].source != layer)
        to++;
    if (to == p->spec.num_hidden_layers)
        return -1;
    char name[TENSOR_NAME];
    const char *mark = strstr(f->name, "{L}");
    snprintf(name, sizeof name, "%.*s%" PRId64 "%s", (int)(mark - f->name), f->name, to, mark + 3);
    return model_spec_find(&p->spec, name);
}

/* Blocks of q8_0 cannot be cut: a tensor that loses some of the last dimension, along which they
 * run, becomes f32. */
static enum dtype dtype_of(const struct tensor *from, const struct tensor *to)
{
    int last = from->ndim - 1;
    return from->dtype == DT_Q8_0 && to->shape[last] != from->shape[last] ? DT_F32 : from->dtype;
}

/* Removes one kind of block from the listed layers. */
static void drop_kind(const struct planner *w, struct slice_plan *p, enum block_kind kind,
                      const char *option, const char *list)
{
    char *listed = mem_alloc((size_t)w->source->num_hidden_layers);
    if (list && !parse_layers(w, option, list, listed))
        for (int64_t i = 0; i < p->spec.num_hidden_layers; i++) {
            struct layer *y = &p->spec.layers[i];
            int64_t l = p->layers[i].source;
            if (!listed[l])
                continue;
            if (!(y->kinds & kind))
                err_set(w->e, "--%s %s: layer %" PRId64 " has no %s", option, list, l,
                        block_kind_name(kind));
            if (y->kinds == kind)
                err_set(w->e,
                        "--%s %s leaves nothing of layer %" PRId64 ": drop it with --drop-layers",
                        option, list, l);
            y->kinds &= ~kind;
        }
    free(listed);
}

static int plan_head(const struct planner *w, struct slice_plan *p, int64_t n_layers)
{
    struct model_spec *h = &p->spec;
    model_spec_copy(h, w->source);
    h->hidden_size = p->hidden.n;
    h->num_hidden_layers = n_layers;
    for (int64_t l = 0; l < n_layers; l++) {
        h->layers[l] = w->source->layers[p->layers[l].source];
        h->layers[l].num_attention_heads = p->layers[l].heads.n;
        h->layers[l].num_key_value_heads = p->layers[l].groups.n;
        h->layers[l].intermediate_size = p->layers[l].ffn.n;
    }
    drop_kind(w, p, KIND_attention, "drop-attention", w->target.drop_attention);
    drop_kind(w, p, KIND_mlp, "drop-mlp", w->target.drop_mlp);
    model_spec_update_config(h);
    model_spec_list_tensors(h, DT_F32);
    int last = -1, filled = 0;
    p->dest = mem_alloc((size_t)w->source->n_tensors * sizeof *p->dest);
    for (int i = 0; i < w->source->n_tensors; i++) {
        int to = p->dest[i] = dest_of(p, w->source, i);
        if (to < 0)
            continue;
        h->tensors[to].dtype = dtype_of(&w->source->tensors[i], &h->tensors[to]);
        filled += to > last;
        last = to;
    }
    return filled == h->n_tensors
               ? 0
               : err_set(w->e, "the tensors of the slice do not follow from those of the model");
}

int slice_plan_make(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                    const char *rank_path, const struct slice_target *target, struct err *e)
{
    struct planner w = {source, rank, rank_path, *target, e};
    int64_t E = target->hidden_size ? target->hidden_size : source->hidden_size;
    *p = (struct slice_plan){0};
    struct kept layers = kept_layers(&w);
    if (!e->set && !check_target(&w, "hidden-size", E, source->hidden_size, -1))
        p->hidden = kept_by_rank(&w, axes_entry(AXIS_E, -1), E, source->hidden_size);
    p->spec.num_hidden_layers = layers.n;
    p->layers = mem_alloc((size_t)layers.n * sizeof *p->layers);
    for (int64_t l = 0; l < layers.n && !e->set; l++) {
        p->layers[l].source = layers.index[l];
        plan_layer(&w, &p->layers[l]);
    }
    free(layers.index);
    if (!e->set)
        plan_head(&w, p, layers.n);
    if (e->set)
        slice_plan_free(p);
    return e->set ? -1 : 0;
}

void slice_plan_free(struct slice_plan *p)
{
    for (int64_t l = 0; p->layers && l < p->spec.num_hidden_layers; l++) {
        struct slice_layer *y = &p->layers[l];
        free(y->ffn.index);
        free(y->heads.index);
        free(y->groups.index);
        free(y->hd.index);
        free(y->kd.index);
    }
    free(p->layers);
    free(p->hidden.index);
    free(p->dest);
    if (p->spec.family)
        model_spec_free(&p->spec);
    *p = (struct slice_plan){0};
}
