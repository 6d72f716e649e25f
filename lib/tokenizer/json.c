/* Reading a tokenizer.json: the two large tables by the scanner (vocab.c), everything else as small
 * JSON values. Refuses, by name, everything that would give ids different from those of the
 * tokenizers library: models other than BPE and Unigram, dropout, prefixes and suffixes of
 * subwords, post-processors other than TemplateProcessing and ByteLevel, and whatever normalize.c,
 * split.c and decode.c refuse. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../formats/json_scan.h"
#include "tokenizer_private.h"

/* ---- where things are */

static const char *const top_names[] = {
    "model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "padding"};
static const char *const model_names[] = {"type",
                                          "dropout",
                                          "unk_token",
                                          "unk_id",
                                          "continuing_subword_prefix",
                                          "end_of_word_suffix",
                                          "fuse_unk",
                                          "byte_fallback",
                                          "ignore_merges",
                                          "vocab",
                                          "merges"};

int tokenizer_locate(struct tokenizer_members *m, const char *json, int64_t n, struct err *e)
{
    const char *why;
    if (json_members((struct json_range){json, n}, top_names, m->top, T_COUNT, &why))
        return err_set(e, "the tokenizer %s", why);
    why = "is missing";
    if (!m->top[T_MODEL].n || json_members(m->top[T_MODEL], model_names, m->model, M_COUNT, &why))
        return err_set(e, "the tokenizer's model %s", why);
    return 0;
}

json_t *tokenizer_member(const struct tokenizer_members *m, int which, struct err *e)
{
    static const struct json_limits limits = {.values = 4000000, .depth = 40};
    struct json_range r = m->top[which];
    if (!r.n || (r.n == 4 && !memcmp(r.s, "null", 4)))
        return NULL;
    return json_parse_text(r.s, r.n, &limits, top_names[which], e);
}

/* ---- the model */

static int range_is(struct json_range r, const char *text)
{
    return r.n == (int64_t)strlen(text) && !memcmp(r.s, text, (size_t)r.n);
}
static int range_none(struct json_range r) { return !r.n || range_is(r, "null"); }

/* The text of a string value; NULL if it is not a string. free() it. */
static char *range_text(struct json_range r)
{
    struct json_scan j;
    int64_t n;
    json_scan_open(&j, r.s, r.n);
    const char *s = json_string_text(&j, &n);
    char *text = s ? mem_format("%.*s", (int)n, s) : NULL;
    json_scan_close(&j);
    return text;
}

static int model_check(const struct json_range *m, struct err *e)
{
    if (!range_none(m[M_TYPE]) && !range_is(m[M_TYPE], "\"BPE\""))
        return err_set(e, "the tokenizer's model is %.*s; BPE and Unigram are supported",
                       (int)(m[M_TYPE].n < 80 ? m[M_TYPE].n : 80), m[M_TYPE].s);
    if (!m[M_VOCAB].n || !m[M_MERGES].n)
        return err_set(e, "the tokenizer's model has no vocab or no merges");
    if (!range_none(m[M_DROPOUT]) && !range_is(m[M_DROPOUT], "0.0") && !range_is(m[M_DROPOUT], "0"))
        return err_set(e, "the tokenizer merges at random (dropout %.*s), which is not supported",
                       (int)(m[M_DROPOUT].n < 80 ? m[M_DROPOUT].n : 80), m[M_DROPOUT].s);
    for (int i = M_PREFIX; i <= M_SUFFIX; i++)
        if (!range_none(m[i]) && !range_is(m[i], "\"\""))
            return err_set(e, "the tokenizer's %s %.*s is not supported", model_names[i],
                           (int)(m[i].n < 80 ? m[i].n : 80), m[i].s);
    return 0;
}

static int read_unigram(struct tokenizer *t, const struct json_range *m, struct err *e)
{
    struct json_scan j;
    struct bpe_flags flags = {.byte_fallback = range_is(m[M_FALLBACK], "true")};
    json_scan_open(&j, m[M_UNK_ID].s, m[M_UNK_ID].n);
    int64_t unk = range_none(m[M_UNK_ID]) ? -1 : json_whole(&j);
    if (j.failed)
        return err_set(e, "the tokenizer's unk_id is not a whole number");
    if (!m[M_VOCAB].n)
        return err_set(e, "the tokenizer's model has no vocab");
    if (t->split.byte_level)
        return err_set(e, "the tokenizer has a Unigram model after ByteLevel, which is not "
                          "supported");
    t->unigram = unigram_open(t->bpe, m[M_VOCAB].s, m[M_VOCAB].n, unk, e);
    return t->unigram ? bpe_configure(t->bpe, flags, NULL, e) : -1;
}

static int read_model(struct tokenizer *t, const struct json_range *m, struct err *e)
{
    if (range_is(m[M_TYPE], "\"Unigram\""))
        return read_unigram(t, m, e);
    if (model_check(m, e) || bpe_read_vocab(t->bpe, m[M_VOCAB].s, m[M_VOCAB].n, e) ||
        bpe_read_merges(t->bpe, m[M_MERGES].s, m[M_MERGES].n, e))
        return -1;
    char *unk = range_none(m[M_UNK]) ? NULL : range_text(m[M_UNK]);
    struct bpe_flags flags = {.byte_fallback = range_is(m[M_FALLBACK], "true"),
                              .fuse_unk = range_is(m[M_FUSE], "true"),
                              .ignore_merges = range_is(m[M_IGNORE], "true"),
                              .byte_level = t->split.byte_level};
    int failed = unk || range_none(m[M_UNK])
                     ? bpe_configure(t->bpe, flags, unk, e)
                     : err_set(e, "the tokenizer's unk_token is not a string");
    free(unk);
    return failed;
}

/* ---- added tokens */

static int by_id(const void *a, const void *b)
{
    uint32_t x = ((const struct added_token *)a)->id, y = ((const struct added_token *)b)->id;
    return (x > y) - (x < y);
}

static int read_added_token(struct tokenizer *t, const json_t *o, struct err *e)
{
    const json_t *id = json_object_get(o, "id"), *content = json_object_get(o, "content");
    if (!json_is_integer(id) || !json_is_string(content) || json_integer_value(id) < 0 ||
        json_integer_value(id) > INT32_MAX)
        return err_set(e, "added token %d of the tokenizer has no id or no content",
                       t->n_added + 1);
    struct added_token a = {.id = (uint32_t)json_integer_value(id),
                            .n = (int64_t)json_string_length(content),
                            .order = t->n_added,
                            .special = json_is_true(json_object_get(o, "special")),
                            .lstrip = json_is_true(json_object_get(o, "lstrip")),
                            .rstrip = json_is_true(json_object_get(o, "rstrip")),
                            .single_word = json_is_true(json_object_get(o, "single_word")),
                            .normalized = json_is_true(json_object_get(o, "normalized"))};
    int64_t known = bpe_find(t->bpe, json_string_value(content), a.n);
    if (known >= 0 && known != a.id)
        return err_set(
            e, "added token \"%.80s\" of the tokenizer has id %lld, but %lld in the vocabulary",
            json_string_value(content), (long long)a.id, (long long)known);
    a.text = mem_string(json_string_value(content));
    t->added[t->n_added++] = a;
    return 0;
}

static int read_added(struct tokenizer *t, const json_t *list, struct err *e)
{
    size_t n = json_array_size(list);
    t->added = mem_alloc((n + 1) * sizeof *t->added);
    for (size_t i = 0; i < n; i++)
        if (read_added_token(t, json_array_get(list, i), e))
            return -1;
    for (int i = 0; i < t->n_added; i++)
        t->added[i].order += t->added[i].special ? 0 : t->n_added;
    qsort(t->added, (size_t)t->n_added, sizeof *t->added, by_id);
    t->size = bpe_size(t->bpe);
    for (int i = 0; i < t->n_added; i++)
        t->size = t->added[i].id >= t->size ? (int64_t)t->added[i].id + 1 : t->size;
    if (t->size > 2 * (bpe_size(t->bpe) + t->n_added) + 4096)
        return err_set(
            e, "the tokenizer gives an added token id %lld, far beyond its vocabulary of %lld",
            (long long)t->size - 1, (long long)bpe_size(t->bpe));
    return 0;
}

/* Tokens that are matched after the normalizers are themselves normalised. */
static int index_added(struct tokenizer *t, struct err *e)
{
    t->raw.tokens = mem_alloc((size_t)(t->n_added + 1) * sizeof *t->raw.tokens);
    t->normal.tokens = mem_alloc((size_t)(t->n_added + 1) * sizeof *t->normal.tokens);
    for (int i = 0; i < t->n_added; i++) {
        struct added_token *a = &t->added[i];
        if (!a->n)
            continue;
        if (!a->normalized) {
            t->raw.tokens[t->raw.count++] = a;
            continue;
        }
        struct text content = {a->text, a->n, NULL, 0};
        if (norm_apply(&t->norm, &content, e))
            return -1;
        if (!content.n)
            continue;
        struct added_token *copy = mem_alloc(sizeof *copy);
        *copy = *a;
        copy->text = mem_alloc((size_t)content.n + 1);
        memcpy(copy->text, content.s, (size_t)content.n);
        copy->n = content.n;
        t->normal.tokens[t->normal.count++] = copy;
    }
    return added_set_index(&t->raw, e) || added_set_index(&t->normal, e) ? -1 : 0;
}

/* ---- the post-processor */

/* Adds a token before (side 0) or after (1) every text. */
static int special_add(struct tokenizer *t, int side, const char *name, const json_t *value,
                       struct err *e)
{
    int64_t id = json_integer_value(value);
    if (!json_is_integer(value))
        return err_set(
            e, "the tokenizer's post-processor gives \"%.80s\" an id that is not a whole number",
            name);
    if (id < 0 || id >= t->size)
        return err_set(e,
                       "the tokenizer's post-processor adds id %lld, but the vocabulary has %lld "
                       "tokens",
                       (long long)id, (long long)t->size);
    if (t->special[side].n == SPECIAL_MAX)
        return err_set(e, "the tokenizer's post-processor adds more than %d tokens", SPECIAL_MAX);
    t->special[side].ids[t->special[side].n++] = (uint32_t)id;
    return 0;
}

static int read_template(struct tokenizer *t, const json_t *spec, struct err *e)
{
    const json_t *list = json_object_get(spec, "single"),
                 *table = json_object_get(spec, "special_tokens");
    int side = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i),
                     *special = json_object_get(item, "SpecialToken");
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *ids = name ? json_object_get(json_object_get(table, name), "ids") : NULL;
        if (!special && json_object_get(item, "Sequence")) {
            side = 1;
            continue;
        }
        for (size_t k = 0; k < json_array_size(ids); k++)
            if (special_add(t, side, name, json_array_get(ids, k), e))
                return -1;
        if (!json_array_size(ids))
            return err_set(e, "the tokenizer's post-processor adds \"%.80s\" without giving its id",
                           name ? name : "?");
    }
    return 0;
}

