/* BOS of rows and windows: see bos.h. */
#include "bos.h"

#include <stdlib.h>
#include <string.h>

int row_bos_check(const char *rule, struct err *e)
{
    if (!strcmp(rule, "auto") || !strcmp(rule, "yes") || !strcmp(rule, "no"))
        return 0;
    return err_set(e, "--row-bos must be auto, yes or no, not \"%s\"", rule);
}

/* An id that is not a u32 becomes the largest one, which no vocabulary has. */
static void add(struct row_bos *b, const json_t *id)
{
    json_int_t v = json_is_integer(id) ? json_integer_value(id) : -1;
    b->ids[b->n++] = v < 0 || v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static void take(struct row_bos *b, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list) && b->n < BOS_MAX; i++)
        add(b, json_array_get(list, i));
}

int row_bos_of_stream(struct row_bos *b, const json_t *head, const char *rule,
                      const struct model_spec *h, struct err *e)
{
    const json_t *bos = json_object_get(head, "bos"), *row = json_object_get(bos, "row");
    const char *how = json_string_value(json_object_get(bos, "rule"));
    *b = (struct row_bos){0};
    if (!strcmp(rule, "no"))
        return 0;
    if (!strcmp(rule, "auto")) {
        if (row)
            take(b, row);
        else if (how && !strcmp(how, "auto")) /* a stream whose header has no rule for rows */
            take(b, json_object_get(bos, "begin"));
    } else {
        take(b, json_object_get(bos, "begin"));
        if (!b->n)
            take(b, row);
        const json_t *id = json_object_get(h->config, "bos_token_id");
        if (!b->n && !json_is_integer(id))
            return err_set(e, "--row-bos yes: neither the tokens nor the model name a BOS token");
        if (!b->n)
            add(b, id);
    }
    for (int64_t i = 0; i < b->n; i++)
        if (b->ids[i] >= h->vocab_size)
            return err_set(e, "BOS token %u is outside the model's vocabulary of %lld tokens",
                           b->ids[i], (long long)h->vocab_size);
    return 0;
}

int row_bos_check_join(const json_t *head, const char *path, struct err *e)
{
    const json_t *row = json_object_get(json_object_get(head, "bos"), "row");
    if (!json_object_get(head, "seq_length") || !json_array_size(row))
        return 0;
    return err_set(e,
                   "%s: its rows begin with an added BOS token, so --context cannot join them; "
                   "tokenize without --seq-length or with --row-bos no",
                   path);
}

int row_bos_present(const struct row_bos *b, const uint32_t *ids, int64_t n)
{
    return n >= b->n && !memcmp(b->ids, ids, (size_t)b->n * sizeof *ids);
}

int64_t row_bos_cut(const struct row_bos *b, struct ids *text, int64_t N, int64_t most)
{
    struct ids rows = {0};
    int64_t at = 0, n_rows = 0;
    for (;; n_rows++) {
        int64_t front = row_bos_present(b, text->id + at, text->n - at) ? 0 : b->n;
        if (at + N - front > text->n || (most && n_rows == most))
            break;
        for (int64_t i = 0; i < front; i++)
            ids_push(&rows, b->ids[i], 0);
        for (int64_t end = at + N - front; at < end; at++)
            ids_push(&rows, text->id[at], text->bytes[at]);
    }
    int64_t left = most && n_rows == most ? 0 : text->n - at;
    free(text->id);
    free(text->bytes);
    *text = rows;
    return left;
}
