/* From a table of variants to a knapsack, a group a layer, and from its points to shapes: see
 * per_layer.h. */
#include "per_layer.h"

#include <math.h>
#include <stdlib.h>

#include "../base/file_out.h"

/* ---- targets of slice-model */

static void add_layer(struct ranges *r, int64_t layer, int64_t value)
{
    r->list = mem_grow(r->list, (size_t)(r->n + 1) * sizeof *r->list);
    r->list[r->n++] = (struct range){layer, layer, value};
}

static void add_block(struct slice_target *t, const struct variant *v)
{
    if (v->axis)
        add_layer(&t->size[v->axis], v->layer, v->size);
    else
        add_layer(v->drop == KIND_mlp ? &t->drop_mlp : &t->drop_attention, v->layer, 0);
}

/* Does it remove all blocks of a layer that has these kinds? */
static int removes_all(const struct per_layer_choice *c, unsigned kinds)
{
    for (int k = 0; k < PER_LAYER_KINDS; k++)
        if (c->block[k] && !c->block[k]->axis)
            kinds &= ~c->block[k]->drop;
    return !kinds;
}

static int removes_layer(const struct per_layer *s, int64_t layer, const struct per_layer_choice *c)
{
    return c->whole || removes_all(c, s->source->layers[layer].kinds);
}

static void add_choice(struct slice_target *t, const struct per_layer *s, int64_t layer,
                       const struct per_layer_choice *c)
{
    if (removes_layer(s, layer, c)) {
        add_layer(&t->drop_layers, layer, 0);
        return;
    }
    for (int k = 0; k < PER_LAYER_KINDS; k++)
        if (c->block[k])
            add_block(t, c->block[k]);
}

static int shape_of(struct slice_plan *p, const struct per_layer *s, struct slice_target *t,
                    struct err *e)
{
    int failed = slice_plan_shape(p, s->source, NULL, NULL, t, e);
    slice_target_free(t);
    return failed;
}

/* ---- choices */

struct listing {
    struct per_layer *s;
    const struct per_layer_options *o;
    struct choice *list; /* beside s->choices */
    int64_t n;
    struct err *e;
};

static double loss_of(const struct per_layer_choice *c)
{
    double sum = c->whole ? c->whole->means.kl : 0;
    for (int k = 0; k < PER_LAYER_KINDS; k++)
        sum += c->block[k] ? c->block[k]->means.kl : 0;
    return sum;
}

static int changes(const struct per_layer_choice *c)
{
    int any = c->whole != NULL;
    for (int k = 0; k < PER_LAYER_KINDS; k++)
        any |= c->block[k] != NULL;
    return any;
}

/* Adds a choice of a layer with its cost beside that of the source, if it is acceptable and leaves
 * a layer to the model. */
static void add(struct listing *x, int64_t layer, struct per_layer_choice c)
{
    struct per_layer *s = x->s;
    struct slice_target t = {0};
    struct slice_plan p;
    int64_t cost = 0;
    if (removes_layer(s, layer, &c) && s->source->num_hidden_layers == 1)
        return;
    add_choice(&t, s, layer, &c);
    if (x->e->set || shape_of(&p, s, &t, x->e))
        return;
    int fine = !changes(&c) || !x->o->allows || x->o->allows(x->o->user, &p);
    if (changes(&c))
        cost = x->o->cost(x->o->user, &p.spec) - s->cost;
    slice_plan_free(&p);
    if (!fine)
        return;
    x->list = mem_grow(x->list, (size_t)(x->n + 1) * sizeof *x->list);
    s->choices = mem_grow(s->choices, (size_t)(x->n + 1) * sizeof *s->choices);
    x->list[x->n] = (struct choice){cost, loss_of(&c)};
    s->choices[x->n++] = c;
    s->count[layer]++;
}

/* The next variant at or after v that changes this kind of block of the layer; NULL: none. */
static const struct variant *next(const struct per_layer *s, const struct variant *v, int64_t layer,
                                  unsigned kinds)
{
    const struct variant *end = s->table->list + s->table->n;
    for (; v < end; v++) {
        unsigned changed = v->axis ? family_axis_kinds(s->source->family, v->axis) : v->drop;
        if (v->layer == layer && changed == kinds && isfinite(v->means.kl))
            return v;
    }
    return NULL;
}

/* Every variant of a block of kind k, or none, with every one of the kinds after it; not the
 * removal of all, where that of the layer was measured. */
