/* Batches of items: see choice_batches.h. */
#include "choice_batches.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"

/* ENOUGH: places of a batch that shorter items do not join, since they would be padding mostly */
enum { STEP = 8, ENOUGH = 256 };

/* Tokens behind the stem, of the longest choice. */
static int64_t tail(const struct choice_entry *q) { return q->item->longest - 1; }
static int64_t steps(const struct choice_entry *q) { return (tail(q) + STEP - 1) / STEP; }

int64_t choice_places(const struct choice_entry *q) { return q->item->n_stem + steps(q) * STEP; }

/* The larger first, or the lower index. */
static int compare(int64_t a, int64_t b, int64_t index_a, int64_t index_b)
{
    if (a != b)
        return a > b ? -1 : 1;
    return index_a < index_b ? -1 : index_a > index_b;
}

static int by_lengths(const void *a, const void *b)
{
    const struct choice_entry *x = a, *y = b;
    if (steps(x) != steps(y))
        return steps(x) > steps(y) ? -1 : 1;
    return compare(x->item->n_stem, y->item->n_stem, x->index, y->index);
}

static int by_choices(const void *a, const void *b)
{
    const struct choice_entry *x = a, *y = b;
    return compare(x->item->n, y->item->n, x->index, y->index);
}

static int by_length(const void *a, const void *b)
{
    const struct choice_row *const *x = a, *const *y = b;
    return compare((*x)->n, (*y)->n, *x - *y, 0);
}

void choice_batches_open(struct choice_batches *b, struct choices *c)
{
    size_t bytes = (size_t)c->items->n * sizeof *b->order;
    *b = (struct choice_batches){
        .items = c->items->n, .order = mem_alloc(bytes), .batch = mem_alloc(bytes)};
    for (int64_t i = 0; i < b->items; i++)
        b->order[i] = (struct choice_entry){.item = &c->all[i], .index = i};
    qsort(b->order, (size_t)b->items, sizeof *b->order, by_lengths);
}

void choice_batches_close(struct choice_batches *b)
{
    choice_batch_end(b);
    free(b->order);
    free(b->batch);
    *b = (struct choice_batches){0};
}

static void entry_begin(struct choice_entry *q, int64_t stem)
{
    q->pad = stem - q->item->n_stem;
    q->rows = mem_alloc((size_t)q->item->n * sizeof(struct choice_row *));
    for (int64_t i = 0; i < q->item->n; i++)
        q->rows[i] = &q->item->rows[i];
    qsort(q->rows, (size_t)q->item->n, sizeof(struct choice_row *), by_length);
}

/* Does an item join n others, whose stems and choices are at most so long? */
static int joins(const struct choice_entry *q, int64_t n, int64_t stem, int64_t longest,
                 int64_t together)
{
    int64_t own = q->item->n_stem + tail(q), most = stem + longest;
    if (!n)
        return 1;
    if (max64(stem, q->item->n_stem) + max64(longest, tail(q)) > together)
        return 0;
    return n * most < ENOUGH || 4 * own >= 3 * most;
}

void choice_batch_begin(struct choice_batches *b, int64_t first, int64_t room, int64_t together)
{
    int64_t longest = 0;
    b->stem = b->padded = 0;
    for (b->n = 0; b->n < room && first + b->n < b->items; b->n++) {
        const struct choice_entry *q = &b->order[first + b->n];
        if (!joins(q, b->n, b->stem, longest, together))
            break;
        b->stem = max64(b->stem, q->item->n_stem);
        longest = max64(longest, tail(q));
        b->batch[b->n] = *q;
    }
    qsort(b->batch, (size_t)b->n, sizeof *b->batch, by_choices);
    for (int64_t i = 0; i < b->n; i++) {
        entry_begin(&b->batch[i], b->stem);
        b->padded |= b->batch[i].pad > 0;
    }
}

int64_t choice_batch_end(struct choice_batches *b)
{
    int64_t tokens = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const struct choice_tokens *item = b->batch[i].item;
        tokens += item->n_stem;
        for (int64_t k = 0; k < item->n; k++)
            tokens += item->rows[k].n - 1;
        free(b->batch[i].rows);
    }
    b->n = 0;
    return tokens;
}
