/* Encoding of items: see choices.h. */
#include "choices.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/utf8.h"
#include "../data/data.h"

struct encoder {
    struct tokenizer *t;
    struct row_bos begin; /* what the tokenizer puts before a text */
    int64_t prefix;       /* the id that a choice without a ctx follows; -1: none is known */
    int64_t most;         /* ids that the model reads of a text */
};

/* ---- the tokenizer */

/* The token under a name in tokenizer_config.json or, where there is none, in config.json; -1. */
static int64_t named_token(const struct encoder *c, const json_t *config,
                           const struct model_spec *h, const char *name)
{
    const char *text = tokenizer_config_token(config, name);
    if (text)
        return tokenizer_id(c->t, text);
    char *key = mem_format("%s_id", name);
    const json_t *id = config ? NULL : json_object_get(h->config, key);
    free(key);
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

static int encoder_open(struct encoder *c, struct model_in *in, struct err *e)
{
    const struct model_spec *h = model_in_spec(in);
    int64_t bytes;
    const char *json = model_in_file(in, "tokenizer.json", &bytes);
    *c = (struct encoder){.most = h->max_position_embeddings};
    if (!json)
        return err_set(e, "the model has no tokenizer.json to read texts with");
    c->t = tokenizer_open(json, bytes, e);
    json_t *config = c->t ? tokenizer_config(in, e) : NULL;
    if (e->set)
        return -1;
    c->begin.n = tokenizer_special(c->t, 0, c->begin.ids, SPECIAL_MAX);
    c->prefix = named_token(c, config, h, "bos_token");
    if (c->prefix < 0)
        c->prefix = named_token(c, config, h, "eos_token");
    json_decref(config);
    return 0;
}

static int encode(const struct encoder *c, const char *text, int64_t n, struct ids *out,
                  struct err *e)
{
    struct ids plain = {0};
    int failed = tokenizer_encode(c->t, text, n, &plain, e) < 0;
    int64_t front = row_bos_present(&c->begin, plain.id, plain.n) ? 0 : c->begin.n;
    for (int64_t i = 0; i < front; i++)
        ids_push(out, c->begin.ids[i], 0);
    for (int64_t i = 0; i < plain.n; i++)
        ids_push(out, plain.id[i], 0);
    ids_free(&plain);
    return failed ? -1 : 0;
}

/* ---- white space */

/* Bytes of a text, in UTF-8, without the white space at its end. */
static int64_t stripped(const char *s)
{
    int64_t n = (int64_t)strlen(s);
    while (n > 0) {
        int64_t i = n - 1;
        while (i > 0 && (s[i] & 0xc0) == 0x80)
            i--;
        if (!utf8_is_space(utf8_point(s + i, (int)(n - i))))
            break;
        n = i;
    }
    return n;
}

/* ---- a choice */

struct pair {
    struct ids ids; /* of ctx and choice */
    int64_t scored;
};

static void push_from(struct pair *p, const struct ids *from, int64_t first)
{
    for (int64_t i = first; i < from->n; i++)
        ids_push(&p->ids, from->id[i], 0);
    p->scored = max64(0, from->n - first);
}

/* After the prefix token, unless the choice begins with it. */
static int encode_alone(const struct encoder *c, const char *choice, struct pair *p, struct err *e)
{
    struct ids all = {0};
    if (c->prefix < 0)
        return err_set(e, "a choice without a ctx needs a BOS or EOS token to follow, and the "
                          "model's tokenizer names none");
    int failed = tokenizer_encode(c->t, choice, (int64_t)strlen(choice), &all, e) < 0;
    ids_push(&p->ids, (uint32_t)c->prefix, 0);
    push_from(p, &all, all.n && all.id[0] == c->prefix);
    ids_free(&all);
    return failed;
}

static int encode_after(const struct encoder *c, const char *ctx, const char *choice,
                        struct pair *p, struct err *e)
{
    char *text = mem_format("%s%s", ctx, choice);
    struct ids all = {0};
    int failed = encode(c, ctx, stripped(ctx), &p->ids, e);
    if (!failed && !p->ids.n) { /* a ctx of white space */
        failed = encode_alone(c, text, p, e);
    } else if (!failed) {
        failed = encode(c, text, (int64_t)strlen(text), &all, e);
        push_from(p, &all, p->ids.n);
    }
    ids_free(&all);
    free(text);
    return failed;
}

static int encode_pair(const struct encoder *c, const char *ctx, const char *choice, struct pair *p,
                       struct err *e)
{
    if (*ctx ? encode_after(c, ctx, choice, p, e) : encode_alone(c, choice, p, e))
        return -1;
    if (!p->scored)
        return err_set(e, "a choice adds no token to its ctx, since it joins the last one");
    if (p->scored <= c->most)
        return 0;
    return err_set(e, "a choice of %lld tokens does not fit the model's %lld positions",
                   (long long)p->scored, (long long)c->most);
}

/* ---- an item */

/* How many ids all pairs begin with, before the first one that predicts a scored token. */
static int64_t stem_length(const struct pair *p, int64_t n)
{
    int64_t stem = INT64_MAX;
    for (int64_t i = 0; i < n; i++)
        stem = min64(stem, p[i].ids.n - p[i].scored - 1);
    for (int64_t i = 1; i < n; i++) {
        int64_t k = 0;
        while (k < stem && p[i].ids.id[k] == p[0].ids.id[k])
            k++;
        stem = k;
    }
    return stem;
}

static int32_t id_of(uint32_t id) { return id > INT32_MAX ? INT32_MAX : (int32_t)id; }

static int32_t *ids_copy(const struct ids *ids, int64_t first, int64_t n)
{
    int32_t *copy = mem_alloc((size_t)(n + 1) * sizeof *copy);
    for (int64_t i = 0; i < n; i++)
        copy[i] = id_of(ids->id[first + i]);
    return copy;
}

static void rows_make(struct choices *c, struct choice_tokens *k, const struct pair *pairs)
{
    k->n_stem = stem_length(pairs, k->n);
    k->stem = ids_copy(&pairs[0].ids, 0, k->n_stem);
    k->rows = mem_alloc((size_t)k->n * sizeof *k->rows);
    c->tokens += k->n_stem;
    for (int64_t i = 0; i < k->n; i++) {
        struct choice_row *r = &k->rows[i];
        r->n = pairs[i].ids.n - k->n_stem;
        r->ids = ids_copy(&pairs[i].ids, k->n_stem, r->n);
        r->scored = pairs[i].scored;
        k->longest = max64(k->longest, r->n);
        c->tokens += r->n - 1;
    }
    c->rows += k->n;
    c->single |= k->n == 1;
}

/* Leaves the end of the ids, all that the model reads and the last one, which it predicts. */
static int pair_cut(const struct encoder *c, struct pair *p)
{
    int64_t extra = p->ids.n - (c->most + 1);
    if (extra <= 0)
        return 0;
    memmove(p->ids.id, p->ids.id + extra, (size_t)(c->most + 1) * sizeof *p->ids.id);
    p->ids.n -= extra;
    return 1;
}

static int item_encode(struct choices *c, const struct encoder *with, const struct choice_item *q,
                       const char *before, struct choice_tokens *k, struct err *e)
{
    struct pair *pairs = mem_alloc((size_t)q->n * sizeof *pairs);
    k->n = q->n;
    for (int64_t i = 0; i < q->n && !e->set; i++) {
        char *ctx = mem_format("%s%s", before, choice_ctx(q, i));
        if (!encode_pair(with, ctx, choice_text(q, i), &pairs[i], e))
            c->truncated += pair_cut(with, &pairs[i]);
        free(ctx);
    }
    if (!e->set)
        rows_make(c, k, pairs);
    for (int64_t i = 0; i < q->n; i++)
        ids_free(&pairs[i].ids);
    free(pairs);
    return e->set ? -1 : 0;
}

static int all_encode(struct choices *c, const struct encoder *with,
                      const struct choice_items *shots, int64_t n_shots, struct err *e)
{
    for (int64_t i = 0; i < c->items->n; i++) {
        const struct choice_item *q = &c->items->all[i];
        struct err why = {0};
        char *before = choice_preamble(q, shots, n_shots, &why);
        if (before)
            item_encode(c, with, q, before, &c->all[i], &why);
        free(before);
        if (why.set)
            return err_set(e, "%s: line %lld: %s", c->items->path, (long long)q->line, why.msg);
    }
    return 0;
}

struct choices *choices_open(const struct choice_items *items, const struct choice_items *shots,
                             int64_t n_shots, struct model_in *in, struct err *e)
{
    struct choices *c = mem_alloc(sizeof *c);
    struct encoder with;
    c->items = items;
    c->all = mem_alloc((size_t)items->n * sizeof *c->all);
    int failed = encoder_open(&with, in, e) || all_encode(c, &with, shots, n_shots, e);
    tokenizer_close(with.t);
    if (!failed)
        return c;
    choices_close(c);
    return NULL;
}

int64_t choices_bytes(const struct choices *c)
{
    int64_t rows = (int64_t)sizeof(struct choice_row) * c->rows,
            items = (int64_t)sizeof(struct choice_tokens) * c->items->n;
    return rows + items + (int64_t)sizeof(int32_t) * (c->tokens + 2 * c->rows + c->items->n);
}

void choices_close(struct choices *c)
{
    if (!c)
        return;
    for (int64_t i = 0; i < c->items->n; i++) {
        struct choice_tokens *k = &c->all[i];
        for (int64_t r = 0; k->rows && r < k->n; r++)
            free(k->rows[r].ids);
        free(k->rows);
        free(k->stem);
    }
    free(c->all);
    free(c);
}
