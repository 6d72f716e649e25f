/* scan on CUDA: see kernels/cpu/scan.c. In chunks of CHUNK tokens, between which only states pass:
 *
 *   steps    step and decay of every token and head
 *   states   the state before every chunk: ENTRIES of a channel a thread, token after token
 *   outputs  y of a chunk: a channel a thread, entry of the state after entry
 *
 * and backward also
 *
 *   states   the gradient of the state after every chunk, from the last token to the first
 *   channels dx, and what dd, da and dD are sums of: a channel a thread, as `outputs`
 *   groups   dB and dC of a chunk: a state column n a thread, which takes all channels of the
 *            group's heads in turn
 *
 * A thread has what belongs to the tokens of its chunk in registers. The states of as many
 * sequences as fit into STATES_BYTES are computed at a time. Everything is f32; sums over rows are
 * f64. */
#include "scan.h"

#include "weights.h"

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

/* ---- states between chunks: the state before every chunk or, BACK, the gradient of that after it.
 * blockIdx.x: a sequence and ENTRIES columns of the state, blockIdx.y a head; a channel a thread */

template <bool BACK>
static __device__ __forceinline__ float after_token(float h, float weight, float value, float decay)
{
    return BACK ? decayed(decay, fmaf(weight, value, h)) : fmaf(weight, value, decayed(decay, h));
}

template <class T, bool BACK>
static __global__ void __launch_bounds__(THREADS) scan_states(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    SHARED(float, weights, [ENTRIES][PITCH]); /* B; BACK: C */
    entry at = entry_of(blockIdx.x, (k.p.state + ENTRIES - 1) / ENTRIES);
    int64_t seq = at.row, n = at.column * ENTRIES, m = blockIdx.y, group = k.group_of(m),
            i = (int64_t)blockIdx.z * THREADS + threadIdx.x, left = k.p.state - n,
            width = k.p.heads * k.p.head_dim, columns = k.p.groups * k.p.state;
    bool is_there = i < k.p.head_dim;
    float h[ENTRIES] = {}, *kept = k.state ? k.state + k.kept_at(seq, m, n, i) : NULL;
#pragma unroll
    for (int e = 0; e < ENTRIES; e++)
        if (!BACK && kept && k.pos0.get() && is_there && e < left)
            h[e] = kept[e * k.p.head_dim];
    for (int64_t j = 0; j < k.chunks; j++) {
        chunk_tokens c = tokens_of(k, seq, BACK ? k.chunks - 1 - j : j);
        const T *values = (BACK ? k.dy : k.x) + k.channel_at(c.t0, m, i);
        float *to = (BACK ? k.ends : k.starts) + k.state_at(seq, c.chunk, m, n, i);
        read_steps(k, c, m, step, decay);
        read_tile<ENTRIES>(weights, (BACK ? k.C : k.B) + k.column_at(c.t0, group, n), columns, c.n,
                           left, NULL);
        __syncthreads();
#pragma unroll
        for (int e = 0; e < ENTRIES; e++)
            if (is_there && e < left)
                to[e * k.p.head_dim] = h[e];
#pragma unroll 2
        for (int t4 = 0; t4 < CHUNK; t4 += 4) {
            int t = BACK ? CHUNK - 4 - t4 : t4;
            float v[4], w[4], a[4], s[4];
            load(decay + t, a);
            load(step + t, s);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                v[e] = is_there && t + e < c.n ? widen(values[(t + e) * width]) : 0;
                v[e] *= BACK ? 1 : s[e];
            }
#pragma unroll
            for (int e = 0; e < ENTRIES; e++) {
                load(weights[e] + t, w);
#pragma unroll
                for (int b = 0; b < 4; b++) {
                    int of = BACK ? 3 - b : b;
                    h[e] = after_token<BACK>(h[e], w[of], v[of], a[of]);
                }
            }
        }
    }
#pragma unroll
    for (int e = 0; e < ENTRIES; e++)
        if (!BACK && kept && is_there && e < left)
            kept[e * k.p.head_dim] = h[e];
}

/* ---- outputs and gradients: blockIdx.x a chunk of a sequence, blockIdx.y a head or group */

template <class T> static __global__ void __launch_bounds__(THREADS) scan_outputs(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    SHARED(float, B, [TILE][PITCH]);
    SHARED(float, C, [TILE][PITCH]);
    chunk_tokens c = tokens_of_block(k);
    int64_t m = blockIdx.y, i = (int64_t)blockIdx.z * THREADS + threadIdx.x, group = k.group_of(m),
            pitch = k.p.groups * k.p.state;
    bool is_there = i < k.p.head_dim;
    float u[CHUNK], y[CHUNK];
    read_steps(k, c, m, step, decay);
#pragma unroll
    for (int t = 0; t < CHUNK; t++) {
        float x = is_there && t < c.n ? widen(k.x[k.channel_at(c.t0 + t, m, i)]) : 0;
        u[t] = step[t] * x;
        y[t] = k.D[m] * x;
    }
    for (int64_t first = 0; first < k.p.state; first += TILE) {
        int64_t left = min((int64_t)TILE, k.p.state - first), at = k.column_at(c.t0, group, first);
        __syncthreads();
        read_tile<TILE>(B, k.B + at, pitch, c.n, left, NULL);
        read_tile<TILE>(C, k.C + at, pitch, c.n, left, NULL);
        __syncthreads();
        for (int n = 0; n < left && is_there; n++)
            channel_forward(B[n], C[n], decay, u,
                            k.starts[k.state_at(c.seq, c.chunk, m, first + n, i)], y);
    }
#pragma unroll
    for (int t = 0; t < CHUNK; t++)
        if (is_there && t < c.n)
            k.y[k.channel_at(c.t0 + t, m, i)] = narrow<T>(y[t]);
}

