/* What probes have found, as tables: see probe.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "probe.h"

struct block {
    int64_t first, n;
    double value, harm;
};

static int by_harm(const void *a, const void *b)
{
    const struct block *x = a, *y = b;
    if (x->harm != y->harm)
        return x->harm < y->harm ? -1 : 1;
    int64_t later = x->n == y->n ? x->first - y->first : x->n - y->n;
    return (later > 0) - (later < 0);
}

static void print_head(FILE *f, enum probe_by by, double base)
{
    fprintf(f, "%-16s %12s %12s\n%-16s %12.5f\n", "layers removed", probe_ways[by].unit,
            probe_ways[by].harm > 0 ? "increase" : "decrease", "none", base);
}

static void print_row(FILE *f, char *name, double value, double harm)
{
    fprintf(f, "%-16s %12.5f %12.5f\n", name, value, harm);
    free(name);
}

static char *block_name(const struct block *b)
{
    int64_t last = b->first + b->n - 1;
    return b->n == 1 ? mem_format("%" PRId64, last)
                     : mem_format("%" PRId64 "-%" PRId64, b->first, last);
}

void probe_print(FILE *f, const struct probe *p)
{
    struct block *all = mem_alloc((size_t)(p->longest * p->layers) * sizeof *all);
    int64_t count = 0;
    for (int64_t n = p->shortest; n <= p->longest; n++)
        for (int64_t i = 0; i + n <= p->layers; i++) {
            double value = p->without[(n - 1) * p->layers + i];
            all[count++] = (struct block){i, n, value, probe_harm(p->by, value, p->base)};
        }
    qsort(all, (size_t)count, sizeof *all, by_harm);
    print_head(f, p->by, p->base);
    for (int64_t i = 0; i < count; i++)
        print_row(f, block_name(&all[i]), all[i].value, all[i].harm);
    free(all);
}

void greedy_print(FILE *f, const struct greedy *g)
{
    print_head(f, g->by, g->base);
    for (int64_t r = 0; r < g->rounds; r++) {
        char *name = mem_string(r ? "and" : "");
        for (int64_t i = 0; i < g->length; i++)
            name = mem_append(name, "%s%" PRId64, *name ? " " : "", g->removed[r * g->length + i]);
        print_row(f, name, g->after[r], probe_harm(g->by, g->after[r], g->base));
    }
}
