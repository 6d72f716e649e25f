/* Views of canonical tensors in stored ones: see layout.h. The language of a row's layout:
 *   part | part | ...       canonical stems, concatenated; weights and biases follow the same row
 *   A*part, A*(part|...)    for each unit of axis A (a letter of axes.def), its rows of every part;
 *                           if the name has {N}, each unit is a tensor of its own
 *   A:part, A:(part|...)    the same in one tensor with one more dimension, the first: the units
 *   1:part, 1:(part|...)    matrices concatenated in a tensor of three dimensions, the second 1
 *   NAME!                   a name that is complete: its part is a whole one, as "scan.skip"
 *   ~part                   rope applies to its rows: they are in the order of the file's rope */
#include "layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

enum { PARTS = 8 };

/* ---- a row for one layer and suffix */

/* A row's parts in this model. */
struct placed {
    const struct family_stored *row;
    int64_t units;                      /* of the axis it is repeated for, else 1 */
    int stacked;                        /* they are a dimension of their own */
    int single;                         /* there is a dimension of 1 between rows and columns */
    int n, part[PARTS], rotates[PARTS]; /* part: index of the canonical tensor, -1: none */
};

static int64_t units_of(const struct model_spec *h, char letter, int64_t layer)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT && layer >= 0; a++)
        if (*axis_rows[a].letter == letter)
            return layer_size(&h->layers[layer], a);
    return 0;
}

static int is_complete(const struct family_stored *row) { return strchr(row->name, '!') != NULL; }

static int find_part(const struct model_spec *h, const struct family_stored *row,
                     const struct tensor_parts *p, const char *stem, int n)
{
    char name[TENSOR_NAME];
    const char *suffix = is_complete(row) ? "" : p->suffix;
    if (p->layer < 0)
        snprintf(name, sizeof name, "%.*s%s", n, stem, suffix);
    else
        snprintf(name, sizeof name, "layers.%" PRId64 ".%.*s%s", p->layer, n, stem, suffix);
    return model_spec_find(h, name);
}

static struct placed place(const struct model_spec *h, const struct family_stored *row,
                           const struct tensor_parts *p)
{
    struct placed x = {.row = row, .units = 1};
    const char *at = row->layout;
    if (at[0] && (at[1] == '*' || at[1] == ':')) {
        x.single = at[0] == '1';
        x.stacked = at[1] == ':' && !x.single;
        x.units = x.single ? 1 : units_of(h, *at, p->layer);
        at += 2;
    }
    for (size_t n; *(at += strspn(at, "(|)")); at += n) {
        x.rotates[x.n] = *at == '~';
        at += x.rotates[x.n];
        n = strcspn(at, "|)");
        x.part[x.n++] = find_part(h, row, p, at, (int)n);
    }
    return x;
}

static void foreign_name(char name[TENSOR_NAME], const char *pattern, int64_t layer, int64_t unit,
                         const char *suffix)
{
    size_t n = 0;
    for (const char *p = pattern; *p && n < TENSOR_NAME - 24; p++)
        if (*p == '!') {
            suffix = "";
        } else if (!strncmp(p, "{L}", 3) || !strncmp(p, "{N}", 3)) {
            n += (size_t)snprintf(name + n, TENSOR_NAME - n, "%" PRId64,
                                  p[1] == 'L' ? layer : unit);
            p += 2;
        } else {
            name[n++] = *p;
        }
    snprintf(name + n, TENSOR_NAME - n, "%s", suffix);
}

/* Does the row store canonical tensor i, with all its parts present and none placed yet? */
static int fits(const struct layout *l, const struct placed *x, int i)
{
    int stores = 0;
    for (int k = 0; k < x->n; k++) {
        if (x->part[k] < 0 || l->of[x->part[k]].n)
            return 0;
        stores |= x->part[k] == i;
    }
    return stores;
}

/* The row that stores tensor i; `row` is NULL if there is none. */
static struct placed choose_row(const struct layout *l, const struct model_spec *h, int i,
                                const struct tensor_parts *p, const struct family_stored *rows,
                                layout_has *has, void *user)
{
    struct placed first = {.row = NULL};
    for (; rows->name; rows++) {
        if (!strstr(rows->name, "{L}") != (p->layer < 0) || !model_spec_flag(h, rows->when))
            continue;
        struct placed x = place(h, rows, p);
        if (!fits(l, &x, i))
            continue;
        char name[TENSOR_NAME];
        foreign_name(name, rows->name, p->layer, 0, p->suffix);
        if (!has || has(user, name))
            return x;
        if (!first.row)
            first = x;
    }
    return first;
}

/* ---- views */

static int64_t rows_of(const struct tensor *t)
{
    int64_t rows = t->shape[0];
    for (int d = 1; d < t->ndim - 1; d++)
        rows *= t->shape[d];
    return rows;
}

static int64_t cols_of(const struct tensor *t) { return t->ndim > 1 ? t->shape[t->ndim - 1] : 1; }

static struct tensor *add_stored(struct layout *l)
{
    if (l->n_stored == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->stored = mem_grow(l->stored, (size_t)l->room * sizeof *l->stored);
    }
    l->stored[l->n_stored] = (struct tensor){0};
    return &l->stored[l->n_stored++];
}

static void add_view(struct view_list *list, struct view v)
{
    list->views = mem_grow(list->views, (size_t)(list->n + 1) * sizeof v);
    list->views[list->n++] = v;
}

