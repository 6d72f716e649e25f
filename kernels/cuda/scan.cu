/* scan on CUDA: see kernels/cpu/scan.c. In chunks of CHUNK tokens, between which only states pass:
 *
 *   steps    step and decay of every token and head
 *   starts   the state before every chunk: an entry a thread, token after token, without a sum
 *   outputs  y of a chunk: a channel a thread, entry of the state after entry
 *
 * and backward also
 *
 *   ends     the gradient of the state after every chunk, as `starts` from the last token to the
 *            first
 *   channels dx, and what dd, da and dD are sums of: a channel a thread, as `outputs`
 *   groups   dB and dC of a chunk: a state column n a thread, which takes all channels of the
 *            group's heads in turn
 *
 * A thread has what belongs to the tokens of its chunk in registers. The states of as many
 * sequences as fit into STATES_BYTES are computed at a time. Everything is f32; sums over rows are
 * f64. */
#include "weights.h"

enum { CHUNK = 32, THREADS = 64, STATES_BYTES = 256 << 20 };

/* `states` sequences from the first on at a time; pointers are those of the whole call. */
template <class T> struct scan_call {
    scan_params p;
    const T *x, *B, *C, *dt, *dy;
    const float *A_log, *dt_bias, *D;
    T *y, *dx, *dB, *dC, *ddt;
    float *state;                 /* of op_args */
    float *step, *decay;          /* [rows, M]; decay -1: the document's first token */
    float *of_A, *of_bias, *of_D; /* [rows, M], for the gradients of these */
    float *starts, *ends;         /* [states, chunks, M, N, P] */
    const int32_t *documents;
    int64_t rows, seq_len, chunks, first_seq, states;
    first_place pos0;

    __device__ int64_t size() const { return p.heads * p.state * p.head_dim; }
    __device__ int64_t group_of(int64_t m) const { return m / (p.heads / p.groups); }
    __device__ int64_t channel_at(int64_t t, int64_t m, int64_t i) const
    {
        return (t * p.heads + m) * p.head_dim + i;
    }
    __device__ int64_t column_at(int64_t t, int64_t group, int64_t n) const
    {
        return (t * p.groups + group) * p.state + n;
    }
    /* sequence `s` of those at a time */
    __device__ int64_t state_at(int64_t s, int64_t chunk, int64_t m, int64_t n, int64_t i) const
    {
        return (s * chunks + chunk) * size() + (m * p.state + n) * p.head_dim + i;
    }
};

/* A value that passes a token. */
static __device__ __forceinline__ float decayed(float decay, float h)
{
    return decay < 0 ? 0 : decay * h;
}

/* ---- the step of a token and head */

template <class T> struct scan_steps {
    scan_call<T> k;
    static __device__ float softplus(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }
    template <int N> __device__ void at(int64_t i) const
    {
        entry at = entry_of(i, k.p.heads);
        float dt = widen(k.dt[i]) + k.dt_bias[at.column], soft = softplus(dt);
        float d = fminf(fmaxf(soft, k.p.dt_min), k.p.dt_max);
        int64_t place = k.pos0.get() + at.row % k.seq_len;
        int is_first = place == (k.documents ? k.documents[at.row] : 0);
        k.step[i] = dt != dt ? dt : d;
        k.decay[i] = is_first ? -1 : expf(-k.step[i] * expf(k.A_log[at.column]));
    }
};

/* ---- states between chunks. i: of [states, M, N, P] */

