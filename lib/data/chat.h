/* Conversations as a model reads them: written with its chat template (chat_templates.def), then
 * encoded, with the ids that apply_chat_template of transformers gives.
 *
 * A conversation is a JSON list of {"role": "system", "user" or "assistant", "content": a text or
 * one text part}; other members of a message are ignored, except "weight": 0, with which an answer
 * is not counted. Refused: tool calls, other roles and other parts, a system prompt anywhere but
 * first, and whatever order of roles the template refuses. Messages count from 1 in errors.
 *
 * The text of a special token inside a content becomes that token, as in transformers. */
#ifndef PARE_CHAT_H
#define PARE_CHAT_H

#include "bos.h"

struct chat {
    const struct chat_template *form;
    char *bos, *eos;      /* texts of tokens; "": none is known, or none is needed */
    struct row_bos begin; /* what a text begins with that no template writes */
};
/* Refuses the name of a template that is not known; NULL and "auto" are. */
int chat_check_name(const char *name, struct err *e);
/* Takes the template by its name or, if that is NULL or "auto", the model's own, with the model's
 * special tokens. in: the model that t is from; may be NULL. -1: the template is not known, or its
 * markers are not tokens of t. Call before the tensors are read. */
int chat_open(struct chat *c, const char *name, struct tokenizer *t, struct model_in *in,
              struct err *e);
/* The same without a template, for chat_encode_pair alone. */
int chat_open_pair(struct chat *c, struct tokenizer *t, struct model_in *in, struct err *e);
void chat_close(struct chat *c);
const char *chat_name(const struct chat *c);
/* The token that ends an answer. */
int64_t chat_answer_end(const struct chat *c, const struct tokenizer *t);

/* Appends the ids of a conversation. Flags: TOKEN_UNCOUNTED for all but the answers with the token
 * that ends each. A token that is only partly of an answer is counted. */
int chat_encode(const struct chat *c, struct tokenizer *t, const json_t *messages, struct ids *out,
                struct err *e);
/* The same up to the point where the next answer begins, for a model to give it. -1 also if the
 * last message is not the user's. */
int chat_encode_prompt(const struct chat *c, struct tokenizer *t, const json_t *messages,
                       struct ids *out, struct err *e);
/* A prompt and its completion as they are, without a template: what a text begins with, both texts,
 * and the end-of-sequence token; only the completion and that token are counted. */
struct chat_text {
    const char *s;
    int64_t n;
};
int chat_encode_pair(const struct chat *c, struct tokenizer *t, struct chat_text prompt,
                     struct chat_text completion, struct ids *out, struct err *e);

#endif
