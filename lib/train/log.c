/* The log of a training run: see log.h. */
#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/file_out.h"
#include "../base/mem.h"

struct train_log {
    struct file_out file;
    int is_file; /* regular: the beginning of a line that failed can be cut off */
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

/* What train_record_json begins with. An empty file may become a log, and so may a beginning that a
 * full disk has cut. */
static int is_log(FILE *f)
{
    static const char begin[] = "{\"step\":";
    char text[sizeof begin - 1];
    size_t n = fread(text, 1, sizeof text, f);
    rewind(f);
    return !memcmp(text, begin, n);
}

/* The log that is there, NULL where there is none: 0 or -1. */
static int log_find(const char *path, FILE **f, struct err *e)
{
    struct stat s;
    *f = NULL;
    if (!strcmp(path, "-") || stat(path, &s) || !S_ISREG(s.st_mode))
        return 0;
    if (!(*f = fopen(path, "re")))
        return err_set(e, "cannot read %s:", path);
    if (is_log(*f))
        return 0;
    fclose(*f);
    *f = NULL;
    return err_set(e, "--log %s: this file is not the log of a training run and is not overwritten",
                   path);
}

static int is_same_file(const char *path, const char *other)
{
    struct stat a, b;
    if (stat(path, &a) || stat(other, &b))
        return !strcmp(path, other);
    return S_ISREG(a.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int train_log_check(const char *path, const char *model, struct err *e)
{
    FILE *f;
    if (is_same_file(path, model))
        return err_set(e, "--log %s and the model are the same file", path);
    int failed = log_find(path, &f, e);
    if (f)
        fclose(f);
    return failed;
}

/* Appends, so that a log can be cut back to whole lines at any time. */
static int log_create(struct train_log *l, const char *path, struct err *e)
{
    struct stat s;
    if (!strcmp(path, "-"))
        return file_create(&l->file, path, e);
    l->file = (struct file_out){.name = mem_string(path)};
    l->file.fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (l->file.fd < 0 || fstat(l->file.fd, &s))
        return err_set(e, "cannot write %s:", path);
    l->is_file = S_ISREG(s.st_mode);
    return 0;
}

struct train_log *train_log_open(const char *path, int64_t keep, struct err *e)
{
    FILE *before;
    if (log_find(path, &before, e))
        return NULL;
    long kept = before && keep > 0 ? log_kept(before, keep) : 0;
    if (before)
        fclose(before);
    struct train_log *l = mem_alloc(sizeof *l);
    if (!log_create(l, path, e) && (!l->is_file || !ftruncate(l->file.fd, kept)))
        return l;
    err_set(e, "cannot truncate %s:", path);
    file_abandon(&l->file);
    free(l);
    return NULL;
}

int train_log_line(struct train_log *l, const json_t *line, struct err *e)
{
    char *text = json_dumps(line, JSON_COMPACT);
    text = mem_append(mem_must(text), "\n");
    off_t end = lseek(l->file.fd, 0, SEEK_END);
    int failed = file_append(&l->file, text, (int64_t)strlen(text), e);
    free(text);
    if (failed && l->is_file && ftruncate(l->file.fd, end))
        l->is_file = 0;
    return failed;
}

int train_log_close(struct train_log *l, struct err *e)
{
    int failed = file_publish(&l->file, e);
    free(l);
    return failed;
}
