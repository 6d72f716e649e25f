/* Writing a model: the counterpart of source.h. One spec, then its files, then its tensors, in the
 * spec's order, once, in constant memory. A kind of sink (stream, directory) offers five functions;
 * sink.c does the rest: order, byte counts, sticky errors. */
#ifndef PARE_SINK_H
#define PARE_SINK_H

#include "source.h"

struct model_sink {
    /* all bytes of file i of the spec. 0 or -1, as below */
    int (*file)(void *self, int i, const void *data, struct err *e);
    /* tensor i of the spec begins */
    int (*next)(void *self, int i, struct err *e);
    /* the next n bytes of it, never beyond its end */
    int (*write)(void *self, const void *data, int64_t n, struct err *e);
    /* every tensor is written: publish the model */
    int (*end)(void *self, struct err *e);
    /* releases everything; an unfinished model leaves nothing behind */
    void (*close)(void *self);
};

struct model_out {
    const struct model_sink *sink;
    void *self;
    struct model_spec spec; /* own copy: what is to be written */
    struct err *err;
    int files, current; /* files written; tensor being written, -1 before the first */
    int64_t left;       /* bytes of it still to come */
    char *note;         /* see model_out_note; freed by model_out_close */
};

/* ---- for writers. 0, or -1 with the error set */
int model_out_file(struct model_out *out, const void *data); /* the next file of the spec */
int model_out_next(struct model_out *out);                   /* its next tensor begins */
int model_out_write(struct model_out *out, const void *data, int64_t n);
/* the next tensor as a whole, from memory */
int model_out_tensor(struct model_out *out, const void *data);
/* Refuses a model that lacks files or tensors. */
int model_out_end(struct model_out *out);
/* Without model_out_end before it, what was written is discarded. */
void model_out_close(struct model_out *out);
/* A sentence for the user on how the model was written, or NULL. */
const char *model_out_note(const struct model_out *out);

/* Copies the files of out's spec from `in`. */
int model_copy_files(struct model_out *out, struct model_in *in);
typedef void model_copy_progress(void *user, int64_t tensors, int64_t of);
/* Copies files and tensors of `in`, which has out's spec, and ends out. show: called before the
 * first tensor and after each, NULL: not */
int model_copy(struct model_out *out, struct model_in *in, model_copy_progress *show, void *user);

/* ---- for sinks */
/* spec: copied; the caller sets sink and self */
struct model_out *model_out_new(const struct model_spec *spec, struct err *e);
/* A model stream as a sink. st was begun with the header of `spec` (model_spec_to_json) and has
 * the error e; its owner ends and publishes it. */
struct model_out *stream_sink_open(struct st_out *st, const struct model_spec *spec, struct err *e);

#endif
