/* A table of variants as input: JSON Lines, as formats/SPEC.md describes it. Refused: tables of
 * other models, lines that name no smaller variant of a layer, or one that was there before. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/file.h"
#include "variants.h"

enum { MOST_BYTES = 64 << 20 };

struct loading {
    struct variants *v;
    const char *path;
    const struct model_spec *h;
    int any_model;
    int64_t line; /* from 1 */
    struct err *e;
};

static double number(const json_t *line, const char *key)
{
    const json_t *x = json_object_get(line, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static void read_head(const struct loading *x, const json_t *line)
{
    const char *kind = json_string_value(json_object_get(line, "kind")),
               *id = json_string_value(json_object_get(line, "model_id"));
    if (!kind || strcmp(kind, "variants") || !id)
        err_set(x->e, "%s is not a table of variants, which probe-layers --variants writes",
                x->path);
    else if (!x->any_model && strcmp(id, x->h->id))
        err_set(x->e,
                "%s has the variants of another model (id %.8s) than this one (id %.8s); use "
                "--any-model to accept it",
                x->path, id, x->h->id);
    x->v->nll = number(line, "nll");
    x->v->windows = json_integer_value(json_object_get(line, "windows"));
    x->v->predictions = json_integer_value(json_object_get(line, "predictions"));
}

static unsigned kinds_of_drop(const char *drop)
{
    for (unsigned kind = 1; drop && kind <= KIND_any; kind <<= 1)
        if (kind & KIND_any && !strcmp(drop, block_kind_name(kind)))
            return kind;
    return drop && !strcmp(drop, "layer") ? KIND_any : 0;
}

/* The axis whose size the line changes. */
static enum axis axis_of(const json_t *line)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        if (axis_rows[a].option && json_object_get(line, axis_rows[a].name))
            return a;
    return AXIS_NONE;
}

static void read_variant(const struct loading *x, const json_t *line)
{
    enum axis axis = axis_of(line);
    struct variants *v = x->v;
    struct variant one = {
        .layer = json_integer_value(json_object_get(line, "layer")),
        .axis = axis,
        .size = axis ? json_integer_value(json_object_get(line, axis_rows[axis].name)) : 0,
        .drop = axis ? 0 : kinds_of_drop(json_string_value(json_object_get(line, "drop"))),
        .means = {number(line, "kl"), number(line, "nll"), number(line, "same_top1")}};
    int is_layer = one.layer >= 0 && one.layer < x->h->num_hidden_layers;
    const struct layer *y = is_layer ? &x->h->layers[one.layer] : NULL;
    int is_smaller = y && axis && one.size > 0 && one.size < layer_size(y, axis),
        is_dropped = y && one.drop && (one.drop == KIND_any || y->kinds == KIND_any);
    if (!is_smaller && !is_dropped) {
        err_set(x->e, "line %" PRId64 " of %s is no smaller variant of a layer of this model",
                x->line, x->path);
        return;
    }
    v->list = mem_grow(v->list, (size_t)(v->n + 1) * sizeof *v->list);
    v->list[v->n++] = one;
}

static void check_once(const struct loading *x)
{
    const struct variants *v = x->v;
    for (int64_t i = 0; i < v->n && !x->e->set; i++)
        for (int64_t j = 0; j < i; j++) {
            const struct variant *a = &v->list[i], *b = &v->list[j];
            if (a->layer == b->layer && a->axis == b->axis && a->size == b->size &&
                a->drop == b->drop)
                err_set(x->e, "%s has a variant of layer %" PRId64 " twice", x->path, a->layer);
        }
}

int variants_load(struct variants *v, const char *path, const struct model_spec *h, int any_model,
                  struct err *e)
{
    const struct json_limits limits = {0, 1 << 20, 64};
    *v = (struct variants){0};
    struct loading x = {v, path, h, any_model, 0, e};
    char *text = file_read(path, MOST_BYTES, NULL, e), *rest = text, *line;
    while ((line = strsep(&rest, "\n")) && (*line || !x.line) && !e->set) {
        json_t *j = json_parse_text(line, (int64_t)strlen(line), &limits, path, e);
        if (++x.line == 1 && j)
            read_head(&x, j);
        else if (j)
            read_variant(&x, j);
        json_decref(j);
    }
    free(text);
    check_once(&x);
    if (!e->set && !v->n)
        err_set(e, "%s has no variants", path);
    if (e->set)
        variants_close(v);
    return e->set ? -1 : 0;
}
