/* slice-model: cuts a model to a target shape by a rank, or drops named layers. One pass in
 * constant memory; with --sort and --merge-heads, a matrix; with --repair, a layer of both models;
 * with --verify, both models, or with --stream-layers a layer of both. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/hf/hf.h"
#include "../lib/tool/tool.h"
#include "../lib/prune/prune.h"

static struct slice_options shape;
static struct budget_options wanted;
static const char *rank_name, *verify_name, *merge_heads, *drop_added;
static int64_t verify_tokens = 64;
static const struct tool_repair repair_defaults = {.tokens = 16384, .ridge = 0.01};
static struct tool_repair repair;
static int any_model, dry_run;
static struct vocab vocab;
/* of the values of the model that was ranked; "": not known, or not to be compared */
static char ranked[ST_DIGEST];

static const struct opt last[] = {
    {"drop-layers", OPT_TEXT, &shape.drop_layers, "LIST",
     "remove these layers; for example 3,12-19", 0},
    {"drop-attention", OPT_TEXT, &shape.drop_attention, "LIST",
     "remove only the attention of these layers", 0},
    {"drop-mlp", OPT_TEXT, &shape.drop_mlp, "LIST", "remove only the MLP of these layers", 0},
    {"drop-added", OPT_TEXT, &drop_added, "PATTERN",
     "with --vocab-size: added tokens such as '<unused*>' that need not stay", 0},
    {"Budget (chooses sizes instead; the history records those)", OPT_GROUP, NULL, NULL, NULL, 0},
    {"parameters", OPT_TEXT, &wanted.parameters, "N",
     "the largest shape of at most N parameters, such as 100M or 1.5e9", OPT_SILENT_ID},
    {"ratio", OPT_TEXT, &wanted.ratio, "R",
     "of at most this share of the model's parameters, such as 0.5 or 50%", OPT_SILENT_ID},
    {"bytes", OPT_TEXT, &wanted.bytes, "N",
     "of at most N bytes of weights in the dtypes that are written (see --dtype), such as 200MB",
     OPT_SILENT_ID},
    {"axes", OPT_TEXT, &wanted.axes, "LIST",
     "the axes that may shrink: of ffn (intermediate-size), hidden (hidden-size), layers "
     "(num-hidden-layers), vocab (vocab-size), heads (num-attention-heads) or kv-heads "
     "(num-key-value-heads); in mixtures of experts experts, expert-ffn and shared-ffn; and "
     "with Mamba layers mamba-head-dim, mamba-heads (mamba-num-heads) or mamba-groups "
     "(mamba-num-groups) (default ffn,expert-ffn,hidden)",
     OPT_SILENT_ID},
    {"multiple-of", OPT_INT, &wanted.multiple_of, "N",
     "widths of FFNs, hidden and vocab become multiples of N (default 32, a block of GGUF's "
     "quantised types)",
     OPT_SILENT_ID | OPT_FROM_1},
    {"Order", OPT_GROUP, NULL, NULL, NULL, 0},
    {"sort", OPT_FLAG, &shape.sort, NULL,
     "write the units of every axis but the layers in the order of --rank, best first: the same "
     "function, in which the first units make a smaller model",
     0},
    {"in-order", OPT_FLAG, &shape.in_order, NULL,
     "keep the first units of every axis, as for a model written with --sort; needs no --rank", 0},
    {"any-model", OPT_FLAG, &any_model, NULL, "accept a rank of another model with the same sizes",
     0},
    {"Repair", OPT_GROUP, NULL, NULL, NULL, 0},
    {"merge-heads", OPT_TEXT, &merge_heads, "qkv|qkvo",
     "before query heads of a group are removed, add to each of the last kept ones its difference "
     "from a removed one, in these projections; k and v only where every query head has its own",
     0},
    {"repair", OPT_PATH, &repair.path, "TOKENS",
     "refit the matrices that write to the hidden state (o_proj, down_proj, those of experts) by "
     "least squares, so that on TOKENS they write what the uncut model writes; computed in f32; "
     "not in models with Mamba layers, and not together with --vocab-size",
     0},
    {"repair-tokens", OPT_INT, &repair.tokens, "N",
     "use at most N tokens, several times as many as a matrix has inputs", OPT_FROM_1},
    {"repair-ridge", OPT_REAL, &repair.ridge, "X",
     "how strongly the fit is held to the cut weights, as a fraction of the mean square of the "
     "inputs",
     0},
    {"any-tokenizer", OPT_FLAG, &repair.any_tokenizer, NULL,
     "continue even if model and --repair's tokens come from different tokenizers", 0},
    {"Values", OPT_GROUP, NULL, NULL, NULL, 0},
    {"dtype", OPT_TEXT, &shape.dtype, "keep|f32|f16|bf16|q8_0",
     "what weights are rounded to; keep: each tensor keeps its own (default keep)", 0},
    {"Checks", OPT_GROUP, NULL, NULL, NULL, 0},
    {"dry-run", OPT_FLAG, &dry_run, NULL, "print shape, parameters and bytes; write nothing",
     OPT_SILENT_ID},
    {"verify", OPT_PATH, &verify_name, "TOKENS",
     "before writing, check on TOKENS that the slice computes what the model computes with the "
     "removed units held at zero, before anything is rounded; if not, write nothing and exit with "
     "status 3",
     OPT_SILENT_ID},
    {"verify-tokens", OPT_INT, &verify_tokens, "N", "length of the sequence that --verify compares",
     OPT_SILENT_ID | OPT_FROM_1},
    {0}};
