/* The CUDA device: its table of functions (backend.h), opened with the exec handle. All work goes
 * to one stream, in the order it was given. */
#include "../../lib/base/world.h"
#include "cuda.h"

enum { RESERVED = 200 }; /* a two-hundredth of the card's memory: 400 MB of 80 GB */

/* Built for this card? The first architecture of the build, 900 for sm_90, is the least that it
 * runs on. */
static int device_fits(struct gpu *g, const cudaDeviceProp *p)
{
#ifdef __CUDA_ARCH_LIST__
    static const int built[] = {__CUDA_ARCH_LIST__};
    int has = 100 * p->major + 10 * p->minor;
    if (has < built[0])
        return err_set(g->err,
                       "this build needs sm_%d or later, but %s is sm_%d: rebuild with make CUDA=1 "
                       "SM=%d",
                       built[0] / 10, p->name, has / 10, has / 10),
               0;
#endif
    (void)g, (void)p;
    return 1;
}

static int stages_open(struct gpu *g)
{
    for (struct stage &s : g->stages)
        if (cuda_check(g->err, cudaMallocHost(&s.bytes, STAGE_BYTES), "allocate pinned memory") ||
            cuda_check(g->err, cudaEventCreateWithFlags(&s.sent, cudaEventDisableTiming),
                       "make an event"))
            return -1;
    return 0;
}

static void stages_close(struct gpu *g)
{
    for (struct stage &s : g->stages) {
        if (s.sent)
            cudaEventDestroy(s.sent);
        cudaFreeHost(s.bytes);
    }
}

/* Processes of a host take its devices in turn; a launcher may have given each its own, which is
 * then the only one that it sees. */
static int own_device(void)
{
    int n = 0;
    if (world_size() == 1 || cudaGetDeviceCount(&n) != cudaSuccess || n < 1)
        return 0;
    return world_place() % n;
}

static int cuda_open(struct exec *x)
{
    struct gpu *g = (struct gpu *)calloc(1, sizeof *g);
    int device = own_device();
    cudaDeviceProp p;
    x->gpu = g;
    if (!g)
        return err_set(&x->err, "no memory for the CUDA device's handle");
    g->err = &x->err;
    if (cuda_check(g->err, cudaSetDevice(device), "open the device") ||
        cuda_check(g->err, cudaGetDeviceProperties(&p, device), "start the device") ||
        cuda_check(g->err, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking),
                   "make a stream"))
        return -1;
    g->major = p.major;
    return !device_fits(g, &p) || stages_open(g) ? -1 : matmul_open(g, p.name);
}

static void cuda_close(struct exec *x)
{
    struct gpu *g = x->gpu;
    if (g && g->stream) {
        exchange_close(g);
        matmul_close(g);
        stages_close(g);
        cudaStreamDestroy(g->stream);
    }
    free(g);
    x->gpu = NULL;
}

/* One call at a time, which fills the device. */
static int cuda_workers(const struct exec *x)
{
    (void)x;
    return 1;
}

/* ---- memory */

static void cuda_release(void *p, size_t bytes)
{
    (void)bytes;
    cudaFree(p);
}

/* Less a reserve for the driver: code of kernels, which is loaded when they first run, and
 * graphs. */
static int64_t cuda_available(struct exec *x)
{
    size_t available = 0, total = 0;
    cuda_check(&x->err, cudaMemGetInfo(&available, &total), "query the free memory");
    return available > total / RESERVED ? (int64_t)(available - total / RESERVED) : 0;
}

static void copy(struct exec *x, void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                 const char *what)
{
    if (!x->err.set && bytes)
        cuda_check(&x->err, cudaMemcpyAsync(to, from, bytes, kind, x->gpu->stream), what);
}

static void wait(struct exec *x)
{
    if (!x->err.set)
        cuda_check(&x->err, cudaStreamSynchronize(x->gpu->stream), "synchronise");
}

/* Through pinned memory: a copy from other memory would wait for all earlier work. Not during a
 * capture, which would read the stage again at each replay. */
