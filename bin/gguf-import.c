/* gguf-import: a GGUF file as a model stream. Types, architectures and refusals: lib/gguf/source.c.
 */
#include "../lib/tool/tool.h"

static const struct opt opts[] = {{0}};

static const struct tool_desc desc = {
    .name = "gguf-import",
    .operands = "FILE.gguf",
    .summary = "Write a GGUF file as a model stream.",
    .description = "Reads architectures llama (mistral too), qwen2, qwen3, nemotron, gpt2, phi3, "
                   "olmo2, smollm3, gemma2, gemma3 (text) and gptneox, and tensors of\n"
                   "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K. Q8_0 stays packed "
                   "(q8_0), other quantised tensors become f32, the rest keep their dtype;\n"
                   "permuted and fused ones are put back as the model's directory has them, so the "
                   "id of an unquantised file is that of the directory. config.json and\n"
                   "the tokenizer (byte-level BPE and SentencePiece BPE) are rebuilt from the "
                   "metadata; a tokenizer that cannot be is left out, with a note.\n"
                   "Refuses other architectures and types, split files, experts, and metadata that "
                   "may change the function and are not known.",
    .example = "  gguf-import model.gguf -o model.tsz",
    .opts = opts,
    .min_operands = 1,
    .max_operands = 1,
    .uses = TOOL_OUTPUT,
};

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    if (!model_in_note(in))
        tool_die(t, "'%s' is no GGUF file", tool_operand(t, 0));
    return tool_import(t, in);
}
