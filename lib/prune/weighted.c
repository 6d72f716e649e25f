/* Sums of the columns of a model's matrices: see weighted.h. */
#include "weighted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "calibrate.h"
#include "rows.h"

/* The name of the sums of what a tensor reads; "": it is not a matrix that reads channels. 1: its
 * rows read them, as in the last matrices of experts, which lie transposed. */
static int input_name(const struct model_spec *h, const struct tensor *t, char name[64])
{
    struct tensor_parts parts = tensor_take_apart(t->name);
    const char *head = h->tie_word_embeddings ? "embed_tokens" : "lm_head";
    int by_row = 0;
    *name = 0;
    if (t->ndim != 2)
        return 0;
    if (parts.layer < 0 && !strcmp(parts.stem, head))
        snprintf(name, 64, "hidden.final");
    for (const struct family_line *l = h->family->block; parts.layer >= 0 && l->out; l++)
        if ((l->op == OP_linear || l->op == OP_experts) && !strcmp(l->weight, parts.stem))
            calibrate_input_name(h, l, parts.layer, name);
        else if (l->op == OP_mixture && !strcmp(l->weight, parts.stem))
            by_row = snprintf(name, 64, "%s.%d", tap_rule_of(AXIS_N)->inputs, (int)parts.layer);
    return by_row > 0;
}

static struct column_sum *find(const struct column_sums *c, const char *name)
{
    for (int64_t i = 0; i < c->n; i++)
        if (!strcmp(c->list[i].name, name))
            return &c->list[i];
    return NULL;
}

static struct column_sum *find_or_add(struct column_sums *c, const char *name, int64_t n)
{
    struct column_sum *s = find(c, name);
    if (s)
        return s;
    c->list = mem_grow(c->list, (size_t)(c->n + 1) * sizeof *c->list);
    s = &c->list[c->n++];
    *s = (struct column_sum){.n = n, .of = mem_alloc((size_t)n * sizeof *s->of)};
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* Sums of the columns, or of the rows. */
struct reading {
    double *sums;
    int by_row;
};

static void add_row(void *user, int64_t row, const float *x, int64_t cols)
{
    const struct reading *r = user;
    for (int64_t i = 0; r->sums && i < cols; i++)
        r->sums[r->by_row ? row : i] += fabs((double)x[i]);
}

static int read_tensor(struct column_sums *c, struct model_in *in, const struct tensor *t,
                       struct err *e)
{
    char name[64];
    int64_t cols = t->shape[t->ndim - 1], rows = t->ndim == 2 ? t->shape[0] : 1;
    struct reading r = {.by_row = input_name(model_in_spec(in), t, name)};
    int64_t n = r.by_row ? rows : cols;
    struct column_sum *s = *name ? find_or_add(c, name, n) : NULL;
    r.sums = s ? s->of : NULL;
    if (rows_read(in, t, rows, cols, add_row, &r))
        return -1;
    for (int64_t i = 0; s && i < n; i++)
        if (!isfinite(s->of[i]))
            return err_set(e, "the model has weights that are not finite, in %s", t->name);
    return 0;
}

int column_sums_read(struct column_sums *c, struct model_in *in, struct err *e)
{
    struct tensor t;
    int more;
    *c = (struct column_sums){0};
    model_digest(in);
    while ((more = model_next(in, &t)) > 0)
        if (read_tensor(c, in, &t, e))
            return -1;
    return more;
}

void column_sums_weigh(const struct column_sums *c, const char *name, double *x, int64_t n)
{
    const struct column_sum *s = find(c, name);
    for (int64_t i = 0; i < n; i++)
        x[i] *= s && s->n == n ? s->of[i] : 0;
}

void column_sums_free(struct column_sums *c)
{
    for (int64_t i = 0; i < c->n; i++)
        free(c->list[i].of);
    free(c->list);
    *c = (struct column_sums){0};
}
