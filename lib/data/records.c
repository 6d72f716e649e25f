/* The records of a token stream: see records.h. */
#include "records.h"

#include <stdio.h>
#include <string.h>

const struct token_record_row token_records[TOKEN_RECORDS] = {[TOKEN_IDS] = {"ids", DT_U32},
                                                              [TOKEN_BYTES] = {"bytes", DT_U32},
                                                              [TOKEN_FLAGS] = {"flags", DT_U8}};

int token_record_of(const char *name)
{
    for (int i = 0; i < TOKEN_RECORDS; i++) {
        size_t n = strlen(token_records[i].name);
        if (!strncmp(name, token_records[i].name, n) && (!name[n] || name[n] == '.'))
            return i;
    }
    return -1;
}

static int shape_check(const struct tensor *t, enum dtype dtype, int rows, const char *path,
                       struct err *e)
{
    if (t->dtype == dtype && t->ndim == (rows ? 2 : 1) && !(rows && t->shape[0] && !t->shape[1]))
        return 0;
    return err_set(e, "%s: record %s is not %s %s", path, t->name, dtype_name(dtype),
                   rows ? "[sequences, tokens]" : "[tokens]");
}

static int place_check(const struct token_order *o, enum token_record which, int rows,
                       const struct tensor *t, const char *path, struct err *e)
{
    char document[TENSOR_NAME];
    snprintf(document, sizeof document, "%s.%lld", token_records[which].name,
             (long long)(o->records - (which != TOKEN_IDS)));
    if (rows ? o->records && !o->rows : o->rows || strcmp(t->name, document))
        return err_set(e,
                       "%s: record %s is out of place: rows and documents must not be mixed, and "
                       "documents are numbered from 0",
                       path, t->name);
    if (rows && which == TOKEN_IDS && o->records)
        return err_set(e, "%s: a second record %s", path, t->name);
    return 0;
}

int token_record_take(struct token_order *o, enum token_record which, const struct tensor *t,
                      const char *path, struct err *e)
{
    int rows = !strchr(t->name, '.');
    if (shape_check(t, token_records[which].dtype, rows, path, e) ||
        place_check(o, which, rows, t, path, e))
        return -1;
    if (which == TOKEN_IDS) {
        o->records++;
        o->rows = rows;
        memcpy(o->shape, t->shape, sizeof o->shape);
    } else if (!o->records || which <= o->last || memcmp(o->shape, t->shape, sizeof o->shape)) {
        return err_set(e, "%s: record %s does not match the ids before it", path, t->name);
    }
    o->last = which;
    return 0;
}
