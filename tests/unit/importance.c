/* The formulas of importance, by hand: samples into sums, merging, nine aggregations, heads and
 * groups, hidden, block importance, orders. All expected numbers are derived in the comments beside
 * them. */
#include <math.h>
#include <string.h>

#include "../../lib/prune/prune.h"
#include "check.h"

static struct err e;

static int near(double a, double b) { return fabs(a - b) <= 1e-12 * (1 + fabs(b)); }

/* One unit whose samples have the sequence aggregates 3, 4, 5 (mean), 1, 1, 4 (l2), 0, 0, 6 (var).
 */
static void test_batch_aggregates(void)
{
    static const double samples[3][AGG_COUNT] = {{3, 1, 0}, {4, 1, 0}, {5, 4, 6}};
    static const double want[AGG_COUNT][AGG_COUNT] = {
        /* [batch][seq] */
        {4, 2, 2}, /* 12/3; 6/3; 6/3 */
        /* sqrt(9+16+25) = sqrt 50; sqrt(1+1+16) = sqrt 18; sqrt 36 */
        {7.0710678118654755, 4.242640687119285, 6},
        {2.0 / 3, 2, 8}}; /* (1+0+1)/3; (1+1+4)/3; (4+4+16)/3 */
    double sums[2 * AGG_COUNT] = {0};
    struct acts_stat s = {.units = 1, .sums = sums};
    for (int i = 0; i < 3; i++)
        acts_stat_sample(&s, i,
                         (const double *const[]){&samples[i][0], &samples[i][1], &samples[i][2]});
    for (int b = 0; b < AGG_COUNT; b++)
        for (int q = 0; q < AGG_COUNT; q++) {
            double got;
            acts_stat_score(&s, 3, (enum aggregate)b, (enum aggregate)q, &got);
            CHECK(near(got, want[b][q]), "batch %s seq %s: %.17g, not %.17g",
                  aggregate_name((enum aggregate)b), aggregate_name((enum aggregate)q), got,
                  want[b][q]);
        }
    CHECK(aggregate_parse("l2") == AGG_L2 && aggregate_parse("max") == -1, "names of aggregates");
}

/* A model of one layer: E 2, F 2, four heads of 1 channel in two groups. */
static struct layer layer = {
    .num_attention_heads = 4, .num_key_value_heads = 2, .head_dim = 1, .intermediate_size = 2};
static struct axes small = {"m", "", {[AXIS_E] = 2, [AXIS_L] = 1}, &layer};

/* Sums after one sample whose aggregates are `mean` per unit (l2 and var alike: only mean is looked
 * at). */
static void put(struct acts *a, const char *name, int64_t n, const double *mean)
{
    struct acts_stat *s = acts_add_stat(a, name, n);
    acts_stat_sample(s, 0, (const double *const[]){mean, mean, mean});
}

static void fill(struct acts *a, const char *tokens, double cosine)
{
    acts_open(a, &small, 1);
    put(a, "neuron_in2.0", 2, (const double[]){1, 2});
    put(a, "attn_channel.0", 4, (const double[]){3, 4, 2, 2});
    put(a, "head_norm.0", 4, (const double[]){9, 8, 7, 6});
    put(a, "group_norm.0", 2, (const double[]){5, 5});
    put(a, "hidden.0.input_layernorm", 2, (const double[]){1, 5});
    put(a, "hidden.0.post_attention_layernorm", 2, (const double[]){2, 1});
    put(a, "hidden.final", 2, (const double[]){10, 0});
    a->samples = 1;
    a->positions = 4;
    a->block_cosine[0] = cosine;
    json_array_append_new(a->shards, json_pack("[s, i, i]", tokens, 0, 1));
}

