/* Joining streams of logits, shards of one: see logits.h. Records keep their names. */
#include <stdio.h>
#include <string.h>

#include "logits.h"
#include "records.h"

static int shards_differ(const struct logits_spec *a, const struct logits_spec *b)
{
    struct logits_spec same = *b;
    same.first = a->first;
    same.count = a->count;
    json_t *x = logits_meta(a), *y = logits_meta(&same);
    int differ = !json_equal(x, y);
    json_decref(x);
    json_decref(y);
    return differ;
}

json_t *logits_join_meta(struct st_in *const *in, int n, int any_model, struct err *e)
{
    struct logits_spec all, next;
    if (logits_meta_read(&all, st_head(in[0]), st_path(in[0]), e))
        return NULL;
    for (int i = 1; i < n; i++) {
        const char *path = st_path(in[i]), *before = st_path(in[i - 1]);
        if (logits_meta_read(&next, st_head(in[i]), path, e))
            return NULL;
        if (any_model)
            snprintf(next.model, sizeof next.model, "%s", all.model);
        if (shards_differ(&all, &next))
            return err_set(e,
                           "%s and %s are not parts of one stream: model, tokens, form or windows "
                           "differ",
                           st_path(in[0]), path),
                   NULL;
        if (next.first != all.first + all.count)
            return err_set(e,
                           "%s begins with window %lld, but %s ends before window %lld: give the "
                           "parts in their order, without gaps",
                           path, (long long)next.first, before, (long long)(all.first + all.count)),
                   NULL;
        all.count += next.count;
    }
    return logits_meta(&all);
}

int logits_record_check(const struct logits_spec *s, int64_t window, const struct tensor *t,
                        const char *path, struct err *e)
{
    struct tensor want = logits_record(s, window, t->shape[0]);
    if (!strcmp(t->name, want.name) && t->dtype == want.dtype && t->ndim == 2 &&
        t->shape[1] == want.shape[1])
        return 0;
    return err_set(e, "%s: record %s is not %s, %s [tokens, %lld]", path, t->name, want.name,
                   dtype_name(want.dtype), (long long)want.shape[1]);
}

int logits_join(struct st_out *out, struct st_in *const *in, int n, struct err *e)
{
    struct logits_spec s;
    struct tensor t;
    for (int i = 0; i < n; i++) {
        int more;
        int64_t done = 0;
        if (logits_meta_read(&s, st_head(in[i]), st_path(in[i]), e))
            return -1;
        for (; (more = st_next(in[i], &t)) > 0; done++)
            if (logits_record_check(&s, s.first + done, &t, st_path(in[i]), e) ||
                st_record(out, &t) || record_copy(out, in[i]))
                return -1;
        if (more < 0)
            return -1;
        if (done != s.count)
            return err_set(e, "%s has the logits of %lld windows, not of %lld", st_path(in[i]),
                           (long long)done, (long long)s.count);
    }
    return 0;
}
