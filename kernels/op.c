/* The op table and its dispatch, and the execution handle: see op.h. The table is ops.def read
 * three more times. */
#include "op.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "../lib/base/mem.h"
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

/* far more than pays; OpenMP ends the process when it cannot start as many as it is asked for */
enum { THREADS_MOST = 1024 };

const struct op_info ops[OP_COUNT] = {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, overwrite, cuda, cuda_scratch) \
    {#name, \
     in, \
     w, \
     cheap, \
     reads, \
     overwrite, \
     {name##_fwd_cpu, BUILT_##cuda(name##_fwd_cuda)}, \
     {HAS_##bwd(name##_bwd_cpu), BUILT_##cuda(HAS_##bwd(name##_bwd_cuda))}},
#include "ops.def"
#undef OP
};

int64_t op_memo(enum op op, const struct op_args *c)
{
    switch (op) {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, overwrite, cuda, cuda_scratch) \
    case OP_##name: \
        return memo;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}

#ifdef PARE_CUDA
static size_t op_scratch_cuda(enum op op, const struct op_args *c)
{
    switch (op) {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, overwrite, cuda, cuda_scratch) \
    case OP_##name: \
        return cuda_scratch;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}
#endif

size_t op_scratch(enum op op, const struct op_args *c)
{
#ifdef PARE_CUDA
    if (c->x->device == DEVICE_CUDA)
        return op_scratch_cuda(op, c);
#endif
    switch (op) {
#define OP(name, in, w, cheap, reads, memo, scratch, bwd, overwrite, cuda, cuda_scratch) \
    case OP_##name: \
        return scratch;
#include "ops.def"
#undef OP
    case OP_COUNT: break;
    }
    return (void)c, 0;
}

/* A gap must have been refused when the tape was recorded. After a device error further calls do
 * nothing. */
static void op_run(op_fn *fn, const struct op_args *c, double *seconds)
{
    assert(fn);
    if (c->x->err.set)
        return;
    double start = usage_seconds();
    fn(c);
    *seconds += usage_seconds() - start;
}

void op_forward(enum op op, const struct op_args *c)
{
    op_run(ops[op].forward[c->x->device], c, &c->x->seconds[op][0]);
}
void op_backward(enum op op, const struct op_args *c)
{
    op_run(ops[op].backward[c->x->device], c, &c->x->seconds[op][1]);
}

/* How many threads a parallel region gets that asks for `asked`: OMP_THREAD_LIMIT,
 * OMP_MAX_ACTIVE_LEVELS or the system may allow fewer. Starts them. */
static int threads_delivered(int asked)
{
    int n = 1;
#pragma omp parallel num_threads(asked)
#pragma omp single
    n = omp_get_num_threads();
    return n;
}

int exec_open(struct exec *x, enum device device, int threads)
{
    *x = (struct exec){.device = device, .compute = device == DEVICE_CPU ? DT_F32 : DT_BF16};
    if (threads < 0 || threads > THREADS_MOST)
        return err_set(&x->err, "threads %d: must be 0 (all cores) or at most %d", threads,
                       THREADS_MOST);
    /* the same number in every region, since results may depend on it */
    omp_set_dynamic(0);
    x->threads = threads_delivered(threads ? threads : omp_get_num_procs());
    omp_set_num_threads(x->threads);
    if (device == DEVICE_CPU)
        return 0;
#ifdef PARE_CUDA
    return device_open(x);
#else
    return err_set(&x->err, "this build has no CUDA kernels (make CUDA=1 adds them)");
#endif
}

int exec_workers(const struct exec *x) { return x->device == DEVICE_CPU ? x->threads : 1; }

/* ---- memory: the device's, or the process's own */

#ifdef PARE_CUDA
static int device_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e)
{
    size_t size = arena_round(bytes), available = device_available(x);
    *a = (struct arena){0};
    if (size > available)
        return err_set(e, "the device has %.2f GB of memory left, and %.2f GB more are needed",
                       (double)available / 1e9, (double)size / 1e9);
    void *base = device_alloc(x, size);
    if (!base)
        return err_set(e, "%s", x->err.msg);
    *a = (struct arena){.base = base, .size = size, .release = device_free};
    device_zero(x, base, size);
    return 0;
}
#define HERE_OR_THERE(here, there) (x->device == DEVICE_CPU ? (here) : (there))
#else
#define HERE_OR_THERE(here, there) ((void)x, (here))
#endif

int exec_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e)
{
    return HERE_OR_THERE(arena_open(a, bytes, e), device_arena(x, a, bytes, e));
}
void exec_put(struct exec *x, void *there, const void *here, size_t n)
{
    HERE_OR_THERE((void)memcpy(there, here, n), device_put(x, there, here, n));
}
void exec_get(struct exec *x, void *here, const void *there, size_t n)
{
    HERE_OR_THERE((void)memcpy(here, there, n), device_get(x, here, there, n));
}
void exec_copy(struct exec *x, void *to, const void *from, size_t n)
{
    HERE_OR_THERE((void)memcpy(to, from, n), device_copy(x, to, from, n));
}

