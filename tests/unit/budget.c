/* Shapes from a budget, against all shapes of a tiny model counted by hand; what is refused, and
 * large numbers as options take them. */
#include <stdlib.h>

#include "../../lib/base/amount.h"
#include "../../lib/prune/prune.h"
#include "spec.h"

/* V 20, E 16, F 24, L 4, H 4, K 2, D 4, tied: 21 E + L E (50 + 3 F) parameters; 336 + 64 * 122 =
 * 8144 in all. With H query heads: 21 E + L E (2 + 8 H + 16 + 3 F). */
#define TINY \
    "{'model_type':'llama','hidden_size':16,'intermediate_size':24,'num_hidden_layers':4," \
    "'num_attention_heads':4,'num_key_value_heads':2,'head_dim':4,'vocab_size':20," \
    "'tie_word_embeddings':true}"

static struct model_spec model;
static struct rank layers; /* of layers only: 0 first */

static int fit(const struct budget_options *o, struct slice_options *shape, int64_t *reached,
               struct err *e)
{
    struct budget b;
    struct slice_target target = {0};
    *e = (struct err){0};
    int bad = budget_read(&b, o, shape, e) || slice_target_read(&target, shape, e) ||
              budget_fit(&b, shape, &target, &model, &layers, "rank", reached, e);
    if (!bad) {
        /* the target is that of the options */
        struct slice_plan p;
        CHECK(!slice_plan_shape(&p, &model, &layers, "rank", &target, e), "%s", e->msg);
        int64_t n = o->bytes ? model_spec_bytes(&p.spec) : model_spec_parameters(&p.spec, NULL);
        CHECK(n == *reached, "%lld, not %lld", (long long)n, (long long)*reached);
        slice_plan_free(&p);
    }
    slice_target_free(&target);
    return bad;
}

static void free_chosen(struct slice_options *shape, const struct slice_options *given)
{
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (shape->size[x] != given->size[x])
            free((char *)shape->size[x]);
}

static void chooses(struct budget_options o, struct slice_options given, int64_t want,
                    const char *options)
{
    struct err e;
    struct budget b;
    struct slice_options shape = given;
    int64_t reached = 0;
    CHECK(!fit(&o, &shape, &reached, &e), "%s: %s", options, e.msg);
    CHECK(!budget_read(&b, &o, &given, &e), "%s", e.msg);
    char *text = budget_text(&b, &shape);
    CHECK(reached == want && !strcmp(text, options), "%lld with%s, not %lld with%s",
          (long long)reached, text, (long long)want, options);
    free(text);
    free_chosen(&shape, &given);
}

static void test_choices(void)
{
    static const struct slice_options none;
    /* the same share of both axes: 12 of 16 and 16 of 24, 252 + 48 * 98 */
    chooses((struct budget_options){.parameters = "5000", .multiple_of = 4}, none, 4956,
            " --hidden-size 12 --intermediate-size 16");
    /* one less would not hold it: 12 and 12, 252 + 48 * 86; or 16 and 4, 336 + 64 * 62 */
    chooses((struct budget_options){.parameters = "4955", .multiple_of = 4}, none, 4380,
            " --hidden-size 12 --intermediate-size 12");
    /* equal shares are 12 and 20, which leave 1,468: 12 and 24 have 6108, but 16 and 16 336 + 64 *
     * 98 */
    chooses((struct budget_options){.parameters = "7000", .multiple_of = 4}, none, 6608,
            " --hidden-size 16 --intermediate-size 16");
    /* a quarter: 8 and 12: 168 + 32 * 86 = 2920 > 2036; 8 and 8: 2536; 4 and 24: 84 + 16 * 122 */
    chooses((struct budget_options){.ratio = "25%", .multiple_of = 4}, none, 2036,
            " --hidden-size 4 --intermediate-size 24");
    chooses((struct budget_options){.ratio = "0.25", .multiple_of = 4}, none, 2036,
            " --hidden-size 4 --intermediate-size 24");
    /* one axis: layers of 16 * 122 = 1952, heads of 4 * 16 * 8 each, two at a time */
    chooses((struct budget_options){.parameters = "6191", .axes = "layers"}, none, 4240,
            " --num-hidden-layers 2");
    chooses((struct budget_options){.parameters = "6192", .axes = "num-hidden-layers"}, none, 6192,
            " --num-hidden-layers 3");
    chooses((struct budget_options){.parameters = "7.5K", .axes = "heads"}, none, 7120,
            " --num-attention-heads 2");
    /* a KV head has two query heads: 4 * 16 * (2 * 8 + 8) */
    chooses((struct budget_options){.parameters = "6608", .axes = "kv-heads"}, none, 6608,
            " --num-key-value-heads 1");
    /* f32: 4 bytes; without multiples of 32, 24 is the step */
    chooses((struct budget_options){.bytes = "30KB", .axes = "ffn", .multiple_of = 1}, none, 29504,
            " --intermediate-size 20");
    /* sizes that are given stay: 8 channels, 168 + 32 * (50 + 3 F) */
    chooses((struct budget_options){.parameters = "3000", .multiple_of = 1},
            (struct slice_options){.size[AXIS_E] = "8"}, 2920, " --intermediate-size 12");
    /* layers without an MLP have no size: 336 + 64 * 50 + 2 * 16 * 3 F - 2 * 16 */
    chooses((struct budget_options){.parameters = "4500", .axes = "ffn", .multiple_of = 2},
            (struct slice_options){.drop_mlp = "1,3"}, 4464, " --intermediate-size 10");
    /* more than the model has */
    chooses((struct budget_options){.parameters = "8144", .multiple_of = 8}, none, 8144,
            " --hidden-size 16 --intermediate-size 24");
}

