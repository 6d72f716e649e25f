/* Encoding and decoding: see tokenizer.h, and tokenizer_private.h for the stages of a text. Each
 * call handles its whole text; a tokenizer holds scratch memory, so it serves one thread at a
 * time. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_private.h"

struct tokenizer *tokenizer_open(const char *json, int64_t bytes, struct err *e)
{
    struct tokenizer *t = mem_alloc(sizeof *t);
    if (!tokenizer_read(t, json, bytes, e))
        return t;
    tokenizer_close(t);
    return NULL;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    bpe_close(t->bpe);
    unigram_close(t->unigram);
    for (int i = 0; i < t->n_added; i++)
        free(t->added[i].text);
    for (int i = 0; i < t->normal.count; i++) {
        free(t->normal.tokens[i]->text);
        free(t->normal.tokens[i]);
    }
    free(t->added);
    added_set_free(&t->raw);
    added_set_free(&t->normal);
    norm_free(&t->norm);
    split_free(&t->split);
    decoder_free(t->decoder);
    free(t);
}

int64_t tokenizer_vocab_size(const struct tokenizer *t) { return t->size; }
int64_t tokenizer_dropped(const struct tokenizer *t) { return t->dropped; }

int64_t tokenizer_id(const struct tokenizer *t, const char *token)
{
    for (int i = 0; i < t->n_added; i++)
        if (!strcmp(t->added[i].text, token))
            return t->added[i].id;
    return bpe_find(t->bpe, token, (int64_t)strlen(token));
}

int tokenizer_special(const struct tokenizer *t, int which, uint32_t *ids, int max)
{
    int n = t->special[which].n < max ? t->special[which].n : max;
    memcpy(ids, t->special[which].ids, (size_t)n * sizeof *ids);
    return n;
}

/* ---- encoding */

struct encoding {
    struct tokenizer *t;
    struct ids *out;
};

static int encode_piece(void *context, struct text piece, struct err *e)
{
    struct encoding *c = context;
    if (c->t->unigram)
        return unigram_encode(c->t->unigram, c->t->bpe, piece, c->out, e);
    return bpe_encode(c->t->bpe, piece, c->out, e);
}

typedef int part_use(struct encoding *c, struct text part, struct err *e);

/* Cuts the tokens of `set` out of a text; the text between them goes to `rest`. White space
 * consumed by rstrip may itself hold a token, which is then output too, covering no bytes, as in
 * the tokenizers library (which may also repeat white space then; that is not reproduced), unless
 * it is stripped on its left, too: then nothing is left of it. */
static int encode_around(struct encoding *c, struct added_set *set, struct text t, part_use *rest,
                         struct err *e)
{
    struct added_match m;
    int64_t at = 0, from = 0;
    added_begin(set);
    while (added_find(set, t, &at, from, &m)) {
        if (m.token->lstrip && m.end <= from)
            continue;
        if (m.start > from && rest(c, text_part(t, from, m.start), e))
            return -1;
        if (m.start < from)
            m.start = from < m.end ? from : m.end;
        ids_push(c->out, m.token->id, (uint32_t)text_weight(text_part(t, m.start, m.end)));
        from = from > m.end ? from : m.end;
    }
    return from < t.n ? rest(c, text_part(t, from, t.n), e) : 0;
}

static int encode_split(struct encoding *c, struct text part, struct err *e)
{
    return split_apply(&c->t->split, part, encode_piece, c, e);
}

static int encode_normal(struct encoding *c, struct text part, struct err *e)
{
    if (norm_apply(&c->t->norm, &part, e))
        return -1;
    return encode_around(c, &c->t->normal, part, encode_split, e);
}

int64_t tokenizer_encode(struct tokenizer *t, const char *text, int64_t n, struct ids *out,
                         struct err *e)
{
    struct encoding c = {t, out};
    int64_t before = out->n, covered = 0;
    if (n > 0 && encode_around(&c, &t->raw, (struct text){text, n, NULL, 1}, encode_normal, e))
        return -1;
    for (int64_t i = before; i < out->n; i++)
        covered += out->bytes[i];
    t->dropped += n - covered;
    return out->n - before;
}

int64_t tokenizer_covers(struct tokenizer *t, const char *text, int64_t n, struct err *e)
{
    struct ids ids = {0};
    int64_t before = t->dropped, failed = tokenizer_encode(t, text, n, &ids, e) < 0,
            lost = t->dropped - before;
    t->dropped = before;
    ids_free(&ids);
    return failed ? -1 : n - lost;
}

/* ---- decoding */

const struct added_token *added_by_id(const struct tokenizer *t, uint32_t id)
{
    int low = 0, high = t->n_added;
    while (low < high) {
        int middle = (low + high) / 2;
        if (t->added[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < t->n_added && t->added[low].id == id ? &t->added[low] : NULL;
}

char *tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, int64_t n_ids,
                       int skip_special, int64_t *n)
{
    struct piece *pieces = mem_alloc((size_t)(n_ids + 1) * sizeof *pieces);
    int64_t count = 0;
    for (int64_t i = 0; i < n_ids; i++) {
        const struct added_token *a = added_by_id(t, ids[i]);
        struct piece p = {0};
        if (a)
            p = (struct piece){a->text, a->n};
        else
            p.s = bpe_text(t->bpe, ids[i], &p.n);
        if (p.s && !(skip_special && a && a->special))
            pieces[count++] = p;
    }
    char *text = decoder_apply(t->decoder, pieces, count, n);
    free(pieces);
    return text;
}
