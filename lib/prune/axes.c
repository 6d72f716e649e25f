/* The axes that can be cut and their entries in streams of scores and ranks: see rank.h. Refused:
 * sizes beyond 2^24 units, heads that do not divide. */
#include "rank.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

enum { UNITS_MAX = 1 << 24 };

void axes_from_model(struct axes *a, const struct model_spec *h)
{
    *a = (struct axes){.hidden_size = h->hidden_size, .num_hidden_layers = h->num_hidden_layers};
    snprintf(a->model, sizeof a->model, "%s", h->id);
    a->layers = mem_alloc((size_t)a->num_hidden_layers * sizeof *a->layers);
    for (int64_t l = 0; l < a->num_hidden_layers; l++)
        a->layers[l] = (struct axes_layer){h->layers[l].num_attention_heads,
                                           h->layers[l].num_key_value_heads, h->layers[l].head_dim,
                                           h->layers[l].intermediate_size};
}

void axes_copy(struct axes *dst, const struct axes *src)
{
    *dst = *src;
    dst->layers = mem_alloc((size_t)src->num_hidden_layers * sizeof *dst->layers);
    memcpy(dst->layers, src->layers, (size_t)src->num_hidden_layers * sizeof *dst->layers);
}

void axes_free(struct axes *a)
{
    free(a->layers);
    *a = (struct axes){0};
}

void axes_to_json(const struct axes *a, json_t *head)
{
    json_t *layers = json_array();
    for (int64_t l = 0; l < a->num_hidden_layers; l++) {
        const struct axes_layer *y = &a->layers[l];
        json_array_append_new(layers, json_pack("{s:I, s:I, s:I, s:I}", "num_attention_heads",
                                                y->num_attention_heads, "num_key_value_heads",
                                                y->num_key_value_heads, "head_dim", y->head_dim,
                                                "intermediate_size", y->intermediate_size));
    }
    json_object_set_new(head, "model", json_string(a->model));
    json_object_set_new(head, "sizes",
                        json_pack("{s:I, s:o}", "hidden_size", a->hidden_size, "layers", layers));
}

static int64_t size_read(const json_t *object, const char *key, const char *path, struct err *e)
{
    const json_t *v = json_object_get(object, key);
    if (json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) <= UNITS_MAX)
        return json_integer_value(v);
    err_set(e, "%s: %s in the header's sizes is %s, not a number from 1 to %d", path, key,
            v ? "out of range" : "missing", UNITS_MAX);
    return 0;
}

int axes_from_json(struct axes *a, const json_t *head, const char *path, struct err *e)
{
    const json_t *sizes = json_object_get(head, "sizes"),
                 *layers = json_object_get(sizes, "layers");
    const char *model = json_string_value(json_object_get(head, "model"));
    *a = (struct axes){0};
    if (!model || strlen(model) >= sizeof a->model || !json_is_array(layers))
        return err_set(e, "%s: the header does not say which model and sizes it speaks of", path);
    snprintf(a->model, sizeof a->model, "%s", model);
    a->hidden_size = size_read(sizes, "hidden_size", path, e);
    a->num_hidden_layers = (int64_t)json_array_size(layers);
    a->layers = mem_alloc((size_t)a->num_hidden_layers * sizeof *a->layers);
    for (int64_t l = 0; l < a->num_hidden_layers && !e->set; l++) {
        struct axes_layer *y = &a->layers[l];
        const json_t *j = json_array_get(layers, (size_t)l);
        y->num_attention_heads = size_read(j, "num_attention_heads", path, e);
        y->num_key_value_heads = size_read(j, "num_key_value_heads", path, e);
        y->head_dim = size_read(j, "head_dim", path, e);
        y->intermediate_size = size_read(j, "intermediate_size", path, e);
        if (!e->set && (y->num_attention_heads % y->num_key_value_heads ||
                        y->num_attention_heads * y->head_dim > UNITS_MAX))
            err_set(e,
                    "%s: layer %" PRId64 " has %" PRId64 " heads of %" PRId64 " in %" PRId64
                    " groups, which cannot be",
                    path, l, y->num_attention_heads, y->head_dim, y->num_key_value_heads);
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
    if (a->hidden_size != b->hidden_size || a->num_hidden_layers != b->num_hidden_layers)
        return err_set(e,
                       "%s is of %" PRId64 " layers of hidden size %" PRId64 ", but %s of %" PRId64
                       " layers of %" PRId64,
                       path_b, b->num_hidden_layers, b->hidden_size, path_a, a->num_hidden_layers,
                       a->hidden_size);
    for (int64_t l = 0; l < a->num_hidden_layers; l++)
        if (memcmp(&a->layers[l], &b->layers[l], sizeof *a->layers))
            return err_set(e, "%s and %s differ in the sizes of layer %" PRId64, path_a, path_b, l);
    return 0;
}

int64_t axes_count(const struct axes *a) { return AXES_FIRST + UNIT_KINDS * a->num_hidden_layers; }
int64_t axes_entry(int64_t layer, enum unit u) { return AXES_FIRST + UNIT_KINDS * layer + u; }

void axes_tensor(const struct axes *a, int64_t entry, enum dtype d, struct tensor *t)
{
    static const char *const names[UNIT_KINDS] = {"intermediate_size", "num_attention_heads",
                                                  "num_key_value_heads"};
    *t = (struct tensor){.dtype = d, .ndim = 1};
    if (entry < AXES_FIRST) {
        snprintf(t->name, sizeof t->name, "%s",
                 entry == AXES_HIDDEN ? "hidden_size" : "num_hidden_layers");
        t->shape[0] = entry == AXES_HIDDEN ? a->hidden_size : a->num_hidden_layers;
        return;
    }
    int64_t l = (entry - AXES_FIRST) / UNIT_KINDS, u = (entry - AXES_FIRST) % UNIT_KINDS;
    const struct axes_layer *y = &a->layers[l];
    snprintf(t->name, sizeof t->name, "%s.%" PRId64, names[u], l);
    t->shape[0] = u == UNIT_FFN ? y->intermediate_size : y->num_key_value_heads;
    if (u == UNIT_HEADS) {
        t->ndim = 2;
        t->shape[1] = y->num_attention_heads / y->num_key_value_heads;
    }
}

void *record_read(struct st_in *in, const struct tensor *t, struct err *e)
{
    int64_t total = tensor_bytes(t), have = 0, room = 0;
    char *data = NULL;
    if (total < 0)
        err_set(e, "%s: record %s has an impossible shape", st_path(in), t->name);
    while (have < total && !e->set) {
        int64_t n = total - have < ST_CHUNK ? total - have : ST_CHUNK;
        if (have + n > room)
            data = mem_grow(data, (size_t)(room = have + n > 2 * room ? have + n
                                                  : 2 * room < total  ? 2 * room
                                                                      : total));
        if (st_read(in, data + have, n) != n && !e->set)
            err_set(e, "%s: record %s ends early", st_path(in), t->name);
        have += n;
    }
    if (e->set) {
        free(data);
        return NULL;
    }
    return data ? data : mem_alloc(1);
}
