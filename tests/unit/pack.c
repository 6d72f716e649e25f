/* Packing of documents into rows, and what windows and batches make of packed rows; numbers worked
 * out by hand. */
#include <string.h>

#include "check.h"
#include "../../lib/base/rng.h"
#include "token_stream.h"

/* A document of n tokens: ids first, first + 1, ..., one source byte each. */
static void document(struct ids *text, int64_t *ends, int64_t *documents, uint32_t first, int64_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ids_push(text, first + i, 1);
    ends[(*documents)++] = text->n;
}

static int ids_are(const struct ids *got, const uint32_t *want, int64_t n)
{
    return got->n == n && !memcmp(got->id, want, (size_t)n * sizeof *want);
}

/* Documents of 3, 4, 2, 1 and 12 tokens in rows of 5: 12 is cut in 5, 5 and 2, or with a BOS of two
 * tokens before all pieces but the first in 5, 5, 5 and 3; 1 goes with 4, 2 with the earlier 3. */
static void test_rows(void)
{
    static const uint32_t rows[][35] = {
        {10, 11, 12, 30, 31, 20, 21, 22, 23, 40, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61},
        {10, 11, 12, 30, 31, 20, 21, 22, 23, 40, 50, 51, 52, 53,
         54, 1,  2,  55, 56, 57, 1,  2,  58, 59, 60, 1,  2,  61}};
    static const uint8_t flags[][35] = {
        {2, 0, 0, 2, 0, 2, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 2, 2, 2},
        {2, 0, 0, 2, 0, 2, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2, 1, 0, 0, 0, 2, 1, 0, 0, 0, 2, 1, 0, 2, 2}};
    static const struct row_bos bos[] = {{.n = 0}, {.ids = {1, 2}, .n = 2}};
    for (int i = 0; i < 2; i++) {
        struct ids text = {0};
        int64_t ends[5], documents = 0, n = i ? 30 : 25;
        document(&text, ends, &documents, 10, 3);
        document(&text, ends, &documents, 20, 4);
        document(&text, ends, &documents, 30, 2);
        document(&text, ends, &documents, 40, 1);
        document(&text, ends, &documents, 50, 12);
        struct packed p = pack_documents(&text, ends, documents, 5, &bos[i]);
        CHECK(p.rows == n / 5 && p.padding == n - (i ? 28 : 22), "%lld rows, %lld tokens padding",
              (long long)p.rows, (long long)p.padding);
        CHECK(ids_are(&text, rows[i], n) && !memcmp(text.flags, flags[i], (size_t)n),
              "rows of documents, BOS of %d", (int)bos[i].n);
        int64_t bytes = 0;
        for (int64_t k = 0; k < text.n; k++)
            bytes += text.bytes[k];
        CHECK(bytes == 22, "%lld source bytes", (long long)bytes);
        ids_free(&text);
    }
}

/* Of several rows with room for a document it takes the one with least. */
static void test_best_fit(void)
{
    struct ids text = {0};
    int64_t ends[4], documents = 0;
    static const struct row_bos none = {.n = 0};
    static const uint32_t rows[] = {10, 11, 0, 0, 20, 21, 22, 40};
    document(&text, ends, &documents, 10, 2);
    document(&text, ends, &documents, 20, 3);
    document(&text, ends, &documents, 40, 1);
    struct packed p = pack_documents(&text, ends, documents, 4, &none);
    CHECK(p.rows == 2 && p.padding == 2 && ids_are(&text, rows, 8), "the tightest row");
    ids_free(&text);
}

/* Nothing of a document is lost, and few rows are left unfilled, though only some are open. */
static void test_many(void)
{
    enum { DOCUMENTS = 5000, N = 100 };
    struct ids text = {0};
    struct rng r = rng_open(3, 1);
    int64_t *ends = mem_alloc(DOCUMENTS * sizeof *ends), documents = 0, ascending = 1;
    static const struct row_bos none = {.n = 0};
    for (int i = 0; i < DOCUMENTS; i++)
        document(&text, ends, &documents, (uint32_t)(1000 * i + 1), 1 + (int64_t)rng_below(&r, 60));
    int64_t all = text.n;
    struct packed p = pack_documents(&text, ends, documents, N, &none);
    CHECK(text.n == p.rows * N && p.padding == text.n - all && p.padding < text.n / 50,
          "%lld of %lld tokens are padding", (long long)p.padding, (long long)text.n);
    for (int64_t i = 1; i < text.n; i++)
        ascending &= text.flags[i] & TOKEN_BEGINS || text.id[i] == text.id[i - 1] + 1;
    CHECK(ascending, "a document is torn apart");
    free(ends);
    ids_free(&text);
}

/* ---- reading */

/* Two rows: documents of 3 and 2 tokens; of 4, and padding of 1. */
static const uint32_t packed_ids[] = {10, 11, 12, 30, 31, 20, 21, 22, 23, 0},
                      packed_bytes[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 0};
static const uint8_t packed_flags[] = {2, 0, 0, 2, 0, 2, 0, 1, 0, 2};

static void test_windows(const struct tokens *t)
{
    struct windows w;
    struct err e = {0};
    CHECK(!windows_open(&w, t, &(struct window_options){0}, &e) && w.n == 2 && w.predictions == 5 &&
              w.tokens == 9 && w.padding == 1 && w.left_out == 0,
          "%lld windows, %lld predictions, %lld tokens and %lld padding: %s", (long long)w.n,
          (long long)w.predictions, (long long)w.tokens, (long long)w.padding, e.msg);
    CHECK(windows_row(&w, 0).inputs == 4 && windows_row(&w, 1).inputs == 4, "inputs of a batch");
    CHECK(windows_bytes(&w, &e) == 5, "bytes of predicted tokens");
    struct data_batch d;
    static const int32_t labels[] = {11, 12, -100, 31, 21, -100, 23, -100},
                         starts[] = {0, 0, 0, 3, 0, 0, 0, 0};
    data_batch_open(&d, 2, 5);
    CHECK(!windows_fill(&w, 0, 2, &d, &e) && !memcmp(d.labels, labels, sizeof labels),
          "labels of packed rows: %s", e.msg);
    CHECK(d.b.starts && !memcmp(d.b.starts, starts, sizeof starts), "starts of packed rows");
    CHECK(!windows_fill(&w, 1, 1, &d, &e) && !d.b.starts, "a row with one document has starts");
    data_batch_close(&d);
    windows_close(&w);
}

static void test_refused(const struct tokens *t, const struct window_options *o, const char *words)
{
    struct windows w;
    struct err e = {0};
    CHECK(windows_open(&w, t, o, &e) && strstr(e.msg, words), "\"%s\" expected, not \"%s\"", words,
          e.msg);
}

int main(void)
{
    test_rows();
    test_best_fit();
    test_many();
    struct tokens t;
    token_stream(
        &t, &(struct token_arrays){.ids = packed_ids, .bytes = packed_bytes, .flags = packed_flags},
        10, NULL, 0, 5);
    test_windows(&t);
    test_refused(&t, &(struct window_options){.context = 4}, "packed documents");
    test_refused(&t, &(struct window_options){.score_from = 2}, "packed documents");
    test_refused(&t, &(struct window_options){.seq_length = 4}, "cannot be cut to 4");
    tokens_free(&t);
    return check_report();
}
