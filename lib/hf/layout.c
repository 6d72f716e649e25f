/* Views of canonical tensors in stored ones: see hf/layout.h. */
#include "layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { STEM = sizeof((struct tensor_parts *)0)->stem };

/* Steps through "q_proj|k_proj" or "K*(q_proj:GD|k_proj:D)": the next stem, 0 at the end. Starts
 * with *at = the layout. */
static int next_stem(const char **at, char stem[STEM])
{
    const char *open = strchr(*at, '(');
    const char *p = open ? open + 1 : *at;
    size_t n = strcspn(p, ":|)");
    if (!n)
        return 0;
    snprintf(stem, STEM, "%.*s", (int)n, p);
    p += strcspn(p, "|)");
    *at = p + (*p == '|');
    return 1;
}

static int layout_has(const char *layout, const char *stem)
{
    char found[STEM];
    while (next_stem(&layout, found))
        if (!strcmp(found, stem))
            return 1;
    return 0;
}

static const struct family_stored *find_row(const struct family *f, const struct tensor_parts *p)
{
    for (const struct family_stored *s = f->stored; s->name; s++)
        if (!strstr(s->name, "{L}") == (p->layer < 0) && layout_has(s->layout, p->stem))
            return s;
    return NULL;
}

static void foreign_name(char name[TENSOR_NAME], const char *pattern, int64_t layer,
                         const char *suffix)
{
    const char *mark = strstr(pattern, "{L}");
    if (mark)
        snprintf(name, TENSOR_NAME, "%.*s%" PRId64 "%s%s", (int)(mark - pattern), pattern, layer,
                 mark + 3, suffix);
    else
        snprintf(name, TENSOR_NAME, "%s%s", pattern, suffix);
}

int hf_stored_name(const struct family *f, const char *stem, char name[TENSOR_NAME])
{
    for (const struct family_stored *s = f->stored; s->name; s++)
        if (!strcmp(s->layout, stem) && !strstr(s->name, "{L}")) {
            foreign_name(name, s->name, 0, ".weight");
            return 1;
        }
    return 0;
}

static int64_t count_groups(const struct model_spec *h, const char *layout, int64_t layer)
{
    if (layer < 0 || !strchr(layout, '('))
        return 1;
    return *layout == 'K' ? h->layers[layer].num_key_value_heads
                          : h->layers[layer].num_attention_heads;
}

/* One stored tensor from the row `s`: places every part, then gives the tensor its shape. */
static int add_stored(struct hf_layout *l, const struct model_spec *h,
                      const struct family_stored *s, const struct tensor_parts *p, struct err *e)
{
    struct tensor *t = &l->stored[l->n_stored];
    int64_t groups = count_groups(h, s->layout, p->layer), per_group = 0;
    const char *at = s->layout;
    char stem[STEM], name[TENSOR_NAME];
    int first = -1, i;
    foreign_name(t->name, s->name, p->layer, p->suffix);
    while (next_stem(&at, stem)) {
        if (p->layer < 0)
            snprintf(name, sizeof name, "%s%s", stem, p->suffix);
        else
            snprintf(name, sizeof name, "layers.%" PRId64 ".%s%s", p->layer, stem, p->suffix);
        if ((i = model_spec_find(h, name)) < 0)
            return err_set(e, "%s is stored with %s, which this model does not have", t->name,
                           name);
        const struct tensor *c = &h->tensors[i];
        if (c->ndim < 1 || c->ndim > 2 || groups < 1 || c->shape[0] % groups ||
            (first >= 0 && c->ndim != h->tensors[first].ndim))
            return err_set(e, "tensor %s does not divide into the %" PRId64 " groups of %s", name,
                           groups, t->name);
        l->views[i] = (struct hf_view){.stored = l->n_stored,
                                       .rows = c->shape[0],
                                       .cols = c->ndim > 1 ? c->shape[1] : 1,
                                       .group_rows = c->shape[0] / groups,
                                       .offset = per_group,
                                       .transposed = s->transposed && c->ndim > 1};
        if (first < 0)
            first = i;
        if (l->views[i].cols != l->views[first].cols ||
            __builtin_add_overflow(per_group, l->views[i].group_rows, &per_group))
            return err_set(e, "the parts of %s have different widths", t->name);
        t->dtype = i == first || t->dtype == c->dtype ? c->dtype : DT_F32;
    }
    int64_t rows;
    if (__builtin_mul_overflow(per_group, groups, &rows))
        return err_set(e, "%s has too many rows", t->name);
    for (i = 0; i < h->n_tensors; i++)
        if (l->views[i].stored == l->n_stored) {
            l->views[i].stride = per_group;
            l->views[i].stored_rows = rows;
        }
    t->ndim = h->tensors[first].ndim;
    t->shape[0] = l->views[first].transposed ? l->views[first].cols : rows;
    t->shape[1] = l->views[first].transposed ? rows : l->views[first].cols;
    l->n_stored++;
    return 0;
}

int hf_layout_make(struct hf_layout *l, const struct model_spec *h, struct err *e)
{
    *l = (struct hf_layout){mem_alloc((size_t)h->n_tensors * sizeof *l->stored),
                            mem_alloc((size_t)h->n_tensors * sizeof *l->views), 0};
    for (int i = 0; i < h->n_tensors; i++)
        l->views[i].stored = -1;
    for (int i = 0; i < h->n_tensors; i++) {
        if (l->views[i].stored >= 0)
            continue;
        struct tensor_parts p = tensor_take_apart(h->tensors[i].name);
        const struct family_stored *s = find_row(h->family, &p);
        if (!s)
            err_set(e, "family %s has no place for tensor %s", h->family->name, h->tensors[i].name);
        if (!s || add_stored(l, h, s, &p, e)) {
            hf_layout_free(l);
            return -1;
        }
    }
    return 0;
}

void hf_layout_free(struct hf_layout *l)
{
    free(l->stored);
    free(l->views);
    *l = (struct hf_layout){0};
}

int64_t hf_view_row(const struct hf_view *v, int64_t r, int64_t *run)
{
    int64_t within = r % v->group_rows;
    *run = v->group_rows - within;
    return r / v->group_rows * v->stride + v->offset + within;
}

/* Eight columns at a time: at strides of a power of two more rows of dst would evict each other
 * from the cache. */
#define TRANSPOSE(type) \
    for (int64_t j0 = 0; j0 < m; j0 += 8) \
        for (int64_t i = 0; i < n; i++) \
            for (int64_t j = j0; j < m && j < j0 + 8; j++) \
    ((type *)dst)[j * dst_stride + i] = ((const type *)src)[i * src_stride + j]

void hf_transpose(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t n,
                  int64_t m, int64_t size)
{
    if (size == 1)
        TRANSPOSE(uint8_t);
    else if (size == 2)
        TRANSPOSE(uint16_t);
    else if (size == 4)
        TRANSPOSE(uint32_t);
    else
        TRANSPOSE(uint64_t);
}
