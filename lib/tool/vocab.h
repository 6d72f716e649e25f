/* A model among the tokens of another whose vocabulary was cut from its own. */
#ifndef PARE_TOOL_VOCAB_H
#define PARE_TOOL_VOCAB_H

struct model_in;
struct model_spec;
struct tool;

/* `in`, or if its tokenizer has every token of `to`'s, and more, a model that has only those: it
 * reads the ids of `to`, and of its logits only those of their tokens are left, so that its
 * distribution is that among them, p(i) = exp(z_i) / sum over these j of exp(z_j). What it gives
 * the other tokens is shared out in proportion. Says so in a note. Takes over `in`. name, to_name:
 * what they are called there. */
struct model_in *tool_model_among(struct tool *t, struct model_in *in, const char *name,
                                  struct model_in *to, const char *to_name);

#endif
