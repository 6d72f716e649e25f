/* dump-logits: what a model says at every position of a text. Model and tokens in; a stream of kind
 * "logits" out (lib/data/logits.h). */
#include <string.h>

#include "../lib/eval/eval.h"
#include "../lib/tool/tool.h"

static struct logits_spec spec = {.temperature = 1};
static int full, any_tokenizer;
static const char *vocab_of;
static int64_t top, sample, seq_length, first, windows, batch_size, max_tokens;

static const struct opt opts[] = {
    {"What to write", OPT_GROUP, NULL, NULL, NULL, 0},
    {"sample", OPT_INT, &sample, "N",
     "N tokens drawn from the model's distribution at every position: an unbiased teacher, and the "
     "smallest",
     OPT_FROM_0},
    {"top-k", OPT_INT, &top, "K", "the K largest probabilities of every position", OPT_FROM_0},
    {"tail", OPT_FLAG, &spec.tail, NULL, "with --top-k: also the mass of all others together", 0},
    {"full", OPT_FLAG, &full, NULL, "the logits of the whole vocabulary", 0},
    {"temperature", OPT_REAL, &spec.temperature, "X",
     "softmax temperature of --sample and --top-k; kd-train must be given the same", 0},
    {"seed", OPT_INT, &spec.seed, "N",
     "seed of the draws, which otherwise depend only on their position (default 0)", OPT_FROM_0},
    {"Text", OPT_GROUP, NULL, NULL, NULL, 0},
    {"seq-length", OPT_INT, &seq_length, "N",
     "cut longer sequences into pieces of N tokens, as kd-train does; 0: N is that of the rows, or "
     "2048 for documents, but no more than max_position_embeddings",
     OPT_FROM_0},
    {"first-window", OPT_INT, &first, "N",
     "skip the first N windows; with --windows, this selects a shard, which ts-cat joins",
     OPT_FROM_0},
    {"windows", OPT_INT, &windows, "N", "at most N windows; 0: no limit", OPT_FROM_0},
    {"max-tokens", OPT_INT, &max_tokens, "N",
     "stop before the window that would exceed N tokens; 0: no limit", OPT_FROM_0},
    {"vocab-of", OPT_PATH, &vocab_of, "STUDENT",
     "a model whose vocabulary was cut from MODEL's: TOKENS are of its tokens, and MODEL predicts "
     "only these",
     0},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {"Computation", OPT_GROUP, NULL, NULL, NULL, 0},
    {"batch-size", OPT_INT, &batch_size, "N",
     "windows per forward pass; 0: as many as make about 1024 tokens", OPT_SILENT_ID | OPT_FROM_0},
    {0}};

static const struct tool_desc desc = {
    "dump-logits",
    "MODEL TOKENS",
    "Write what a model predicts at every position of a text.",
    "Reads a model and a token stream; writes a stream of kind \"logits\" with a record for each "
    "window: a sequence, or a piece of a long one. Row t predicts the token that follows token t. "
    "A vocabulary of 49,152 takes 2 bytes for an id: 24 bytes a position with --sample 12, 202 "
    "with "
    "--top-k 50 --tail, 196,608 with --full.\n\nkd-train --teacher-logits distils from the stream, "
    "and from a pipe while it is made: one teacher for several students.",
    "  dump-logits teacher/ train.tsz --sample 12 -o teacher.tsz\n"
    "  kd-train student.tsz --teacher-logits teacher.tsz --data train.tsz \\\n"
    "      --max-steps 200 -o distilled.tsz",
    opts,
    2,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE | TOOL_MODEL | TOOL_LAYERS | TOOL_WORLD};

static void resolve_options(struct tool *t)
{
    if ((sample > 0) + (top > 0) + full != 1)
        tool_usage(t, "give one of --sample N, --top-k K and --full, and only one");
    if (spec.tail && !top)
        tool_usage(t, "--tail needs --top-k, of which it is the rest");
    if (sample + top > LOGITS_MOST)
        tool_usage(t, "--sample and --top-k must be from 1 to %d, not %lld", LOGITS_MOST,
                   (long long)(sample + top));
    if (!(spec.temperature >= 1e-3 && spec.temperature <= 1e3))
        tool_usage(t, "--temperature must be from 0.001 to 1000, not %g", spec.temperature);
    if (full && spec.temperature != 1)
        tool_usage(t, "--temperature has no effect on --full: kd-train divides logits by its own");
    if (!sample && spec.seed)
        tool_usage(t, "--seed has no effect without --sample");
    if (vocab_of && any_tokenizer)
        tool_usage(t,
                   "--vocab-of matches tokens by their texts, --any-tokenizer by their ids: leave "
                   "one out");
    if (seq_length == 1)
        tool_usage(t, "--seq-length must be at least 2 to predict a token, not 1");
    spec.form = full ? LOGITS_FULL : LOGITS_SAMPLE;
    if (top)
        spec.form = LOGITS_TOP;
    spec.n = sample + top;
    spec.first = first;
    spec.count = windows;
}

/* MODEL, of whose tokens only those of --vocab-of are used. */
static struct model_in *open_model(struct tool *t)
{
    const char *name = tool_operand(t, 0);
    struct model_in *in = tool_model(t, name);
    if (!vocab_of)
        return in;
    struct model_in *student = tool_model(t, vocab_of);
    in = tool_model_among(t, in, name, student, vocab_of);
    const struct model_spec *h = model_in_spec(in), *to = model_in_spec(student);
    if (h->vocab_size != to->vocab_size || strcmp(h->tokenizer_id, to->tokenizer_id))
        tool_die(t, "the vocabulary of %s is neither that of %s nor a part of it", vocab_of, name);
    model_close(student);
    return in;
}

static void progress(void *user, int64_t done, int64_t total)
{
    tool_progress(user, done, total, tool_streams_layers(user) ? "sections" : "windows");
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    struct tokens tokens;
    struct model m;
    char text[200];
    resolve_options(t);
    struct model_in *in = open_model(t);
    struct st_in *tokens_in = tool_in(t, tool_operand(t, 1), "tokens");
    if (tokens_load(&tokens, tokens_in, 0, e) ||
        data_check_model(&tokens, tool_operand(t, 1), model_in_spec(in), tool_operand(t, 0),
                         any_tokenizer, e))
        tool_check(t);
    st_close(tokens_in);
    if (top > model_in_spec(in)->vocab_size)
        tool_usage(t, "--top-k %lld exceeds the vocabulary of %lld tokens", (long long)top,
                   (long long)model_in_spec(in)->vocab_size);
    tool_load(t, &m, in);
    struct dump *d = dump_open(tool_exec(t), &m, &tokens, &spec, seq_length, batch_size, max_tokens,
                               e);
    tool_check(t);
    tool_predict_batches(
        t, NULL,
        (struct memory_part[]){tool_weights(&m), {"activations and logits", dump_bytes(d), 0}, {0}},
        dump_batches(d));
    if (window_note(text, spec.seq_length, seq_length > 0, &m.spec))
        tool_note(t, "%s", text);
    if (dump_run(d, tool_out(t, "logits", logits_meta(&spec)), progress, t, e))
        tool_check(t);
    dump_close(d);
    tokens_free(&tokens);
    model_free(&m);
    model_close(in);
    return tool_finish(t);
}
