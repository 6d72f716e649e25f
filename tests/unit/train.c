/* The parts of training, evaluation and sampling that need no model: AdamW, loss weights,
 * order of the data, padding, windows, standard error. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/eval/eval.h"
#include "../../lib/train/train.h"
#include "check.h"
#include "token_stream.h"

static int near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * fmax(1, fabs(b));
}

static void test_options(void)
{
    struct err e = {0};
    struct train_options o = {.schedule = {.max_steps = 50, .learning_rate = 2e-3},
                              .batch_size = 1,
                              .accumulation = 1,
                              .epsilon = 1e-8,
                              .temperature = 1,
                              .jsd_beta = NAN};
    CHECK(!train_options_resolve(&o, &e), "sound options are taken");
    o.beta2 = 1;
    CHECK(train_options_resolve(&o, &e), "beta2 of 1 is refused");
    o.beta2 = 0.95;
    CHECK(isnan(o.jsd_beta), "without jsd there is no mixture");
    o.jsd_beta = 0.3;
    CHECK(train_options_resolve(&o, &e), "a mixture without jsd is refused");
    o.weights[LOSS_jsd] = 1;
    CHECK(!train_options_resolve(&o, &e) && o.jsd_beta == 0.3, "the given mixture remains");
    o.jsd_beta = NAN;
    CHECK(!train_options_resolve(&o, &e) && o.jsd_beta == 0.5, "both models weigh the same");
    o.jsd_beta = 1;
    CHECK(train_options_resolve(&o, &e), "a mixture that is the teacher alone is refused");
    o.jsd_beta = 1e-60;
    CHECK(train_options_resolve(&o, &e), "a mixture that is 0 in f32 is refused");
    o.jsd_beta = 0.5;
    o.temperature = 1e-60;
    CHECK(train_options_resolve(&o, &e), "a temperature that is 0 in f32 is refused");
}

static void test_loss_sums(void)
{
    static const struct {
        const char *text;
        double weights[LOSS_COUNT];
        int needs_teacher;
    } good[] = {
        {"kl", {[LOSS_kl] = 1}, 1},
        {"ce", {[LOSS_ce] = 1}, 0},
        {"kl+0.5ce", {[LOSS_ce] = 0.5, [LOSS_kl] = 1}, 1},
        {"0.1*ce+2kl", {[LOSS_ce] = 0.1, [LOSS_kl] = 2}, 1},
        {"rkl", {[LOSS_rkl] = 1}, 1},
        {"kl+0.5ce+0.1rkl", {[LOSS_ce] = 0.5, [LOSS_kl] = 1, [LOSS_rkl] = 0.1}, 1},
        {"1e-3mse+cosine+2*jsd", {[LOSS_mse] = 1e-3, [LOSS_cosine] = 1, [LOSS_jsd] = 2}, 1}};
    static const char *const bad[] = {"",     "kl+", "+kl",   "kl+kl", "l2",    "-1kl",     "0kl",
                                      "klce", "1",   "infkl", "nankl", "kl ce", "1e-300kl", "1e7kl",
                                      "kll",  "k",   "r",     "kl*2",  "2 * kl"};
    struct train_options o = {0};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(!train_parse_loss(good[i].text, o.weights, &(struct err){0}) &&
                  !memcmp(o.weights, good[i].weights, sizeof o.weights) &&
                  train_needs_teacher(&o) == good[i].needs_teacher,
              "%s: other weights, or a teacher is %sneeded", good[i].text,
              train_needs_teacher(&o) ? "" : "not ");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(train_parse_loss(bad[i], o.weights, &(struct err){0}) == -1, "\"%s\" was taken",
              bad[i]);
}

/* Two steps on three values, by the formula (Loshchilov and Hutter 2019), in double. */
static void test_adamw(void)
{
    struct train_options o = {.beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
    float p[3] = {1, -2, 0.5f}, m[3] = {0}, v[3] = {0}, slot[4];
    double q[3] = {1, -2, 0.5}, a[3] = {0}, b[3] = {0};
    struct exec x;
    exec_open(&x, DEVICE_CPU, 1);
    for (int t = 1; t <= 2; t++) {
        const float g[3] = {0.3f * t, -4, 1e-3f};
        double lr = 0.01 * t, clip = 0.5;
        struct adamw_params range = {
            .p = p, .m = m, .v = v, .g = g, .n = 3, .weight_decay = 0.1f, .step = slot};
        train_step_put(&x, &o, slot, lr, clip, t);
        train_adamw(&x, &o, &range);
        for (int i = 0; i < 3; i++) {
            double y = clip * g[i];
            a[i] = 0.9 * a[i] + 0.1 * y;
            b[i] = 0.95 * b[i] + 0.05 * y * y;
            q[i] = q[i] - lr * 0.1 * q[i] -
                   lr * (a[i] / (1 - pow(0.9, t))) / (sqrt(b[i] / (1 - pow(0.95, t))) + 1e-8);
            CHECK(near(p[i], q[i], 1e-6), "AdamW step %d value %d: %.8g, not %.8g", t, i, p[i],
                  q[i]);
        }
    }
    exec_close(&x);
}

static void test_order(void)
{
    enum { N = 10, EPOCHS = 4 };
    struct data_order o = {.n = N, .shuffled = 1, .seed = 7}, again;
    int64_t taken[N * EPOCHS];
    for (int i = 0; i < N * EPOCHS; i++)
        taken[i] = data_order_next(&o);
    CHECK(memcmp(taken, taken + N, N * sizeof *taken), "two epochs have the same order");
    for (int at = 0; at < N * EPOCHS; at += 7) {
        again = (struct data_order){.n = N, .shuffled = 1, .seed = 7, .position = at};
        CHECK(data_order_next(&again) == taken[at] && again.position == at + 1,
              "going on at %d gives another sequence", at);
    }
    o = (struct data_order){.n = 3, .seed = 7};
    for (int i = 0; i < 7; i++)
        CHECK(data_order_next(&o) == i % 3, "sequential order at %d", i);
}

static void test_permutations(void)
{
    for (int64_t n = 1; n < 400; n += n < 20 ? 1 : 37)
        for (uint64_t key = 0; key < 50; key++) {
            char seen[400] = "";
            int64_t once = 0, same = 0;
            for (int64_t i = 0; i < n; i++) {
                int64_t p = permutation_at(key, key % 3, n, i);
                once += p >= 0 && p < n && !seen[p]++;
                same += p == permutation_at(key, key % 3 + 1, n, i);
            }
            CHECK(once == n, "of %lld: no permutation", (long long)n);
            CHECK(n < 20 || same < n / 2, "of %lld: two epochs have the same order", (long long)n);
        }
    int64_t n = INT64_C(5000000000), i = n - 1, p = permutation_at(1, 2, n, i);
    CHECK(p >= 0 && p < n && p != permutation_at(1, 2, n, i - 1) && p != permutation_at(2, 2, n, i),
          "of billions");
}

/* By how many of its standard deviations the chi-squared of counts that should be equal exceeds its
 * mean, the degrees of freedom. */
static double chi_squared(const int *counts, int cells, double total)
{
    double sum = 0, expected = total / cells;
    for (int i = 0; i < cells; i++)
        sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    return (sum - (cells - 1)) / sqrt(2.0 * (cells - 1));
}

/* Over seeds: where each entry goes, and where its successor goes from there. */
static void test_uniform(void)
{
    enum { MOST = 70, SEEDS = 20000 };
    static const int sizes[] = {3, 6, 12, 33, 64, 70};
    static int places[MOST * MOST], steps[MOST * MOST], orders[6];
    for (int k = 0; k < 6; k++) {
        int n = sizes[k];
        memset(places, 0, sizeof places);
        memset(steps, 0, sizeof steps);
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            int64_t p[MOST];
            for (int i = 0; i < n; i++)
                places[i * n + (p[i] = permutation_at(seed, 0, n, i))]++;
            for (int i = 0; i + 1 < n; i++)
                steps[i * (n - 1) + (p[i + 1] - p[i] + n) % n - 1]++;
            if (n == 3)
                orders[2 * p[0] + (p[1] > p[2])]++;
        }
        double place = chi_squared(places, n * n, (double)n * SEEDS),
               step = chi_squared(steps, (n - 1) * (n - 1), (n - 1.0) * SEEDS);
        CHECK(place < 4 && step < 4, "of %d: places %.2f, steps %.2f", n, place, step);
    }
    CHECK(chi_squared(orders, 6, SEEDS) < 4, "the orders of three: %.2f",
          chi_squared(orders, 6, SEEDS));
}

