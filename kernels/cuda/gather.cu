/* gather on CUDA: see kernels/cpu/gather.c. Some blocks a part, as many as the largest is worth. */
#include "cuda.h"

enum { THREADS = 256, EACH = 8, BLOCKS = 512 };

/* The value of in0 and of out that entry i of a part is. */
struct place {
    int64_t from, to;
};
static __device__ __forceinline__ place place_of(const gather_part &p, int64_t i)
{
    entry at = entry_of(i, p.cols);
    return {p.from + at.row * p.from_stride + at.column, p.to + at.row * p.to_stride + at.column};
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    copy_parts(const gather_part *parts, const T *x, T *y)
{
    gather_part p = parts[blockIdx.x];
    for (int64_t i = (int64_t)blockIdx.y * THREADS + threadIdx.x; i < p.rows * p.cols;
         i += (int64_t)gridDim.y * THREADS) {
        place at = place_of(p, i);
        y[at.to] = x[at.from];
    }
}

static __global__ void __launch_bounds__(THREADS)
    add_parts(const gather_part *parts, const float *dy, float *dx)
{
    gather_part p = parts[blockIdx.x];
    for (int64_t i = (int64_t)blockIdx.y * THREADS + threadIdx.x; i < p.rows * p.cols;
         i += (int64_t)gridDim.y * THREADS) {
        place at = place_of(p, i);
        dx[at.from] += dy[at.to];
    }
}

static dim3 grid_of(const struct gather_params *g)
{
    return dim3((unsigned)g->n_parts, min(blocks_of(g->most, THREADS * EACH), (unsigned)BLOCKS));
}

static void gather_fwd(const struct op_args *c)
{
    const struct gather_params *g = &c->p.gather;
    BY_DTYPE(c->out.dtype, T,
             LAUNCH(c, copy_parts<T>, grid_of(g), THREADS, 0, g->parts, (const T *)c->in[0].v,
                    (T *)c->out.v));
    launched(c, "gather forward");
}

static void gather_bwd(const struct op_args *c)
{
    const struct gather_params *g = &c->p.gather;
    LAUNCH(c, add_parts, grid_of(g), THREADS, 0, g->parts, c->out.g, c->in[0].g);
    launched(c, "gather backward");
}

const struct kernel gather_cuda = {.forward = gather_fwd, .backward = gather_bwd};
