/* Shapes from a table of variants: every budget gets the least KL that any combination within it
 * has, found by trying all; costs are those of the shapes; what the table or the caller excludes is
 * never chosen. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../lib/base/rng.h"
#include "../../lib/prune/per_layer.h"
#include "spec.h"

enum { LAYERS = 4, EACH = 5 };

static int64_t parameters(const void *user, const struct model_spec *h)
{
    (void)user;
    return model_spec_parameters(h, NULL);
}

static const struct per_layer_options by_parameters = {.cost = parameters};

static struct model_spec small(void)
{
    struct model_spec h;
    struct err e;
    CHECK(!head_of(&h, SMALL("llama", ",'vocab_size':5,'intermediate_size':24"), &e), "%s", e.msg);
    return h;
}

/* Of every layer: no attention, one KV head, no MLP, 8 neurons, and (in layer 2) nothing at all. */
static void random_table(struct variant list[LAYERS * EACH], struct variants *v)
{
    struct rng r = rng_open(3, 0);
    *v = (struct variants){.list = list};
    for (int64_t l = 0; l < LAYERS; l++) {
        const struct variant of[EACH] = {{.drop = KIND_attention},
                                         {.axis = AXIS_K, .size = 1},
                                         {.drop = KIND_mlp},
                                         {.axis = AXIS_F, .size = 8},
                                         {.drop = WHOLE_LAYER}};
        for (int i = 0; i < EACH - (l != 2); i++) {
            list[v->n] = of[i];
            list[v->n].layer = l;
            /* both halves together lose more than each alone, added */
            list[v->n++].means.kl = rng_uniform(&r) + 2 * (of[i].drop == WHOLE_LAYER);
        }
    }
}

/* The search among these, by parameters. */
struct searched {
    struct model_spec h;
    struct variant list[LAYERS * EACH];
    struct variants table;
    struct per_layer s;
    struct err e;
};

static void searched_open(struct searched *x)
{
    x->e.set = 0;
    x->h = small();
    random_table(x->list, &x->table);
    CHECK(!per_layer_open(&x->s, &x->h, &x->table, &by_parameters, &x->e), "%s", x->e.msg);
}

static void searched_close(struct searched *x)
{
    per_layer_close(&x->s);
    model_spec_free(&x->h);
}

/* ---- every combination */

struct trying {
    const struct variant *list;
    int64_t layer_cost[2][3], whole, budget; /* saved by each variant of an MLP, of attention */
    double best;
};

/* The variants of a layer are in the order of random_table. */
static void try_all(struct trying *x, int64_t layer, int64_t cost, double kl)
{
    if (layer == LAYERS) {
        if (cost <= x->budget)
            x->best = fmin(x->best, kl);
        return;
    }
    const struct variant *of = x->list + 4 * layer + (layer > 2);
    for (int a = 0; a < 3; a++)
        for (int m = 0; m < 3; m++) {
            double sum = a ? of[a - 1].means.kl : 0;
            sum += m ? of[m + 1].means.kl : 0;
            if (layer == 2 && a == 1 && m == 1)
                sum = of[4].means.kl;
            try_all(x, layer + 1, cost - x->layer_cost[0][a] - x->layer_cost[1][m], kl + sum);
        }
}

static void test_best(void)
{
    struct searched of;
    searched_open(&of);
    /* attention 2 x 48 x 48 + 2 x 16 x 48 and its norm; half of all its heads; 3 x 48 x 24 and norm
     */
    struct trying x = {of.list, {{0, 6144 + 48, 3072}, {0, 3456 + 48, 2304}}, 0, 0, 0};
    int64_t all = 4 * (6192 + 3504) + 2 * 5 * 48 + 48;
    CHECK(of.s.cost == all, "%lld", (long long)of.s.cost);
    for (x.budget = 600; x.budget <= all; x.budget += 487) {
        x.best = INFINITY;
        try_all(&x, 0, all, 0);
        int64_t i = per_layer_within(&of.s, x.budget, &of.e);
        double found = i < 0 ? INFINITY : per_layer_point(&of.s, i).kl;
        CHECK(fabs(found - x.best) < 1e-12, "within %lld: %.9g, the best is %.9g",
              (long long)x.budget, found, x.best);
    }
    CHECK(per_layer_within(&of.s, 400, &of.e) == -1 &&
              strstr(of.e.msg, "smallest variants still cost"),
          "%s", of.e.msg);
    CHECK(per_layer_point(&of.s, per_layer_points(&of.s) - 1).kl == 0,
          "the last point is the model");
    searched_close(&of);
}

