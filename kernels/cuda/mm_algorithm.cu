/* How a matrix product is computed: one of cuBLASLt's algorithms.
 *
 * By default the library's first suggestion, which is the same in every run. With exec.algorithms,
 * the suggestion that was fastest when the kind of product first occurred. A choice by time differs
 * from run to run, and rounding with it, so choices are handed out as text, to be kept and given
 * back. What is added to a product (beta) does not count: a gradient that is written and one that
 * is added to are computed alike. */
#include <math.h>
#include <stdio.h>

#include "mm.h"

enum { SUGGESTIONS = 8, ROUNDS = 3, EACH_ROUND = 10, PRODUCT_TEXT = 256 };
/* A suggestion replaces the first one only if it takes less than this share of its time: smaller
 * differences are those of the clock. */
static const float FASTER = 0.97f;

/* At most n algorithms, the best first; how many, or -1. */
static int suggestions(const struct op_args *c, const struct product *p, int n,
                       cublasLtMatmulHeuristicResult_t *results)
{
    const struct gpu *g = c->x->gpu;
    const struct shape *s = &p->shape;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        int32_t bytes;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s->alignment[1]},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s->alignment[0]},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s->alignment[2]},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s->alignment[2]}};
    cublasLtMatmulPreference_t preference;
    uint64_t workspace = g->workspace_bytes;
    /* split sums: in f32 */
    uint32_t joined = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                      (s->out == DT_F32 ? CUBLASLT_REDUCTION_SCHEME_INPLACE : 0);
    int found = 0, usable = 0;
    if (cublasLtMatmulPreferenceCreate(&preference))
        return -1;
    int failed = cublasLtMatmulPreferenceSetAttribute(preference,
                                                      CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace, sizeof workspace) ||
                 cublasLtMatmulPreferenceSetAttribute(preference,
                                                      CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &joined, sizeof joined);
    for (const auto &a : alignments) {
        uint32_t bytes = (uint32_t)a.bytes;
        failed |= cublasLtMatmulPreferenceSetAttribute(preference, a.name, &bytes, sizeof bytes);
    }
    if (!failed && cublasLtMatmulAlgoGetHeuristic(products_library(g), p->desc, p->b, p->a, p->c,
                                                  p->c, preference, n, results, &found))
        found = 0;
    cublasLtMatmulPreferenceDestroy(preference);
    for (int i = 0; i < found; i++)
        if (!results[i].state)
            results[usable++] = results[i];
    return failed ? -1 : usable;
}

/* ---- by time */

struct stopwatch {
    cudaEvent_t from, to;
};

/* Milliseconds of the product by this algorithm, the least of a few rounds after one that warms up;
 * infinity if it fails. */
static float time_of(const struct op_args *c, const struct product *p,
                     const cublasLtMatmulAlgo_t *algo, const struct factors *f, void *D,
                     const struct stopwatch *w)
{
    const struct gpu *g = c->x->gpu;
    float least = INFINITY, ms;
    for (int round = 0; round <= ROUNDS; round++) {
        cudaEventRecord(w->from, g->stream);
        for (int i = 0; i < EACH_ROUND; i++)
            if (product_run(g, p, algo, f, D))
                return INFINITY;
        cudaEventRecord(w->to, g->stream);
        if (cudaEventSynchronize(w->to) || cudaEventElapsedTime(&ms, w->from, w->to))
            return INFINITY;
        if (round && ms < least)
            least = ms;
    }
    return least;
}

/* Which of n suggestions is the fastest. Their results go to memory of their own; where there is
 * none left, the first suggestion is used. */
