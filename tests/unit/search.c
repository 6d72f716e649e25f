/* Shapes of a grid within a band: the grids and the models of the Minitron papers, and every shape
 * of a small grid by brute force through the planner of cuts. */

#include "../../lib/base/minmax.h"
#include "../../lib/prune/prune.h"
#include "spec.h"

static struct err e;

static void config_of(struct model_spec *h, const char *name)
{
    json_t *config = load(GOLDEN "papers/%s.json", name, "");
    CHECK(!model_spec_from_config(h, config, &e), "%s: %s", name, e.msg);
    model_spec_list_tensors(h, DT_BF16);
    json_decref(config);
}

static void list(struct search *s, enum axis axis, const char *text)
{
    CHECK(!search_list_read(&s->lists[axis], axis, text, s->source, &e), "%s", e.msg);
}

static void search_free(struct search *s)
{
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        search_list_free(&s->lists[x]);
}

/* ---- the models of the papers */

static int near(int64_t exact, double printed, double unit)
{
    return printed == 0 ||
           ((double)exact > (printed - unit) * 1e9 && (double)exact < (printed + unit) * 1e9);
}

/* What the tables print, in 1e9, to the last digit up or down; 0: nothing. The 3.7 that table 1 of
 * 2408.11796 gives the depth-cut model without embeddings is that of the width-cut one. */
static void test_models(void)
{
    static const struct {
        const char *name;
        int64_t total, non_embedding;
        double printed, printed_non_embedding, unit;
    } models[] = {
        {"nemotron-4-15b", 15628775424, 12483047424, 15.6, 0, 0.05},
        {"nemotron-3-8b", 8540135424, 6442983424, 8.5, 6.4, 0.05},
        {"minitron-8b", 8271699968, 6174547968, 8.27, 6.2, 0.005},
        {"minitron-4b", 4190509056, 2617645056, 4.19, 2.6, 0.005},
        {"llama-3.1-8b", 8030261248, 6979588096, 8.0, 7.0, 0.05},
        {"llama-3.1-minitron-4b-width", 4512746496, 3724741632, 4.5, 3.7, 0.05},
        {"llama-3.1-minitron-4b-depth", 4540469248, 3489796096, 4.5, 3.5, 0.05},
        {"mistral-nemo-12b", 12247782400, 10905605120, 12.2, 10.9, 0.05},
        {"mn-minitron-8b", 8414105600, 7340363776, 8.4, 7.3, 0.05},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct model_spec h;
        config_of(&h, models[i].name);
        struct footprint f = model_footprint(&h, &(struct footprint_options){DT_BF16, DT_BF16, 1});
        int64_t body;
        CHECK(f.parameters == models[i].total && model_spec_parameters(&h, &body) == f.parameters,
              "%s: %lld parameters", models[i].name, (long long)f.parameters);
        CHECK(f.non_embedding == models[i].non_embedding && body == f.non_embedding,
              "%s: %lld without embeddings", models[i].name, (long long)f.non_embedding);
        CHECK(near(f.parameters, models[i].printed, models[i].unit) &&
                  near(f.non_embedding, models[i].printed_non_embedding, 0.05),
              "%s as printed", models[i].name);
        model_spec_free(&h);
    }
}

/* ---- their grids (2407.14679, tables 9 and 19) */

/* Table 19, the candidates for 8B, and their parameters. */
static const struct candidate {
    int64_t layers, heads, ffn, hidden, total;
} table_19[] = {{32, 32, 12800, 5120, 8494131200}, {32, 32, 13824, 4608, 7946707968},
                {32, 48, 11520, 4608, 7871210496}, {32, 48, 16384, 4096, 8271699968},
                {31, 32, 12800, 5120, 8310609920}, {31, 32, 16128, 4608, 8430345216},
                {31, 48, 13824, 4608, 8357207040}, {31, 48, 16384, 4096, 8078745600},
                {30, 32, 12800, 5120, 8127088640}, {30, 32, 16128, 4608, 8234505216},
                {30, 48, 13824, 4608, 8163726336}, {30, 48, 16384, 4096, 7885791232},
                {29, 32, 12800, 5120, 7943567360}, {29, 32, 16128, 4608, 8038665216},
                {29, 48, 13824, 4608, 7970245632}};
enum { CANDIDATES = sizeof table_19 / sizeof *table_19 };

static void in_table(void *user, const struct model_spec *h, const struct footprint *f)
{
    int *seen = user;
    for (int i = 0; i < CANDIDATES; i++) {
        const struct candidate *c = &table_19[i];
        const struct layer *y = &h->layers[h->num_hidden_layers - 1];
        seen[i] += c->layers == h->num_hidden_layers && c->heads == y->num_attention_heads &&
                   c->ffn == y->intermediate_size && c->hidden == h->hidden_size &&
                   c->total == f->parameters;
    }
}