static void test_batch(void)
{
    const uint32_t tokens[] = {5, 6, 7, 8, 9, 10};
    const int64_t ends[] = {4, 6};
    struct tokens from;
    token_stream(&from, &(struct token_arrays){.ids = tokens}, 6, ends, 2, 0);
    const struct data_row rows[] = {{&from, 0, 4, 2, 2, 0, NULL, 0},
                                    {&from, 4, 2, 1, 1, 0, NULL, 1}};
    const int32_t ids[] = {5, 6, 7, 9, 0, 0},
                  labels[] = {LABEL_UNCOUNTED, 7, 8, 10, LABEL_PADDING, LABEL_PADDING};
    struct data_batch d;
    data_batch_open(&d, 2, 4);
    CHECK(!data_batch_fill(&d, rows, 2, &(struct err){0}), "a batch");
    CHECK(d.b.n_seq == 2 && d.b.seq_len == 3, "the batch is %lld x %lld", (long long)d.b.n_seq,
          (long long)d.b.seq_len);
    CHECK(!memcmp(d.ids, ids, sizeof ids) && !memcmp(d.labels, labels, sizeof labels),
          "shifted, masked and padded");
    data_batch_close(&d);
    tokens_free(&from);
}

/* Windows, predictions and tokens of the recipes that published perplexities use. */
static void test_windows(void)
{
    static const struct {
        int64_t tokens, context, stride, score_from, windows, predictions, left_out;
    } cases[] = {{32768, 2048, 0, 0, 16, 32752, 0}, /* disjoint windows */
                 {65536, 512, 0, 0, 128, 65408, 0},
                 /* strided: every token but the first is predicted once */
                 {20480, 1024, 512, 0, 39, 20479, 0},
                 {65536, 512, 0, 257, 128, 32640, 0}, /* llama-perplexity: 255 of each window */
                 {1000, 300, 0, 0, 3, 897, 100},
                 {1000, 300, 100, 0, 8, 999, 0},
                 {1000, 0, 0, 0, 1, 999, 0},
                 {1000, 0, 0, 999, 1, 1, 0},
                 {300, 300, 7, 0, 1, 299, 0}};
    uint32_t *ids = mem_alloc(65536 * 4), *bytes = mem_alloc(65536 * 4);
    for (int i = 0; i < 65536; i++)
        bytes[i] = 2;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t end = cases[i].tokens, n_bytes;
        struct tokens t;
        token_stream(&t, &(struct token_arrays){.ids = ids, .bytes = bytes}, end, &end, 1, 0);
        struct window_options o = {.context = cases[i].context,
                                   .stride = cases[i].stride,
                                   .score_from = cases[i].score_from};
        struct windows w;
        struct err e = {0};
        CHECK(!windows_open(&w, &t, &o, &e), "case %zu: %s", i, e.msg);
        n_bytes = windows_bytes(&w, &e);
        CHECK(w.n == cases[i].windows && w.predictions == cases[i].predictions &&
                  w.left_out == cases[i].left_out && n_bytes == 2 * w.predictions,
              "case %zu: %lld windows, %lld predictions, %lld left out, %lld bytes", i,
              (long long)w.n, (long long)w.predictions, (long long)w.left_out, (long long)n_bytes);
        CHECK(w.tokens + w.left_out == cases[i].tokens, "case %zu: %lld tokens used", i,
              (long long)w.tokens);
        windows_close(&w);
        tokens_free(&t);
    }
    static const struct window_options bad[] = {{.context = 1},
                                                {.stride = 4},
                                                {.context = 4, .stride = 5},
                                                {.context = 8, .score_from = 8},
                                                {.context = -2},
                                                {.context = 4, .stride = -1},
                                                {.seq_length = 1},
                                                {.seq_length = -3},
                                                {.seq_length = 4, .context = 4},
                                                {.seq_length = 4, .stride = 2},
                                                {.seq_length = 8, .score_from = 8}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(window_options_check(&bad[i], &(struct err){0}) == -1, "bad options %zu were taken",
              i);
    free(ids);
    free(bytes);
}

