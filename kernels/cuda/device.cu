/* The CUDA device: opened with the exec handle, its memory and copies. See device.h. All work goes
 * to one stream, in the order it was given. */
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
        return err_set(
                   g->err,
                   "this build is for cards of sm_%d and later, and %s is sm_%d: make CUDA=1 SM=%d",
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

int device_open(struct exec *x)
{
    struct gpu *g = (struct gpu *)calloc(1, sizeof *g);
    cudaDeviceProp p;
    x->gpu = g;
    if (!g)
        return err_set(&x->err, "no memory for the CUDA device's handle");
    g->err = &x->err;
    if (cuda_check(g->err, cudaSetDevice(0), "open device 0") ||
        cuda_check(g->err, cudaGetDeviceProperties(&p, 0), "start device 0") ||
        cuda_check(g->err, cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking),
                   "make a stream"))
        return -1;
    g->major = p.major;
    g->shared_most = p.sharedMemPerBlockOptin;
    return !device_fits(g, &p) || stages_open(g) ? -1 : matmul_open(g);
}

void device_close(struct exec *x)
{
    struct gpu *g = x->gpu;
    if (g && g->stream) {
        matmul_close(g);
        stages_close(g);
        cudaStreamDestroy(g->stream);
    }
    free(g);
    x->gpu = NULL;
}

void *device_alloc(struct exec *x, size_t bytes)
{
    void *p = NULL;
    return cuda_check(&x->err, cudaMalloc(&p, bytes ? bytes : 1), "allocate memory") ? NULL : p;
}

void device_free(void *p, size_t bytes)
{
    (void)bytes;
    cudaFree(p);
}

/* Less what the driver takes later for itself: code of kernels, which it loads when they first run,
 * and graphs. */
size_t device_available(struct exec *x)
{
    size_t available = 0, total = 0;
    cuda_check(&x->err, cudaMemGetInfo(&available, &total), "ask for free memory");
    return available > total / RESERVED ? available - total / RESERVED : 0;
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
        cuda_check(&x->err, cudaStreamSynchronize(x->gpu->stream), "finish the work given to it");
}

/* Through pinned memory: the driver would make a copy from other memory wait for all work given
 * before. Not within a capture, which would read the stage again at each replay. */
void device_put(struct exec *x, void *device, const void *host, size_t bytes)
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

void device_get(struct exec *x, void *host, const void *device, size_t bytes)
{
    copy(x, host, device, bytes, cudaMemcpyDeviceToHost, "copy from the device");
    wait(x);
}

void device_copy(struct exec *x, void *to, const void *from, size_t bytes)
{
    copy(x, to, from, bytes, cudaMemcpyDeviceToDevice, "copy on the device");
}

void device_zero(struct exec *x, void *device, size_t bytes)
{
    if (!x->err.set && bytes)
        cuda_check(&x->err, cudaMemsetAsync(device, 0, bytes, x->gpu->stream), "clear memory");
}

/* ---- graphs */

struct exec_graph {
    cudaGraphExec_t run;
};

int device_capture(struct exec *x)
{
    return !x->err.set &&
           !cuda_check(&x->err,
                       cudaStreamBeginCapture(x->gpu->stream, cudaStreamCaptureModeRelaxed),
                       "begin a graph");
}

struct exec_graph *device_captured(struct exec *x)
{
    cudaGraph_t graph = NULL;
    struct exec_graph *g = (struct exec_graph *)calloc(1, sizeof *g);
    int failed = cuda_check(&x->err, cudaStreamEndCapture(x->gpu->stream, &graph), "end a graph") ||
                 !g || cuda_check(&x->err, cudaGraphInstantiate(&g->run, graph, 0), "make a graph");
    if (graph)
        cudaGraphDestroy(graph);
    if (!failed && !x->err.set)
        return g;
    device_graph_free(g);
    return NULL;
}

void device_replay(struct exec *x, struct exec_graph *g)
{
    if (!x->err.set)
        cuda_check(&x->err, cudaGraphLaunch(g->run, x->gpu->stream), "run a graph");
}

void device_graph_free(struct exec_graph *g)
{
    if (g && g->run)
        cudaGraphExecDestroy(g->run);
    free(g);
}

int64_t device_slow_size(const struct exec *x, int64_t *multiple)
{
    *multiple = x->gpu->odd_multiple;
    return x->gpu->odd_size;
}
