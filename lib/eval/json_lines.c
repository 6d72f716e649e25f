/* Reading JSON Lines: see json_lines.h. */
#include "json_lines.h"

#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../data/data.h"

const char *json_lines_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

static int value_read(struct documents *d, const char *text, int64_t n, json_line_fn *each,
                      void *user, struct err *e)
{
    static const struct json_limits limits = {.values = 1000000, .depth = 32};
    const char *where = documents_where(d);
    if (memchr(text, 0, (size_t)n))
        return err_set(e, "%s has a NUL byte", where);
    json_t *j = json_parse_text(text, n, &limits, where, e);
    char *line = mem_format("%.*s", (int)n, text);
    int rc = j ? each(user, line, j, documents_number(d), where, e) : -1;
    json_decref(j);
    free(line);
    return rc;
}

int json_lines_read(const char *path, json_line_fn *each, void *user, char digest[ST_DIGEST],
                    struct err *e)
{
    struct documents *d = documents_open(path, NULL, DOCUMENTS_JSON, e);
    const char *text;
    int64_t n;
    int rc = 0;
    if (!d)
        return -1;
    while (!rc && documents_next(d, &text, &n) > 0)
        rc = value_read(d, text, n, each, user, e);
    documents_close(d, digest);
    return rc < 0 || e->set ? -1 : 0;
}
