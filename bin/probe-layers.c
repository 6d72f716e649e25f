/* probe-layers: the loss, divergence or accuracy without each layer, or without each contiguous
 * block of layers (kind "scores", with only the layers' entry); or what each smaller variant of a
 * layer costs the whole model (JSON Lines). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/file_out.h"
#include "../lib/base/turns.h"
#include "../lib/eval/eval.h"
#include "../lib/prune/prune.h"
#include "../lib/tool/tool.h"

static const char *block = "1", *by = "auto", *items_name, *words, *rank_name;
static int64_t rounds, limit, batch_size;
static int table, resume;
static struct tool_text text = {.row_bos = "auto"};

static const struct opt opts[] = {
    {"What is measured", OPT_GROUP, NULL, NULL, NULL, 0},
    {"block-size", OPT_TEXT, &block, "N|all",
     "remove every contiguous block of N layers in turn; all: blocks of every length", 0},
    {"by", OPT_TEXT, &by, "auto|loss|kl|accuracy",
     "what counts: by how much the mean loss increases, by how much predictions diverge from the "
     "whole model's, or by how much accuracy drops; auto: loss, or accuracy with --choices",
     0},
    {"choices", OPT_PATH, &items_name, "FILE",
     "instead of TOKENS, multiple choice, as eval-choice takes it", 0},
    {"limit", OPT_INT, &limit, "N", "use only the first N items of --choices; 0: all", OPT_FROM_0},
    {"greedy", OPT_INT, &rounds, "N",
     "remove the least harmful layer, or block, score what is left, and so on, for N rounds",
     OPT_FROM_1},
    {"variants", OPT_TEXT, &words, "WORDS",
     "replace each layer in turn by each smaller variant of itself, and measure the whole model's "
     "output. WORDS: drop-attention, drop-mlp, drop-layers, and lists of sizes such as "
     "intermediate-size=256,512 or num-key-value-heads=1, separated by spaces",
     0},
    {"rank", OPT_PATH, &rank_name, "FILE",
     "which units the variants keep; without it the first ones, as in a sorted model", 0},
    {"resume", OPT_FLAG, &resume, NULL,
     "with --variants -o FILE, continue the run whose results are in FILE.partial", OPT_SILENT_ID},
    {"table", OPT_FLAG, &table, NULL, "also print the losses to standard error, lowest first",
     OPT_SILENT_ID},
    {"Text", OPT_GROUP, NULL, NULL, NULL, 0},
    TEXT_OPTIONS(text),
    {"batch-size", OPT_INT, &batch_size, "N",
     "windows or items per forward pass; 0: as many as make about 1024 tokens",
     OPT_SILENT_ID | OPT_FROM_0},
    {0}};

static const struct tool_desc desc = {
    "probe-layers",
    "MODEL TOKENS|--choices FILE",
    "Score layers by what the model loses without them, or with smaller ones.",
    "Reads a model and a token stream; writes scores of num_hidden_layers: by how much the mean "
    "loss increases without each layer. With blocks of N layers, the score of a layer is the "
    "smallest increase among the blocks that contain it, so the N layers ranked last are the best "
    "block to drop.\n\nGive the result to rank after the other scores. The losses without each "
    "block are in the record nll_without, or, by divergence or accuracy, in kl_without or "
    "acc_without. With --greedy, a layer's score is what the model of the last round loses "
    "without it; those removed are ranked last, the first of them at the very end, and are in the "
    "records removed and nll_removed, kl_removed or acc_removed.\n\nWith --variants, writes JSON "
    "Lines instead, a line for each layer and variant: kl, by how much the next token's "
    "distribution diverges from the model's (nats), nll, and same_top1, how often both expect the "
    "same token. Only that layer is changed, exactly as slice-model would. What has been measured "
    "is in FILE.partial, with -o FILE, after every batch of windows, as a table of those windows.",
    "  probe-layers teacher/ valid.tsz --max-tokens 16384 > probe.tsz\n  rank scores.tsz probe.tsz "
    "> rank.tsz\n  probe-layers teacher/ valid.tsz --rank rank.tsz -o variants.jsonl --resume "
    "\\\n      --variants 'drop-attention drop-mlp intermediate-size=512,1024'",
    opts,
    1,
    2,
    TOOL_OUTPUT | TOOL_COMPUTE | TOOL_MODEL | TOOL_WORLD};

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
    if (rounds && rounds > (layers - 1) / p->longest)
        tool_die(t, "--greedy %" PRId64 " removes %.0f layers in all, and the model has %" PRId64,
                 rounds, (double)rounds * (double)p->longest, layers);
}

/* ---- scores */