/* The 15 candidates are those of the grid with 7.7722e9 < parameters < 8.5506e9, all of them: the
 * head size is 128, there are 8 KV heads, and embeddings and head count. No band of 5 % on both
 * sides has these edges: 8e9 +- 5 % has two of them less and five others. Table 9's width 4680 is
 * 4608 in table 19. The 18 for 4B are those within 5 % of 4e9. */
static void test_grids(void)
{
    struct model_spec h;
    config_of(&h, "nemotron-4-15b");
    struct search s = {.source = &h, .at = {DT_BF16, DT_BF16, 4096}};
    list(&s, AXIS_L, "29:32:1");
    list(&s, AXIS_H, "32,48");
    list(&s, AXIS_F, "2.5x,3x,3.5x,4x");
    list(&s, AXIS_E, "4096,4608,5120,5632,6144");
    static const int64_t bands[][3] = {{7772101632 + 1, 8550687744 - 1, 15},
                                       {7783250000, 8516750000, 15},
                                       {7600000000, 8400000000, 18}};
    for (int i = 0; i < 3; i++) {
        int seen[CANDIDATES] = {0}, all = 0;
        s.least = bands[i][0];
        s.most = bands[i][1];
        CHECK(search_run(&s, in_table, seen, &e) == bands[i][2], "band %d", i);
        for (int c = 0; c < CANDIDATES; c++)
            all += seen[c];
        CHECK(all == (i < 2 ? 15 : 13), "band %d: %d of table 19", i, all);
    }
    search_free(&s);
    list(&s, AXIS_L, "29:32:1");
    list(&s, AXIS_H, "24,32,48");
    list(&s, AXIS_F, "2.5x:4x:0.5x");
    list(&s, AXIS_E, "2560,3072,3584,4096,4608");
    s.least = 3800000000;
    s.most = 4200000000;
    CHECK(search_run(&s, NULL, NULL, &e) == 18, "4B");
    search_free(&s);
    model_spec_free(&h);
}

/* ---- against every shape of a grid */

/* Six experts, two of which work for a token; layers that are a Mamba mixer, an MLP or attention */
#define MIXTRAL \
    SMALL("mixtral", ",'vocab_size':50,'num_local_experts':6,'num_experts_per_tok':2," \
                     "'intermediate_size':9")
#define NEMOTRON_H \
    "{'model_type':'nemotron_h','hidden_size':20,'hybrid_override_pattern':'M-*M'," \
    "'num_attention_heads':4,'num_key_value_heads':2,'head_dim':8,'intermediate_size':24," \
    "'mamba_num_heads':6,'mamba_head_dim':4,'n_groups':2,'ssm_state_size':5,'conv_kernel':3," \
    "'vocab_size':41}"

struct expected {
    const struct search *s;
    int64_t n, sum;               /* shapes in the band; a sum of what they have */
    int64_t least, most, kv_most; /* of theirs */
};

static int64_t mix(const struct model_spec *h, const struct footprint *f)
{
    int64_t sum = f->parameters * 7 + f->kv_bytes, weight = 101;
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++, weight = weight * 3 + 2)
        for (int64_t l = 0; l < (x < LAYER_AXES ? 1 : h->num_hidden_layers); l++)
            sum += model_spec_size(h, x, l) * weight * (l + 1);
    return sum;
}

static void add_found(void *user, const struct model_spec *h, const struct footprint *f)
{
    struct expected *x = user;
    int64_t n = x->s->active ? f->active : f->parameters;
    x->least = x->n ? min64(x->least, n) : n;
    x->most = max64(x->most, n);
    x->kv_most = max64(x->kv_most, f->kv_bytes);
    x->n++;
    x->sum += mix(h, f);
}

/* One shape, by the planner. Size 0: the axis is not listed. */
static void add_expected(struct expected *x, const int64_t size[AXIS_COUNT])
{
    struct slice_options o = {.in_order = 1};
    struct slice_target t;
    struct slice_plan p;
    struct err refused = {0};
    char text[AXIS_COUNT][24], drop[24];
    for (enum axis a = MODEL_AXES; a < AXIS_COUNT; a++) {
        snprintf(text[a], sizeof text[a], "%lld", (long long)size[a]);
        o.size[a] = size[a] && a != AXIS_L ? text[a] : NULL;
    }
    snprintf(drop, sizeof drop, "%lld-", (long long)size[AXIS_L]);
    o.drop_layers = size[AXIS_L] < x->s->source->num_hidden_layers ? drop : NULL;
    CHECK(!slice_target_read(&t, &o, &e), "%s", e.msg);
    if (!slice_plan_shape(&p, x->s->source, NULL, NULL, &t, &refused)) {
        struct footprint f = model_footprint(&p.spec, &x->s->at);
        int64_t n = x->s->active ? f.active : f.parameters;
        if (n >= x->s->least && n <= x->s->most && (!x->s->kv_most || f.kv_bytes <= x->s->kv_most))
            add_found(x, &p.spec, &f);
        slice_plan_free(&p);
    }
    slice_target_free(&t);
}

