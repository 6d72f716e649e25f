/* Which added token is the longest that begins at a place of a text. The tokens, read backwards,
 * are the paths of an automaton (Aho and Corasick 1975) that runs over the text from its end: where
 * it has read a whole token, that token begins. So the time is linear in the text, whatever the
 * tokens have in common. The text is taken in blocks, which bounds the memory. */
#include <stdlib.h>

#include "../base/minmax.h"
#include "tokenizer_private.h"

enum { ADDED_MOST = 4 << 20 }; /* bytes of all tokens together */

struct added_node {
    int32_t child, fail; /* its first child; the node of its longest proper end */
    int32_t token;       /* the longest that ends here, -1 none */
    uint16_t children;   /* side by side, by byte */
    unsigned char byte;  /* by which its parent leads here */
};

/* The k-th byte from the end. */
static unsigned char byte_back(const struct added_token *a, int64_t k)
{
    return (unsigned char)a->text[a->n - 1 - k];
}

/* Backwards; equal ones as the library takes them. */
static int by_end(const void *a, const void *b)
{
    const struct added_token *x = *(struct added_token *const *)a,
                             *y = *(struct added_token *const *)b;
    for (int64_t k = 0; k < x->n && k < y->n; k++)
        if (byte_back(x, k) != byte_back(y, k))
            return byte_back(x, k) - byte_back(y, k);
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

/* -1: none */
static int32_t child_of(const struct added_node *nodes, int32_t parent, unsigned char byte)
{
    int32_t low = nodes[parent].child, high = low + nodes[parent].children;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (nodes[middle].byte < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < nodes[parent].child + nodes[parent].children && nodes[low].byte == byte ? low : -1;
}

static int32_t step(const struct added_node *nodes, int32_t at, unsigned char byte)
{
    int32_t child;
    while ((child = child_of(nodes, at, byte)) < 0 && at)
        at = nodes[at].fail;
    return child < 0 ? 0 : child;
}

/* The tokens [low, high) of the sorted list go through a node of this depth. */
struct branch {
    int32_t low, high, depth;
};

/* Adds the children of node v, of which there may be n nodes so far. Returns their new number. */
static int32_t add_children(struct added_set *set, struct branch *branches, int32_t v, int32_t n)
{
    struct added_node *nodes = set->nodes;
    const struct branch *b = &branches[v];
    int32_t i = b->low;
    nodes[v].token = v ? nodes[nodes[v].fail].token : -1;
    if (i < b->high && set->tokens[i]->n == b->depth)
        nodes[v].token = i;
    while (i < b->high && set->tokens[i]->n == b->depth)
        i++;
    nodes[v].child = n;
    for (int32_t first = i; i < b->high; first = i) {
        unsigned char byte = byte_back(set->tokens[first], b->depth);
        while (i < b->high && byte_back(set->tokens[i], b->depth) == byte)
            i++;
        branches[n] = (struct branch){first, i, b->depth + 1};
        nodes[n++] = (struct added_node){
            .byte = byte, .token = -1, .fail = v ? step(nodes, nodes[v].fail, byte) : 0};
        nodes[v].children++;
    }
    return n;
}

int added_set_index(struct added_set *set, struct err *e)
{
    int64_t total = 0;
    if (!set->count)
        return 0;
    qsort(set->tokens, (size_t)set->count, sizeof *set->tokens, by_end);
    for (int i = 0; i < set->count; i++) {
        total += set->tokens[i]->n;
        set->longest = max64(set->longest, set->tokens[i]->n);
        set->is_last[byte_back(set->tokens[i], 0)] = 1;
    }
    if (total > ADDED_MOST)
        return err_set(e, "the added tokens of the tokenizer have %lld bytes; at most %d are read",
                       (long long)total, ADDED_MOST);
    size_t nodes = (size_t)total + 1;
    set->nodes = mem_alloc(nodes * sizeof *set->nodes);
    struct branch *branches = mem_alloc(nodes * sizeof *branches);
    branches[0] = (struct branch){0, set->count, 0};
    for (int32_t v = 0, n = 1; v < n; v++) /* nearer ones first: their ends are known */
        n = add_children(set, branches, v, n);
    free(branches);
    set->room = max64(1 << 14, 4 * set->longest);
    set->found = mem_alloc((size_t)set->room * sizeof *set->found);
    return 0;
}

void added_set_free(struct added_set *set)
{
    free(set->tokens);
    free(set->nodes);
    free(set->found);
}

/* The tokens that begin in the next block, from `at` on. */
static void fill(struct added_set *set, struct text t, int64_t at)
{
    int64_t end = min64(t.n, at + set->room), i = min64(t.n, end + set->longest - 1);
    int32_t state = 0;
    while (i-- > at) {
        unsigned char byte = (unsigned char)t.s[i];
        state = state || set->is_last[byte] ? step(set->nodes, state, byte) : 0;
        if (i < end)
            set->found[i - at] = set->nodes[state].token;
    }
    set->from = at;
    set->to = end;
}

void added_begin(struct added_set *set) { set->from = set->to = 0; }

const struct added_token *added_next(struct added_set *set, struct text t, int64_t *at)
{
    for (int64_t i = *at; set->count && i < t.n; i++) {
        if (i >= set->to)
            fill(set, t, i);
        int32_t token = set->found[i - set->from];
        if (token >= 0) {
            *at = i;
            return set->tokens[token];
        }
    }
    *at = t.n;
    return NULL;
}
