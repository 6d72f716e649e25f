/* score-vocab: counts how often texts use each token of a model's vocabulary (kind "scores"). */
#include <stdlib.h>

#include "../lib/data/data.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static int any_tokenizer;

static const struct opt opts[] = {
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {0}};

static const struct tool_desc desc = {
    "score-vocab",
    "MODEL TOKENS...",
    "Score the tokens of a vocabulary by how often texts use them.",
    "Reads token streams, and of the model only its tokenizer and sizes; writes a score for every "
    "token: how often it occurs, by itself or inside others. A token is made by merging two, and "
    "these from others still; without it, each of its uses becomes those two. So the tokens with "
    "the highest scores are those that keep the text shortest, and none is scored below one that "
    "it is part of. Tokens of a Unigram model stand by themselves: they are removed one by one, "
    "the one with the fewest uses first, and its uses become uses of those that take its place."
    "\n\n"
    "The scores are for rank, which joins them with those of the other axes, "
    "and slice-model --vocab-size cuts by them. Take much text, of every kind that the model is "
    "to read and write: no forward pass is needed, and a token that does not occur is cut first. "
    "Refuses tokenizers that neither work on bytes nor fall back to them, and Unigram models "
    "without an unknown token.",
    "  rank scores.tsz <(score-vocab teacher/ train.tsz) > rank.tsz",
    opts,
    2,
    -1,
    TOOL_OUTPUT | TOOL_MODEL};

enum { BLOCK = 1 << 16 };

static void count(struct tool *t, const struct tokens *text, double *counts)
{
    uint32_t *ids = mem_alloc(BLOCK * sizeof *ids);
    for (int64_t at = 0, n; at < text->total; at += n) {
        n = text->total - at < BLOCK ? text->total - at : BLOCK;
        if (tokens_read(text, TOKEN_IDS, at, n, ids, tool_err(t)))
            tool_check(t);
        for (int64_t i = 0; i < n; i++)
            counts[ids[i]]++;
        tool_progress(t, at + n, text->total, "tokens");
    }
    free(ids);
}

static int64_t count_stream(struct tool *t, const struct model_spec *h, const char *path,
                            double *counts)
{
    struct tokens text;
    struct st_in *in = tool_in(t, path, "tokens");
    tokens_load(&text, in, 0, tool_err(t));
    tool_check(t);
    st_close(in);
    data_check_model(&text, path, h, tool_operand(t, 0), any_tokenizer, tool_err(t));
    tool_check(t);
    count(t, &text, counts);
    int64_t n = text.total;
    tokens_free(&text);
    return n;
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct vocab vocab;
    struct axes a;
    struct scores s;
    int64_t n = 0, used = 0;
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    const struct model_spec *h = model_in_spec(in);
    vocab_open(&vocab, in, tool_operand(t, 0), NULL, tool_err(t));
    tool_check(t);
    axes_from_model(&a, h);
    axes_add_vocab(&a, h);
    scores_open(&s, &a);
    double *counts = scores_axis(&s, AXIS_V, -1);
    for (int i = 1; i < tool_operands(t); i++)
        n += count_stream(t, h, tool_operand(t, i), counts);
    for (int64_t id = 0; id < vocab.size; id++)
        used += counts[id] > 0;
    tool_note(t, "%lld tokens of text use %lld of the %lld tokens of the vocabulary", (long long)n,
              (long long)used, (long long)vocab.tokens);
    vocab_spread(&vocab, counts);
    json_t *meta = json_pack("{s:s, s:I}", "score", "uses", "tokens", (json_int_t)n);
    axes_to_json(&a, meta);
    tool_identify(t, "tokenizer_id", json_string(h->tokenizer_id));
    scores_write(tool_out(t, "scores", meta), &s);
    axes_free(&a);
    scores_free(&s);
    vocab_close(&vocab);
    model_close(in);
    return tool_finish(t);
}
