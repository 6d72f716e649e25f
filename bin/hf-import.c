/* hf-import: a Hugging Face directory as a model stream. Shapes and refusals: lib/hf/source.c,
 * lib/hf/tensors.c. */
#include <sys/stat.h>

#include "../lib/tool/tool.h"

static const struct opt opts[] = {{0}};

static const struct tool_desc desc = {
    .name = "hf-import",
    .operands = "DIR",
    .summary = "Convert a Hugging Face model directory to a model stream.",
    .description =
        "Reads config.json, model.safetensors (or its shards) and the tokenizer's files. In the "
        "stream, fused tensors are split, matrices are [out, in], dtypes are kept, and the files "
        "are records. The stream has the same id as the directory, so a rank made from one fits "
        "the other.\n\nRefuses missing, unexpected or misshapen tensors, unknown families, and "
        "unknown configuration keys that change the function.",
    .example = "  hf-import teacher/ -o teacher.tsz",
    .opts = opts,
    .min_operands = 1,
    .max_operands = 1,
    .uses = TOOL_OUTPUT | TOOL_MODEL,
};

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    const char *dir = tool_operand(t, 0);
    struct model_in *in = tool_model(t, dir);
    struct stat st;
    if (stat(dir, &st) || !S_ISDIR(st.st_mode))
        tool_die(t, "'%s' is not a directory; GGUF files are converted by gguf-import", dir);
    return tool_import(t, in);
}
