/* The CPU as a device: its memory is the process's own, and every op has a kernel. */
#include "../backend.h"

#include <string.h>

static int cpu_workers(const struct exec *x) { return x->threads; }

static int cpu_arena(struct exec *x, struct arena *a, size_t bytes, struct err *e)
{
    (void)x;
    return arena_open(a, bytes, e);
}

static void cpu_copy(struct exec *x, void *to, const void *from, size_t bytes)
{
    (void)x;
    memcpy(to, from, bytes);
}

static void cpu_zero(struct exec *x, void *p, size_t bytes)
{
    (void)x;
    memset(p, 0, bytes);
}

static int64_t cpu_available(struct exec *x)
{
    (void)x;
    return INT64_MAX;
}

/* More tokens make the products with the head faster, since its weights pass through the cache less
 * often, but the logits larger. At most 100 MB for those of both models and the threads' parts of
 * the gradient, except where even 64 tokens of a large vocabulary take more. */
static int64_t cpu_loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                              int64_t hidden)
{
    int64_t chunk = 1024, entries = vocabulary + teacher_vocabulary + x->threads * hidden;
    while (chunk > 64 && chunk * entries > (int64_t)25 << 20)
        chunk /= 2;
    return chunk;
}

static const struct kernel *const cpu_kernels[OP_COUNT] = {
#define OP(name, inputs, weights, traits, reads, memo) &name##_cpu,
#include "../ops.def"
#undef OP
};

const struct backend cpu_backend = {
    .name = "cpu",
    .compute = DT_F32,
    .is_host = 1,
    .kernels = cpu_kernels,
    .workers = cpu_workers,
    .arena = cpu_arena,
    .put = cpu_copy,
    .get = cpu_copy,
    .zero = cpu_zero,
    .copy = cpu_copy,
    .available = cpu_available,
    .loss_chunk = cpu_loss_chunk,
};
