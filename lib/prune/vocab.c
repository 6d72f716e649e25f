/* Which tokens stay, which stay together, and which make a cut: see vocab.h. */
#include "vocab.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "vocab_ids.h"

/* ---- opening */

/* Does a pattern say that an added token may go? */
static int is_loose(const struct vocab *v, int64_t id, const char *pattern)
{
    int64_t n;
    const char *s = pattern ? tokenizer_text(v->tokenizer, id, &n) : NULL;
    char *text = s ? mem_format("%.*s", (int)n, s) : NULL;
    int loose = text && !fnmatch(pattern, text, 0);
    free(text);
    return loose;
}

static void read_token(struct vocab *v, int64_t id, const char *loose)
{
    uint32_t pair[2];
    enum token_kind kind = tokenizer_kind(v->tokenizer, id);
    v->tokens += kind != TOKEN_NONE;
    int may_go = kind == TOKEN_ADDED && is_loose(v, id, loose);
    v->loose += may_go;
    v->stays[id] = kind == TOKEN_NEEDED || (kind == TOKEN_ADDED && !may_go);
    if (kind != TOKEN_PLAIN || !tokenizer_parents(v->tokenizer, id, pair))
        return;
    v->parents[id][0] = pair[0];
    v->parents[id][1] = pair[1];
}

/* A token that the configuration gives a role stays; one that it suppresses need not. */
static int64_t stay(void *user, const char *name, int64_t id)
{
    struct vocab *v = user;
    if (strstr(name, "_token_id") && id >= 0 && id < v->size &&
        tokenizer_kind(v->tokenizer, id) != TOKEN_NONE)
        v->stays[id] = 1;
    return id;
}

/* Marks a token and all that it is made of, and lists those that were not marked yet; returns the
 * end of the list. */
static int64_t gather(const struct vocab *v, int64_t id, uint8_t *kept, int64_t *list, int64_t n)
{
    if (id < 0 || id >= v->size || kept[id])
        return n;
    kept[id] = 1;
    list[n++] = id;
    n = gather(v, v->parents[id][0], kept, list, n);
    return gather(v, v->parents[id][1], kept, list, n);
}

/* What stays, with all that it is made of. */
static void close_over(struct vocab *v)
{
    uint8_t *kept = mem_alloc((size_t)v->size);
    int64_t *list = mem_alloc((size_t)v->size * sizeof *list);
    for (int64_t id = 0; id < v->size; id++)
        if (v->stays[id])
            v->needed = gather(v, id, kept, list, v->needed);
    free(v->stays);
    v->stays = kept;
    free(list);
}

int vocab_open(struct vocab *v, struct model_in *in, const char *operand, const char *loose,
               struct err *e)
{
    const struct model_spec *h = model_in_spec(in);
    struct err why = {0};
    int64_t n;
    const char *json = model_in_tokenizer(in, operand, &n, e);
    *v = (struct vocab){.size = h->vocab_size};
    if (!json)
        return -1;
    if (!(v->tokenizer = tokenizer_open(json, n, &why)) || tokenizer_check_cut(v->tokenizer, &why))
        return err_set(e, "%s: %s", operand, why.msg);
    v->stays = mem_alloc((size_t)v->size);
    v->parents = mem_alloc((size_t)v->size * sizeof *v->parents);
    for (int64_t id = 0; id < v->size; id++) {
        v->parents[id][0] = v->parents[id][1] = -1;
        read_token(v, id, loose);
    }
    if (vocab_ids_visit(h->config, stay, v) || vocab_ids_visit_files(in, stay, v, e))
        return -1;
    close_over(v);
    return e->set ? -1 : 0;
}

void vocab_close(struct vocab *v)
{
    tokenizer_close(v->tokenizer);
    free(v->stays);
    free(v->parents);
    *v = (struct vocab){0};
}

int vocab_can_have(const struct vocab *v, const char *option, int64_t n, int64_t have,
                   struct err *e)
{
    if (n == have)
        return 1;
    if (!v || !v->tokenizer)
        return !err_set(e, "the vocabulary can only be cut by slice-model --vocab-size");
    if (n < v->needed)
        return !err_set(e,
                        "--%s must be at least %" PRId64 ", the added tokens, single bytes and "
                        "others that the tokenizer needs, not %" PRId64,
                        option, v->needed, n);
    if (n > v->tokens)
        return !err_set(e,
                        "--%s must be at most %" PRId64 ", the tokens of the tokenizer (or %" PRId64
                        ", the rows of the embeddings, to cut none), not %" PRId64,
                        option, v->tokens, have, n);
    return 1;
}

/* ---- choosing */

void vocab_choose(const struct vocab *v, const int32_t *order, int64_t n, int64_t *index)
{
    uint8_t *kept = mem_alloc((size_t)v->size);
    int64_t *list = mem_alloc((size_t)v->size * sizeof *list), count = v->needed;
    memcpy(kept, v->stays, (size_t)v->size);
    for (int64_t i = 0; i < v->size && count < n; i++) {
        if (tokenizer_kind(v->tokenizer, order[i]) == TOKEN_NONE)
            continue;
        int64_t more = gather(v, order[i], kept, list, 0);
        if (count + more <= n) {
            count += more;
            continue;
        }
        for (int64_t k = 0; k < more; k++)
            kept[list[k]] = 0;
    }
    for (int64_t id = 0, k = 0; id < v->size; id++)
        if (kept[id])
            index[k++] = id;
    free(kept);
    free(list);
}
