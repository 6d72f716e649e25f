/* hf-export: any MODEL as a Hugging Face directory. Shapes and refusals: lib/hf/sink.c,
 * lib/hf/config.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/amount.h"
#include "../lib/hf/hf.h"
#include "../lib/tool/tool.h"

static const char *max_shard_size = "0", *dtype = "keep";
static const char *merge;
static int overwrite;

static const struct opt opts[] = {
    {"max-shard-size", OPT_TEXT, &max_shard_size, "SIZE",
     "split the weights into files of at most SIZE (5GB, 500MB, 100KB, or a number of bytes); 0: "
     "one file",
     0},
    {"dtype", OPT_TEXT, &dtype, "keep|f32|f16|bf16", "store the weights as this dtype", 0},
    {"merge", OPT_PATH, &merge, "ADAPTERS",
     "add the adapters of a PEFT directory to the weights, as kd-train --adapter writes them", 0},
    {"overwrite", OPT_FLAG, &overwrite, NULL, "replace DIR if it holds a model", 0},
    {0},
};

static const struct tool_desc desc = {
    .name = "hf-export",
    .operands = "MODEL DIR",
    .summary = "Write a model as a Hugging Face directory that transformers loads.",
    .description =
        "MODEL is a directory, a model stream, a GGUF file, or - for standard input. Writes "
        "config.json, model.safetensors (or shards with an index) and the tokenizer's files; DIR "
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

/* wide: the dtype to write is another than the model's */
static struct model_in *open_model(struct tool *t, int wide)
{
    static struct adapters adapters; /* freed with the process */
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    char id[ST_DIGEST];
    if (!merge)
        return in;
    peft_read(&adapters, model_in_spec(in), merge, id, tool_err(t));
    tool_check(t);
    return peft_merge(in, &adapters, wide);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct hf_sink_options o = {.max_shard_size = amount_bytes(max_shard_size),
                                .keep_dtype = !strcmp(dtype, "keep"),
                                .overwrite = overwrite};
    int d = dtype_parse(dtype);
    if (o.max_shard_size < 0)
        tool_usage(t, "--max-shard-size takes a size such as 5GB, not \"%s\"", max_shard_size);
    if (!o.keep_dtype && d != DT_F32 && d != DT_F16 && d != DT_BF16)
        tool_usage(t, "--dtype must be keep, f32, f16 or bf16, not \"%s\"", dtype);
    o.dtype = o.keep_dtype ? DT_F32 : (enum dtype)d;
    if (!strcmp(tool_operand(t, 1), "-"))
        tool_usage(t, "cannot write a directory to standard output (-): give DIR a name");
    if (lies_inside(tool_operand(t, 0), tool_operand(t, 1)))
        tool_usage(t, "%s is inside %s, which would be replaced: write to another directory",
                   tool_operand(t, 0), tool_operand(t, 1));
    hf_sink_check(tool_operand(t, 1), &o, tool_err(t)); /* before a pipe is waited for */
    tool_check(t);
    struct model_in *in = open_model(t, !o.keep_dtype);
    struct model_out *out = hf_sink_open(model_in_spec(in), tool_operand(t, 1), &o, tool_err(t));
    tool_check(t);
    model_copy(out, in);
    tool_check(t);
    if (model_out_note(out))
        tool_note(t, "%s", model_out_note(out));
    model_out_close(out);
    model_close(in);
    return tool_finish(t);
}
