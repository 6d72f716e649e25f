/* Learning-rate schedules: rates worked out by hand, defaults, refusals, and which runs may go on
 * as which others. */
#include <math.h>
#include <string.h>

#include "../../lib/train/train.h"
#include "check.h"

static int near(double a, double b) { return fabs(a - b) <= 1e-17; }

static void check_rates(const struct schedule *s, const char *what, const double *want, int n)
{
    for (int i = 0; i < n; i++)
        CHECK(near(schedule_rate(s, i), want[i]), "%s, step %d: %.17g, not %.17g", what, i,
              schedule_rate(s, i), want[i]);
}

static void test_cosine(void)
{
    struct schedule s = {.kind = SCHEDULE_COSINE,
                         .max_steps = 12,
                         .warmup_steps = 3,
                         .decay_steps = 9,
                         .learning_rate = 1e-3,
                         .min_learning_rate = 1e-4};
    const double want[] = {1e-3 / 3,
                           2e-3 / 3,
                           1e-3,
                           1e-3,
                           0.0009728616793536588,
                           0.00089471999940354,
                           0.00077500000000000010};
    check_rates(&s, "cosine", want, 7);
    CHECK(near(schedule_rate(&s, 12), 1e-4), "the cosine ends at the lowest rate");
    s.decay_steps = 2; /* 1e-4 + 9e-4 (1 + cos pi/2) / 2 */
    CHECK(schedule_rate(&s, 10) == 1e-3, "the decay begins at the peak");
    CHECK(near(schedule_rate(&s, 11), 5.5e-4), "half way: %.17g", schedule_rate(&s, 11));
    s.warmup_steps = 0;
    CHECK(schedule_rate(&s, 0) == 1e-3, "without warm-up the first step has the peak");
}

static void test_linear(void)
{
    struct schedule s = {.kind = SCHEDULE_LINEAR,
                         .max_steps = 6,
                         .warmup_steps = 2,
                         .decay_steps = -1,
                         .learning_rate = 4e-3,
                         .min_learning_rate = -1};
    struct err e = {0};
    CHECK(!schedule_resolve(&s, &e) && s.decay_steps == 4 && s.min_learning_rate == 0,
          "linear: all after the warm-up, to zero");
    check_rates(&s, "linear", (const double[]){2e-3, 4e-3, 4e-3, 3e-3, 2e-3, 1e-3, 0}, 7);
    s.min_learning_rate = 2e-3;
    check_rates(&s, "linear to 2e-3",
                (const double[]){2e-3, 4e-3, 4e-3, 3.5e-3, 3e-3, 2.5e-3, 2e-3}, 7);
}

static void test_wsd_and_constant(void)
{
    struct schedule wsd = {.kind = SCHEDULE_WSD,
                           .max_steps = 10,
                           .warmup_steps = 2,
                           .decay_steps = -1,
                           .learning_rate = 4e-3,
                           .min_learning_rate = -1},
                    constant = wsd;
    struct err e = {0};
    CHECK(!schedule_resolve(&wsd, &e) && wsd.decay_steps == 2 && wsd.min_learning_rate == 0,
          "wsd: a fifth, to zero");
    check_rates(&wsd, "wsd",
                (const double[]){2e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 2e-3, 0},
                11);
    constant.kind = SCHEDULE_CONSTANT;
    CHECK(!schedule_resolve(&constant, &e), "constant: defaults");
    check_rates(&constant, "constant",
                (const double[]){2e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3, 4e-3}, 10);
    constant.warmup_steps = 20;
    CHECK(near(schedule_rate(&constant, 9), 2e-3), "a run may end within its warm-up");
}

static void test_defaults(void)
{
    struct err e = {0};
    struct schedule s = {.max_steps = 50,
                         .warmup_steps = -1,
                         .decay_steps = -1,
                         .learning_rate = 2e-3,
                         .min_learning_rate = -1};
    CHECK(!schedule_resolve(&s, &e) && s.warmup_steps == 3 && s.decay_steps == 47 &&
              near(s.min_learning_rate, 2e-4),
          "cosine: a twentieth, the rest, a tenth");
    CHECK(!schedule_resolve(&s, &e), "what was resolved is taken again");
    s.decay_steps = 48;
    CHECK(schedule_resolve(&s, &e), "a decay that begins in the warm-up is refused");
    s.decay_steps = -2;
    CHECK(schedule_resolve(&s, &e), "a negative decay is refused");
    s = (struct schedule){.max_steps = 5, .warmup_steps = 9, .decay_steps = -1};
    CHECK(!schedule_resolve(&s, &e) && s.decay_steps == 0, "all steps are warm-up");
    s = (struct schedule){.kind = SCHEDULE_CONSTANT, .max_steps = 5, .decay_steps = 1};
    CHECK(schedule_resolve(&s, &e), "constant: a decay is refused");
    s.decay_steps = 0;
    s.learning_rate = 1;
    CHECK(schedule_resolve(&s, &e), "constant: a lowest rate is refused");
}

