/* Joining token streams: see tokens.h. Rows become a single record, so the first record of every
 * input is read before anything is written; documents are renumbered and passed on one by one.
 * Other records are dropped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "batch.h"
#include "records.h"
#include "tokens.h"

struct joining {
    struct st_in *in;
    struct tensor t; /* the open record, if `more` is 1 */
    int more;
    struct token_order order;
};

int record_copy(struct st_out *out, struct st_in *in)
{
    unsigned char *block = mem_alloc(ST_BLOCK);
    int64_t n;
    int r = 0;
    while ((n = st_read(in, block, ST_BLOCK)) > 0 && !(r = st_write(out, block, n)))
        ;
    free(block);
    return n < 0 || r ? -1 : 0;
}

/* The next record of ids, bytes or flags. */
static int joining_next(struct joining *j)
{
    do
        j->more = st_next(j->in, &j->t);
    while (j->more > 0 && token_record_of(j->t.name) < 0);
    return j->more < 0 ? -1 : 0;
}

/* ---- the header */

static const char *text_of(const json_t *head, const char *key)
{
    const char *s = json_string_value(json_object_get(head, key));
    return s ? s : "";
}

/* `parts` is a set, {id: null}. */
static int part_add(json_t *parts, const json_t *part, const char *path, struct err *e)
{
    const char *id = json_string_value(part);
    if (!id || !*id)
        return 0;
    if (!digest_is(id))
        return err_set(e, "%s: damaged header: one of its parts is not a digest", path);
    if (json_object_get(parts, id))
        return err_set(e, "%s contains shard %s again; each shard counts once", path, id);
    json_object_set_new(parts, id, json_null());
    return 0;
}

static int parts_add(json_t *parts, const json_t *head, const char *path, struct err *e)
{
    const json_t *own = json_object_get(head, "parts");
    if (!json_array_size(own))
        return part_add(parts, json_object_get(head, "id"), path, e);
    for (size_t i = 0; i < json_array_size(own); i++)
        if (part_add(parts, json_array_get(own, i), path, e))
            return -1;
    return 0;
}

/* Removes the entries that another stream lacks or has with another value. */
static void meta_agree(json_t *meta, const json_t *head)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(meta, next, key, value)
        if (!json_equal(value, json_object_get(head, key)))
            json_object_del(meta, key);
}

/* Counts are added and sources concatenated if all inputs have them. */
static void meta_add(json_t *meta, const char *key, const json_t *head, int first)
{
    json_t *sum = json_object_get(meta, key), *more = json_object_get(head, key);
    if (first || !sum)
        return;
    if (json_is_integer(sum) && json_is_integer(more) &&
        json_integer_value(more) <= INT64_MAX / 2 && json_integer_value(sum) <= INT64_MAX / 2)
        json_object_set_new(meta, key,
                            json_integer(json_integer_value(sum) + json_integer_value(more)));
    else if (json_is_array(sum) && json_is_array(more)) {
        json_t *all = json_copy(sum);
        json_array_extend(all, more);
        json_object_set_new(meta, key, all);
    } else
        json_object_del(meta, key);
}

json_t *tokens_join_meta(struct st_in *const *in, int n, struct err *e)
{
    static const char *const added[] = {"documents", "tokens", "padding", "sources"};
    const size_t n_added = sizeof added / sizeof *added;
    json_t *meta = json_copy(st_head(in[0])), *sums = json_copy(meta), *parts = json_object(),
           *list = json_array();
    const char *tokenizer = "", *from = "", *id;
    json_t *unused;
    int bad = 0, packed = 0;
    for (int i = 0; i < n && !bad; i++) {
        const json_t *head = st_head(in[i]);
        packed |= json_is_true(json_object_get(head, "packed"));
        const char *own = text_of(head, "tokenizer_id");
        char checked[ST_DIGEST];
        bad = st_head_id(head, "tokenizer_id", checked, st_path(in[i]), e) ||
              data_check_tokenizers(from, tokenizer, st_path(in[i]), own, e) ||
              parts_add(parts, head, st_path(in[i]), e);
        if (*own)
            tokenizer = own, from = st_path(in[i]);
        for (size_t k = 0; k < n_added; k++)
            meta_add(sums, added[k], head, i == 0);
        meta_agree(meta, head);
    }
    for (size_t k = 0; k < n_added; k++) {
        json_object_del(meta, added[k]);
        if (json_object_get(sums, added[k]))
            json_object_set(meta, added[k], json_object_get(sums, added[k]));
    }
    json_decref(sums);
    json_object_del(meta, "pare");
    json_object_del(meta, "id");
    json_object_set_new(meta, "tokenizer_id", json_string(tokenizer));
    if (packed)
        json_object_set_new(meta, "packed", json_true());
    json_object_foreach(parts, id, unused)
        json_array_append_new(list, json_string(id));
    json_decref(parts);
    json_object_set_new(meta, "parts", list);
    if (!bad)
        return meta;
    json_decref(meta);
    return NULL;
}

/* ---- records */

