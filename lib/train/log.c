/* The log of a training run: see checkpoint.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/mem.h"
#include "checkpoint.h"

struct train_log {
    FILE *file;
    char *path;
};

/* Length of the leading complete lines of steps up to `keep`; -1: the file cannot be read. */
static long log_kept(FILE *f, int64_t keep)
{
    char *line = NULL;
    size_t room = 0;
    long kept = 0;
    ssize_t n;
    for (; (n = getline(&line, &room, f)) > 0 && line[n - 1] == '\n'; kept += n) {
        json_t *j = json_loadb(line, (size_t)n, 0, NULL), *step = json_object_get(j, "step");
        int whole = json_is_integer(step) && json_integer_value(step) <= keep;
        json_decref(j);
        if (!whole)
            break;
    }
    free(line);
    return n < 0 && !feof(f) ? -1 : kept;
}

struct train_log *train_log_open(const char *path, int64_t keep, struct err *e)
{
    int own = strcmp(path, "-");
    FILE *f = own ? fopen(path, "a+") : stdout;
    struct stat s;
    if (!f || fstat(fileno(f), &s)) {
        err_set(e, "cannot write %s:", path);
        if (f)
            fclose(f);
        return NULL;
    }
    if (own && S_ISREG(s.st_mode)) {
        rewind(f);
        long kept = keep > 0 ? log_kept(f, keep) : 0;
        if (kept < 0 || ftruncate(fileno(f), kept)) {
            err_set(e, "cannot truncate %s:", path);
            fclose(f);
            return NULL;
        }
        fseek(f, 0, SEEK_END);
    }
    struct train_log *l = mem_alloc(sizeof *l);
    *l = (struct train_log){f, mem_string(own ? path : "standard output")};
    return l;
}

int train_log_line(struct train_log *l, const json_t *line, struct err *e)
{
    char *text = json_dumps(line, JSON_COMPACT);
    int failed = fprintf(l->file, "%s\n", text) < 0 || fflush(l->file);
    free(text);
    return failed ? err_set(e, "cannot write %s:", l->path) : 0;
}

int train_log_close(struct train_log *l, struct err *e)
{
    int failed = l->file == stdout ? fflush(stdout) : fclose(l->file);
    if (failed)
        err_set(e, "cannot write %s:", l->path);
    free(l->path);
    free(l);
    return failed ? -1 : 0;
}
