/* adamw on CUDA: see kernels/cpu/adamw.c. One launch and one pass over p, m, v and g for all
 * parameters, also where only a part decays; it clips, and also writes the bf16 copy of p where one
 * is kept. */
#include "cuda.h"

struct adamw_step {
    struct adamw_params a;

    /* How many edges lie at or before i; between an odd number of them and the next, values decay.
     */
    __device__ int64_t edges_up_to(int64_t i) const
    {
        int64_t low = 0, high = a.n_edges;
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (a.edges[middle] <= i)
                low = middle + 1;
            else
                high = middle;
        }
        return low;
    }

    template <int N> __device__ void at(int64_t i) const
    {
        float lr = a.step[0], correct1 = a.step[1], correct2 = a.step[2], clip = a.step[3],
              decay = lr * a.weight_decay, p[N], m[N], v[N], g[N];
        load(a.p + i, p);
        load(a.m + i, m);
        load(a.v + i, v);
        load(a.g + i, g);
        int64_t edge = edges_up_to(i), next = edge < a.n_edges ? a.edges[edge] : a.n;
#pragma unroll
        for (int k = 0; k < N; k++) {
            if (k > 0 && i + k == next) {
                edge = edges_up_to(i + k);
                next = edge < a.n_edges ? a.edges[edge] : a.n;
            }
            float x = g[k] * clip;
            m[k] = a.beta1 * m[k] + (1 - a.beta1) * x;
            v[k] = a.beta2 * v[k] + (1 - a.beta2) * (x * x);
            p[k] = p[k] - (edge % 2 || !a.n_edges ? decay : 0) * p[k] -
                   lr * (m[k] * correct1) / (sqrtf(v[k] * correct2) + a.eps);
        }
        store(a.p + i, p);
        store(a.m + i, m);
        store(a.v + i, v);
        if (a.copy)
            store((bf16 *)a.copy + i, p);
    }
};

static void adamw_fwd(const struct op_args *c)
{
    const struct adamw_params *a = &c->p.adamw;
    int aligned = aligned16(a->p) && aligned16(a->m) && aligned16(a->v) && aligned16(a->g) &&
                  aligned16(a->copy);
    map<bf16>(c, a->n, aligned, adamw_step{*a});
    launched(c, "adamw");
}

const struct kernel adamw_cuda = {.forward = adamw_fwd};
