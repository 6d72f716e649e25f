/* The implementation of the emulator: fibers and collectives, shared and device memory, the stream
 * and its graphs. See cuda_runtime.h. Prints and aborts when a kernel or the host does something
 * that would fail on a card: it runs in tests only. */
#include "cuda_runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

enum {
    THREADS_MOST = 1024,
    LANES = 32,
    STACK = 256 << 10,
    SHARED_STATIC = 48 << 10,
    SHARED_MOST = 99 << 10, /* the least of all cards from sm_80 on */
    PAGE = 4096,
    ALIGNMENT = 256
};
enum { NAN_BYTE = 0xff, GUARD_BYTE = 0xa5 };

static const char *kernel_name = "";
dim3 threadIdx, blockIdx, blockDim, gridDim;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "emulator: kernel %.200s, block %u %u %u: ", kernel_name, blockIdx.x,
            blockIdx.y, blockIdx.z);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

static uint32_t draw(uint32_t below)
{
    static uint64_t state;
    if (!state) {
        const char *seed = getenv("PARE_EMULATOR_SEED");
        state = 0x9e3779b97f4a7c15u * (2 * (seed ? strtoull(seed, NULL, 10) : 1) + 1);
    }
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 32) % below);
}

/* ---- fibers: one for each thread of a block, reused by the next block */

enum state { READY, AT_WARP, AT_BLOCK, RETURNED };
struct fiber {
    jmp_buf here;
    ucontext_t start;
    dim3 index;
    state now;
    int warp, lane, turn, started;
};
struct warp {
    int arrived, live;
    uint32_t lanes;
    unsigned char deposit[2][LANES * EMULATED_DEPOSIT];
};

static fiber fibers[THREADS_MOST], *current;
static warp warps[THREADS_MOST / LANES];
static int order[THREADS_MOST], place, threads, live, at_block;
static jmp_buf grid_loop;
static const std::function<void()> *body;

static void __attribute__((noreturn)) resume(fiber *f)
{
    current = f;
    threadIdx = f->index;
    if (f->started)
        _longjmp(f->here, 1);
    f->started = 1;
    setcontext(&f->start);
    die("cannot start a fiber");
}

static void resume_if_ready(int at)
{
    if (fibers[order[at]].now != READY)
        return;
    place = at;
    resume(&fibers[order[at]]);
}

static void __attribute__((noreturn)) resume_next(void)
{
    int first = place / LANES * LANES, n = threads - first < LANES ? threads - first : LANES;
    /* runs its own warp on as far as possible, which is good for the caches */
    for (int i = 1; i <= n; i++)
        resume_if_ready(first + (place - first + i) % n);
    for (int i = n; i < threads; i++)
        resume_if_ready((first + i) % threads);
    if (live)
        die("%d of %d threads wait at a barrier that the others never reach (%d at __syncthreads)",
            live, threads, at_block);
    _longjmp(grid_loop, 1);
}

static void wait_as(state why)
{
    current->now = why;
    if (!_setjmp(current->here))
        resume_next();
}

static void warp_release(int w)
{
    warps[w].arrived = 0;
    for (int i = w * LANES; i < (w + 1) * LANES && i < threads; i++)
        if (fibers[i].now == AT_WARP)
            fibers[i].now = READY;
}

static void fiber_main(void)
{
    for (;;) {
        (*body)();
        warp *w = &warps[current->warp];
        w->lanes &= ~(1u << current->lane);
        live--;
        if (--w->live && w->arrived == w->live)
            warp_release(current->warp);
        wait_as(RETURNED);
    }
}

static void fiber_open(fiber *f)
{
    void *stack = mmap(NULL, STACK + PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, PAGE, PROT_NONE))
        die("no memory for a fiber");
    getcontext(&f->start);
    f->start.uc_stack.ss_sp = (char *)stack + PAGE;
    /* tops that do not share a line of the cache */
    f->start.uc_stack.ss_size = STACK - (size_t)(f - fibers) * 576 % 16384 / 64 * 64;
    makecontext(&f->start, fiber_main, 0);
}

/* ---- collectives */

int emulated_lane(void) { return current->lane; }
int emulated_lanes(void) { return warps[current->warp].live; }

void __syncthreads(void)
{
    if (live != threads)
        die("__syncthreads after %d of %d threads have returned", threads - live, threads);
    if (++at_block < threads) {
        wait_as(AT_BLOCK);
        return;
    }
    at_block = 0;
    for (int i = 0; i < threads; i++)
        if (fibers[i].now == AT_BLOCK)
            fibers[i].now = READY;
}

