/* The spec of a model as the header of its stream:
 *   {kind: "model", id, family, config: {...}, layers: [{num_attention_heads, num_key_value_heads,
 *    head_dim, intermediate_size, sliding_window, rope, attention_scale, kinds}], tokenizer_id,
 *    tensors: [{name, dtype, shape}], files: [{name, bytes}], hist: [...]}
 * Refused: headers whose layers, tensors and config contradict each other, before anything is
 * allocated for the tensors. */
#include <string.h>

#include "../base/mem.h"
#include "config.h"

enum { MAX_FILES = 100, MAX_FILE_NAME = 200 };
static const int64_t MAX_FILE_BYTES = INT64_C(1) << 32;

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
        return err_set(e, "the header's tensor %zu has an invalid name, dtype or shape", i);
    *t = (struct tensor){.dtype = (enum dtype)d, .ndim = (int)json_array_size(shape)};
    strcpy(t->name, name);
    for (int k = 0; k < t->ndim; k++)
        t->shape[k] = json_integer_value(json_array_get(shape, (size_t)k));
    return 0;
}

static int read_tensors(struct model_spec *h, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    if (!n || n > (size_t)family_count_tensors(h->family) * (size_t)(h->num_hidden_layers + 1))
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
        return err_set(e, "the header lists %zu files; at most %d are allowed", n, MAX_FILES);
    h->files = mem_alloc(n * sizeof *h->files);
    for (; (size_t)h->n_files < n; h->n_files++) {
        const json_t *entry = json_array_get(list, (size_t)h->n_files);
        const char *name = json_string_value(json_object_get(entry, "name"));
        int64_t bytes = json_integer_value(json_object_get(entry, "bytes"));
        if (!name || !*name || *name == '.' || strchr(name, '/') || strlen(name) >= MAX_FILE_NAME ||
            bytes < 0 || bytes > MAX_FILE_BYTES)
            return err_set(e,
                           "the header's file %d has an invalid name or size (%.100s, %lld bytes)",
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
        bad = err_set(e, "the header says family %.60s, but its config says %s",
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
