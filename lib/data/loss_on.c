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

struct counts {
    int64_t counted, total, left_out; /* predictions, tokens, tokens of windows left out */
    int partly;                       /* some tokens do not count */
};

static void add(struct counts *c, const struct windows *w)
{
    c->counted += w->predictions;
    c->total += w->tokens + w->left_out;
    c->left_out += w->left_out;
    c->partly |= (w->from->flags & TOKEN_UNCOUNTED) != 0;
}

static int note(char text[200], const struct counts *c)
{
    if (!c->partly)
        return 0;
    int used = snprintf(text, 200, "%lld of %lld tokens count in the loss (--loss-on completion)",
                        (long long)c->counted, (long long)c->total);
    if (c->left_out)
        snprintf(text + used, 200 - (size_t)used,
                 "; %lld are left out, in windows where none counts", (long long)c->left_out);
    return 1;
}

int loss_on_note(char text[200], const struct windows *w)
{
    struct counts c = {0};
    add(&c, w);
    return note(text, &c);
}

int loss_on_note_sources(char text[200], const struct data_sources *s)
{
    struct counts c = {0};
    for (int i = 0; i < s->n; i++)
        for (int64_t k = 0; k < s->all[i].n_streams; k++)
            add(&c, &s->all[i].streams[k].windows);
    return note(text, &c);
}