const unsigned char *emulated_exchange(const void *mine, size_t bytes, unsigned mask, size_t stride)
{
    fiber *f = current;
    warp *w = &warps[f->warp];
    if (bytes > stride || (w->lanes & ~mask))
        die("a warp collective with mask %08x while lanes %08x are alive", mask, w->lanes);
    /* two sides: a lane may still be reading the deposits of the collective before this one */
    f->turn ^= 1;
    for (int i = 0; w->lanes != ~0u && i < LANES; i++)
        if (!(w->lanes >> i & 1))
            memset(w->deposit[f->turn] + (size_t)i * stride, NAN_BYTE, stride);
    if (bytes)
        memcpy(w->deposit[f->turn] + (size_t)f->lane * stride, mine, bytes);
    if (++w->arrived < w->live)
        wait_as(AT_WARP);
    else
        warp_release(f->warp);
    return warps[current->warp].deposit[current->turn];
}

void __syncwarp(unsigned mask) { emulated_exchange(NULL, 0, mask); }

unsigned __ballot_sync(unsigned mask, int predicate)
{
    int yes = predicate != 0;
    /* some may have returned by the time that this lane goes on */
    unsigned bits = 0, lanes = warps[current->warp].lanes;
    const unsigned char *all = emulated_exchange(&yes, sizeof yes, mask, sizeof yes);
    for (int i = 0; i < LANES; i++)
        if (lanes >> i & 1) {
            memcpy(&yes, all + i * (int)sizeof yes, sizeof yes);
            bits |= (unsigned)yes << i;
        }
    return bits;
}

/* ---- shared memory of the block that runs */

struct shared_array {
    const void *place;
    size_t bytes, at;
};
static std::vector<shared_array> arrays;
/* dynamic bytes that a kernel was told of */
static std::map<const void *, size_t> allowed;
alignas(128) static unsigned char shared_bytes[2 * SHARED_MOST];
static size_t shared_used, shared_static, shared_dynamic;
static int shared_allowed; /* the dynamic ones were */

static void *shared_new(const void *where, size_t bytes)
{
    unsigned char *p = shared_bytes + shared_used;
    size_t room = (bytes + 127) / 128 * 128 + 128;
    if (shared_used + room > sizeof shared_bytes)
        die("too much shared memory");
    memset(p, NAN_BYTE, bytes);
    memset(p + bytes, GUARD_BYTE, room - bytes);
    arrays.push_back({where, bytes, shared_used});
    shared_used += room;
    return p;
}

void *emulated_shared(const void *where, size_t bytes)
{
    for (const shared_array &a : arrays)
        if (a.place == where)
            return shared_bytes + a.at;
    if ((shared_static += bytes) + (shared_allowed ? 0 : shared_dynamic) > SHARED_STATIC)
        die("%zu bytes of static and %zu of dynamic shared memory, at most %d are allowed without "
            "cudaFuncSetAttribute",
            shared_static, shared_dynamic, SHARED_STATIC);
    return shared_new(where, bytes);
}

void *emulated_shared_dynamic(void) { return emulated_shared(&shared_bytes, 0); }

static void shared_check(void)
{
    for (const shared_array &a : arrays)
        for (size_t i = a.bytes; i < (a.bytes + 127) / 128 * 128 + 128; i++)
            if (shared_bytes[a.at + i] != GUARD_BYTE)
                die("shared array of %zu bytes was written %zu bytes past its end", a.bytes,
                    i - a.bytes);
}

/* ---- a grid */

/* Warps in any order, and the lanes of each; a last warp that is not full stays the last. */
static void draw_order(void)
{
    int full = threads / LANES, warp_order[THREADS_MOST / LANES];
    for (int w = 0; w < full; w++) {
        int other = (int)draw((uint32_t)w + 1);
        warp_order[w] = warp_order[other];
        warp_order[other] = w;
    }
    for (int i = 0; i < threads; i++) {
        int first = i / LANES * LANES, other = first + (int)draw((uint32_t)(i - first) + 1);
        order[i] = order[other];
        order[other] = (i / LANES < full ? warp_order[i / LANES] * LANES : first) + i % LANES;
    }
}

