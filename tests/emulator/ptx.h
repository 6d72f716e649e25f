/* Emulated: what kernels/cuda/ptx.h declares, which has the meaning of each function and the layout
 * of the fragments. */
#ifndef EMULATED_PTX_H
#define EMULATED_PTX_H

#include "cuda_bf16.h"
#include "cuda_runtime.h"

#include <vector>

#define SHARED(type, name, dims) \
    static const char name##_place = 0; \
    typedef type name##_array dims; \
    name##_array &name = *(name##_array *)emulated_shared(&name##_place, sizeof(name##_array))
#define SHARED_DYNAMIC(type, name) type *name = (type *)emulated_shared_dynamic()

template <class... P, class... A>
static inline void start_kernel(const char *name, dim3 grid, dim3 block, size_t shared,
                                cudaStream_t, void (*kernel)(P...), A... given)
{
    if (emulated_refuses((const void *)kernel, grid, block, shared))
        return;
    std::tuple<P...> arguments(static_cast<P>(given)...);
    int is_allowed = emulated_is_allowed((const void *)kernel, shared);
    emulated_enqueue([=] {
        emulated_run(name, grid, block, shared, is_allowed, [&] { std::apply(kernel, arguments); });
    });
}

static inline const __nv_bfloat16 *emulated_row(const unsigned char *all, int matrix, int row)
{
    const __nv_bfloat16 *p;
    memcpy(&p, all + (size_t)(matrix * 8 + row) * EMULATED_DEPOSIT, sizeof p);
    return p;
}

static inline uint32_t emulated_pair(__nv_bfloat16 low, __nv_bfloat16 high)
{
    return (uint32_t)high.bits << 16 | low.bits;
}

static inline void ldmatrix(uint32_t r[4], const __nv_bfloat16 *row)
{
    const unsigned char *all = emulated_exchange(&row, sizeof row, 0xffffffffu);
    int g = emulated_lane() / 4, i = emulated_lane() % 4 * 2;
    for (int m = 0; m < 4; m++)
        r[m] = emulated_pair(emulated_row(all, m, g)[i], emulated_row(all, m, g)[i + 1]);
}

static inline void ldmatrix_transposed(uint32_t r[4], const __nv_bfloat16 *row)
{
    const unsigned char *all = emulated_exchange(&row, sizeof row, 0xffffffffu);
    int g = emulated_lane() / 4, i = emulated_lane() % 4 * 2;
    for (int m = 0; m < 4; m++)
        r[m] = emulated_pair(emulated_row(all, m, i)[g], emulated_row(all, m, i + 1)[g]);
}

struct emulated_fragments {
    uint32_t a[4], b[2];
};

static inline float emulated_half(uint32_t pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

static inline void mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    emulated_fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const unsigned char *all = emulated_exchange(&mine, sizeof mine, 0xffffffffu);
    int g = emulated_lane() / 4, column = emulated_lane() % 4 * 2;
    for (int k = 0; k < 16; k++) {
        emulated_fragments rows, columns[2];
        memcpy(&rows, all + (size_t)(g * 4 + k % 8 / 2) * EMULATED_DEPOSIT, sizeof rows);
        for (int n = 0; n < 2; n++)
            memcpy(&columns[n], all + (size_t)((column + n) * 4 + k % 8 / 2) * EMULATED_DEPOSIT,
                   sizeof columns[n]);
        for (int i = 0; i < 4; i++)
            c[i] += emulated_half(rows.a[i / 2 + k / 8 * 2], k % 2) *
                    emulated_half(columns[i % 2].b[k / 8], k % 2);
    }
}

/* A copy happens when it is waited for, and leaves NaNs until then. */
struct emulated_copy {
    void *to;
    const void *from;
    bool zeros;
};
static inline std::vector<emulated_copy> &emulated_copies(void)
{
    static std::vector<emulated_copy> copies[1024];
    return copies[threadIdx.x];
}

static inline void async_copy(void *shared, const void *global, bool zeros)
{
    memset(shared, 0xff, 16);
    emulated_copies().push_back({shared, global, zeros});
}

static inline void async_wait(void)
{
    for (const emulated_copy &c : emulated_copies())
        if (c.zeros)
            memset(c.to, 0, 16);
        else
            memcpy(c.to, c.from, 16);
    emulated_copies().clear();
}

static inline float exp2_fast(float x) { return exp2f(x); }
static inline float reciprocal_fast(float x) { return 1 / x; }

#endif
