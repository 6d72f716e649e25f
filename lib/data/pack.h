/* Packing: whole documents side by side in rows, each with its own context (records.h,
 * TOKEN_BEGINS), so that short ones need little padding. */
#ifndef PARE_PACK_H
#define PARE_PACK_H

#include "bos.h"

struct packed {
    int64_t rows, padding; /* rows; tokens of them that are padding */
};
/* Turns a text of `documents` documents, which end at ends[], into rows of N > bos->n tokens.
 * Documents of more than N tokens are cut as windows.h cuts sequences: all pieces but the first
 * begin with `bos`, unless it is there already. Documents that are near each other in the text
 * share rows so that little room is left, and rows follow each other as their first documents do.
 * The flags of the text stay; TOKEN_BEGINS is added where a document begins, and to all padding, so
 * that each of its tokens is a document of its own. */
struct packed pack_documents(struct ids *text, const int64_t *ends, int64_t documents, int64_t N,
                             const struct row_bos *bos);

#endif
