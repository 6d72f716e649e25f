/* slice-model: cuts a model to a target shape by a rank, or drops named layers. One pass, constant
 * memory; --verify holds source and slice. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/data/data.h"
#include "../lib/tool/tool.h"
#include "../lib/prune/prune.h"

static struct slice_target target;
static const char *rank_name, *verify_name;
static int64_t verify_tokens = 64;
static int any_model, dry_run;

static const struct opt opts[] = {
    {"Target shape (axes not named here keep their size)", OPT_GROUP, NULL, NULL, NULL, 0},
    {"rank", OPT_PATH, &rank_name, "FILE",
     "order of the units, from rank; the last ones are removed. Not needed with --drop-layers "
     "alone",
     0},
    {"hidden-size", OPT_INT, &target.hidden_size, "N", "channels of the residual stream",
     OPT_FROM_1},
    {"intermediate-size", OPT_INT, &target.intermediate_size, "N", "FFN neurons per layer",
     OPT_FROM_1},
    {"num-attention-heads", OPT_INT, &target.num_attention_heads, "N",
     "query heads per layer, a multiple of the KV heads; each KV group keeps the same number",
     OPT_FROM_1},
    {"num-key-value-heads", OPT_INT, &target.num_key_value_heads, "N",
     "KV heads per layer; whole groups are removed", OPT_FROM_1},
    {"num-hidden-layers", OPT_INT, &target.num_hidden_layers, "N", "layers", OPT_FROM_1},
    {"drop-layers", OPT_TEXT, &target.drop_layers, "LIST",
     "remove these layers, counted from 0; for example 3,12-19", 0},
    {"drop-attention", OPT_TEXT, &target.drop_attention, "LIST",
     "remove only the attention of these layers", 0},
    {"drop-mlp", OPT_TEXT, &target.drop_mlp, "LIST", "remove only the MLP of these layers", 0},
    {"any-model", OPT_FLAG, &any_model, NULL, "accept a rank of another model with the same sizes",
     0},
    {"Checks", OPT_GROUP, NULL, NULL, NULL, 0},
    {"dry-run", OPT_FLAG, &dry_run, NULL, "print shape, parameters and bytes; write nothing",
     OPT_SILENT_ID},
    {"verify", OPT_PATH, &verify_name, "TOKENS",
     "before writing, check on TOKENS that the slice computes what the model computes with the "
     "removed units held at zero; if not, write nothing and exit with status 3",
     OPT_SILENT_ID},
    {"verify-tokens", OPT_INT, &verify_tokens, "N", "length of the sequence that --verify compares",
     OPT_SILENT_ID | OPT_FROM_1},
    {0}};

static const struct tool_desc desc = {
    "slice-model",
    "MODEL",
    "Cut a model to a smaller shape, keeping the best units of every axis.",
    "Reads a model; writes the smaller model as a stream with a matching config. Kept units stay "
    "in their original order. Dtypes are kept, except that q8_0 matrices that lose columns become "
    "f32. Norm weights are cut, not rescaled; head_dim and rotary positions stay. If nothing is "
    "removed, the model is copied, with a note.\n\nWorks in constant memory, except with --verify, "
    "which holds the model and its slice. Refuses a rank of another model, sizes larger than the "
    "model's, and heads that do not divide into KV groups.",
    "  slice-model teacher/ --rank rank.tsz --hidden-size 3072 \\\n      --intermediate-size 9216 "
    "> student.tsz",
    opts,
    1,
    1,
    TOOL_OUTPUT};

static void load_rank(struct tool *t, struct rank *r, const struct model_spec *h)
{
    struct axes a;
    struct st_in *in = tool_in(t, rank_name, "rank");
    if (rank_read(r, in, tool_err(t)))
        tool_check(t);
    axes_from_model(&a, h);
    if (axes_same(&a, &r->axes, 0, tool_operand(t, 0), rank_name, tool_err(t)))
        tool_check(t);
    if (strcmp(a.model, r->axes.model) && !any_model)
        tool_die(
            t, "%s ranks the units of another model (%.8s) than %s (%.8s); --any-model accepts it",
            rank_name, r->axes.model, tool_operand(t, 0), a.model);
    axes_free(&a);
    st_close(in);
}

/* ---- --dry-run */

