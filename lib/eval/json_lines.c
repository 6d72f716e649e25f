/* Reading JSON Lines: see json_lines.h. */
#include "json_lines.h"

#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"

const char *json_lines_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

static int line_read(const char *path, const char *line, size_t n, int64_t number,
                     json_line_fn *each, void *user, struct err *e)
{
    static const struct json_limits limits = {.values = 1000000, .depth = 32};
    char *where = mem_format("%s: line %lld", json_lines_name(path), (long long)number);
    json_t *j = NULL;
    int rc = 0;
    if (strlen(line) < n)
        rc = err_set(e, "%s has a NUL byte", where);
    else if (line[strspn(line, " \t\r\n")]) {
        j = json_parse_text(line, (int64_t)strcspn(line, "\n"), &limits, where, e);
        rc = j ? each(user, line, j, number, where, e) : -1;
    }
    json_decref(j);
    free(where);
    return rc;
}

int json_lines_read(const char *path, json_line_fn *each, void *user, char digest[ST_DIGEST],
                    struct err *e)
{
    int from_stdin = !strcmp(path, "-"), rc = 0;
    FILE *f = from_stdin ? stdin : fopen(path, "re");
    struct digest d;
    char *line = NULL, unused[ST_DIGEST];
    size_t room = 0;
    ssize_t n;
    if (!f)
        return err_set(e, "cannot open '%s':", path);
    digest_open(&d);
    for (int64_t number = 1; !rc && (n = getline(&line, &room, f)) > 0; number++) {
        rc = line_read(path, line, (size_t)n, number, each, user, e);
        if (rc >= 0)
            digest_add(&d, line, (size_t)n);
    }
    if (ferror(f))
        rc = err_set(e, "cannot read '%s':", path);
    digest_close(&d, digest ? digest : unused);
    if (!from_stdin)
        fclose(f);
    free(line);
    return rc < 0 ? -1 : 0;
}
