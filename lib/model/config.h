/* Reading facts out of a config.json through a family's keys (config.c), which keys those are
 * (config_keys.c), and the rope tables that follow (rope.c). Used only by the files that read a
 * spec. Errors stick in c->e and name the key and its value. */
#ifndef PARE_CONFIG_H
#define PARE_CONFIG_H

#include "spec.h"

struct config {
    const struct family *family;
    const json_t *json;
    struct err *e;
};

/* A fact's value: the config's, else the class default. New reference. NULL if the family does not
 * know the fact (no error), or if it is required and missing (error). JSON null if it is absent and
 * the default is null. */
json_t *config_value(const struct config *c, const char *fact);
/* Numbers checked against their bounds; `missing` if the family does not know the fact or it is
 * absent. `low` on error, so that sizes stay sane. */
int64_t config_int(const struct config *c, const char *fact, int64_t low, int64_t high,
                   int64_t missing);
double config_real(const struct config *c, const char *fact, double low, double high,
                   double missing);
int config_flag(const struct config *c, const char *fact, int missing);
/* Does a condition (family_tensor.when) hold? An error if a flag in it is not true or false. */
int config_when(const struct config *c, const char *when);
/* The key that the family's class uses for a fact, for messages and for writing back; NULL:
 * none. */
const char *config_key(const struct family *f, const char *fact);
/* the same; without one the fact's own name */
const char *config_spelled(const struct config *c, const char *fact);
/* The same for this config: of several spellings the one that it has, or else the first; NULL also
 * where a value holds whatever it says. */
const char *config_spelling(const struct config *c, const char *fact);
/* A value as JSON text, truncated to fit; for messages. Returns buf. */
const char *config_show(const json_t *value, char buf[80]);
/* The largest length or number of positions. */
#define ANY_LENGTH (INT64_C(1) << 40)
/* The sliding window in use, 0: none; what embeddings are multiplied by: a constant, or the root of
 * the width (the current one, also after a cut). */
int64_t config_window(const struct config *c);
double config_embed_scale(const struct config *c, int64_t hidden_size);
/* Does the family read this key, or is this value of it known to have no effect? */
int config_knows(const struct family *f, const char *key, const json_t *value);
/* Refuses, by name, keys that change the function in ways not known here, and those that state a
 * fact otherwise than the key that the class reads. */
int config_check_keys(const struct config *c);

/* Refuses a model_type that no family has: says which are like it, by name and by keys. */
void config_unknown_family(const json_t *config, struct err *e);

/* 1: in such a list of keys, with a value that it allows; 0: not in it; -1: in it, but with another
 * value. */
int config_listed(const char *const *list, const char *key, const json_t *value);

/* block_configs (blocks.c), for a class that has one; no effect for the others. Reading sets
 * blocks, KV heads and FFN width of every layer, whose other values are already set. */
void config_read_blocks(const struct config *c, struct model_spec *h);
void config_write_blocks(struct model_spec *h);
/* Which layers have experts (experts.c), of a class that has some: all but mlp_only_layers, and of
 * the rest every decoder_sparse_step-th. Reading sets the sizes of the others along the axes of
 * experts to 0, and those of layers with experts along F; writing states the layers as they are,
 * where the config's rule gives others. */
void config_read_experts(const struct config *c, struct model_spec *h);
void config_write_experts(struct model_spec *h);
/* Mamba layers (mixers.c), of a class that has some: how many layers the config lists by their
 * blocks, 0: it is not such a class; the blocks of each; the limits of time steps. Writing states
 * the blocks, and how many times as wide as the model the mixers are, if it is a whole number. */
int64_t config_count_blocks(const struct config *c);
void config_read_mixers(const struct config *c, struct model_spec *h);
void config_read_time_steps(const struct config *c, struct model_spec *h);
void config_write_mixers(struct model_spec *h);
/* The channels of all Mamba heads of a layer; 0: no layer has any. */
int64_t config_mixer_width(const struct model_spec *h);
/* Are all FFN widths such as ffn_mult can express? Else they are written as intermediate_size,
 * which fewer readers know. */
int config_widths_by_mult(const struct model_spec *h);

/* Rope tables of a family: none; one (fact rope_theta); two (rope_local_theta as well), the second
 * for layers with a sliding window, never scaled by rope_scaling, and rope_parameters then hold an
 * object for each type of layer. */
int config_rope_tables(const struct family *f);
/* Is it a key of rope_scaling that some type of scaling reads? */
int config_rope_knows(const char *key);
/* Fills h->ropes from theta, scaling and partial rotation for heads of head_dim channels.
 * References: Su et al. 2104.09864 (rope), Peng et al. 2309.00071 (yarn), Ding et
 * al. 2402.13753 (longrope). */
int config_ropes(const struct config *c, struct model_spec *h, int64_t head_dim);

/* What the config of a model says of a rope table, for writers of other formats. */
struct rope_said {
    /* of the scaling: "default", "linear", "llama3", "yarn", "longrope", "dynamic" */
    char type[61];
    double theta;
    double positions; /* before scaling */
    double factor;    /* of linear and yarn */
    int usual_yarn;   /* yarn's ramp is the usual one: from 32 turns to 1, rounded outwards */
};
struct rope_said config_rope_said(const struct model_spec *h, int table);

/* The whole spec from a config; `layers` (or NULL) is the stream header's list of per-layer values,
 * which replace the config's rules. On error *h is freed. The config is borrowed (a reference is
 * taken). */
int config_read_spec(struct model_spec *h, json_t *config, const json_t *layers, struct err *e);

#endif