static void add_combinations(struct listing *x, int64_t layer, int k, struct per_layer_choice c,
                             const struct variant *whole)
{
    const struct variant *first = x->s->table->list, *v = NULL;
    if (k == PER_LAYER_KINDS) {
        if (!whole || !removes_layer(x->s, layer, &c))
            add(x, layer, c);
        return;
    }
    do {
        c.block[k] = v;
        add_combinations(x, layer, k + 1, c, whole);
        v = next(x->s, v ? v + 1 : first, layer, 1U << k);
    } while (v);
}

static void add_layer_choices(struct listing *x, int64_t layer)
{
    const struct variant *whole = next(x->s, x->s->table->list, layer, WHOLE_LAYER);
    add_combinations(x, layer, 0, (struct per_layer_choice){0}, whole);
    if (whole)
        add(x, layer, (struct per_layer_choice){.whole = whole});
}

int per_layer_open(struct per_layer *s, const struct model_spec *source,
                   const struct variants *table, const struct per_layer_options *o, struct err *e)
{
    int64_t L = source->num_hidden_layers;
    *s = (struct per_layer){.source = source,
                            .table = table,
                            .cost = o->cost(o->user, source),
                            .count = mem_alloc((size_t)L * sizeof *s->count)};
    struct listing x = {.s = s, .o = o, .e = e};
    for (int64_t l = 0; l < L; l++)
        add_layer_choices(&x, l);
    int failed = e->set || knapsack_solve(&s->knapsack, x.list, s->count, L, e);
    free(x.list);
    if (failed)
        per_layer_close(s);
    return failed ? -1 : 0;
}

void per_layer_close(struct per_layer *s)
{
    knapsack_free(&s->knapsack);
    free(s->choices);
    free(s->count);
    *s = (struct per_layer){0};
}

/* ---- points */

int64_t per_layer_points(const struct per_layer *s) { return knapsack_curve(&s->knapsack)->n; }

struct per_layer_point per_layer_point(const struct per_layer *s, int64_t i)
{
    const struct knapsack_sum *x = &knapsack_curve(&s->knapsack)->sums[i];
    return (struct per_layer_point){s->cost + x->cost, x->loss};
}

int64_t per_layer_within(const struct per_layer *s, int64_t cost, struct err *e)
{
    int64_t i = knapsack_within(&s->knapsack, cost - s->cost);
    if (i < 0)
        err_set(e, "the table's smallest variants still cost %lld, more than the budget of %lld",
                (long long)per_layer_point(s, 0).cost, (long long)cost);
    return i;
}

int per_layer_plan(const struct per_layer *s, int64_t i, struct slice_plan *p, struct err *e)
{
    int64_t L = s->source->num_hidden_layers;
    const struct per_layer_choice *c = s->choices;
    int32_t *taken = mem_alloc((size_t)L * sizeof *taken);
    struct slice_target t = {0};
    knapsack_choices(&s->knapsack, i, taken);
    for (int64_t l = 0; l < L; c += s->count[l++])
        add_choice(&t, s, l, &c[taken[l]]);
    free(taken);
    if (t.drop_layers.n == L) {
        slice_target_free(&t);
        return err_set(e,
                       "the cheapest variants of the table leave no layer: give a larger budget");
    }
    return shape_of(p, s, &t, e);
}

/* A point without layers is not a shape. */
static void write_curve(const struct per_layer *s, FILE *to)
{
    fputs("budget,kl,options\n", to);
    for (int64_t i = 0; i < per_layer_points(s); i++) {
        struct per_layer_point x = per_layer_point(s, i);
        struct slice_plan plan;
        struct err none = {0};
        if (per_layer_plan(s, i, &plan, &none))
            continue;
        char *options = slice_plan_options(&plan, s->source);
        fprintf(to, "%lld,%.9g,\"%s\"\n", (long long)x.cost, x.kl, options + (*options == ' '));
        free(options);
        slice_plan_free(&plan);
    }
}

int per_layer_save_curve(const struct per_layer *s, const char *path, struct err *e)
{
    struct file_out f;
    char *text;
    size_t n;
    FILE *to = mem_stream_open(&text, &n);
    write_curve(s, to);
    mem_stream_close(to);
    int failed = file_create(&f, path, e) || file_append(&f, text, (int64_t)n, e);
    if (failed)
        file_abandon(&f);
    else
        failed = file_publish(&f, e);
    free(text);
    return failed ? -1 : 0;
}
