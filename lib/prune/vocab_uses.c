/* How uses of one token count for others, those that take its place when it is lost: see vocab.h.
 */
#include "vocab.h"

#include <stdlib.h>

#include "../base/mem.h"

/* ---- merges: tokens fall apart into their parents */

struct sized {
    int64_t id, bytes;
};

static int longest_first(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* A token is longer than those that it is made of, so its count is complete when its turn comes. */
static void count_parents(const struct vocab *v, double *counts)
{
    struct sized *order = mem_alloc((size_t)v->size * sizeof *order);
    for (int64_t id = 0; id < v->size; id++) {
        order[id].id = id;
        tokenizer_text(v->tokenizer, id, &order[id].bytes);
    }
    qsort(order, (size_t)v->size, sizeof *order, longest_first);
    for (int64_t i = 0; i < v->size; i++)
        for (int side = 0; side < 2; side++) {
            int64_t parent = v->parents[order[i].id][side];
            if (parent >= 0 && parent < v->size)
                counts[parent] += counts[order[i].id];
        }
    free(order);
}

/* ---- scores: tokens are lost one by one */

/* A heap of the tokens that are still there, the next to be lost on top. A count may have grown
 * since it was noted in uses. */
struct queue {
    struct queued {
        double uses;
        int64_t id;
    } * heap;
    int64_t n;
};

static int lost_before(const struct queued *x, const struct queued *y)
{
    return x->uses != y->uses ? x->uses < y->uses : x->id > y->id;
}

static int least_first(const void *a, const void *b)
{
    return lost_before(b, a) - lost_before(a, b);
}

static struct queue queue_open(const struct vocab *v, const double *counts)
{
    struct queue q = {mem_alloc((size_t)v->size * sizeof *q.heap), 0};
    for (int64_t id = 0; id < v->size; id++)
        if (!v->stays[id])
            q.heap[q.n++] = (struct queued){counts[id], id};
    qsort(q.heap, (size_t)q.n, sizeof *q.heap, least_first); /* what is in order is a heap */
    return q;
}

static void replace_top(struct queue *q, struct queued x)
{
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < q->n; i = child) {
        if (child + 1 < q->n && lost_before(&q->heap[child + 1], &q->heap[child]))
            child++;
        if (lost_before(&x, &q->heap[child]))
            break;
        q->heap[i] = q->heap[child];
    }
    q->heap[i] = x;
}

/* The token of the fewest uses, which leaves the queue; -1: it is empty. */
static int64_t queue_take(struct queue *q, const double *counts)
{
    while (q->n) {
        struct queued top = q->heap[0];
        if (top.uses == counts[top.id]) {
            q->n--;
            replace_top(q, q->heap[q->n]);
            return top.id;
        }
        top.uses = counts[top.id];
        replace_top(q, top);
    }
    return -1;
}

static void count_pieces(const struct vocab *v, double *counts)
{
    int64_t tokens = tokenizer_vocab_size(v->tokenizer);
    uint8_t *lost = mem_alloc((size_t)(tokens > v->size ? tokens : v->size));
    struct queue q = queue_open(v, counts);
    struct ids pieces = {0};
    for (int64_t id; (id = queue_take(&q, counts)) >= 0;) {
        lost[id] = 1;
        pieces.n = 0;
        if (counts[id] > 0)
            tokenizer_pieces(v->tokenizer, id, lost, &pieces);
        for (int64_t i = 0; i < pieces.n; i++)
            if (pieces.id[i] < v->size)
                counts[pieces.id[i]] += counts[id];
    }
    ids_free(&pieces);
    free(q.heap);
    free(lost);
}

void vocab_spread(const struct vocab *v, double *counts)
{
    (tokenizer_has_merges(v->tokenizer) ? count_parents : count_pieces)(v, counts);
}