static void enumerate(struct expected *x, enum axis axis, int64_t size[AXIS_COUNT])
{
    if (axis == AXIS_COUNT) {
        add_expected(x, size);
        return;
    }
    const struct search_list *l = &x->s->lists[axis];
    for (int64_t i = 0; i < (l->n ? l->n : 1); i++) {
        size[axis] = l->n ? l->value[i] : 0;
        if (!l->n && axis == AXIS_L)
            size[axis] = x->s->source->num_hidden_layers;
        if (l->by_width)
            size[axis] = l->value[i] * size[AXIS_E] / 1000;
        enumerate(x, axis + 1, size);
    }
}

static struct expected same(const char *what, const struct search *s)
{
    struct expected all = {.s = s}, found = {.s = s};
    int64_t size[AXIS_COUNT] = {0};
    enumerate(&all, MODEL_AXES, size);
    CHECK(search_run(s, add_found, &found, &e) == all.n && found.n == all.n && found.sum == all.sum,
          "%s: %lld shapes, not %lld", what, (long long)found.n, (long long)all.n);
    CHECK(all.n > 0, "%s: no shape tests nothing", what);
    return all;
}

/* Edges belong to the band. */
static void same_at_edges(const char *what, struct search s)
{
    struct expected all = same(what, &s);
    s.kv_most = s.kv_most ? all.kv_most : 0;
    same(what, &s);
    s.least = s.most = all.least;
    same(what, &s);
    s.least = s.most = all.most;
    same(what, &s);
    s.least = all.least + 1;
    s.most = all.most - 1;
    same(what, &s);
}

