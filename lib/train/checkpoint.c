/* Checkpoints: see checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../base/file_kind.h"
#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/unfinished.h"
#include "settings.h"

static char *checkpoint_path(const char *dir, int64_t step)
{
    return mem_format("%s/checkpoint-%lld.tsz", dir, (long long)step);
}

static struct tensor checkpoint_tensor(const char *name, int64_t n)
{
    struct tensor t = {.dtype = DT_F32, .ndim = 1, .shape = {n}};
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

enum { PIECE = 1 << 18 }; /* values at a time */
static const char *const checkpoint_records[] = {"weights", "m", "v"};

/* Writes one record of a checkpoint, a piece at a time: it may be in device memory. */
static int checkpoint_put(struct st_out *out, const struct checkpoint *c, const char *name,
                          const float *from, float *piece)
{
    int64_t n = c->model->n_values;
    struct tensor t = checkpoint_tensor(name, n);
    if (st_record(out, &t))
        return -1;
    for (int64_t at = 0, k; at < n; at += k) {
        k = min64(PIECE, n - at);
        exec_get(c->x, piece, from + at, (size_t)k * sizeof *piece);
        if (st_write(out, piece, k * (int64_t)sizeof *piece))
            return -1;
    }
    return 0;
}

int checkpoint_save(const char *dir, const struct checkpoint *c, const json_t *head, struct err *e)
{
    char *path = checkpoint_path(dir, c->step);
    json_t *all = json_copy((json_t *)head);
    json_object_set_new(all, "step", json_integer(c->step));
    json_object_set_new(all, "position", json_integer(c->position));
    json_object_set_new(all, "predictions", json_integer(c->predictions));
    const float *data[] = {(const float *)c->model->weights.base, c->m, c->v};
    struct st_out *out = st_create(path, 0, e); /* training state does not compress */
    int status = -1;
    if (out) {
        st_begin(out, all);
        float *piece = mem_alloc(PIECE * sizeof *piece);
        for (int i = 0; i < 3; i++)
            checkpoint_put(out, c, checkpoint_records[i], data[i], piece);
        free(piece);
        if (c->x->err.set) {
            err_set(e, "%s", c->x->err.msg);
            st_abandon(out);
        } else {
            st_end(out);
            status = st_publish(out);
        }
    }
    json_decref(all);
    free(path);
    return status;
}

/* checkpoint-STEP.tsz -> STEP; -1 for any other name. */
static int64_t checkpoint_step(const char *name)
{
    static const char prefix[] = "checkpoint-";
    const char *digits = name + sizeof prefix - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) || *digits < '0' || *digits > '9')
        return -1;
    char *end;
    errno = 0;
    long long step = strtoll(digits, &end, 10);
    return errno || strcmp(end, ".tsz") ? -1 : step;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

int64_t checkpoint_list(const char *dir, int64_t **steps, struct err *e)
{
    *steps = NULL;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? 0 : err_set(e, "cannot read directory %s:", dir);
    int64_t n = 0;
    for (struct dirent *f; (f = readdir(d));) {
        int64_t step = checkpoint_step(f->d_name);
        if (step < 0)
            continue;
        *steps = mem_grow(*steps, (size_t)(n + 1) * sizeof **steps);
        (*steps)[n++] = step;
    }
    closedir(d);
    if (n)
        qsort(*steps, (size_t)n, sizeof **steps, compare_steps);
    return n;
}

/* Somebody else's file can have the name of a checkpoint; it is not removed. */
static int is_stream(int dir, const char *name)
{
    char head[FILE_KIND_BYTES];
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, head, sizeof head);
    const struct file_kind *kind = n > 0 ? file_kind(head, n) : NULL;
    if (fd >= 0)
        close(fd);
    return kind && kind->code == FILE_STREAM;
}

void checkpoint_prune(const char *dir, int64_t oldest)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *f; (f = readdir(d));) {
        int64_t step = checkpoint_step(f->d_name);
        if (step >= 0 && step < oldest && is_stream(dirfd(d), f->d_name))
            unlinkat(dirfd(d), f->d_name, 0);
    }
    closedir(d);
    unfinished_sweep(dir, NULL);
}

static int checkpoint_integer(const json_t *head, const char *key, int64_t *value)
{
    const json_t *j = json_object_get(head, key);
    *value = json_integer_value(j);
    return json_is_integer(j) && *value >= 0 ? 0 : -1;
}

