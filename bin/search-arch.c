/* search-arch: the shapes of a grid that a model can be cut to, within a band of parameters, with
 * what each costs; or the best shape whose layers differ. A model or its config.json in; a JSON
 * object for each shape, or a table, out. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/amount.h"
#include "../lib/base/minmax.h"
#include "../lib/base/text.h"
#include "../lib/hf/hf.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static const char *lists[AXIS_COUNT], *parameters, *tolerance = "5%", *kv_bytes, *bandwidth, *flops,
                                                   *dtype = "bf16", *cache_dtype = "bf16",
                                                   *variants, *ratio, *bytes, *speedup, *curve;
static int active, table, portable, measure;
static int64_t context;

static const struct opt opts[] = {
    {"Grid (axes not listed keep their size)", OPT_GROUP, NULL, NULL, NULL, 0},
    {"layers", OPT_TEXT, &lists[AXIS_L], "LIST", "numbers of layers", 0},
    {"hidden", OPT_TEXT, &lists[AXIS_E], "LIST", "hidden sizes", 0},
    {"vocab", OPT_TEXT, &lists[AXIS_V], "LIST",
     "vocabulary sizes, at least what the tokenizer needs, which a config.json does not tell", 0},
    {"heads", OPT_TEXT, &lists[AXIS_H], "LIST", "query heads", 0},
    {"kv-heads", OPT_TEXT, &lists[AXIS_K], "LIST", "KV heads", 0},
    {"ffn", OPT_TEXT, &lists[AXIS_F], "LIST",
     "FFN sizes, or with an x after each number multiples of the hidden size: 2.5x,3x", 0},
    {"experts", OPT_TEXT, &lists[AXIS_X], "LIST", "experts, at least as many as work for a token",
     0},
    {"expert-ffn", OPT_TEXT, &lists[AXIS_N], "LIST", "FFN sizes of each expert", 0},
    {"shared-ffn", OPT_TEXT, &lists[AXIS_S], "LIST", "FFN sizes of the shared expert", 0},
    {"mamba-groups", OPT_TEXT, &lists[AXIS_G], "LIST", "groups of Mamba heads", 0},
    {"mamba-heads", OPT_TEXT, &lists[AXIS_M], "LIST", "Mamba heads", 0},
    {"mamba-head-dim", OPT_TEXT, &lists[AXIS_R], "LIST", "channels of each Mamba head", 0},
    {"Band", OPT_GROUP, NULL, NULL, NULL, 0},
    {"parameters", OPT_TEXT, &parameters, "N",
     "shapes with about N parameters, such as 8e9 or 4.2B; without it, the whole grid", 0},
    {"tolerance", OPT_TEXT, &tolerance, "R", "how far from N, as a share of it", 0},
    {"active", OPT_FLAG, &active, NULL,
     "count only parameters that take part in one token: of embeddings, one row, unless they are "
     "also the output head; of experts, those of as many as work for a token",
     0},
    {"kv-bytes", OPT_TEXT, &kv_bytes, "N",
     "only shapes whose keys and values take at most N bytes at --context, such as 500MB", 0},
    {"Layer by layer", OPT_GROUP, NULL, NULL, NULL, 0},
    {"per-layer", OPT_TEXT, &variants, "TABLE",
     "instead of a grid: choose for each layer among the variants in TABLE (from probe-layers "
     "--variants), so that the sum of their KL is least within one budget: --parameters or "
     "--kv-bytes, here an upper limit, or one of the following",
     0},
    {"ratio", OPT_TEXT, &ratio, "R", "at most this share of the model's parameters", 0},
    {"bytes", OPT_TEXT, &bytes, "N", "weights of at most N bytes, such as 200MB", 0},
    {"decode-speedup", OPT_TEXT, &speedup, "R",
     "decoding at least R times as fast, by the bytes that a token reads", 0},
    {"portable", OPT_FLAG, &portable, NULL,
     "only variants that every reader of nemotron-nas loads: FFN sizes in multiples of 256, all "
     "heads, attention in layer 0, and an MLP wherever there is attention",
     0},
    {"curve", OPT_TEXT, &curve, "FILE",
     "write every shape that no other beats in both budget and KL as CSV: budget, kl, options", 0},
    {"Costs", OPT_GROUP, NULL, NULL, NULL, 0},
    {"context", OPT_INT, &context, "N",
     "positions of a sequence; 0: 4096, or max_position_embeddings if that is less", OPT_FROM_0},
    {"dtype", OPT_TEXT, &dtype, "f32|f16|bf16|q8_0", "of the weights", 0},
    {"cache-dtype", OPT_TEXT, &cache_dtype, "f32|f16|bf16|q8_0", "of keys and values", 0},
    {"bandwidth", OPT_TEXT, &bandwidth, "N",
     "memory bandwidth, in bytes a second, of the machine that will run the model, such as 3.35TB; "
     "with --flops, predicts tokens a second",
     0},
    {"flops", OPT_TEXT, &flops, "N", "FLOPs a second that this machine reaches, such as 400T", 0},
    {"measure", OPT_FLAG, &measure, NULL,
     "measure tokens a second here, of every shape with random weights, and predict them from what "
     "this device reaches",
     0},
    {"Output", OPT_GROUP, NULL, NULL, NULL, 0},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", 0},
    {0}};

static const struct tool_desc desc = {
    "search-arch",
    "MODEL|CONFIG.json",
    "List the shapes within a band of parameters that a model can be cut to.",
    "Reads a model's shape; a config.json suffices. Prints a JSON object for each shape of the "
    "grid whose parameters are within --tolerance of --parameters, smaller sizes first: sizes; "
    "parameters (tied embeddings once), those without embeddings and output head, and active "
    "ones; bytes of weights and of the keys and values of one sequence; FLOPs of a token, on "
    "average over a prompt of --context tokens and for the token after it; how much faster than "
    "the model it should be, in decoding by the bytes that a token reads, in prefill by its "
    "FLOPs; tokens a second of one sequence, if they are predicted or measured; and options for "
    "slice-model. If hf-export would refuse a shape, it says why. --table has * for sizes that "
    "differ between layers; KL and options of --per-layer are below it, and those of a grid are "
    "left out.\n\nLIST is 24,32,48 or "
    "FROM:TO:STEP, or several of them joined by commas. Sizes are at most the model's. Branches "
    "of the grid outside the band are not visited. Which layers go is up to the rank, which is "
    "not read here: windows and sizes that are not listed are taken from the first layers. "
    "Refuses grids of which more than 20000 shapes are in the band.",
    "  search-arch teacher/config.json --parameters 4e9 --layers 29:32:1 \\\n      --hidden "
    "2560:4096:512 --ffn 2.5x,3x,3.5x,4x --table",
    opts,
    1,
    1,
    TOOL_COMPUTE | TOOL_MODEL};

/* ---- options */

