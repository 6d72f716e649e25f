/* How byte-level BPE splits text into words, which GGUF files state by a name (tokenizer.ggml.pre):
 * see gguf/gguf_private.h. In both directions; patterns as the published tokenizer.json files have
 * them. */
#include <stdlib.h>
#include <string.h>

#include "gguf_private.h"

#define GPT2_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define SHORT "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS_PATTERN(digits) \
    SHORT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
/* words that also end where a capital letter follows a small one */
#define CASES_PATTERN(ending, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" ending "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES

/* Of several with the same splits the first is written that looks up whole words as the tokenizer
 * does. */
static const struct gguf_pre pres[] = {
    {"gpt-2", 0, 0, 0, 0, {NULL}},
    {"smollm", 0, 0, 0, 1, {NULL}},
    {"llama-bpe", 1, 1, 0, 0, {WORDS_PATTERN("\\p{N}{1,3}")}},
    {"dbrx", 0, 0, 0, 0, {WORDS_PATTERN("\\p{N}{1,3}")}},
    {"qwen2", 0, 0, 1, 0, {WORDS_PATTERN("\\p{N}")}},
    {"stablelm2", 0, 0, 0, 0, {WORDS_PATTERN("\\p{N}")}},
    {"tekken", 1, 1, 0, 0, {CASES_PATTERN("", "\\p{N}")}},
    {"gpt-4o", 0, 0, 0, 0, {CASES_PATTERN(SHORT "?", "\\p{N}{1,3}")}},
    /* llama.cpp's default, for files without .pre */
    {"default",
     0,
     0,
     0,
     0,
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_PATTERN, "\\p{N}+", "[0-9][0-9][0-9]"}},
};
enum { PRES = sizeof pres / sizeof *pres };

/* Other names for the same. */
static const char *const aliases[][2] = {
    {"olmo", "gpt-2"},        {"phi-2", "gpt-2"},      {"exaone4", "gpt-2"},
    {"starcoder", "smollm"},  {"refact", "smollm"},    {"command-r", "smollm"},
    {"exaone", "smollm"},     {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"}, {"llama4", "gpt-4o"}};

static const char *real_name(const char *name)
{
    for (size_t i = 0; name && i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i][0], name))
            return aliases[i][1];
    return name ? name : "default";
}

const struct gguf_pre *gguf_pre(const struct gguf *g, struct err *e)
{
    char *name = gguf_meta_text(g, "tokenizer.ggml.pre"), *list = mem_string("");
    const struct gguf_pre *found = NULL;
    for (int i = 0; i < PRES; i++) {
        list = mem_append(list, "%s%s", i ? ", " : "", pres[i].name);
        if (!strcmp(pres[i].name, real_name(name)))
            found = &pres[i];
    }
    if (!found)
        err_set(e, "'%s': pre-tokenizer %.60s is not supported (supported are %s)", gguf_path(g),
                name, list);
    free(name);
    free(list);
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
    const char *patterns[5];
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
    if (!pattern || !isolated || s->n == 4)
        s->other = 1;
    else
        s->patterns[s->n++] = pattern;
}

static void add_part(struct splits *s, const json_t *part)
{
    const char *type = type_of(part);
    if (!strcmp(type, "Split"))
        add_split(s, part);
    else if (!strcmp(type, "Digits") && json_is_true(json_object_get(part, "individual_digits")))
        s->digits = 1;
    else if (!strcmp(type, "ByteLevel") && !json_is_true(json_object_get(part, "add_prefix_space")))
        s->gpt2 = !json_is_false(json_object_get(part, "use_regex"));
    else
        s->other = 1;
}

/* GPT-2's pattern is implied where there is no other. */
static int has_splits(const struct gguf_pre *p, const struct splits *s)
{
    int n = 0;
    while (p->patterns[n] && n < s->n && !strcmp(p->patterns[n], s->patterns[n]))
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
                "words (known here: the splits of GPT-2, SmolLM, Llama 3, Qwen 2, Mistral's "
                "Tekken and GPT-4o)");
    return found;
}
