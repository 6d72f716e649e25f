/* Any bytes as a model card: its entries are texts and lists of texts, and a text of them that can
 * be written as a value reads back as itself. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/front_matter.h"
#include "../../lib/base/mem.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void try_text(const json_t *text)
{
    const char *s = json_string_value(text);
    if (!s)
        abort();
    char *value = front_matter_value(s);
    if (!value)
        return;
    char *card = mem_format("---\nx: %s\n---\n", value);
    json_t *entries = front_matter_read(card);
    const char *read = json_string_value(json_object_get(entries, "x"));
    if (!read || strcmp(read, s) != 0)
        abort();
    json_decref(entries);
    free(card);
    free(value);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *text = mem_format("%.*s", (int)size, (const char *)data);
    json_t *entries = front_matter_read(text), *value, *member;
    const char *key;
    size_t i;
    json_object_foreach(entries, key, value) {
        if (!json_is_array(value))
            try_text(value);
        json_array_foreach(value, i, member)
            try_text(member);
    }
    json_decref(entries);
    free(text);
    return 0;
}
