/* The axes that can be cut and their entries in streams of scores and ranks: see rank.h. Refused:
 * sizes beyond the limits of axes.def, heads that do not divide. */
#include "rank.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

/* ---- sizes */

int64_t axes_size(const struct axes *a, enum axis axis, int64_t layer)
{
    return axis < LAYER_AXES ? a->size[axis] : layer_units(&a->layers[layer], axis);
}

void axes_from_model(struct axes *a, const struct model_spec *h)
{
    *a = (struct axes){0};
    snprintf(a->model, sizeof a->model, "%s", h->id);
    snprintf(a->digest, sizeof a->digest, "%s", h->digest);
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++)
        a->size[x] = axis_rows[x].place < 0 || x == AXIS_V ? 0 : model_spec_size(h, x, 0);
    a->layers = mem_alloc((size_t)h->num_hidden_layers * sizeof *a->layers);
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            layer_set_size(&a->layers[l], x, model_spec_size(h, x, l));
}

void axes_add_vocab(struct axes *a, const struct model_spec *h)
{
    a->size[AXIS_V] = model_spec_size(h, AXIS_V, 0);
}

void axes_copy(struct axes *dst, const struct axes *src)
{
    size_t bytes = (size_t)src->size[AXIS_L] * sizeof *dst->layers;
    *dst = *src;
    dst->layers = mem_alloc(bytes);
    memcpy(dst->layers, src->layers, bytes);
}

void axes_free(struct axes *a)
{
    free(a->layers);
    *a = (struct axes){0};
}

/* Is the axis a key of a header's sizes? The number of layers is not: it is the length of their
 * list. The vocabulary is one only where it is scored. */
static int is_key(enum axis x) { return axis_rows[x].place >= 0 && x != AXIS_L; }

void axes_to_json(const struct axes *a, json_t *head)
{
    json_t *sizes = json_object(), *layers = json_array();
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++)
        if (is_key(x) && a->size[x])
            json_object_set_new(sizes, axis_rows[x].name, json_integer(a->size[x]));
    for (int64_t l = 0; l < a->size[AXIS_L]; l++)
        json_array_append_new(layers, layer_sizes_to_json(&a->layers[l]));
    json_object_set_new(sizes, "layers", layers);
    json_object_set_new(head, "model", json_string(a->model));
    if (a->digest[0])
        json_object_set_new(head, "model_digest", json_string(a->digest));
    json_object_set_new(head, "sizes", sizes);
}

static int64_t size_read(const json_t *object, enum axis x, const char *path, struct err *e)
{
    const struct axis_row *row = &axis_rows[x];
    const json_t *v = json_object_get(object, row->name);
    int64_t n = json_integer_value(v);
    if (!v && axis_may_lack(x))
        return 0;
    if (n > 0 && n <= row->most)
        return n;
    err_set(e, "%s: %s in the header's sizes is %s, not a number from 1 to %" PRId64, path,
            row->name, v ? "out of range" : "missing", row->most);
    return 1;
}

int axes_from_json(struct axes *a, const json_t *head, const char *path, struct err *e)
{
    const json_t *sizes = json_object_get(head, "sizes"),
                 *layers = json_object_get(sizes, "layers");
    *a = (struct axes){0};
    if (!json_object_get(head, "model") || !json_is_array(layers))
        return err_set(e, "%s: the header does not give the model's id and sizes", path);
    if (st_head_id(head, "model", a->model, path, e) ||
        st_head_id(head, "model_digest", a->digest, path, e))
        return -1;
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++)
        if (is_key(x) && (x != AXIS_V || json_object_get(sizes, axis_rows[x].name)))
            a->size[x] = size_read(sizes, x, path, e);
    a->size[AXIS_L] = (int64_t)json_array_size(layers);
    a->layers = mem_alloc((size_t)a->size[AXIS_L] * sizeof *a->layers);
    for (int64_t l = 0; l < a->size[AXIS_L] && !e->set; l++) {
        const json_t *entry = json_array_get(layers, (size_t)l);
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            layer_set_size(&a->layers[l], x, size_read(entry, x, path, e));
        layer_check_sizes(&a->layers[l], l, path, e);
    }
    if (e->set)
        axes_free(a);
    return e->set ? -1 : 0;
}

