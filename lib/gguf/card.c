/* general.* of a GGUF file -> the metadata of a model card: see gguf/gguf_private.h. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/front_matter.h"
#include "../base/text.h"
#include "gguf_private.h"

/* Appends `before` and the text for each text of the metadata; addresses on the Hub as names. */
static char *add(char *card, const struct gguf *g, const char *key, const char *before)
{
    const struct gguf_value *v = gguf_value(g, key);
    struct gguf_text text;
    for (int64_t at = 0; v && gguf_next_text(v, &at, &text);) {
        char *word = mem_format("%.*s", (int)text.n, text.s),
             *value = front_matter_value(text_begins(word, GGUF_HUB) ? word + strlen(GGUF_HUB)
                                                                     : word);
        if (value && *word)
            card = mem_append(card, "%s%s\n", before, value);
        free(value);
        free(word);
    }
    return card;
}

/* Appends an entry with these members, which are freed. */
static char *add_list(char *card, const char *entry, char *members)
{
    if (*members)
        card = mem_append(card, "%s:\n%s", entry, members);
    free(members);
    return card;
}

/* Appends an entry with what KEY.0.repo_url, KEY.1.repo_url, ... name. */
static char *add_sources(char *card, const struct gguf *g, const char *key, const char *entry)
{
    char *members = mem_string("");
    int n = 0;
    for (int more = 1; more; n += more) {
        char *url = mem_format("%s.%d.repo_url", key, n);
        more = gguf_value(g, url) != NULL;
        members = add(members, g, url, "- ");
        free(url);
    }
    if (n != 1 || !*members)
        return add_list(card, entry, members);
    card = mem_append(card, "%s: %s", entry, members + strlen("- "));
    free(members);
    return card;
}

char *gguf_card(const struct gguf *g)
{
    char *card = mem_string("");
    card = add(card, g, "general.license", "license: ");
    card = add(card, g, "general.license.name", "license_name: ");
    card = add(card, g, "general.license.link", "license_link: ");
    card = add_list(card, "language", add(mem_string(""), g, "general.languages", "- "));
    card = add_list(card, "tags", add(mem_string(""), g, "general.tags", "- "));
    card = add_sources(card, g, "general.base_model", "base_model");
    card = add_sources(card, g, "general.dataset", "datasets");
    char *whole = *card ? mem_format("---\n%s---\n", card) : NULL;
    free(card);
    return whole;
}