/* followed by the axes that can be cut, then the last options */
static struct opt opts[2 + AXIS_COUNT + sizeof last / sizeof *last] = {
    {"Target shape (axes not named here keep their size)", OPT_GROUP, NULL, NULL, NULL, 0},
    {"rank", OPT_PATH, &rank_name, "FILE",
     "order of the units, from rank; the last ones are removed. Not needed if layers are "
     "only dropped, or with --in-order",
     0}};

/* An axis of the first release is recorded with size 0 where it is not given, a later one not at
 * all, so that the ids of cuts along others stay as they were. */
static struct opt size_option(enum axis x)
{
    int first = axis_rows[x].place < (x < LAYER_AXES ? 2 : 3);
    return (struct opt){axis_rows[x].option, OPT_SIZES,
                        &shape.size[x],      x < LAYER_AXES ? "N" : "SIZES",
                        axis_rows[x].help,   first ? 0 : OPT_UNSET};
}

/* Layers come last, next to the options that list layers. */
static void list_options(void)
{
    struct opt *to = opts + 2;
    enum axis x;
    for (int64_t i = 0; (x = axes_listed(i)); i++)
        if (x != AXIS_L)
            *to++ = size_option(x);
    *to++ = size_option(AXIS_L);
    memcpy(to, last, sizeof last);
}

static const struct tool_desc desc = {
    "slice-model",
    "MODEL",
    "Cut a model to a smaller shape, keeping the best units of every axis.",
    "Reads a model; writes the smaller model as a stream with a matching config. Kept units stay "
    "in their original order, unless --sort puts the best first. Norm weights are cut, not "
    "rescaled; head_dim and rotary positions stay. If nothing is removed, the model is copied, "
    "with a note.\n\nDtypes are kept unless --dtype is given. Matrices of q8_0 whose columns are "
    "cut or sorted, whose heads are merged or which are refitted are rounded to q8_0 again; those "
    "whose rows are then not whole blocks of 32 values become f16, with a note. --dtype q8_0 "
    "leaves vectors in f32.\n\nWorks in constant memory, except with --sort and --merge-heads, "
    "which hold a matrix, --repair, which holds a layer of the model and of the slice and the "
    "hidden states of its tokens, and --verify, which holds both models, or with --stream-layers "
    "a layer of both, and the slice in a file in TMPDIR. With --vocab-size, the tokenizer is cut "
    "too, and every id in the model's files follows; special tokens, bytes and what kept tokens "
    "are made of stay. Refuses a rank of another model, sizes larger than the model's, sizes for "
    "layers that keep no such block, and heads that do not divide into KV groups, or Mamba heads "
    "into theirs.\n\nSIZES is a number, the size of every layer, or LAYERS:SIZE for some of them, "
    "such as 0-7:896,8-:1024; layers not named keep theirs. Layers are counted from 0 and always "
    "in MODEL, also beside --drop-layers and --num-hidden-layers. Sizes that differ between "
    "layers need a model stream, nemotron-nas from hf-export, or deci from gguf-export.\n\nA "
    "budget gives all axes that may shrink the same share of their size, the largest that fits "
    "under it; then the axis whose step costs least takes what room is left, while each of the "
    "others stays or takes one step more. Sizes that are given stay fixed. The shape is printed "
    "before anything is written.",
    "  slice-model teacher/ --rank rank.tsz --hidden-size 3072 \\\n      --intermediate-size 9216 "
    "> student.tsz",
    opts,
    1,
    1,
    TOOL_OUTPUT | TOOL_MAY_COMPUTE | TOOL_MODEL | TOOL_LAYERS};

