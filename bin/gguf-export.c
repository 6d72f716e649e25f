/* gguf-export: any MODEL as a GGUF file. Forms and refusals: lib/gguf/form.c; types:
 * lib/gguf/types.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../lib/base/file.h"
#include "../lib/base/text.h"
#include "../lib/gguf/gguf.h"
#include "../lib/tool/tool.h"

static const char *type = "keep", *name;
static int pure;

static const struct opt opts[] = {
    {"type", OPT_TEXT, &type, "TYPE",
     "store matrices as f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_s, q4_k_m, q5_k_s, "
     "q5_k_m or q6_k, as llama-quantize does; keep: as they are",
     0},
    {"pure", OPT_FLAG, &pure, NULL,
     "the same type for all matrices, without the more precise ones that llama-quantize chooses",
     0},
    {"name", OPT_TEXT, &name, "NAME", "the model's name (default: that of the MODEL operand)", 0},
    {0},
};

static const struct tool_desc desc = {
    .name = "gguf-export",
    .operands = "MODEL FILE",
    .summary = "Write a model as a GGUF file for llama.cpp, Ollama and their kin.",
    .description =
        "MODEL is a directory, a model stream, a GGUF file, or - for standard input. FILE appears "
        "only once it is complete; if it is a directory or ends in /, the file's name there "
        "follows llama.cpp's convention: name, size and type. llama.cpp computes the same "
        "function from the file, and tokenizes the same, but for Unicode normalisation, which it "
        "leaves out. The file says what the model card says: licence, languages, tags, base "
        "models.\n\nQuantised blocks are those of llama.cpp's quantiser without an importance "
        "matrix, and so are the types: the head (or the embedding that is also the head) becomes "
        "q6_k, and the _m and _s types give some layers more bits. Rows that are not multiples of "
        "256, or of 32, are stored as the type that llama.cpp would take instead; a note says "
        "which size would suit. Vectors stay f32.\n\nA shape that llama.cpp's architecture for "
        "the family cannot hold is written as another that computes the same (qwen2 as llama, "
        "layers of different shapes as deci), or refused with the shape that would work. A "
        "tokenizer whose splits llama.cpp has no name for is refused too.",
    .example = "  gguf-export student.tsz student.gguf --type q4_k_m",
    .opts = opts,
    .min_operands = 2,
    .max_operands = 2,
    .uses = TOOL_MODEL,
};

static int is_dir(const char *path)
{
    struct stat st;
    return text_ends(path, "/") || (!stat(path, &st) && S_ISDIR(st.st_mode));
}

/* The last part of a path, without the suffix of a stream or file. free() it. */
static char *stem(const char *path)
{
    char *made = file_base_name(path);
    static const char *const suffixes[] = {".tsz", ".ts", ".gguf"};
    for (int i = 0; i < 3; i++)
        if (text_ends(made, suffixes[i]) && strlen(made) > strlen(suffixes[i]))
            made[strlen(made) - strlen(suffixes[i])] = 0;
    return made;
}

/* The name of a model that was at a path: that of the Hub's cache, or the last part. NULL: unknown,
 * as where it was named by where it was then ("..", "-"). free() it. */
static char *name_at(const char *path)
{
    char *cached = card_cached_name(path), *found = NULL;
    if (cached)
        found = mem_string(strchr(cached, '/') + 1);
    else if (path && strcmp(path, "-") && path[strspn(path, "./")])
        found = stem(path);
    free(cached);
    return found;
}

static const char *origin_of(const struct model_spec *h, const char *key)
{
    return json_string_value(json_object_get(hist_origin(h->hist), key));
}

/* Is it another model than the one that its history begins with? */
static int is_changed(const struct model_spec *h)
{
    const char *id = origin_of(h, "id");
    return id && strcmp(id, h->id) != 0;
}

/* The card that holds for the model: its own, or of one that was made from another what hf-export
 * would write. NULL: none. free() it. */
static char *card_of(struct model_in *in)
{
    const struct model_spec *h = model_in_spec(in);
    const char *origin = model_in_file(in, "README.md", NULL);
    if (!is_changed(h))
        return origin ? mem_string(origin) : NULL;
    char *hub = card_hub_name(h, h->hist);
    struct card c = {.base_model = hub, .origin = origin, .model = h, .steps = h->hist};
    char *card = card_metadata(&c);
    free(hub);
    return card;
}

/* free() it */
static char *own_name(const char *operand, const struct model_spec *h)
{
    int is_piped = !strcmp(operand, "-");
    char *found = name_at(is_piped ? origin_of(h, "path") : operand);
    if (!found)
        found = is_piped ? mem_string("model") : stem(operand);
    return found;
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    const char *file = tool_operand(t, 1);
    if (strcmp(type, "keep") && !gguf_is_type(type))
        tool_usage(t, "--type must be keep, or one of %s, not \"%s\"", gguf_type_names, type);
    if (!strcmp(file, "-"))
        tool_usage(t, "cannot write a GGUF file to standard output (-): give FILE a name");
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    const struct model_spec *h = model_in_spec(in);
    char *card = card_of(in), *base = is_changed(h) ? name_at(origin_of(h, "path")) : NULL,
         *chosen = name ? mem_string(name) : own_name(tool_operand(t, 0), h),
         *history = json_array_size(h->hist) ? json_dumps(h->hist, JSON_COMPACT) : NULL;
    struct gguf_sink_options o = {.type = strcmp(type, "keep") ? type : NULL,
                                  .pure = pure,
                                  .name = chosen,
                                  .card = card,
                                  .base_model = base,
                                  .history = history};
    char *path = is_dir(file) ? gguf_path_in(file, &o, h) : mem_string(file);
    struct model_out *out = gguf_sink_open(h, path, &o, tool_err(t));
    tool_check(t);
    tool_copy(t, out, in);
    if (model_out_note(out))
        tool_note(t, "%s", model_out_note(out));
    if (is_dir(file))
        tool_note(t, "wrote %s", path);
    model_out_close(out);
    model_close(in);
    free(path);
    free(card);
    free(base);
    free(chosen);
    free(history);
    return tool_finish(t);
}
