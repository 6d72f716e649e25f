/* hf-export: any MODEL as a Hugging Face directory. Shapes and refusals: lib/hf/sink.c,
 * lib/hf/config.c; the model card: lib/tool/card.c. */
#include <stdlib.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/amount.h"
#include "../lib/base/file.h"
#include "../lib/base/text.h"
#include "../lib/eval/eval.h"
#include "../lib/hf/hf.h"
#include "../lib/tool/tool.h"

static const char *max_shard_size = "0", *dtype = "keep", *merge, *base_model, *figures;
static int overwrite, push_layout;

static const struct opt opts[] = {
    {"max-shard-size", OPT_TEXT, &max_shard_size, "SIZE",
     "split the weights into files of at most SIZE (5GB, 500MB, 100KB, or a number of bytes); 0: "
     "one file",
     0},
    {"dtype", OPT_TEXT, &dtype, "keep|f32|f16|bf16", "store the weights as this dtype", 0},
    {"merge", OPT_PATH, &merge, "ADAPTERS",
     "add to the weights the adapters of a PEFT directory, such as kd-train --adapter writes", 0},
    {"overwrite", OPT_FLAG, &overwrite, NULL, "replace DIR if it holds a model", OPT_SILENT_ID},
    {"Model card", OPT_GROUP, NULL, NULL, NULL, 0},
    {"base-model", OPT_TEXT, &base_model, "ORG/NAME",
     "what the model was made from, by its name on the Hugging Face Hub; if not given, the name in "
     "a path of the Hub's cache or in config.json, or what the card of the original says",
     OPT_SILENT_ID},
    {"figures", OPT_PATH, &figures, "FILE",
     "a table of what eval-ppl printed into FILE, of the models before and after", OPT_SILENT_ID},
    {"push-layout", OPT_FLAG, &push_layout, NULL,
     "add a .gitattributes, so that DIR can be pushed to the Hub with git; say how to upload it",
     OPT_SILENT_ID},
    {0},
};

static const struct tool_desc desc = {
    .name = "hf-export",
    .operands = "MODEL DIR",
    .summary = "Write a model as a Hugging Face directory that transformers loads.",
    .description =
        "MODEL is a directory, a model stream, a GGUF file, or - for standard input. Writes "
        "config.json, model.safetensors (or shards with an index), the tokenizer's files, and "
        "README.md, a model card: licence and languages of the original, shape, the commands that "
        "made the model, how to run it. history.json has the commands for ts-dump --hist DIR. DIR "
        "appears only once it is complete. Quantised weights become f32; other dtypes are kept "
        "unless --dtype is given.\n\nIf transformers' class for the family cannot express the "
        "shape, the same function is written as another model_type, with a note: Llama-like models "
        "whose layers differ as nemotron-nas, which MLX and, with trust_remote_code, vLLM and "
        "transformers load. If no class can, the model is refused with the shapes that would work. "
        "Without --overwrite, DIR must be empty or not exist.",
    .example = "  hf-export student.tsz small/ --dtype bf16",
    .opts = opts,
    .min_operands = 2,
    .max_operands = 2,
    .uses = TOOL_MODEL,
};

/* A file of the directory that is about to be replaced. (The directory itself may be the source: it
 * is read before it is replaced.) */
static int lies_inside(const char *file, const char *dir)
{
    char *f = realpath(file, NULL), *d = realpath(dir, NULL);
    size_t n = d ? strlen(d) : 0;
    int inside = f && d && !strncmp(f, d, n) && f[n] == '/';
    free(f);
    free(d);
    return inside;
}

/* wide: the dtype to write is not the model's */
static struct model_in *open_model(struct tool *t, int wide)
{
    static struct adapters adapters; /* freed with the process */
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    char id[ST_DIGEST];
    if (!merge)
        return in;
    peft_read(&adapters, model_in_spec(in), merge, id, tool_err(t));
    tool_check(t);
    tool_parent(t, merge, id);
    return peft_merge(in, &adapters, wide);
}

static struct hf_sink_options read_options(struct tool *t)
{
    struct hf_sink_options o = {.max_shard_size = amount_bytes(max_shard_size),
                                .keep_dtype = !strcmp(dtype, "keep"),
                                .overwrite = overwrite};
    int d = dtype_parse(dtype);
    if (o.max_shard_size < 0)
        tool_usage(t, "--max-shard-size takes a size such as 5GB, not \"%s\"", max_shard_size);
    if (!o.keep_dtype && d != DT_F32 && d != DT_F16 && d != DT_BF16)
        tool_usage(t, "--dtype must be keep, f32, f16 or bf16, not \"%s\"", dtype);
    if (base_model && !card_is_hub_name(base_model))
        tool_usage(t,
                   "--base-model takes a name on the Hub such as google/gemma-3-270m, not \"%s\"",
                   base_model);
    o.dtype = o.keep_dtype ? DT_F32 : (enum dtype)d;
    return o;
}

