/* Runs a fuzz driver (LLVMFuzzerTestOneInput of another file) where there is no libFuzzer: first
 * every file of the corpus unchanged, then random changes of them for some seconds. Usage: DRIVER
 * [--seconds N] [--seed N] FILE|DIRECTORY... Any crash, sanitizer report, input that takes over ten
 * seconds or single allocation over a gigabyte ends the run; the offending input is left in
 * ./crash-DRIVER. Ends with "N passed, N failed", counting each corpus file, and the changes as one
 * more. */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/base/mem.h"
#include "../../lib/base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
void __sanitizer_set_death_callback(void (*f)(void)) __attribute__((weak));

enum { INPUT_MAX = 1 << 20, HANG = 10 };

struct input {
    uint8_t *p;
    size_t n;
};
static struct input *seeds;
static size_t n_seeds;
static struct input now; /* the current input, for the report */
static char crash_path[300];

const char *__asan_default_options(void)
{
    return "max_allocation_size_mb=1024:allocator_may_return_null=0:detect_stack_use_after_return="
           "0";
}

static void crash_save(void)
{
    /* no current input: a leak, reported at exit */
    FILE *f = now.p ? fopen(crash_path, "wb") : NULL;
    if (f) {
        fwrite(now.p, 1, now.n, f);
        fclose(f);
        fprintf(stderr, "the input is in %s\n", crash_path);
    }
}

static void on_signal(int s)
{
    int is_hang = s == SIGALRM || s == SIGPROF;
    fprintf(stderr, is_hang ? "FAILED: an input took over %d seconds\n" : "FAILED: signal %d\n",
            is_hang ? HANG : s);
    crash_save();
    _exit(1);
}

static void run(const uint8_t *p, size_t n)
{
    /* of the exact size, so that reads past the end are detected */
    now.p = mem_alloc(n);
    memcpy(now.p, p, now.n = n);
    /* processor time, so that a busy machine makes no hang; but an input may also wait */
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {.tv_sec = HANG}}, NULL);
    alarm(10 * HANG);
    LLVMFuzzerTestOneInput(now.p, n);
    alarm(0);
    setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL);
    free(now.p);
    now.p = NULL;
}

