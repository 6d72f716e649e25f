/* Questions with the answers to choose from, as JSON Lines.
 *
 * A line is an object with
 *   choices      the texts to choose from, or one text
 *   ctx          what each of them continues: a text, or a list of texts; "" where it is not given
 *   gold         which one is right, counted from 0, or a list if several are; may be left out if
 *                there is only one choice
 *   description  a text that precedes everything, few-shot examples too ("")
 *   group        the subject: accuracy is also given by group, and examples are of the item's own
 * and any other members. Of ctx and choices, one that is a text goes with every entry of the other;
 * two lists go together entry by entry. So a question has one ctx and several choices, a gap that
 * is filled in several ways has several ctx and one choice, a minimal pair has no ctx, and a word
 * to be guessed is a single choice. The texts are joined as they are: spaces are the file's. */
#ifndef PARE_CHOICE_ITEMS_H
#define PARE_CHOICE_ITEMS_H

#include "json_lines.h"

struct choice_texts {
    char **text;
    int64_t n; /* 1: the same for all */
};
struct choice_item {
    int64_t line;        /* in the file, from 1 */
    int64_t n;           /* choices */
    unsigned char *gold; /* [n] */
    struct choice_texts ctx, choices;
    char *description, *group; /* "" if not given */
};
struct choice_items {
    char *path; /* for messages */
    char digest[ST_DIGEST];
    struct choice_item *all;
    int64_t n, limit;
};

/* The first `limit` items of a file (0: all), "-": standard input. Refuses a line that is no item,
 * by its number, and a file without any. */
int choice_items_read(struct choice_items *s, const char *path, int64_t limit, struct err *e);
void choice_items_free(struct choice_items *s);

const char *choice_ctx(const struct choice_item *q, int64_t i);
const char *choice_text(const struct choice_item *q, int64_t i);
int64_t choice_gold(const struct choice_item *q); /* the first that is right */
/* What choice i is measured by: its length without the space that it may begin with. */
int64_t choice_bytes(const struct choice_item *q, int64_t i);
int64_t choice_characters(const struct choice_item *q, int64_t i);

/* The text before an item's ctx: its description, and the first `shots` examples of its group among
 * `from`, itself left out, each an answered question and an empty line. malloc'd; NULL: there are
 * fewer. from may be NULL. */
char *choice_preamble(const struct choice_item *q, const struct choice_items *from, int64_t shots,
                      struct err *e);

#endif
