/* The layers of hybrids of Mamba-2 and attention in GGUF metadata: the lists of KV heads (0: no
 * attention) and FFN widths (0: no MLP). In families whose layers are one block each, a layer with
 * neither is a Mamba layer; in those with an MLP in every layer, one without attention. Out: the
 * facts of a config.json. Refused: layers with attention and MLP where each is one block. */
#include <inttypes.h>

#include "gguf_private.h"

/* The value of a layer, a number standing for as many; 0, with the error set, if there is none. */
static int64_t of_layer(const struct gguf_making *m, const char *name, int64_t layer)
{
    const struct gguf_value *v = gguf_meta(m->g, m->arch, name);
    int64_t n = 0;
    if (!v || !gguf_int(v, v->list ? layer : 0, &n) || n < 0)
        err_set(m->e, "'%s': %s.%s has no number for layer %" PRId64, gguf_path(m->g), m->arch,
                name, layer);
    return m->e->set ? 0 : n;
}

int64_t gguf_common_size(const struct gguf_making *m, const char *name, int64_t layers)
{
    int64_t size = 0;
    for (int64_t l = 0; l < layers && !m->e->set; l++) {
        int64_t n = of_layer(m, name, l);
        if (n && size && n != size)
            err_set(m->e,
                    "'%s': %s.%s differs between layers (%" PRId64 " and %" PRId64
                    "); 0 is the only other number that is supported",
                    gguf_path(m->g), m->arch, name, size, n);
        size = n ? n : size;
    }
    return size;
}

static int mlp_everywhere(const struct gguf_making *m)
{
    const struct config c = {.family = m->family, .json = m->config, .e = m->e};
    return config_flag(&c, "mlp_everywhere", 0);
}

static const char *block_of(const struct gguf_making *m, int64_t layer)
{
    int attends = of_layer(m, "attention.head_count_kv", layer) > 0,
        has_mlp = of_layer(m, "feed_forward_length", layer) > 0;
    if (attends && has_mlp && !mlp_everywhere(m))
        err_set(m->e, "'%s': layer %" PRId64 " has attention and an MLP, which is not supported",
                gguf_path(m->g), layer);
    if (attends)
        return "full_attention";
    return has_mlp && !mlp_everywhere(m) ? "mlp" : "linear_attention";
}

static void put_blocks(const struct gguf_making *m, int64_t layers)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < layers && !m->e->set; l++)
        json_array_append_new(list, json_string(block_of(m, l)));
    gguf_put_fact(m, "layers_block_type", list);
}

static void put_indices(const struct gguf_making *m, int64_t layers)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < layers && !m->e->set; l++)
        if (of_layer(m, "attention.head_count_kv", l))
            json_array_append_new(list, json_integer(l));
    gguf_put_fact(m, "attn_layer_indices", list);
}

int gguf_has_mixers(const struct family *f)
{
    return config_key(f, "layers_block_type") || config_key(f, "attn_layer_indices");
}

void gguf_put_mixers(const struct gguf_making *m, int64_t layers)
{
    int64_t F = gguf_common_size(m, "feed_forward_length", layers),
            K = gguf_common_size(m, "attention.head_count_kv", layers);
    gguf_put_fact(m, "num_experts", json_integer(0));
    if (config_key(m->family, "layers_block_type"))
        put_blocks(m, layers);
    else
        put_indices(m, layers);
    if (F)
        gguf_put_fact(m, "intermediate_size", json_integer(F));
    if (K)
        gguf_put_fact(m, "num_key_value_heads", json_integer(K));
}

void gguf_put_mamba(const struct gguf_making *m)
{
    int64_t heads = gguf_size(m, "ssm.time_step_rank", -1),
            inner = gguf_size(m, "ssm.inner_size", -1), E = gguf_size(m, "embedding_length", -1);
    if (!m->e->set && (!heads || inner % heads))
        err_set(m->e,
                "'%s': %s.ssm.inner_size %" PRId64 " is not a multiple of the %" PRId64 " heads",
                gguf_path(m->g), m->arch, inner, heads);
    if (m->e->set)
        return;
    gguf_put_fact(m, "mamba_num_heads", json_integer(heads));
    gguf_put_fact(m, "mamba_head_dim", json_integer(inner / heads));
    if (E && inner % E == 0)
        gguf_put_fact(m, "mamba_expand", json_integer(inner / E));
    gguf_put_fact(m, "mamba_num_groups", json_integer(gguf_size(m, "ssm.group_count", -1)));
    gguf_put_fact(m, "mamba_state_size", json_integer(gguf_size(m, "ssm.state_size", -1)));
    gguf_put_fact(m, "time_step_min", json_real(0)); /* llama.cpp does not limit them */
    gguf_put_fact(m, "mamba_conv_kernel", json_integer(gguf_size(m, "ssm.conv_kernel", -1)));
}
