/* Token ids in the JSON files of a model: its config.json, generation_config.json. */
#ifndef PARE_VOCAB_IDS_H
#define PARE_VOCAB_IDS_H

#include "../model/model.h"

/* Called with every id and the name of its member; returns what it is to be, -1: it is to go, from
 * lists too. */
typedef int64_t vocab_id_fn(void *user, const char *name, int64_t id);
/* Members by whose names their values are ids, or lists of these: ..._token_id, ..._token_ids,
 * suppress_tokens and such, at any depth. 0 */
int vocab_ids_visit(json_t *value, vocab_id_fn *f, void *user);
/* Of generation_config.json, as it is read; nothing is changed. -1: it is malformed. */
int vocab_ids_visit_files(struct model_in *in, vocab_id_fn *f, void *user, struct err *e);

#endif
