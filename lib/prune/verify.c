/* The comparison of a slice with its source, by the naive forward pass: see reference.h. */
#include "reference.h"
#include "merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../data/data.h"

/* The place of an id among the n kept ones, which ascend; -1: it was cut. */
static int64_t place_of_id(const int64_t *kept, int64_t n, uint32_t id)
{
    int64_t low = 0;
    for (int64_t high = n; low < high;) {
        int64_t middle = low + (high - low) / 2;
        if (kept[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && kept[low] == id ? low : -1;
}

/* The slice's logits b beside those of the same tokens in the source's a. */
static void compare(struct verdict *v, const double *a, int64_t all, const double *b,
                    const struct kept *tokens)
{
    int64_t V = tokens->n;
    int finite = 1;
    for (int64_t i = 0; i < v->tokens * V; i++) {
        double want = a[i / V * all + tokens->index[i % V]], off = fabs(want - b[i]);
        finite &= isfinite(want) && isfinite(b[i]);
        v->largest = fabs(want) > v->largest ? fabs(want) : v->largest;
        if (off > v->difference || isnan(off)) {
            v->difference = off;
            v->token = i / V;
            v->entry = i % V;
        }
    }
    v->agrees = finite && v->difference <= 1e-9 * (1 + v->largest);
}

int slice_verify(const struct slice_plan *p, const struct model *source, const struct model *slice,
                 const uint32_t *ids, int64_t T, struct verdict *v, struct err *e)
{
    const struct kept *tokens = &p->kept[AXIS_V];
    int64_t all = source->spec.vocab_size;
    double *a = mem_alloc((size_t)(T * all) * sizeof *a),
           *b = mem_alloc((size_t)(T * tokens->n) * sizeof *b);
    uint32_t *own = mem_alloc((size_t)T * sizeof *own);
    struct model merged;
    *v = (struct verdict){.tokens = T};
    for (int64_t t = 0; t < T; t++)
        own[t] = (uint32_t)place_of_id(tokens->index, tokens->n, ids[t]);
    int bad = slice_merged_open(&merged, p, source, e) || naive_logits(&merged, p, ids, T, a, e) ||
              naive_logits(slice, NULL, own, T, b, e);
    slice_merged_close(&merged);
    if (!bad)
        compare(v, a, all, b, tokens);
    free(own);
    free(a);
    free(b);
    return bad ? -1 : 0;
}

int slice_verify_stream(const struct slice_plan *p, const struct model *source,
                        const struct model *slice, struct st_in *in, int64_t most,
                        struct verdict *v, struct err *e)
{
    struct sequences s;
    const uint32_t *ids;
    int64_t n;
    const char *kind = json_string_value(json_object_get(st_head(in), "kind"));
    if (!kind || strcmp(kind, "tokens"))
        return err_set(e, "%s is a stream of kind \"%s\", not \"tokens\"", st_path(in),
                       kind ? kind : "?");
    if (sequences_open(&s, in, most, &source->spec, e))
        return -1;
    int bad = sequences_next(&s, &ids, &n) < 0 ||
              sequences_check(&s, ids, n, source->spec.vocab_size);
    uint32_t *kept = bad ? NULL : mem_alloc((size_t)n * sizeof *kept);
    int64_t n_kept = 0;
    for (int64_t i = 0; i < n && !bad; i++)
        if (place_of_id(p->kept[AXIS_V].index, p->kept[AXIS_V].n, ids[i]) >= 0)
            kept[n_kept++] = ids[i];
    if (!bad && !n_kept)
        bad = err_set(e, "%s: no token of its first sequence stays in the vocabulary", st_path(in));
    bad = bad || slice_verify(p, source, slice, kept, n_kept, v, e);
    free(kept);
    sequences_close(&s);
    return bad ? -1 : 0;
}
