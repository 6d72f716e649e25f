/* divergence on CUDA: see kernels/op.h for the columns. One block a row, which is walked for the
 * softmaxes and once for each of the most probable tokens. */
#include "largest.h"

#define FORMULA static __device__ __forceinline__
#include "../divergence.h"

enum { THREADS = 256 };

struct ranks {
    int of[AGREEMENTS];
};

template <class T> static __device__ float largest(const T *z, int64_t n)
{
    float max = -INFINITY;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        max = fmaxf(max, widen(z[i]));
    return block_max(max);
}

template <class T> static __device__ double log_sum(const T *z, int64_t n)
{
    float base = largest(z, n);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += (double)expf(widen(z[i]) - base);
    return (double)base + log(block_sum(sum));
}

/* The mean of zt - zs under the teacher; entries of no probability do not count. */
template <class S, class T>
static __device__ double mean_difference(const S *zs, const T *zt, int64_t n)
{
    float base = largest(zt, n);
    double sum = 0, all = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        float e = expf(widen(zt[i]) - base);
        all += (double)e;
        sum += e > 0 ? (double)(e * (widen(zt[i]) - widen(zs[i]))) : 0;
    }
    sum = block_sum(sum);
    return sum / block_sum(all);
}

template <class T> static __device__ void top_of(const T *z, int64_t n, int32_t *ids)
{
    float least = INFINITY;
    int64_t id = -1;
    for (int64_t k = 0; k < min(n, (int64_t)AGREEMENT_MOST); k++) {
        id = next_largest(z, n, least, id);
        least = widen(z[id]);
        if (threadIdx.x == 0)
            ids[k] = (int32_t)id;
    }
}

template <class S, class T>
static __global__ void __launch_bounds__(THREADS)
    divergence_rows(const S *student, int64_t V, const T *teacher, int64_t Vt,
                    const int32_t *labels, ranks k, double *out)
{
    SHARED(int32_t, ids, [2 * AGREEMENT_MOST]);
    const S *zs = student + blockIdx.x * V;
    const T *zt = teacher + blockIdx.x * Vt;
    int64_t shared = min(V, Vt);
    int32_t label = labels[blockIdx.x];
    out += blockIdx.x * (int64_t)DIVERGENCE_COLUMNS;
    if (label < 0) {
        if (threadIdx.x < DIVERGENCE_COLUMNS)
            out[threadIdx.x] = 0;
        return;
    }
    double log_s = log_sum(zs, shared), log_t = log_sum(zt, shared),
           all_s = V > shared ? log_sum(zs, V) : log_s,
           all_t = Vt > shared ? log_sum(zt, Vt) : log_t,
           difference = mean_difference(zs, zt, shared);
    top_of(zs, shared, ids);
    top_of(zt, shared, ids + AGREEMENT_MOST);
    if (threadIdx.x)
        return;
    out[DIVERGENCE_KL] = divergence_kl(difference, log_s, log_t);
    out[DIVERGENCE_NLL] = all_s - (double)widen(zs[label]);
    out[DIVERGENCE_TEACHER_NLL] = label < Vt ? all_t - (double)widen(zt[label]) : (double)INFINITY;
    for (int i = 0; i < AGREEMENTS; i++)
        out[DIVERGENCE_SAME + i] = divergence_same(ids, ids + AGREEMENT_MOST,
                                                   (int)min((int64_t)k.of[i], shared));
}

static void divergence_fwd(const struct op_args *c)
{
    const struct operand *s = &c->in[0], *t = &c->in[1];
    ranks k;
    for (int i = 0; i < AGREEMENTS; i++)
        k.of[i] = agreement_ranks[i];
    if (c->rows > 0)
        BY_DTYPE(s->dtype, S,
                 BY_DTYPE(t->dtype, T,
                          LAUNCH(c, (divergence_rows<S, T>), (unsigned)c->rows, THREADS, 0,
                                 (const S *)s->v, s->cols, (const T *)t->v, t->cols,
                                 c->batch->labels, k, (double *)c->out.v)));
    launched(c, "divergence");
}

const struct kernel divergence_cuda = {.forward = divergence_fwd};
