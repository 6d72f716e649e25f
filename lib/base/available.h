/* Memory that this process can still take before the kernel ends it. */
#ifndef PARE_AVAILABLE_H
#define PARE_AVAILABLE_H

#include <stdint.h>

/* What the machine has left (MemAvailable), or what the limit of a control group (version 1 or 2)
 * that the process is in leaves, if that is less: limit - (usage - inactive_file), since the page
 * cache gives way. INT64_MAX if nothing says. root: a directory in place of /, for tests; "". */
int64_t available_bytes(const char *root);

#endif