static int fastest(const struct op_args *c, const struct product *p, const struct factors *f,
                   const cublasLtMatmulHeuristicResult_t *results, int n)
{
    const struct shape *s = &p->shape;
    int64_t values = (s->M - 1) * s->ldc + s->N;
    struct stopwatch w = {};
    void *D = NULL;
    int best = 0;
    if (n > 1 && cudaMalloc(&D, (size_t)dtype_bytes((enum dtype)s->out, values)) == cudaSuccess &&
        cudaEventCreate(&w.from) == cudaSuccess && cudaEventCreate(&w.to) == cudaSuccess) {
        float least = FASTER * time_of(c, p, &results[0].algo, f, D, &w);
        for (int i = 1; i < n; i++) {
            float ms = time_of(c, p, &results[i].algo, f, D, &w);
            if (ms < least) {
                least = ms;
                best = i;
            }
        }
    }
    if (w.from)
        cudaEventDestroy(w.from);
    if (w.to)
        cudaEventDestroy(w.to);
    cudaFree(D);
    cudaGetLastError(); /* of no memory */
    return best;
}

/* ---- as text */

/* "bf16 N T 4096 x 576 x 1536 to bf16, rows of 1536 1536 576, aligned to 16 16 16" */
static void product_text(const struct op_args *c, const struct product *p, char text[PRODUCT_TEXT])
{
    const struct shape *s = &p->shape;
    const char *in = c->x->tf32 ? "tf32" : dtype_name((enum dtype)s->in);
    snprintf(text, PRODUCT_TEXT,
             "%s %c %c %lld x %lld x %lld to %s, rows of %lld %lld %lld, aligned to %d %d %d", in,
             s->ta, s->tb, (long long)s->M, (long long)s->N, (long long)s->K,
             dtype_name((enum dtype)s->out), (long long)s->lda, (long long)s->ldb,
             (long long)s->ldc, s->alignment[0], s->alignment[1], s->alignment[2]);
}

enum { ALGORITHM_TEXT = 2 * sizeof(cublasLtMatmulAlgo_t) + 1 };

/* The library allows its bytes to be stored. */
static void algorithm_write(const cublasLtMatmulAlgo_t *algo, char text[ALGORITHM_TEXT])
{
    for (size_t i = 0; i < sizeof *algo; i++)
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)algo)[i]);
}

static int algorithm_read(cublasLtMatmulAlgo_t *algo, const char *text)
{
    if (strlen(text) != ALGORITHM_TEXT - 1 ||
        strspn(text, "0123456789abcdef") != ALGORITHM_TEXT - 1)
        return -1;
    for (size_t i = 0; i < sizeof *algo; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], 0};
        ((unsigned char *)algo)[i] = (unsigned char)strtol(digits, NULL, 16);
    }
    return 0;
}

static int algorithm_known(const struct op_args *c, struct product *p, const char *name,
                           const char *text)
{
    cublasLtMatmulHeuristicResult_t result = {};
    if (algorithm_read(&p->algo, text) ||
        cublasLtMatmulAlgoCheck(products_library(c->x->gpu), p->desc, p->b, p->a, p->c, p->c,
                                &p->algo, &result) ||
        result.workspaceSize > c->x->gpu->workspace_bytes)
        return err_set(&c->x->err,
                       "cuBLASLt cannot compute the product %s with the algorithm that "
                       "was stored for it",
                       name);
    return 0;
}

int algorithm_choose(const struct op_args *c, struct product *p, const struct factors *f)
{
    const struct algorithms *known = c->x->algorithms;
    cublasLtMatmulHeuristicResult_t results[SUGGESTIONS] = {};
    char name[PRODUCT_TEXT], text[ALGORITHM_TEXT];
    product_text(c, p, name);
    const char *found = known ? known->find(known->user, name) : NULL;
    if (found)
        return algorithm_known(c, p, name, found);
    int timed = known && known->chosen, n = suggestions(c, p, timed ? SUGGESTIONS : 1, results);
    if (n < 1)
        return n ? -1 : (product_refuse(c, p), 0);
    p->algo = results[timed ? fastest(c, p, f, results, n) : 0].algo;
    algorithm_write(&p->algo, text);
    if (timed)
        known->chosen(known->user, name, text);
    return 0;
}