/* Layers of 8 and 24 neurons shrink by the same share: 336 + 16 (200 + 3 * 2 (8 + 24)) = 6608. */
static void test_uneven(void)
{
    model.layers[1].intermediate_size = model.layers[2].intermediate_size = 8;
    model_spec_list_tensors(&model, DT_F32);
    chooses((struct budget_options){.parameters = "5100", .axes = "ffn", .multiple_of = 2},
            (struct slice_options){0}, 5072, " --intermediate-size 0:12,1-2:4,3:12");
    for (int l = 1; l < 3; l++)
        model.layers[l].intermediate_size = 24;
    model_spec_list_tensors(&model, DT_F32);
}

static int64_t bytes_of(const struct model_spec *h, int64_t hidden, int64_t ffn)
{
    struct err e = {0};
    struct slice_plan p;
    struct slice_target t = {0};
    char text[2][24];
    snprintf(text[0], sizeof text[0], "%lld", (long long)hidden);
    snprintf(text[1], sizeof text[1], "%lld", (long long)ffn);
    struct slice_options o = {.size = {[AXIS_E] = text[0], [AXIS_F] = text[1]}};
    CHECK(!slice_target_read(&t, &o, &e) && !slice_plan_shape(&p, h, NULL, NULL, &t, &e), "%s",
          e.msg);
    int64_t n = model_spec_bytes(&p.spec);
    slice_plan_free(&p);
    slice_target_free(&t);
    return n;
}

/* q8_0 stays q8_0 where rows are whole blocks, and becomes f16 where they are not. */
static void test_quantised(void)
{
    struct model_spec small = model;
    struct err e;
    CHECK(!head_of(&model,
                   "{'model_type':'llama','hidden_size':128,'intermediate_size':128,"
                   "'num_hidden_layers':2,'num_attention_heads':2,'vocab_size':32,"
                   "'tie_word_embeddings':true}",
                   &e),
          "%s", e.msg);
    for (int i = 0; i < model.n_tensors; i++)
        if (model.tensors[i].ndim == 2)
            model.tensors[i].dtype = DT_Q8_0;
    int64_t whole = bytes_of(&model, 128, 128);
    /* with n channels: rows of n / 32 blocks of 34 bytes in the embeddings and in five matrices of
     * 128 rows in each layer; n rows of four blocks in o and down; five norms in f32 */
    CHECK(whole == model_spec_bytes(&model) &&
              bytes_of(&model, 96, 128) == 102 * (32 + 2 * 640) + 2 * 2 * 96 * 136 + 5 * 96 * 4,
          "%lld bytes", (long long)whole);
    CHECK(bytes_of(&model, 100, 128) == 200 * (32 + 2 * 640) + 2 * 2 * 100 * 136 + 5 * 100 * 4,
          "rows of 100");
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)whole - 1);
    /* all channels, and a block less of the neurons */
    struct slice_options shape = {0};
    int64_t reached;
    CHECK(!fit(&(struct budget_options){.bytes = text}, &shape, &reached, &e), "%s", e.msg);
    CHECK(reached == whole - 2 * 3 * 128 * 34, "%lld of %lld bytes", (long long)reached,
          (long long)whole);
    free_chosen(&shape, &(struct slice_options){0});
    model_spec_free(&model);
    model = small;
}

