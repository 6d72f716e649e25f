/* rank: turns scores (kind "scores") into orders, best first (kind "rank"); or gives a baseline
 * order: random, or by the magnitude of weights. */
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

#include <string.h>

static int64_t seed = -1;
static const char *magnitude;

static const struct opt opts[] = {
    {"random", OPT_INT, &seed, "SEED",
     "baseline: order every axis at random; FILE (scores, a rank or activation sums) only gives "
     "the sizes",
     OPT_UNSET | OPT_FROM_0},
    {"magnitude", OPT_PATH, &magnitude, "MODEL",
     "baseline: order units by the L2 norm of their weights in MODEL; takes no FILE", 0},
    {0}};

static const struct tool_desc desc = {
    "rank",
    "[FILE]...",
    "Order the units of every axis, best first.",
    "Reads scores, from standard input if there is no FILE; writes all units of each axis, best "
    "first. Units with equal scores keep their order. With several FILEs, the axes of a later one "
    "replace those of an earlier one: `rank scores.tsz probe.tsz` takes the order of layers from "
    "probe-layers. Refuses scores of different models.",
    "  score-importance acts.tsz | rank > rank.tsz",
    opts,
    0,
    -1,
    TOOL_OUTPUT | TOOL_MODEL};

static void add_file(struct tool *t, struct scores *s, const char *path, const char *first)
{
    struct st_in *in = tool_in(t, path, "scores");
    struct scores later;
    struct err *e = tool_err(t);
    if (!first)
        scores_read(s, in, e);
    else if (!scores_read(&later, in, e)) {
        scores_replace(s, &later, first, path, e);
        scores_free(&later);
    }
    tool_check(t);
    st_close(in);
}

static void rank_files(struct tool *t, struct rank *r)
{
    struct scores s = {0};
    add_file(t, &s, tool_operands(t) ? tool_operand(t, 0) : "-", NULL);
    for (int i = 1; i < tool_operands(t); i++)
        add_file(t, &s, tool_operand(t, i), tool_operand(t, 0));
    rank_from_scores(r, &s);
    scores_free(&s);
}

static void rank_magnitude(struct tool *t, struct rank *r)
{
    struct scores s;
    struct model_in *in = tool_model(t, magnitude);
    if (scores_magnitude(&s, in, tool_err(t)))
        tool_check(t);
    rank_from_scores(r, &s);
    scores_free(&s);
    model_close(in);
}

static void rank_shuffled(struct tool *t, struct rank *r)
{
    struct st_in *in = tool_in(t, tool_operands(t) ? tool_operand(t, 0) : "-", NULL);
    const char *kind = json_string_value(json_object_get(st_head(in), "kind"));
    struct axes a;
    struct tensor rest;
    if (!kind || (strcmp(kind, "scores") && strcmp(kind, "rank") && strcmp(kind, "acts")))
        tool_die(t, "%s is a stream of kind \"%s\"; --random needs scores, a rank or acts",
                 st_path(in), kind ? kind : "?");
    if (axes_from_json(&a, st_head(in), st_path(in), tool_err(t)))
        tool_check(t);
    while (st_next(in, &rest) > 0) {
    }
    tool_check(t);
    rank_random(r, &a, (uint64_t)seed);
    axes_free(&a);
    st_close(in);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct rank r;
    if (seed >= 0 && magnitude)
        tool_usage(t, "--random and --magnitude are two baselines: give one");
    if (magnitude && tool_operands(t))
        tool_usage(t, "--magnitude takes a MODEL and no FILE");
    if (seed >= 0 && tool_operands(t) > 1)
        tool_usage(t, "--random takes one FILE, for the sizes");
    if (magnitude)
        rank_magnitude(t, &r);
    else if (seed >= 0)
        rank_shuffled(t, &r);
    else
        rank_files(t, &r);
    json_t *meta = json_object();
    axes_to_json(&r.axes, meta);
    rank_write(tool_out(t, "rank", meta), &r);
    rank_free(&r);
    return tool_finish(t);
}
