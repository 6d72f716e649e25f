/* A stream of tokens as windows, for tools that run a model over them: options, checks, notes. */
#ifndef PARE_TOOL_WINDOWS_H
#define PARE_TOOL_WINDOWS_H

#include "../data/data.h"
#include "options.h"

struct tool;
struct tool_text {
    int64_t max_tokens, seq_length, context; /* as the options of these names */
    const char *row_bos;
    int any_tokenizer;
    struct tokens tokens;
    struct windows w;
};
/* The options, in the order of tables of options. */
#define TEXT_OPTIONS(text) \
    {"max-tokens", OPT_INT, &(text).max_tokens, "N", "use only the first N tokens; 0: no limit", \
     OPT_FROM_0}, \
        {"context", \
         OPT_INT, \
         &(text).context, \
         "N", \
         "join the sequences and cut the result into windows of N tokens; 0: do not join them", \
         OPT_FROM_0}, \
        {"seq-length", \
         OPT_INT, \
         &(text).seq_length, \
         "N", \
         "cut longer sequences into windows of N tokens; 0: N is that of the rows, or 2048 for " \
         "documents, but no more than max_position_embeddings", \
         0}, \
        {"row-bos", \
         OPT_TEXT, \
         &(text).row_bos, \
         "auto|yes|no", \
         "whether windows that begin inside a text begin with a BOS token; auto: if the " \
         "tokenizer " \
         "puts one before a text", \
         0}, \
    { \
        "any-tokenizer", OPT_FLAG, &(text).any_tokenizer, NULL, \
            "continue even if model and tokens come from different tokenizers", 0 \
    }
/* Options that contradict each other end the tool. */
void tool_text_check(struct tool *t, const struct tool_text *text);
/* Reads operand `tokens` for the model `h`, which is operand `model`. */
void tool_text_open(struct tool *t, struct tool_text *text, int tokens, int model,
                    const struct model_spec *h);
void tool_text_close(struct tool_text *text);

#endif
