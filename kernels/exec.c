/* The execution handle: see op.h. Each function calls the device's backend. */
#include "backend.h"

#include <omp.h>

#include "../lib/base/mem.h"

static const struct backend *const backends[DEVICE_COUNT] = {
    [DEVICE_CPU] = &cpu_backend,
#ifdef PARE_CUDA
    [DEVICE_CUDA] = &cuda_backend,
#endif
};

const struct backend *backend_of(const struct exec *x) { return backends[x->device]; }

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
    const struct backend *b = backends[device];
    *x = (struct exec){.device = device};
    if (threads < 0 || threads > EXEC_THREADS)
        return err_set(&x->err, "threads %d: must be 0 (all cores) or at most %d", threads,
                       EXEC_THREADS);
    /* the same number in every region, since results may depend on it */
    omp_set_dynamic(0);
    x->threads = threads_delivered(threads ? threads : omp_get_num_procs());
    omp_set_num_threads(x->threads);
    if (!b)
        return err_set(&x->err, "this build has no CUDA kernels: rebuild with make CUDA=1");
    x->compute = b->compute;
    return b->open ? b->open(x) : 0;
}

void exec_close(struct exec *x)
{
    if (backend_of(x)->close)
        backend_of(x)->close(x);
    x->threads = 0;
}

const char *exec_device_name(const struct exec *x) { return backend_of(x)->name; }

int exec_workers(const struct exec *x) { return backend_of(x)->workers(x); }

/* ---- memory */

int exec_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e)
{
    return backend_of(x)->arena(x, a, bytes, e);
}

void exec_put(struct exec *x, void *there, const void *here, size_t bytes)
{
    backend_of(x)->put(x, there, here, bytes);
}

void exec_get(struct exec *x, void *here, const void *there, size_t bytes)
{
    backend_of(x)->get(x, here, there, bytes);
}

void exec_zero(struct exec *x, void *there, size_t bytes) { backend_of(x)->zero(x, there, bytes); }

void exec_copy(struct exec *x, void *to, const void *from, size_t bytes)
{
    backend_of(x)->copy(x, to, from, bytes);
}

const void *exec_view(struct exec *x, void **here, const void *there, size_t bytes)
{
    if (backend_of(x)->is_host)
        return there;
    *here = mem_grow(*here, bytes);
    exec_get(x, *here, there, bytes);
    return *here;
}

int64_t exec_available(struct exec *x) { return backend_of(x)->available(x); }

/* ---- graphs */

int exec_capture(struct exec *x)
{
    const struct backend *b = backend_of(x);
    return b->capture ? b->capture(x) : 0;
}

struct exec_graph *exec_captured(struct exec *x) { return backend_of(x)->captured(x); }

void exec_replay(struct exec *x, struct exec_graph *g) { backend_of(x)->replay(x, g); }

void exec_graph_free(struct exec *x, struct exec_graph *g)
{
    if (g)
        backend_of(x)->graph_free(x, g);
}

/* ---- other processes */

int exec_join(struct exec *x)
{
    const struct backend *b = backend_of(x);
    return b->join ? b->join(x) : 0;
}

void exec_reduce(struct exec *x, float *values, int64_t n) { backend_of(x)->reduce(x, values, n); }

void exec_spread(struct exec *x, void *values, int64_t n, size_t size)
{
    backend_of(x)->spread(x, values, n, size);
}

void exec_exchanged(struct exec *x) { backend_of(x)->exchanged(x); }

/* ---- sizes */

struct slow_products exec_slow_products(const struct exec *x)
{
    const struct backend *b = backend_of(x);
    return b->slow_products ? b->slow_products(x) : (struct slow_products){0};
}

const char *exec_algorithms_for(const struct exec *x)
{
    const struct backend *b = backend_of(x);
    return b->algorithms_for ? b->algorithms_for(x) : NULL;
}

int64_t loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                   int64_t hidden)
{
    return backend_of(x)->loss_chunk(x, vocabulary, teacher_vocabulary, hidden);
}
