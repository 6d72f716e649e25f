/* A target shape from a budget: see budget.h. Every shape that is tried is the one that the cut
 * would make, so what is counted is what is written. */
#include "budget.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/amount.h"
#include "../base/mem.h"
#include "../base/minmax.h"

/* ---- options */

/* The axis of a name, brief or as the option; AXIS_NONE: none that can be cut. */
static enum axis axis_named(const char *name, size_t n)
{
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++) {
        const char *names[] = {axis_rows[x].brief, axis_rows[x].option};
        for (int i = 0; i < 2; i++)
            if (names[i] && strlen(names[i]) == n && !strncmp(names[i], name, n))
                return x;
    }
    return AXIS_NONE;
}

static int has_size(const struct slice_options *o, enum axis x)
{
    return o->size[x] || (x == AXIS_L && o->drop_layers);
}

static int read_axes(struct budget *b, const char *list, const struct slice_options *o,
                     struct err *e)
{
    for (size_t n = 0, more = 1; more; list += n + 1) {
        n = strcspn(list, ",");
        more = list[n] == ',';
        enum axis x = axis_named(list, n);
        if (!x)
            return err_set(e,
                           "--axes takes a list of ffn, hidden, layers, heads, kv-heads, vocab, "
                           "experts, expert-ffn, shared-ffn, mamba-groups, mamba-heads and "
                           "mamba-head-dim, not \"%.*s\"",
                           (int)n, list);
        if (has_size(o, x))
            return err_set(e, "--axes lets %s move, but another option sets it",
                           axis_rows[x].brief);
        b->moves[x] = 1;
    }
    if (b->moves[AXIS_H] && b->moves[AXIS_K])
        return err_set(e, "--axes: heads and kv-heads cannot move together: a KV head takes its "
                          "query heads along");
    if (b->moves[AXIS_M] && b->moves[AXIS_G])
        return err_set(e,
                       "--axes: mamba-heads and mamba-groups cannot move together: a group takes "
                       "its heads along");
    return 0;
}

static int64_t count_of(const char *text) { return text ? amount_count(text) : 1; }

/* What most models are cut by; those that have sizes stay. */
static void default_axes(struct budget *b, const struct slice_options *o)
{
    b->moves[AXIS_F] = !has_size(o, AXIS_F);
    b->moves[AXIS_N] = !has_size(o, AXIS_N);
    b->moves[AXIS_E] = !has_size(o, AXIS_E);
}

static int read_amounts(struct budget *b, const struct budget_options *o, struct err *e)
{
    b->in_bytes = o->bytes != NULL;
    b->most = o->bytes ? amount_bytes(o->bytes) : count_of(o->parameters);
    b->ratio = o->ratio ? amount_share(o->ratio) : 0;
    if (b->most < 1)
        return err_set(e, "--%s takes a number such as %s, not \"%s\"", b->option,
                       o->bytes ? "200MB" : "100M", b->value);
    if (b->ratio < 0 || b->ratio > 1 || (o->ratio && b->ratio == 0))
        return err_set(e, "--ratio takes a share such as 0.5 or 50%%, not \"%s\"", o->ratio);
    return 0;
}

int budget_read(struct budget *b, const struct budget_options *o, const struct slice_options *shape,
                struct err *e)
{
    const struct {
        const char *option, *value;
    } ways[] = {{"parameters", o->parameters}, {"ratio", o->ratio}, {"bytes", o->bytes}};
    *b = (struct budget){.multiple_of = o->multiple_of ? o->multiple_of : 32};
    for (int i = 0; i < 3; i++) {
        if (ways[i].value && b->option)
            return err_set(e, "--%s and --%s are both budgets: give one", b->option,
                           ways[i].option);
        if (ways[i].value) {
            b->option = ways[i].option;
            b->value = ways[i].value;
        }
    }
    if (!b->option)
        return o->axes || o->multiple_of
                   ? err_set(e, "--%s needs a budget: --parameters, --ratio or --bytes",
                             o->axes ? "axes" : "multiple-of")
                   : 0;
    if (read_amounts(b, o, e))
        return -1;
    b->named = o->axes != NULL;
    if (b->named)
        return read_axes(b, o->axes, shape, e);
    default_axes(b, shape);
    return 0;
}

/* ---- sizes by shares */

/* Shares are whole numbers of 2^-30, so that sizes are exact. */
#define WHOLE (INT64_C(1) << 30)

struct fitting {
    const struct budget *budget;
    struct slice_options *options;
    struct slice_target *target; /* of these */
    const struct model_spec *source;
    const struct rank *rank;
    const char *rank_path;
    int64_t most, share[AXIS_COUNT];
    struct err *e;
};

