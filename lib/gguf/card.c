/* general.* of a GGUF file -> the metadata of a model card: see gguf/gguf_private.h. */
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "../base/utf8.h"
#include "gguf_private.h"

static const char hub[] = "https://huggingface.co/";

/* Appends an entry for each text of the metadata, `before` and the text; values that YAML might
 * read as more than text are left out. */
static char *add(char *card, const struct gguf *g, const char *key, const char *before)
{
    const struct gguf_value *v = gguf_value(g, key);
    struct gguf_text text;
    for (int64_t at = 0; v && gguf_next_text(v, &at, &text);) {
        char *word = mem_format("%.*s", (int)text.n, text.s);
        const char *value = text_begins(word, hub) ? word + strlen(hub) : word;
        if (*value && utf8_is_visible(value) && !strpbrk(value, " #\"'{}[]&*!|>%@`,"))
            card = mem_append(card, "%s%s\n", before, value);
        free(word);
    }
    return card;
}

char *gguf_card(const struct gguf *g)
{
    char *card = mem_string("");
    card = add(card, g, "general.license", "license: ");
    card = add(card, g, "general.license.name", "license_name: ");
    card = add(card, g, "general.license.link", "license_link: ");
    char *languages = add(mem_string(""), g, "general.languages", "- ");
    if (*languages)
        card = mem_append(card, "language:\n%s", languages);
    free(languages);
    card = add(card, g, "general.base_model.0.repo_url", "base_model: ");
    char *whole = *card ? mem_format("---\n%s---\n", card) : NULL;
    free(card);
    return whole;
}
