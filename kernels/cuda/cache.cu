/* cache on CUDA: see kernels/cpu/cache.c. */
#include "cuda.h"

template <class T> struct cache_rows {
    const T *x;
    T *y;
    int64_t cols, seq_len, kv_len;
    first_place pos0;
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, cols), place = entry_of(at.row, seq_len);
        float v[N];
        load(x + i, v);
        store(y + (place.row * kv_len + pos0.get() + place.column) * cols + at.column, v);
    }
};

static void cache_fwd(const struct op_args *c)
{
    const struct batch *b = c->batch;
    int64_t cols = c->in[0].cols;
    BY_DTYPE(c->out.dtype, T, {
        cache_rows<T> f = {(const T *)c->in[0].v, (T *)c->out.v, cols, b->seq_len, b->kv_len,
                           first_place_of(b)};
        map<T>(c, c->rows * cols, aligned16(f.x) && aligned16(f.y) && cols % VECTOR<T> == 0, f);
    });
    launched(c, "cache");
}

const struct kernel cache_cuda = {.forward = cache_fwd};
