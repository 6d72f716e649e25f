/* How byte-level BPE splits text into words, which GGUF files state by a name (tokenizer.ggml.pre):
 * see gguf/gguf_private.h. In both directions. Refused: names of BPE that is not byte-level. */
#include <stdlib.h>
#include <string.h>

#include "gguf_private.h"

static const struct gguf_pre pres[] = {
#define PRE(name, bos, whole, nfc, digits, ...) {name, bos, whole, nfc, digits, {__VA_ARGS__}},
#define ALIAS(other, name)
#include "splits.def"
#undef PRE
#undef ALIAS
};
enum { PRES = sizeof pres / sizeof *pres };

/* Other names for the same. */
static const char *const aliases[][2] = {
#define PRE(name, ...)
#define ALIAS(other, name) {other, name},
#include "splits.def"
#undef PRE
#undef ALIAS
};

const struct gguf_pre *gguf_pre_named(const char *name)
{
    const struct gguf_pre *found = NULL;
    const char *real = name ? name : "default";
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i][0], real))
            real = aliases[i][1];
    for (int i = 0; i < PRES; i++)
        if (!strcmp(pres[i].name, real))
            found = &pres[i];
    return found;
}

const struct gguf_pre *gguf_pre(const struct gguf *g, struct err *e)
{
    char *name = gguf_meta_text(g, "tokenizer.ggml.pre");
    const struct gguf_pre *found = gguf_pre_named(name);
    if (!found)
        err_set(e,
                "'%s': pre-tokenizer %.60s is not supported: it is not one of those that "
                "llama.cpp has for byte-level BPE",
                gguf_path(g), name);
    free(name);
    return found;
}

json_t *gguf_pre_tokenizer(const struct gguf_pre *p)
{
    json_t *list = json_array();
    if (p->digits)
        json_array_append_new(list,
                              json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    for (int i = 0; p->patterns[i]; i++)
        json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                              "pattern", "Regex", p->patterns[i], "behavior",
                                              "Isolated", "invert", 0));
    json_array_append_new(list,
                          json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                                    0, "trim_offsets", 1, "use_regex", !p->patterns[0]));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

/* ---- tokenizer.json -> name */

/* The splits of a tokenizer.json: what it has of struct gguf_pre. */
struct splits {
    int n, digits, gpt2, other;
    const char *patterns[GGUF_SPLITS];
};

static const char *type_of(const json_t *part)
{
    const char *s = json_string_value(json_object_get(part, "type"));
    return s ? s : "";
}

static void add_split(struct splits *s, const json_t *part)
{
    const char *pattern = json_string_value(
                   json_object_get(json_object_get(part, "pattern"), "Regex")),
               *behavior = json_string_value(json_object_get(part, "behavior"));
    int inverted = json_is_true(json_object_get(part, "invert")),
        isolated = behavior && !strcmp(behavior, inverted ? "Removed" : "Isolated");
    if (!pattern || !isolated || s->n == GGUF_SPLITS - 1)
        s->other = 1;
    else
        s->patterns[s->n++] = pattern;
}

/* One by one: after other splits, as a pattern does it. */
static void add_digits(struct splits *s)
{
    if (!s->n)
        s->digits = 1;
    else if (s->n < GGUF_SPLITS - 1)
        s->patterns[s->n++] = "\\p{N}";
    else
        s->other = 1;
}

static void add_part(struct splits *s, const json_t *part)
{
    const char *type = type_of(part);
    if (!strcmp(type, "Split"))
        add_split(s, part);
    else if (!strcmp(type, "Digits") && json_is_true(json_object_get(part, "individual_digits")))
        add_digits(s);
    else if (!strcmp(type, "ByteLevel") && !json_is_true(json_object_get(part, "add_prefix_space")))
        s->gpt2 = !json_is_false(json_object_get(part, "use_regex"));
    else
        s->other = 1;
}

/* GPT-2's pattern is implied where there is no other. */
static int has_splits(const struct gguf_pre *p, const struct splits *s)
{
    int n = 0;
    while (n < s->n && p->patterns[n] && !strcmp(p->patterns[n], s->patterns[n]))
        n++;
    return !s->other && n == s->n && !p->patterns[n] && p->digits == s->digits &&
           s->gpt2 == !p->patterns[0];
}

const char *gguf_pre_of(const json_t *tokenizer, struct err *e)
{
    const json_t *pre = json_object_get(tokenizer, "pre_tokenizer"),
                 *list = json_object_get(pre, "pretokenizers");
    int whole = json_is_true(json_object_get(json_object_get(tokenizer, "model"), "ignore_merges"));
    struct splits s = {0};
    const char *found = NULL;
    for (size_t i = 0; i < json_array_size(list); i++)
        add_part(&s, json_array_get(list, i));
    if (!list)
        add_part(&s, pre);
    for (int i = PRES - 1; i >= 0; i--)
        if (has_splits(&pres[i], &s) && (!found || pres[i].ignore_merges == whole))
            found = pres[i].name;
    if (!found)
        err_set(e,
                "llama.cpp has no name for the way in which this tokenizer.json splits text into "
                "words (it has names for those of GPT-2, SmolLM, Llama 3, Qwen 2, Mistral's "
                "Tekken, GPT-4o and others)");
    return found;
}
