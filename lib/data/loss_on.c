/* Which tokens count: see loss_on.h. */
#include "loss_on.h"

#include <stdio.h>
#include <string.h>

int loss_on_check(const char *rule, struct err *e)
{
    if (!strcmp(rule, "completion") || !strcmp(rule, "all"))
        return 0;
    return err_set(e, "--loss-on must be completion or all, not \"%s\"", rule);
}

void loss_on_apply(const char *rule, struct tokens *t)
{
    if (!strcmp(rule, "all"))
        t->flags &= ~(unsigned)TOKEN_UNCOUNTED;
}

void loss_on_add(struct loss_on_counts *c, const struct windows *w)
{
    c->counted += w->predictions;
    c->total += w->from->total;
    c->left_out += w->left_out;
    c->partly |= (w->from->flags & TOKEN_UNCOUNTED) != 0;
}

void loss_on_add_sources(struct loss_on_counts *c, const struct data_sources *s)
{
    for (int i = 0; i < s->n; i++)
        for (int64_t k = 0; k < s->all[i].n_streams; k++)
            loss_on_add(c, &s->all[i].streams[k].windows);
}

int loss_on_note(char text[200], const struct loss_on_counts *c)
{
    if (!c->partly)
        return 0;
    int used = snprintf(text, 200, "%lld of %lld tokens count in the loss (--loss-on completion)",
                        (long long)c->counted, (long long)c->total);
    if (c->left_out)
        snprintf(text + used, 200 - (size_t)used,
                 "; %lld in windows in which none counts are left out", (long long)c->left_out);
    return 1;
}
