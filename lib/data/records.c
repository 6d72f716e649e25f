/* The records of a token stream: see records.h. */
#include "records.h"

#include <stdio.h>
#include <string.h>

int token_record_is(const char *name, const char *stem)
{
    size_t n = strlen(stem);
    return !strncmp(name, stem, n) && (!name[n] || name[n] == '.');
}

int token_record_take(struct token_order *o, const struct tensor *t, const char *path,
                      struct err *e)
{
    char document[TENSOR_NAME];
    int is_ids = token_record_is(t->name, "ids"), rows = !strchr(t->name, '.');
    snprintf(document, sizeof document, "%s.%lld", is_ids ? "ids" : "bytes",
             (long long)(o->records - !is_ids));
    if (t->dtype != DT_U32 || t->ndim != (rows ? 2 : 1) || (rows && t->shape[0] && !t->shape[1]))
        return err_set(e, "%s: record %s is not u32 %s", path, t->name,
                       rows ? "[sequences, tokens]" : "[tokens]");
    if (rows ? o->records && !o->rows : o->rows || strcmp(t->name, document))
        return err_set(e,
                       "%s: record %s is out of place: rows and documents must not be mixed, and "
                       "documents are numbered from 0",
                       path, t->name);
    if (rows && is_ids && o->records)
        return err_set(e, "%s: a second record %s", path, t->name);
    o->records += is_ids;
    o->rows = rows;
    return 0;
}
