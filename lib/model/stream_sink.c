/* A model stream as a sink. Out: the spec's files as records `file/NAME` (u8), then its tensors.
 * The header has been written by the opener of the stream. */
#include <stdio.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "sink.h"

struct stream_out {
    struct st_out *st;
    const struct model_spec *spec;
};

static int stream_file(void *self, int i, const void *data, struct err *e)
{
    const struct stream_out *s = self;
    struct tensor t = {.dtype = DT_U8, .ndim = 1, .shape = {s->spec->files[i].bytes}};
    (void)e;
    snprintf(t.name, sizeof t.name, "file/%s", s->spec->files[i].name);
    return st_put(s->st, &t, data);
}

static int stream_next(void *self, int i, struct err *e)
{
    const struct stream_out *s = self;
    (void)e;
    return st_record(s->st, &s->spec->tensors[i]);
}

static int stream_write(void *self, const void *data, int64_t n, struct err *e)
{
    const struct stream_out *s = self;
    (void)e;
    return st_write(s->st, data, n);
}

static int stream_end(void *self, struct err *e)
{
    (void)self, (void)e;
    return 0;
}

static const struct model_sink stream_sink = {stream_file, stream_next, stream_write, stream_end,
                                              free};

struct model_out *stream_sink_open(struct st_out *st, const struct model_spec *spec, struct err *e)
{
    struct model_out *out = model_out_new(spec, e);
    struct stream_out *s = mem_alloc(sizeof *s);
    *s = (struct stream_out){st, &out->spec};
    out->sink = &stream_sink;
    out->self = s;
    return out;
}