static void on_progress(void *user, int64_t done, int64_t all)
{
    tool_progress(user, done, all, items_name ? "tokens" : "windows");
}

static struct st_out *begin_scores(struct tool *t, enum probe_by by_what, double base,
                                   const struct probe_text *on, const struct axes *a)
{
    json_t *meta = probe_meta(by_what, base, on, a);
    json_object_set_new(meta, "block_size", json_string(block));
    return tool_out(t, "scores", meta);
}

static void probe_blocks(struct tool *t, struct probe *p, struct model *m,
                         const struct probe_text *on, const struct axes *a)
{
    probe_run(p, m, on, tool_err(t));
    tool_check(t);
    if (table && turns_end_here())
        probe_print(stderr, p);
    probe_write(begin_scores(t, p->by, p->base, on, a), p, a);
    probe_close(p);
}

static void remove_greedily(struct tool *t, const struct probe *p, struct model *m,
                            const struct probe_text *on, const struct axes *a)
{
    struct greedy g = {.by = p->by, .rounds = rounds, .length = p->longest};
    greedy_run(&g, m, on, tool_err(t));
    tool_check(t);
    if (table && turns_end_here())
        greedy_print(stderr, &g);
    greedy_write(begin_scores(t, g.by, g.base, on, a), &g, a);
    greedy_close(&g);
}

/* ---- variants */

struct table {
    struct tool *t;
    struct rank rank;
    struct variants v;
    json_t *head;
    char *partial; /* NULL: the output is no file */
};

static void check_rank(const struct table *b, const struct model_spec *h)
{
    struct axes a;
    axes_from_model(&a, h);
    axes_same(&a, &b->rank.axes, 1, tool_operand(b->t, 0), rank_name, tool_err(b->t));
    tool_check(b->t);
    axes_free(&a);
}

static void read_variants(struct table *b, const struct model_spec *h)
{
    struct err *e = tool_err(b->t);
    if (rank_name) {
        struct st_in *in = tool_in(b->t, rank_name, "rank");
        rank_read(&b->rank, in, e);
        tool_check(b->t);
        check_rank(b, h);
        st_close(in);
    }
    if (variants_open(&b->v, words, h, rank_name ? &b->rank : NULL, rank_name, e))
        tool_die(b->t, "--variants: %s", e->msg);
}

static void on_measured(void *user)
{
    struct table *b = user;
    if (b->partial)
        variants_save(&b->v, b->head, b->partial, tool_err(b->t));
    tool_check(b->t);
}

static void on_variant(void *user, int64_t done, int64_t all)
{
    tool_progress(((struct table *)user)->t, done, all, "variants of windows");
}

static void table_open(struct table *b, const struct model *m, const struct windows *w,
                       const struct tokens *tokens)
{
    struct tool *t = b->t;
    const char *output = tool_output(t);
    if (turns_end_here() && output && file_is_replaced(output))
        b->partial = mem_format("%s.partial", output);
    b->head = tool_head(t, "variants",
                        json_pack("{s:s, s:s, s:s}", "model_id", m->spec.id, "model_digest",
                                  m->spec.digest, "tokens_id", tokens->id));
    if (resume && b->partial && !access(b->partial, F_OK))
        variants_read(&b->v, b->head, w->n, b->partial, tool_err(t));
    tool_check(t);
    if (b->v.windows)
        tool_note(t, "continuing after %lld windows", (long long)b->v.windows);
}

