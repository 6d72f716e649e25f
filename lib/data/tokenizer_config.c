/* Reading tokenizer_config.json: see tokenizer_config.h. Only the members that are used are parsed:
 * others may be what no JSON library reads, such as the model_max_length of 10^30 that transformers
 * writes where a tokenizer has no limit. */
#include "tokenizer_config.h"

#include <string.h>

#include "../../formats/json.h"
#include "../../formats/json_scan.h"

/* NULL: neither a text nor a list nor an object, or an error. */
static json_t *value_in(struct json_range r, struct err *e)
{
    static const struct json_limits limits = {.values = 4000000, .depth = 64};
    struct json_scan scan;
    int64_t n;
    if (r.n && strchr("[{", *r.s))
        return json_parse_text(r.s, r.n, &limits, "tokenizer_config.json", e);
    json_scan_open(&scan, r.s, r.n);
    const char *s = r.n && *r.s == '"' ? json_string_text(&scan, &n) : NULL;
    json_t *text = s ? json_stringn(s, (size_t)n) : NULL;
    json_scan_close(&scan);
    return text;
}

json_t *tokenizer_config(struct model_in *in, struct err *e)
{
    static const char *const names[] = {"bos_token", "eos_token", "chat_template"};
    struct json_range values[3];
    int64_t n;
    const char *why, *text = in ? model_in_file(in, "tokenizer_config.json", &n) : NULL;
    if (!text)
        return NULL;
    if (json_members((struct json_range){text, n}, names, values, 3, &why)) {
        err_set(e, "tokenizer_config.json %s", why);
        return NULL;
    }
    json_t *config = json_object();
    for (int i = 0; i < 3; i++)
        json_object_set_new(config, names[i], value_in(values[i], e)); /* of NULL: nothing */
    return config;
}

const char *tokenizer_config_token(const json_t *config, const char *key)
{
    const json_t *token = json_object_get(config, key);
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}
