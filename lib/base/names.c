/* Finding names: see names.h. */
#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "mem.h"

static const char *name_of(const struct names *x, int entry)
{
    return x->first + (size_t)entry * x->stride;
}

static int by_name(const void *a, const void *b, void *names)
{
    return strcmp(name_of(names, *(const int *)a), name_of(names, *(const int *)b));
}

int names_index(struct names *x, const char *first, size_t stride, int n)
{
    *x = (struct names){first, stride, n, mem_alloc((size_t)n * sizeof *x->order)};
    for (int i = 0; i < n; i++)
        x->order[i] = i;
    if (n)
        qsort_r(x->order, (size_t)n, sizeof *x->order, by_name, x);
    for (int i = 1; i < n; i++)
        if (!by_name(&x->order[i - 1], &x->order[i], x))
            return x->order[i];
    return -1;
}

int names_find(const struct names *x, const char *name)
{
    int low = 0, high = x->n;
    while (low < high) {
        int mid = (low + high) / 2, order = strcmp(name, name_of(x, x->order[mid]));
        if (!order)
            return x->order[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return -1;
}

void names_free(struct names *x)
{
    free(x->order);
    *x = (struct names){0};
}
