/* What processes exchange from device to device, by NCCL, in a stream of its own beside the one
 * that computes. NCCL adds in f32, in an order that depends on the machine and the number of
 * processes. Without NCCL in the build, the host exchanges it (lib/train/share.h). */
#include "cuda.h"

#ifdef PARE_NCCL
#include <nccl.h>

#include "../../lib/base/world.h"

struct exchange {
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t given, done; /* what is computed; what is exchanged */
};

static int nccl_check(struct err *e, ncclResult_t status, const char *what)
{
    return status == ncclSuccess
               ? 0
               : err_set(e, "NCCL: cannot %s: %s", what, ncclGetErrorString(status));
}

static int exchange_open(struct gpu *g, struct exchange *q)
{
    ncclUniqueId id;
    if (!world_rank() && nccl_check(g->err, ncclGetUniqueId(&id), "begin"))
        return -1;
    if (world_broadcast(&id, sizeof id, 0, g->err) ||
        nccl_check(g->err, ncclCommInitRank(&q->comm, world_size(), id, world_rank()),
                   "connect the devices (one process for each?)"))
        return -1;
    return cuda_check(g->err, cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking),
                      "make a stream") ||
                   cuda_check(g->err, cudaEventCreateWithFlags(&q->given, cudaEventDisableTiming),
                              "make an event") ||
                   cuda_check(g->err, cudaEventCreateWithFlags(&q->done, cudaEventDisableTiming),
                              "make an event")
               ? -1
               : 0;
}

int exchange_join(struct exec *x)
{
    struct gpu *g = x->gpu;
    if (!g->exchange)
        g->exchange = (struct exchange *)calloc(1, sizeof *g->exchange);
    if (!g->exchange)
        return err_set(&x->err, "no memory for the connection of the devices");
    return g->exchange->comm || !exchange_open(g, g->exchange) ? 1 : -1;
}

void exchange_close(struct gpu *g)
{
    struct exchange *q = g->exchange;
    if (q && q->comm)
        ncclCommDestroy(q->comm);
    if (q && q->stream)
        cudaStreamDestroy(q->stream);
    if (q && q->given)
        cudaEventDestroy(q->given);
    if (q && q->done)
        cudaEventDestroy(q->done);
    free(q);
    g->exchange = NULL;
}

/* One stream goes on only after what the other has been given so far. */
static int order(struct exec *x, cudaStream_t first, cudaEvent_t event, cudaStream_t then)
{
    return x->err.set || cuda_check(&x->err, cudaEventRecord(event, first), "record an event") ||
                   cuda_check(&x->err, cudaStreamWaitEvent(then, event, 0), "wait for an event")
               ? -1
               : 0;
}

/* Have all ranks pieces of the same size? */
static int is_even(int64_t n) { return n % ((int64_t)WORLD_ALIGN * world_size()) == 0; }

static ncclResult_t reduce_pieces(const struct exchange *q, float *values, int64_t n)
{
    ncclResult_t status = ncclSuccess;
    ncclGroupStart();
    for (int r = 0; r < world_size() && status == ncclSuccess; r++) {
        struct world_piece p = world_piece(n, r);
        if (p.n)
            status = ncclReduce(values + p.first, values + p.first, (size_t)p.n, ncclFloat32,
                                ncclSum, r, q->comm, q->stream);
    }
    ncclResult_t end = ncclGroupEnd();
    return status == ncclSuccess ? end : status;
}

static ncclResult_t spread_pieces(const struct exchange *q, char *values, int64_t n, size_t size)
{
    ncclResult_t status = ncclSuccess;
    ncclGroupStart();
    for (int r = 0; r < world_size() && status == ncclSuccess; r++) {
        struct world_piece p = world_piece(n, r);
        char *at = values + (size_t)p.first * size;
        if (p.n)
            status = ncclBroadcast(at, at, (size_t)p.n * size, ncclUint8, r, q->comm, q->stream);
    }
    ncclResult_t end = ncclGroupEnd();
    return status == ncclSuccess ? end : status;
}

void exchange_reduce(struct exec *x, float *values, int64_t n)
{
    struct exchange *q = x->gpu->exchange;
    struct world_piece own = world_piece(n, world_rank());
    if (order(x, x->gpu->stream, q->given, q->stream))
        return;
    nccl_check(&x->err,
               is_even(n) ? ncclReduceScatter(values, values + own.first, (size_t)own.n,
                                              ncclFloat32, ncclSum, q->comm, q->stream)
                          : reduce_pieces(q, values, n),
               "add gradients up");
}

void exchange_spread(struct exec *x, void *values, int64_t n, size_t size)
{
    struct exchange *q = x->gpu->exchange;
    struct world_piece own = world_piece(n, world_rank());
    char *all = (char *)values;
    if (order(x, x->gpu->stream, q->given, q->stream))
        return;
    nccl_check(&x->err,
               is_even(n) ? ncclAllGather(all + (size_t)own.first * size, all, (size_t)own.n * size,
                                          ncclUint8, q->comm, q->stream)
                          : spread_pieces(q, all, n, size),
               "spread weights");
}

void exchange_finish(struct exec *x)
{
    struct exchange *q = x->gpu->exchange;
    order(x, q->stream, q->done, x->gpu->stream);
}

#else

int exchange_join(struct exec *x)
{
    (void)x;
    return 0;
}

void exchange_close(struct gpu *g) { (void)g; }

/* never called: exec_join says that devices cannot */
void exchange_reduce(struct exec *, float *, int64_t) {}
void exchange_spread(struct exec *, void *, int64_t, size_t) {}
void exchange_finish(struct exec *) {}

#endif