/* Is a run of schedule a, after `steps` steps, also one of schedule b? */
static int agrees(struct schedule a, struct schedule b, int64_t steps)
{
    json_t *was = json_object(), *now = json_object();
    schedule_to_json(&a, was);
    schedule_to_json(&b, now);
    int same = schedule_agrees(was, now, steps);
    json_decref(was);
    json_decref(now);
    return same;
}

static void test_agreement(void)
{
    const struct schedule wsd = {.kind = SCHEDULE_WSD,
                                 .max_steps = 10,
                                 .warmup_steps = 2,
                                 .decay_steps = 4,
                                 .learning_rate = 1e-3},
                          cosine = {.max_steps = 10,
                                    .warmup_steps = 2,
                                    .decay_steps = 8,
                                    .learning_rate = 1e-3,
                                    .min_learning_rate = 1e-4};
    struct schedule longer = wsd, constant = wsd, slower = wsd, last = cosine;
    longer.max_steps = 20;
    constant.kind = SCHEDULE_CONSTANT;
    constant.decay_steps = 0;
    constant.min_learning_rate = 1e-3;
    slower.learning_rate = 5e-4;
    last.max_steps = 11;
    last.decay_steps = 9;
    /* steps 0 to 6 have the peak: the seventh is the first of the decay */
    CHECK(agrees(wsd, longer, 7) && !agrees(wsd, longer, 8), "wsd goes on with more steps");
    CHECK(agrees(longer, wsd, 7) && !agrees(longer, wsd, 8), "and with fewer");
    CHECK(agrees(constant, wsd, 7) && !agrees(constant, wsd, 8), "a constant rate goes on as wsd");
    CHECK(!agrees(wsd, slower, 1) && agrees(wsd, slower, 0), "another peak");
    CHECK(agrees(cosine, last, 3) && !agrees(cosine, last, 4), "a cosine differs once it decays");
    CHECK(!agrees(longer, constant, 11), "more steps are done than the run has");
}

/* After step 4 of a cosine of 4 steps, 1 of them warm-up: 1e-4 + 4.5e-4 (1 + cos(2 pi / 3)); the
 * fifth of 8: 1e-4 + 4.5e-4 (1 + cos(3 pi / 7)). */
static void test_legs(void)
{
    struct schedule first = {.max_steps = 4,
                             .warmup_steps = 1,
                             .decay_steps = 3,
                             .learning_rate = 1e-3,
                             .min_learning_rate = 1e-4},
                    second = first;
    json_t *was = json_object(), *now = json_object();
    char note[200] = "";
    second.max_steps = 8;
    second.decay_steps = 7;
    schedule_to_json(&first, was);
    schedule_to_json(&second, now);
    json_t *leg = schedule_leg(was, now, 4, note);
    CHECK(json_integer_value(json_object_get(leg, "max-steps")) == 4 &&
              json_integer_value(json_object_get(leg, "warmup-steps")) == 1 &&
              json_integer_value(json_object_get(leg, "decay-steps")) == 3,
          "the schedule that came to its end");
    CHECK(strstr(note, "0.000325 in step 4 to 0.00065 in step 5"), "%s", note);
    CHECK(!schedule_leg(was, now, 3, note), "it has not come to its end");
    CHECK(!schedule_leg(now, was, 4, note), "fewer steps follow nothing");
    json_object_set_new(now, "learning-rate", json_real(2e-3));
    CHECK(!schedule_leg(was, now, 4, note), "another peak follows nothing");
    json_decref(leg);
    json_decref(was);
    json_decref(now);
}

/* Checkpoints of releases that only had the cosine do not name it. */
static void test_old_checkpoints(void)
{
    struct schedule s = {
        .max_steps = 10, .warmup_steps = 2, .decay_steps = 8, .learning_rate = 1e-3};
    json_t *j = json_object(),
           *old = json_pack("{s:i, s:i, s:f, s:f}", "max-steps", 10, "warmup-steps", 2,
                            "learning-rate", 1e-3, "min-learning-rate", 0.0);
    schedule_to_json(&s, j);
    CHECK(json_equal(j, old), "a cosine over all steps is written as before");
    CHECK(schedule_agrees(old, j, 10), "and read as before");
    json_object_set_new(old, "schedule", json_string("steps"));
    CHECK(!schedule_agrees(old, j, 1), "an unknown schedule agrees with none");
    json_decref(j);
    json_decref(old);
}

int main(void)
{
    test_cosine();
    test_linear();
    test_wsd_and_constant();
    test_defaults();
    test_agreement();
    test_legs();
    test_old_checkpoints();
    return check_report();
}
