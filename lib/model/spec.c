/* A model's head: its list of canonical tensors, counts, copies, and its form as a stream header:
 *   {kind: "model", id, family, config: {...}, layers: [{num_attention_heads, num_key_value_heads,
 * head_dim, intermediate_size, sliding_window, rope, attention_scale, kinds}], tokenizer_id,
 * tensors:
 * [{name, dtype, shape}], files: [{name, bytes}], hist: [...]} Refuses headers whose layers,
 * tensors and config contradict each other, before anything is allocated for the tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

enum { MAX_FILES = 100, MAX_FILE_NAME = 200 };
static const int64_t MAX_FILE_BYTES = INT64_C(1) << 32;

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

static int count_tensors(const struct family *f)
{
    int n = 0;
    while (f->tensors[n].name)
        n++;
    return n;
}

/* Visits the tensors in stream order: start, the layers one by one, end. */
typedef int visit_fn(void *user, const struct model_spec *h, const struct family_tensor *t,
                     int64_t layer);
static int visit(const struct model_spec *h, visit_fn *fn, void *user)
{
    const struct family_tensor *t = h->family->tensors;
    int n = count_tensors(h->family), first = 0, last, stop = 0;
    /* of each tensor: the kinds of layer that have it, 0: none */
    unsigned *kinds = mem_alloc((size_t)n * sizeof *kinds);
    for (int i = 0; i < n; i++)
        kinds[i] = model_spec_flag(h, t[i].when) ? family_tensor_kinds(h->family, &t[i]) : 0;
    for (; first < n && !in_layer(&t[first]); first++)
        stop = stop || (kinds[first] && fn(user, h, &t[first], -1));
    for (last = first; last < n && in_layer(&t[last]);)
        last++;
    for (int64_t l = 0; l < h->num_hidden_layers && !stop; l++)
        for (int i = first; i < last; i++)
            stop = stop || (kinds[i] & h->layers[l].kinds && fn(user, h, &t[i], l));
    for (int i = last; i < n; i++)
        stop = stop || (kinds[i] && fn(user, h, &t[i], -1));
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
    visit(h, list_one, &to);
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
        return err_set(c->e, "the model has tensor %s where %s should be", have->name, want.name);
    char a[TENSOR_SHAPE], b[TENSOR_SHAPE];
    if (!tensor_same_shape(have, &want))
        return err_set(c->e, "tensor %s has shape %s; the configuration asks for %s", have->name,
                       tensor_shape(have, a), tensor_shape(&want, b));
    enum dtype d = have->dtype;
    if (d != DT_F64 && d != DT_F32 && d != DT_F16 && d != DT_BF16 && d != DT_Q8_0)
        return err_set(c->e, "tensor %s has dtype %s; weights must be f64, f32, f16, bf16 or q8_0",
                       have->name, dtype_name(d));
    if (tensor_bytes(have) < 0)
        return err_set(c->e, "tensor %s has rows that are no whole number of q8_0 blocks",
                       have->name);
    return 0;
}

int model_spec_check_tensors(const struct model_spec *h, struct err *e)
{
    struct checking c = {.e = e};
    if (visit(h, check_one, &c))
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

int64_t model_spec_parameters(const struct model_spec *h, int64_t *non_embedding)
{
    static const char *const embeddings[] = {"embed_tokens.weight", "embed_positions.weight",
                                             "lm_head.weight"};
    int64_t total = 0, outside = 0;
    for (int i = 0; i < h->n_tensors; i++)
        total += tensor_count(&h->tensors[i]);
    for (int i = 0; i < 3; i++) {
        int at = model_spec_find(h, embeddings[i]);
        outside += at < 0 ? 0 : tensor_count(&h->tensors[at]);
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

/* ---- stream header */

static json_t *kinds_to_json(unsigned kinds)
{
    json_t *list = json_array();
    for (unsigned bit = 1; bit <= kinds; bit <<= 1)
        if (kinds & bit)
            json_array_append_new(list, json_string(block_kind_name(bit)));
    return list;
}

static json_t *layers_to_json(const struct model_spec *h)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        const struct layer *y = &h->layers[l];
        json_t *entry = layer_sizes_to_json(y);
        json_object_set_new(entry, "sliding_window", json_integer(y->sliding_window));
        json_object_set_new(entry, "rope", json_integer(y->rope));
        json_object_set_new(entry, "attention_scale", json_real(y->attention_scale));
        if (y->kinds != family_kinds(h->family))
            json_object_set_new(entry, "kinds", kinds_to_json(y->kinds));
        json_array_append_new(list, entry);
    }
    return list;
}

json_t *model_spec_to_json(const struct model_spec *h)
{
    json_t *tensors = json_array(), *files = json_array();
    for (int i = 0; i < h->n_tensors; i++) {
        const struct tensor *t = &h->tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->ndim; d++)
            json_array_append_new(shape, json_integer(t->shape[d]));
        json_array_append_new(tensors, json_pack("{s:s, s:s, s:o}", "name", t->name, "dtype",
                                                 dtype_name(t->dtype), "shape", shape));
    }
    for (int i = 0; i < h->n_files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I}", "name", h->files[i].name, "bytes",
                                               (json_int_t)h->files[i].bytes));
    return json_pack("{s:s, s:s, s:s, s:O, s:o, s:s, s:o, s:o, s:O}", "kind", "model", "id", h->id,
                     "family", h->family->name, "config", h->config, "layers", layers_to_json(h),
                     "tokenizer_id", h->tokenizer_id, "tensors", tensors, "files", files, "hist",
                     h->hist);
}

