/* For the tests of specs: golden JSON files, and specs from configs given as text. They run from
 * the repository root. */
#ifndef PARE_TEST_SPEC_H
#define PARE_TEST_SPEC_H

#include <string.h>

#include "../../formats/json.h"
#include "../../lib/model/model.h"
#include "check.h"

#define GOLDEN "tests/golden/"

/* A config of four narrow layers; `extra` begins with a comma. */
#define SMALL(type, extra) \
    "{'model_type':'" type "','hidden_size':48,'num_attention_heads':6,'num_key_value_heads':2,'" \
    "num_hidden_layers':4" extra "}"

static inline json_t *load(const char *format, const char *a, const char *b)
{
    static const struct json_limits limits = {1 << 24, 1 << 20, 64};
    char path[500];
    struct err e = {0};
    snprintf(path, sizeof path, format, a, b);
    json_t *j = json_parse_file(path, &limits, &e);
    CHECK(j, "%s", e.msg);
    return j;
}

/* A spec from a config given as text, with ' for ". */
static inline int head_of(struct model_spec *h, const char *text, struct err *e)
{
    char *json = mem_string(text);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *config = json_loads(json, 0, NULL);
    CHECK(config, "not JSON: %s", json);
    *e = (struct err){0};
    int rc = model_spec_from_config(h, config, e);
    json_decref(config);
    free(json);
    if (!rc)
        model_spec_list_tensors(h, DT_F32);
    return rc;
}

#endif
