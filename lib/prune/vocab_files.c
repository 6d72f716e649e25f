/* The files of a model with ids, rewritten for a cut vocabulary: see vocab.h and vocab_ids.h. In:
 * the files of the uncut model, as text. Out: tokenizer.json by the tokenizer itself; in the others
 * every id that has a name, and the tables of added tokens. Refused: files that are not JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/text.h"
#include "vocab.h"
#include "vocab_ids.h"

/* ---- ids by the names of their members */

static int names_ids(const char *key)
{
    static const char *const names[] = {"suppress_tokens", "begin_suppress_tokens",
                                        "bad_words_ids"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(key, names[i]))
            return 1;
    return text_ends(key, "_token_id") || text_ends(key, "_token_ids");
}

/* The value with its ids replaced; NULL: nothing of it is left. New reference. */
static json_t *replace(const json_t *value, const char *name, vocab_id_fn *f, void *user)
{
    if (json_is_integer(value)) {
        int64_t id = f(user, name, json_integer_value(value));
        return id < 0 ? NULL : json_integer(id);
    }
    if (!json_is_array(value))
        return json_deep_copy(value);
    json_t *list = json_array();
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *entry = replace(json_array_get(value, i), name, f, user);
        if (entry)
            json_array_append_new(list, entry);
    }
    if (json_array_size(list) || !json_array_size(value))
        return list;
    json_decref(list);
    return NULL;
}

int vocab_ids_visit(json_t *value, vocab_id_fn *f, void *user)
{
    const char *key;
    json_t *member;
    void *next;
    json_object_foreach_safe(value, next, key, member) {
        if (!names_ids(key)) {
            vocab_ids_visit(member, f, user);
            continue;
        }
        json_t *to = replace(member, key, f, user);
        if (to)
            json_object_set_new(value, key, to);
        else
            json_object_del(value, key);
    }
    return 0;
}

static const struct json_limits limits = {.values = 4000000, .depth = 40};

/* A file as JSON; NULL without an error: there is none. */
static json_t *read_file(struct model_in *in, const char *name, struct err *e)
{
    int64_t n;
    const char *text = model_in_file(in, name, &n);
    return text ? json_parse_text(text, n, &limits, name, e) : NULL;
}

int vocab_ids_visit_files(struct model_in *in, vocab_id_fn *f, void *user, struct err *e)
{
    json_t *generation = read_file(in, "generation_config.json", e);
    vocab_ids_visit(generation, f, user);
    json_decref(generation);
    return e->set ? -1 : 0;
}

/* ---- tables of added tokens */

struct cut_ids {
    const struct vocab *v;
    int64_t *id_of; /* of all ids of model or tokenizer, whichever has more */
    int64_t n;
};

static int64_t id_in_cut(const struct cut_ids *c, int64_t id)
{
    return id >= 0 && id < c->n ? c->id_of[id] : -1;
}

static int64_t new_id(void *user, const char *name, int64_t id)
{
    (void)name;
    return id_in_cut(user, id);
}

/* {"id": {...}} of tokenizer_config.json */
static json_t *by_new_id(const struct cut_ids *c, const json_t *table)
{
    json_t *to = json_object(), *member;
    const char *key;
    json_object_foreach((json_t *)table, key, member) {
        char name[24];
        int64_t id = id_in_cut(c, strtoll(key, NULL, 10));
        snprintf(name, sizeof name, "%" PRId64, id);
        if (id >= 0)
            json_object_set(to, name, member);
    }
    return to;
}

/* Is it the text of a token that was lost? */
static int is_lost(const struct cut_ids *c, const json_t *text)
{
    const char *s = json_string_value(json_is_object(text) ? json_object_get(text, "content")
                                                           : text);
    int64_t id = s ? tokenizer_id(c->v->tokenizer, s) : -1;
    return id >= 0 && id_in_cut(c, id) < 0;
}

