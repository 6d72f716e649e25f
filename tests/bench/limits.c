/* What the machine can do, and how long commands take: the yardsticks of tests/bench/io. Prints one
 * number a line. limits time N COMMAND    seconds of COMMAND, run by sh N times; fails if it does
 *   limits load FILE         seconds of plain read() of FILE into fresh memory in huge pages, as
 * loading a model at best is limits read THREADS      GB/s at which THREADS (0: all) read 512 MB of
 * memory, the best of ten passes */
#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../lib/base/mem.h"
#include "../../lib/base/usage.h"

enum { PASSES = 10, FLOATS = 128 << 20 };

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static int time_command(int n, const char *command)
{
    for (int i = 0; i < n; i++) {
        double t = usage_seconds();
        if (system(command)) {
            fprintf(stderr, "limits: failed: %s\n", command);
            return 1;
        }
        printf("%.6f\n", usage_seconds() - t);
    }
    return 0;
}

static int time_load(const char *path)
{
    struct stat st;
    struct arena a;
    struct err e = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st))
        return fail(path);
    double t = usage_seconds();
    if (arena_open(&a, (size_t)st.st_size, &e))
        return fail("memory");
    for (int64_t at = 0, r; at < st.st_size; at += r)
        if ((r = read(fd, a.base + at, (size_t)(st.st_size - at))) <= 0)
            return fail(path);
    printf("%.6f\n", usage_seconds() - t);
    return 0;
}

static float sum_of(const float *v)
{
    float sum = 0;
#pragma omp parallel for simd reduction(+ : sum) schedule(static)
    for (int64_t i = 0; i < FLOATS; i++)
        sum += v[i];
    return sum;
}

static int read_memory(int threads)
{
    struct arena a;
    struct err e = {0};
    double best = 0;
    if (threads)
        omp_set_num_threads(threads);
    if (arena_open(&a, FLOATS * sizeof(float), &e))
        return fail("memory");
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < FLOATS; i++)
        ((float *)a.base)[i] = (float)(i & 7);
    for (int i = 0; i < PASSES; i++) {
        double t = usage_seconds();
        volatile float sum = sum_of((const float *)a.base);
        (void)sum;
        double rate = 1e-9 * FLOATS * sizeof(float) / (usage_seconds() - t);
        best = rate > best ? rate : best;
    }
    printf("%.3f\n", best);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "time"))
        return time_command(atoi(argv[2]), argv[3]);
    if (argc == 3 && !strcmp(argv[1], "load"))
        return time_load(argv[2]);
    if (argc == 3 && !strcmp(argv[1], "read"))
        return read_memory(atoi(argv[2]));
    fprintf(stderr, "usage: limits time N COMMAND | load FILE | read THREADS\n");
    return 2;
}