static void run_block(const dim3 &block, size_t shared)
{
    threads = live = (int)(block.x * block.y * block.z);
    at_block = 0;
    arrays.clear();
    shared_used = shared_static = 0;
    shared_dynamic = shared;
    shared_new(&shared_bytes, shared);
    for (int w = 0; w * LANES < threads; w++) {
        int n = threads - w * LANES < LANES ? threads - w * LANES : LANES;
        warps[w].arrived = 0;
        warps[w].live = n;
        warps[w].lanes = n == LANES ? ~0u : (1u << n) - 1;
    }
    for (int i = 0; i < threads; i++) {
        fiber *f = &fibers[i];
        if (!f->start.uc_stack.ss_sp)
            fiber_open(f);
        f->index = dim3((unsigned)i % block.x, (unsigned)i / block.x % block.y,
                        (unsigned)i / block.x / block.y);
        f->warp = i / LANES;
        f->lane = i % LANES;
        f->turn = 0;
        f->now = READY;
    }
    draw_order();
    place = threads - 1;
    if (!_setjmp(grid_loop))
        resume_next();
    shared_check();
}

void emulated_run(const char *name, dim3 grid, dim3 block, size_t shared, int is_allowed,
                  const std::function<void()> &thread)
{
    shared_allowed = is_allowed;
    kernel_name = name;
    body = &thread;
    gridDim = grid;
    blockDim = block;
    uint64_t n = (uint64_t)grid.x * grid.y * grid.z,
             first = draw((uint32_t)(n < UINT32_MAX ? n : UINT32_MAX));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t b = (i + first) % n;
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                        (unsigned)(b / grid.x / grid.y));
        run_block(block, shared);
    }
    kernel_name = "";
}

/* ---- errors */

static cudaError_t last_error;
static cudaError_t keep(cudaError_t status)
{
    return status == cudaSuccess ? status : last_error = status;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t status = last_error;
    last_error = cudaSuccess;
    return status;
}

const char *cudaGetErrorString(cudaError_t status)
{
    static const char *const words[] = {"no error", "invalid argument", "out of memory",
                                        "invalid configuration argument",
                                        "operation not permitted when stream is capturing"};
    return words[status];
}

cudaError_t emulated_allow_shared(const void *kernel, int bytes)
{
    if (bytes > SHARED_MOST)
        return keep(cudaErrorInvalidValue);
    allowed[kernel] = (size_t)bytes;
    return cudaSuccess;
}

int emulated_is_allowed(const void *kernel, size_t shared)
{
    return allowed.count(kernel) && shared <= allowed[kernel];
}

int emulated_refuses(const void *kernel, dim3 grid, dim3 block, size_t shared)
{
    uint64_t n = (uint64_t)block.x * block.y * block.z;
    int fits = n >= 1 && n <= THREADS_MOST && block.z <= 64 && grid.x >= 1 && grid.x <= INT32_MAX &&
               grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535 &&
               (shared <= SHARED_STATIC || emulated_is_allowed(kernel, shared));
    return fits ? 0 : (keep(cudaErrorInvalidConfiguration), 1);
}

/* ---- device memory: pages that only the stream's work may touch, filled with NaNs, a page that
 * nothing may touch behind */

struct piece {
    unsigned char *base;
    size_t mapped, bytes;
};
static std::map<uintptr_t, piece> pieces; /* by the address given out */
static std::map<uintptr_t, size_t> pinned;
static size_t allocated;
static int working;
static const size_t card_bytes = (size_t)2 << 30;

static void protect(const piece &p, int may)
{
    mprotect(p.base, p.mapped - PAGE, may ? PROT_READ | PROT_WRITE : PROT_NONE);
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT,
           mapped = (rounded + PAGE - 1) / PAGE * PAGE + PAGE;
    *p = NULL;
    if (!bytes || allocated + bytes > card_bytes)
        return keep(bytes ? cudaErrorMemoryAllocation : cudaErrorInvalidValue);
    void *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return keep(cudaErrorMemoryAllocation);
    madvise(base, mapped, MADV_HUGEPAGE); /* protect() takes its time for each page */
    piece made = {(unsigned char *)base, mapped, bytes};
    unsigned char *at = made.base + mapped - PAGE - rounded;
    memset(at, NAN_BYTE, bytes);
    memset(at + bytes, GUARD_BYTE, rounded - bytes);
    mprotect(made.base + mapped - PAGE, PAGE, PROT_NONE);
    protect(made, working);
    pieces[(uintptr_t)at] = made;
    allocated += bytes;
    *p = at;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p)
        return cudaSuccess;
    cudaDeviceSynchronize();
    auto found = pieces.find((uintptr_t)p);
    if (found == pieces.end())
        die("cudaFree of %p, which is not device memory", p);
    piece gone = found->second;
    protect(gone, 1);
    for (unsigned char *at = (unsigned char *)p + gone.bytes; at < gone.base + gone.mapped - PAGE;
         at++)
        if (*at != GUARD_BYTE)
            die("device memory of %zu bytes was written past its end", gone.bytes);
    munmap(gone.base, gone.mapped);
    allocated -= gone.bytes;
    pieces.erase(found);
    return cudaSuccess;
}