static void test_scores(void)
{
    struct acts a;
    struct scores s;
    struct score_opts o = {.batch = AGG_L2, .seq = AGG_MEAN, .neuron = "neuron_in2"};
    fill(&a, "t", 3);
    CHECK(!scores_from_acts(&s, &a, &o, "acts", &e), "%s", e.msg);
    const double *hidden = s.values[axes_entry(AXIS_E, -1)],
                 *heads = s.values[axes_entry(AXIS_H, 0)],
                 *groups = s.values[axes_entry(AXIS_K, 0)];
    CHECK(near(hidden[0], 3) && near(hidden[1], 6),
          "hidden sums both norms and not the final one: %g %g", hidden[0], hidden[1]);
    CHECK(near(heads[0], 3) && near(heads[3], 2), "heads of one channel are that channel");
    /* sqrt(9+16), sqrt(4+4) */
    CHECK(near(groups[0], 5) && near(groups[1], sqrt(8)),
          "groups are L2 over their channels: %g %g", groups[0], groups[1]);
    CHECK(near(*(const double *)s.values[axes_entry(AXIS_L, -1)], 0.25), "1 - 3/4");
    scores_free(&s);
    o.head_norm = o.with_final = 1;
    CHECK(!scores_from_acts(&s, &a, &o, "acts", &e), "%s", e.msg);
    hidden = s.values[axes_entry(AXIS_E, -1)], heads = s.values[axes_entry(AXIS_H, 0)],
    groups = s.values[axes_entry(AXIS_K, 0)];
    CHECK(near(hidden[0], 13) && near(heads[1], 8) && near(groups[1], 5), "the other definitions");
    scores_free(&s);
    o.neuron = "neuron_first";
    struct err none = {0};
    CHECK(scores_from_acts(&s, &a, &o, "acts.tsz", &none) &&
              strstr(none.msg, "acts.tsz has no activation sums neuron_first.0"),
          "a tap that is not there: %s", none.msg);
    scores_free(&s);
    acts_free(&a);
}

/* Streams without norms: each tap is divided by its mean. (1, 3) -> (1/2, 3/2), (30, 10) -> (3/2,
 * 1/2), the final norm (0, 0) stays. */
static void test_residual(void)
{
    struct acts a;
    struct scores s;
    struct score_opts o = {
        .batch = AGG_L2, .seq = AGG_MEAN, .neuron = "neuron_in2", .with_final = 1};
    acts_open(&a, &small, 1);
    put(&a, "neuron_in2.0", 2, (const double[]){1, 2});
    put(&a, "attn_channel.0", 4, (const double[]){3, 4, 2, 2});
    put(&a, "hidden.0.residual.q_proj", 2, (const double[]){1, 3});
    put(&a, "hidden.0.residual.gate_proj", 2, (const double[]){30, 10});
    put(&a, "hidden.final", 2, (const double[]){0, 0});
    a.samples = a.positions = 1;
    CHECK(!scores_from_acts(&s, &a, &o, "acts", &e), "%s", e.msg);
    const double *hidden = s.values[axes_entry(AXIS_E, -1)];
    CHECK(near(hidden[0], 2) && near(hidden[1], 2), "un-normed streams: %g %g", hidden[0],
          hidden[1]);
    scores_free(&s);
    acts_free(&a);
}

static void test_merge(void)
{
    struct acts a, b;
    fill(&a, "t", 3);
    fill(&b, "u", 1);
    acts_stat_sample(&b.stats[0], 1,
                     (const double *const[]){(const double[]){4, 2}, (const double[]){4, 2},
                                             (const double[]){4, 2}});
    b.samples = 2;
    b.positions = 8;
    /* unit 0: 1, then 1 and 4: mean 2, centred squares 1 + 1 + 4 */
    CHECK(!acts_merge(&a, &b, "a", "b", &e), "%s", e.msg);
    CHECK(a.samples == 3 && a.positions == 12 && near(a.stats[0].sums[0], 2) &&
              near(a.stats[0].sums[2], 6),
          "merged: %g %g", a.stats[0].sums[0], a.stats[0].sums[2]);
    CHECK(near(acts_block_importance(&a, 0, 1), 1 - 4.0 / 12), "cosines and positions add up");
    struct err twice = {0}, model = {0};
    CHECK(acts_merge(&a, &b, "a", "b", &twice) && strstr(twice.msg, "counts once"),
          "joined twice: %s", twice.msg);
    strcpy(b.axes.model, "n");
    CHECK(acts_merge(&a, &b, "a", "b", &model) && strstr(model.msg, "is of model"),
          "another model: %s", model.msg);
    acts_free(&a);
    acts_free(&b);
}

