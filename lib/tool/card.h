/* The model card of an exported directory, README.md: metadata as the Hugging Face Hub defines it,
 * the shape, figures, the commands that made the model, and how to run it. */
#ifndef PARE_CARD_H
#define PARE_CARD_H

#include "../model/model.h"

/* All borrowed. */
struct card {
    const char *name;       /* of the model: the heading */
    const char *base_model; /* its origin on the Hub, ORGANISATION/NAME; NULL: not known */
    /* the card of the model that was cut, whose licence and languages are taken over; NULL: none */
    const char *origin;
    const struct model_spec *model; /* as it is written */
    const json_t *steps;            /* its history, [step, ...], the export last */
    const json_t *figures;          /* what eval-ppl printed, [object, ...]; NULL: none */
    int has_chat;                   /* there is a chat template */
};
/* Free it. */
char *card_text(const struct card *c);
/* Its metadata alone, in a card that is otherwise empty; of c, name and figures are not needed.
 * Free it. */
char *card_metadata(const struct card *c);

/* The name on the Hub of what a model was made from, ORGANISATION/NAME: in the path of its
 * origin (hist_origin), if that is in the Hub's cache, or _name_or_path of its config. NULL: not
 * known. Free it. */
char *card_hub_name(const struct model_spec *model, const json_t *steps);
/* The name in one such path. path NULL, or not of the Hub's cache: NULL. Free it. */
char *card_cached_name(const char *path);
/* Is it ORGANISATION/NAME? */
int card_is_hub_name(const char *name);

#endif