static void load_rank(struct tool *t, struct rank *r, const struct model_spec *h)
{
    struct axes a;
    struct st_in *in = tool_in(t, rank_name, "rank");
    if (rank_read(r, in, tool_err(t)))
        tool_check(t);
    axes_from_model(&a, h);
    axes_add_vocab(&a, h);
    if (axes_same(&a, &r->axes, 0, tool_operand(t, 0), rank_name, tool_err(t)))
        tool_check(t);
    if (strcmp(a.model, r->axes.model) && !any_model)
        tool_die(t,
                 "%s is the rank of another model (id %.8s) than %s (id %.8s); use --any-model to "
                 "accept it",
                 rank_name, r->axes.model, tool_operand(t, 0), a.model);
    if (!any_model)
        memcpy(ranked, r->axes.digest, sizeof ranked);
    axes_free(&a);
    st_close(in);
}

/* All values have been read. */
static void check_values(struct tool *t, struct model_in *in)
{
    tool_check(t);
    if (!digest_may_equal(ranked, model_in_spec(in)->digest))
        tool_die(t,
                 "%s is the rank of another model than %s: both have id %.8s, but their values "
                 "differ; use --any-model to accept it",
                 rank_name, tool_operand(t, 0), model_in_spec(in)->id);
}

static void merge(struct tool *t, struct slice_plan *p, const struct model_spec *source,
                  const struct rank *r)
{
    int outputs = !strcmp(merge_heads, "qkvo");
    if (!outputs && strcmp(merge_heads, "qkv"))
        tool_usage(t, "--merge-heads must be qkv or qkvo, not \"%s\"", merge_heads);
    if (slice_merge_plan(p, source, r, outputs, tool_err(t)))
        tool_check(t);
}

static void note_shape(struct tool *t, const struct model_spec *source, const struct slice_plan *p)
{
    const struct model_spec *h = &p->spec;
    struct err refused = {0};
    char note[400], *blocks = slice_plan_blocks(p, source);
    if (!dry_run && !shape.sort && !shape.dtype &&
        model_spec_parameters(h, NULL) == model_spec_parameters(source, NULL))
        tool_note(t, "nothing to cut, so the model is copied: give a target shape with "
                     "--hidden-size, --num-hidden-layers, ... (see --help)");
    else if (hf_check_shape(h, note, &refused))
        tool_note(t, "hf-export will refuse this shape: %s", refused.msg);
    else if (*note)
        tool_note(t, "hf-export: %s", note);
    if (blocks)
        tool_note(t, "%s", blocks);
    free(blocks);
}

/* Chooses the sizes that meet the budget; from here on they are as if they had been given. */
static void fit_budget(struct tool *t, const struct budget *b, struct slice_target *target,
                       const struct model_spec *source, const struct rank *rank)
{
    int64_t reached;
    if (!b->option)
        return;
    if (budget_fit(b, &shape, target, source, rank, rank_name, &reached, tool_err(t)))
        tool_check(t);
    char *sizes = budget_text(b, &shape);
    tool_note(t, "--%s %s: %" PRId64 " %s with%s", b->option, b->value, reached,
              b->in_bytes ? "bytes" : "parameters", sizes);
    free(sizes);
}

static struct model_out *begin(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    struct vocab_files files = {0};
    int cut = p->spec.vocab_size < model_in_spec(in)->vocab_size;
    p->spec.id[0] = 0; /* a new model: its id is derived */
    if (cut) {
        vocab_files_make(&files, &vocab, p->kept[AXIS_V].index, p->kept[AXIS_V].n, in, &p->spec,
                         tool_err(t));
        tool_check(t);
        tool_identify(t, "tokenizer_id", json_string(p->spec.tokenizer_id));
    }
    struct model_out *out = tool_model_out(t, NULL, &p->spec);
    if (cut)
        vocab_files_write(&files, out);
    else
        model_copy_files(out, in);
    vocab_files_close(&files, &p->spec);
    tool_check(t);
    return out;
}

static void write_pass(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    struct model_out *out = begin(t, p, in);
    struct tensor tensor;
    model_digest(in);
    tool_progress(t, 0, model_in_spec(in)->n_tensors, "tensors");
    for (int i = 0; model_next(in, &tensor) > 0; i++) {
        slice_copy(p, in, &tensor, i, out);
        tool_check(t);
        tool_progress(t, i + 1, model_in_spec(in)->n_tensors, "tensors");
    }
    check_values(t, in);
    model_out_end(out);
    tool_check(t);
    model_out_close(out);
}

static void write_repaired(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    tool_repair_open(&repair, t, p, model_in_spec(in));
    struct model_out *out = begin(t, p, in);
    tool_repair_stream(&repair, in, out);
    check_values(t, in);
    model_out_end(out);
    tool_check(t);
    model_out_close(out);
}

static void report(struct tool *t, const struct verdict *v)
{
    char text[200];
    tool_check(t);
    slice_verdict_text(v, text);
    if (!v->agrees)
        tool_refuse(t, "%s", text);
    tool_note(t, "%s", text);
}