/* All channels of a head, THREADS at a time. */
template <class T> static __global__ void __launch_bounds__(THREADS) scan_channels(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    SHARED(float, B, [TILE][PITCH]);
    SHARED(float, C, [TILE][PITCH]);
    chunk_tokens c = tokens_of_block(k);
    int64_t m = blockIdx.y, group = k.group_of(m), pitch = k.p.groups * k.p.state;
    float A = -expf(k.A_log[m]), u[CHUNK], dy[CHUNK];
    read_steps(k, c, m, step, decay);
    for (int64_t channel = 0; channel < k.p.head_dim; channel += THREADS) {
        int64_t i = channel + threadIdx.x;
        bool is_there = i < k.p.head_dim;
        channel_sums sums = {};
#pragma unroll
        for (int t = 0; t < CHUNK; t++) {
            int64_t at = k.channel_at(c.t0 + t, m, i);
            u[t] = is_there && t < c.n ? step[t] * widen(k.x[at]) : 0;
            dy[t] = is_there && t < c.n ? widen(k.dy[at]) : 0;
        }
        for (int64_t first = 0; first < k.p.state; first += TILE) {
            int64_t left = min((int64_t)TILE, k.p.state - first),
                    at = k.column_at(c.t0, group, first);
            __syncthreads();
            read_tile<TILE>(B, k.B + at, pitch, c.n, left, NULL);
            read_tile<TILE>(C, k.C + at, pitch, c.n, left, NULL);
            __syncthreads();
            for (int n = 0; n < left && is_there; n++) {
                int64_t state = k.state_at(c.seq, c.chunk, m, first + n, i);
                channel_backward(B[n], C[n], decay, u, dy, k.starts[state], k.ends[state], &sums);
            }
        }
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
            k.of_bias[head] = (channel ? k.of_bias[head] : 0) + fmaf(A, da, dd);
            k.of_A[head] = (channel ? k.of_A[head] : 0) + A * step[t] * da;
            k.of_D[head] = (channel ? k.of_D[head] : 0) + dD;
        }
    }
}

template <class T> static __global__ void __launch_bounds__(THREADS) scan_groups(scan_call<T> k)
{
    SHARED(float, step, [CHUNK]);
    SHARED(float, decay, [CHUNK]);
    SHARED(float, u, [TILE][PITCH]);
    SHARED(float, dy, [TILE][PITCH]);
    chunk_tokens c = tokens_of_block(k);
    int64_t group = blockIdx.y, n = (int64_t)blockIdx.z * THREADS + threadIdx.x,
            each = k.p.heads / k.p.groups, pitch = k.p.heads * k.p.head_dim;
    bool is_there = n < k.p.state;
    float B[CHUNK], C[CHUNK];
    column_sums sums = {};
#pragma unroll
    for (int t = 0; t < CHUNK; t++) {
        int64_t at = k.column_at(c.t0 + t, group, n);
        B[t] = is_there && t < c.n ? widen(k.B[at]) : 0;
        C[t] = is_there && t < c.n ? widen(k.C[at]) : 0;
    }
    for (int64_t m = group * each; m < (group + 1) * each; m++) {
        read_steps(k, c, m, step, decay);
        for (int64_t first = 0; first < k.p.head_dim; first += TILE) {
            int64_t left = min((int64_t)TILE, k.p.head_dim - first),
                    at = k.channel_at(c.t0, m, first);
            __syncthreads();
            read_tile<TILE>(u, k.x + at, pitch, c.n, left, step);
            read_tile<TILE>(dy, k.dy + at, pitch, c.n, left, NULL);
            __syncthreads();
            for (int i = 0; i < left && is_there; i++) {
                int64_t state = k.state_at(c.seq, c.chunk, m, n, first + i);
                column_backward(u[i], dy[i], decay, B, C, k.starts[state], k.ends[state], &sums);
            }
        }
    }
#pragma unroll
    for (int t = 0; t < CHUNK; t++) {
        int64_t at = k.column_at(c.t0 + t, group, n);
        if (!is_there || t >= c.n)
            continue;
        if (k.dB)
            k.dB[at] = narrow<T>(widen(k.dB[at]) + sums.dB[t]);
        if (k.dC)
            k.dC[at] = narrow<T>(widen(k.dC[at]) + sums.dC[t]);
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

template <class T, bool BACK> static void run_states(const scan_call<T> *k, const struct op_args *c)
{
    dim3 grid((unsigned)sequences(k, c) * blocks_of(k->p.state, ENTRIES), (unsigned)k->p.heads,
              blocks_of(k->p.head_dim, THREADS));
    LAUNCH(c, (scan_states<T, BACK>), grid, THREADS, 0, *k);
}

template <class T> static void forward(const struct op_args *c)
{
    scan_call<T> k = call_of<T>(c);
    map<T>(c, (int64_t)head_values(c), 0, scan_steps<T>{k});
    for (; k.first_seq < c->batch->n_seq; k.first_seq += k.states) {
        run_states<T, false>(&k, c);
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
    const float *sums[] = {k.of_A, k.of_bias, k.of_D};
    map<T>(c, (int64_t)head_values(c), 0, scan_steps<T>{k});
    for (; k.first_seq < c->batch->n_seq; k.first_seq += k.states) {
        run_states<T, false>(&k, c);
        run_states<T, true>(&k, c);
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
