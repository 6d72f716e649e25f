/* The teacher of --against: a MODEL, or a stream of kind "logits" that has all of them. */
#ifndef PARE_TOOL_TEACHER_H
#define PARE_TOOL_TEACHER_H

#include "../eval/eval.h"
#include "tool.h"

struct tool_teacher {
    const char *name;
    int is_logits;
    struct model_in *in; /* NULL: logits */
    struct model model;
    struct logits_in logits;
};
/* Is the path that of logits? Standard input and pipes are, since they cannot be looked into. */
int tool_is_logits(const char *path);
/* Ends the tool on an error: logits of another text, or not all of them; another tokenizer, unless
 * `any_tokenizer`. */
struct tool_teacher *tool_teacher_open(struct tool *t, const char *path,
                                       const struct tokens *tokens, const char *tokens_name,
                                       int any_tokenizer);
/* Logits settle how windows are cut: 1 if they do. */
int tool_teacher_windows(const struct tool_teacher *r, struct window_options *w);
struct teacher tool_teacher_of(struct tool_teacher *r); /* for evaluations */
/* Who it is, and the figures of an evaluation beside it; new reference */
json_t *tool_teacher_record(const struct tool_teacher *r, const struct eval *v);
/* NULL: nothing to do */
void tool_teacher_close(struct tool *t, struct tool_teacher *r);

#endif