/* Windows of a text in which 9 is BOS: where it is put in front, and what then counts. */
static void test_window_bos(void)
{
    uint32_t ids[] = {9, 1, 2, 3, 4, 9, 5, 6, 7, 8}, bytes[] = {0, 1, 1, 1, 1, 0, 1, 1, 1, 1};
    int64_t ends[] = {5, 10};
    struct tokens t;
    token_stream(&t, &(struct token_arrays){.ids = ids, .bytes = bytes}, 10, ends, 2, 0);
    static const struct {
        int64_t seq_length, context, stride, n, tokens, predictions, bytes, added;
        const char *batch; /* of the windows' tokens; their last is a label */
    } cases[] = {{0, 5, 0, 2, 10, 8, 8, 0, "9 1 2 3 4/9 5 6 7 8/"},
                 {0, 4, 0, 3, 10, 9, 8, 2, "9 1 2 3/9 4 9 5/9 6 7 8/"},
                 {0, 4, 2, 4, 10, 9, 8, 2, "9 1 2 3/9 3 4 9/9 5 6/9 6 7 8/"},
                 {4, 0, 0, 4, 10, 8, 8, 2, "9 1 2 3/9 4/9 5 6 7/9 8/"},
                 {0, 0, 0, 2, 10, 8, 8, 0, "9 1 2 3 4/9 5 6 7 8/"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct window_options o = {.seq_length = cases[i].seq_length,
                                   .context = cases[i].context,
                                   .stride = cases[i].stride,
                                   .bos = {{9}, 1}};
        struct windows w;
        struct data_batch d;
        struct err e = {0};
        char got[200] = "";
        CHECK(!windows_open(&w, &t, &o, &e), "case %zu: %s", i, e.msg);
        for (int64_t r = 0; r < w.n; r++) {
            data_batch_open(&d, 1, w.longest);
            windows_fill(&w, r, 1, &d, &e);
            for (int64_t k = 0; k < d.b.seq_len; k++)
                sprintf(got + strlen(got), "%d ", d.ids[k]);
            sprintf(got + strlen(got), "%d/", d.labels[d.b.seq_len - 1]);
            data_batch_close(&d);
        }
        CHECK(!strcmp(got, cases[i].batch), "case %zu: windows %s", i, got);
        CHECK(w.n == cases[i].n && w.tokens == cases[i].tokens && !w.left_out &&
                  w.predictions == cases[i].predictions &&
                  windows_bytes(&w, &e) == cases[i].bytes && w.bos_added == cases[i].added,
              "case %zu: %lld windows, %lld tokens, %lld predictions, %lld bytes, %lld added", i,
              (long long)w.n, (long long)w.tokens, (long long)w.predictions,
              (long long)windows_bytes(&w, &e), (long long)w.bos_added);
        windows_close(&w);
    }
    struct window_options gap = {.context = 4, .stride = 4, .bos = {{9}, 1}};
    struct windows w;
    CHECK(windows_open(&w, &t, &gap, &(struct err){0}) == -1, "a stride with a gap was taken");
    tokens_free(&t);
}

static void test_statistics(void)
{
    double mean, error;
    eval_statistics((double[]){2, 4, 6}, (int64_t[]){2, 2, 2}, 3, &mean, &error);
    /* window means 1, 2, 3: deviation 1 */
    CHECK(mean == 2 && near(error, 1 / sqrt(3), 1e-12), "windows of one size: mean %g, error %g",
          mean, error);
    eval_statistics((double[]){3, 5}, (int64_t[]){1, 3}, 2, &mean, &error);
    CHECK(mean == 2 && near(error, sqrt(2 * (1 + 1)) / 4, 1e-12),
          "windows of two sizes: mean %g, error %g", mean, error);
    eval_statistics((double[]){3}, (int64_t[]){2}, 1, &mean, &error);
    CHECK(mean == 1.5 && isnan(error), "one window has no error");
}

static void test_sampler(void)
{
    enum { DRAWS = 20000 };
    const float logits[] = {1, NAN, 3, 3, -INFINITY, 2};
    const double weights[] = {exp(-2), 0, 1, 1, 0, exp(-1)};
    struct sampler s;
    struct rng rng = rng_open(1, 0);
    sample_open(&s, 0, 1, 0, 6);
    CHECK(sample_token(&s, &rng, logits) == 2, "greedy takes the lowest of equal ids");
    sample_close(&s);
    int counts[6] = {0}, narrow = 1, two = 1;
    sample_open(&s, 1, 1, 0, 6);
    for (int i = 0; i < DRAWS; i++)
        counts[sample_token(&s, &rng, logits)]++;
    for (int i = 0; i < 6; i++) {
        double p = weights[i] / (2 + exp(-1) + exp(-2));
        CHECK(fabs(counts[i] - p * DRAWS) <= 5 * sqrt(p * (1 - p) * DRAWS),
              "id %d was drawn %d times of %d, p %g", i, counts[i], DRAWS, p);
    }
    sample_close(&s);
    sample_open(&s, 1, 0.5, 0, 6);
    for (int i = 0; i < 1000; i++) {
        int64_t id = sample_token(&s, &rng, logits);
        narrow &= id == 2 || id == 3;
    }
    CHECK(narrow, "top-p 0.5 leaves the two largest");
    sample_close(&s);
    sample_open(&s, 5, 1, 2, 6);
    for (int i = 0; i < 1000; i++) {
        int64_t id = sample_token(&s, &rng, logits);
        two &= id == 2 || id == 3;
    }
    CHECK(two, "top-k 2 leaves the two largest");
    sample_close(&s);
}

int main(void)
{
    test_options();
    test_loss_sums();
    test_adamw();
    test_order();
    test_permutations();
    test_uniform();
    test_batch();
    test_windows();
    test_window_bos();
    test_statistics();
    test_sampler();
    return check_report();
}
