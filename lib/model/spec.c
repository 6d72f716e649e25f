/* The spec of a model: its canonical tensors, the family's choices, counts, copies. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "config.h"

/* ---- the canonical tensors */

static const char *const IN_LAYER = "layers.{L}.";

static int in_layer(const struct family_tensor *t)
{
    return !strncmp(t->name, IN_LAYER, strlen(IN_LAYER));
}

/* One tensor of the family as this model has it; layer -1 outside the blocks. */
static struct tensor instance(const struct model_spec *h, const struct family_tensor *t,
                              int64_t layer, enum dtype dtype)
{
    struct tensor x = {.dtype = dtype, .ndim = t->axes[1] == AXIS_NONE ? 1 : 2};
    if (layer >= 0)
        snprintf(x.name, sizeof x.name, "layers.%lld.%s", (long long)layer,
                 t->name + strlen(IN_LAYER));
    else
        snprintf(x.name, sizeof x.name, "%s", t->name);
    for (int i = 0; i < x.ndim; i++)
        x.shape[i] = model_spec_dimension(h, t->axes[i], layer);
    return x;
}

/* As model_spec_flag, or a condition on the layer. */
static int layer_flag(const struct model_spec *h, int64_t layer, const char *when)
{
    const struct layer *y = &h->layers[layer];
    if (!family_when_of_layer(when))
        return model_spec_flag(h, when);
    int not = *when == '!';
    return not != (strcmp(when + not, "rope") ? y->num_experts > 0 : y->rope >= 0);
}

int model_spec_visit(const struct model_spec *h, model_visit *visit, void *user)
{
    const struct family_tensor *t = h->family->tensors;
    int n = family_count_tensors(h->family), first = 0, last, stop = 0;
    /* of each tensor: the block kinds that read it, 0: none */
    unsigned *kinds = mem_alloc((size_t)n * sizeof *kinds);
    for (int i = 0; i < n; i++)
        if (family_when_of_layer(t[i].when) || model_spec_flag(h, t[i].when))
            kinds[i] = family_tensor_kinds(h->family, &t[i]);
    for (; first < n && !in_layer(&t[first]); first++)
        stop = stop || (kinds[first] && visit(user, h, &t[first], -1));
    for (last = first; last < n && in_layer(&t[last]);)
        last++;
    for (int64_t l = 0; l < h->num_hidden_layers && !stop; l++)
        for (int i = first; i < last; i++)
            if (kinds[i] & h->layers[l].kinds && layer_flag(h, l, t[i].when))
                stop = stop || visit(user, h, &t[i], l);
    for (int i = last; i < n; i++)
        stop = stop || (kinds[i] && visit(user, h, &t[i], -1));
    free(kinds);
    return stop ? -1 : 0;
}

struct listing {
    struct tensor *list;
    int n, room;
    enum dtype dtype;
};

static int list_one(void *user, const struct model_spec *h, const struct family_tensor *t,
                    int64_t layer)
{
    struct listing *to = user;
    if (to->n == to->room) {
        to->room = to->room ? 2 * to->room : 64;
        to->list = mem_grow(to->list, (size_t)to->room * sizeof *to->list);
    }
    to->list[to->n++] = instance(h, t, layer, to->dtype);
    return 0;
}

void model_spec_list_tensors(struct model_spec *h, enum dtype dtype)
{
    struct listing to = {.dtype = dtype};
    model_spec_visit(h, list_one, &to);
    free(h->tensors);
    h->tensors = to.list;
    h->n_tensors = to.n;
}

struct checking {
    int i;
    struct err *e;
};

static int check_one(void *user, const struct model_spec *h, const struct family_tensor *t,
                     int64_t layer)
{
    struct checking *c = user;
    struct tensor want = instance(h, t, layer, DT_F32);
    if (c->i >= h->n_tensors)
        return err_set(c->e, "the model has no tensor %s", want.name);
    const struct tensor *have = &h->tensors[c->i++];
    if (strcmp(have->name, want.name))
        return err_set(c->e, "found tensor %s, expected %s", have->name, want.name);
    char a[TENSOR_SHAPE], b[TENSOR_SHAPE];
    if (!tensor_count(&want))
        return err_set(c->e, "the header's layer %lld has no size for tensor %s", (long long)layer,
                       want.name);
    if (!tensor_same_shape(have, &want))
        return err_set(c->e, "tensor %s has shape %s; the configuration requires %s", have->name,
                       tensor_shape(have, a), tensor_shape(&want, b));
    enum dtype d = have->dtype;
    if (d != DT_F64 && d != DT_F32 && d != DT_F16 && d != DT_BF16 && d != DT_Q8_0)
        return err_set(c->e, "tensor %s has dtype %s; weights must be f64, f32, f16, bf16 or q8_0",
                       have->name, dtype_name(d));
    if (tensor_bytes(have) < 0)
        return err_set(c->e, "tensor %s has rows that are not a whole number of q8_0 blocks",
                       have->name);
    return 0;
}

int model_spec_check_tensors(const struct model_spec *h, struct err *e)
{
    struct checking c = {.e = e};
    if (model_spec_visit(h, check_one, &c))
        return -1;
    return c.i < h->n_tensors
               ? err_set(e,
                         "the model has tensor %s, which its family and configuration do not know",
                         h->tensors[c.i].name)
               : 0;
}

int model_spec_find(const struct model_spec *h, const char *name)
{
    for (int i = 0; i < h->n_tensors; i++)
        if (!strcmp(h->tensors[i].name, name))
            return i;
    return -1;
}

