/* The CUDA device behind the doors of op.h (exec_open, exec_arena, exec_put, ...), for C. Errors
 * stick in the exec handle. */
#ifndef PARE_DEVICE_H
#define PARE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct exec;
/* -1: no usable device, with the driver's words */
int device_open(struct exec *x);
void device_close(struct exec *x);
/* NULL after an error; contents undefined */
void *device_alloc(struct exec *x, size_t bytes);
void device_free(void *p, size_t bytes);
/* bytes that device_alloc could give */
size_t device_available(struct exec *x);
/* host may be used again at once */
void device_put(struct exec *x, void *device, const void *host, size_t bytes);
/* after all work given before */
void device_get(struct exec *x, void *host, const void *device, size_t bytes);
void device_zero(struct exec *x, void *device, size_t bytes);
struct exec_graph;
int device_capture(struct exec *x); /* 1; 0 after an error */
struct exec_graph *device_captured(struct exec *x);
void device_replay(struct exec *x, struct exec_graph *g);
void device_graph_free(struct exec_graph *g);
int64_t device_slow_size(const struct exec *x, int64_t *multiple);
/* both on the device */
void device_copy(struct exec *x, void *to, const void *from, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