int emulated_is_device(const void *p, size_t bytes)
{
    auto after = pieces.upper_bound((uintptr_t)p);
    if (after == pieces.begin())
        return 0;
    --after;
    return (uintptr_t)p + bytes <= after->first + after->second.bytes;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    *p = malloc(bytes ? bytes : 1);
    pinned[(uintptr_t)*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    cudaDeviceSynchronize();
    pinned.erase((uintptr_t)p);
    free(p);
    return cudaSuccess;
}

static int is_pinned(const void *p)
{
    auto after = pinned.upper_bound((uintptr_t)p);
    if (after == pinned.begin())
        return 0;
    --after;
    return (uintptr_t)p < after->first + after->second;
}

/* ---- the stream: work waits until the host does */

typedef std::deque<std::function<void()>> work_list;
struct emulated_graph {
    work_list work;
};
struct emulated_event {
    double at;
};

static work_list queue;
static emulated_graph *capturing;

void emulated_enqueue(std::function<void()> work)
{
    (capturing ? capturing->work : queue).push_back(std::move(work));
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (capturing)
        return keep(cudaErrorStreamCaptureUnsupported);
    if (working || queue.empty())
        return cudaSuccess;
    working = 1;
    for (auto &p : pieces)
        protect(p.second, 1);
    for (; !queue.empty(); queue.pop_front())
        queue.front()();
    for (auto &p : pieces)
        protect(p.second, 0);
    working = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaDeviceSynchronize(); }

static void copy_check(const void *p, size_t bytes, int device)
{
    if (device ? !emulated_is_device(p, bytes) : emulated_is_device(p, 0) != 0)
        die("a copy of %zu bytes: %p is not %s memory of that size", bytes, p,
            device ? "device" : "host");
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t)
{
    if (!bytes)
        return cudaSuccess;
    int up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
    copy_check(to, bytes, !down);
    copy_check(from, bytes, !up);
    if (!(up || down) || is_pinned(up ? from : to)) {
        emulated_enqueue([=] { memcpy(to, from, bytes); });
        return cudaSuccess;
    }
    if (capturing)
        return keep(cudaErrorStreamCaptureUnsupported);
    /* a card's driver reads pageable memory at once */
    auto staged = std::make_shared<std::vector<unsigned char>>(up ? bytes : 0);
    if (up)
        memcpy(staged->data(), from, bytes);
    if (up)
        emulated_enqueue([=] { memcpy(to, staged->data(), bytes); });
    else
        emulated_enqueue([=] { memcpy(to, from, bytes); });
    return up ? cudaSuccess : cudaDeviceSynchronize();
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    cudaError_t status = cudaMemcpyAsync(to, from, bytes, kind);
    return status == cudaSuccess ? cudaDeviceSynchronize() : status;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t)
{
    if (bytes) {
        copy_check(p, bytes, 1);
        emulated_enqueue([=] { memset(p, value, bytes); });
    }
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    if (capturing)
        return keep(cudaErrorStreamCaptureUnsupported);
    capturing = new emulated_graph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *g)
{
    *g = capturing;
    capturing = NULL;
    return *g ? cudaSuccess : keep(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long)
{
    *x = new emulated_graph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t)
{
    for (const auto &work : x->work)
        emulated_enqueue(work);
    return cudaSuccess;
}

static cudaError_t graph_free(emulated_graph *g)
{
    cudaDeviceSynchronize();
    delete g;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) { return graph_free(x); }
cudaError_t cudaGraphDestroy(cudaGraph_t g) { return graph_free(g); }

/* ---- the rest: one stream, events that take the host's clock */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    *s = (cudaStream_t)&queue;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaDeviceSynchronize(); }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    *p = cudaDeviceProp{"emulated", 9, 0, 4, card_bytes};
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = card_bytes;
    *available = card_bytes - allocated;
    return cudaSuccess;
}

double emulated_milliseconds;

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    *e = new emulated_event();
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t)
{
    emulated_enqueue([=] { e->at = emulated_milliseconds; });
    return cudaSuccess;
}
/* all streams are one */
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaDeviceSynchronize(); }
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    cudaDeviceSynchronize();
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(to->at - from->at);
    return cudaSuccess;
}