static void test_rank(void)
{
    struct scores s, later;
    struct rank r;
    scores_open(&s, &small);
    memcpy(scores_axis(&s, AXIS_H, 0), (const double[]){1, 1, 2, 9}, 4 * sizeof(double));
    memcpy(scores_axis(&s, AXIS_E, -1), (const double[]){-1, 0}, 2 * sizeof(double));
    rank_from_scores(&r, &s);
    const int32_t *heads = r.order[axes_entry(AXIS_H, 0)],
                  *hidden = r.order[axes_entry(AXIS_E, -1)];
    CHECK(heads[0] == 0 && heads[1] == 1 && heads[2] == 3 && heads[3] == 2,
          "heads inside their group, ties to the lower: %d %d %d %d", heads[0], heads[1], heads[2],
          heads[3]);
    CHECK(hidden[0] == 1 && hidden[1] == 0 && !r.order[axes_entry(AXIS_F, 0)],
          "best first; absent entries stay absent");
    rank_free(&r);
    scores_open(&later, &small);
    memcpy(scores_axis(&later, AXIS_E, -1), (const double[]){7, 0}, 2 * sizeof(double));
    CHECK(!scores_replace(&s, &later, "a", "b", &e) &&
              *(double *)s.values[axes_entry(AXIS_E, -1)] == 7 &&
              ((double *)s.values[axes_entry(AXIS_H, 0)])[3] == 9,
          "a later file replaces its axes only");
    scores_free(&s);
    scores_free(&later);
}

/* Four layers, blocks of two: losses without 0-1, 1-2, 2-3 are 5, 3, 4 over a base of 2. */
static void test_probe(void)
{
    double without[8] = {0, 0, 0, 0, 5, 3, 4, 0}, scores[4];
    struct probe p = {.layers = 4, .shortest = 2, .longest = 2, .base = 2, .without = without};
    probe_scores(&p, scores);
    CHECK(scores[0] == 3 && scores[1] == 1 && scores[2] == 1 && scores[3] == 2,
          "least increase of the blocks that hold a layer: %g %g %g %g", scores[0], scores[1],
          scores[2], scores[3]);
}

/* Worked by hand. Differences of ranks 1, 1, 1, 1: 1 - 6 * 4 / (5 * 24); 2 of 10 pairs in opposite
 * order. With ties: ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4; 5 pairs of 5 and 6 that are ordered.
 */
static void test_agreement(void)
{
    const double up[5] = {1, 2, 3, 4, 5}, swapped[5] = {20, 10, 40, 30, 50}, ties[4] = {1, 2, 2, 3},
                 other[4] = {-1, 3, 2, 9}, same[4] = {1, 1, 1, 1};
    CHECK(near(agreement_spearman(up, swapped, 5), 0.8), "Spearman's rho");
    CHECK(near(agreement_kendall(up, swapped, 5), 0.6), "Kendall's tau");
    CHECK(near(agreement_spearman(ties, other, 4), 4.5 / sqrt(4.5 * 5)), "rho with ties");
    CHECK(near(agreement_kendall(ties, other, 4), 5 / sqrt(5.0 * 6)), "tau with ties");
    CHECK(isnan(agreement_spearman(ties, same, 4)) && isnan(agreement_kendall(same, ties, 4)),
          "equal scores have no order");
}

int main(void)
{
    test_batch_aggregates();
    test_scores();
    test_residual();
    test_merge();
    test_rank();
    test_probe();
    test_agreement();
    return check_report();
}
