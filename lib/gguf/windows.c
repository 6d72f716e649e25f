/* Which layers have the sliding window, as GGUF metadata state it: sliding_window_pattern, a flag
 * for each layer, or a number n for all layers but every n-th; without it, the family's rule. Out:
 * the layer_types of a config.json. */
#include <inttypes.h>

#include "gguf_private.h"

int64_t gguf_windows(const struct family_gguf *row, int64_t layers)
{
    return row->window_layers && row->window_layers != layers ? 0 : row->windows;
}

json_t *gguf_layer_types(const struct gguf *g, const char *arch, int64_t layers, struct err *e)
{
    const struct gguf_value *v = gguf_meta(g, arch, "attention.sliding_window_pattern");
    json_t *types = v ? json_array() : NULL;
    for (int64_t l = 0, n; v && l < layers && !e->set; l++) {
        if (!gguf_int(v, v->list ? l : 0, &n) || n < 0)
            err_set(e, "'%s': %s.attention.sliding_window_pattern has nothing for layer %" PRId64,
                    gguf_path(g), arch, l);
        else if (!v->list)
            n = !n || l % n < n - 1;
        json_array_append_new(types, json_string(n ? "sliding_attention" : "full_attention"));
    }
    return types;
}
