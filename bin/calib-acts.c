/* calib-acts: one forward pass over calibration text gives sums of every unit's activity (kind
 * "acts"), from which every kind of score can be computed. */
#include <stdlib.h>

#include "../lib/prune/prune.h"
#include "../lib/data/data.h"
#include "../lib/tool/tool.h"

static int64_t max_tokens, first, sequences, seq_length, batch_size, block_size;
static int any_tokenizer;

static const struct opt opts[] = {
    {"Text", OPT_GROUP, NULL, NULL, NULL, 0},
    {"max-tokens", OPT_INT, &max_tokens, "N",
     "stop before the sequence that would exceed N tokens; 0: no limit", OPT_FROM_0},
    {"first-sequence", OPT_INT, &first, "N",
     "skip the first N sequences; with --sequences, this selects one shard of a token stream",
     OPT_FROM_0},
    {"sequences", OPT_INT, &sequences, "N", "use at most N sequences; 0: no limit", OPT_FROM_0},
    {"seq-length", OPT_INT, &seq_length, "N",
     "read only the first N tokens of longer sequences; 0: N is that of the rows, or 2048 for "
     "documents, but no more than max_position_embeddings",
     OPT_FROM_0},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {"Sums", OPT_GROUP, NULL, NULL, NULL, 0},
    {"block-size", OPT_INT, &block_size, "N",
     "measure contiguous blocks of up to N layers; 0: of every length up to 32", OPT_FROM_0},
    {"Computation", OPT_GROUP, NULL, NULL, NULL, 0},
    {"batch-size", OPT_INT, &batch_size, "N",
     "sequences per forward pass; 0: as many as make about 1024 tokens",
     OPT_SILENT_ID | OPT_FROM_0},
    {0}};

static const struct tool_desc desc = {
    "calib-acts",
    "MODEL TOKENS",
    "Sum the activations of every unit of a model over calibration text.",
    "Reads a model and a token stream; writes activation sums. One forward pass, without the "
    "output head, serves every axis, aggregation and target shape: FFN neurons, heads, KV groups, "
    "hidden channels, layers and contiguous blocks of layers. Each sequence is one sample. Memory "
    "does not grow with the number of samples.\n\nParts of the text may be summed separately and "
    "joined with ts-cat, which refuses to count a part twice.",
    "  calib-acts teacher/ train.tsz --max-tokens 500000 |\n      score-importance | rank > "
    "rank.tsz",
    opts,
    2,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE};

struct job {
    struct tool *t;
    struct calibration *c;
    int32_t *ids;
    /* sequences in the batch so far, their common length, the most in a batch */
    int64_t n_seq, len, room;
    int64_t end; /* one past the last sequence taken */
    int64_t vocab_size;
};

static void run_batch(struct job *j)
{
    struct batch b = {.n_seq = j->n_seq, .seq_len = j->len, .ids = j->ids};
    if (j->n_seq && calibrate_batch(j->c, &b, tool_err(j->t)))
        tool_check(j->t);
    j->n_seq = 0;
}

static void add_sequence(struct job *j, const struct sequences *s, const uint32_t *ids, int64_t n)
{
    if (sequences_check(s, ids, n, j->vocab_size))
        tool_check(j->t);
    if (j->n_seq == j->room || n != j->len)
        run_batch(j);
    j->len = n;
    for (int64_t i = 0; i < n; i++)
        j->ids[j->n_seq * n + i] = (int32_t)ids[i];
    j->n_seq++;
    j->end = s->index;
}

static void run_all(struct job *j, struct sequences *s)
{
    const uint32_t *ids;
    int64_t n, total = s->rows_left * s->row_len;
    if (max_tokens && (max_tokens < total || s->record.ndim == 1))
        total = max_tokens;
    while (sequences_next(s, &ids, &n) > 0) {
        add_sequence(j, s, ids, n);
        tool_progress(j->t, s->tokens, total > s->tokens ? total : s->tokens + 1, "tokens");
    }
    tool_check(j->t);
    run_batch(j);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    struct st_in *tokens = tool_in(t, tool_operand(t, 1), "tokens");
    const struct model_spec *h = model_in_spec(in);
    const char *tokenizer = json_string_value(json_object_get(st_head(tokens), "tokenizer_id"));
    if (!any_tokenizer && data_check_tokenizers(tool_operand(t, 0), h->tokenizer_id,
                                                tool_operand(t, 1), tokenizer ? tokenizer : "", e))
        tool_check(t);
    if (block_size > h->num_hidden_layers)
        tool_die(t, "--block-size %lld exceeds the model's %lld layers", (long long)block_size,
                 (long long)h->num_hidden_layers);
    struct sequences s;
    char text[200];
    struct model m;
    if (sequences_open(&s, tokens, seq_length, h, e) || model_load(&m, in, MODEL_FROZEN, e) ||
        model_move(&m, tool_exec(t), e))
        tool_check(t);
    s.part = (struct sequences_part){first, sequences, max_tokens};
    struct job j = {.t = t, .vocab_size = m.spec.vocab_size, .room = batch_size};
    if (!j.room)
        j.room = s.max_len < 1024 ? 1024 / s.max_len : 1;
    if (s.max_len > INT32_MAX || j.room > INT32_MAX / s.max_len)
        tool_usage(t,
                   "a forward pass of %lld sequences of %lld tokens is too large for memory: lower "
                   "--batch-size or --seq-length",
                   (long long)j.room, (long long)s.max_len);
    int64_t most = m.spec.num_hidden_layers < 32 ? m.spec.num_hidden_layers : 32;
    if (!(j.c = calibrate_open(tool_exec(t), &m, j.room, s.max_len, block_size ? block_size : most,
                               e)))
        tool_check(t);
    tool_predict_memory(t, NULL,
                        (struct memory_part[]){{"weights", (int64_t)m.weights.size, 1},
                                               {"activations and sums", calibrate_bytes(j.c), 0},
                                               {0}});
    j.ids = mem_alloc((size_t)(j.room * s.max_len) * sizeof *j.ids);
    run_all(&j, &s);
    struct acts *a = calibrate_acts(j.c);
    const char *id = json_string_value(json_object_get(st_head(tokens), "id"));
    json_array_append_new(
        a->shards, json_pack("[s, I, I]", id ? id : "", (json_int_t)first, (json_int_t)j.end));
    if (window_note(text, s.cut ? s.max_len : 0, seq_length > 0, &m.spec))
        tool_note(t, "%s", text);
    tool_note(t, "%lld samples, %lld positions", (long long)a->samples, (long long)a->positions);
    acts_write(tool_out(t, "acts", acts_meta(a)), a);
    calibrate_close(j.c);
    sequences_close(&s);
    st_close(tokens);
    model_close(in);
    model_free(&m);
    free(j.ids);
    return tool_finish(t);
}
