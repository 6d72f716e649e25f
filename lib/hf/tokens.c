/* Special tokens in the files of a directory: see hf.h. Of large files only the members that matter
 * are parsed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../formats/json_scan.h"
#include "../base/text.h"
#include "hf.h"

static const char *const id_keys[] = {"bos_token_id", "eos_token_id", "pad_token_id",
                                      "added_tokens"};
enum { IDS = 3, MEMBERS = 4 };

char *hf_generation_config(const json_t *config)
{
    json_t *made = json_object();
    for (int k = 0; k < IDS; k++) {
        json_t *id = json_object_get(config, id_keys[k]);
        if (id && !json_is_null(id))
            json_object_set(made, id_keys[k], id);
    }
    char *text = json_object_size(made) ? json_dumps(made, JSON_INDENT(2)) : NULL;
    json_decref(made);
    return text ? mem_append(text, "\n") : NULL;
}

/* The first id that is not an entry: a number, a list of numbers, or one of objects {"id": number};
 * -1: none. */
static json_int_t stray_id(const json_t *value, int64_t vocab_size)
{
    size_t i;
    json_t *member;
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (json_is_object(value))
        return stray_id(json_object_get(value, "id"), vocab_size);
    json_array_foreach(value, i, member)
        id = id < vocab_size ? stray_id(member, vocab_size) : id;
    return id < vocab_size ? -1 : id;
}

static char *check_member(const char *name, const char *key, struct json_range text,
                          int64_t vocab_size)
{
    static const struct json_limits limits = {.values = 4000000, .depth = 64};
    struct err ignored = {0};
    char *list = text.n ? mem_format("[%.*s]", (int)text.n, text.s) : mem_string("[]");
    json_t *value = json_parse_text(list, (int64_t)strlen(list), &limits, name, &ignored);
    json_int_t id = value ? stray_id(value, vocab_size) : -1;
    json_decref(value);
    free(list);
    if (id < 0)
        return NULL;
    return mem_format("%s: %s has the id %" JSON_INTEGER_FORMAT
                      ", beyond the vocabulary of %" PRId64 " tokens",
                      name, key, id, vocab_size);
}

char *hf_check_file(const char *name, const char *text, int64_t n, int64_t vocab_size)
{
    struct json_range members[MEMBERS];
    const char *why;
    char *found = NULL;
    if (!text_ends(name, ".json"))
        return NULL;
    if (json_members((struct json_range){text, n}, id_keys, members, MEMBERS, &why))
        return mem_format("%s %s: transformers will not read it", name, why);
    for (int k = 0; k < MEMBERS && !found; k++)
        found = check_member(name, id_keys[k], members[k], vocab_size);
    return found;
}