static enum dtype read_dtype(struct tool *t, const char *option, const char *text)
{
    int d = dtype_parse(text);
    if (d != DT_F32 && d != DT_F16 && d != DT_BF16 && d != DT_Q8_0)
        tool_usage(t, "--%s must be f32, f16, bf16 or q8_0, not \"%s\"", option, text);
    return (enum dtype)d;
}

/* What an option of the number's kind gives; 0: it was not given. */
static int64_t read_amount(struct tool *t, const char *option, const char *text,
                           int64_t (*parse)(const char *), const char *example)
{
    int64_t n = text ? parse(text) : 0;
    if (text && n < 1)
        tool_usage(t, "--%s takes a number such as %s, not \"%s\"", option, example, text);
    return n;
}

static void read_band(struct tool *t, struct search *s)
{
    int64_t n = read_amount(t, "parameters", parameters, amount_count, "8e9");
    double share = amount_share(tolerance);
    if (!(share >= 0 && share < 1))
        tool_usage(t, "--tolerance takes a share such as 5%% or 0.05, not \"%s\"", tolerance);
    if (variants && strcmp(tolerance, "5%"))
        tool_usage(t, "with --per-layer, --parameters is an upper limit, without --tolerance");
    if (!variants && !n && (active || strcmp(tolerance, "5%")))
        tool_usage(t, "--%s is for --parameters", active ? "active" : "tolerance");
    s->least = n ? (int64_t)ceil((double)n * (1 - share)) : 0;
    s->most = n ? (int64_t)floor((double)n * (1 + share)) : INT64_MAX;
    s->active = active;
    s->kv_most = read_amount(t, "kv-bytes", kv_bytes, amount_bytes, "500MB");
}

static void read_costs(struct tool *t, struct search *s)
{
    if (context > FOOTPRINT_CONTEXT)
        tool_usage(t, "--context must be at most %d, not %" PRId64, FOOTPRINT_CONTEXT, context);
    s->at = (struct footprint_options){read_dtype(t, "dtype", dtype),
                                       read_dtype(t, "cache-dtype", cache_dtype), context};
}