static int read_post(struct tokenizer *t, const json_t *spec, int depth, struct err *e)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!spec)
        return 0;
    if (!type || depth > 8)
        return err_set(e, "the tokenizer's post-processor is malformed");
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(t, spec, e);
    if (!strcmp(type, "ByteLevel"))
        return 0; /* changes offsets only */
    if (strcmp(type, "Sequence"))
        return err_set(e, "the tokenizer's post-processor \"%.80s\" is not supported", type);
    const json_t *list = json_object_get(spec, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_post(t, json_array_get(list, i), depth + 1, e))
            return -1;
    return 0;
}

/* ---- the whole */

int tokenizer_read(struct tokenizer *t, const char *json, int64_t n, struct err *e)
{
    struct tokenizer_members m;
    json_t *value[T_PADDING] = {NULL};
    t->bpe = bpe_open();
    if (tokenizer_locate(&m, json, n, e))
        return -1;
    for (int i = T_ADDED; i < T_PADDING && !e->set; i++)
        value[i] = tokenizer_member(&m, i, e);
    int failed = e->set || norm_read(&t->norm, value[T_NORM], e) ||
                 split_read(&t->split, value[T_SPLIT], e) || read_model(t, m.model, e) ||
                 read_added(t, value[T_ADDED], e) || index_added(t, e) ||
                 read_post(t, value[T_POST], 0, e) ||
                 !(t->decoder = decoder_read(value[T_DECODER], e));
    for (int i = T_ADDED; i < T_PADDING; i++)
        json_decref(value[i]);
    return failed ? -1 : 0;
}
