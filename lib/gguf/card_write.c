/* The metadata of a model card -> general.* of a GGUF file, as llama.cpp's converter writes it: see
 * gguf/write.h. Text that does not show is left out. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/front_matter.h"
#include "../base/text.h"
#include "../base/utf8.h"
#include "write.h"

/* The entry as a list of texts, whether it is one or a list; new reference. */
static json_t *texts_of(const json_t *card, const char *key)
{
    json_t *value = json_object_get(card, key), *list = json_array(), *text;
    size_t i, n = json_is_array(value) ? json_array_size(value) : value != NULL;
    for (i = 0; i < n; i++) {
        text = json_is_array(value) ? json_array_get(value, i) : value;
        if (utf8_is_visible(json_string_value(text)))
            json_array_append(list, text);
    }
    return list;
}

/* Several are joined by commas. */
static void put_joined(struct gguf_head *head, const char *key, const json_t *card,
                       const char *entry)
{
    json_t *texts = texts_of(card, entry), *text;
    char *all = mem_string("");
    size_t i;
    json_array_foreach(texts, i, text)
        all = mem_append(all, "%s%s", i ? "," : "", json_string_value(text));
    if (*all)
        gguf_put_text(head, key, all);
    free(all);
    json_decref(texts);
}

/* Both entries in one list. */
static void put_list(struct gguf_head *head, const char *key, const json_t *card, const char *entry,
                     const char *second)
{
    json_t *texts = texts_of(card, entry), *more = texts_of(card, second), *text;
    json_array_extend(texts, more);
    char **list = mem_alloc((json_array_size(texts) + 1) * sizeof *list);
    size_t i;
    json_array_foreach(texts, i, text)
        list[i] = (char *)json_string_value(text);
    if (json_array_size(texts))
        gguf_put_texts(head, key, list, (int64_t)json_array_size(texts));
    free(list);
    json_decref(more);
    json_decref(texts);
}

static void put_part(struct gguf_head *head, const char *key, size_t i, const char *part,
                     const char *text)
{
    char *name = mem_format("%s.%zu.%s", key, i, part);
    if (*text)
        gguf_put_text(head, name, text);
    free(name);
}

/* A model or a set of data by its name on the Hub, ORGANISATION/NAME, by its address there, by
 * another address, or by its name alone. */
static void put_source(struct gguf_head *head, const char *key, size_t i, const char *source)
{
    const char *name = text_begins(source, GGUF_HUB) ? source + strlen(GGUF_HUB) : source;
    const char *slash = strchr(name, '/');
    int is_address = strstr(name, "://") != NULL;
    char *owner = slash ? mem_format("%.*s", (int)(slash - name), name) : mem_string(""),
         *url = mem_format("%s%s", is_address ? "" : GGUF_HUB, name);
    struct gguf_name named = gguf_name(slash ? slash + 1 : name, 0),
                     organization = gguf_name(owner, 0);
    if (!is_address) {
        put_part(head, key, i, "name", named.title);
        put_part(head, key, i, "version", named.version);
        put_part(head, key, i, "organization", organization.title);
    }
    if (slash)
        put_part(head, key, i, "repo_url", url);
    gguf_name_free(&organization);
    gguf_name_free(&named);
    free(url);
    free(owner);
}

/* KEY.count, KEY.0.name, ... */
static void put_sources(struct gguf_head *head, const char *key, const json_t *card,
                        const char *entry)
{
    json_t *sources = texts_of(card, entry), *source;
    char *count = mem_format("%s.count", key);
    size_t i;
    if (json_array_size(sources))
        gguf_put_u32(head, count, (int64_t)json_array_size(sources));
    json_array_foreach(sources, i, source)
        put_source(head, key, i, json_string_value(source));
    free(count);
    json_decref(sources);
}

void gguf_put_card(struct gguf_head *head, const char *text, const char *base_model)
{
    json_t *card = front_matter_read(text ? text : "");
    if (base_model && !json_object_get(card, "base_model"))
        json_object_set_new(card, "base_model", json_string(base_model));
    put_joined(head, "general.license", card, "license");
    put_joined(head, "general.license.name", card, "license_name");
    put_joined(head, "general.license.link", card, "license_link");
    put_sources(head, "general.base_model", card, "base_model");
    put_sources(head, "general.dataset", card, "datasets");
    put_list(head, "general.tags", card, "tags", "pipeline_tag");
    put_list(head, "general.languages", card, "language", "languages");
    json_decref(card);
}
