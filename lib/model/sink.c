/* Writing a model stream: see sink.h. */
#include "sink.h"

#include <stdio.h>
#include <stdlib.h>

int model_write_files(struct st_out *out, const struct model_spec *h, struct model_in *files_from)
{
    for (int i = 0; i < h->n_files; i++) {
        int64_t bytes;
        const char *text = model_in_file(files_from, h->files[i].name, &bytes);
        if (!text || bytes != h->files[i].bytes)
            return err_set(files_from->err, "the model's file %s changed while it was read",
                           h->files[i].name);
        struct tensor t = {.dtype = DT_U8, .ndim = 1, .shape = {bytes}};
        snprintf(t.name, sizeof t.name, "file/%s", h->files[i].name);
        if (st_put(out, &t, text))
            return -1;
    }
    return 0;
}

int model_copy(struct st_out *out, struct model_in *in)
{
    struct tensor t;
    int more;
    char *block = mem_alloc(ST_BLOCK);
    while ((more = model_next(in, &t)) > 0) {
        int failed = st_record(out, &t);
        while (!failed && in->left) {
            int64_t n = in->left < ST_BLOCK ? in->left : ST_BLOCK;
            failed = model_read(in, block, n) || st_write(out, block, n);
        }
        if (failed) {
            more = -1;
            break;
        }
    }
    free(block);
    return more;
}
