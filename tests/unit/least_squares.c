/* Ridge regression: cases worked by hand, and the normal equations of random ones, whose sizes
 * cross the boundaries of panels, tiles and steps. */
#include <math.h>
#include <stdlib.h>

#include "../../lib/base/rng.h"
#include "../../lib/prune/least_squares.h"
#include "check.h"

static struct err e;

static int near(double a, double b) { return fabs(a - b) <= 1e-9 * (1 + fabs(b)); }

/* Rows z: (1, 0), (0, 1), (1, 1), with r = 2, 3, 4.
 * Without a ridge: sum z z^T = [2 1; 1 2], sum r z = (6, 7), whose solution is (5, 8) / 3; what is
 * left of 4 + 9 + 16: 29 - (6 * 5 + 7 * 8) / 3 = 1/3.
 * ridge 1/2: lambda = 1, [3 1; 1 3] d = (6, 7): d = (11, 15) / 8. Residuals 5/8, 9/8, 6/8: left
 * (25 + 81 + 36) / 64. */
static void test_two_inputs(void)
{
    static const float z[] = {1, 0, 0, 1, 1, 1}, r[] = {2, 3, 4};
    static const double ridges[] = {0, 0.5},
                        want[][3] = {{5. / 3, 8. / 3, 1. / 3}, {11. / 8, 15. / 8, 142. / 64}};
    for (int i = 0; i < 2; i++) {
        struct least_squares s;
        CHECK(!least_squares_open(&s, 2, 1, 0, &e), "%s", e.msg);
        least_squares_add(&s, z, r, 2);
        least_squares_add(&s, z + 4, r + 2, 1);
        CHECK(near(s.squares, 29), "squares %.17g", s.squares);
        CHECK(!least_squares_solve(&s, ridges[i], &e), "%s", e.msg);
        CHECK(near(s.cross[0], want[i][0]) && near(s.cross[1], want[i][1]) &&
                  near(s.left, want[i][2]) && s.offset[0] == 0,
              "ridge %g: %.17g, %.17g, left %.17g", ridges[i], s.cross[0], s.cross[1], s.left);
        least_squares_close(&s);
    }
}

/* One input 1, 2, 3 with r = 5, 7, 9 is 3 + 2 z: nothing is left. A ridge of 1 on z less its mean
 * 2, whose square sum 2 is also lambda, halves the slope: 1 z + 5, and leaves 1 + 0 + 1. */
static void test_offset(void)
{
    static const float z[] = {1, 2, 3}, r[] = {5, 7, 9};
    static const double want[][3] = {{2, 3, 0}, {1, 5, 2}};
    for (int ridge = 0; ridge < 2; ridge++) {
        struct least_squares s;
        CHECK(!least_squares_open(&s, 1, 1, 1, &e), "%s", e.msg);
        least_squares_add(&s, z, r, 3);
        CHECK(!least_squares_solve(&s, ridge, &e), "%s", e.msg);
        CHECK(near(s.cross[0], want[ridge][0]) && near(s.offset[0], want[ridge][1]) &&
                  near(s.left, want[ridge][2]),
              "ridge %d: %.17g z + %.17g, left %.17g", ridge, s.cross[0], s.offset[0], s.left);
        least_squares_close(&s);
    }
}

static float *draw(struct rng *g, int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(rng_uniform(g) - 0.3);
    return x;
}

/* At the solution every residual is orthogonal to the inputs, but for lambda D: sum (r - D z - c) z
 * = lambda D, and with an offset the residuals have sum 0. */
static void check_random(int64_t inputs, int64_t outputs, int64_t rows, int offset, double ridge)
{
    struct rng g = rng_open(1, (uint64_t)(inputs * 1000 + rows));
    struct least_squares s;
    float *z = draw(&g, rows * inputs), *r = draw(&g, rows * outputs);
    double *mean = calloc((size_t)inputs, sizeof *mean), worst = 0, left = 0, trace = 0;
    CHECK(!least_squares_open(&s, inputs, outputs, offset, &e), "%s", e.msg);
    least_squares_add(&s, z, r, rows);
    CHECK(!least_squares_solve(&s, ridge, &e), "%s", e.msg);
    for (int64_t i = 0; i < inputs; i++) {
        for (int64_t t = 0; t < rows && offset; t++)
            mean[i] += z[t * inputs + i] / (double)rows;
        for (int64_t t = 0; t < rows; t++)
            trace += (z[t * inputs + i] - mean[i]) * (z[t * inputs + i] - mean[i]);
    }
    for (int64_t o = 0; o < outputs; o++) {
        double *slope = calloc((size_t)inputs, sizeof *slope), sum = 0;
        for (int64_t t = 0; t < rows; t++) {
            double residual = r[t * outputs + o] - s.offset[o];
            for (int64_t i = 0; i < inputs; i++)
                residual -= s.cross[o * inputs + i] * z[t * inputs + i];
            for (int64_t i = 0; i < inputs; i++)
                slope[i] += residual * z[t * inputs + i];
            left += residual * residual;
            sum += residual;
        }
        for (int64_t i = 0; i < inputs; i++)
            worst = fmax(worst,
                         fabs(slope[i] - ridge * trace / (double)inputs * s.cross[o * inputs + i]));
        worst = fmax(worst, offset ? fabs(sum) : 0);
        free(slope);
    }
    CHECK(worst < 1e-9 * (double)rows && near(s.left, left),
          "%lld -> %lld: off by %.3g, left %.17g, not %.17g", (long long)inputs, (long long)outputs,
          worst, s.left, left);
    least_squares_close(&s);
    free(mean);
    free(z);
    free(r);
}

/* The third input is the sum of the others: refused without a ridge, solved with one. */
static void test_dependent(void)
{
    static const float z[] = {1, 0, 1, 0, 1, 1, 2, 1, 3, 1, 3, 4}, r[] = {1, 2, 3, 4};
    for (int ridge = 0; ridge < 2; ridge++) {
        struct least_squares s;
        struct err why = {0};
        CHECK(!least_squares_open(&s, 3, 1, 0, &e), "%s", e.msg);
        least_squares_add(&s, z, r, 4);
        CHECK(least_squares_solve(&s, 0.01 * ridge, &why) == ridge - 1, "ridge %d: %s", ridge,
              why.msg);
        least_squares_close(&s);
    }
}

int main(void)
{
    test_two_inputs();
    test_offset();
    check_random(1, 1, 5, 0, 0);
    check_random(8, 16, 300, 0, 0.01);
    check_random(9, 17, 129, 1, 0);
    check_random(64, 3, 128, 1, 0.1);
    check_random(65, 33, 400, 0, 0);
    check_random(150, 20, 100, 1, 0.01);
    test_dependent();
    return check_report();
}