static void refused(struct budget_options o, struct slice_options given, const char *words)
{
    struct err e;
    struct slice_options shape = given;
    int64_t reached;
    CHECK(fit(&o, &shape, &reached, &e) && strstr(e.msg, words), "\"%s\", not \"%s\"", e.msg,
          words);
    free_chosen(&shape, &given);
}

static void test_refusals(void)
{
    static const struct slice_options none;
    refused((struct budget_options){.parameters = "many"}, none, "such as 100M, not \"many\"");
    refused((struct budget_options){.parameters = "0"}, none, "such as 100M, not \"0\"");
    refused((struct budget_options){.bytes = "-3"}, none, "such as 200MB, not \"-3\"");
    refused((struct budget_options){.ratio = "1.5"}, none, "a share such as 0.5 or 50%, not");
    refused((struct budget_options){.ratio = "0"}, none, "a share such as 0.5 or 50%, not");
    refused((struct budget_options){.ratio = "1", .bytes = "3"}, none,
            "--ratio and --bytes are both budgets");
    refused((struct budget_options){.axes = "ffn"}, none, "--axes needs a budget");
    refused((struct budget_options){.multiple_of = 8}, none, "--multiple-of needs a budget");
    refused((struct budget_options){.parameters = "1", .axes = "ffn,width"}, none, "not \"width\"");
    refused((struct budget_options){.parameters = "1", .axes = "ffn,"}, none, "not \"\"");
    refused((struct budget_options){.parameters = "1", .axes = "heads,kv-heads"}, none,
            "cannot move together");
    refused((struct budget_options){.parameters = "1", .axes = "ffn"},
            (struct slice_options){.size[AXIS_F] = "3"}, "another option sets it");
    refused((struct budget_options){.parameters = "1", .axes = "layers"},
            (struct slice_options){.drop_layers = "3"}, "another option sets it");
    refused((struct budget_options){.parameters = "1"},
            (struct slice_options){.size[AXIS_F] = "3", .size[AXIS_E] = "3"}, "no axis is left");
    refused((struct budget_options){.parameters = "1", .axes = "ffn,experts"}, none,
            "--axes: a model of type llama has no experts");
    /* 4 and 4: 84 + 16 * 62 */
    refused((struct budget_options){.parameters = "1075", .multiple_of = 4}, none,
            "with --axes hidden,ffn in multiples of 4, the smallest model has 1076 parameters");
    refused((struct budget_options){.parameters = "1", .multiple_of = INT64_C(1) << 34}, none,
            "in multiples of 17179869184, the smallest model has");
    refused((struct budget_options){.bytes = "9K", .axes = "layers"}, none,
            "with --axes layers, the smallest model has 9152 bytes");
}

static void test_amounts(void)
{
    static const struct {
        const char *text;
        int64_t count, bytes;
    } rows[] = {{"7", 7, 7},
                {"1.5B", 1500000000, 1},
                {"100m", 100000000, 100000000},
                {"8e9", 8000000000, 8000000000},
                {"2T", 2000000000000, 2000000000000},
                {"5GB", -1, 5000000000},
                {"3 M", -1, -1},
                {"-1", -1, -1},
                {"1e19", -1, -1},
                {"nan", -1, -1},
                {"", -1, -1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(amount_count(rows[i].text) == rows[i].count, "%s", rows[i].text);
        CHECK(amount_bytes(rows[i].text) == rows[i].bytes, "%s bytes", rows[i].text);
    }
    CHECK(amount_share("25%") == 0.25 && amount_share("0.5") == 0.5 && amount_share("x") == -1 &&
              amount_share("5%%") == -1,
          "shares");
}

int main(void)
{
    struct err e;
    struct axes a;
    struct scores s;
    CHECK(!head_of(&model, TINY, &e), "%s", e.msg);
    axes_from_model(&a, &model);
    scores_open(&s, &a);
    double *v = scores_entry(&s, axes_entry(AXIS_L, -1));
    for (int l = 0; l < 4; l++)
        v[l] = -l;
    rank_from_scores(&layers, &s);
    test_choices();
    test_uneven();
    test_quantised();
    test_refusals();
    test_amounts();
    rank_free(&layers);
    scores_free(&s);
    axes_free(&a);
    model_spec_free(&model);
    return check_report();
}
