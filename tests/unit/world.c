/* What passes between processes. Alone, a world of one; under mpirun -n N, each of N runs all of
 * it, and checks what it gets. */
#include "../../lib/base/world.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/base/mem.h"
#include "check.h"

static struct err e;

static void test_pieces(void)
{
    static const int64_t sizes[] = {0, 1, 63, 64, 65, 1000, 123457};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t at = 0;
        for (int r = 0; r < world_size(); r++) {
            struct world_piece p = world_piece(sizes[i], r);
            CHECK(p.first == at && p.n >= 0, "%d values: rank %d begins at %d, not %d",
                  (int)sizes[i], r, (int)p.first, (int)at);
            CHECK(p.first % WORLD_ALIGN == 0 || !p.n, "%d values: rank %d is not aligned",
                  (int)sizes[i], r);
            at += p.n;
        }
        CHECK(at == sizes[i], "the pieces of %d values hold %d", (int)sizes[i], (int)at);
    }
}

/* so far apart that the order in which they are added shows in the last bits */
static double value(int rank, int64_t i)
{
    static const double sizes[] = {1, 1e16, 3, -1e16, 7};
    return sizes[(rank + i) % 5] + (double)i / 3;
}

static double in_order(int64_t i)
{
    double sum = 0;
    for (int r = 0; r < world_size(); r++)
        sum += value(r, i);
    return sum;
}

static void test_sum(int64_t n)
{
    double *values = mem_alloc((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++)
        values[i] = value(world_rank(), i);
    CHECK(!world_sum(values, n, &e), "%s", e.msg);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++)
        wrong += values[i] != in_order(i);
    CHECK(!wrong, "%d of %d sums are wrong", (int)wrong, (int)n);
    free(values);
}

static float gradient(int rank, int64_t i) { return (float)(rank + 1) / (float)(i % 97 + 1); }

static float reduced(int64_t i)
{
    double sum = 0;
    for (int r = 0; r < world_size(); r++)
        sum += (double)gradient(r, i);
    return (float)sum;
}

/* Several buckets are queued at once, of which each rank reduces its pieces, then has all. */
static void test_buckets(void)
{
    enum { BUCKETS = 5, N = 70001 };
    float *all = mem_alloc(BUCKETS * N * sizeof *all);
    for (int64_t i = 0; i < BUCKETS * N; i++)
        all[i] = gradient(world_rank(), i);
    for (int b = 0; b < BUCKETS; b++)
        world_reduce(all + b * N, N);
    CHECK(!world_wait(&e), "%s", e.msg);
    int64_t wrong = 0;
    struct world_piece own = world_piece(N, world_rank());
    for (int64_t i = 0; i < BUCKETS * N; i++) {
        int is_own = i % N >= own.first && i % N < own.first + own.n;
        wrong += all[i] != (is_own ? reduced(i) : gradient(world_rank(), i));
    }
    CHECK(!wrong, "%d values are wrong once reduced", (int)wrong);
    for (int b = 0; b < BUCKETS; b++)
        world_spread(all + b * N, N, sizeof *all);
    CHECK(!world_wait(&e), "%s", e.msg);
    for (int64_t i = 0; i < BUCKETS * N; i++)
        wrong += all[i] != reduced(i);
    CHECK(!wrong, "%d values are wrong once spread", (int)wrong);
    free(all);
}

static void test_broadcast(void)
{
    for (int from = 0; from < world_size(); from++) {
        char text[100] = "";
        if (world_rank() == from)
            snprintf(text, sizeof text, "from rank %d", from);
        CHECK(!world_broadcast(text, sizeof text, from, &e), "%s", e.msg);
        CHECK(atoi(text + 10) == from && !strncmp(text, "from rank ", 10), "got \"%s\"", text);
    }
}

/* from every rank to the first, which the others need not wait for */
static void test_bring(void)
{
    int64_t values[1000];
    for (int from = 0; from < world_size(); from++) {
        for (int i = 0; i < 1000; i++)
            values[i] = world_rank() * 1000 + i;
        CHECK(!world_bring(values, sizeof values, from, &e), "%s", e.msg);
        int64_t want = (world_rank() ? world_rank() : from) * 1000;
        CHECK(values[0] == want && values[999] == want + 999, "from rank %d: %d, not %d", from,
              (int)values[0], (int)want);
    }
}

/* of lengths that differ, also nothing */
static void test_gather(void)
{
    char text[64];
    size_t n = (size_t)world_rank() * 3;
    struct world_bytes *all;
    memset(text, 'a' + world_rank() % 16, sizeof text);
    n = n < sizeof text ? n : sizeof text;
    CHECK(!world_gather(text, n, &all, &e), "%s", e.msg);
    CHECK(!all == (world_rank() > 0), "rank 0 alone has what was gathered");
    for (int r = 0; all && r < world_size(); r++) {
        size_t want = (size_t)r * 3 < sizeof text ? (size_t)r * 3 : sizeof text;
        int same = all[r].n == want;
        for (size_t i = 0; same && i < want; i++)
            same = ((char *)all[r].data)[i] == 'a' + r % 16;
        CHECK(same, "what rank %d gave is not what it gave", r);
    }
    world_free(all);
}

/* The last rank has an error. */
static void test_agree(void)
{
    struct err own = {0};
    char want[80];
    int last = world_size() - 1;
    CHECK(!world_agree(&own) && !own.set, "an error out of nowhere: %s", own.msg);
    if (world_rank() == last)
        err_set(&own, "the disk is full");
    CHECK(world_agree(&own) == -1, "nobody has heard of the error");
    snprintf(want, sizeof want, "rank %d on %s: the disk is full", last, world_host(last));
    CHECK(!strcmp(own.msg, world_rank() == last ? "the disk is full" : want), "it is \"%s\"",
          own.msg);
}

int main(void)
{
    CHECK(!world_start(&e), "%s", e.msg);
    CHECK(world_neighbours() >= 1 && world_neighbours() <= world_size(), "%d neighbours",
          world_neighbours());
    CHECK(world_place() >= 0 && world_place() < world_neighbours(), "place %d", world_place());
    test_pieces();
    test_sum(1);
    test_sum(100000);
    test_buckets();
    test_broadcast();
    test_bring();
    test_gather();
    test_agree();
    CHECK(!world_barrier(&e), "%s", e.msg);
    int rank = world_rank(), status = rank && !check_failed ? 0 : check_report();
    world_finish();
    return status;
}
