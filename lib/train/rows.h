/* How the sequences of a training are cut into its rows. Needs no model's values, so that what is
 * refused is refused before they are read. */
#ifndef PARE_TRAIN_ROWS_H
#define PARE_TRAIN_ROWS_H

#include "../data/data.h"
#include "options.h"

/* How sequences longer than `asked` tokens (0: nobody asked), or than the models take, are cut.
 * teacher: may be NULL. */
int rows_cut(struct window_options *w, const struct tokens *text, int64_t asked,
             const struct model_spec *student, const struct model_spec *teacher, struct err *e);
/* Opens the windows of every stream of the data: whole sequences, long ones in pieces; those of
 * which no prediction counts are left out. Refuses a stream that has no others, and one that is cut
 * otherwise than a teacher's logits. note: on their length, or "". */
int rows_open(struct data_sources *data, const struct train_options *o,
              const struct model_spec *student, const struct model_spec *teacher, char note[200],
              struct err *e);
/* The same of held-out text, which is only looked at. */
int rows_check(const struct tokens *text, const struct train_options *o,
               const struct model_spec *student, const struct model_spec *teacher, struct err *e);

#endif
