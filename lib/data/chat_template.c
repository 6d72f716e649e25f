/* Which chat template a model has: see chat_template.h. In: chat_templates.def, the files of a
 * model. Refused: a text that is not among the known ones, however much it resembles one. */
#include "chat_template.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "tokenizer_config.h"

static const struct chat_template templates[] = {
#define TEMPLATE(template_name, models, ...) {.name = template_name, __VA_ARGS__},
#define KNOWN(digest, template_name)
#define SIGN(text, template_name)
#include "chat_templates.def"
#undef TEMPLATE
#undef KNOWN
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

struct named {
    const char *what, *name;
};
static const struct named known[] = {
#define TEMPLATE(template_name, models, ...)
#define KNOWN(digest, template_name) {digest, template_name},
#include "chat_templates.def"
#undef KNOWN
#undef SIGN
};
static const struct named signs[] = {
#define KNOWN(digest, template_name)
#define SIGN(text, template_name) {text, template_name},
#include "chat_templates.def"
#undef TEMPLATE
#undef KNOWN
#undef SIGN
};

static const struct chat_template *find(const char *name)
{
    for (int i = 0; i < TEMPLATES; i++)
        if (!strcmp(templates[i].name, name))
            return &templates[i];
    return NULL;
}

const struct chat_template *chat_template_named(const char *name, struct err *e)
{
    const struct chat_template *found = find(name);
    if (found)
        return found;
    char *names = mem_string("");
    for (int i = 0; i < TEMPLATES; i++)
        names = mem_append(names, ", %s", templates[i].name);
    err_set(e, "--chat-template must be auto%s, not \"%s\"", names, name);
    free(names);
    return NULL;
}

void chat_digest(const char *text, int64_t n, char hex[ST_DIGEST])
{
    struct digest d;
    digest_open(&d);
    while (n && strchr(" \t\r\n", text[n - 1]))
        n--;
    for (int64_t i = 0; i < n; i++) {
        int two = i + 1 < n && ((text[i] == '\\' && text[i + 1] == 'n') ||
                                (text[i] == '\r' && text[i + 1] == '\n'));
        digest_add(&d, two ? "\n" : text + i, 1);
        i += two;
    }
    digest_close(&d, hex);
}

/* The template that a text reminds of; NULL: none. */
static const char *resembled(const char *text)
{
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strstr(text, signs[i].what))
            return signs[i].name;
    return NULL;
}

static const struct chat_template *recognise(const char *text, struct err *e)
{
    char digest[ST_DIGEST];
    chat_digest(text, (int64_t)strlen(text), digest);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].what, digest))
            return find(known[i].name);
    const char *like = resembled(text);
    if (like)
        err_set(e,
                "the model's chat template, of digest %s, is not one of those known (tokenize "
                "--help lists them); it resembles %s: if you want that, give --chat-template %s",
                digest, like, like);
    else
        err_set(e,
                "the model's chat template, of digest %s, is not one of those known: choose one "
                "with --chat-template (tokenize --help lists them)",
                digest);
    return NULL;
}

/* `chat_template` is a text or a list of named ones, of which apply_chat_template of transformers
 * takes "default". */
static const char *template_in(const json_t *config)
{
    const json_t *given = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(given); i++) {
        const json_t *one = json_array_get(given, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && !strcmp(name, "default"))
            return json_string_value(json_object_get(one, "template"));
    }
    return json_string_value(given);
}

const struct chat_template *chat_template_of(struct model_in *in, struct err *e)
{
    const struct chat_template *found = NULL;
    int64_t n;
    const char *text = in ? model_in_file(in, "chat_template.jinja", &n) : NULL;
    json_t *config = text ? NULL : tokenizer_config(in, e);
    if (!text)
        text = template_in(config);
    if (text)
        found = recognise(text, e);
    else
        err_set(e, "the model has no chat template: choose one with --chat-template "
                   "(tokenize --help lists them)");
    json_decref(config);
    return found;
}