/* Reads the current record into `to`, or into the weights. */
static int checkpoint_take(struct st_in *in, struct checkpoint *c, float *to, struct err *e)
{
    float *piece = mem_alloc(PIECE * sizeof *piece);
    int64_t at = 0, bytes;
    while ((bytes = st_read(in, piece, PIECE * (int64_t)sizeof *piece)) > 0) {
        int64_t k = bytes / (int64_t)sizeof *piece;
        if (to)
            exec_put(c->x, to + at, piece, (size_t)bytes);
        else
            model_weights_put(c->model, at, piece, k);
        at += k;
    }
    free(piece);
    return c->x->err.set ? err_set(e, "%s", c->x->err.msg) : (int)bytes;
}

static int checkpoint_read(struct st_in *in, struct checkpoint *c, struct err *e)
{
    const json_t *head = st_head(in);
    if (checkpoint_integer(head, "step", &c->step) ||
        checkpoint_integer(head, "position", &c->position) ||
        checkpoint_integer(head, "predictions", &c->predictions))
        return err_set(e, "%s: step, position and predictions must be whole numbers", st_path(in));
    float *moments[] = {NULL, c->m, c->v};
    int64_t n = c->model->n_values;
    struct tensor t;
    for (int i = 0; i < 3; i++) {
        int found = st_next(in, &t);
        if (found < 0)
            return -1;
        if (!found || strcmp(t.name, checkpoint_records[i]) || t.dtype != DT_F32 || t.ndim != 1 ||
            t.shape[0] != n)
            return err_set(e, "%s: expected record %s of %lld numbers", st_path(in),
                           checkpoint_records[i], (long long)n);
        if (checkpoint_take(in, c, moments[i], e))
            return -1;
    }
    int more = st_next(in, &t);
    return more > 0 ? err_set(e, "%s has more records than a checkpoint", st_path(in)) : more;
}

/* The checkpoint of a step at its header, NULL: damaged. path: to be freed */
static struct st_in *checkpoint_open(const char *dir, int64_t step, char **path, struct err *e)
{
    *path = checkpoint_path(dir, step);
    struct st_in *in = st_open(*path, e);
    const char *kind = in ? json_string_value(json_object_get(st_head(in), "kind")) : "checkpoint";
    if (kind && !strcmp(kind, "checkpoint"))
        return in;
    err_set(e, "%s is a stream of kind \"%s\", not a checkpoint", *path, kind ? kind : "?");
    st_close(in);
    return NULL;
}

/* 1: loaded; 0: the file is damaged (e says why); -1: it belongs to another run. */
static int checkpoint_load(const char *dir, int64_t step, struct checkpoint *c, const json_t *head,
                           char note[700], struct err *e)
{
    char *path;
    struct st_in *in = checkpoint_open(dir, step, &path, e);
    int status = 0;
    if (in) {
        if (settings_check(path, st_head(in), json_object_get(head, "run"), e))
            status = -1;
        else
            status = !checkpoint_read(in, c, e);
        if (status > 0)
            settings_note(st_head(in), head, note);
        st_close(in);
    }
    free(path);
    return status;
}

int checkpoint_check(const char *dir, json_t *run, char note[200], struct err *e)
{
    int64_t *steps, n = checkpoint_list(dir, &steps, e);
    int status = n < 0 ? -1 : 0, found = 0;
    note[0] = 0;
    for (int64_t i = 0; i < n && !found; i++) {
        struct err damage = {0};
        char *path;
        struct st_in *in = checkpoint_open(dir, steps[i], &path, &damage);
        if (in) {
            found = 1;
            status = settings_follow(path, st_head(in), run, note, e);
            st_close(in);
        }
        free(path);
    }
    free(steps);
    return status;
}

int checkpoint_resume(const char *dir, struct checkpoint *c, const json_t *head, char note[700],
                      struct err *e)
{
    int64_t *steps, n = checkpoint_list(dir, &steps, e);
    int status = n < 0 ? -1 : 0;
    note[0] = 0;
    for (int64_t i = 0; i < n && !status; i++) {
        struct err damage = {0};
        status = checkpoint_load(dir, steps[i], c, head, note, &damage);
        if (status < 0)
            err_set(e, "%s", damage.msg);
        else if (!status && !note[0])
            snprintf(note, 700, "skipped a damaged checkpoint: %s", damage.msg);
    }
    free(steps);
    return n > 0 && !status ? err_set(e, "%s has no intact checkpoint; %s", dir, note) : status;
}