/* ---- shapes, as they are found */

struct printing {
    struct tool *tool;
    const struct search *search;
    struct shape_report report;
    int64_t done, n;
};

/* A quarter of a second for each speed, or three runs. */
static void measure_shape(struct printing *p, const struct model_spec *shape)
{
    struct speed_options o = {p->report.at.context, 0.25};
    if (!measure)
        return;
    tool_progress(p->tool, p->done, p->n, "shapes");
    if (speed_measure_shape(&p->report.measured, tool_exec(p->tool), shape, p->report.at.weights,
                            &o, tool_err(p->tool)))
        tool_check(p->tool);
    tool_progress(p->tool, ++p->done, p->n, "shapes");
}

/* Of the machine: given, or what this one reaches. */
static void read_rates(struct tool *t, struct speed_rates *r, enum dtype weights)
{
    if (!bandwidth != !flops)
        tool_usage(t, "--bandwidth and --flops describe a machine together: give both");
    r->bytes = (double)read_amount(t, "bandwidth", bandwidth, amount_bytes, "3.35TB");
    r->flops = (double)read_amount(t, "flops", flops, amount_count, "400T");
    if (measure && !flops && speed_rates(r, tool_exec(t), weights, 0.25, tool_err(t)))
        tool_check(t);
}

static void print_json(json_t *j)
{
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(j);
}

static void print_shape(void *user, const struct model_spec *shape, const struct footprint *f)
{
    struct printing *p = user;
    measure_shape(p, shape);
    if (table) {
        shape_table_row(stdout, &p->report, shape, f);
        return;
    }
    char *options = search_options(p->search, shape);
    print_json(shape_json(&p->report, shape, f, options));
    free(options);
}

/* The model's shape, and the grid, which it limits. */
static void read_operand(struct tool *t, const char *operand, struct search *s,
                         struct model_spec *h)
{
    struct model_in *in = text_ends(operand, ".json") ? NULL : tool_model(t, operand);
    if (in) {
        model_spec_copy(h, model_in_spec(in));
    } else {
        tool_read_config(t, operand, h);
        model_spec_list_tensors(h, DT_BF16);
    }
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (lists[x] && search_list_read(&s->lists[x], x, lists[x], h, tool_err(t)))
            tool_check(t);
    if (in && search_check_vocab(s, in, operand, tool_err(t)))
        tool_check(t);
    model_close(in);
}

/* ---- layer by layer */

/* What a budget counts, and how much of it there may be. */
struct layer_budget {
    enum { PARAMETERS, WEIGHT_BYTES, KV_BYTES, BYTES_READ } what;
    int64_t most;
    const struct footprint_options *at;
};

static int64_t cost_of(const void *user, const struct model_spec *h)
{
    const struct layer_budget *b = user;
    struct footprint f = model_footprint(h, b->at);
    switch (b->what) {
    case WEIGHT_BYTES: return f.weight_bytes;
    case KV_BYTES: return f.kv_bytes;
    case BYTES_READ: return f.active_bytes + f.kv_bytes;
    default: return active ? f.active : f.parameters;
    }
}

/* Without its first layer, another one would have to keep its attention. */
static int is_portable(const void *user, const struct slice_plan *p)
{
    (void)user;
    return p->kept[AXIS_L].index[0] == 0 && hf_is_portable(&p->spec);
}

/* The one budget that was given; 0: none. */
static int choose_budget(struct tool *t, struct layer_budget *b)
{
    int n = !!parameters + !!ratio + !!bytes + !!kv_bytes + !!speedup;
    if (n > 1 || (!n && !curve))
        tool_usage(t, "--per-layer needs one budget: --parameters, --ratio, --bytes, --kv-bytes or "
                      "--decode-speedup");
    if (!n && (table || measure))
        tool_usage(t, "--%s is for the shape of a budget: give one, such as --parameters",
                   table ? "table" : "measure");
    if (active && (bytes || kv_bytes || speedup))
        tool_usage(t, "--active is for budgets of parameters: --parameters or --ratio");
    b->what = bytes ? WEIGHT_BYTES : PARAMETERS;
    if (kv_bytes)
        b->what = KV_BYTES;
    if (speedup)
        b->what = BYTES_READ;
    return n;
}

/* A limit that is a share of the whole model's cost; range: what the option's number must be. */
static int64_t share_of(struct tool *t, const char *range, const char *text, double share,
                        int64_t whole)
{
    if (!(share > 0 && share <= 1))
        tool_usage(t, "%s, not \"%s\"", range, text);
    return (int64_t)floor(share * (double)whole);
}