/* Lists of special tokens by their texts, in tokenizer_config.json and special_tokens_map.json. */
static void drop_lost(const struct cut_ids *c, json_t *object)
{
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    for (int k = 0; k < 2; k++) {
        json_t *list = json_object_get(object, lists[k]);
        for (size_t i = json_array_size(list); i-- > 0;)
            if (is_lost(c, json_array_get(list, i)))
                json_array_remove(list, i);
    }
}

/* {"text": id} of added_tokens.json */
static void renumber(const struct cut_ids *c, json_t *table)
{
    const char *key;
    json_t *member;
    void *next;
    json_object_foreach_safe(table, next, key, member) {
        int64_t id = id_in_cut(c, json_integer_value(member));
        if (id < 0)
            json_object_del(table, key);
        else
            json_object_set_new(table, key, json_integer(id));
    }
}

static void cut_json(struct cut_ids *c, const char *name, json_t *value)
{
    const json_t *table = json_object_get(value, "added_tokens_decoder");
    if (!strcmp(name, "added_tokens.json")) {
        renumber(c, value);
        return;
    }
    if (table)
        json_object_set_new(value, "added_tokens_decoder", by_new_id(c, table));
    drop_lost(c, value);
    vocab_ids_visit(value, new_id, c);
}

/* ---- the files */

static int is_older_form(const char *name)
{
    return !strcmp(name, "vocab.json") || !strcmp(name, "merges.txt") ||
           !strcmp(name, "tokenizer.model");
}

/* A file's new text; NULL on error. */
static char *cut_file(struct cut_ids *c, const char *name, struct model_in *in, int64_t *n,
                      struct err *e)
{
    const char *text = model_in_file(in, name, n);
    if (!text)
        return err_set(e, "the model lists file %s but does not contain it", name), NULL;
    if (!strcmp(name, "tokenizer.json"))
        return tokenizer_cut(c->v->tokenizer, text, *n, c->id_of, n, e);
    if (!text_ends(name, ".json"))
        return memcpy(mem_alloc((size_t)*n), text, (size_t)*n);
    json_t *value = json_parse_text(text, *n, &limits, name, e);
    if (!value)
        return NULL;
    cut_json(c, name, value);
    char *made = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    json_decref(value);
    *n = (int64_t)strlen(made);
    return made;
}

static struct cut_ids ids_open(const struct vocab *v, const int64_t *index, int64_t n)
{
    int64_t tokens = tokenizer_vocab_size(v->tokenizer), all = tokens > v->size ? tokens : v->size;
    struct cut_ids c = {v, mem_alloc((size_t)all * sizeof *c.id_of), all};
    for (int64_t id = 0; id < all; id++)
        c.id_of[id] = -1;
    for (int64_t i = 0; i < n; i++)
        c.id_of[index[i]] = i;
    return c;
}

int vocab_files_make(struct vocab_files *f, const struct vocab *v, const int64_t *index, int64_t n,
                     struct model_in *in, struct model_spec *h, struct err *e)
{
    struct cut_ids c = ids_open(v, index, n);
    int kept = 0;
    f->text = mem_alloc((size_t)h->n_files * sizeof *f->text);
    vocab_ids_visit(h->config, new_id, &c);
    for (int i = 0; i < h->n_files; i++) {
        char *name = h->files[i].name;
        if (is_older_form(name)) {
            free(name);
            continue;
        }
        h->files[kept].name = name;
        f->text[kept] = e->set ? NULL : cut_file(&c, name, in, &h->files[kept].bytes, e);
        if (!strcmp(name, "tokenizer.json") && f->text[kept])
            model_tokenizer_id(h->tokenizer_id, f->text[kept], h->files[kept].bytes);
        kept++;
    }
    h->n_files = kept;
    free(c.id_of);
    return e->set ? -1 : 0;
}

int vocab_files_write(const struct vocab_files *f, struct model_out *out)
{
    for (int i = 0; i < out->spec.n_files; i++)
        if (model_out_file(out, f->text[i]))
            return -1;
    return 0;
}

void vocab_files_close(struct vocab_files *f, const struct model_spec *h)
{
    for (int i = 0; f->text && i < h->n_files; i++)
        free(f->text[i]);
    free(f->text);
    f->text = NULL;
}