static void print_row(const char *what, int64_t before, int64_t after)
{
    printf("%-28s %16" PRId64 " %16" PRId64 "  %5.1f %%\n", what, before, after,
           100.0 * (double)after / (double)(before ? before : 1));
}

static int64_t largest(const struct model_spec *h, size_t offset)
{
    int64_t most = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        int64_t v = *(const int64_t *)((const char *)&h->layers[l] + offset);
        most = v > most ? v : most;
    }
    return most;
}

/* The kinds of block that are left of a layer of the source. */
static unsigned kinds_left(const struct slice_plan *p, int64_t layer)
{
    for (int64_t i = 0; i < p->spec.num_hidden_layers; i++)
        if (p->layers[i].source == layer)
            return p->spec.layers[i].kinds;
    return 0;
}

/* The layers that lose this kind of block, or (kind 0) all that they had. */
static void print_dropped(const char *what, const struct model_spec *a, const struct slice_plan *p,
                          unsigned kind)
{
    int any = 0;
    for (int64_t l = 0; l < a->num_hidden_layers; l++) {
        unsigned left = kinds_left(p, l), lost = a->layers[l].kinds & ~left;
        if (kind ? !left || !(lost & kind) : left != 0)
            continue;
        if (!any++)
            printf("%s dropped:", what);
        printf(" %" PRId64, l);
    }
    if (any)
        putchar('\n');
}

static void print_plan(const struct model_spec *a, const struct slice_plan *p)
{
    const struct model_spec *b = &p->spec;
    int64_t body_a, body_b, all_a = model_spec_parameters(a, &body_a),
                            all_b = model_spec_parameters(b, &body_b);
    printf("%-28s %16s %16s\n", "", "model", "slice");
    print_row("hidden_size", a->hidden_size, b->hidden_size);
    print_row("num_hidden_layers", a->num_hidden_layers, b->num_hidden_layers);
    print_row("intermediate_size", largest(a, offsetof(struct layer, intermediate_size)),
              largest(b, offsetof(struct layer, intermediate_size)));
    print_row("num_attention_heads", largest(a, offsetof(struct layer, num_attention_heads)),
              largest(b, offsetof(struct layer, num_attention_heads)));
    print_row("num_key_value_heads", largest(a, offsetof(struct layer, num_key_value_heads)),
              largest(b, offsetof(struct layer, num_key_value_heads)));
    print_row("head_dim", largest(a, offsetof(struct layer, head_dim)),
              largest(b, offsetof(struct layer, head_dim)));
    print_row("parameters", all_a, all_b);
    print_row("non-embedding parameters", body_a, body_b);
    print_row("tensors", a->n_tensors, b->n_tensors);
    print_row("bytes", model_spec_bytes(a), model_spec_bytes(b));
    print_dropped("layers", a, p, 0);
    print_dropped("attention", a, p, KIND_attention);
    print_dropped("MLP", a, p, KIND_mlp);
}

/* ---- writing */

static struct model_out *begin(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    p->spec.id[0] = 0; /* a model of its own */
    struct model_out *out = tool_model_out(t, NULL, &p->spec);
    model_copy_files(out, in);
    tool_check(t);
    return out;
}

struct pipe {
    struct model_in *in;
    struct model_out *out;
};
static int pipe_read(void *user, void *buf, int64_t n)
{
    return model_read(((struct pipe *)user)->in, buf, n);
}
static int pipe_write(void *user, const void *data, int64_t n)
{
    return model_out_write(((struct pipe *)user)->out, data, n);
}

