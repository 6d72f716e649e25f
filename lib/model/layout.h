/* How files store the canonical tensors of a model: rows of a family's .def applied to its sizes.
 *
 * A stored tensor is a concatenation of canonical ones along their rows, whole or unit by unit of
 * an axis; or each unit is stored as a tensor of its own. So every canonical tensor is a list of
 * views of stored ones, used for both reading and writing. Rows of a tensor are all its dimensions
 * but the last; a vector has rows of one column. */
#ifndef PARE_LAYOUT_H
#define PARE_LAYOUT_H

#include "spec.h"

/* Some rows of a canonical tensor [rows, cols] in a stored one. Row r of the view is row
 *   r' / group_rows * stride + offset + r' % group_rows
 * of the stored tensor, where r' is r; or with `head` > 0, where the file interleaves the two
 * halves of the first `turning` rows of every head of that many, row j of half s is at 2 j + s. */
struct view {
    int stored;
    int64_t rows, cols;
    int64_t group_rows, stride, offset;
    int64_t head, turning;
    int64_t stored_rows; /* rows of the stored tensor, seen as [rows, cols] */
    int transposed;      /* stored as [cols, block], block by block of that many rows */
    int64_t block;
};

struct layout {
    /* foreign names and shapes, in the order of the canonical tensors; dtypes of the parts (f32
     * where they differ) */
    struct tensor *stored;
    int n_stored, room;
    /* of each canonical tensor: consecutive views, all of the same number of rows */
    struct view_list {
        struct view *views;
        int n;
    } * of;
    int n_tensors;
};

/* Is there a stored tensor of that name? */
typedef int layout_has(void *user, const char *name);
/* rows: those of the family for this kind of file. Where several store the same tensor, the first
 * whose name is present is used; has NULL (writing): the first. neighbours: rows marked ~ are
 * interleaved. -1: a canonical tensor that no row stores, or parts that do not fit together. */
int layout_make(struct layout *l, const struct model_spec *h, const struct family_stored *rows,
                int neighbours, layout_has *has, void *user, struct err *e);
void layout_free(struct layout *l);

/* Stored row of row r of canonical tensor i, its view, and how many rows from it on (itself
 * included) are contiguous there. */
int64_t layout_row(const struct layout *l, int i, int64_t r, const struct view **v, int64_t *run);
/* Of a transposed view: where column c of stored row `row` is among the tensor's values; those of
 * the next rows of the same block follow it. */
static inline int64_t layout_transposed_at(const struct view *v, int64_t row, int64_t c)
{
    return row / v->block * v->block * v->cols + c * v->block + row % v->block;
}
/* columns of canonical tensor i; its first view */
static inline const struct view *layout_view(const struct layout *l, int i)
{
    return l->of[i].views;
}

#endif
