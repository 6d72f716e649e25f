/* What a GGUF file says of the model as a whole, and what it is called: see gguf/write.h. A name
 * such as SmolLM2-135M-Instruct-v1.0 has a base, a size, a finetune and a version; the size is
 * counted, not taken from the name. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "write.h"

/* "135M", "1.5B": at least two digits. free() it. */
static char *size_label(int64_t parameters)
{
    static const struct {
        double unit;
        char suffix;
    } scales[] = {{1e12, 'T'}, {1e9, 'B'}, {1e6, 'M'}, {1e3, 'K'}};
    double n = (double)parameters;
    int i = 0;
    while (i < 3 && n <= scales[i].unit)
        i++;
    n /= scales[i].unit;
    return mem_format("%.*f%c", nearbyint(n) < 10 ? 1 : 0, n, scales[i].suffix);
}

/* Is it a size, such as 135M or 1.5b? */
static int is_size(const char *s, size_t n)
{
    size_t digits = strspn(s, "0123456789.");
    return digits && digits + 1 == n && isdigit((unsigned char)*s) && strchr("KMBTkmbt", s[n - 1]);
}

static int is_version(const char *s, size_t n)
{
    return n > 1 && (*s | 32) == 'v' && strspn(s + 1, "0123456789.") >= n - 1;
}

/* Appends "-word", or the first word alone. */
static char *join(char *text, const char *word, size_t n)
{
    return mem_append(text, "%s%.*s", *text ? "-" : "", (int)n, word);
}

/* Appends " Word": a capital first, unless it has capitals of its own or is a number. */
static char *add_word(char *title, const char *word, size_t n)
{
    int plain = islower((unsigned char)*word) && !is_version(word, n);
    for (size_t i = 0; i < n; i++)
        plain &= !isupper((unsigned char)word[i]);
    return mem_append(title, "%s%c%.*s", *title ? " " : "",
                      plain ? toupper((unsigned char)*word) : *word, (int)n - 1, word + 1);
}

struct gguf_name gguf_name(const char *name, int64_t parameters)
{
    struct gguf_name x = {.title = mem_string(""),
                          .base = mem_string(""),
                          .size = size_label(parameters),
                          .finetune = mem_string(""),
                          .version = mem_string("")};
    char **part = &x.base;
    for (size_t n; *(name += strspn(name, "- ")); name += n) {
        n = strcspn(name, "- ");
        x.title = add_word(x.title, name, n);
        if (part == &x.base && *x.base && is_size(name, n))
            part = &x.finetune;
        else if (*x.base && is_version(name, n))
            x.version = join(x.version, name, n);
        else
            *part = join(*part, name, n);
    }
    return x;
}

void gguf_name_free(struct gguf_name *x)
{
    free(x->title);
    free(x->base);
    free(x->size);
    free(x->finetune);
    free(x->version);
}

/* Base-size-finetune-version-TYPE.gguf; free() it. */
static char *file_name(const struct gguf_name *x, const struct gguf_recipe *recipe)
{
    const char *const parts[] = {x->base, x->size, x->finetune, x->version, recipe->name};
    char *name = mem_string("");
    for (int i = 0; i < 5; i++)
        if (*parts[i])
            name = join(name, parts[i], strlen(parts[i]));
    for (char *p = name + strlen(name) - strlen(recipe->name); *p; p++)
        *p = (char)toupper((unsigned char)*p);
    for (char *p = name; *p; p++)
        *p = (char)(*p == '/' ? '-' : *p);
    return mem_append(name, ".gguf");
}

char *gguf_path_in(const char *dir, const struct gguf_sink_options *o, const struct model_spec *h)
{
    struct gguf_name x = gguf_name(o->name, model_spec_parameters(h, NULL));
    char *file = file_name(&x, o->type ? gguf_recipe(o->type) : gguf_recipe_of(h)),
         *path = mem_format("%s%s%s", dir, text_ends(dir, "/") ? "" : "/", file);
    gguf_name_free(&x);
    free(file);
    return path;
}

/* ---- metadata */

static void put_if(struct gguf_head *head, const char *key, const char *text)
{
    if (text && *text)
        gguf_put_text(head, key, text);
}

/* The model that the chain of steps began with: a directory or file by its name. */
static void put_base_model(struct gguf_head *head, const char *base)
{
    const char *slash = base ? strchr(base, '/') : NULL;
    if (!base || !*base)
        return;
    gguf_put_u32(head, "general.base_model.count", 1);
    struct gguf_name x = gguf_name(slash ? slash + 1 : base, 0);
    gguf_put_text(head, "general.base_model.0.name", x.title);
    gguf_name_free(&x);
    if (!slash)
        return;
    char *organization = mem_format("%.*s", (int)(slash - base), base),
         *url = mem_format("https://huggingface.co/%s", base);
    gguf_put_text(head, "general.base_model.0.organization", organization);
    gguf_put_text(head, "general.base_model.0.repo_url", url);
    free(organization);
    free(url);
}

void gguf_put_about(struct gguf_head *head, const struct gguf_name *name,
                    const struct gguf_sink_options *o, const char *id,
                    const struct gguf_recipe *recipe)
{
    put_if(head, "general.name", name->title);
    put_if(head, "general.finetune", name->finetune);
    put_if(head, "general.version", name->version);
    put_if(head, "general.basename", name->base);
    put_if(head, "general.size_label", name->size);
    put_base_model(head, o->base_model);
    gguf_put_u32(head, "general.file_type", recipe->file_type);
    gguf_put_u32(head, "general.quantization_version", 2);
    put_if(head, "pare.id", id);
    put_if(head, "pare.history", o->history);
}