static void write_pass(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    struct pipe pipe = {in, begin(t, p, in)};
    struct tensor tensor;
    for (int i = 0; model_next(in, &tensor) > 0; i++) {
        int to = p->dest[i];
        if (to >= 0)
            model_out_next(pipe.out);
        slice_tensor(p, &tensor, to, pipe_read, to < 0 ? NULL : pipe_write, &pipe);
        tool_check(t);
        tool_progress(t, i + 1, model_in_spec(in)->n_tensors, "tensors");
    }
    model_out_end(pipe.out);
    tool_check(t);
    model_out_close(pipe.out);
}

static void verify(struct tool *t, const struct slice_plan *p, const struct model *source,
                   const struct model *slice)
{
    tool_stdin_once(t, verify_name);
    /* no parent: what is verified with does not change what is made */
    struct st_in *in = st_open(verify_name, tool_err(t));
    struct sequences s;
    struct verdict v;
    const uint32_t *ids;
    int64_t n;
    tool_check(t);
    const char *kind = json_string_value(json_object_get(st_head(in), "kind"));
    if (!kind || strcmp(kind, "tokens"))
        tool_die(t, "%s holds a stream of kind \"%s\", but \"tokens\" is needed here", verify_name,
                 kind ? kind : "?");
    if (sequences_open(&s, in, verify_tokens, 0, tool_err(t)) || sequences_next(&s, &ids, &n) < 0 ||
        sequences_check(&s, ids, n, source->spec.vocab_size) ||
        slice_verify(p, source, slice, ids, n, &v, tool_err(t)))
        tool_check(t);
    if (!v.agrees)
        tool_refuse(t,
                    "the slice differs from the masked model: by %.3g at token %" PRId64
                    ", logit %" PRId64 " (logits reach %.3g)",
                    v.difference, v.token, v.entry, v.largest);
    tool_note(t,
              "verified on %" PRId64
              " tokens: the slice's logits are the masked model's to %.2g (logits reach %.3g)",
              n, v.difference, v.largest);
    sequences_close(&s);
    st_close(in);
}

static void write_verified(struct tool *t, struct slice_plan *p, struct model_in *in)
{
    struct model source, slice;
    int64_t bytes;
    /* files come before the tensors; the reader keeps them for begin() */
    for (int i = 0; i < p->spec.n_files; i++)
        model_in_file(in, p->spec.files[i].name, &bytes);
    if (slice_load(p, in, &source, &slice, tool_err(t)))
        tool_check(t);
    verify(t, p, &source, &slice);
    struct model_out *out = begin(t, p, in);
    model_write(out, &slice);
    tool_check(t);
    model_out_close(out);
    model_free(&source);
    model_free(&slice);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    if (target.drop_layers && !*target.drop_layers)
        tool_usage(t, "--drop-layers is a list such as 0,3,12-19, not empty");
    if (target.num_hidden_layers && target.drop_layers)
        tool_usage(t, "--num-hidden-layers and --drop-layers both choose the layers; give one");
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    struct rank r;
    if (rank_name)
        load_rank(t, &r, model_in_spec(in));
    struct slice_plan p;
    if (slice_plan_make(&p, model_in_spec(in), rank_name ? &r : NULL, rank_name, &target,
                        tool_err(t)))
        tool_check(t);
    int64_t body;
    if (!dry_run &&
        model_spec_parameters(&p.spec, &body) == model_spec_parameters(model_in_spec(in), &body))
        tool_note(t, "nothing is cut, the model is copied: a target shape is given by "
                     "--hidden-size, --num-hidden-layers, ... (see --help)");
    if (dry_run)
        print_plan(model_in_spec(in), &p);
    else if (verify_name)
        write_verified(t, &p, in);
    else
        write_pass(t, &p, in);
    tool_check(t);
    slice_plan_free(&p);
    if (rank_name)
        rank_free(&r);
    int status = tool_finish(t);
    model_close(in);
    return status;
}