static void write_loaded(struct tool *t, struct slice_plan *p, struct model_in *in,
                         const uint32_t *ids, int64_t T)
{
    struct model source, slice;
    struct verdict v;
    if (repair.path)
        tool_repair_open(&repair, t, p, model_in_spec(in));
    slice_load(p, in, &source, &slice, tool_err(t));
    check_values(t, in);
    slice_verify(p, &source, &slice, ids, T, &v, tool_err(t));
    report(t, &v);
    slice_round(p, &slice, tool_err(t));
    tool_check(t);
    if (repair.path)
        tool_repair_loaded(&repair, &source, &slice, verify_tokens);
    struct model_out *out = begin(t, p, in);
    model_write(out, &slice);
    tool_check(t);
    model_out_close(out);
    model_free(&source);
    model_free(&slice);
}

static void write_sections(struct tool *t, struct slice_plan *p, struct model_in *in,
                           const uint32_t *ids, int64_t T)
{
    struct spill values = {.fd = -1};
    struct verdict v;
    int64_t bytes = slice_sections_bytes(p, in, T);
    tool_predict_memory(t, NULL, (struct memory_part[]){{"a layer and logits", bytes, 0}, {0}});
    slice_verify_sections(p, in, ids, T, &values, &v, tool_err(t));
    check_values(t, in);
    report(t, &v);
    struct model_out *out = begin(t, p, in);
    slice_write_values(&values, out, tool_err(t));
    tool_check(t);
    model_out_close(out);
    spill_close(&values);
}

static void write_verified(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    struct st_in *text = tool_in_aside(t, verify_name, "tokens");
    int64_t bytes, T;
    /* files come before the tensors; the reader keeps them until begin() */
    for (int i = 0; i < p->spec.n_files; i++)
        model_in_file(in, p->spec.files[i].name, &bytes);
    uint32_t *ids = slice_verify_text(p, model_in_spec(in), text, verify_tokens, &T, tool_err(t));
    tool_check(t);
    if (tool_streams_layers(t))
        write_sections(t, p, in, ids, T);
    else
        write_loaded(t, p, in, ids, T);
    free(ids);
    st_close(text);
}

int main(int argc, char **argv)
{
    list_options();
    repair = repair_defaults;
    struct tool *t = tool_begin(&desc, argc, argv);
    struct slice_target target;
    struct slice_plan p;
    struct budget budget;
    struct rank r = {0};
    shape.vocab = &vocab;
    if (shape.in_order && rank_name)
        tool_usage(t, "--in-order and --rank both say which units come first: give one");
    if (shape.sort && !rank_name)
        tool_usage(t, "--sort needs --rank FILE, in whose order units are written");
    if (!repair.path &&
        (repair.tokens != repair_defaults.tokens || repair.ridge != repair_defaults.ridge))
        tool_usage(t, "--repair-tokens and --repair-ridge go with --repair TOKENS");
    if (tool_streams_layers(t) && (!verify_name || repair.path))
        tool_usage(t, "--stream-layers needs --verify TOKENS, and does not work with --repair");
    if (shape.dtype && !strcmp(shape.dtype, "keep"))
        shape.dtype = NULL; /* as if it were not given, also in the history */
    if (budget_read(&budget, &wanted, &shape, tool_err(t)) ||
        slice_target_read(&target, &shape, tool_err(t)))
        tool_usage(t, "%s", tool_err(t)->msg);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    const struct model_spec *source = model_in_spec(in);
    if (rank_name)
        load_rank(t, &r, source);
    if (shape.size[AXIS_V] || budget.moves[AXIS_V])
        vocab_open(&vocab, in, tool_operand(t, 0), drop_added, tool_err(t));
    else if (drop_added)
        tool_usage(t, "--drop-added goes with --vocab-size or --axes vocab");
    tool_check(t);
    if (drop_added && !vocab.loose)
        tool_note(t, "no added token matches --drop-added '%s'", drop_added);
    fit_budget(t, &budget, &target, source, rank_name ? &r : NULL);
    if (slice_plan_make(&p, source, rank_name ? &r : NULL, rank_name, &target, tool_err(t)))
        tool_check(t);
    if (merge_heads)
        merge(t, &p, source, rank_name ? &r : NULL);
    note_shape(t, source, &p);
    if (dry_run)
        slice_plan_print(stdout, &p, source);
    else if (verify_name)
        write_verified(t, &p, in);
    else if (repair.path)
        write_repaired(t, &p, in);
    else
        write_pass(t, &p, in);
    tool_check(t);
    slice_plan_free(&p);
    slice_target_free(&target);
    rank_free(&r);
    int status = tool_finish(t);
    model_close(in);
    return status;
}
