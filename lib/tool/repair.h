/* The repair of a cut (lib/prune/repair.h) as a tool does it: its text is a parent of what is made,
 * memory is predicted, what was reached is noted. */
#ifndef PARE_TOOL_REPAIR_H
#define PARE_TOOL_REPAIR_H

#include "../prune/prune.h"

struct tool;

/* The tokens' file, how many to use, the ridge, whether their tokenizer may differ from the
 * model's; the rest is private. */
struct tool_repair {
    const char *path;
    int64_t tokens;
    double ridge;
    int any_tokenizer;
    struct tool *t;
    struct slice_plan *p;
    struct repair_text text;
    struct repair *repair;
};
/* Computes in f32. */
void tool_repair_open(struct tool_repair *r, struct tool *t, struct slice_plan *p,
                      const struct model_spec *source);
/* From the source's tensors to those of the slice, in one pass. */
void tool_repair_stream(struct tool_repair *r, struct model_in *in, struct model_out *out);
/* The same of both in memory, of slice_load and slice_round; notes how far the slice's logits are
 * from the source's by the reference implementation, before and after, on the first `most` tokens.
 */
void tool_repair_loaded(struct tool_repair *r, const struct model *source, struct model *slice,
                        int64_t most);

#endif