static void seed_add(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct input s = {mem_alloc(INPUT_MAX), 0};
    if (!f) {
        perror(path);
        exit(2);
    }
    s.n = fread(s.p, 1, INPUT_MAX, f);
    fclose(f);
    seeds = mem_grow(seeds, (n_seeds + 1) * sizeof *seeds);
    s.p = mem_grow(s.p, s.n);
    seeds[n_seeds++] = s;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void seeds_add(const char *path)
{
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return seed_add(path);
    struct dirent **list;
    int n = scandir(path, &list, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char *file = mem_format("%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.')
            seed_add(file);
        free(file);
        free(list[i]);
    }
    if (n >= 0)
        free(list);
}

/* ---- changes */

static void bytes_insert(struct input *x, size_t at, const uint8_t *p, size_t n)
{
    if (x->n + n > INPUT_MAX)
        return;
    memmove(x->p + at + n, x->p + at, x->n - at);
    memcpy(x->p + at, p, n);
    x->n += n;
}

static const int64_t odd[] = {
    0,     1,         -1,         127,     128,     255,       256,       32767,           65535,
    65536, INT32_MAX, UINT32_MAX, 1 << 20, 1 << 28, INT64_MAX, INT64_MIN, INT64_C(1) << 40};

static int64_t odd_number(struct rng *r) { return odd[rng_below(r, sizeof odd / sizeof *odd)]; }

/* Sizes that parsers tend to get wrong, of 1, 2, 4 or 8 bytes in either byte order. */
static void number_put(struct input *x, size_t at, struct rng *r)
{
    uint64_t v = (uint64_t)odd_number(r);
    size_t size = (size_t)1 << rng_below(r, 4);
    int big = (int)rng_below(r, 2);
    for (size_t i = 0; i < size && at + i < x->n; i++)
        x->p[at + i] = (uint8_t)(v >> 8 * (big ? size - 1 - i : i));
}

static int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

/* Replaces the next decimal number by such a size, or by a neighbour of the old one. */
static void digits_put(struct input *x, size_t at, struct rng *r)
{
    char text[32];
    while (at < x->n && !is_digit(x->p[at]))
        at++;
    size_t end = at;
    int64_t v = 0;
    for (; end < x->n && is_digit(x->p[end]) && v < INT64_MAX / 20; end++)
        v = 10 * v + (x->p[end] - '0');
    v = rng_below(r, 2) ? odd_number(r) : v + (int64_t)rng_below(r, 3) - 1;
    memmove(x->p + at, x->p + end, x->n - end);
    x->n -= end - at;
    int n = snprintf(text, sizeof text, "%lld", (long long)v);
    bytes_insert(x, at, (const uint8_t *)text, (size_t)n);
}

/* Inserts a piece of another seed, so that valid parts appear in the wrong places. */
static void piece_insert(struct input *x, size_t at, struct rng *r)
{
    const struct input *s = &seeds[rng_below(r, n_seeds)];
    size_t from = rng_below(r, s->n + 1),
           n = rng_below(r, (s->n - from < 64 ? s->n - from : 64) + 1);
    bytes_insert(x, at, s->p + from, n);
}

static void change(struct input *x, struct rng *r)
{
    size_t at = rng_below(r, x->n + 1), n = rng_below(r, 1 + (x->n - at < 32 ? x->n - at : 32));
    uint8_t byte = (uint8_t)rng_u64(r);
    switch (rng_below(r, 9)) {
    case 0:
        if (at < x->n)
            x->p[at] ^= (uint8_t)(1 << rng_below(r, 8));
        break;
    case 1:
        if (at < x->n)
            x->p[at] = byte;
        break;
    case 2: bytes_insert(x, at, &byte, 1); break;
    case 3:
        memmove(x->p + at, x->p + at + n, x->n - at - n);
        x->n -= n;
        break;
    case 4: number_put(x, at, r); break;
    case 5: piece_insert(x, at, r); break;
    case 7:
    case 8: digits_put(x, at, r); break;
    case 6:
        if (!rng_below(r, 8))
            x->n = at;
        break;
    }
}

static int64_t changes_run(double seconds, uint64_t seed)
{
    struct rng r = rng_open(seed, 0);
    struct input x = {mem_alloc(INPUT_MAX), 0};
    int64_t count = 0;
    struct timespec start, t;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        const struct input *s = &seeds[rng_below(&r, n_seeds)];
        memcpy(x.p, s->p, x.n = s->n);
        for (uint64_t i = 1 + rng_below(&r, 6); i; i--)
            change(&x, &r);
        run(x.p, x.n);
        count++;
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((double)(t.tv_sec - start.tv_sec) + 1e-9 * (double)(t.tv_nsec - start.tv_nsec) <
             seconds);
    free(x.p);
    return count;
}

int main(int argc, char **argv)
{
    double seconds = 0;
    uint64_t seed = 1;
    const char *name = strrchr(argv[0], '/');
    snprintf(crash_path, sizeof crash_path, "crash-%.200s", name ? name + 1 : argv[0]);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 10);
        else
            seeds_add(argv[i]);
    }
    if (!n_seeds) {
        fprintf(stderr, "usage: %s [--seconds N] [--seed N] FILE|DIRECTORY...\n", argv[0]);
        return 2;
    }
    signal(SIGALRM, on_signal);
    signal(SIGPROF, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(crash_save);
    else
        signal(SIGSEGV, on_signal), signal(SIGABRT, on_signal);
    for (size_t i = 0; i < n_seeds; i++)
        run(seeds[i].p, seeds[i].n);
    if (seconds > 0)
        printf("%lld changed inputs\n", (long long)changes_run(seconds, seed));
    for (size_t i = 0; i < n_seeds; i++)
        free(seeds[i].p);
    free(seeds);
    printf("%zu passed, 0 failed\n", n_seeds + (seconds > 0));
    return 0;
}
