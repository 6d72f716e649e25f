/* Layers of different shapes in GGUF metadata, as architecture deci has them: lists of query heads
 * (0: no attention), KV heads and FFN widths (0: no MLP), a number standing for as many. Out: the
 * block_configs of a config.json. Refused: layers whose attention is a linear map (KV heads 0). */
#include <inttypes.h>

#include "gguf_private.h"

/* The value of a layer; 0, with the error set, if there is none. */
static int64_t of_layer(const struct gguf *g, const char *arch, const char *name, int64_t layer,
                        struct err *e)
{
    const struct gguf_value *v = gguf_meta(g, arch, name);
    int64_t n = 0;
    if (!v || !gguf_int(v, v->list ? layer : 0, &n) || n < 0)
        err_set(e, "'%s': %s.%s has no number for layer %" PRId64, gguf_path(g), arch, name, layer);
    return e->set ? 0 : n;
}

int64_t gguf_block_heads(const struct gguf *g, const char *arch, int64_t layers, struct err *e)
{
    int64_t heads = 0;
    for (int64_t l = 0; l < layers && !e->set; l++) {
        int64_t n = of_layer(g, arch, "attention.head_count", l, e);
        if (n && heads && n != heads)
            err_set(e,
                    "'%s': %s.attention.head_count differs between layers (%" PRId64 " and %" PRId64
                    "); 0 is the only other number that is supported",
                    gguf_path(g), arch, heads, n);
        heads = n ? n : heads;
    }
    if (!heads)
        err_set(e, "'%s': no layer has attention, which is not supported", gguf_path(g));
    return e->set ? 1 : heads;
}

static json_t *attention(const struct gguf *g, const char *arch, int64_t layer, struct err *e)
{
    int64_t H = of_layer(g, arch, "attention.head_count", layer, e),
            K = H ? of_layer(g, arch, "attention.head_count_kv", layer, e) : 1;
    if (!e->set && (!K || H % K))
        err_set(e,
                "'%s': layer %" PRId64 " has %" PRId64 " query heads and %" PRId64
                " KV heads, which is not supported",
                gguf_path(g), layer, H, K);
    json_t *group = H && !e->set ? json_integer(H / K) : NULL;
    return json_pack("{s:o?, s:b, s:b}", "n_heads_in_group", group, "no_op", !H,
                     "replace_with_linear", 0);
}

static json_t *ffn(const struct gguf *g, const char *arch, int64_t layer, struct err *e)
{
    int64_t F = of_layer(g, arch, "feed_forward_length", layer, e);
    return json_pack("{s:o?, s:b, s:b}", "intermediate_size", F ? json_integer(F) : NULL, "no_op",
                     !F, "replace_with_linear", 0);
}

json_t *gguf_blocks(const struct gguf *g, const char *arch, int64_t layers, struct err *e)
{
    json_t *list = json_array();
    for (int64_t l = 0; l < layers && !e->set; l++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "attention", attention(g, arch, l, e),
                                              "ffn", ffn(g, arch, l, e)));
    return list;
}
