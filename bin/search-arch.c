/* search-arch: the shapes of a grid that a model can be cut to, within a band of parameters, with
 * what each costs. A model or its config.json in; a JSON object for each shape, or a table, out. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "../lib/base/amount.h"
#include "../lib/base/minmax.h"
#include "../lib/base/text.h"
#include "../lib/hf/hf.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static const char *lists[AXIS_COUNT], *parameters, *tolerance = "5%", *kv_bytes, *bandwidth, *flops,
                                                   *dtype = "bf16", *cache_dtype = "bf16";
static int active, table;
static int64_t context;

static const struct opt opts[] = {
    {"Grid (axes not listed keep their size)", OPT_GROUP, NULL, NULL, NULL, 0},
    {"layers", OPT_TEXT, &lists[AXIS_L], "LIST", "numbers of layers", 0},
    {"hidden", OPT_TEXT, &lists[AXIS_E], "LIST", "hidden sizes", 0},
    {"heads", OPT_TEXT, &lists[AXIS_H], "LIST", "query heads", 0},
    {"kv-heads", OPT_TEXT, &lists[AXIS_K], "LIST", "KV heads", 0},
    {"ffn", OPT_TEXT, &lists[AXIS_F], "LIST",
     "FFN sizes, or with an x after each number multiples of the hidden size: 2.5x,3x", 0},
    {"Band", OPT_GROUP, NULL, NULL, NULL, 0},
    {"parameters", OPT_TEXT, &parameters, "N",
     "shapes with about N parameters, such as 8e9 or 4.2B; without it, the whole grid", 0},
    {"tolerance", OPT_TEXT, &tolerance, "R", "how far from N, as a share of it", 0},
    {"active", OPT_FLAG, &active, NULL,
     "count only parameters that take part in one token: of embeddings that are not the output "
     "head too, one row",
     0},
    {"kv-bytes", OPT_TEXT, &kv_bytes, "N",
     "only shapes whose keys and values take at most N bytes at --context, such as 500MB", 0},
    {"Costs", OPT_GROUP, NULL, NULL, NULL, 0},
    {"context", OPT_INT, &context, "N",
     "positions of a sequence; 0: 4096, or max_position_embeddings if that is less", OPT_FROM_0},
    {"dtype", OPT_TEXT, &dtype, "f32|f16|bf16|q8_0", "of the weights", 0},
    {"cache-dtype", OPT_TEXT, &cache_dtype, "f32|f16|bf16|q8_0", "of keys and values", 0},
    {"bandwidth", OPT_TEXT, &bandwidth, "N",
     "memory bandwidth of the machine that will run the model, in bytes a second, such as 3.35TB; "
     "predicts tokens a second in decoding",
     0},
    {"flops", OPT_TEXT, &flops, "N",
     "FLOPs that it reaches in a second, such as 400T; predicts tokens a second in prefill", 0},
    {"Output", OPT_GROUP, NULL, NULL, NULL, 0},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", 0},
    {0}};

static const struct tool_desc desc = {
    "search-arch",
    "MODEL|CONFIG.json",
    "List the shapes within a band of parameters that a model can be cut to.",
    "Reads a model's shape; a config.json suffices. Prints a JSON object for each shape of the "
    "grid "
    "whose parameters are within --tolerance of --parameters, smaller sizes first: sizes; "
    "parameters (tied embeddings once), those without embeddings and output head, and active ones; "
    "bytes of weights and of the keys and values of one sequence; FLOPs of a token, as the mean of "
    "a prompt of --context tokens and for the token after it; how much faster than the model it "
    "should be: in decoding by the bytes that a token reads, in prefill by its FLOPs; and options "
    "for slice-model. "
    "If hf-export would refuse a shape, it says why.\n\nLIST is 24,32,48 or FROM:TO:STEP, or "
    "several of them joined by commas. Sizes are at most the model's. Branches of the grid outside "
    "the band are not visited. Without a rank it is open which layers go: windows and the sizes "
    "that are not listed are those of the first layers. Refuses grids of which more than 20000 "
    "shapes are in the band.",
    "  search-arch teacher/config.json --parameters 4e9 --layers 29:32:1 \\\n      --hidden "
    "2560:4096:512 --ffn 2.5x,3x,3.5x,4x --table",
    opts,
    1,
    1,
    0};

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
    const struct search *search;
    struct shape_report report;
};

static void print_shape(void *user, const struct model_spec *shape, const struct footprint *f)
{
    struct printing *p = user;
    if (table) {
        shape_table_row(stdout, &p->report, shape, f);
        return;
    }
    char *options = search_options(p->search, shape);
    json_t *j = shape_json(&p->report, shape, f, options);
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
    free(options);
}

static void read_operand(struct tool *t, const char *operand, struct model_spec *h)
{
    if (text_ends(operand, ".json")) {
        if (hf_read_config(h, operand, operand, tool_err(t)))
            tool_check(t);
        return;
    }
    struct model_in *in = tool_model(t, operand);
    model_spec_copy(h, model_in_spec(in));
    model_close(in);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct model_spec source;
    struct search s = {.source = &source};
    read_band(t, &s);
    read_costs(t, &s);
    struct printing p = {.search = &s};
    p.report.bandwidth = (double)read_amount(t, "bandwidth", bandwidth, amount_bytes, "3.35TB");
    p.report.flops = (double)read_amount(t, "flops", flops, amount_count, "400T");
    read_operand(t, tool_operand(t, 0), &source);
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        if (lists[x] && search_list_read(&s.lists[x], x, lists[x], &source, tool_err(t)))
            tool_check(t);
    if (!s.at.context)
        s.at.context = min64(4096, source.max_position_embeddings);
    p.report.at = s.at;
    p.report.source = model_footprint(&source, &s.at);
    int64_t n = search_run(&s, NULL, NULL, tool_err(t));
    if (!n)
        tool_note(t, "no shape of the grid is in the band");
    if (n > 0 && table)
        shape_table_head(stdout);
    if (n > 0)
        search_run(&s, print_shape, &p, tool_err(t));
    tool_check(t);
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        search_list_free(&s.lists[x]);
    model_spec_free(&source);
    return tool_finish(t);
}
