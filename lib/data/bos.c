/* BOS of documents, rows and windows: see bos.h. */
#include "bos.h"

#include <string.h>

#include "tokenizer_config.h"

/* ---- of a text that is tokenized */

/* The id of the token named `rule` or, if that is yes, of the model's BOS. */
static int64_t bos_id(const char *option, const char *rule, const struct tokenizer *t,
                      struct model_in *in, struct err *e)
{
    const char *name = strcmp(rule, "yes") ? rule : NULL;
    const json_t *id = in ? json_object_get(model_in_spec(in)->config, "bos_token_id") : NULL;
    int64_t found = -1;
    json_t *config = name ? NULL : tokenizer_config(in, e);
    if (!name)
        name = tokenizer_config_token(config, "bos_token");
    if (name)
        found = tokenizer_id(t, name);
    else if (json_is_integer(id))
        found = json_integer_value(id);
    if (found < 0 || found >= tokenizer_vocab_size(t))
        found = err_set(e, "%s %s: %s", option, rule,
                        name ? "no such token in the vocabulary"
                             : "neither tokenizer nor model names a BOS token: give its text to "
                               "--bos");
    json_decref(config);
    return e->set ? -1 : found;
}

static void take_special(struct row_bos *b, const struct tokenizer *t, int which)
{
    b->n = tokenizer_special(t, which, b->ids, SPECIAL_MAX);
}

static int take_id(struct row_bos *b, int64_t id)
{
    b->n = id >= 0;
    b->ids[0] = (uint32_t)id;
    return id < 0 ? -1 : 0;
}

int bos_resolve(struct bos *b, const char *rule, const char *row_rule, const struct tokenizer *t,
                struct model_in *in, struct err *e)
{
    int is_auto = !strcmp(rule, "auto"), none = !strcmp(rule, "no"), yes = !strcmp(rule, "yes"),
        row_auto = !strcmp(row_rule, "auto");
    *b = (struct bos){0};
    if (is_auto || yes)
        take_special(&b->begin, t, 0);
    if (is_auto)
        take_special(&b->end, t, 1);
    else if (!none && !b->begin.n && take_id(&b->begin, bos_id("--bos", rule, t, in, e)))
        return -1;
    if (!strcmp(row_rule, "no") || (row_auto && none))
        return 0;
    take_special(&b->row, t, 0);
    if (row_auto || b->row.n)
        return 0;
    return take_id(&b->row, b->begin.n ? b->begin.ids[0] : bos_id("--row-bos", "yes", t, in, e));
}

/* ---- of a token stream */

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
    for (size_t i = 0; i < json_array_size(list) && b->n < SPECIAL_MAX; i++)
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
        for (int64_t end = at + N - front; at < end; at++) {
            ids_push(&rows, text->id[at], text->bytes[at]);
            rows.flags[rows.n - 1] = text->flags[at];
        }
    }
    int64_t left = most && n_rows == most ? 0 : text->n - at;
    ids_free(text);
    *text = rows;
    return left;
}
