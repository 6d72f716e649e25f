/* Writing a model to any kind of sink: see sink.h. */
#include "sink.h"

#include <inttypes.h>
#include <stdlib.h>

#include "../base/mem.h"

struct model_out *model_out_new(const struct model_spec *spec, struct err *e)
{
    struct model_out *out = mem_alloc(sizeof *out);
    model_spec_copy(&out->spec, spec);
    out->err = e;
    out->current = -1;
    return out;
}

const char *model_out_note(const struct model_out *out) { return out->note; }

int model_out_file(struct model_out *out, const void *data)
{
    if (out->err->set)
        return -1;
    if (out->files == out->spec.n_files)
        return err_set(out->err, "the model has only %d files", out->spec.n_files);
    return out->sink->file(out->self, out->files++, data, out->err);
}

/* Is the current tensor, if any, complete? */
static int check_whole(struct model_out *out)
{
    if (!out->left)
        return 0;
    return err_set(out->err, "tensor '%s' lacks %" PRId64 " of its bytes",
                   out->spec.tensors[out->current].name, out->left);
}

int model_out_next(struct model_out *out)
{
    if (out->err->set || check_whole(out))
        return -1;
    if (out->current + 1 == out->spec.n_tensors)
        return err_set(out->err, "the model has only %d tensors", out->spec.n_tensors);
    out->left = tensor_bytes(&out->spec.tensors[++out->current]);
    return out->sink->next(out->self, out->current, out->err);
}

int model_out_write(struct model_out *out, const void *data, int64_t n)
{
    if (out->err->set)
        return -1;
    if (n < 0 || n > out->left)
        return err_set(out->err, "tensor '%s' takes %" PRId64 " more bytes, not %" PRId64,
                       out->current < 0 ? "(none)" : out->spec.tensors[out->current].name,
                       out->left, n);
    out->left -= n;
    return out->sink->write(out->self, data, n, out->err);
}

int model_out_tensor(struct model_out *out, const void *data)
{
    return model_out_next(out) ? -1 : model_out_write(out, data, out->left);
}

int model_out_end(struct model_out *out)
{
    const struct model_spec *h = &out->spec;
    if (out->err->set || check_whole(out))
        return -1;
    if (out->files < h->n_files)
        return err_set(out->err, "the model ends before its file %s", h->files[out->files].name);
    if (out->current + 1 < h->n_tensors)
        return err_set(out->err, "the model ends before tensor %s",
                       h->tensors[out->current + 1].name);
    return out->sink->end(out->self, out->err);
}

void model_out_close(struct model_out *out)
{
    if (!out)
        return;
    out->sink->close(out->self);
    model_spec_free(&out->spec);
    free(out->note);
    free(out);
}

/* ---- from a source */

int model_copy_files(struct model_out *out, struct model_in *in)
{
    for (int i = 0; i < out->spec.n_files; i++) {
        const char *name = out->spec.files[i].name;
        int64_t bytes = 0;
        const char *text = model_in_file(in, name, &bytes);
        if (!text)
            return err_set(out->err, "the model lists file %s but does not contain it", name);
        if (bytes != out->spec.files[i].bytes)
            return err_set(out->err, "the model's file %s changed while it was read", name);
        if (model_out_file(out, text))
            return -1;
    }
    return 0;
}

static int copy_tensor(struct model_out *out, struct model_in *in, void *block)
{
    if (model_out_next(out))
        return -1;
    while (in->left) {
        int64_t n = in->left < ST_BLOCK ? in->left : ST_BLOCK;
        if (model_read(in, block, n) || model_out_write(out, block, n))
            return -1;
    }
    return 0;
}

int model_copy(struct model_out *out, struct model_in *in, model_copy_progress *show, void *user)
{
    struct tensor t;
    if (model_copy_files(out, in))
        return -1;
    void *block = mem_alloc(ST_BLOCK);
    int more = 0, failed = 0;
    for (int64_t n = 0; !failed; n++) {
        if (show)
            show(user, n, in->spec.n_tensors);
        if ((more = model_next(in, &t)) <= 0)
            break;
        failed = copy_tensor(out, in, block);
    }
    free(block);
    return failed || more < 0 ? -1 : model_out_end(out);
}
