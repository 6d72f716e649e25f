/* The steps of a history, each once, in the order of their arrival: a JSON object {id: step}. See
 * "hist" in formats/SPEC.md. */
#ifndef PARE_STEPS_H
#define PARE_STEPS_H

#include <jansson.h>

#include "../base/err.h"

/* Adds the steps of a header's "hist" (NULL: none) whose ids are new. -1: not a list of steps, or
 * an id is not a digest. */
int steps_add(json_t *steps, const json_t *hist, const char *path, struct err *e);
/* as a header has them: [step, ...]; new reference */
json_t *steps_list(const json_t *steps);

#endif
