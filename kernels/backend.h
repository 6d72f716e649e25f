/* What a device can do: one table of functions per backend, behind the exec_ functions and the ops
 * of op.h. A new device is a folder beside cpu/ and cuda/ with its kernels and a table, and a row
 * of `backends` (exec.c). Each function implements the exec_ function of the same name; errors
 * stick in the exec handle. */
#ifndef PARE_BACKEND_H
#define PARE_BACKEND_H

#include "op.h"

#ifdef __cplusplus
extern "C" {
#endif

struct backend {
    const char *name;                    /* as in --device */
    enum dtype compute;                  /* type of activations unless chosen otherwise */
    int is_host;                         /* its memory is the process's own */
    const struct kernel *const *kernels; /* by enum op; NULL: the device lacks it */

    int (*open)(struct exec *x); /* -1: no usable device. NULL here and below: nothing to do */
    void (*close)(struct exec *x);
    int (*workers)(const struct exec *x);

    int (*arena)(struct exec *x, struct arena *a, size_t bytes, struct err *e);
    void (*put)(struct exec *x, void *there, const void *here, size_t bytes);
    void (*get)(struct exec *x, void *here, const void *there, size_t bytes);
    void (*zero)(struct exec *x, void *there, size_t bytes);
    void (*copy)(struct exec *x, void *to, const void *from, size_t bytes);
    int64_t (*available)(struct exec *x);

    /* NULL: it cannot capture */
    int (*capture)(struct exec *x);
    struct exec_graph *(*captured)(struct exec *x);
    void (*replay)(struct exec *x, struct exec_graph *g);
    void (*graph_free)(struct exec *x, struct exec_graph *g);

    /* with other processes; all NULL: the host must exchange */
    int (*join)(struct exec *x);
    void (*reduce)(struct exec *x, float *values, int64_t n);
    void (*spread)(struct exec *x, void *values, int64_t n, size_t size);
    void (*exchanged)(struct exec *x);

    const char *(*algorithms_for)(const struct exec *x);
    struct slow_products (*slow_products)(const struct exec *x); /* NULL: none is slow */
    int64_t (*loss_chunk)(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                          int64_t hidden);
};

/* for an open handle */
const struct backend *backend_of(const struct exec *x);

extern const struct backend cpu_backend, cuda_backend;
#define OP(name, inputs, weights, traits, reads, memo) \
    extern const struct kernel name##_cpu, name##_cuda;
#include "ops.def"
#undef OP

#ifdef __cplusplus
}
#endif
#endif
