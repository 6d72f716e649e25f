/* A smaller vocabulary: what must stay, what tokens are made of, and the tokenizer.json that keeps
 * some of them. See tokenizer.h.
 *
 * A text whose tokens all stay, with all that they are made of, is encoded as before. BPE: of the
 * pairs of neighbours the best was merged each time, and it is still there to be merged. Unigram:
 * the best path is still there, and no path is new but those through characters that are now
 * unknown, which cost what they always did, more than any token: so the token with the lowest score
 * stays. The tokens of other texts fall apart into those that are left, in the end into bytes. */
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "tokenizer_private.h"

int tokenizer_check_cut(const struct tokenizer *t, struct err *e)
{
    if (!bpe_has_bytes(t->bpe))
        return err_set(e, "its tokenizer neither works on bytes nor falls back to them, so a "
                          "smaller vocabulary could not express every text");
    if (t->unigram && unigram_unk(t->unigram) < 0)
        return err_set(e, "its tokenizer is a Unigram model without an unknown token, so a "
                          "smaller vocabulary could not encode every text");
    if (t->unigram && !unigram_is_unambiguous(t->unigram, t->bpe))
        return err_set(e, "its tokenizer is a Unigram model with two tokens of one text, or one "
                          "without a text, so it is not clear which of them a cut may keep");
    return 0;
}

const char *tokenizer_text(const struct tokenizer *t, int64_t id, int64_t *n)
{
    const struct added_token *a = added_by_id(t, (uint32_t)id);
    if (!a)
        return bpe_text(t->bpe, (uint32_t)id, n);
    *n = a->n;
    return a->text;
}

static int is_framing(const struct tokenizer *t, uint32_t id)
{
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < t->special[side].n; i++)
            if (t->special[side].ids[i] == id)
                return 1;
    return 0;
}

enum token_kind tokenizer_kind(const struct tokenizer *t, int64_t id)
{
    int64_t n;
    if (is_framing(t, (uint32_t)id) || bpe_stays(t->bpe, (uint32_t)id) ||
        (t->unigram && unigram_stays(t->unigram, (uint32_t)id)))
        return TOKEN_NEEDED;
    if (added_by_id(t, (uint32_t)id))
        return TOKEN_ADDED;
    return bpe_text(t->bpe, (uint32_t)id, &n) ? TOKEN_PLAIN : TOKEN_NONE;
}

int tokenizer_has_merges(const struct tokenizer *t) { return !t->unigram; }

int tokenizer_parents(struct tokenizer *t, int64_t id, uint32_t pair[2])
{
    return !t->unigram && bpe_parents(t->bpe, (uint32_t)id, pair);
}

void tokenizer_pieces(struct tokenizer *t, int64_t id, const uint8_t *lost, struct ids *out)
{
    struct err e = {0};
    struct text text = {0};
    if (!(text.s = bpe_text(t->bpe, (uint32_t)id, &text.n)))
        return;
    unigram_lose(t->unigram, lost);
    unigram_encode(t->unigram, t->bpe, text, out, &e);
    unigram_lose(t->unigram, NULL);
}

/* The id of a text; -1: there is no such token. An added token that is in the vocabulary too has
 * the same id there. */
static int64_t find(const struct tokenizer *t, const char *s, int64_t n)
{
    int64_t id = bpe_find(t->bpe, s, n);
    for (int i = 0; i < t->n_added && id < 0; i++)
        if (t->added[i].n == n && !memcmp(t->added[i].text, s, (size_t)n))
            id = t->added[i].id;
    return id;
}

int64_t tokenizer_find_all(const struct tokenizer *t, const struct tokenizer *in, int64_t *ids)
{
    for (int64_t id = 0; id < t->size; id++) {
        int64_t n;
        const char *s = tokenizer_text(t, id, &n);
        if ((ids[id] = s ? find(in, s, n) : -1) < 0)
            return id;
    }
    return t->size;
}

/* ---- tokenizer.json */

struct cutting {
    const struct tokenizer *t;
    const struct tokenizer_members *m;
    const int64_t *id_of;
    struct err *e;
};

/* -1: lost, or no id */
static int64_t new_id(const struct cutting *c, const json_t *id)
{
    int64_t from = json_is_integer(id) ? json_integer_value(id) : -1;
    return from >= 0 && from < c->t->size ? c->id_of[from] : -1;
}

static void cut_added(const struct cutting *c, json_t *list)
{
    for (size_t i = 0; i < json_array_size(list);) {
        json_t *token = json_array_get(list, i);
        int64_t to = new_id(c, json_object_get(token, "id"));
        if (to < 0) {
            json_array_remove(list, i);
            continue;
        }
        json_object_set_new(token, "id", json_integer(to));
        i++;
    }
}

