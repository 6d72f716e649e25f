/* A table of variants as input: JSON Lines, as formats/SPEC.md describes it. Refused: tables of
 * other models, lines that name no variant smaller than its layer, and lines that come twice. */
#include <inttypes.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../eval/eval.h"
#include "variants.h"

struct loading {
    struct variants *v;
    const char *path;
    const struct model_spec *h;
    int any_model, lines;
};

static int read_head(const struct loading *x, const json_t *line, struct err *e)
{
    const char *kind = json_string_value(json_object_get(line, "kind")),
               *id = json_string_value(json_object_get(line, "model_id"));
    if (!kind || strcmp(kind, "variants") || !id)
        return err_set(e, "%s is not a table of variants, which probe-layers --variants writes",
                       x->path);
    if (!x->any_model && strcmp(id, x->h->id))
        return err_set(e, "%s has the variants of another model (id %.8s) than this one (id %.8s)",
                       x->path, id, x->h->id);
    x->v->nll = json_number_of(line, "nll");
    x->v->windows = json_integer_value(json_object_get(line, "windows"));
    x->v->predictions = json_integer_value(json_object_get(line, "predictions"));
    return 0;
}

static unsigned kinds_of_drop(const char *drop)
{
    for (unsigned kind = 1; drop && kind <= KIND_any; kind <<= 1)
        if (kind & KIND_any && !strcmp(drop, block_kind_name(kind)))
            return kind;
    return drop && !strcmp(drop, "layer") ? WHOLE_LAYER : 0;
}

static int changes_size(const json_t *line, enum axis a)
{
    return axis_rows[a].option && json_object_get(line, axis_rows[a].name);
}

/* The axis whose size the line changes. */
static enum axis axis_of(const json_t *line)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        if (changes_size(line, a))
            return a;
    return AXIS_NONE;
}

static int changes_one_thing(const json_t *line)
{
    int n = json_object_get(line, "drop") != NULL;
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        n += changes_size(line, a);
    return n == 1;
}

static int read_variant(const struct loading *x, const json_t *line, const char *where,
                        struct err *e)
{
    enum axis axis = axis_of(line);
    const json_t *layer = json_object_get(line, "layer");
    struct variants *v = x->v;
    struct variant one = {
        .layer = json_is_integer(layer) ? json_integer_value(layer) : -1,
        .axis = axis,
        .size = axis ? json_integer_value(json_object_get(line, axis_rows[axis].name)) : 0,
        .drop = axis ? 0 : kinds_of_drop(json_string_value(json_object_get(line, "drop"))),
        .means = {json_number_of(line, "kl"), json_number_of(line, "nll"),
                  json_number_of(line, "same_top1")}};
    int is_layer = one.layer >= 0 && one.layer < x->h->num_hidden_layers;
    const struct layer *y = is_layer ? &x->h->layers[one.layer] : NULL;
    int is_smaller = y && axis && one.size > 0 && one.size < layer_size(y, axis),
        is_dropped = y &&
                     (one.drop == WHOLE_LAYER || (one.drop & y->kinds && kinds_several(y->kinds)));
    if (!changes_one_thing(line) || (!is_smaller && !is_dropped))
        return err_set(e, "%s does not name a smaller variant of a layer of this model", where);
    v->list = mem_grow(v->list, (size_t)(v->n + 1) * sizeof *v->list);
    v->list[v->n++] = one;
    return 0;
}

static int read_line(void *user, const char *text, const json_t *line, int64_t number,
                     const char *where, struct err *e)
{
    struct loading *x = user;
    (void)text;
    (void)number;
    return x->lines++ ? read_variant(x, line, where, e) : read_head(x, line, e);
}

static int check_once(const struct variants *v, const char *path, struct err *e)
{
    for (int64_t i = 0; i < v->n; i++)
        for (int64_t j = 0; j < i; j++) {
            const struct variant *a = &v->list[i], *b = &v->list[j];
            if (a->layer == b->layer && a->axis == b->axis && a->size == b->size &&
                a->drop == b->drop)
                return err_set(e, "%s has a variant of layer %" PRId64 " twice", path, a->layer);
        }
    return 0;
}

int variants_load(struct variants *v, const char *path, const struct model_spec *h, int any_model,
                  struct err *e)
{
    *v = (struct variants){0};
    struct loading x = {v, path, h, any_model, 0};
    int failed = json_lines_read(path, read_line, &x, NULL, e) || check_once(v, path, e);
    if (!failed && !v->n)
        failed = err_set(e, "%s has no variants", path);
    if (failed)
        variants_close(v);
    return failed ? -1 : 0;
}
