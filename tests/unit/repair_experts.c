/* Repair of a mixture of experts: a case worked by hand, and experts that one fit makes exact. */
#include <math.h>
#include <string.h>

#include "../../lib/base/rng.h"
#include "../../lib/prune/repair_private.h"
#include "check.h"

static struct err e;

static int near(double a, double b) { return fabs(a - b) <= 1e-6 * (1 + fabs(b)); }

/* Two of three experts work for token 0, one for each of the others; expert 1 for none. Inputs
 * times weights are z0 = 1, z2 = 1 of token 0, z0 = 1 of token 1 and z2 = 1 of token 2, where those
 * of an expert without a weight come first. 4, 2 and 0 are missing; of the second channel twice as
 * much.
 *
 * ridge 0: d0 = (4 + 2) / 2 = 3 leaves 1, -1, 0; d2 = (1 + 0) / 2 leaves 1/2, -1, -1/2. Once more,
 * what d0 writes put back: d0 = (7/2 + 2) / 2 = 11/4 leaves 3/4, -3/4, -1/2; then d2 = (5/4 + 0) /
 * 2 = 5/8 leaves 5/8, -3/4, -5/8. (The limit is 8/3 and 2/3.)
 *
 * ridge 3/2: the squares of the inputs, 2 and 0 and 2, have mean 4/3, so lambda = 2: d0 = 6 / 4, d2
 * = (5/2 + 0) / 4 = 5/8; then d0 = (27/8 + 2) / 4 = 43/32 leaves 65/32, 21/32, -5/8; d2 = (85/32 +
 * 0) / 4 = 85/128. */
static void test_by_hand(void)
{
    static const float weights[][3] = {{0.5f, 0, 0.25f}, {1, 0, 0}, {0, 0, 0.5f}},
                       inputs[][2] = {{2, 4}, {1, 9}, {9, 2}};
    static const double want[][2] = {{11. / 4, 5. / 8}, {43. / 32, 85. / 128}},
                        left[][3] = {{5. / 8, -3. / 4, -5. / 8},
                                     {4 - 43. / 32 - 85. / 128, 2 - 43. / 32, -85. / 128}};
    for (int ridge = 0; ridge < 2; ridge++) {
        struct experts x = {
            .count = 3, .top = 2, .neurons = 1, .hidden = 2, .tokens = 3, .batch = 2};
        double squares = 0;
        CHECK(!experts_open(&x, &e), "%s", e.msg);
        memcpy(x.weights, weights, sizeof weights);
        memcpy(x.inputs, inputs, sizeof inputs);
        memcpy(x.missing, (float[]){4, 8, 2, 4, 0, 0}, 6 * sizeof(float));
        CHECK(!experts_fit(&x, 1.5 * ridge, &e), "%s", e.msg);
        for (int i = 0; i < 6; i++) {
            double expert = i / 2 == 1 ? 0 : want[ridge][i / 4] * (1 + i % 2);
            CHECK(near(x.change[i], expert), "ridge %d, expert %d: %.9g, not %.9g", ridge, i / 2,
                  x.change[i], expert);
            CHECK(near(x.missing[i], left[ridge][i / 2] * (1 + i % 2)),
                  "ridge %d, token %d: %.9g left", ridge, i / 2, x.missing[i]);
            squares += x.missing[i] * x.missing[i];
        }
        CHECK(x.squares == 100 && near(x.left, squares) && x.fewest == 2,
              "squares %.9g, left %.9g, fewest %lld", x.squares, x.left, (long long)x.fewest);
        experts_close(&x);
    }
}

/* One expert for each token, so that the experts do not share tokens, and what is missing is linear
 * in its inputs: the change is the matrix that made it, and nothing is left. */
static void test_exact(void)
{
    enum { TOKENS = 50, EXPERTS = 3, NEURONS = 5, HIDDEN = 4, EACH = HIDDEN * NEURONS };
    struct experts x = {.count = EXPERTS,
                        .top = 1,
                        .neurons = NEURONS,
                        .hidden = HIDDEN,
                        .tokens = TOKENS,
                        .batch = 7};
    struct rng g = rng_open(1, 2);
    double made[EXPERTS * EACH];
    CHECK(!experts_open(&x, &e), "%s", e.msg);
    for (int i = 0; i < EXPERTS * EACH; i++)
        made[i] = rng_uniform(&g) - 0.5;
    for (int t = 0; t < TOKENS; t++) {
        for (int i = 0; i < NEURONS; i++)
            x.inputs[t * NEURONS + i] = (float)(rng_uniform(&g) - 0.3);
        for (int i = 0; i < EXPERTS; i++)
            x.weights[t * EXPERTS + i] = i == t % EXPERTS ? 0.5f : 0;
        for (int i = 0; i < EACH; i++)
            x.missing[t * HIDDEN + i / NEURONS] += (float)(made[t % EXPERTS * EACH + i] * 0.5 *
                                                           x.inputs[t * NEURONS + i % NEURONS]);
    }
    CHECK(!experts_fit(&x, 0, &e), "%s", e.msg);
    CHECK(x.left < 1e-10 * x.squares && x.fewest == TOKENS / EXPERTS, "left %.3g of %.3g", x.left,
          x.squares);
    for (int i = 0; i < EXPERTS * EACH; i++)
        CHECK(fabs(x.change[i] - made[i]) < 1e-4, "%d: %.9g, not %.9g", i, x.change[i], made[i]);
    experts_close(&x);
}

/* Two tokens for three inputs. */
static void test_dependent(void)
{
    struct experts x = {.count = 2, .top = 1, .neurons = 3, .hidden = 1, .tokens = 2, .batch = 2};
    struct err why = {0};
    CHECK(!experts_open(&x, &e), "%s", e.msg);
    for (int i = 0; i < 6; i++)
        x.inputs[i] = (float)(i * i + 1);
    x.weights[1] = x.weights[3] = x.missing[0] = 1;
    CHECK(experts_fit(&x, 0, &why) == -1 && strstr(why.msg, "expert 1: its 3 inputs are linearly"),
          "\"%s\"", why.msg);
    experts_close(&x);
}

int main(void)
{
    test_by_hand();
    test_exact();
    test_dependent();
    return check_report();
}
