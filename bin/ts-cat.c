/* ts-cat: joins token streams, the calibration sums of shards, or the logits of shards. Rules:
 * lib/data/tokens.h, lib/prune/acts.h, lib/data/logits.h. */
#include <stdlib.h>
#include <string.h>

#include "../lib/prune/prune.h"
#include "../lib/data/data.h"
#include "../lib/tool/tool.h"

static int any_model;
static const struct opt opts[] = {
    {"any-model", OPT_FLAG, &any_model, NULL,
     "join logits of several models, such as stages of a teacher in training", 0},
    {0}};

static const struct tool_desc desc = {
    .name = "ts-cat",
    .operands = "FILE...",
    .summary = "Join token streams of one tokenizer, activation sums or logits of one model.",
    .description =
        "Token streams are concatenated; their rows must have the same length. Activation sums are "
        "merged into what one calibration over all sequences would have given. Logits of shards "
        "(dump-logits --first-window) are joined in the order given. One FILE may be -. "
        "Memory does not grow with the number of tokens.\n\nRefuses other kinds of streams, "
        "different tokenizers or models, and a shard that appears twice.",
    .example = "  ts-cat acts-1.tsz acts-2.tsz | score-importance > scores.tsz",
    .opts = opts,
    .min_operands = 1,
    .max_operands = -1,
    .uses = TOOL_OUTPUT,
};

static void join_tokens(struct tool *t, struct st_in *const *in, int n)
{
    json_t *meta = tokens_join_meta(in, n, tool_err(t));
    tool_check(t);
    tokens_join(tool_out(t, "tokens", meta), in, n, tool_err(t));
}

static void join_acts(struct tool *t, struct st_in *const *in, int n)
{
    struct acts sum, next;
    struct err *e = tool_err(t);
    acts_read(&sum, in[0], e);
    tool_check(t);
    for (int i = 1; i < n; i++) {
        acts_read(&next, in[i], e);
        tool_check(t);
        acts_merge(&sum, &next, st_path(in[0]), st_path(in[i]), e);
        tool_check(t);
        acts_free(&next);
    }
    acts_write(tool_out(t, "acts", acts_meta(&sum)), &sum);
    acts_free(&sum);
}

static void join_logits(struct tool *t, struct st_in *const *in, int n)
{
    json_t *meta = logits_join_meta(in, n, any_model, tool_err(t));
    tool_check(t);
    logits_join(tool_out(t, "logits", meta), in, n, tool_err(t));
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    int n = tool_operands(t);
    struct st_in **in = mem_alloc((size_t)n * sizeof *in);
    const char *kind = NULL;
    for (int i = 0; i < n; i++) {
        in[i] = tool_in(t, tool_operand(t, i), kind);
        kind = json_string_value(json_object_get(st_head(in[0]), "kind"));
        if (strcmp(kind, "tokens") && strcmp(kind, "acts") && strcmp(kind, "logits"))
            tool_die(t, "%s is a stream of kind \"%s\"; only tokens, acts and logits can be joined",
                     st_path(in[0]), kind);
    }
    if (any_model && strcmp(kind, "logits"))
        tool_usage(t, "--any-model is for logits, not for %s", kind);
    if (!strcmp(kind, "tokens"))
        join_tokens(t, in, n);
    else if (!strcmp(kind, "logits"))
        join_logits(t, in, n);
    else
        join_acts(t, in, n);
    tool_check(t);
    for (int i = 0; i < n; i++)
        st_close(in[i]);
    free(in);
    return tool_finish(t);
}
