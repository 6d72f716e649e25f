/* What the ops stand on: the matrix product of the CPU against sums in double precision, and the
 * number of tokens that a loss takes at a time on each device, and the algorithms of a device's
 * products. */
#include <string.h>

#include "check.h"
#include "reference/reference.h"

static void test_product(void)
{
    struct trial t = {.rng = rng_open(2, 0)};
    for (int number = 0; number < 40; number++) {
        int64_t M = number < 8 ? 1 : test_size(&t, 1, 40),
                N = test_size(&t, 1, number % 3 ? 70 : 300),
                K = test_size(&t, 1, number % 5 ? 60 : 900), extra = number % 3;
        char ta = "NT"[number & 1], tb = "NT"[number >> 1 & 1];
        int64_t lda = (ta == 'N' ? K : M) + extra;
        int64_t ldb = (tb == 'N' ? N : K) + extra, ldc = N + extra;
        int add = !(number & 8);
        float *A = test_buffer(&t, (size_t)(M * K + (M + K) * extra) * 4),
              *B = test_buffer(&t, (size_t)(K * N + (K + N) * extra) * 4);
        float *C = test_buffer(&t, (size_t)(M * ldc) * 4);
        double *want = test_buffer(&t, (size_t)(M * ldc) * 8);
        test_fill(&t, A, M * K + (M + K) * extra, 1);
        test_fill(&t, B, K * N + (K + N) * extra, 1);
        if (add) /* otherwise the old contents, NaN, must not be read */
            test_fill(&t, C, M * ldc, 1);
        for (int64_t i = 0; i < M * ldc; i++) {
            if (i % ldc >= N)
                C[i] = 7;
            want[i] = add || i % ldc >= N ? (double)C[i] : 0;
            for (int64_t k = 0; k < K && i % ldc < N; k++)
                want[i] += (double)(ta == 'N' ? A[i / ldc * lda + k] : A[k * lda + i / ldc]) *
                           (tb == 'N' ? B[k * ldb + i % ldc] : B[i % ldc * ldb + k]);
        }
#pragma omp parallel num_threads(1 + number % 6)
        mm_share(ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
        CHECK(test_error(C, want, M * ldc) < 1e-6 && test_guards_whole(&t),
              "mm %c%c %lld x %lld x %lld, add %d, with %s", ta, tb, (long long)M, (long long)N,
              (long long)K, add, exec_math_library());
        test_buffers_free(&t);
    }
}

/* Tokens per chunk of loss: a few hundred megabytes of logits on a card, in whole tiles; 100 MB on
 * the CPU. */
static void test_chunk(const struct exec *cpu, const struct exec *cuda)
{
    static const struct {
        int64_t V, Vt, on_cpu, bf16, f32;
    } cases[] = {{128256, 128256, 64, 1024, 512},
                 {256000, 256000, 64, 512, 256},
                 {1000000, 1000000, 64, 256, 256},
                 {49152, 0, 512, 4096, 2688},
                 {32000, 64000, 256, 4096, 2048}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t got = loss_chunk(cpu, cases[i].V, cases[i].Vt, 576);
        CHECK(got == cases[i].on_cpu, "%lld and %lld ids: %lld tokens at a time on the CPU",
              (long long)cases[i].V, (long long)cases[i].Vt, (long long)got);
        for (int k = 0; k < 2 && cuda; k++) {
            struct exec x = *cuda;
            x.compute = k ? DT_F32 : DT_BF16;
            got = loss_chunk(&x, cases[i].V, cases[i].Vt, 576);
            CHECK(got == (k ? cases[i].f32 : cases[i].bf16),
                  "%lld and %lld ids: %lld tokens at a time on a card in %s", (long long)cases[i].V,
                  (long long)cases[i].Vt, (long long)got, dtype_name(x.compute));
        }
    }
}

/* ---- algorithms */

enum { ROWS = 24, SIDE = 640, KINDS = 2, TEXT = 300 };

static struct {
    char product[TEXT], algorithm[TEXT];
} noted[KINDS];
static int n_noted, n_sought;

static const char *find(void *user, const char *product)
{
    (void)user;
    n_sought++;
    for (int i = 0; i < n_noted; i++)
        if (!strcmp(noted[i].product, product))
            return noted[i].algorithm;
    return NULL;
}

static void note(void *user, const char *product, const char *algorithm)
{
    (void)user;
    if (n_noted < KINDS) {
        snprintf(noted[n_noted].product, TEXT, "%s", product);
        snprintf(noted[n_noted].algorithm, TEXT, "%s", algorithm);
    }
    n_noted++;
}

/* x W^T, then added to y as x + x W^T is, on a device newly opened. Returns its error. */
static struct err products_with(const struct algorithms *a, float y[ROWS * SIDE])
{
    static float values[SIDE * SIDE];
    struct rng r = rng_open(7, 0);
    struct arena room = {0};
    struct exec x;
    struct err e = {0};
    exec_open(&x, DEVICE_CUDA, 1);
    x.compute = DT_F32;
    x.algorithms = a;
    for (int i = 0; i < SIDE * SIDE; i++)
        values[i] = (float)rng_normal(&r);
    exec_arena(&x, &room, (SIDE * SIDE + 3 * ROWS * SIDE) * sizeof(float), &e);
    float *w = arena_take(&room, SIDE * SIDE * sizeof *w),
          *in = arena_take(&room, ROWS * SIDE * sizeof *in),
          *once = arena_take(&room, ROWS * SIDE * sizeof *once),
          *twice = arena_take(&room, ROWS * SIDE * sizeof *twice);
    exec_put(&x, w, values, sizeof values);
    exec_put(&x, in, values, ROWS * SIDE * sizeof *in);
    struct op_args c = {.x = &x, .rows = ROWS};
    c.w[0] = (struct operand){.dtype = DT_F32, .v = w, .rows = SIDE, .cols = SIDE};
    c.in[0] = (struct operand){.dtype = DT_F32, .v = in, .rows = ROWS, .cols = SIDE};
    c.out = (struct operand){.dtype = DT_F32, .v = once, .rows = ROWS, .cols = SIDE};
    op_forward(OP_linear, &c);
    c.in[1] = c.out;
    c.out.v = twice;
    op_forward(OP_linear, &c);
    exec_get(&x, y, twice, ROWS * SIDE * sizeof *y);
    e = x.err;
    arena_close(&room);
    exec_close(&x);
    return e;
}

/* A kind of product is timed once, whatever it is added to; what was noted then is what is computed
 * in another run, to the same bits; what does not work is refused. */
static void test_algorithms(void)
{
    static float first[ROWS * SIDE], known[ROWS * SIDE], timed[ROWS * SIDE], again[ROWS * SIDE];
    const struct algorithms choose = {find, note, NULL}, keep = {find, NULL, NULL};
    CHECK(!products_with(NULL, first).set && !products_with(&keep, known).set &&
              !memcmp(first, known, sizeof first) && n_sought == 2,
          "algorithms that are only looked up change what is not known");
    CHECK(!products_with(&choose, timed).set && n_noted == 1, "%d kinds of product timed, not 1",
          n_noted);
    CHECK(!products_with(&keep, again).set && !memcmp(timed, again, sizeof timed),
          "a known algorithm gives other values than when it was chosen");
    CHECK(!products_with(&choose, again).set && n_noted == 1, "a known product is timed again");
    memset(noted[0].algorithm, 'f', strlen(noted[0].algorithm));
    struct err e = products_with(&keep, again);
    CHECK(e.set && strstr(e.msg, noted[0].product), "an impossible algorithm: %s", e.msg);
    noted[0].algorithm[5] = 0;
    e = products_with(&keep, again);
    CHECK(e.set && strstr(e.msg, noted[0].product), "half of an algorithm: %s", e.msg);
}

int main(void)
{
    struct exec cpu, device;
    int has_cuda = exec_open(&device, DEVICE_CUDA, 0) == 0;
    if (!has_cuda)
        printf("no CUDA: %s\n", device.err.msg);
    CHECK(exec_open(&cpu, DEVICE_CPU, 1) == 0, "cannot open the CPU");
    test_product();
    test_chunk(&cpu, has_cuda ? &device : NULL);
    if (has_cuda) {
        exec_close(&device);
        test_algorithms();
    }
    return check_report();
}
