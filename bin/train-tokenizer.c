/* train-tokenizer: learns a byte-level BPE tokenizer.json from text. */
#include <stdlib.h>

#include "../lib/base/file_out.h"
#include "../lib/tokenizer/tokenizer.h"
#include "../lib/data/data.h"
#include "../lib/tool/tool.h"

static struct {
    int64_t vocab_size;
    struct opt_list special;
    const char *format, *field, *separator, *output;
} o = {.format = "auto"};
static const struct opt opts[] = {
    {"vocab-size", OPT_INT, &o.vocab_size, "N",
     "size of the vocabulary, including special tokens and the 256 bytes; required", 0},
    {"special", OPT_LIST, &o.special, "TEXT",
     "add a special token, with ids from 0; may be repeated (default <|endoftext|>)", 0},
    {"format", OPT_TEXT, &o.format, "auto|text|json",
     "what the FILEs hold: text, or JSON, lines of it or one array of objects; auto: as the name "
     "(.jsonl) or the beginning of each says",
     0},
    {"field", OPT_TEXT, &o.field, "KEY",
     "read JSON and take the text from KEY (default for JSON: text)", 0},
    {"doc-sep", OPT_TEXT, &o.separator, "TEXT", "TEXT separates documents within a file", 0},
    {"output", OPT_PATH, &o.output, "FILE",
     "write to FILE instead of standard output; FILE appears only once it is complete",
     OPT_SILENT_ID},
    {0}};
static const struct tool_desc desc = {
    .name = "train-tokenizer",
    .operands = "FILE...",
    .summary = "Learn a byte-level BPE tokenizer from text and write its tokenizer.json.",
    .description =
        "Splits text as GPT-2 does, then repeatedly merges the most frequent pair of adjacent "
        "tokens into a new one until there are --vocab-size tokens; of equally frequent pairs it "
        "takes the one with the smaller ids. Special tokens in the text are cut out first. Every "
        "byte has a token, so any text can be encoded. One FILE may be -.\n\nRefuses a vocabulary "
        "larger than the text supports: a pair must occur at least twice.",
    .example = "  train-tokenizer --vocab-size 1024 corpus.txt -o tokenizer.json",
    .opts = opts,
    .min_operands = 1,
    .max_operands = -1,
    .uses = 0,
};

static void file_count(struct tool *t, struct bpe_trainer *b, enum documents_format format,
                       const char *path)
{
    const char *text;
    int64_t n;
    tool_stdin_once(t, path);
    struct documents *d = documents_open(path, o.separator, format, tool_err(t));
    tool_check(t);
    while (documents_next_text(d, o.field, &text, &n) > 0 &&
           !bpe_train_text(b, text, n, tool_err(t)))
        ;
    documents_close(d, NULL);
    tool_check(t);
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"<|endoftext|>"};
    struct tool *t = tool_begin(&desc, argc, argv);
    int64_t n;
    if (!o.vocab_size)
        tool_usage(t, "--vocab-size N is required");
    enum documents_format format = documents_format_given(o.format, o.field, o.separator,
                                                          tool_err(t));
    if (tool_err(t)->set)
        tool_usage(t, "%s", tool_err(t)->msg);
    struct file_out out; /* opened first, since learning takes long */
    file_create(&out, o.output ? o.output : "-", tool_err(t));
    tool_check(t);
    struct bpe_trainer *b = bpe_train_open(o.special.n ? o.special.text : usual,
                                           o.special.n ? o.special.n : 1, tool_err(t));
    for (int i = 0; b && i < tool_operands(t); i++)
        file_count(t, b, format, tool_operand(t, i));
    char *text = b ? bpe_train_finish(b, o.vocab_size, &n, tool_err(t)) : NULL;
    tool_check(t);
    file_append(&out, text, n, tool_err(t));
    tool_check(t);
    file_publish(&out, tool_err(t));
    free(text);
    free(o.special.text);
    bpe_train_close(b);
    return tool_finish(t);
}
