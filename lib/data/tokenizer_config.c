/* Reading tokenizer_config.json: see tokenizer_config.h. */
#include "tokenizer_config.h"

#include "../../formats/json.h"

json_t *tokenizer_config(struct model_in *in, struct err *e)
{
    static const struct json_limits limits = {.values = 4000000, .depth = 64};
    int64_t n;
    const char *text = in ? model_in_file(in, "tokenizer_config.json", &n) : NULL;
    return text ? json_parse_text(text, n, &limits, "tokenizer_config.json", e) : NULL;
}

const char *tokenizer_config_token(const json_t *config, const char *key)
{
    const json_t *token = json_object_get(config, key);
    return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}
