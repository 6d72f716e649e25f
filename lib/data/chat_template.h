/* Chat templates: how each writes a conversation, and which of them a model has. The templates are
 * the rows of chat_templates.def; none is interpreted. */
#ifndef PARE_CHAT_TEMPLATE_H
#define PARE_CHAT_TEMPLATE_H

#include "../../formats/stream.h"
#include "../model/model.h"

enum chat_role { CHAT_SYSTEM = 1, CHAT_USER = 2, CHAT_ASSISTANT = 4 };

/* Texts that are not set (NULL) are empty. */
struct chat_template {
    const char *name;
    /* The texts of these tokens, unless the model's tokenizer has others; no bos: nothing precedes
     * the conversation. */
    const char *bos, *eos;
    const char *system[2], *user[2]; /* before and after the content */
    /* An answer: before it, where a prompt ends; then what is counted in a loss: a lead-in, the
     * content and the end of the turn (eos, if it is not set); then what follows uncounted. */
    const char *answer[4];
    /* What the last answer begins with, after the line feeds before it are removed: an empty
     * thought. Such a template also takes reasoning out of answers; those that have any are
     * refused. NULL: answers are as they are. */
    const char *thought;
    const char *default_system; /* if the conversation has no system prompt; NULL: none is added */
    int trimmed;                /* roles whose content loses white space at both ends */
    int alternate;              /* user and assistant must alternate, the user first */
    int begins_as_text;         /* after what the tokenizer puts before any text */
    /* A system prompt that is no turn of its own begins the first question or the last message, if
     * that is a question (an answer there would make it vanish, so that is refused). */
    enum {
        CHAT_SYSTEM_TURN,
        CHAT_SYSTEM_IN_FIRST,
        CHAT_SYSTEM_IN_LAST,
        CHAT_SYSTEM_REFUSED
    } system_place;
};

/* The template of that name; NULL: the error lists the names. */
const struct chat_template *chat_template_named(const char *name, struct err *e);
/* The template that the files of a model name (chat_template.jinja, or `chat_template` of
 * tokenizer_config.json); in: may be NULL. NULL: there is none, or it is not known, and the error
 * says what to do. */
const struct chat_template *chat_template_of(struct model_in *in, struct err *e);
/* Digest of a template's text, in which a backslash and an n are a line feed, as are a carriage
 * return and a line feed, and white space at the end does not count: so it is the same from a JSON
 * string and from a file. */
void chat_digest(const char *text, int64_t n, char hex[ST_DIGEST]);

#endif