template <class T> struct scan_starts {
    scan_call<T> k;
    template <int N> __device__ void at(int64_t i) const
    {
        entry of = entry_of(i, k.size()), row = entry_of(of.column, k.p.head_dim);
        entry head = entry_of(row.row, k.p.state);
        int64_t m = head.row, n = head.column, t0 = (k.first_seq + of.row) * k.seq_len;
        float *state = k.state ? k.state + k.first_seq * k.size() + i : NULL;
        float h = state && k.pos0.get() ? *state : 0;
        for (int64_t t = 0; t < k.seq_len; t++) {
            int64_t at = (t0 + t) * k.p.heads + m;
            if (t % CHUNK == 0)
                k.starts[k.state_at(of.row, t / CHUNK, m, n, row.column)] = h;
            float u = k.step[at] * widen(k.x[k.channel_at(t0 + t, m, row.column)]);
            h = fmaf(widen(k.B[k.column_at(t0 + t, k.group_of(m), n)]), u, decayed(k.decay[at], h));
        }
        if (state)
            *state = h;
    }
};

template <class T> struct scan_ends {
    scan_call<T> k;
    template <int N> __device__ void at(int64_t i) const
    {
        entry of = entry_of(i, k.size()), row = entry_of(of.column, k.p.head_dim);
        entry head = entry_of(row.row, k.p.state);
        int64_t m = head.row, n = head.column, t0 = (k.first_seq + of.row) * k.seq_len;
        float dh = 0;
        for (int64_t t = k.seq_len - 1; t >= 0; t--) {
            if (t % CHUNK == CHUNK - 1 || t == k.seq_len - 1)
                k.ends[k.state_at(of.row, t / CHUNK, m, n, row.column)] = dh;
            float dy = widen(k.dy[k.channel_at(t0 + t, m, row.column)]);
            dh = fmaf(widen(k.C[k.column_at(t0 + t, k.group_of(m), n)]), dy, dh);
            dh = decayed(k.decay[(t0 + t) * k.p.heads + m], dh);
        }
    }
};

/* ---- a chunk of a head: blockIdx.x a chunk of a sequence, blockIdx.y a head or group */

/* Its tokens, and their steps and decays, which all threads of a block read. */
struct chunk_tokens {
    int64_t seq, chunk, t0, n; /* t0: the row of the first; n of them */
};
template <class T> static __device__ chunk_tokens tokens_of(const scan_call<T> &k)
{
    entry at = entry_of(blockIdx.x, k.chunks);
    int64_t first = at.column * CHUNK;
    return {at.row, at.column, (k.first_seq + at.row) * k.seq_len + first,
            min((int64_t)CHUNK, k.seq_len - first)};
}
template <class T>
static __device__ void read_steps(const scan_call<T> &k, const chunk_tokens &c, int64_t m,
                                  float *step, float *decay)
{
    __syncthreads(); /* those of an earlier head have been read */
    if (threadIdx.x < c.n) {
        step[threadIdx.x] = k.step[(c.t0 + threadIdx.x) * k.p.heads + m];
        decay[threadIdx.x] = k.decay[(c.t0 + threadIdx.x) * k.p.heads + m];
    }
    __syncthreads();
}

template <class T> static __global__ void __launch_bounds__(THREADS) scan_outputs(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    chunk_tokens c = tokens_of(k);
    int64_t m = blockIdx.y, i = (int64_t)blockIdx.z * THREADS + threadIdx.x, group = k.group_of(m);
    float u[CHUNK], y[CHUNK];
    read_steps(k, c, m, step, decay);
    if (i >= k.p.head_dim)
        return;
#pragma unroll
    for (int t = 0; t < CHUNK; t++)
        if (t < c.n) {
            float x = widen(k.x[k.channel_at(c.t0 + t, m, i)]);
            u[t] = step[t] * x;
            y[t] = k.D[m] * x;
        }
    for (int64_t n = 0; n < k.p.state; n++) {
        float h = k.starts[k.state_at(c.seq, c.chunk, m, n, i)];
#pragma unroll
        for (int t = 0; t < CHUNK; t++)
            if (t < c.n) {
                int64_t at = k.column_at(c.t0 + t, group, n);
                h = fmaf(widen(k.B[at]), u[t], decayed(decay[t], h));
                y[t] = fmaf(widen(k.C[at]), h, y[t]);
            }
    }
#pragma unroll
    for (int t = 0; t < CHUNK; t++)
        if (t < c.n)
            k.y[k.channel_at(c.t0 + t, m, i)] = narrow<T>(y[t]);
}

