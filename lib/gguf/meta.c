/* Single values of GGUF metadata: see gguf/gguf_private.h. */
#include <stdlib.h>

#include "gguf_private.h"

const struct gguf_value *gguf_meta(const struct gguf *g, const char *prefix, const char *name)
{
    char *key = mem_format("%s.%s", prefix, name);
    const struct gguf_value *v = gguf_value(g, key);
    free(key);
    return v;
}

char *gguf_meta_text(const struct gguf *g, const char *key)
{
    const struct gguf_value *v = gguf_value(g, key);
    struct gguf_text text;
    int64_t at = 0;
    return v && !v->list && gguf_next_text(v, &at, &text) ? mem_format("%.*s", (int)text.n, text.s)
                                                          : NULL;
}

int64_t gguf_meta_int(const struct gguf *g, const char *key, int64_t missing)
{
    const struct gguf_value *v = gguf_value(g, key);
    int64_t n;
    return v && !v->list && gguf_int(v, 0, &n) ? n : missing;
}