static int tensor_from_json(struct tensor *t, const json_t *entry, size_t i, struct err *e)
{
    const char *name = json_string_value(json_object_get(entry, "name")),
               *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *shape = json_object_get(entry, "shape");
    int d = dtype ? dtype_parse(dtype) : -1;
    if (!name || !*name || strlen(name) >= TENSOR_NAME || d < 0 || !json_is_array(shape) ||
        json_array_size(shape) > TENSOR_DIMS)
        return err_set(e, "the header's tensor %zu has no usable name, dtype or shape", i);
    *t = (struct tensor){.dtype = (enum dtype)d, .ndim = (int)json_array_size(shape)};
    strcpy(t->name, name);
    for (int k = 0; k < t->ndim; k++)
        t->shape[k] = json_integer_value(json_array_get(shape, (size_t)k));
    return 0;
}

static int read_tensors(struct model_spec *h, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    if (!n || n > (size_t)count_tensors(h->family) * (size_t)(h->num_hidden_layers + 1))
        return err_set(e, "the header lists %zu tensors for %lld layers", n,
                       (long long)h->num_hidden_layers);
    h->tensors = mem_alloc(n * sizeof *h->tensors);
    for (; (size_t)h->n_tensors < n; h->n_tensors++)
        if (tensor_from_json(&h->tensors[h->n_tensors], json_array_get(list, (size_t)h->n_tensors),
                             (size_t)h->n_tensors, e))
            return -1;
    return model_spec_check_tensors(h, e);
}

/* Names must be plain file names: they become files of a directory. */
static int read_files(struct model_spec *h, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    if (n > MAX_FILES)
        return err_set(e, "the header lists %zu files; at most %d are expected", n, MAX_FILES);
    h->files = mem_alloc(n * sizeof *h->files);
    for (; (size_t)h->n_files < n; h->n_files++) {
        const json_t *entry = json_array_get(list, (size_t)h->n_files);
        const char *name = json_string_value(json_object_get(entry, "name"));
        int64_t bytes = json_integer_value(json_object_get(entry, "bytes"));
        if (!name || !*name || *name == '.' || strchr(name, '/') || strlen(name) >= MAX_FILE_NAME ||
            bytes < 0 || bytes > MAX_FILE_BYTES)
            return err_set(e, "the header's file %d (%.100s, %lld bytes) is not acceptable",
                           h->n_files, name ? name : "no name", (long long)bytes);
        h->files[h->n_files].name = mem_string(name);
        h->files[h->n_files].bytes = bytes;
    }
    return 0;
}

static int read_id(char to[ST_DIGEST], const json_t *head, const char *key, struct err *e)
{
    const char *id = json_string_value(json_object_get(head, key));
    if (!id || (*id && !digest_is(id)))
        return err_set(e, "the header's %s is not a digest of 32 hex digits", key);
    strcpy(to, id);
    return 0;
}

int model_spec_from_json(struct model_spec *h, const json_t *head, struct err *e)
{
    *h = (struct model_spec){0};
    const char *kind = json_string_value(json_object_get(head, "kind")),
               *family = json_string_value(json_object_get(head, "family"));
    const json_t *layers = json_object_get(head, "layers"), *hist = json_object_get(head, "hist");
    if (!kind || strcmp(kind, "model"))
        return err_set(e, "the stream is of kind %.60s, not a model", kind ? kind : "none");
    if (!json_is_array(layers))
        return err_set(e, "the model header has no list of layers");
    json_t *config = json_deep_copy(json_object_get(head, "config"));
    int bad = config_read_spec(h, config, layers, e);
    json_decref(config);
    if (bad)
        return -1;
    if (!family || strcmp(family, h->family->name))
        bad = err_set(e, "the header says family %.60s, its config says %s",
                      family ? family : "none", h->family->name);
    if (json_is_array(hist)) {
        json_decref(h->hist);
        h->hist = json_deep_copy(hist);
    }
    if (bad || read_id(h->id, head, "id", e) || read_id(h->tokenizer_id, head, "tokenizer_id", e) ||
        read_tensors(h, json_object_get(head, "tensors"), e) ||
        read_files(h, json_object_get(head, "files"), e)) {
        model_spec_free(h);
        return -1;
    }
    return 0;
}
