/* What training draws its sequences from: one or more sources, each of one or more token streams,
 * in proportion to their weights and each in epochs of its own.
 *
 * Of the first p draws, round(p w / W) are from the first source, of weight w of W in total; of the
 * others, by the same rule, the second has its part, and so on. So the counts of any two sources
 * are in proportion after every draw, give or take one or two, and follow from p alone, the whole
 * state. */
#ifndef PARE_SOURCES_H
#define PARE_SOURCES_H

#include "order.h"
#include "tokens.h"
#include "windows.h"

/* A stream of a source; it has sequences `first` and on of the source, its windows. */
struct data_stream {
    char *path;
    struct tokens tokens;
    struct windows windows;
    int64_t first;
};
struct data_source {
    char *name;     /* as it was given, without the weight */
    int64_t weight; /* in millionths */
    struct data_stream *streams;
    int64_t n_streams, n; /* sequences */
};
struct data_sources {
    struct data_source *all;
    int n;
    int shuffled;
    uint64_t seed;
    int64_t position; /* sequences drawn */
};

/* Adds the source `text` names: a file, or a pattern such as shards/ *.tsz (without the space) that
 * is expanded and sorted by bytes, and perhaps :WEIGHT. A name that exists is that file, whatever
 * is in it. The streams are for the caller to load. -1: no such file, a weight that is not from
 * 0.000001 to 1000000, a name or a file given twice. */
int data_sources_add(struct data_sources *s, const char *text, struct err *e);
/* The stream `tokens`, which is moved, as the only source. */
void data_sources_one(struct data_sources *s, struct tokens *tokens);
/* Counts sequences once every stream has its windows. */
void data_sources_ready(struct data_sources *s);
int64_t data_sources_longest(const struct data_sources *s); /* tokens of the longest window */

/* The next sequence. */
struct data_row data_sources_next(struct data_sources *s);
/* How many of the first `position` sequences are of source i. */
int64_t data_sources_drawn(const struct data_sources *s, int i, int64_t position);
/* {name: how many}, of all sources. New reference. */
json_t *data_sources_counts(const struct data_sources *s, int64_t position);
/* What they are: the id of the only stream, or [[id, weight], ...], where many streams of a source
 * are the digest of their ids. New reference. */
json_t *data_sources_id(const struct data_sources *s);
/* [[weight in millionths, streams], ...], what ids of streams do not say of them. NULL: there is
 * one stream. New reference. */
json_t *data_sources_shares(const struct data_sources *s);
void data_sources_close(struct data_sources *s);

/* Splits NAME:NUMBER, unless a file has the whole name. Returns the number's text, in `text`, or
 * NULL; *name: new, without it. */
const char *data_split_number(const char *text, char **name);

#endif