static void set_limit(struct tool *t, struct layer_budget *b, const struct search *s)
{
    int64_t whole = cost_of(b, s->source);
    b->most = whole;
    if (ratio)
        b->most = share_of(t, "--ratio must be more than 0 and at most 1", ratio,
                           amount_share(ratio), whole);
    else if (speedup)
        b->most = share_of(t, "--decode-speedup must be at least 1", speedup,
                           1 / amount_share(speedup), whole);
    else if (bytes)
        b->most = read_amount(t, "bytes", bytes, amount_bytes, "200MB");
    else if (kv_bytes)
        b->most = s->kv_most;
    else if (parameters)
        b->most = read_amount(t, "parameters", parameters, amount_count, "8e9");
}

static void print_point(struct tool *t, const struct per_layer *l, int64_t i, struct printing *p)
{
    struct slice_plan plan;
    if (per_layer_plan(l, i, &plan, tool_err(t)))
        tool_check(t);
    measure_shape(p, &plan.spec);
    struct footprint f = model_footprint(&plan.spec, &p->report.at);
    double kl = per_layer_point(l, i).kl;
    char *options = slice_plan_options(&plan, l->source);
    if (table) {
        shape_table_head(stdout, &p->report, &plan.spec);
        shape_table_row(stdout, &p->report, &plan.spec, &f);
        printf("KL: %.6g\noptions:%s\n", kl, *options ? options : " none");
    } else {
        json_t *j = shape_json(&p->report, &plan.spec, &f, options);
        json_object_set_new(j, "kl", json_real(kl));
        print_json(j);
    }
    free(options);
    slice_plan_free(&plan);
}

static void search_layers(struct tool *t, const struct search *s, struct printing *p)
{
    struct variants v;
    struct per_layer l;
    struct layer_budget b = {.at = &s->at};
    int limited = choose_budget(t, &b);
    set_limit(t, &b, s);
    const struct per_layer_options o = {cost_of, portable ? is_portable : NULL, &b};
    if (variants_load(&v, variants, s->source, !*s->source->id, tool_err(t)) ||
        per_layer_open(&l, s->source, &v, &o, tool_err(t)))
        tool_check(t);
    if (portable && per_layer_points(&l) == 1)
        tool_die(t, "--portable leaves none of the variants of %s", variants);
    int64_t i = per_layer_within(&l, b.most, tool_err(t));
    tool_check(t);
    if (limited)
        print_point(t, &l, i, p);
    if (curve && per_layer_save_curve(&l, curve, tool_err(t)))
        tool_check(t);
    per_layer_close(&l);
    variants_close(&v);
}

static void check_mode(struct tool *t)
{
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (variants && lists[x])
            tool_usage(t, "--per-layer takes its sizes from the table, not from a grid");
    if (!variants && (ratio || bytes || speedup || curve || portable))
        tool_usage(t, "--ratio, --bytes, --decode-speedup, --portable and --curve go with "
                      "--per-layer TABLE");
}

/* ---- */

static void search_grid(struct tool *t, struct search *s, struct printing *p)
{
    int64_t n = p->n = search_run(s, NULL, NULL, tool_err(t));
    if (!n)
        tool_note(t, parameters || kv_bytes
                         ? "no shape of the grid is in the band"
                         : "no shape of the grid can be cut: sizes are at most the model's, query "
                           "heads a multiple of the KV heads, Mamba heads one of their groups, "
                           "experts at least as many as work for a token, and some layer must "
                           "have what a size counts");
    if (n > 0 && table)
        shape_table_head(stdout, &p->report, s->source);
    if (n > 0)
        search_run(s, print_shape, p, tool_err(t));
    tool_check(t);
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        search_list_free(&s->lists[x]);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct model_spec source;
    struct search s = {.source = &source};
    check_mode(t);
    read_band(t, &s);
    read_costs(t, &s);
    struct printing p = {.tool = t, .search = &s, .report.vocab = lists[AXIS_V] != NULL};
    read_rates(t, &p.report.rates, s.at.weights);
    read_operand(t, tool_operand(t, 0), &s, &source);
    if (!s.at.context)
        s.at.context = min64(4096, source.max_position_embeddings);
    p.report.at = s.at;
    p.report.source = model_footprint(&source, &s.at);
    if (variants)
        search_layers(t, &s, &p);
    else
        search_grid(t, &s, &p);
    model_spec_free(&source);
    return tool_finish(t);
}