/* An axis that moves, in a layer: its size in the model, its step, and the smallest and largest
 * size of a cut. */
struct move {
    int64_t n, step, least, most;
};

/* Tokens that stay are never cut, rows without a token always. */
static struct move move_of_vocab(const struct fitting *w)
{
    const struct vocab *v = w->options->vocab;
    int64_t step = w->budget->multiple_of, least = (v->needed + step - 1) / step * step;
    return (struct move){v->size, step, min64(least, v->tokens), v->tokens};
}

static struct move move_of(const struct fitting *w, enum axis x, int64_t layer)
{
    int64_t n = model_spec_size(w->source, x, layer);
    int64_t each_of = w->budget->multiple_of;
    if (x == AXIS_V)
        return move_of_vocab(w);
    if (x == AXIS_X)
        return (struct move){n, 1, w->source->experts_per_token, n};
    if (x == AXIS_E || x == AXIS_F || x == AXIS_N || x == AXIS_S)
        return (struct move){n, each_of, each_of, n};
    if ((x != AXIS_H && x != AXIS_M) || !n)
        return (struct move){n, 1, 1, n};
    enum axis of = x == AXIS_H ? AXIS_K : AXIS_G; /* whose units all keep as many */
    int64_t groups = model_spec_size(w->source, of, layer), each = n / groups;
    const struct range *asked = ranges_find(&w->target->size[of], layer);
    if (asked && asked->value < groups)
        groups = asked->value;
    int64_t step = each == 1 ? 1 : groups;
    return (struct move){groups * each, step, step, groups * each};
}

static int64_t size_at(struct move m, int64_t share)
{
    if (m.n < m.step || share == WHOLE)
        return m.n;
    int64_t n = m.n * share / (m.step * WHOLE) * m.step;
    if (n > m.most)
        n = m.most / m.step * m.step;
    return n < m.least ? m.least : n;
}

static int64_t layers_of(const struct fitting *w, enum axis x)
{
    return x < LAYER_AXES ? 1 : w->source->num_hidden_layers;
}

/* The smallest share that gives some layer a step more; WHOLE if none has room. */
static int64_t next_share(const struct fitting *w, enum axis x)
{
    int64_t next = WHOLE;
    for (int64_t l = 0; l < layers_of(w, x); l++) {
        struct move m = move_of(w, x, l);
        int64_t more = size_at(m, w->share[x]) + m.step;
        if (more <= m.n && (more * WHOLE + m.n - 1) / m.n < next)
            next = (more * WHOLE + m.n - 1) / m.n;
    }
    return next;
}

/* Is there a unit of the axis in the layer? What has none is not named. */
static int has_units(const struct fitting *w, enum axis x, int64_t layer)
{
    unsigned kinds = w->source->layers[layer].kinds;
    if (ranges_find(&w->target->drop_attention, layer))
        kinds &= ~(unsigned)KIND_attention;
    if (ranges_find(&w->target->drop_mlp, layer))
        kinds &= ~(unsigned)KIND_mlp;
    return x < LAYER_AXES || (kinds & family_axis_kinds(w->source->family, x) &&
                              model_spec_size(w->source, x, layer));
}

/* The option of an axis, at its share. */
static void set_sizes(const struct fitting *w, enum axis x)
{
    int64_t n = 0, all = layers_of(w, x), *layer = mem_alloc((size_t)all * sizeof *layer),
            *size = mem_alloc((size_t)all * sizeof *size);
    for (int64_t l = 0; l < all; l++) {
        if (!has_units(w, x, l))
            continue;
        layer[n] = l;
        size[n++] = size_at(move_of(w, x, l), w->share[x]);
    }
    free((char *)w->options->size[x]);
    w->options->size[x] = n ? ranges_text(layer, size, n) : NULL;
    free(layer);
    free(size);
}

/* The parameters or bytes at the present shares; -1 with the error set if there is no such
 * shape. */
static int64_t cost(const struct fitting *w)
{
    struct slice_plan p;
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (w->budget->moves[x])
            set_sizes(w, x);
    slice_target_free(w->target);
    if (slice_target_read(w->target, w->options, w->e) ||
        slice_plan_shape(&p, w->source, w->rank, w->rank_path, w->target, w->e))
        return -1;
    int64_t n = w->budget->in_bytes ? model_spec_bytes(&p.spec)
                                    : model_spec_parameters(&p.spec, NULL);
    slice_plan_free(&p);
    return n;
}

static void set_shares(struct fitting *w, enum axis only, int64_t share)
{
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (w->budget->moves[x] && (!only || x == only))
            w->share[x] = share;
}

static int fits(struct fitting *w, enum axis only, int64_t share)
{
    set_shares(w, only, share);
    int64_t n = cost(w);
    return n >= 0 && n <= w->most;
}