static const void *copied(struct exec *x, void **here, const void *there, size_t n)
{
    *here = mem_grow(*here, n);
    exec_get(x, *here, there, n);
    return *here;
}

const void *exec_view(struct exec *x, void **here, const void *there, size_t n)
{
    return x->device == DEVICE_CPU ? there : copied(x, here, there, n);
}
int64_t exec_available(struct exec *x)
{
    return HERE_OR_THERE(INT64_MAX, (int64_t)device_available(x));
}
int exec_capture(struct exec *x) { return HERE_OR_THERE(0, device_capture(x)); }
struct exec_graph *exec_captured(struct exec *x) { return HERE_OR_THERE(NULL, device_captured(x)); }
void exec_replay(struct exec *x, struct exec_graph *g)
{
    HERE_OR_THERE((void)g, device_replay(x, g));
}
void exec_graph_free(struct exec *x, struct exec_graph *g)
{
    HERE_OR_THERE((void)g, device_graph_free(g));
}
void exec_zero(struct exec *x, void *there, size_t n)
{
    HERE_OR_THERE((void)memset(there, 0, n), device_zero(x, there, n));
}

void exec_restart_tuned(char **argv)
{
    const char *tunables = getenv("GLIBC_TUNABLES"), *cache = "glibc.malloc.tcache_count";
    int spin = !getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY"),
        tune = !tunables || !strstr(tunables, cache);
    /* a privileged program is not given the tunables: it would start again for ever */
    if ((!spin && !tune) || getauxval(AT_SECURE))
        return;
    char *all = mem_format("%s%s%s=0", tunables ? tunables : "", tunables ? ":" : "", cache);
    int failed = (spin && setenv("GOMP_SPINCOUNT", "20000", 1)) ||
                 (tune && setenv("GLIBC_TUNABLES", all, 1));
    free(all);
    if (!failed)
        /* returns only on failure: then it is merely slower and larger */
        execv("/proc/self/exe", argv);
}

int64_t exec_slow_size(const struct exec *x, int64_t *multiple)
{
    *multiple = 1;
    return HERE_OR_THERE(0, device_slow_size(x, multiple));
}

/* More tokens make the products with the head faster (its weights pass through the cache less
 * often) and the logits larger: at most 100 MB of both models together (and of the threads' parts
 * of the gradient), but for vocabularies so large that 64 tokens take more. */
static int64_t loss_chunk_cpu(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                              int64_t hidden)
{
    int64_t chunk = 1024, entries = vocabulary + teacher_vocabulary + exec_workers(x) * hidden;
    while (chunk > 64 && chunk * entries > (int64_t)25 << 20)
        chunk /= 2;
    return chunk;
}

int64_t loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                   int64_t hidden)
{
    return HERE_OR_THERE(loss_chunk_cpu(x, vocabulary, teacher_vocabulary, hidden),
                         loss_chunk_cuda(x, vocabulary, teacher_vocabulary));
}

int64_t exec_library_bytes(const struct exec *x) { return (int64_t)x->threads * 3700000; }

void exec_close(struct exec *x)
{
#ifdef PARE_CUDA
    if (x->device == DEVICE_CUDA)
        device_close(x);
#endif
    x->threads = 0;
}
