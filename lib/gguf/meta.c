/* Single values of GGUF metadata, by themselves and for a config.json: see gguf/gguf_private.h. */
#include <math.h>
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

/* ---- for a config.json */

double gguf_number(const struct gguf_making *m, const char *name, double missing)
{
    const struct gguf_value *v = gguf_meta(m->g, m->arch, name);
    double first = missing, x;
    if (!v && isnan(missing))
        err_set(m->e, "'%s' has no metadata %s.%s", gguf_path(m->g), m->arch, name);
    for (int64_t i = 0; v && i < v->n; i++) {
        if (!gguf_real(v, i, &x) || isnan(x))
            err_set(m->e, "'%s': %s.%s must be a number", gguf_path(m->g), m->arch, name);
        else if (i && x != first)
            err_set(m->e,
                    "'%s': %s.%s differs between layers (%g and %g), which config.json for family "
                    "%s cannot express",
                    gguf_path(m->g), m->arch, name, first, x, m->family->name);
        else
            first = x;
    }
    return m->e->set ? 1 : first;
}

int64_t gguf_size(const struct gguf_making *m, const char *name, int64_t missing)
{
    double x = gguf_number(m, name, missing < 0 ? NAN : (double)missing);
    if (x != floor(x) || x < 0 || x > 0x1p40)
        err_set(m->e, "'%s': %s.%s must be a non-negative integer, not %g", gguf_path(m->g),
                m->arch, name, x);
    return m->e->set ? 1 : (int64_t)x;
}

void gguf_put_fact(const struct gguf_making *m, const char *fact, json_t *value)
{
    const char *key = config_key(m->family, fact);
    if (key)
        json_object_set_new(m->config, key, value);
    else
        json_decref(value);
}

json_t *gguf_json_real(double x)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x)
            return json_real(strtod(text, NULL));
    }
    return json_real(x);
}
