/* The functions of kernels/cpu/vecmath.h against those of the C library in double precision, within
 * the bounds that it states. Prints "N passed, N failed". */
#include <math.h>

#include "../../kernels/cpu/vecmath.h"
#include "check.h"

/* Largest distance in units in the last place over a grid of [low, high]. */
static double ulps(float (*f)(float), double (*exact)(double), double low, double high)
{
    enum { POINTS = 200000 };
    double worst = 0;
    for (int i = 0; i <= POINTS; i++) {
        float x = (float)(low + (high - low) * i / POINTS), want = (float)exact((double)x);
        double ulp = (double)nextafterf(fabsf(want), INFINITY) - (double)fabsf(want),
               e = fabs((double)f(x) - exact((double)x)) / ulp;
        worst = fmax(worst, isfinite(e) ? e : 1e9);
    }
    return worst;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double cdf(double x) { return 0.5 * erfc(-x / sqrt(2)); }

int main(void)
{
    static const struct {
        const char *name;
        float (*f)(float);
        double (*exact)(double);
        double low, high, limit;
    } rows[] = {
        {"vec_exp", vec_exp, exp, -104, 88.7, 1.2},
        {"vec_exp_normal", vec_exp_normal, exp, -87, 88, 1.2},
        {"vec_expm1", vec_expm1, expm1, -30, 88, 2},
        {"vec_expm1", vec_expm1, expm1, -0.5, 0.5, 2},
        {"vec_tanh", vec_tanh, tanh, -12, 12, 2.5},
        {"vec_tanh", vec_tanh, tanh, -0.3, 0.3, 2.5},
        {"vec_sigmoid", vec_sigmoid, sigmoid, -80, 30, 2.5},
        {"vec_log", vec_log, log, 1e-30, 1e30, 1.5},
        {"vec_log", vec_log, log, 0.3, 3, 1.5},
        {"vec_cdf", vec_cdf, cdf, -1, 8, 8},
        {"vec_cdf", vec_cdf, cdf, -13, -1, 70},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double e = ulps(rows[i].f, rows[i].exact, rows[i].low, rows[i].high);
        CHECK(e <= rows[i].limit, "%s is %.2f units in the last place off in [%g, %g]",
              rows[i].name, e, rows[i].low, rows[i].high);
        CHECK(isnan(rows[i].f(NAN)), "%s of NaN is %g", rows[i].name, (double)rows[i].f(NAN));
    }
    CHECK(vec_exp_normal(-87.1f) == 0 && vec_exp_normal(-1e30f) == 0 && vec_exp_normal(0) == 1 &&
              isnan(vec_exp_normal(NAN)),
          "vec_exp_normal at its ends");
    CHECK(vec_exp(-INFINITY) == 0 && vec_exp(INFINITY) == INFINITY && vec_exp(0) == 1,
          "vec_exp at its ends");
    int wrong = 0;
    for (int h = 0; h < 65536; h++)
        wrong += vec_bits(vec_from_f16((uint16_t)h)) != vec_bits(f16_to_f32((uint16_t)h));
    CHECK(!wrong, "vec_from_f16 differs from f16_to_f32 for %d numbers", wrong);
    CHECK(vec_largest((const float[]){-3, 7, 2}, 3) == 7 &&
              vec_largest((const float[]){-INFINITY}, 1) == -INFINITY,
          "the largest of three, and of one");
    return check_report();
}