static void test_brute_force(void)
{
    static const struct {
        const char *config;
        const char *lists[AXIS_COUNT];
        int64_t least, most, kv_most;
        /* layer 1, or layers 0 and 1, have no attention; layer 1 has a narrower FFN */
        int active, half, halves, uneven;
    } rows[] = {
        {SMALL("llama", ""),
         {[AXIS_L] = "1:4:1",
          [AXIS_E] = "12:48:12",
          [AXIS_H] = "1:6:1",
          [AXIS_K] = "1,2",
          [AXIS_F] = "4000,9000"},
         .least = 900000,
         .most = 4000000},
        {SMALL("llama", ""),
         {[AXIS_E] = "8:48:8", [AXIS_K] = "1,2", [AXIS_F] = "1.5x,2x,100x"},
         0,
         4000000,
         0,
         .active = 1},
        {SMALL("llama", ",'tie_word_embeddings':true"),
         {[AXIS_L] = "1,3", [AXIS_H] = "2,4"},
         0,
         INT64_MAX,
         0,
         .half = 1},
        {SMALL("llama", ""),
         {[AXIS_L] = "1,2,3", [AXIS_H] = "2,4,6"},
         0,
         INT64_MAX,
         0,
         .halves = 1},
        {SMALL("gemma2", ",'sliding_window':64,'intermediate_size':60,'vocab_size':99"),
         {[AXIS_L] = "1:4:1", [AXIS_F] = "10:60:10"},
         250000,
         620000,
         .kv_most = 600000},
        {SMALL("llama", ""),
         {[AXIS_L] = "1:4:1", [AXIS_E] = "12:48:12"},
         0,
         INT64_MAX,
         0,
         .uneven = 1},
        {"{'model_type':'gpt2','n_embd':42,'n_head':6,'n_layer':2}",
         {[AXIS_H] = "2,3,6", [AXIS_F] = "10:160:50"},
         0,
         INT64_MAX,
         0,
         .half = 1},
        {MIXTRAL,
         {[AXIS_L] = "1,2", [AXIS_X] = "1:6:1", [AXIS_N] = "3:9:2", [AXIS_H] = "2,4"},
         .most = INT64_MAX},
        {MIXTRAL,
         {[AXIS_E] = "24,48", [AXIS_X] = "2:6:1", [AXIS_N] = "3:9:2"},
         .least = 20000,
         .most = 60000,
         .active = 1},
        /* layers 0 and 2 have an MLP; a gate of the shared expert has no axis of experts */
        {SMALL("qwen2_moe", ",'vocab_size':50,'num_experts':5,'num_experts_per_tok':2,"
                            "'moe_intermediate_size':9,'shared_expert_intermediate_size':13,"
                            "'intermediate_size':17,'decoder_sparse_step':2"),
         {[AXIS_L] = "1:4:1", [AXIS_F] = "5,17", [AXIS_X] = "1,3,5", [AXIS_S] = "4:13:3"},
         .most = INT64_MAX},
        {NEMOTRON_H,
         {[AXIS_L] = "1:4:1", [AXIS_G] = "1,2", [AXIS_R] = "1:4:1", [AXIS_F] = "5,24"},
         .most = INT64_MAX},
        {NEMOTRON_H, {[AXIS_M] = "1:6:1", [AXIS_E] = "7,20"}, .least = 3000, .most = 9000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_spec h;
        CHECK(!head_of(&h, rows[i].config, &e), "%s", e.msg);
        if (rows[i].half || rows[i].halves)
            h.layers[1].kinds = KIND_mlp;
        if (rows[i].halves)
            h.layers[0].kinds = KIND_mlp;
        if (rows[i].uneven)
            h.layers[1].intermediate_size /= 2;
        model_spec_list_tensors(&h, DT_F32);
        struct search s = {.source = &h,
                           .least = rows[i].least,
                           .most = rows[i].most,
                           .active = rows[i].active,
                           .kv_most = rows[i].kv_most,
                           .at = {DT_F32, DT_F16, 100}};
        for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
            if (rows[i].lists[x])
                list(&s, x, rows[i].lists[x]);
        same_at_edges(rows[i].config, s);
        search_free(&s);
        model_spec_free(&h);
    }
}

/* ---- what is refused */

static void refused(const struct model_spec *h, enum axis axis, const char *text, const char *words)
{
    struct search_list l;
    struct err why = {0};
    CHECK(search_list_read(&l, axis, text, h, &why) && strstr(why.msg, words), "\"%s\": %s", text,
          why.msg);
}

/* Grids of 1e12 shapes end soon, whether their band is full or empty. */
static void test_refusals(void)
{
    struct model_spec h;
    struct err why = {0};
    config_of(&h, "nemotron-4-15b");
    refused(&h, AXIS_L, "1:2", "such as 24,32,48");
    refused(&h, AXIS_L, "2:1:1", "such as 24,32,48");
    refused(&h, AXIS_H, "8,,16", "such as 24,32,48");
    refused(&h, AXIS_E, "0", "such as 24,32,48");
    refused(&h, AXIS_E, "1.5", "such as 24,32,48");
    refused(&h, AXIS_E, "2x", "such as 24,32,48");
    refused(&h, AXIS_F, "2x,512", "times the hidden size, not \"2x,512\"");
    refused(&h, AXIS_E, "8192", "--hidden must be at most 6144");
    refused(&h, AXIS_F, "999999999999x", "--ffn must be at most 24576");
    refused(&h, AXIS_E, "1:6144:1", "--hidden has more than 4096 sizes");
    for (int64_t l = 0; l < h.num_hidden_layers; l++)
        h.layers[l].kinds = KIND_mlp;
    refused(&h, AXIS_K, "4,8", "--kv-heads must be left out: no layer of the model has any");
    for (int64_t l = 0; l < h.num_hidden_layers; l++)
        h.layers[l].kinds = KIND_any;
    refused(&h, AXIS_X, "4", "--experts must be left out: no layer of the model has any");
    struct search s = {
        .source = &h, .least = 8000000000, .most = 8000000000, .at = {DT_F32, DT_F32, 1}};
    list(&s, AXIS_F, "24576x");
    CHECK(search_run(&s, NULL, NULL, &why) == 0, "%s", why.msg);
    search_list_free(&s.lists[AXIS_F]);
    list(&s, AXIS_L, "1:32:1");
    list(&s, AXIS_E, "2:6144:2");
    list(&s, AXIS_H, "1:48:1");
    list(&s, AXIS_K, "1:8:1");
    list(&s, AXIS_F, "6:24576:6");
    CHECK(search_run(&s, NULL, NULL, &why) < 0 && strstr(why.msg, "the grid is too large"), "%s",
          why.msg);
    why = (struct err){0};
    s.least = 0;
    CHECK(search_run(&s, NULL, NULL, &why) < 0 && strstr(why.msg, "more than 20000 shapes"), "%s",
          why.msg);
    search_free(&s);
    model_spec_free(&h);
}

int main(void)
{
    test_models();
    test_grids();
    test_brute_force();
    test_refusals();
    return check_report();
}
