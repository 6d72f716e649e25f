/* Any text as shapes of nested models: of those that are taken, every value comes from one of the
 * larger model's, and is written once. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../lib/prune/prune.h"

static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 7, \"hidden_size\": 12, \"intermediate_size\": 10,"
    "\"num_hidden_layers\": 3, \"num_attention_heads\": 6, \"num_key_value_heads\": 2,"
    "\"head_dim\": 2, \"max_position_embeddings\": 8}";

static struct model_spec *source(void)
{
    static struct model_spec h;
    static const struct json_limits limits = {0, 1000, 4};
    struct err e = {0};
    if (h.family)
        return &h;
    json_t *j = json_parse_text(config, sizeof config - 1, &limits, "config", &e);
    if (!j || model_spec_from_config(&h, j, &e))
        abort();
    json_decref(j);
    model_spec_list_tensors(&h, DT_F32);
    return &h;
}

static int64_t count(const struct model_spec *h)
{
    int64_t n = 0;
    for (int i = 0; i < h->n_tensors; i++)
        n += tensor_count(&h->tensors[i]);
    return n;
}

/* Marks the value of a part; it must be within the range, and new. */
static void mark(unsigned char *seen, int64_t n, int64_t at)
{
    if (at < 0 || at >= n || seen[at]++)
        abort();
}

static void check_parts(const struct nested_model *m, int64_t all)
{
    int64_t n = count(&m->spec), values = 0;
    unsigned char *from = calloc(1, (size_t)all), *to = calloc(1, (size_t)n);
    for (int64_t i = 0; i < m->n_parts; i++) {
        const struct gather_part *p = &m->parts[i];
        values += p->rows * p->cols;
        for (int64_t k = 0; k < p->rows * p->cols; k++) {
            mark(from, all, p->from + k / p->cols * p->from_stride + k % p->cols);
            mark(to, n, p->to + k / p->cols * p->to_stride + k % p->cols);
        }
    }
    if (m->n_parts ? values != n : n != all)
        abort();
    free(from);
    free(to);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct err e = {0};
    struct nested_list l;
    char *text = calloc(1, size + 1);
    memcpy(text, data, size);
    if (!nested_parse(&l, text, "input", source(), &e)) {
        for (int64_t i = 0; i < l.n; i++)
            check_parts(&l.models[i], count(source()));
        nested_list_free(&l);
    }
    free(text);
    return 0;
}