/* One channel of the chunk, backward: sums over the entries of its state. */
struct channel_sums {
    float du[CHUNK], da[CHUNK];
};
template <class T>
static __device__ void channel_backward(const scan_call<T> &k, const chunk_tokens &c, int64_t m,
                                        int64_t i, const float *decay, const float *u,
                                        const float *dy, channel_sums *sums)
{
    float carried[CHUNK];
    int64_t group = k.group_of(m);
#pragma unroll
    for (int t = 0; t < CHUNK; t++)
        sums->du[t] = sums->da[t] = 0;
    for (int64_t n = 0; n < k.p.state; n++) {
        float h = k.starts[k.state_at(c.seq, c.chunk, m, n, i)],
              dh = k.ends[k.state_at(c.seq, c.chunk, m, n, i)];
#pragma unroll
        for (int t = 0; t < CHUNK; t++)
            if (t < c.n) {
                carried[t] = decayed(decay[t], h);
                h = fmaf(widen(k.B[k.column_at(c.t0 + t, group, n)]), u[t], carried[t]);
            }
#pragma unroll
        for (int t = CHUNK - 1; t >= 0; t--)
            if (t < c.n) {
                int64_t at = k.column_at(c.t0 + t, group, n);
                dh = fmaf(widen(k.C[at]), dy[t], dh);
                sums->du[t] = fmaf(widen(k.B[at]), dh, sums->du[t]);
                sums->da[t] = fmaf(dh, carried[t], sums->da[t]);
                dh = decayed(decay[t], dh);
            }
    }
}

/* All channels of a head, THREADS at a time. */
template <class T> static __global__ void __launch_bounds__(THREADS) scan_channels(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    chunk_tokens c = tokens_of(k);
    int64_t m = blockIdx.y;
    float A = -expf(k.A_log[m]), u[CHUNK], dy[CHUNK];
    read_steps(k, c, m, step, decay);
    for (int64_t first = 0; first < k.p.head_dim; first += THREADS) {
        int64_t i = first + threadIdx.x;
        int is_there = i < k.p.head_dim;
        channel_sums sums = {};
#pragma unroll
        for (int t = 0; t < CHUNK; t++) {
            int64_t at = k.channel_at(c.t0 + t, m, i);
            u[t] = is_there && t < c.n ? step[t] * widen(k.x[at]) : 0;
            dy[t] = is_there && t < c.n ? widen(k.dy[at]) : 0;
        }
        if (is_there)
            channel_backward(k, c, m, i, decay, u, dy, &sums);
#pragma unroll
        for (int t = 0; t < CHUNK; t++) {
            if (t >= c.n)
                continue;
            int64_t at = k.channel_at(c.t0 + t, m, i), head = (c.t0 + t) * k.p.heads + m;
            float x = is_there ? widen(k.x[at]) : 0;
            if (is_there && k.dx)
                k.dx[at] = narrow<T>(widen(k.dx[at]) + fmaf(step[t], sums.du[t], k.D[m] * dy[t]));
            float da = block_sum(sums.da[t]), dd = block_sum(sums.du[t] * x),
                  dD = block_sum(dy[t] * x);
            if (threadIdx.x)
                continue;
            k.of_bias[head] = (first ? k.of_bias[head] : 0) + fmaf(A, da, dd);
            k.of_A[head] = (first ? k.of_A[head] : 0) + A * step[t] * da;
            k.of_D[head] = (first ? k.of_D[head] : 0) + dD;
        }
    }
}

