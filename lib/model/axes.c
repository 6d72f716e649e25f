/* The rows of axes.def as a table, and sizes by axis. */
#include "axes.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "../base/ranges.h"
#include "spec.h"

enum { ALL, EACH }; /* as axes.def has it */

const struct axis_row axis_rows[AXIS_COUNT] = {
    [AXIS_NONE] = {.place = -1},
    [AXIS_P] = {.place = -1},
    [AXIS_ONE] = {.place = -1},
#define ROW(in, letter, dimension, name, most, ...) \
    [AXIS_##letter] = {#letter, #name, offsetof(struct in, name), most, ROW_REST(__VA_ARGS__)},
#define ROW_REST(inside, counted, width, place, brief, option, help) \
    AXIS_##inside, counted, AXIS_##width, place, brief, option, help
#define MODEL_AXIS(...) ROW(model_spec, __VA_ARGS__)
#define LAYER_AXIS(...) ROW(layer, __VA_ARGS__)
#include "axes.def"
};

static int64_t *size_of_layer(const struct layer *y, enum axis axis)
{
    return (int64_t *)((char *)y + axis_rows[axis].offset);
}

static int64_t *size_of_model(const struct model_spec *h, enum axis axis, int64_t layer)
{
    return axis < LAYER_AXES ? (int64_t *)((char *)h + axis_rows[axis].offset)
                             : size_of_layer(&h->layers[layer], axis);
}

int64_t model_spec_size(const struct model_spec *h, enum axis axis, int64_t layer)
{
    return *size_of_model(h, axis, layer);
}

void model_spec_set_size(struct model_spec *h, enum axis axis, int64_t layer, int64_t n)
{
    *size_of_model(h, axis, layer) = n;
}

int64_t layer_size(const struct layer *y, enum axis axis) { return *size_of_layer(y, axis); }

void layer_set_size(struct layer *y, enum axis axis, int64_t n) { *size_of_layer(y, axis) = n; }

int64_t layer_units(const struct layer *y, enum axis axis)
{
    const struct axis_row *row = &axis_rows[axis];
    return layer_size(y, axis) * (row->each ? layer_size(y, row->inside) : 1);
}

int64_t layer_width(const struct layer *y, enum axis axis)
{
    enum axis width = axis_rows[axis].width;
    return width ? layer_size(y, width) : 1;
}

int64_t model_spec_dimension(const struct model_spec *h, enum axis axis, int64_t layer)
{
    if (axis == AXIS_P)
        return h->max_position_embeddings;
    if (axis == AXIS_ONE)
        return 1;
    if (axis < LAYER_AXES)
        return model_spec_size(h, axis, layer);
    return layer_units(&h->layers[layer], axis) * layer_width(&h->layers[layer], axis);
}

char *model_spec_size_text(const struct model_spec *h, enum axis axis, const int64_t *number)
{
    size_t bytes = (size_t)h->num_hidden_layers * sizeof(int64_t);
    int64_t *layer = mem_alloc(bytes), *size = mem_alloc(bytes);
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        layer[l] = number ? number[l] : l;
        size[l] = model_spec_size(h, axis, l);
    }
    char *text = ranges_text(layer, size, h->num_hidden_layers);
    free(layer);
    free(size);
    return text;
}

json_t *layer_sizes_to_json(const struct layer *y)
{
    json_t *sizes = json_object();
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
        if (layer_size(y, a))
            json_object_set_new(sizes, axis_rows[a].name, json_integer(layer_size(y, a)));
    return sizes;
}

int layer_check_sizes(const struct layer *y, int64_t l, const char *where, struct err *e)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++) {
        const struct axis_row *row = &axis_rows[a];
        if (!layer_size(y, a))
            continue;
        long long n = layer_size(y, a), width = layer_width(y, a);
        long long of = row->inside ? layer_size(y, row->inside) : 1;
        if (!of)
            return err_set(e, "%s: layer %lld has %s, but no %s", where, (long long)l, row->name,
                           axis_rows[row->inside].name);
        if (row->each)
            width *= of;
        else if (n % of)
            return err_set(e, "%s: layer %lld has %s %lld, which is not a multiple of %s %lld",
                           where, (long long)l, row->name, n, axis_rows[row->inside].name, of);
        if (n > row->most / width)
            return err_set(e,
                           "%s: layer %lld has %s %lld of %lld channels, more than the limit of "
                           "%lld channels in all",
                           where, (long long)l, row->name, n, width, (long long)row->most);
    }
    return 0;
}
