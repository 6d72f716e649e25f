/* Which layers of a config.json have experts: see config.h. With num_experts of them, in every
 * decoder_sparse_step-th layer (from the step-th on) that mlp_only_layers does not list; the other
 * layers have an MLP of intermediate_size. A class without these keys has experts in all layers.
 *
 * Refused: lists of anything but layers. */
#include "config.h"

/* 1 if the list names layer l. */
static int is_listed(const struct config *c, const json_t *list, int64_t l)
{
    size_t i;
    const json_t *entry;
    char show[80];
    if (list && !json_is_null(list) && !json_is_array(list))
        err_set(c->e, "config.json: mlp_only_layers is %s; it must be a list of layers",
                config_show(list, show));
    json_array_foreach(list, i, entry) {
        if (!json_is_integer(entry))
            err_set(c->e, "config.json: mlp_only_layers has %s, which is not a layer",
                    config_show(entry, show));
        if (json_integer_value(entry) == l && json_is_integer(entry))
            return 1;
    }
    return 0;
}

static int has_experts(const struct config *c, int64_t l)
{
    json_t *list = config_value(c, "mlp_only_layers");
    int dense = is_listed(c, list, l) ||
                (l + 1) % config_int(c, "decoder_sparse_step", 1, ANY_LENGTH, 1);
    json_decref(list);
    return !dense;
}

void config_read_experts(const struct config *c, struct model_spec *h)
{
    for (int64_t l = 0; l < h->num_hidden_layers && h->experts_per_token && !c->e->set; l++) {
        struct layer *y = &h->layers[l];
        if (has_experts(c, l))
            y->intermediate_size = 0;
        else
            y->num_experts = y->moe_intermediate_size = y->shared_expert_intermediate_size = 0;
    }
}

void config_write_experts(struct model_spec *h)
{
    struct err e = {0};
    const struct config c = {.family = h->family, .json = h->config, .e = &e};
    const char *list = config_key(h->family, "mlp_only_layers");
    json_t *dense = json_array();
    int same = 1;
    for (int64_t l = 0; l < h->num_hidden_layers && list; l++) {
        same &= has_experts(&c, l) == (h->layers[l].num_experts > 0);
        if (!h->layers[l].num_experts)
            json_array_append_new(dense, json_integer(l));
    }
    if (!same) {
        json_object_set(h->config, list, dense);
        json_object_set_new(h->config, config_key(h->family, "decoder_sparse_step"),
                            json_integer(1));
    }
    json_decref(dense);
}
