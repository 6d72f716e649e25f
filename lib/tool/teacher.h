/* The teacher of --against: a MODEL, or a stream of kind "logits" that has all of them. */
#ifndef PARE_TOOL_TEACHER_H
#define PARE_TOOL_TEACHER_H

#include <jansson.h>
#include <stdint.h>

struct eval;
struct eval_options;
struct model_in;
struct tokens;
struct tool;
struct tool_teacher;

/* Is the path that of logits? Standard input and pipes are, since they cannot be looked into. */
int tool_is_logits(const char *path);
/* student: the first of the `models` operands; if its vocabulary was cut from the teacher's, the
 * teacher has only its tokens (vocab.h). Ends the tool on an error: logits of another text, or not
 * all of them, or from a pipe for several models; another tokenizer, unless `any_tokenizer`. */
struct tool_teacher *tool_teacher_open(struct tool *t, const char *path, struct model_in *student,
                                       const struct tokens *tokens, const char *tokens_name,
                                       int any_tokenizer, int models);
int64_t tool_teacher_bytes(const struct tool_teacher *r); /* of a model's weights */
/* Evaluations are to be beside it. 1: its logits settle how windows are cut, as they now are */
int tool_teacher_apply(struct tool_teacher *r, struct eval_options *o);
/* Who it is, and the figures of an evaluation beside it; new reference */
json_t *tool_teacher_record(const struct tool_teacher *r, const struct eval *v);
/* NULL: nothing to do */
void tool_teacher_close(struct tool *t, struct tool_teacher *r);

#endif