static void check_operands(struct tool *t, const char *model, const char *dir)
{
    if (!strcmp(dir, "-"))
        tool_usage(t, "cannot write a directory to standard output (-): give DIR a name");
    if (text_ends(dir, ".gguf"))
        tool_usage(t,
                   "hf-export writes a directory, and %s is the name of a GGUF file: gguf-export "
                   "%s %s writes that",
                   dir, model, dir);
    if (lies_inside(model, dir))
        tool_usage(t, "%s is inside %s, which would be replaced: write to another directory", model,
                   dir);
}

/* ---- files beside the model's own */

static void add_history(struct tool *t, struct model_out *out, const json_t *head)
{
    char *text = json_dumps(head, JSON_INDENT(1)), *lines = mem_format("%s\n", text);
    hf_sink_add(out, "history.json", lines);
    tool_check(t);
    free(lines);
    free(text);
}

static int take_figures(void *user, const char *line, const json_t *value, int64_t number,
                        const char *where, struct err *e)
{
    (void)line, (void)number;
    if (!json_is_number(json_object_get(value, "nll")))
        return err_set(e, "%s is not what eval-ppl prints: it has no nll", where);
    json_array_append(user, (json_t *)value);
    return 0;
}

static int has_chat(struct model_in *in)
{
    const char *config = model_in_file(in, "tokenizer_config.json", NULL);
    return model_in_file(in, "chat_template.jinja", NULL) ||
           (config && strstr(config, "\"chat_template\""));
}

static void add_card(struct tool *t, struct model_in *in, struct model_out *out, const json_t *head)
{
    const json_t *steps = json_object_get(head, "hist");
    char *name = file_base_name(tool_operand(t, 1));
    char *hub = base_model ? mem_string(base_model) : card_hub_name(hf_sink_spec(out), steps);
    json_t *table = json_array();
    if (figures && json_lines_read(figures, take_figures, table, NULL, tool_err(t)))
        tool_check(t);
    struct card c = {
        name,  hub,         model_in_file(in, "README.md", NULL), hf_sink_spec(out), steps,
        table, has_chat(in)};
    char *text = card_text(&c);
    hf_sink_add(out, "README.md", text);
    tool_check(t);
    json_decref(table);
    free(text);
    free(hub);
    free(name);
}

/* Sentences about files that transformers would stumble over; what it would make itself of a
 * config.json without generation_config.json. */
static void check_files(struct tool *t, struct model_in *in, struct model_out *out)
{
    const struct model_spec *h = hf_sink_spec(out);
    char *config = json_dumps(h->config, 0), *made = hf_generation_config(h->config),
         *wrong = hf_check_file("config.json", config, (int64_t)strlen(config), h->vocab_size);
    for (int i = 0; i < h->n_files && !wrong; i++) {
        int64_t n;
        const char *text = model_in_file(in, h->files[i].name, &n);
        wrong = text ? hf_check_file(h->files[i].name, text, n, h->vocab_size) : NULL;
    }
    if (made && !model_in_file(in, "generation_config.json", NULL))
        hf_sink_add(out, "generation_config.json", made);
    tool_check(t);
    if (wrong)
        tool_note(t, "%s", wrong);
    free(wrong);
    free(made);
    free(config);
}

/* Files that git stores by LFS: weights, and what is larger than the Hub takes otherwise. */
static void add_git(struct tool *t, struct model_out *out)
{
    static const char lfs[] = "filter=lfs diff=lfs merge=lfs -text";
    const struct model_spec *h = hf_sink_spec(out);
    char *text = mem_format("*.safetensors %s\n", lfs);
    for (int i = 0; i < h->n_files; i++)
        if (h->files[i].bytes > 10 << 20)
            text = mem_append(text, "%s %s\n", h->files[i].name, lfs);
    hf_sink_add(out, ".gitattributes", text);
    tool_check(t);
    free(text);
}

static void add_files(struct tool *t, struct model_in *in, struct model_out *out)
{
    json_t *head = tool_head(t, "directory", json_object());
    check_files(t, in, out);
    add_card(t, in, out, head);
    add_history(t, out, head);
    if (push_layout)
        add_git(t, out);
    json_decref(head);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct hf_sink_options o = read_options(t);
    const char *dir = tool_operand(t, 1);
    check_operands(t, tool_operand(t, 0), dir);
    hf_sink_check(dir, &o, tool_err(t)); /* before a pipe is waited for */
    tool_check(t);
    struct model_in *in = open_model(t, !o.keep_dtype);
    struct model_out *out = hf_sink_open(model_in_spec(in), dir, &o, tool_err(t));
    tool_check(t);
    add_files(t, in, out);
    tool_copy(t, out, in);
    if (model_out_note(out))
        tool_note(t, "%s", model_out_note(out));
    if (push_layout)
        tool_note(t, "hf upload ORGANISATION/NAME %s uploads it", dir);
    model_out_close(out);
    model_close(in);
    return tool_finish(t);
}