int axes_same(const struct axes *a, const struct axes *b, int model, const char *path_a,
              const char *path_b, struct err *e)
{
    if (model && strcmp(a->model, b->model))
        return err_set(e, "%s is of model %s, but %s is of model %s", path_b, b->model, path_a,
                       a->model);
    if (model && !digest_may_equal(a->digest, b->digest))
        return err_set(e, "%s is of a model with the id %s, as %s is, but with other values",
                       path_b, b->model, path_a);
    for (enum axis x = MODEL_AXES; x < LAYER_AXES; x++)
        if (a->size[x] != b->size[x] && (x != AXIS_V || (a->size[x] && b->size[x])))
            return err_set(e, "%s is of a model with %s %" PRId64 ", but %s of one with %" PRId64,
                           path_b, axis_rows[x].name, b->size[x], path_a, a->size[x]);
    for (int64_t l = 0; l < a->size[AXIS_L]; l++)
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            if (layer_size(&a->layers[l], x) != layer_size(&b->layers[l], x))
                return err_set(e, "%s has %s %" PRId64 " in layer %" PRId64 ", but %s has %" PRId64,
                               path_b, axis_rows[x].name, layer_size(&b->layers[l], x), l, path_a,
                               layer_size(&a->layers[l], x));
    return 0;
}

/* ---- entries */

static int64_t places(enum axis from, enum axis to)
{
    int64_t n = 0;
    for (enum axis x = from; x < to; x++)
        n += axis_rows[x].place >= 0;
    return n;
}

static enum axis axis_at(enum axis from, enum axis to, int64_t place)
{
    while (from < to && axis_rows[from].place != place)
        from++;
    return from;
}

int64_t axes_count(const struct axes *a)
{
    return places(MODEL_AXES, LAYER_AXES) + places(LAYER_AXES, AXIS_COUNT) * a->size[AXIS_L];
}

int axes_has(const struct axes *a, int64_t entry)
{
    int64_t layer;
    enum axis x = axes_of_entry(entry, &layer);
    return axes_size(a, x, layer) > 0;
}

int64_t axes_entry(enum axis axis, int64_t layer)
{
    int64_t place = axis_rows[axis].place;
    return axis < LAYER_AXES
               ? place
               : places(MODEL_AXES, LAYER_AXES) + places(LAYER_AXES, AXIS_COUNT) * layer + place;
}

enum axis axes_of_entry(int64_t entry, int64_t *layer)
{
    int64_t first = places(MODEL_AXES, LAYER_AXES), each = places(LAYER_AXES, AXIS_COUNT);
    *layer = entry < first ? -1 : (entry - first) / each;
    return entry < first ? axis_at(MODEL_AXES, LAYER_AXES, entry)
                         : axis_at(LAYER_AXES, AXIS_COUNT, (entry - first) % each);
}

enum axis axes_listed(int64_t i)
{
    int64_t layer;
    enum axis x = axes_of_entry(i, &layer);
    return layer > 0 ? AXIS_NONE : x;
}

void axes_tensor(const struct axes *a, int64_t entry, enum dtype d, struct tensor *t)
{
    int64_t layer;
    enum axis x = axes_of_entry(entry, &layer), inside = axis_rows[x].inside;
    *t = (struct tensor){.dtype = d, .ndim = 1, .shape = {axes_size(a, x, layer)}};
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", axis_rows[x].name);
    else
        snprintf(t->name, sizeof t->name, "%s.%" PRId64, axis_rows[x].name, layer);
    if (inside && t->shape[0]) {
        t->ndim = 2;
        t->shape[1] = t->shape[0] / axes_size(a, inside, layer);
        t->shape[0] /= t->shape[1];
    }
}

void *record_read(struct st_in *in, const struct tensor *t, struct err *e)
{
    int64_t bytes = tensor_bytes(t);
    struct st_buffer b = {.data = mem_alloc(1)};
    if (bytes < 0)
        err_set(e, "%s: record %s has an invalid shape", st_path(in), t->name);
    if (bytes >= 0 && !st_read_more(in, &b, bytes))
        return b.data;
    free(b.data);
    return NULL;
}
