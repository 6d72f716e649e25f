/* Texts as documents: a whole file, the pieces of a file between separators, or one field of every
 * line of a JSONL file. */
#ifndef PARE_DOCUMENTS_H
#define PARE_DOCUMENTS_H

#include "../../formats/stream.h"
#include "../tokenizer/tokenizer.h"

struct documents;
/* path "-": standard input. field: JSON Lines, the text is that member of every line. separator:
 * the file is split at it, white space around each piece is removed, and empty pieces are skipped.
 * Neither: the file is one document. NULL on error. */
struct documents *documents_open(const char *path, const char *separator, const char *field,
                                 struct err *e);
/* 1: the next document, its bytes valid until the next call; 0: none left; -1: error (names file
 * and line). */
int documents_next(struct documents *d, const char **text, int64_t *n);
/* "FILE: line N", the place of the last document in a file of lines; valid until the next call. */
const char *documents_where(struct documents *d);
/* bytes of the source read for the documents so far */
int64_t documents_bytes(const struct documents *d);
/* Appends the ids of a document that is a line of decimal numbers. Refuses ids from vocab_size on
 * (0: from 2^31 on). 0 or -1. */
int documents_ids(const struct documents *d, const char *text, int64_t n, int64_t vocab_size,
                  struct ids *out);
/* digest of those bytes; may be NULL */
void documents_close(struct documents *d, char digest[ST_DIGEST]);

#endif