const struct family_tensor *model_spec_axes(const struct model_spec *h, int i, int64_t *layer)
{
    char general[TENSOR_NAME + 8];
    const char *name = h->tensors[i].name, *rest = tensor_layer(name, layer);
    if (*layer >= 0) {
        snprintf(general, sizeof general, "%s%s", IN_LAYER, rest);
        name = general;
    }
    for (const struct family_tensor *t = h->family->tensors; t->name; t++)
        if (!strcmp(t->name, name))
            return t;
    return NULL;
}

int family_tensor_is_table(const struct family_tensor *t)
{
    return t->axes[1] != AXIS_NONE && (t->axes[0] == AXIS_V || t->axes[0] == AXIS_P);
}

int64_t model_spec_parameters(const struct model_spec *h, int64_t *non_embedding)
{
    int64_t total = 0, outside = 0;
    for (int i = 0; i < h->n_tensors; i++) {
        int64_t layer, n = tensor_count(&h->tensors[i]);
        total += n;
        outside += family_tensor_is_table(model_spec_axes(h, i, &layer)) ? n : 0;
    }
    if (non_embedding)
        *non_embedding = total - outside;
    return total;
}

int64_t model_spec_bytes(const struct model_spec *h)
{
    int64_t bytes = 0;
    for (int i = 0; i < h->n_tensors; i++)
        bytes += tensor_bytes(&h->tensors[i]);
    return bytes;
}

/* ---- choices of the family */

int model_spec_flag(const struct model_spec *h, const char *when)
{
    struct err ignored = {0}; /* flags of another type were refused on reading */
    struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    return config_when(&c, when);
}

int model_spec_has_line(const struct model_spec *h, const struct family_line *line, int64_t layer)
{
    if (layer < 0)
        return !family_when_of_layer(line->when) && model_spec_flag(h, line->when);
    if (line->kinds && !(line->kinds & h->layers[layer].kinds))
        return 0;
    return layer_flag(h, layer, line->when);
}

int model_spec_has_units(const struct model_spec *h, enum axis axis, int64_t layer)
{
    if (axis < LAYER_AXES)
        return 1;
    return h->layers[layer].kinds & family_axis_kinds(h->family, axis) &&
           layer_size(&h->layers[layer], axis) > 0;
}

int model_spec_uses(const struct model_spec *h, enum axis axis)
{
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if (model_spec_has_units(h, axis, l))
            return 1;
    return 0;
}

enum act model_spec_activation(const struct model_spec *h, const struct family_line *line)
{
    return line->kinds == KIND_mamba ? ACT_SILU : h->activation;
}

int64_t model_spec_norm_width(const struct model_spec *h, const char *stem, int64_t weights,
                              int64_t layer)
{
    if (layer >= 0 && !strcmp(stem, "mamba_norm"))
        return weights / h->layers[layer].mamba_num_groups;
    int of_heads = layer >= 0 && (!strcmp(stem, "q_norm") || !strcmp(stem, "k_norm"));
    return of_heads && h->family->norms_by_head ? h->layers[layer].head_dim : weights;
}

/* ---- copies */

static double *copy_doubles(const double *from, int64_t n)
{
    if (!from)
        return NULL;
    double *to = mem_alloc((size_t)n * sizeof *to);
    memcpy(to, from, (size_t)n * sizeof *to);
    return to;
}

static void copy_files(struct model_spec *dst, const struct model_spec *src)
{
    dst->n_files = src->n_files;
    dst->files = mem_alloc((size_t)src->n_files * sizeof *dst->files);
    for (int i = 0; i < src->n_files; i++) {
        dst->files[i].name = mem_string(src->files[i].name);
        dst->files[i].bytes = src->files[i].bytes;
    }
}

static void free_files(struct model_spec *h)
{
    for (int i = 0; i < h->n_files; i++)
        free(h->files[i].name);
    free(h->files);
}

void model_spec_take_files(struct model_spec *h, const struct model_spec *from)
{
    free_files(h);
    copy_files(h, from);
    memcpy(h->tokenizer_id, from->tokenizer_id, sizeof h->tokenizer_id);
}

void model_spec_copy(struct model_spec *dst, const struct model_spec *src)
{
    *dst = *src;
    dst->config = json_deep_copy(src->config);
    dst->hist = json_deep_copy(src->hist);
    dst->layers = mem_alloc((size_t)src->num_hidden_layers * sizeof *dst->layers);
    memcpy(dst->layers, src->layers, (size_t)src->num_hidden_layers * sizeof *dst->layers);
    dst->tensors = mem_alloc((size_t)src->n_tensors * sizeof *dst->tensors);
    if (src->n_tensors)
        memcpy(dst->tensors, src->tensors, (size_t)src->n_tensors * sizeof *dst->tensors);
    dst->ropes = mem_alloc((size_t)src->n_ropes * sizeof *dst->ropes);
    for (int i = 0; i < src->n_ropes; i++) {
        dst->ropes[i] = src->ropes[i];
        dst->ropes[i].inv_freq = copy_doubles(src->ropes[i].inv_freq, src->ropes[i].dims / 2);
        dst->ropes[i].long_inv_freq = copy_doubles(src->ropes[i].long_inv_freq,
                                                   src->ropes[i].dims / 2);
    }
    copy_files(dst, src);
}

void model_spec_free(struct model_spec *h)
{
    json_decref(h->config);
    json_decref(h->hist);
    free(h->layers);
    free(h->tensors);
    for (int i = 0; i < h->n_ropes; i++) {
        free(h->ropes[i].inv_freq);
        free(h->ropes[i].long_inv_freq);
    }
    free(h->ropes);
    free_files(h);
    *h = (struct model_spec){0};
}
