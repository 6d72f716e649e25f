/* probe-layers: the loss without each layer, or without each contiguous block of layers (kind
 * "scores", with only the layers' entry). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/eval/eval.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static const char *block = "1", *row_bos = "auto";
static int64_t max_tokens, seq_length, context, batch_size;
static int table, any_tokenizer;

static const struct opt opts[] = {
    {"block-size", OPT_TEXT, &block, "N|all",
     "remove every contiguous block of N layers in turn; all: blocks of every length", 0},
    {"max-tokens", OPT_INT, &max_tokens, "N", "use only the first N tokens; 0: no limit",
     OPT_FROM_0},
    {"context", OPT_INT, &context, "N",
     "join the sequences and cut the result into windows of N tokens; 0: do not join them",
     OPT_FROM_0},
    {"seq-length", OPT_INT, &seq_length, "N",
     "cut longer sequences into windows of N tokens; 0: N is that of the rows, or 2048 for "
     "documents, but no more than max_position_embeddings",
     0},
    {"row-bos", OPT_TEXT, &row_bos, "auto|yes|no",
     "whether windows that begin inside a text begin with a BOS token; auto: if the tokenizer "
     "puts one before a text",
     0},
    {"batch-size", OPT_INT, &batch_size, "N",
     "windows per forward pass; 0: as many as make about 1024 tokens", OPT_SILENT_ID | OPT_FROM_0},
    {"table", OPT_FLAG, &table, NULL, "also print the losses to standard error, lowest first",
     OPT_SILENT_ID},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {0}};

static const struct tool_desc desc = {
    "probe-layers",
    "MODEL TOKENS",
    "Score layers by the loss of the model without them.",
    "Reads a model and a token stream; writes scores of num_hidden_layers: by how much the mean "
    "loss increases without each layer. With blocks of N layers, the score of a layer is the "
    "smallest increase among the blocks that contain it, so the N layers ranked last are the best "
    "block to drop.\n\nGive the result to rank after the other scores. The losses without each "
    "block are in the record nll_without.",
    "  probe-layers teacher/ valid.tsz --max-tokens 16384 > probe.tsz\n  rank scores.tsz probe.tsz "
    "> rank.tsz",
    opts,
    2,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE};

static void block_lengths(struct tool *t, struct probe *p, int64_t layers)
{
    char *end;
    if (layers < 2)
        tool_die(t, "%s has only one layer, so there is none to remove", tool_operand(t, 0));
    p->shortest = p->longest = strtoll(block, &end, 10);
    if (!strcmp(block, "all")) {
        p->shortest = 1;
        p->longest = layers - 1;
    } else if (*end || end == block || p->shortest < 1)
        tool_usage(t, "--block-size must be a number from 1, or all, not \"%s\"", block);
    else if (p->longest >= layers)
        tool_die(t, "--block-size %s leaves none of the model's %" PRId64 " layers", block, layers);
}

struct block {
    int64_t first, n;
    double loss;
};

static int by_loss(const void *a, const void *b)
{
    double x = ((const struct block *)a)->loss, y = ((const struct block *)b)->loss;
    return (x > y) - (x < y);
}

static void print_table(const struct probe *p)
{
    struct block *all = mem_alloc((size_t)(p->longest * p->layers) * sizeof *all);
    int64_t count = 0;
    for (int64_t n = p->shortest; n <= p->longest; n++)
        for (int64_t i = 0; i + n <= p->layers; i++)
            all[count++] = (struct block){i, n, p->without[(n - 1) * p->layers + i]};
    qsort(all, (size_t)count, sizeof *all, by_loss);
    fprintf(stderr, "%-16s %12s %12s\n%-16s %12.5f\n", "layers removed", "nats/token", "increase",
            "none", p->base);
    for (int64_t i = 0; i < count; i++) {
        char name[48];
        if (all[i].n == 1)
            snprintf(name, sizeof name, "%" PRId64, all[i].first);
        else
            snprintf(name, sizeof name, "%" PRId64 "-%" PRId64, all[i].first,
                     all[i].first + all[i].n - 1);
        fprintf(stderr, "%-16s %12.5f %12.5f\n", name, all[i].loss, all[i].loss - p->base);
    }
    free(all);
}

static void write_scores(struct tool *t, const struct probe *p, const struct model_spec *h)
{
    struct axes a;
    struct scores s;
    struct tensor record = {
        .name = "nll_without", .dtype = DT_F64, .ndim = 2, .shape = {p->longest, p->layers}};
    json_t *meta = json_pack("{s:f, s:I, s:s}", "nll", p->base, "predictions",
                             (json_int_t)p->predictions, "block_size", block);
    axes_from_model(&a, h);
    axes_to_json(&a, meta);
    scores_open(&s, &a);
    probe_scores(p, scores_axis(&s, AXIS_L, -1));
    struct st_out *out = tool_out(t, "scores", meta);
    scores_write(out, &s);
    st_put(out, &record, p->without);
    scores_free(&s);
    axes_free(&a);
}

static void on_progress(void *user, int64_t done, int64_t rows)
{
    tool_progress(user, done, rows, "windows");
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t), usage = {0};
    struct probe p = {0};
    struct model m;
    struct tokens tokens;
    struct windows w;
    char text[200];
    struct window_options asked = {.context = context, .seq_length = seq_length};
    if (row_bos_check(row_bos, &usage) || window_options_check(&asked, &usage))
        tool_usage(t, "%s", usage.msg);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    struct st_in *st = tool_in(t, tool_operand(t, 1), "tokens");
    block_lengths(t, &p, model_in_spec(in)->num_hidden_layers);
    if (tokens_load(&tokens, st, max_tokens, e) ||
        tokens_check(&tokens, model_in_spec(in)->vocab_size, tool_operand(t, 1), e))
        tool_check(t);
    if (!any_tokenizer && data_check_tokenizers(tool_operand(t, 0), model_in_spec(in)->tokenizer_id,
                                                tool_operand(t, 1), tokens.tokenizer_id, e))
        tool_check(t);
    struct window_options o = {.context = context};
    if (!context)
        o.seq_length = window_length_of(&tokens, seq_length, model_in_spec(in));
    if (window_note(text, context + o.seq_length, context || seq_length, model_in_spec(in)))
        tool_note(t, "%s", text);
    if (row_bos_of_stream(&o.bos, tokens.head, row_bos, model_in_spec(in), e) ||
        (context && row_bos_check_join(tokens.head, tool_operand(t, 1), e)) ||
        windows_open(&w, &tokens, &o, e) || model_load(&m, in, MODEL_FROZEN, e) ||
        model_move(&m, tool_exec(t), e))
        tool_check(t);
    if (w.bos_added)
        tool_note(t, "%lld of %lld windows begin with an added BOS token (--row-bos %s)",
                  (long long)w.bos_added, (long long)w.n, row_bos);
    if (probe_run(&p, tool_exec(t), &m, &w, batch_size, on_progress, t, e))
        tool_check(t);
    if (table)
        print_table(&p);
    write_scores(t, &p, &m.spec);
    probe_close(&p);
    windows_close(&w);
    tokens_free(&tokens);
    st_close(st);
    model_free(&m);
    int status = tool_finish(t);
    model_close(in);
    return status;
}
