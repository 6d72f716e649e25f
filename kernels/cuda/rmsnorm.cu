/* rmsnorm on CUDA: see kernels/cpu/rmsnorm.c for formulas and shapes. One block a row and group; weight gradients by one block for each 32
 * columns that walks over all rows, so nothing is added in an order that varies. Operands and memo are device memory. */
#include "cuda.h"

enum { THREADS = 256, LANES = 32, WALKERS = 32 };

static __device__ float weight_at(const float *w, int64_t i, float plus1) { return w ? w[i] + plus1 : 1; }

/* w_step: n if every group has its own weights, else 0 */
static __global__ void forward(const float *x, const float *w, float *y, float *memo, int64_t n, int64_t groups, int64_t w_step, float plus1, float eps)
{
    int64_t block = blockIdx.x;
    const float *weight = w ? w + block % groups * w_step : NULL;
    double square = 0;
    x += block * n;
    y += block * n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        square += (double)x[i] * x[i];
    float r = (float)(1 / sqrt(block_sum(square) / (double)n + (double)eps));
    if (threadIdx.x == 0)
        memo[block] = r;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        y[i] = x[i] * r * weight_at(weight, i, plus1);
}

static __global__ void backward(const float *x, const float *w, const float *dy, float *dx, const float *memo, int64_t n, int64_t groups,
                                int64_t w_step, float plus1)
{
    int64_t block = blockIdx.x;
    const float *weight = w ? w + block % groups * w_step : NULL;
    float r = memo[block];
    double uh = 0;
    x += block * n;
    dy += block * n;
    dx += block * n;
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        uh += (double)(dy[i] * weight_at(weight, i, plus1)) * x[i];
    float back = (float)(block_sum(uh) * r * r / (double)n);
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        dx[i] += r * (dy[i] * weight_at(weight, i, plus1) - x[i] * back);
}

/* x, dy [rows, cols]; memo holds one value for each `n` values of x. dw[i] += sum over rows of dy x r, 32 columns a block. */
static __global__ void backward_weight(const float *x, const float *dy, const float *memo, int64_t rows, int64_t cols, int64_t n, float *dw)
{
    SHARED(double, part, [WALKERS][LANES]);
    int64_t i = (int64_t)blockIdx.x * LANES + threadIdx.x;
    double s = 0;
    for (int64_t t = threadIdx.y; t < rows && i < cols; t += WALKERS) {
        int64_t at = t * cols + i;
        s += (double)(dy[at] * (x[at] * memo[at / n]));
    }
    part[threadIdx.y][threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.y || i >= cols)
        return;
    for (int k = 1; k < WALKERS; k++)
        s += part[k][threadIdx.x];
    dw[i] += (float)s;
}

void rmsnorm_fwd_cuda(const struct call *c)
{
    const struct norm_params *p = &c->p.norm;
    int64_t n = c->in[0].cols / p->groups;
    if (c->rows <= 0)
        return;
    LAUNCH(c, forward, (unsigned)(c->rows * p->groups), THREADS, 0, (const float *)c->in[0].v, (const float *)c->w[0].v, (float *)c->out.v, c->memo, n,
                                                           p->groups, c->w[0].rows == n ? 0 : n, p->plus1, p->eps);
    launched(c, "rmsnorm forward");
}

void rmsnorm_bwd_cuda(const struct call *c)
{
    const struct norm_params *p = &c->p.norm;
    int64_t n = c->in[0].cols / p->groups, blocks = c->rows * p->groups;
    const float *x = (const float *)c->in[0].v, *w = (const float *)c->w[0].v;
    if (blocks > 0 && c->in[0].g)
        LAUNCH(c, backward, (unsigned)blocks, THREADS, 0, x, w, c->out.g, c->in[0].g, c->memo, n, p->groups, c->w[0].rows == n ? 0 : n, p->plus1);
    if (blocks > 0 && w && c->w[0].g) {
        int64_t cols = c->w[0].rows, rows = blocks * n / cols;     /* shared weights: every group is a row */
        LAUNCH(c, backward_weight, blocks_of(cols, LANES), dim3(LANES, WALKERS), 0, x, c->out.g, c->memo, rows, cols, n, c->w[0].g);
    }
    launched(c, "rmsnorm backward");
}