static int zeros_write(struct st_out *out, int64_t n)
{
    unsigned char *block = mem_alloc(ST_BLOCK);
    int failed = 0;
    for (int64_t part; n > 0 && !failed; n -= part) {
        part = min64(n, ST_BLOCK);
        failed = st_write(out, block, part);
    }
    free(block);
    return failed;
}

static int joining_has(const struct joining *j, enum token_record which)
{
    return j->more > 0 && token_record_of(j->t.name) == (int)which;
}

/* Takes the record of a stream of rows, if it is there. */
static int rows_take(struct joining *j, const struct joining *first, enum token_record which,
                     struct err *e)
{
    const char *name = token_records[which].name;
    if (joining_has(j, which)) {
        if (token_record_take(&j->order, which, &j->t, st_path(j->in), e))
            return -1;
    } else if (which != TOKEN_FLAGS) {
        return err_set(e, "%s has no record %s, as %s does", st_path(j->in), name,
                       st_path(first->in));
    }
    if (j->order.shape[1] != first->order.shape[1])
        return err_set(e, "%s has sequences of %" PRId64 " tokens, but %s of %" PRId64,
                       st_path(j->in), j->order.shape[1], st_path(first->in),
                       first->order.shape[1]);
    return 0;
}

/* Writes a record with the rows of all; flags that a stream lacks are zeros. */
static int rows_write(struct st_out *out, struct joining *j, int n, enum token_record which,
                      struct err *e)
{
    struct tensor all = {.dtype = token_records[which].dtype, .ndim = 2};
    snprintf(all.name, sizeof all.name, "%s", token_records[which].name);
    for (int i = 0; i < n; i++) {
        if (rows_take(&j[i], &j[0], which, e))
            return -1;
        if (__builtin_add_overflow(all.shape[0], j[i].order.shape[0], &all.shape[0]))
            return err_set(e, "%s: too many sequences", st_path(j[i].in));
    }
    all.shape[1] = j[0].order.shape[1];
    if (st_record(out, &all))
        return -1;
    for (int i = 0; i < n; i++) {
        int failed = joining_has(&j[i], which)
                         ? record_copy(out, j[i].in) || joining_next(&j[i])
                         : zeros_write(out, j[i].order.shape[0] * j[i].order.shape[1]);
        if (failed)
            return -1;
    }
    return 0;
}

static int rows_join(struct st_out *out, struct joining *j, int n, struct err *e)
{
    for (int which = 0; which < TOKEN_RECORDS; which++) {
        int with = which == TOKEN_IDS;
        for (int i = 0; i < n; i++)
            with |= joining_has(&j[i], (enum token_record)which);
        if (with && rows_write(out, j, n, (enum token_record)which, e))
            return -1;
    }
    for (int i = 0; i < n; i++)
        if (j[i].more)
            return err_set(e, "%s: record %s is out of place", st_path(j[i].in), j[i].t.name);
    return 0;
}

/* All documents of one input; *count: documents written so far. with_bytes: -1 until the first
 * document is read. */
static int documents_join(struct st_out *out, struct joining *j, int64_t *count, int *with_bytes,
                          struct err *e)
{
    int64_t first = *count, n_bytes = 0;
    for (int r = 0; !r && j->more; r = joining_next(j)) {
        enum token_record which = (enum token_record)token_record_of(j->t.name);
        if (token_record_take(&j->order, which, &j->t, st_path(j->in), e))
            return -1;
        *count += which == TOKEN_IDS;
        n_bytes += which == TOKEN_BYTES;
        snprintf(j->t.name, sizeof j->t.name, "%s.%" PRId64, token_records[which].name, *count - 1);
        if (st_record(out, &j->t) || record_copy(out, j->in))
            return -1;
    }
    if (n_bytes && n_bytes != *count - first)
        return err_set(e, "%s has source bytes for some of its documents only", st_path(j->in));
    if (*count > first && *with_bytes >= 0 && *with_bytes != (n_bytes > 0))
        return err_set(e, "%s %s the source bytes of its tokens, unlike the streams before it",
                       st_path(j->in), n_bytes ? "has" : "lacks");
    if (*count > first)
        *with_bytes = n_bytes > 0;
    return j->more < 0 ? -1 : 0;
}

int tokens_join(struct st_out *out, struct st_in *const *in, int n, struct err *e)
{
    struct joining *j = mem_alloc((size_t)n * sizeof *j);
    int64_t count = 0;
    int rows = 0, with_bytes = -1, bad = 0;
    for (int i = 0; i < n && !bad; i++) {
        j[i].in = in[i];
        bad = joining_next(&j[i]);
        rows += j[i].more > 0 && !strchr(j[i].t.name, '.');
    }
    if (!bad && rows && rows < n)
        bad = err_set(e, "rows and documents cannot be joined");
    else if (!bad && rows)
        bad = rows_join(out, j, n, e);
    for (int i = 0; i < n && !bad && !rows; i++)
        bad = documents_join(out, &j[i], &count, &with_bytes, e);
    free(j);
    return bad ? -1 : 0;
}
