/* See vocab.h. The ids of a cut vocabulary are found in the uncut one by the texts of their tokens,
 * so nothing but the two tokenizers is needed, wherever the models have been since. */
#include "vocab.h"

#include <stdlib.h>
#include <string.h>

#include "../tokenizer/tokenizer.h"
#include "tool.h"

/* NULL: the model has none, or one that is not supported. */
static struct tokenizer *tokenizer_of(struct model_in *in)
{
    struct err e = {0};
    int64_t n;
    const char *json = model_in_file(in, "tokenizer.json", &n);
    return json ? tokenizer_open(json, n, &e) : NULL;
}

/* The ids in `whole` of all tokens of `part`, ascending; NULL: it is not a part of it. */
static int64_t *ids_in(const struct tokenizer *part, const struct tokenizer *whole, int64_t n,
                       int64_t most)
{
    int64_t *ids = mem_alloc((size_t)n * sizeof *ids);
    int is_part = tokenizer_vocab_size(part) == n && tokenizer_find_all(part, whole, ids) == n;
    for (int64_t i = 0; i < n && is_part; i++)
        is_part = ids[i] < most && (!i || ids[i] > ids[i - 1]);
    if (is_part)
        return ids;
    free(ids);
    return NULL;
}

struct model_in *tool_model_among(struct tool *t, struct model_in *in, const char *name,
                                  struct model_in *to, const char *to_name)
{
    struct model_spec *whole = model_in_spec(in);
    const struct model_spec *part = model_in_spec(to);
    if (part->vocab_size >= whole->vocab_size || !strcmp(part->tokenizer_id, whole->tokenizer_id))
        return in;
    struct tokenizer *a = tokenizer_of(to), *b = a ? tokenizer_of(in) : NULL;
    int64_t n = part->vocab_size, *ids = b ? ids_in(a, b, n, whole->vocab_size) : NULL;
    if (ids) {
        tool_note(t, "of the %lld tokens of %s, only the %lld that %s has are used",
                  (long long)whole->vocab_size, name, (long long)n, to_name);
        in = model_take_rows(in, ids, n);
        memcpy(model_in_spec(in)->tokenizer_id, part->tokenizer_id, sizeof part->tokenizer_id);
    }
    tokenizer_close(a);
    tokenizer_close(b);
    free(ids);
    return in;
}
