/* pick on CUDA: see kernels/cpu/pick.c. One block a row, cut into tiles of which each warp sums up
 * its share. A thread looks for one draw: first its tile, then the entry. The largest entries are
 * found one after the other. */
#include "largest.h"

enum { THREADS = 256, TILES = 1024, TILE_LEAST = 256 };

template <class T> struct picked_row {
    const T *z;
    int64_t V, n;
    float inv_temperature, base;
    int32_t *ids;
    float *log_p;
};

template <class T>
static __device__ __forceinline__ float exponential(const picked_row<T> &r, int64_t i)
{
    return expf(widen(r.z[i]) * r.inv_temperature - r.base);
}

template <class T> static __device__ float row_base(const picked_row<T> &r)
{
    float max = -INFINITY;
    for (int64_t i = threadIdx.x; i < r.V; i += blockDim.x)
        max = fmaxf(max, widen(r.z[i]));
    return block_max(max) * r.inv_temperature;
}

/* ---- drawn entries */

template <class T>
static __device__ void sum_tiles(const picked_row<T> &r, int64_t tile, double *sums)
{
    int lane = threadIdx.x % WARP;
    for (int64_t k = threadIdx.x / WARP; k * tile < r.V; k += blockDim.x / WARP) {
        int64_t end = min(r.V, (k + 1) * tile);
        double sum = 0;
        for (int64_t i = k * tile + lane; i < end; i += WARP)
            sum += (double)exponential(r, i);
        sum = warp_sum(sum);
        if (lane == 0)
            sums[k] = sum;
    }
    __syncthreads();
}

template <class T>
static __device__ int32_t entry_at(const picked_row<T> &r, int64_t tile, const double *sums,
                                   double target)
{
    int64_t k = 0, last;
    double end = 0;
    while ((k + 1) * tile < r.V && end + sums[k] <= target)
        end += sums[k++];
    last = k * tile;
    for (int64_t i = last; i < min(r.V, (k + 1) * tile) && end <= target; i++) {
        float e = exponential(r, i);
        end += (double)e;
        last = e > 0 ? i : last; /* rounding may leave the target behind the end of the tile */
    }
    return (int32_t)last;
}

/* Draws, ascending in ids, become entries with their shares. */
template <class T> static __device__ void count_draws(const picked_row<T> &r, double total)
{
    int64_t n = 0;
    for (int64_t i = 0, count = 0; i < r.n; i++) {
        int32_t id = r.ids[i];
        bool is_new = !n || r.ids[n - 1] != id;
        count = is_new ? 1 : count + 1;
        n += is_new;
        r.ids[n - 1] = id;
        r.log_p[n - 1] = (float)log((double)count / (double)r.n);
    }
    for (int64_t i = n; i < r.n; i++) {
        r.ids[i] = INT32_MAX;
        r.log_p[i] = -INFINITY;
    }
    r.log_p[r.n] = isfinite(total) ? -INFINITY : NAN;
}

template <class T> static __device__ void draw(const picked_row<T> &r, const double *uniform)
{
    SHARED(double, sums, [TILES]);
    int64_t tile = max((int64_t)TILE_LEAST, (r.V + TILES - 1) / TILES);
    double total = 0;
    sum_tiles(r, tile, sums);
    for (int64_t k = 0; k * tile < r.V; k++)
        total += sums[k];
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x)
        r.ids[i] = entry_at(r, tile, sums, uniform[i] * total);
    __syncthreads();
    if (threadIdx.x == 0)
        count_draws(r, total);
}

/* ---- the largest entries */

/* In the order of ids. */
template <class T> static __device__ void sort_ids(const picked_row<T> &r, int32_t *scratch)
{
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x) {
        int64_t rank = 0;
        for (int64_t k = 0; k < r.n; k++)
            rank += r.ids[k] < r.ids[i];
        scratch[rank] = r.ids[i];
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x)
        r.ids[i] = scratch[i];
    __syncthreads();
}

/* The rest is summed up relative to its own largest: it may be far below the selected ones. */
template <class T> static __device__ void list_largest(picked_row<T> r)
{
    float z = INFINITY;
    int64_t id = -1;
    double rest = 0, sum = 0, inv_temperature = r.inv_temperature, top = r.base;
    for (int64_t k = 0; k < r.n; k++) {
        id = next_largest(r.z, r.V, z, id);
        z = widen(r.z[id]);
        if (threadIdx.x == 0)
            r.ids[k] = (int32_t)id;
    }
    r.base = widen(r.z[r.n < r.V ? next_largest(r.z, r.V, z, id) : id]) * r.inv_temperature;
    for (int64_t i = threadIdx.x; i < r.V; i += blockDim.x)
        rest += is_before(z, id, widen(r.z[i]), i) ? (double)exponential(r, i) : 0;
    double log_rest = log(block_sum(rest)) + (double)r.base;
    sort_ids(r, (int32_t *)(void *)r.log_p);
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x)
        sum += exp((double)widen(r.z[r.ids[i]]) * inv_temperature - top);
    double log_all = top + log(block_sum(sum) + exp(log_rest - top));
    for (int64_t i = threadIdx.x; i < r.n; i += blockDim.x)
        r.log_p[i] = (float)((double)widen(r.z[r.ids[i]]) * inv_temperature - log_all);
    if (threadIdx.x == 0)
        r.log_p[r.n] = (float)(log_rest - log_all);
}

template <class T>
static __global__ void __launch_bounds__(THREADS)
    pick_rows(const T *z, int64_t V, int64_t n, float inv_temperature, const double *uniform,
              int32_t *out)
{
    picked_row<T> r = {
        z + blockIdx.x * V, V, n, inv_temperature, 0, out + blockIdx.x * (2 * n + 1), NULL};
    r.log_p = (float *)(void *)(r.ids + n);
    r.base = row_base(r);
    if (uniform)
        draw(r, uniform + blockIdx.x * n);
    else
        list_largest(r);
}

static void pick_fwd(const struct op_args *c)
{
    const struct pick_params *p = &c->p.pick;
    if (c->rows > 0)
        BY_DTYPE(c->in[0].dtype, T,
                 LAUNCH(c, pick_rows<T>, (unsigned)c->rows, THREADS, 0, (const T *)c->in[0].v,
                        c->in[0].cols, p->n, 1 / p->temperature, p->uniform, (int32_t *)p->out));
    launched(c, "pick");
}

const struct kernel pick_cuda = {.forward = pick_fwd};