template <class T> static __global__ void __launch_bounds__(THREADS) scan_groups(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    chunk_tokens c = tokens_of(k);
    int64_t group = blockIdx.y, n = (int64_t)blockIdx.z * THREADS + threadIdx.x,
            each = k.p.heads / k.p.groups, is_there = n < k.p.state;
    float B[CHUNK], C[CHUNK], dB[CHUNK], dC[CHUNK];
#pragma unroll
    for (int t = 0; t < CHUNK; t++) {
        int64_t at = k.column_at(c.t0 + t, group, n);
        B[t] = is_there && t < c.n ? widen(k.B[at]) : 0;
        C[t] = is_there && t < c.n ? widen(k.C[at]) : 0;
        dB[t] = dC[t] = 0;
    }
    for (int64_t m = group * each; m < (group + 1) * each; m++) {
        read_steps(k, c, m, step, decay);
        for (int64_t i = 0; i < k.p.head_dim && is_there; i++) {
            int64_t channel = k.channel_at(c.t0, m, i), width = k.p.heads * k.p.head_dim,
                    at = k.state_at(c.seq, c.chunk, m, n, i);
            float h = k.starts[at], dh = k.ends[at];
#pragma unroll
            for (int t = 0; t < CHUNK; t++)
                if (t < c.n) {
                    float u = step[t] * widen(k.x[channel + t * width]);
                    h = fmaf(B[t], u, decayed(decay[t], h));
                    dC[t] = fmaf(h, widen(k.dy[channel + t * width]), dC[t]);
                }
#pragma unroll
            for (int t = CHUNK - 1; t >= 0; t--)
                if (t < c.n) {
                    float u = step[t] * widen(k.x[channel + t * width]);
                    dh = fmaf(C[t], widen(k.dy[channel + t * width]), dh);
                    dB[t] = fmaf(dh, u, dB[t]);
                    dh = decayed(decay[t], dh);
                }
        }
    }
#pragma unroll
    for (int t = 0; t < CHUNK; t++) {
        int64_t at = k.column_at(c.t0 + t, group, n);
        if (!is_there || t >= c.n)
            continue;
        if (k.dB)
            k.dB[at] = narrow<T>(widen(k.dB[at]) + dB[t]);
        if (k.dC)
            k.dC[at] = narrow<T>(widen(k.dC[at]) + dC[t]);
    }
}

/* dd, in of_bias, becomes ddt. */
template <class T> struct scan_ddt {
    scan_call<T> k;
    template <int N> __device__ void at(int64_t i) const
    {
        float dt = widen(k.dt[i]) + k.dt_bias[i % k.p.heads], soft = scan_steps<T>::softplus(dt),
              slope = 1 / (1 + expf(-dt));
        if (soft < k.p.dt_min || soft > k.p.dt_max)
            slope = 0;
        k.of_bias[i] *= slope;
        if (k.ddt)
            k.ddt[i] = narrow<T>(widen(k.ddt[i]) + k.of_bias[i]);
    }
};

/* ---- calls */

static int64_t chunks_of(const struct op_args *c)
{
    return (c->batch->seq_len + CHUNK - 1) / CHUNK;
}

/* The states of one sequence between its chunks, and the gradients of these. */
static size_t sequence_bytes(const struct op_args *c)
{
    const struct scan_params *p = &c->p.scan;
    return 2 * (size_t)(chunks_of(c) * p->heads * p->state * p->head_dim) * sizeof(float);
}

/* A longer call never takes less. */
static size_t states_bytes(const struct op_args *c)
{
    size_t one = sequence_bytes(c), all = (size_t)c->batch->n_seq * one, budget = STATES_BYTES,
           some = one > budget ? one : budget;
    return all < some ? all : some;
}

static size_t head_values(const struct op_args *c) { return (size_t)(c->rows * c->p.scan.heads); }

static size_t scan_scratch(const struct op_args *c)
{
    return states_bytes(c) + 5 * head_values(c) * sizeof(float);
}