/* Gives one axis, or all of them (AXIS_NONE), the largest share that fits; `low` does. */
static void enlarge(struct fitting *w, enum axis only, int64_t low)
{
    int64_t high = WHOLE;
    if (fits(w, only, high))
        return;
    while (high - low > 1 && !w->e->set) {
        int64_t middle = low + (high - low) / 2;
        if (fits(w, only, middle))
            low = middle;
        else
            high = middle;
    }
    set_shares(w, only, low);
}

/* Of the axes that are not done, the one whose next step costs least; AXIS_NONE: all are done. */
static enum axis finest(struct fitting *w, const int *done)
{
    enum axis best = AXIS_NONE;
    int64_t least = 0;
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++) {
        int64_t share = w->share[x];
        if (!w->budget->moves[x] || done[x])
            continue;
        w->share[x] = next_share(w, x);
        int64_t n = cost(w);
        w->share[x] = share;
        if (!best || n < least) {
            best = x;
            least = n;
        }
    }
    return best;
}

/* The axes that move but one; returns their number. */
static int other_axes(const struct fitting *w, enum axis one, enum axis list[AXIS_COUNT])
{
    int n = 0;
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (w->budget->moves[x] && x != one)
            list[n++] = x;
    return n;
}

/* Chooses which of the other axes take a step more, so that the one whose step costs least comes
 * nearest to the budget. */
static void fill(struct fitting *w, enum axis fine)
{
    enum axis others[AXIS_COUNT];
    int n = other_axes(w, fine, others);
    struct fitting best = *w;
    int64_t most = -1;
    for (int which = 0; which < 1 << n && !w->e->set; which++) {
        struct fitting try = *w;
        for (int i = 0; i < n; i++)
            if (which >> i & 1)
                try.share[others[i]] = next_share(w, others[i]);
        if (!fits(&try, fine, 0))
            continue;
        enlarge(&try, fine, 0);
        int64_t reached = cost(&try);
        if (reached > most) {
            best = try;
            most = reached;
        }
    }
    *w = best;
}

static int refuse(const struct fitting *w, int64_t smallest)
{
    char *axes = mem_string("");
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (w->budget->moves[x])
            axes = mem_append(axes, "%s%s", *axes ? "," : "", axis_rows[x].brief);
    const int *moves = w->budget->moves;
    if (moves[AXIS_E] || moves[AXIS_F] || moves[AXIS_N] || moves[AXIS_S] || moves[AXIS_V])
        axes = mem_append(axes, " in multiples of %" PRId64, w->budget->multiple_of);
    err_set(w->e,
            "--%s %s cannot be reached: with --axes %s, the smallest model has %" PRId64 " %s",
            w->budget->option, w->budget->value, axes, smallest,
            w->budget->in_bytes ? "bytes" : "parameters");
    free(axes);
    return -1;
}

/* Leaves only axes that the family has, all of those that --axes names. */
static int keep_own_axes(struct budget *b, const struct family *f, struct err *e)
{
    int any = 0;
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++) {
        int has = x < LAYER_AXES || family_has_axis(f, x);
        if (b->named && b->moves[x] && !has)
            return err_set(e, "--axes: a model of type %s has no %s", f->name, axis_rows[x].brief);
        b->moves[x] &= has;
        any |= b->moves[x];
    }
    return any ? 0 : err_set(e, "--%s: no axis is left to move: name some with --axes", b->option);
}

int budget_fit(const struct budget *b, struct slice_options *options, struct slice_target *target,
               const struct model_spec *source, const struct rank *rank, const char *rank_path,
               int64_t *reached, struct err *e)
{
    struct budget own = *b;
    struct fitting w = {&own, options, target, source, rank, rank_path, b->most, {0}, e};
    int done[AXIS_COUNT] = {0};
    if (keep_own_axes(&own, source->family, e))
        return -1;
    if (b->ratio > 0)
        w.most = (int64_t)(b->ratio * (double)model_spec_parameters(source, NULL));
    if (!fits(&w, AXIS_NONE, 0) && !e->set)
        return refuse(&w, cost(&w));
    enlarge(&w, AXIS_NONE, 0);
    fill(&w, finest(&w, done));
    for (enum axis x; !e->set && (x = finest(&w, done));) {
        enlarge(&w, x, w.share[x]);
        done[x] = 1;
    }
    *reached = cost(&w);
    return e->set ? -1 : 0;
}

char *budget_text(const struct budget *b, const struct slice_options *shape)
{
    char *text = mem_string("");
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (b->moves[x] && shape->size[x])
            text = mem_append(text, " --%s %s", axis_rows[x].option, shape->size[x]);
    return text;
}
