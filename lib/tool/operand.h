/* Wrong operands: what they are, what belongs in their place, and the command that makes it. */
#ifndef PARE_OPERAND_H
#define PARE_OPERAND_H

#include "../base/err.h"

struct tool;
/* After opening `path` as a stream of kind `wanted` ("model": as a MODEL) has failed: if it is
 * something else entirely, says so in the tool's error instead. wanted NULL: any stream. */
void operand_explain(struct tool *t, const char *path, const char *wanted);

#endif