/* Rows of one unit, over all parts. -1: the parts do not fit together. */
static int64_t rows_of_unit(const struct model_spec *h, const struct placed *x, struct err *e)
{
    int64_t sum = 0;
    for (int k = 0; k < x->n; k++) {
        const struct tensor *t = &h->tensors[x->part[k]], *first = &h->tensors[x->part[0]];
        if (t->ndim < 1 || t->ndim > 3 || t->ndim != first->ndim || cols_of(t) != cols_of(first))
            return err_set(e, "the parts of %s have different widths", x->row->name);
        if (x->units < 1 || rows_of(t) % x->units)
            return err_set(e, "tensor %s does not divide into the %" PRId64 " units of %s", t->name,
                           x->units, x->row->name);
        if (__builtin_add_overflow(sum, rows_of(t) / x->units, &sum))
            return err_set(e, "%s has too many rows", x->row->name);
    }
    return sum;
}

/* [rows, cols] with as many dimensions as its parts, or [units, rows, cols] where units are
 * stacked; one dimension less for a tensor that holds one unit of three-dimensional parts. */
static void shape_stored(struct tensor *t, const struct tensor *part, const struct placed *x,
                         int64_t units, int64_t rows, int transposed)
{
    int64_t cols = cols_of(part), unit_rows = rows / units;
    if (x->single && part->ndim == 2) {
        *t = (struct tensor){.ndim = 3, .shape = {rows, 1, cols}};
        return;
    }
    if (x->stacked && part->ndim == 1) {
        *t = (struct tensor){.ndim = 2, .shape = {units, unit_rows}};
        return;
    }
    t->ndim = x->stacked ? 3 : part->ndim;
    if (part->ndim == 3 && units == 1)
        t->ndim = 2;
    t->shape[0] = transposed ? cols : rows;
    t->shape[1] = transposed ? rows : cols;
    if (t->ndim == 3) {
        t->shape[0] = units;
        t->shape[1] = transposed ? cols : unit_rows;
        t->shape[2] = transposed ? unit_rows : cols;
    }
}

/* Adds the stored tensor of `units` units of the row, from `unit` on. */
static void add_tensor(struct layout *l, const struct model_spec *h, const struct placed *x,
                       const struct tensor_parts *p, int64_t unit, int64_t units, int64_t unit_rows)
{
    const struct tensor *first = &h->tensors[x->part[0]];
    struct tensor *t = add_stored(l);
    struct view v = {.stored = l->n_stored - 1,
                     .cols = cols_of(first),
                     .stride = unit_rows,
                     .stored_rows = units * unit_rows,
                     .transposed = x->row->transposed && first->ndim == 2};
    v.block = x->stacked ? unit_rows : v.stored_rows;
    shape_stored(t, first, x, units, v.stored_rows, v.transposed);
    foreign_name(t->name, x->row->name, p->layer, unit, p->suffix);
    t->dtype = first->dtype;
    for (int k = 0; k < x->n; k++) {
        const struct tensor *part = &h->tensors[x->part[k]];
        v.group_rows = rows_of(part) / x->units;
        v.rows = v.group_rows * units;
        v.head = v.turning = 0;
        if (x->rotates[k] && h->layers[p->layer].head_dim > 1) {
            v.head = h->layers[p->layer].head_dim;
            v.turning = h->n_ropes ? h->ropes[0].dims : v.head;
        }
        add_view(&l->of[x->part[k]], v);
        v.offset += v.group_rows;
        if (part->dtype != t->dtype)
            t->dtype = DT_F32;
    }
}

static int add_row(struct layout *l, const struct model_spec *h, const struct placed *x,
                   const struct tensor_parts *p, struct err *e)
{
    int64_t unit_rows = rows_of_unit(h, x, e), rows;
    if (e->set)
        return -1;
    if (__builtin_mul_overflow(unit_rows, x->units, &rows))
        return err_set(e, "%s has too many rows", x->row->name);
    int apart = strstr(x->row->name, "{N}") != NULL;
    for (int64_t u = 0; u < (apart ? x->units : 1); u++)
        add_tensor(l, h, x, p, u, apart ? 1 : x->units, unit_rows);
    return 0;
}

int layout_make(struct layout *l, const struct model_spec *h, const struct family_stored *rows,
                int neighbours, layout_has *has, void *user, struct err *e)
{
    *l = (struct layout){.of = mem_alloc((size_t)h->n_tensors * sizeof *l->of),
                         .n_tensors = h->n_tensors};
    for (int i = 0; i < h->n_tensors; i++) {
        if (l->of[i].n)
            continue;
        struct tensor_parts p = tensor_take_apart(h->tensors[i].name);
        struct placed x = choose_row(l, h, i, &p, rows, has, user);
        for (int k = 0; k < x.n; k++)
            x.rotates[k] &= neighbours;
        if (!x.row)
            err_set(e, "family %s does not have tensor %s", h->family->name, h->tensors[i].name);
        if (!x.row || add_row(l, h, &x, &p, e)) {
            layout_free(l);
            return -1;
        }
    }
    return 0;
}

void layout_free(struct layout *l)
{
    for (int i = 0; i < l->n_tensors; i++)
        free(l->of[i].views);
    free(l->of);
    free(l->stored);
    *l = (struct layout){0};
}

int64_t layout_row(const struct layout *l, int i, int64_t r, const struct view **view, int64_t *run)
{
    const struct view *v = &l->of[i].views[r / l->of[i].views[0].rows];
    r %= v->rows;
    *view = v;
    *run = v->group_rows - r % v->group_rows;
    if (v->head) {
        int64_t in = r % v->head, half = v->turning / 2, turns = in < v->turning;
        *run = turns ? 1 : v->head - in;
        r += turns ? in % half * 2 + in / half - in : 0;
    }
    return r / v->group_rows * v->stride + v->offset + r % v->group_rows;
}
