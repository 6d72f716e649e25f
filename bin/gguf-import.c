/* gguf-import: a GGUF file as a model stream. Types, architectures and refusals: lib/gguf/source.c.
 */
#include "../lib/tool/tool.h"

static const struct opt opts[] = {{0}};

static const struct tool_desc desc = {
    .name = "gguf-import",
    .operands = "FILE.gguf",
    .summary = "Convert a GGUF file to a model stream.",
    .description =
        "Reads the architectures llama (also mistral and mixtral), qwen2, qwen3, nemotron, gpt2, "
        "phi2, phi3, olmo2, smollm3, gemma, gemma2, gemma3 (text), gptneox, granite, starcoder2, "
        "stablelm, command-r, cohere2, falcon, chatglm, glm4, exaone4, ernie4_5, seed_oss, "
        "hunyuan-dense, deci, qwen2moe, qwen3moe, olmoe, granitemoe, nemotron_h and granitehybrid "
        "(Bamba, Granite 4.0-H), and tensors of type F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, "
        "Q8_0, Q4_K, Q5_K and Q6_K. Q8_0 stays packed (q8_0), other quantised tensors become f32, "
        "the rest keep their dtype. Permuted and fused tensors are restored to the layout of the "
        "original directory, so an unquantised file has the same id as the directory (but not if "
        "it has Mamba layers, whose A_log comes back rounded).\n\nconfig.json and the tokenizer "
        "(byte-level or SentencePiece BPE) are rebuilt from the metadata. A tokenizer that cannot "
        "be rebuilt is left out, with a note. Refuses other architectures and tensor types, split "
        "files, and unknown metadata that may change the function.",
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
        tool_die(t, "'%s' is not a GGUF file; directories are converted by hf-import",
                 tool_operand(t, 0));
    return tool_import(t, in);
}
