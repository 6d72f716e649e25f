/* What tokenizer_config.json says about a tokenizer beyond tokenizer.json. */
#ifndef PARE_TOKENIZER_CONFIG_H
#define PARE_TOKENIZER_CONFIG_H

#include "../model/model.h"

/* Of the file, what is used here: "bos_token", "eos_token", "chat_template"; NULL if the model has
 * no such file (in: may be NULL) or on error. json_decref it. */
json_t *tokenizer_config(struct model_in *in, struct err *e);
/* The text of a special token, such as "bos_token", which the file gives as a string or as an
 * object; NULL: it names none. */
const char *tokenizer_config_token(const json_t *config, const char *key);

#endif
