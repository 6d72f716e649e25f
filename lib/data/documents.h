/* Texts as documents: a whole file, the pieces of a file between separators, or the values of a
 * file of JSON: lines of JSON, or the elements of one array. */
#ifndef PARE_DOCUMENTS_H
#define PARE_DOCUMENTS_H

#include "../../formats/stream.h"
#include "../tokenizer/tokenizer.h"

struct documents;
enum documents_format {
    DOCUMENTS_AUTO, /* JSON if the file's name or its beginning says so, else text */
    DOCUMENTS_TEXT,
    DOCUMENTS_JSON,
    DOCUMENTS_LINES /* of text, without white space around them and empty ones */
};
/* The format that options ask for: --format (NULL: auto), --field and --doc-sep, each NULL if not
 * given. An error says what is wrong with them. */
enum documents_format documents_format_given(const char *format, const char *field,
                                             const char *separator, struct err *e);

/* path "-": standard input; gzip and zstd are decompressed (text_in.h). separator: a text is split
 * at it, white space around each piece is removed, and empty pieces are skipped; NULL: it is one
 * document. With AUTO, text with a NUL byte is refused, as is a file whose name ends in .json but
 * which holds neither lines of JSON nor an array of objects. NULL on error. */
struct documents *documents_open(const char *path, const char *separator,
                                 enum documents_format format, struct err *e);
/* 1: the documents are JSON. by_name: the name of the file says so. */
int documents_json(const struct documents *d, int *by_name);
/* 1: the next document, its bytes valid until the next call; 0: none left; -1: error (names file
 * and line). */
int documents_next(struct documents *d, const char **text, int64_t *n);
/* The same, but of a document that is JSON the text under `field` (NULL: "text"). */
int documents_next_text(struct documents *d, const char *field, const char **text, int64_t *n);
/* "FILE: line N" or "FILE: element N", the place of the last document in a file of lines or in an
 * array; valid until the next call. Its number, from 1. */
const char *documents_where(struct documents *d);
int64_t documents_number(const struct documents *d);
/* bytes of the source read for the documents so far, decompressed */
int64_t documents_bytes(const struct documents *d);
/* Of the file as it lies on disk: bytes read so far; *total: of the whole, 0 if it is a pipe. */
int64_t documents_taken(const struct documents *d, int64_t *total);
/* Appends the ids of a document that is a line of decimal numbers. Refuses ids from vocab_size on
 * (0: from 2^31 on). 0 or -1. */
int documents_ids(const struct documents *d, const char *text, int64_t n, int64_t vocab_size,
                  struct ids *out);
/* digest of documents_bytes; may be NULL */
void documents_close(struct documents *d, char digest[ST_DIGEST]);

#endif
