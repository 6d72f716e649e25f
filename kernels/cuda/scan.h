/* Shared by the kernels of scan: the call, what they read of a chunk's tokens, and one entry of a
 * state through a chunk. */
#ifndef PARE_SCAN_H
#define PARE_SCAN_H

#include "cuda.h"

/* TILE: columns of a chunk in shared memory at a time, PITCH floats apart (whole 16 bytes);
 * ENTRIES: of the state of a channel, which a thread carries from token to token */
enum {
    CHUNK = 32,
    THREADS = 64,
    TILE = 32,
    PITCH = CHUNK + 4,
    ENTRIES = 8,
    STATES_BYTES = 256 << 20
};

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
    int64_t seq_len, chunks, first_seq, states;
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
    __device__ int64_t kept_at(int64_t s, int64_t m, int64_t n, int64_t i) const
    {
        return (first_seq + s) * size() + (m * p.state + n) * p.head_dim + i;
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

/* ---- tokens of a chunk. What all threads of a block read they find in shared memory, as f32, four
 * tokens at once. Tokens that a last chunk lacks have step 0, decay 1 and zeros for the rest, and
 * so change nothing. */

struct chunk_tokens {
    int64_t seq, chunk, t0, n; /* t0: the row of the first; n of them */
};
template <class T>
static __device__ chunk_tokens tokens_of(const scan_call<T> &k, int64_t seq, int64_t chunk)
{
    int64_t first = chunk * CHUNK;
    return {seq, chunk, (k.first_seq + seq) * k.seq_len + first,
            min((int64_t)CHUNK, k.seq_len - first)};
}
template <class T> static __device__ chunk_tokens tokens_of_block(const scan_call<T> &k)
{
    entry at = entry_of(blockIdx.x, k.chunks);
    return tokens_of(k, at.row, at.column);
}
template <class T>
static __device__ void read_steps(const scan_call<T> &k, const chunk_tokens &c, int64_t m,
                                  float *step, float *decay)
{
    int t = (int)threadIdx.x;
    __syncthreads(); /* those of an earlier head have been read */
    if (t < CHUNK) {
        step[t] = t < c.n ? k.step[(c.t0 + t) * k.p.heads + m] : 0;
        decay[t] = t < c.n ? k.decay[(c.t0 + t) * k.p.heads + m] : 1;
    }
    __syncthreads();
}

/* Of n tokens, `pitch` values apart, N columns, or as many as there are, each times the token's
 * factor, if there are factors. The block syncs before and after. */
template <int N, class T>
static __device__ __forceinline__ void read_tile(float (*to)[PITCH], const T *from, int64_t pitch,
                                                 int64_t n, int64_t columns, const float *factor)
{
    int column = (int)threadIdx.x % N, first = (int)threadIdx.x / N;
    if (column >= columns)
        n = 0;
    from += first * pitch + column;
#pragma unroll
    for (int t = first, i = 0; i < CHUNK * N / THREADS; i++, t += THREADS / N) {
        float v = t < n ? widen(*from) : 0;
        to[column][t] = factor ? factor[t] * v : v;
        from += THREADS / N * pitch;
    }
}

/* ---- one entry of the state through a chunk. Arrays of its tokens, those that all threads share
 * in shared memory, others in registers */

/* Adds the entry's part of the channel's outputs. */
static __device__ __forceinline__ void channel_forward(const float *B, const float *C,
                                                       const float *decay, const float (&u)[CHUNK],
                                                       float h, float (&y)[CHUNK])
{
#pragma unroll
    for (int t = 0; t < CHUNK; t += 4) {
        float b[4], c[4], a[4];
        load(B + t, b);
        load(C + t, c);
        load(decay + t, a);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            h = fmaf(b[i], u[t + i], decayed(a[i], h));
            y[t + i] = fmaf(c[i], h, y[t + i]);
        }
    }
}

/* Sums over the entries of a channel's state. */
struct channel_sums {
    float du[CHUNK], da[CHUNK];
};
static __device__ __forceinline__ void channel_backward(const float *B, const float *C,
                                                        const float *decay, const float (&u)[CHUNK],
                                                        const float (&dy)[CHUNK], float h, float dh,
                                                        channel_sums *sums)
{
    float carried[CHUNK];
#pragma unroll
    for (int t = 0; t < CHUNK; t += 4) {
        float b[4], a[4];
        load(B + t, b);
        load(decay + t, a);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            carried[t + i] = decayed(a[i], h);
            h = fmaf(b[i], u[t + i], carried[t + i]);
        }
    }
#pragma unroll
    for (int t = CHUNK - 4; t >= 0; t -= 4) {
        float b[4], c[4], a[4];
        load(B + t, b);
        load(C + t, c);
        load(decay + t, a);
#pragma unroll
        for (int i = 3; i >= 0; i--) {
            dh = fmaf(c[i], dy[t + i], dh);
            sums->du[t + i] = fmaf(b[i], dh, sums->du[t + i]);
            sums->da[t + i] = fmaf(dh, carried[t + i], sums->da[t + i]);
            dh = decayed(a[i], dh);
        }
    }
}

/* Sums over the channels of a group's heads, for one column of their states. */
struct column_sums {
    float dB[CHUNK], dC[CHUNK];
};
static __device__ __forceinline__ void column_backward(const float *u, const float *dy,
                                                       const float *decay, const float (&B)[CHUNK],
                                                       const float (&C)[CHUNK], float h, float dh,
                                                       column_sums *sums)
{
#pragma unroll
    for (int t = 0; t < CHUNK; t += 4) {
        float v[4], d[4], a[4];
        load(u + t, v);
        load(dy + t, d);
        load(decay + t, a);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            h = fmaf(B[t + i], v[i], decayed(a[i], h));
            sums->dC[t + i] = fmaf(h, d[i], sums->dC[t + i]);
        }
    }
#pragma unroll
    for (int t = CHUNK - 4; t >= 0; t -= 4) {
        float v[4], d[4], a[4];
        load(u + t, v);
        load(dy + t, d);
        load(decay + t, a);
#pragma unroll
        for (int i = 3; i >= 0; i--) {
            dh = fmaf(C[t + i], d[i], dh);
            sums->dB[t + i] = fmaf(dh, v[i], sums->dB[t + i]);
            dh = decayed(a[i], dh);
        }
    }
}

#endif
