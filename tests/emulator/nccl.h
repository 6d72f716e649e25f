/* Emulated: the part of NCCL that kernels/cuda/nccl.cu uses, by messages between the processes'
 * hosts (lib/base/world.h). */
#ifndef EMULATED_NCCL_H
#define EMULATED_NCCL_H

#include <string.h>

#include <vector>

#include "../../lib/base/world.h"
#include "cuda_runtime.h"

enum ncclResult_t { ncclSuccess, ncclInternalError = 3 };
enum ncclDataType_t { ncclUint8 = 1, ncclFloat32 = 7 };
enum ncclRedOp_t { ncclSum };
struct ncclUniqueId {
    char internal[128];
};
typedef struct emulated_comm *ncclComm_t;

static inline const char *ncclGetErrorString(ncclResult_t) { return "emulated"; }
static inline ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 1, sizeof *id);
    return ncclSuccess;
}
/* The identity must have come from rank 0. */
static inline ncclResult_t ncclCommInitRank(ncclComm_t *comm, int n, ncclUniqueId id, int rank)
{
    *comm = (ncclComm_t)(uintptr_t)1;
    return id.internal[127] == 1 && n == world_size() && rank == world_rank() ? ncclSuccess
                                                                              : ncclInternalError;
}
static inline ncclResult_t ncclCommDestroy(ncclComm_t) { return ncclSuccess; }
static inline ncclResult_t ncclGroupStart(void) { return ncclSuccess; }
static inline ncclResult_t ncclGroupEnd(void) { return ncclSuccess; }

/* At once: the hosts' own messages go the same way, in the order of the calls. */
static inline void emulated_exchange(std::function<void()> work)
{
    emulated_enqueue(work);
    cudaDeviceSynchronize();
}

static inline void emulated_await(void)
{
    struct err e = {};
    world_wait(&e);
}

static inline ncclResult_t ncclReduceScatter(const void *, void *to, size_t n, ncclDataType_t,
                                             ncclRedOp_t, ncclComm_t, cudaStream_t)
{
    emulated_exchange([=] {
        world_reduce((float *)to - n * (size_t)world_rank(), (int64_t)n * world_size());
        emulated_await();
    });
    return ncclSuccess;
}

static inline ncclResult_t ncclAllGather(const void *, void *to, size_t n, ncclDataType_t,
                                         ncclComm_t, cudaStream_t)
{
    emulated_exchange([=] {
        for (int r = 0; r < world_size(); r++) {
            struct err e = {};
            world_broadcast((char *)to + n * (size_t)r, n, r, &e);
        }
    });
    return ncclSuccess;
}

static inline ncclResult_t ncclReduce(const void *from, void *to, size_t n, ncclDataType_t,
                                      ncclRedOp_t, int root, ncclComm_t, cudaStream_t)
{
    emulated_exchange([=] {
        struct err e = {};
        std::vector<double> sums((const float *)from, (const float *)from + n);
        world_sum(sums.data(), (int64_t)n, &e);
        for (size_t i = 0; i < n && root == world_rank(); i++)
            ((float *)to)[i] = (float)sums[i];
    });
    return ncclSuccess;
}

static inline ncclResult_t ncclBroadcast(const void *, void *to, size_t n, ncclDataType_t, int root,
                                         ncclComm_t, cudaStream_t)
{
    emulated_exchange([=] {
        struct err e = {};
        world_broadcast(to, n, root, &e);
    });
    return ncclSuccess;
}

#endif
