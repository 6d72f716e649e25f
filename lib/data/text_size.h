/* Words and bytes of a text, as lm-evaluation-harness counts them for its perplexities. */
#ifndef PARE_TEXT_SIZE_H
#define PARE_TEXT_SIZE_H

#include "tokens.h"

/* Of each document, the pieces between runs of white space, of which the first and the last may be
 * empty (Python's re.split(r"\s+", text)), and the bytes of its UTF-8. */
struct text_size {
    int64_t words, bytes;
};
/* field: the member that has the text, if the file holds JSON (documents.h); else it is one
 * document */
int text_size_read(struct text_size *s, const char *path, const char *field, struct err *e);
/* Refuses a text without words, and one of less than half or more than twice the bytes that the
 * tokens were made from: a detokenizer may lie between, another text may not. made_from: these
 * bytes; -1: not known */
int text_size_check(const struct text_size *s, const char *path, const struct tokens *t,
                    int64_t *made_from, struct err *e);

#endif
