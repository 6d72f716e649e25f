/* What a GGUF file says of the model as a whole, and what it is called: see gguf/write.h. A name
 * such as SmolLM2-135M-Instruct-v1.0 has a base, a size, a finetune and a version; the size is
 * counted, not taken from the name. A version before the size is part of the base (Llama-3.1-8B).
 */
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

/* 2, 1.5 or v0.3 */
static int is_version(const char *s, size_t n)
{
    size_t v = (*s | 32) == 'v';
    return n > v && strspn(s + v, "0123456789.") >= n - v;
}

/* Are all words of the rest of a name versions? */
static int ends_in_versions(const char *name)
{
    for (size_t n; *(name += strspn(name, "- ")); name += n) {
        n = strcspn(name, "- ");
        if (!is_version(name, n))
            return 0;
    }
    return 1;
}

/* Appends "-word", or the first word alone. */
static char *join(char *text, const char *word, size_t n)
{
    return mem_append(text, "%s%.*s", *text ? "-" : "", (int)n, word);
}

/* Appends " Word": its letters after others become capitals, unless it has capitals of its own, or
 * is a number. */
static char *add_word(char *title, const char *word, size_t n)
{
    int plain = !isdigit((unsigned char)*word) && !is_version(word, n), letters = 0;
    for (size_t i = 0; i < n; i++)
        plain &= !isupper((unsigned char)word[i]);
    title = mem_append(title, "%s", *title ? " " : "");
    for (size_t i = 0; i < n; i++) {
        title = mem_append(title, "%c",
                           plain && !letters ? toupper((unsigned char)word[i]) : word[i]);
        letters = isalpha((unsigned char)word[i]);
    }
    return title;
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
        else if (*x.base && is_version(name, n) && (part != &x.base || ends_in_versions(name)))
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

void gguf_put_about(struct gguf_head *head, const struct gguf_name *name,
                    const struct gguf_sink_options *o, const char *id,
                    const struct gguf_recipe *recipe)
{
    put_if(head, "general.name", name->title);
    put_if(head, "general.finetune", name->finetune);
    put_if(head, "general.version", name->version);
    put_if(head, "general.basename", name->base);
    put_if(head, "general.size_label", name->size);
    gguf_put_u32(head, "general.file_type", recipe->file_type);
    gguf_put_u32(head, "general.quantization_version", 2);
    put_if(head, "pare.id", id);
    put_if(head, "pare.history", o->history);
}
