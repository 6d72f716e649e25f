/* Inside of windows: those that are listed in a table.
 *
 *   windows.c      options, windows at regular places, reading them
 *   windows_cut.c  tables by the options
 *   conventions.c  tables as published figures have them */
#ifndef PARE_WINDOWS_PRIVATE_H
#define PARE_WINDOWS_PRIVATE_H

#include "../base/minmax.h"
#include "windows.h"

struct window {
    int64_t at; /* as in data_row */
    int32_t n, first, predictions, inputs, bos;
};

/* A table in the making. */
struct cutting {
    struct windows *w;
    const struct tokens *t;
    struct err *e;
    int64_t room;
    uint8_t *flags; /* of a window */
};

static inline int64_t first_counted(const struct window_options *o)
{
    return min64(max64(1, o->score_from), INT32_MAX);
}

/* What a window holds of the text. */
int64_t window_text(const struct windows *w, const struct window *r);
/* Does the text from `at` on begin with the BOS? 1, 0, or -1. */
int window_has_bos(const struct cutting *c, int64_t at);
/* Adds a window to the table, if anything counts in it. */
void window_add(struct cutting *c, struct window r);
/* Adds all windows: by the options, or of a convention. */
void cut_by_options(struct cutting *c);
void cut_hf_stride(struct cutting *c);
void cut_harness(struct cutting *c);
void cut_llama_cpp(struct cutting *c);

#endif
