/* Reading a stream of logits (logits.h), window by window: in any order where it is a regular file,
 * and as it comes from a pipe. */
#ifndef PARE_LOGITS_IN_H
#define PARE_LOGITS_IN_H

#include "logits.h"
#include "records_file.h"

struct logits_in {
    struct logits_spec spec;
    char id[ST_DIGEST], *path; /* for messages */
    /* private */
    struct st_in *pipe; /* NULL: by position */
    int64_t next;       /* window of the pipe's next record */
    int64_t *places;    /* of a file, of each window: where its record lies, its tokens */
    int32_t *tokens;
    struct records_file file;
    struct st_buffer record; /* the last one read */
};
/* in: opened with tool_in. A file is verified from beginning to end, and `in` is closed; in memory
 * are 12 bytes a window. A compressed one is copied to a file without a name in TMPDIR. A pipe is
 * read later, and keeps `in`. */
int logits_open(struct logits_in *l, struct st_in *in, struct err *e);
int logits_is_pipe(const struct logits_in *l);
/* -1: these are not all windows of w, from the first one on */
int logits_check_windows(const struct logits_in *l, const struct windows *w, struct err *e);
/* The rows of a window of so many tokens, until the next call. From a pipe: of this one or a later
 * one than those before. */
const unsigned char *logits_read(struct logits_in *l, int64_t window, int64_t tokens,
                                 struct err *e);
/* Reads a pipe to its end, which says whether it was whole; other readers of a tee then get all of
 * it too. */
int logits_end(struct logits_in *l, struct err *e);
void logits_close(struct logits_in *l);

#endif
