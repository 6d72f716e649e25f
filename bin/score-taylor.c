/* score-taylor: backward passes over calibration text score every unit by weights and gradients
 * (kind "scores"). */
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static struct tool_text text = {.row_bos = "auto"};
static int64_t batch_size = 1;

static const struct opt opts[] = {TEXT_OPTIONS(text),
                                  {"batch-size", OPT_INT, &batch_size, "N",
                                   "windows in a backward pass, which count as one sample",
                                   OPT_FROM_1},
                                  {0}};

static const struct tool_desc desc = {
    "score-taylor",
    "MODEL TOKENS",
    "Score units by gradients: to first order, how the loss changes without them.",
    "Reads a model and a token stream; writes a score for every hidden channel, FFN neuron, head, "
    "KV group and layer: |sum of weight * gradient| over all weights of the unit, by which the "
    "loss of a sample would change, to first order, if they were set to 0, averaged over samples. "
    "Weights of norms are left out.\n\nOne backward pass per sample, in f32, no optimiser: memory "
    "is that of weights, their gradients and the activations of a batch. The scores are for rank, "
    "like those of score-importance.",
    "  score-taylor teacher/ train.tsz --max-tokens 65536 | rank > rank.tsz",
    opts,
    2,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE | TOOL_MODEL};

static void on_progress(void *user, int64_t done, int64_t windows)
{
    tool_progress(user, done, windows, "windows");
}

static void load(struct tool *t, struct model *m, struct model_in *in)
{
    struct err *e = tool_err(t);
    if (model_load(m, in, MODEL_TRAIN, e) || model_move(m, tool_exec(t), e) ||
        model_add_grads(m, e))
        tool_check(t);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    struct model m;
    struct scores s;
    tool_text_check(t, &text);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    tool_text_open(t, &text, 1, 0, model_in_spec(in));
    load(t, &m, in);
    struct taylor y = {.x = tool_exec(t), .m = &m, .w = &text.w, .batch_size = batch_size};
    if (taylor_plan(&y, e))
        tool_check(t);
    tool_predict_memory(t, NULL,
                        (struct memory_part[]){{"weights", (int64_t)m.weights.size, 1},
                                               {"gradients", (int64_t)m.grads.size, 0},
                                               {"activations", tape_bytes(y.tape), 0},
                                               {0}});
    if (taylor_run(&y, &s, on_progress, t, e))
        tool_check(t);
    json_t *meta = json_pack("{s:s, s:I, s:I}", "score", "taylor", "predictions",
                             (json_int_t)text.w.predictions, "batch_size", (json_int_t)batch_size);
    axes_to_json(&s.axes, meta);
    scores_write(tool_out(t, "scores", meta), &s);
    scores_free(&s);
    taylor_close(&y);
    tool_text_close(&text);
    model_free(&m);
    int status = tool_finish(t);
    model_close(in);
    return status;
}