static void test_shapes(void)
{
    struct searched x;
    searched_open(&x);
    struct slice_plan none;
    CHECK(per_layer_plan(&x.s, 0, &none, &x.e) == -1 && strstr(x.e.msg, "leave no layer"), "%s",
          x.e.msg);
    x.e.set = 0;
    for (int64_t i = 1; i < per_layer_points(&x.s); i++) {
        struct slice_plan p;
        CHECK(!per_layer_plan(&x.s, i, &p, &x.e), "%s", x.e.msg);
        int64_t n = model_spec_parameters(&p.spec, NULL), said = per_layer_point(&x.s, i).cost;
        CHECK(n == said, "point %lld: %lld parameters, not %lld", (long long)i, (long long)n,
              (long long)said);
        slice_plan_free(&p);
    }
    searched_close(&x);
}

/* ---- Mamba layers */

/* Layers 0 and 3 of nemotron_h are Mamba mixers of 6 heads of 4 channels in 2 groups, layer 1 is an
 * MLP. Half of the channels: 12 of 24 rows of z_proj and x_proj, columns of out_proj (20 wide), of
 * the convolution (3, and a bias) and of the norm, 3 x 240 + 48 + 12 = 780. Half of the groups: as
 * many channels; 5 rows of b and c with their convolutions, 2 x (100 + 20); three heads, 3 x (20 +
 * 3): 1089. 16 of 24 neurons: 2 x 16 x 20 = 640. Channels alone lose more than groups do. */
static void test_mamba(void)
{
    static const double kl[] = {0.875, 0.75, 0.375, 0.25, 0.125, 0};
    static const int64_t saved[] = {2509, 1869, 1729, 1089, 640, 0};
    struct variant list[] = {{.layer = 0, .axis = AXIS_R, .size = 2, .means.kl = 0.5},
                             {.layer = 1, .axis = AXIS_F, .size = 8, .means.kl = 0.125},
                             {.layer = 3, .axis = AXIS_G, .size = 1, .means.kl = 0.25}};
    struct variants table = {.list = list, .n = 3};
    struct model_spec h;
    struct per_layer s;
    struct err e = {0};
    json_t *config = load(GOLDEN "families/%s/config.json", "nemotron_h", "");
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    model_spec_list_tensors(&h, DT_F32);
    CHECK(!per_layer_open(&s, &h, &table, &by_parameters, &e), "%s", e.msg);
    CHECK(per_layer_points(&s) == 6, "%lld points", (long long)per_layer_points(&s));
    for (int64_t i = 0; i < 6 && i < per_layer_points(&s); i++) {
        struct per_layer_point p = per_layer_point(&s, i);
        CHECK(p.cost == s.cost - saved[i] && p.kl == kl[i], "point %lld: %lld saved, KL %g",
              (long long)i, (long long)(s.cost - p.cost), p.kl);
    }
    per_layer_close(&s);
    model_spec_free(&h);
    json_decref(config);
}

/* ---- what is left out */

static int keeps_attention(const void *user, const struct slice_plan *p)
{
    (void)user;
    int all = 1;
    for (int64_t l = 0; l < p->spec.num_hidden_layers; l++)
        all &= p->spec.layers[l].kinds & KIND_attention;
    return all;
}

static void test_left_out(void)
{
    struct variant list[] = {{.layer = 0, .drop = KIND_attention, .means.kl = 0.1},
                             {.layer = 0, .axis = AXIS_F, .size = 8, .means.kl = 0.2},
                             {.layer = 3, .drop = KIND_mlp, .means.kl = NAN}};
    const struct variants table = {.list = list, .n = 3};
    struct per_layer_options o = by_parameters;
    struct per_layer s;
    struct err e = {0};
    struct model_spec h = small();
    CHECK(!per_layer_open(&s, &h, &table, &o, &e) && per_layer_points(&s) == 3,
          "0: as it is, without attention, and narrow too: %lld", (long long)per_layer_points(&s));
    struct slice_plan p;
    CHECK(!per_layer_plan(&s, 0, &p, &e), "%s", e.msg);
    char *options = slice_plan_options(&p, &h);
    CHECK(!strcmp(options, " --intermediate-size 0:8,1-3:24 --drop-attention 0"), "%s", options);
    free(options);
    slice_plan_free(&p);
    per_layer_close(&s);
    o.allows = keeps_attention;
    CHECK(!per_layer_open(&s, &h, &table, &o, &e) && per_layer_points(&s) == 2, "%lld",
          (long long)per_layer_points(&s));
    per_layer_close(&s);
    model_spec_free(&h);
}

