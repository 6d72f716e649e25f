/* score-importance: turns calibration sums (kind "acts") into a score for every unit of every axis
 * (kind "scores"). */
#include "../lib/base/text.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

#include <string.h>

static const char *batch = "l2", *seq = "mean", *neuron = "neuron_in2", *head = "head_channel",
                  *hidden = "no_final", *score = "activations", *model_name, *experts, *mamba;

static const struct opt opts[] = {
    {"score", OPT_TEXT, &score, "activations|weighted",
     "score a channel by its activation, or by that times the sum of the absolute weights that "
     "read it; with --batch l2 --seq l2 that is Wanda's score, summed over these weights",
     0},
    {"model", OPT_PATH, &model_name, "MODEL", "the calibrated model, for --score weighted", 0},
    {"batch", OPT_TEXT, &batch, "mean|l2|var", "aggregation over samples", 0},
    {"seq", OPT_TEXT, &seq, "mean|l2|var",
     "aggregation over the positions of a sample, before --batch", 0},
    {"neuron", OPT_TEXT, &neuron, "NAME",
     "activation that scores FFN neurons: neuron_in2, the input of the second matrix; neuron_first "
     "(in gated FFNs neuron_first_gate or neuron_first_up), the output of the first",
     0},
    {"head", OPT_TEXT, &head, "head_channel|head_norm",
     "aggregate each channel, then take the L2 norm over a head's channels; or take the norm at "
     "each position, then aggregate. The same for KV groups",
     0},
    {"hidden", OPT_TEXT, &hidden, "no_final|with_final",
     "whether scores of hidden channels include the final norm", 0},
    {"experts", OPT_TEXT, &experts, "reap|frequency",
     "score experts by the mean of their weight times the norm of what they give, over the "
     "positions that they work for, or by the share of these; whatever --batch and --seq (default "
     "reap)",
     0},
    {"mamba", OPT_TEXT, &mamba, "mamba_first_x|mamba_first_z|mamba_in2",
     "activation that scores the channels of Mamba heads, and, by its L2 norm over their channels, "
     "heads and groups: the x or z part of what the input projection gives, or the input of the "
     "output projection (default mamba_first_x, as in Minitron-SSM)",
     0},
    {0}};

static const struct tool_desc desc = {
    "score-importance",
    "[FILE]",
    "Turn activation sums into importance scores.",
    "Reads activation sums, from standard input if there is no FILE; writes a score for every "
    "hidden channel, FFN neuron, head, KV group, expert, Mamba head and layer. Higher is more "
    "important. Layers are scored by block importance, 1 minus the mean cosine of their input and "
    "output. The defaults are those of the Minitron papers.",
    "  calib-acts teacher/ train.tsz | score-importance | rank > rank.tsz",
    opts,
    0,
    1,
    TOOL_OUTPUT | TOOL_MODEL};

static void check_usage(struct tool *t, int weighted)
{
    if (strncmp(neuron, "neuron_", 7))
        tool_usage(t,
                   "--neuron must be neuron_in2, neuron_first, neuron_first_gate or "
                   "neuron_first_up, not \"%s\"",
                   neuron);
    if (mamba && strcmp(mamba, "mamba_first_x") && strcmp(mamba, "mamba_first_z") &&
        strcmp(mamba, "mamba_in2"))
        tool_usage(t, "--mamba must be mamba_first_x, mamba_first_z or mamba_in2, not \"%s\"",
                   mamba);
    if (weighted && mamba && strcmp(mamba, "mamba_in2"))
        tool_usage(t, "--score weighted is of channels that matrices read: --mamba mamba_in2");
    if (weighted != (model_name != NULL))
        tool_usage(t, "--score weighted and --model MODEL go together");
    if (weighted && (strcmp(neuron, "neuron_in2") || strcmp(head, "head_channel")))
        tool_usage(t, "--score weighted is of channels that matrices read: --neuron neuron_in2 and "
                      "--head head_channel");
}

static void read_weights(struct tool *t, struct column_sums *c, const struct acts *a,
                         const char *acts_path)
{
    struct err *e = tool_err(t);
    struct axes of;
    struct model_in *in = tool_model(t, model_name);
    column_sums_read(c, in, e);
    tool_check(t);
    axes_from_model(&of, model_in_spec(in));
    axes_same(&of, &a->axes, 1, model_name, acts_path, e);
    tool_check(t);
    axes_free(&of);
    model_close(in);
}

static int choose(struct tool *t, const char *option, const char *value)
{
    int a = aggregate_parse(value);
    if (a < 0)
        tool_usage(t, "--%s must be mean, l2 or var, not \"%s\"", option, value);
    return a;
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    struct score_opts o = {.batch = (enum aggregate)choose(t, "batch", batch),
                           .seq = (enum aggregate)choose(t, "seq", seq),
                           .neuron = neuron,
                           .mamba = mamba ? mamba : "mamba_first_x"};
    o.head_norm = text_choice("head", head, "head_channel", "head_norm", e);
    o.with_final = text_choice("hidden", hidden, "no_final", "with_final", e);
    if (experts)
        o.expert_frequency = text_choice("experts", experts, "reap", "frequency", e);
    int weighted = text_choice("score", score, "activations", "weighted", e);
    if (e->set)
        tool_usage(t, "%s", e->msg);
    check_usage(t, weighted);
    struct st_in *in = tool_in(t, tool_operand(t, 0) ? tool_operand(t, 0) : "-", "acts");
    struct acts a;
    struct scores s;
    struct column_sums weights = {0};
    acts_read(&a, in, e);
    tool_check(t);
    if (weighted) {
        read_weights(t, &weights, &a, st_path(in));
        o.weights = &weights;
    }
    if (scores_from_acts(&s, &a, &o, st_path(in), e))
        tool_check(t);
    json_t *meta = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "score", score, "batch", batch,
                             "seq", seq, "neuron", neuron, "head", head, "hidden", hidden,
                             "samples", (json_int_t)a.samples);
    if (experts)
        json_object_set_new(meta, "experts", json_string(experts));
    if (mamba)
        json_object_set_new(meta, "mamba", json_string(mamba));
    axes_to_json(&s.axes, meta);
    struct st_out *out = tool_out(t, "scores", meta);
    scores_write(out, &s);
    struct tensor blocks = {.name = "block_importance",
                            .dtype = DT_F64,
                            .ndim = 2,
                            .shape = {a.block_size, a.axes.size[AXIS_L]}};
    /* in place: 0 where a block would run past the last layer */
    for (int64_t n = 1; n <= a.block_size; n++)
        for (int64_t i = 0; i + n <= a.axes.size[AXIS_L]; i++)
            a.block_cosine[(n - 1) * a.axes.size[AXIS_L] + i] = acts_block_importance(&a, i, n);
    st_put(out, &blocks, a.block_cosine);
    scores_free(&s);
    column_sums_free(&weights);
    acts_free(&a);
    st_close(in);
    return tool_finish(t);
}
