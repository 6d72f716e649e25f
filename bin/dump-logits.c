/* dump-logits: a model's logits at every position. Model and tokens in; a stream of kind "logits"
 * out: for each sequence a record `logits.I`, f32 [tokens, vocabulary]. One sequence at a time, so
 * memory does not grow with their number. */
#include <stdlib.h>

#include "../lib/data/data.h"
#include "../lib/tape/tape.h"
#include "../lib/tool/tool.h"

static int full, any_tokenizer;
static int64_t max_tokens, seq_length;

static const struct opt opts[] = {
    {"full", OPT_FLAG, &full, NULL,
     "write the logits of the whole vocabulary; required, as there is no other form yet", 0},
    {"max-tokens", OPT_INT, &max_tokens, "N",
     "stop before the sequence that would exceed N tokens; 0: no limit", OPT_FROM_0},
    {"seq-length", OPT_INT, &seq_length, "N",
     "read only the first N tokens of longer sequences; 0: N is that of the rows, or 2048 for "
     "documents, but no more than max_position_embeddings",
     OPT_FROM_0},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {0}};

static const struct tool_desc desc = {
    "dump-logits",
    "MODEL TOKENS",
    "Write a model's logits at every position of every sequence.",
    "Reads a model and a token stream; writes a stream of kind \"logits\" with a record logits.I, "
    "f32 [tokens, vocabulary], for sequence I. Row t predicts the token that follows token t. A "
    "sequence of N tokens takes 4 N V bytes for a vocabulary of V, so 100,000 tokens of a "
    "vocabulary of 49,152 take 20 GB.",
    "  dump-logits teacher/ test.tsz --full --max-tokens 4096 -o logits.tsz",
    opts,
    2,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE};

static void dump_sequence(struct tool *t, struct tape *tape, struct st_out *out,
                          const uint32_t *ids, int64_t n, int64_t index, int64_t vocab)
{
    int32_t *input = mem_alloc((size_t)n * sizeof *input);
    for (int64_t i = 0; i < n; i++)
        input[i] = ids[i] > INT32_MAX ? INT32_MAX : (int32_t)ids[i];
    struct batch b = {.n_seq = 1, .seq_len = n, .ids = input};
    tape_forward(tape, &b, tool_err(t));
    free(input);
    tool_check(t);
    struct tensor r = {.dtype = DT_F32, .ndim = 2, .shape = {n, vocab}};
    snprintf(r.name, sizeof r.name, "logits.%lld", (long long)index);
    st_put(out, &r, tape_logits(tape, 0, n));
    tool_check(t);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    if (!full)
        tool_usage(t, "--full is required: no other form of logits is supported");
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    struct st_in *tokens = tool_in(t, tool_operand(t, 1), "tokens");
    const char *tokenizer = json_string_value(json_object_get(st_head(tokens), "tokenizer_id"));
    if (!any_tokenizer)
        data_check_tokenizers(tool_operand(t, 0), model_in_spec(in)->tokenizer_id,
                              tool_operand(t, 1), tokenizer ? tokenizer : "", e);
    tool_check(t);
    struct sequences s;
    char text[200];
    struct model m;
    if (sequences_open(&s, tokens, seq_length, model_in_spec(in), e) ||
        model_load(&m, in, MODEL_FROZEN, e) || model_move(&m, tool_exec(t), e))
        tool_check(t);
    s.part.max_tokens = max_tokens;
    int64_t vocab = m.spec.vocab_size, n;
    struct tape_spec spec = {.model = &m, .n_seq = 1, .seq_len = s.max_len, .end = TAPE_LOGITS};
    struct tape *tape = tape_record(tool_exec(t), &spec, e);
    if (!tape || tape_open(tape, e))
        tool_check(t);
    tool_predict_memory(t, NULL,
                        (struct memory_part[]){{"weights", (int64_t)m.weights.size, 1},
                                               {"activations and logits", tape_bytes(tape), 0},
                                               {0}});
    struct st_out *out = tool_out(t, "logits",
                                  json_pack("{s:s, s:I, s:b}", "tokenizer_id", m.spec.tokenizer_id,
                                            "vocab_size", (json_int_t)vocab, "full", 1));
    const uint32_t *ids;
    while (sequences_next(&s, &ids, &n) > 0)
        dump_sequence(t, tape, out, ids, n, s.index - 1, vocab);
    tool_check(t);
    if (window_note(text, s.cut ? s.max_len : 0, seq_length > 0, &m.spec))
        tool_note(t, "%s", text);
    tape_close(tape);
    sequences_close(&s);
    st_close(tokens);
    model_free(&m);
    model_close(in);
    return tool_finish(t);
}