/* The only layer keeps one half or the other. */
static void test_one_layer(void)
{
    struct variant list[] = {{.drop = KIND_attention, .means.kl = 0.1},
                             {.drop = KIND_mlp, .means.kl = 0.05},
                             {.drop = WHOLE_LAYER, .means.kl = 0.2}};
    const struct variants table = {.list = list, .n = 3};
    struct per_layer s;
    struct err e = {0};
    struct model_spec h = small();
    h.num_hidden_layers = 1;
    CHECK(!per_layer_open(&s, &h, &table, &by_parameters, &e) && per_layer_points(&s) == 3,
          "as it is, without MLP, without attention: %s", e.msg);
    per_layer_close(&s);
    model_spec_free(&h);
}

/* ---- tables as files */

static void check_table(const char *text, const char *refusal)
{
    char path[] = "/tmp/table-XXXXXX";
    struct variants v;
    struct err e = {0};
    struct model_spec h = small();
    strcpy(h.id, "0123");
    FILE *f = fdopen(mkstemp(path), "w");
    CHECK(f && fputs(text, f) >= 0, "cannot write %s", path);
    fclose(f);
    int failed = variants_load(&v, path, &h, 0, &e);
    CHECK(failed == (refusal ? -1 : 0) && (!refusal || strstr(e.msg, refusal)), "%s: %s", text,
          e.msg);
    CHECK(failed ||
              (v.n == 3 && v.nll == 3.5 && v.list[0].drop == KIND_attention &&
               v.list[1].axis == AXIS_F && v.list[1].size == 8 && v.list[1].means.kl == 0.25 &&
               v.list[2].drop == WHOLE_LAYER && isnan(v.list[2].means.kl)),
          "another table");
    if (!failed)
        variants_close(&v);
    remove(path);
    model_spec_free(&h);
}

static void test_tables(void)
{
#define HEAD "{\"kind\":\"variants\",\"model_id\":\"0123\",\"nll\":3.5}\n"
#define LINE(what) "{\"layer\":" what ",\"kl\":0.25}\n"
    check_table(HEAD LINE("0,\"drop\":\"attention\"") LINE(
                    "1,\"intermediate_size\":8") "{\"layer\":2,\"drop\":\"layer\",\"kl\":null}\n",
                NULL);
    check_table(HEAD, "has no variants");
    check_table("", "has no variants");
    check_table("{\"layer\":0}\n", "is not a table of variants");
    check_table("{\"kind\":\"variants\",\"model_id\":\"4567\"}\n", "variants of another model");
    check_table(HEAD LINE("4,\"drop\":\"mlp\""), "line 2");
    check_table(HEAD LINE("1,\"drop\":\"half\""), "does not name a smaller variant");
    check_table(HEAD LINE("1,\"intermediate_size\":24"), "does not name a smaller variant");
    check_table(HEAD LINE("1,\"head_dim\":4"), "does not name a smaller variant");
    check_table(HEAD LINE("1,\"drop\":\"mlp\"") LINE("1,\"drop\":\"mlp\""), "layer 1 twice");
    check_table(HEAD "nonsense\n", "line 2 is not valid JSON");
    check_table(HEAD "\n" LINE("1,\"drop\":\"half\""), "line 3 does not name a smaller variant");
    check_table(HEAD LINE("1.5,\"drop\":\"mlp\""), "does not name a smaller variant");
    check_table(HEAD "{\"drop\":\"mlp\",\"kl\":1}\n", "does not name a smaller variant");
    check_table(HEAD LINE("1,\"drop\":\"mlp\",\"intermediate_size\":8"),
                "does not name a smaller variant");
}

int main(void)
{
    test_best();
    test_shapes();
    test_mamba();
    test_left_out();
    test_one_layer();
    test_tables();
    return check_report();
}
