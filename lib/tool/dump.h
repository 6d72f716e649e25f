/* Streams and models as text for people and scripts: what ts-dump prints. Only one block of a
 * record is in memory. */
#ifndef PARE_DUMP_H
#define PARE_DUMP_H

#include <stdio.h>

#include "../model/model.h"

/* Records of a stream or tensors of a model, whichever is set. */
struct dump_source {
    struct st_in *st;
    struct model_in *model;
    int64_t left; /* bytes of the current record, for the functions below */
};
int dump_next(struct dump_source *s, struct tensor *t); /* as st_next */

/* The header, one fact a line: long lists and maps are counted, not shown; models are summarised;
 * steps of hist are shown as commands. */
void dump_head(const json_t *head, FILE *f);
/* Over all entries; nan: how many are not numbers. */
struct dump_stats {
    double min, mean, max;
    int64_t n, nan;
};
int dump_stats(struct dump_source *s, const struct tensor *t, struct dump_stats *out,
               struct err *e);
/* The entries as text, a row of the last dimension a line; records file/NAME as raw bytes. */
int dump_values(struct dump_source *s, const struct tensor *t, FILE *f, struct err *e);

#endif