static int is_lost(const struct cutting *c, const json_t *special)
{
    size_t i;
    json_t *id;
    json_array_foreach(json_object_get(special, "ids"), i, id)
        if (new_id(c, id) < 0)
            return 1;
    return 0;
}

static int is_named(const json_t *parts, const char *name)
{
    size_t i;
    json_t *part;
    json_array_foreach(parts, i, part) {
        const char *id = json_string_value(
            json_object_get(json_object_get(part, "SpecialToken"), "id"));
        if (id && !strcmp(id, name))
            return 1;
    }
    return 0;
}

/* Lost tokens leave the table of a template. Those of single texts are never lost. */
static void cut_table(const struct cutting *c, const json_t *template, json_t *table)
{
    const char *name;
    json_t *special;
    void *next;
    json_object_foreach_safe(table, next, name, special) {
        if (!is_lost(c, special))
            continue;
        if (is_named(json_object_get(template, "pair"), name))
            err_set(c->e, "its tokenizer puts %.60s beside pairs of texts, so it must stay", name);
        json_object_del(table, name);
    }
}

/* Every "ids" of special tokens, in whatever sequence of processors. */
static void cut_post(const struct cutting *c, json_t *value)
{
    const char *key;
    size_t i;
    json_t *member, *id;
    json_array_foreach(value, i, member)
        cut_post(c, member);
    json_object_foreach(value, key, member) {
        if (!strcmp(key, "special_tokens"))
            cut_table(c, value, member);
        if (strcmp(key, "ids")) {
            cut_post(c, member);
            continue;
        }
        json_array_foreach(member, i, id)
            json_array_set_new(member, i, json_integer(new_id(c, id)));
    }
}

static void cut_padding(const struct cutting *c, json_t *padding)
{
    int64_t to = new_id(c, json_object_get(padding, "pad_id"));
    if (to >= 0)
        json_object_set_new(padding, "pad_id", json_integer(to));
}

static int write_value(FILE *f, json_t *value)
{
    int failed = json_dumpf(value, f, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(value);
    return failed;
}

static int write_small(const struct cutting *c, FILE *f, int which)
{
    json_t *value = tokenizer_member(c->m, which, c->e);
    if (c->e->set)
        return -1;
    if (which == T_ADDED)
        cut_added(c, value);
    else if (which == T_POST)
        cut_post(c, value);
    else
        cut_padding(c, value);
    return write_value(f, value ? value : json_null());
}

/* What changes in the text, in the order in which it stands there. */
enum { VOCAB = T_COUNT, MERGES, UNK_ID };
struct change {
    struct json_range range;
    int which; /* a member of the top, or of the model as above */
};

static int in_order(const void *a, const void *b)
{
    const char *x = ((const struct change *)a)->range.s, *y = ((const struct change *)b)->range.s;
    return (x > y) - (x < y);
}

static int write_change(const struct cutting *c, FILE *f, const struct change *x)
{
    const struct json_range r = x->range;
    switch (x->which) {
    case VOCAB:
        return (c->t->unigram ? unigram_write_vocab : bpe_write_vocab)(f, r.s, r.n, c->id_of, c->e);
    case MERGES: return bpe_write_merges(c->t->bpe, f, r.s, r.n, c->id_of, c->e);
    case UNK_ID: return fprintf(f, "%lld", (long long)c->id_of[unigram_unk(c->t->unigram)]) < 0;
    default: return write_small(c, f, x->which);
    }
}

char *tokenizer_cut(const struct tokenizer *t, const char *json, int64_t n, const int64_t *id_of,
                    int64_t *n_out, struct err *e)
{
    struct tokenizer_members m;
    if (tokenizer_locate(&m, json, n, e))
        return NULL;
    struct cutting c = {t, &m, id_of, e};
    const struct json_range none = {NULL, 0};
    struct change changes[] = {{m.model[M_VOCAB], VOCAB},
                               {t->unigram ? none : m.model[M_MERGES], MERGES},
                               {t->unigram ? m.model[M_UNK_ID] : none, UNK_ID},
                               {m.top[T_ADDED], T_ADDED},
                               {m.top[T_POST], T_POST},
                               {m.top[T_PADDING], T_PADDING}};
    int count = sizeof changes / sizeof *changes;
    const char *at = json;
    char *text;
    size_t bytes;
    FILE *f = mem_stream_open(&text, &bytes);
    qsort(changes, (size_t)count, sizeof *changes, in_order);
    for (int i = 0; i < count && !e->set; i++) {
        if (!changes[i].range.n)
            continue;
        fwrite(at, 1, (size_t)(changes[i].range.s - at), f);
        write_change(&c, f, &changes[i]);
        at = changes[i].range.s + changes[i].range.n;
    }
    fwrite(at, 1, (size_t)(json + n - at), f);
    mem_stream_close(f);
    *n_out = (int64_t)bytes;
    if (!e->set)
        return text;
    free(text);
    return NULL;
}
