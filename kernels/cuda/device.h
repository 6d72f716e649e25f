/* Memory of the CUDA device, for C. Errors stick in the `struct err` given to device_open (that of the exec handle). */
#ifndef PARE_DEVICE_H
#define PARE_DEVICE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "../../lib/base/err.h"

int device_open(struct err *e);                                 /* -1: no usable device, with the driver's words */
void device_close(void);
void *device_alloc(size_t bytes);                               /* NULL after an error */
void device_free(void *p);
void device_put(void *device, const void *host, size_t bytes);
void device_get(void *host, const void *device, size_t bytes);  /* after all kernels started before */

#ifdef __cplusplus
}
#endif
#endif
