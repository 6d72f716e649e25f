/* The log of a run: one JSON object a line, each with its "step". */
#ifndef PARE_TRAIN_LOG_H
#define PARE_TRAIN_LOG_H

#include <jansson.h>
#include <stdint.h>

#include "../base/err.h"

struct train_log;
/* Refuses an existing file that is not a log, and `model`, where the model goes; changes nothing.
 */
int train_log_check(const char *path, const char *model, struct err *e);
/* Keeps the complete lines of steps up to `keep` (0: none) and truncates the rest. Pipes, devices
 * and standard output (-) are appended to. */
struct train_log *train_log_open(const char *path, int64_t keep, struct err *e);
/* -1: nothing of the line is in the file; later lines may still be written. */
int train_log_line(struct train_log *l, const json_t *line, struct err *e);
int train_log_close(struct train_log *l, struct err *e);

#endif
