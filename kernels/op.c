/* The op table and its dispatch, and the execution handle: see op.h. The table is ops.def read three more times. */
#include "op.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <unistd.h>

#include "../lib/base/usage.h"

#ifdef PARE_CUDA
#include "cuda/device.h"
#define BUILT_YES(fn) fn
#else
#define BUILT_YES(fn) NULL
#endif
#define BUILT_NO(fn) NULL
#define HAS_YES(fn) fn
#define HAS_NO(fn) NULL

enum { THREADS_MOST = 1024 };       /* far more than pays; OpenMP ends the process when it cannot start as many as it is asked for */

const struct op_info ops[OP_COUNT] = {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, cuda) \
    {#name, in, w, cheap, reads, {name##_fwd_cpu, BUILT_##cuda(name##_fwd_cuda)}, \
     {HAS_##bwd(name##_bwd_cpu), BUILT_##cuda(HAS_##bwd(name##_bwd_cuda))}},
#include "ops.def"
#undef OP
};

int64_t op_memo(enum op op, const struct call *c)
{
    switch (op) {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, cuda) case OP_##name: return memo;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}

size_t op_scratch(enum op op, const struct call *c)
{
    switch (op) {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, cuda) case OP_##name: return scratch;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}

/* A gap must have been refused when the tape was recorded. After a device error further calls do nothing. */
static void op_run(op_fn *fn, const struct call *c, double *seconds)
{
    assert(fn);
    if (c->x->err.set)
        return;
    double start = usage_seconds();
    fn(c);
    *seconds += usage_seconds() - start;
}

void op_forward(enum op op, const struct call *c) { op_run(ops[op].forward[c->x->device], c, &c->x->seconds[op][0]); }
void op_backward(enum op op, const struct call *c) { op_run(ops[op].backward[c->x->device], c, &c->x->seconds[op][1]); }

int exec_open(struct exec *x, enum device device, int threads)
{
    *x = (struct exec){.device = device};
    if (threads < 0 || threads > THREADS_MOST)
        return err_set(&x->err, "threads %d: must be 0 (all cores) or at most %d", threads, THREADS_MOST);
    x->threads = threads ? threads : omp_get_num_procs();
    omp_set_dynamic(0);                         /* exactly that many, since results may depend on the number */
    omp_set_num_threads(x->threads);
    if (device == DEVICE_CPU)
        return 0;
#ifdef PARE_CUDA
    return device_open(&x->err);
#else
    return err_set(&x->err, "this build has no CUDA kernels (make CUDA=1 adds them)");
#endif
}

void exec_wait_briefly(char **argv)
{
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "2000", 1))
        return;
    execv("/proc/self/exe", argv);      /* returns only on failure: then it is merely slower */
}

int64_t exec_library_bytes(const struct exec *x) { return (int64_t)x->threads * 3700000; }

void exec_close(struct exec *x)
{
#ifdef PARE_CUDA
    if (x->device == DEVICE_CUDA)
        device_close();
#endif
    x->threads = 0;
}
