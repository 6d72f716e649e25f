/* Head merging: see merge.h. */
#include "merge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

/* ---- pairs */

/* The pairs among n heads, the first of which is number `first`; order: best first, NULL: as they
 * are. */
static int add_pairs(struct slice_layer *y, const int32_t *order, int64_t first, int64_t n,
                     int64_t k, int64_t layer, struct err *e)
{
    if (n - k > k)
        return err_set(e,
                       "--merge-heads merges each removed head with one that stays: layer %" PRId64
                       " cannot keep only %" PRId64 " of %" PRId64,
                       layer, k, n);
    y->merged = mem_grow(y->merged, (size_t)(y->n_merged + n - k) * sizeof *y->merged);
    for (int64_t i = 2 * k - n; i < k; i++) {
        int64_t p = 2 * k - i - 1;
        y->merged[y->n_merged++] = (struct merged_heads){order ? order[first + i] : first + i,
                                                         order ? order[first + p] : first + p};
    }
    return 0;
}

static int plan_layer(struct slice_layer *y, const struct layer *from, const struct rank *rank,
                      int64_t layer, struct err *e)
{
    const struct kept *groups = &y->kept[AXIS_K], *heads = &y->kept[AXIS_H];
    int64_t each = from->num_attention_heads / from->num_key_value_heads;
    enum axis axis = each == 1 ? AXIS_K : AXIS_H;
    const int32_t *order = rank ? rank->order[axes_entry(axis, layer)] : NULL;
    y->merges_kv = each == 1;
    if (each == 1 && heads->n < heads->of)
        return add_pairs(y, order, 0, heads->of, heads->n, layer, e);
    for (int64_t g = 0; g < groups->n && heads->n < groups->n * each; g++)
        if (add_pairs(y, order, groups->index[g] * each, each, heads->n / groups->n, layer, e))
            return -1;
    return 0;
}

int slice_merge_plan(struct slice_plan *p, const struct model_spec *source, const struct rank *rank,
                     int outputs, struct err *e)
{
    int64_t pairs = 0;
    p->merges_outputs = outputs;
    for (int64_t l = 0; l < p->kept[AXIS_L].n; l++) {
        int64_t from = p->kept[AXIS_L].index[l];
        if (plan_layer(&p->layers[l], &source->layers[from], rank, from, e))
            return -1;
        pairs += p->layers[l].n_merged;
    }
    if (!pairs)
        return err_set(e, "--merge-heads has nothing to merge: no layer loses query heads of a "
                          "group that stays");
    return 0;
}

/* ---- values */

int slice_merges(const struct slice_plan *p, int to)
{
    struct tensor_parts t = tensor_take_apart(p->spec.tensors[to].name);
    const struct slice_layer *y = t.layer < 0 ? NULL : &p->layers[t.layer];
    if (!y || !y->n_merged)
        return 0;
    if (!strcmp(t.stem, "o_proj"))
        return p->merges_outputs && !strcmp(t.suffix, ".weight");
    return !strcmp(t.stem, "q_proj") ||
           (y->merges_kv && (!strcmp(t.stem, "k_proj") || !strcmp(t.stem, "v_proj")));
}

/* kept <- kept + (kept - removed), n values from these places on */
static void merge_values(void *values, enum dtype d, int64_t kept, int64_t removed, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        char *to = (char *)values + dtype_bytes(d, kept + i);
        float a, b;
        to_f32(&a, to, d, 1);
        to_f32(&b, (char *)values + dtype_bytes(d, removed + i), d, 1);
        a = 2 * a - b;
        from_f32(to, d, &a, 1);
    }
}

void slice_merge(const struct slice_plan *p, int to, enum dtype d, int64_t rows, int64_t cols,
                 void *values)
{
    struct tensor_parts t = tensor_take_apart(p->spec.tensors[to].name);
    const struct slice_layer *y = &p->layers[t.layer];
    int64_t width = p->spec.layers[t.layer].head_dim;
    int by_rows = rows > 1 && strcmp(t.stem, "o_proj");
    for (int64_t i = 0; i < y->n_merged; i++) {
        int64_t kept = y->merged[i].kept * width, removed = y->merged[i].removed * width;
        if (by_rows)
            merge_values(values, d, kept * cols, removed * cols, width * cols);
        for (int64_t r = 0; r < rows && !by_rows; r++)
            merge_values(values, d, r * cols + kept, r * cols + removed, width);
    }
}

/* ---- a model */

/* The dtype in which heads are merged: q8_0 is widened. */
static enum dtype merged_dtype(enum dtype d) { return d == DT_Q8_0 ? DT_F32 : d; }

static size_t merged_bytes(const struct slice_plan *p, int i, const struct param *q)
{
    int to = p->dest[i];
    return to < 0 || !q->v || !slice_merges(p, to)
               ? 0
               : (size_t)dtype_bytes(merged_dtype(q->dtype), q->rows * q->cols);
}

static void merge_param(const struct slice_plan *p, int to, struct param *q, void *values)
{
    enum dtype d = merged_dtype(q->dtype);
    int is_matrix = p->spec.tensors[to].ndim == 2;
    if (d == q->dtype)
        memcpy(values, q->v, (size_t)dtype_bytes(d, q->rows * q->cols));
    else
        to_f32(values, q->v, q->dtype, q->rows * q->cols);
    q->v = values;
    q->dtype = d;
    if (is_matrix)
        slice_merge(p, to, d, q->rows, q->cols, values);
    else
        slice_merge(p, to, d, 1, q->rows, values);
}

int slice_merged_open(struct model *merged, const struct slice_plan *p, const struct model *source,
                      struct err *e)
{
    int n = source->spec.n_tensors;
    size_t bytes = 0;
    *merged = *source;
    merged->params = NULL;
    for (int i = 0; i < n; i++)
        bytes += arena_round(merged_bytes(p, i, &source->params[i]));
    merged->weights = (struct arena){0};
    if (bytes && arena_open(&merged->weights, bytes, e))
        return -1;
    merged->params = mem_alloc((size_t)n * sizeof *merged->params);
    for (int i = 0; i < n; i++) {
        size_t room = merged_bytes(p, i, &source->params[i]);
        merged->params[i] = source->params[i];
        if (room)
            merge_param(p, p->dest[i], &merged->params[i], arena_take(&merged->weights, room));
    }
    return 0;
}

void slice_merged_close(struct model *merged)
{
    free(merged->params);
    arena_close(&merged->weights);
}