static void cuda_put(struct exec *x, void *device, const void *host, size_t bytes)
{
    struct gpu *g = x->gpu;
    for (size_t at = 0, n; at < bytes && !x->err.set; at += n) {
        struct stage *s = &g->stages[g->stage++ % STAGES];
        n = min((int64_t)(bytes - at), (int64_t)STAGE_BYTES);
        if (cuda_check(&x->err, cudaEventSynchronize(s->sent), "finish a copy to the device"))
            return;
        memcpy(s->bytes, (const char *)host + at, n);
        copy(x, (char *)device + at, s->bytes, n, cudaMemcpyHostToDevice, "copy to the device");
        cuda_check(&x->err, cudaEventRecord(s->sent, g->stream), "record an event");
    }
}

static void cuda_get(struct exec *x, void *host, const void *device, size_t bytes)
{
    copy(x, host, device, bytes, cudaMemcpyDeviceToHost, "copy from the device");
    wait(x);
}

static void cuda_copy(struct exec *x, void *to, const void *from, size_t bytes)
{
    copy(x, to, from, bytes, cudaMemcpyDeviceToDevice, "copy on the device");
}

static void cuda_zero(struct exec *x, void *device, size_t bytes)
{
    if (!x->err.set && bytes)
        cuda_check(&x->err, cudaMemsetAsync(device, 0, bytes, x->gpu->stream), "clear memory");
}

static int cuda_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e)
{
    void *base = NULL;
    size_t size = arena_round(bytes);
    int64_t available = cuda_available(x);
    *a = {};
    if ((int64_t)size > available)
        return err_set(e, "the device has %.2f GB of memory left, but %.2f GB are needed",
                       1e-9 * (double)available, 1e-9 * (double)size);
    if (cuda_check(&x->err, cudaMalloc(&base, size ? size : 1), "allocate memory"))
        return err_set(e, "%s", x->err.msg);
    *a = {(unsigned char *)base, size, 0, cuda_release};
    cuda_zero(x, base, size);
    return 0;
}

/* ---- graphs */

struct exec_graph {
    cudaGraphExec_t run;
};

static int cuda_capture(struct exec *x)
{
    return !x->err.set &&
           !cuda_check(&x->err,
                       cudaStreamBeginCapture(x->gpu->stream, cudaStreamCaptureModeRelaxed),
                       "begin a graph");
}

static void cuda_graph_free(struct exec *x, struct exec_graph *g)
{
    wait(x);
    if (g && g->run)
        cudaGraphExecDestroy(g->run);
    free(g);
}

static struct exec_graph *cuda_captured(struct exec *x)
{
    cudaGraph_t graph = NULL;
    struct exec_graph *g = (struct exec_graph *)calloc(1, sizeof *g);
    int failed = cuda_check(&x->err, cudaStreamEndCapture(x->gpu->stream, &graph), "end a graph") ||
                 !g || cuda_check(&x->err, cudaGraphInstantiate(&g->run, graph, 0), "make a graph");
    if (graph)
        cudaGraphDestroy(graph);
    if (!failed && !x->err.set)
        return g;
    cuda_graph_free(x, g);
    return NULL;
}

static void cuda_replay(struct exec *x, struct exec_graph *g)
{
    if (!x->err.set)
        cuda_check(&x->err, cudaGraphLaunch(g->run, x->gpu->stream), "run a graph");
}

static struct slow_products cuda_slow_products(const struct exec *x) { return x->gpu->slow; }

static const char *cuda_algorithms_for(const struct exec *x) { return x->gpu->algorithms_for; }

static const struct kernel *const cuda_kernels[OP_COUNT] = {
#define OP(name, inputs, weights, traits, reads, memo) &name##_cuda,
#include "../ops.def"
#undef OP
};

const struct backend cuda_backend = {
    .name = "cuda",
    .compute = DT_BF16,
    .is_host = 0,
    .kernels = cuda_kernels,
    .open = cuda_open,
    .close = cuda_close,
    .workers = cuda_workers,
    .arena = cuda_arena,
    .put = cuda_put,
    .get = cuda_get,
    .zero = cuda_zero,
    .copy = cuda_copy,
    .available = cuda_available,
    .capture = cuda_capture,
    .captured = cuda_captured,
    .replay = cuda_replay,
    .graph_free = cuda_graph_free,
    .join = exchange_join,
    .reduce = exchange_reduce,
    .spread = exchange_spread,
    .exchanged = exchange_finish,
    .algorithms_for = cuda_algorithms_for,
    .slow_products = cuda_slow_products,
    .loss_chunk = cuda_loss_chunk,
};
