/* rope on CUDA: see kernels/cpu/rope.c. A thread rotates N pairs of one head (N neighbouring pairs
 * where sizes allow), or copies N channels beyond `dims`. Refuses 2^32 pairs and more in a call.
 */
#include "cuda.h"

template <class T> struct rotation {
    const T *from;
    T *to;
    const float *cosine, *sine;
    first_place pos0;
    const int32_t *starts; /* of the batch, or NULL */
    /* each: work items of a head, half + D - dims; 32 bits, for the divisions */
    unsigned seq_len, heads, D, half, each;
    float sign;
    int interleaved, set; /* set: `to` is overwritten, else added to */

    template <int N> __device__ void put(T *y, float (&v)[N]) const
    {
        float before[N];
        if (!set) {
            load(y, before);
#pragma unroll
            for (int k = 0; k < N; k++)
                v[k] += before[k];
        }
        store(y, v);
    }

    template <int N> __device__ void at(int64_t work) const
    {
        unsigned item = (unsigned)work, i = item % each, head = item / each, row = head / heads;
        const T *x = from + (int64_t)head * D;
        T *y = to + (int64_t)head * D;
        float a[N], b[N], c[N], s[N], u[N], v[N];
        if (i >= half) {
            load(x + half + i, a);
            put(y + half + i, a);
            return;
        }
        unsigned first = interleaved ? 2 * i : i;
        unsigned second = interleaved ? 2 * i + 1 : i + half;
        int64_t place = pos0.get() + row % seq_len;
        int64_t angle = (place - (starts ? starts[row] : 0)) * half + i;
        load(x + first, a);
        load(x + second, b);
        load(cosine + angle, c);
        load(sine + angle, s);
#pragma unroll
        for (int k = 0; k < N; k++) {
            u[k] = a[k] * c[k] - b[k] * (sign * s[k]);
            v[k] = b[k] * c[k] + a[k] * (sign * s[k]);
        }
        put(y + first, u);
        put(y + second, v);
    }
};

template <class T>
static void rotate_rows(const struct op_args *c, const void *from, void *to, float sign, int set)
{
    const struct rope_params *p = &c->p.rope;
    int64_t D = c->in[0].cols / p->heads, half = p->dims / 2, each = half + D - p->dims;
    rotation<T> f = {(const T *)from,
                     (T *)to,
                     p->cos,
                     p->sin,
                     first_place_of(c->batch),
                     c->batch->starts,
                     (unsigned)c->batch->seq_len,
                     (unsigned)p->heads,
                     (unsigned)D,
                     (unsigned)half,
                     (unsigned)each,
                     sign,
                     p->interleaved,
                     set};
    int even = !p->interleaved && D % VECTOR<T> == 0 && half % VECTOR<T> == 0;
    map<T>(c, c->rows * p->heads * each,
           even && aligned16(from) && aligned16(to) && aligned16(f.cosine) && aligned16(f.sine), f);
}

static int rope_check(const struct op_args *c, struct err *e)
{
    return c->rows * c->in[0].cols > UINT32_MAX
               ? err_set(e, "rope on CUDA takes fewer than 2^32 values, not %lld rows of %lld",
                         (long long)c->rows, (long long)c->in[0].cols)
               : 0;
}

static void rope_fwd(const struct op_args *c)
{
    BY_DTYPE(c->out.dtype, T, rotate_rows<T>(c, c->in[0].v, c->out.v, 1, 1));
    launched(c, "rope forward");
}

static void rope_bwd(const struct op_args *c)
{
    if (c->in[0].g)
        BY_DTYPE(c->out.dtype, T, rotate_rows<T>(c, c->out.g, c->in[0].g, -1, c->in[0].overwrite));
    launched(c, "rope backward");
}

const struct kernel rope_cuda = {
    .forward = rope_fwd, .backward = rope_bwd, .check = rope_check, .sets = 1};