static void probe_variants(struct table *b, struct model *m, const struct windows *w,
                           const struct tokens *tokens)
{
    struct tool *t = b->t;
    if (rank_name)
        check_rank(b, &m->spec); /* now that its values have been read */
    table_open(b, m, w, tokens);
    struct variants_run run = {.x = tool_exec(t),
                               .m = m,
                               .rank = rank_name ? &b->rank : NULL,
                               .rank_path = rank_name,
                               .w = w,
                               .batch_size = batch_size,
                               .progress = on_variant,
                               .measured = on_measured,
                               .user = b};
    int64_t bytes = variants_bytes(&run, tool_err(t));
    tool_check(t);
    tool_predict_memory(t, NULL,
                        (struct memory_part[]){{"weights", (int64_t)m->weights.size, 1},
                                               {"activations and logits", bytes, 0},
                                               {0}});
    const char *output = tool_output(t) ? tool_output(t) : "-";
    variants_run(&b->v, &run, tool_err(t));
    tool_check(t);
    if (turns_end_here())
        variants_save(&b->v, b->head, output, tool_err(t));
    tool_check(t);
    if (b->partial)
        unlink(b->partial);
    json_decref(b->head);
    free(b->partial);
    variants_close(&b->v);
    rank_free(&b->rank);
}

/* ---- model and text */

static void check_usage(struct tool *t)
{
    tool_text_check(t, &text);
    if (!words && (rank_name || resume))
        tool_usage(t, "--%s is for --variants", rank_name ? "rank" : "resume");
    if (words && (table || rounds || items_name || strcmp(block, "1") || strcmp(by, "auto")))
        tool_usage(t, "--variants goes with none of --table, --block-size, --greedy, --by and "
                      "--choices");
    if (rounds && !strcmp(block, "all"))
        tool_usage(t, "--greedy removes blocks of one length: give it with --block-size N");
    if (resume && (!tool_output(t) || !file_is_replaced(tool_output(t))))
        tool_usage(t, "--resume needs -o FILE, beside which FILE.partial is");
}

static void check_source(struct tool *t)
{
    if (!items_name && tool_operands(t) < 2)
        tool_usage(t, "TOKENS is missing; or give items with --choices FILE");
    if (items_name && (tool_operands(t) > 1 || text.max_tokens || text.context || text.seq_length))
        tool_usage(t, "--choices FILE takes the place of TOKENS and the options of its windows");
    if (!items_name && limit)
        tool_usage(t, "--limit is for --choices");
}

static enum probe_by read_by(struct tool *t)
{
    int way = probe_way_find(by);
    if (!strcmp(by, "auto"))
        way = items_name ? PROBE_ACCURACY : PROBE_NLL;
    if (way < 0)
        tool_usage(t, "--by must be auto, loss, kl or accuracy, not \"%s\"", by);
    if ((way == PROBE_ACCURACY) != (items_name != NULL))
        tool_usage(t, "--by %s is measured on %s", by,
                   items_name ? "TOKENS, not on --choices" : "items: give --choices FILE");
    return (enum probe_by)way;
}

struct source {
    struct choice_items items;
    struct choices *choices; /* NULL: windows */
};

static void source_open(struct tool *t, struct source *s, struct model_in *in)
{
    if (!items_name) {
        tool_text_open(t, &text, 1, 0, model_in_spec(in));
        return;
    }
    tool_stdin_once(t, items_name);
    if (!choice_items_read(&s->items, items_name, limit, tool_err(t)))
        s->choices = choices_open(&s->items, NULL, 0, in, tool_err(t));
    tool_check(t);
    tool_parent(t, items_name, s->items.digest);
}

static void source_close(struct source *s)
{
    if (s->choices) {
        choices_close(s->choices);
        choice_items_free(&s->items);
        return;
    }
    tool_text_close(&text);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct table variants = {.t = t};
    struct source s = {0};
    struct model m;
    check_usage(t);
    check_source(t);
    struct probe p = {.by = read_by(t)};
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    if (words)
        read_variants(&variants, model_in_spec(in));
    else
        block_lengths(t, &p, model_in_spec(in)->num_hidden_layers);
    source_open(t, &s, in);
    tool_load(t, &m, in);
    struct axes a;
    axes_from_model(&a, &m.spec);
    struct probe_text on = {tool_exec(t), &text.w, s.choices, batch_size, on_progress, t};
    if (words)
        probe_variants(&variants, &m, &text.w, &text.tokens);
    else if (rounds)
        remove_greedily(t, &p, &m, &on, &a);
    else
        probe_blocks(t, &p, &m, &on, &a);
    axes_free(&a);
    source_close(&s);
    model_free(&m);
    int status = tool_finish(t);
    model_close(in);
    return status;
}