template <class T> static scan_call<T> call_of(const struct op_args *c)
{
    scan_call<T> k = {};
    const T **in[OP_INPUTS] = {&k.x, &k.B, &k.C, &k.dt};
    T **gradients[OP_INPUTS] = {&k.dx, &k.dB, &k.dC, &k.ddt};
    float **parts[] = {&k.step, &k.decay, &k.of_A, &k.of_bias, &k.of_D};
    for (int i = 0; i < OP_INPUTS; i++) {
        *in[i] = (const T *)c->in[i].v;
        *gradients[i] = (T *)c->in[i].g;
    }
    k.p = c->p.scan;
    k.dy = (const T *)c->out.g;
    k.A_log = (const float *)c->w[0].v;
    k.dt_bias = (const float *)c->w[1].v;
    k.D = (const float *)c->w[2].v;
    k.y = (T *)c->out.v;
    k.state = c->state;
    k.documents = c->batch->starts;
    k.rows = c->rows;
    k.seq_len = c->batch->seq_len;
    k.chunks = chunks_of(c);
    k.pos0 = first_place_of(c->batch);
    k.states = min(c->batch->n_seq, (int64_t)(states_bytes(c) / sequence_bytes(c)));
    k.starts = (float *)c->scratch;
    k.ends = k.starts + k.states * (int64_t)(sequence_bytes(c) / 2 / sizeof(float));
    for (int i = 0; i < 5; i++)
        *parts[i] = (float *)((char *)c->scratch + states_bytes(c)) + i * head_values(c);
    return k;
}

/* Sequences k->first_seq on: how many are computed at a time. */
template <class T> static int64_t sequences(const scan_call<T> *k, const struct op_args *c)
{
    return min(k->states, c->batch->n_seq - k->first_seq);
}

template <class T>
static dim3 grid_of(const scan_call<T> *k, const struct op_args *c, int64_t rows, int64_t columns)
{
    return dim3((unsigned)(sequences(k, c) * k->chunks), (unsigned)rows,
                blocks_of(columns, THREADS));
}

template <class T> static void forward(const struct op_args *c)
{
    scan_call<T> k = call_of<T>(c);
    int64_t size = k.p.heads * k.p.state * k.p.head_dim;
    map<T>(c, (int64_t)head_values(c), 0, scan_steps<T>{k});
    for (; k.first_seq < c->batch->n_seq; k.first_seq += k.states) {
        map<T>(c, sequences(&k, c) * size, 0, scan_starts<T>{k});
        LAUNCH(c, scan_outputs<T>, grid_of(&k, c, k.p.heads, k.p.head_dim), THREADS, 0, k);
    }
}

static void scan_fwd(const struct op_args *c)
{
    if (c->rows)
        BY_DTYPE(c->out.dtype, T, forward<T>(c));
    launched(c, "scan forward");
}

template <class T> static void backward(const struct op_args *c)
{
    scan_call<T> k = call_of<T>(c);
    int64_t size = k.p.heads * k.p.state * k.p.head_dim;
    const float *sums[] = {k.of_A, k.of_bias, k.of_D};
    map<T>(c, (int64_t)head_values(c), 0, scan_steps<T>{k});
    for (; k.first_seq < c->batch->n_seq; k.first_seq += k.states) {
        map<T>(c, sequences(&k, c) * size, 0, scan_starts<T>{k});
        map<T>(c, sequences(&k, c) * size, 0, scan_ends<T>{k});
        LAUNCH(c, scan_channels<T>, grid_of(&k, c, k.p.heads, 1), THREADS, 0, k);
        if (k.dB || k.dC)
            LAUNCH(c, scan_groups<T>, grid_of(&k, c, k.p.groups, k.p.state), THREADS, 0, k);
    }
    map<T>(c, (int64_t)head_values(c), 0, scan_ddt<T>{k});
    for (int i = 0; i < 3; i++)
        if (c->w[i].g)
            add_row_sums(c, sums[i], c->rows, k.p.heads, k.p.heads, c->w[i].g);
}

static void scan_bwd(const struct op_args *c)
{
    if (c->rows)
        BY_DTYPE(c->out.dtype, T, backward<T>(c));
    launched(c, "scan backward");
}

const struct kernel scan_cuda = {
    .forward = scan_fwd, .backward = scan_bwd, .scratch = scan_scratch};
