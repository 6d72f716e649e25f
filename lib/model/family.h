/* A family is data: families/NAME.def declares which config.json keys it reads, its tensors with
 * their axes, its block as a list of op lines, and how its Hugging Face checkpoint stores the
 * tensors. Nothing else in the program names a family.
 *
 * Slots are named by strings; a line that writes to an existing name creates a new version of it.
 * `x` is the residual stream. */
#ifndef PARE_FAMILY_H
#define PARE_FAMILY_H

#include "../../kernels/op.h"
#include "axes.h"

/* The kinds of block that a layer may consist of, as bits. Every op line of a block belongs to one
 * kind, or to several that share it; a layer runs the lines of the kinds that it has, and has the
 * tensors that those lines read. */
enum block_kind {
    KIND_attention = 1,
    KIND_mlp = 2,
    KIND_mamba = 4,
    /* of lines that several share, such as one norm for both branches */
    KIND_any = KIND_attention | KIND_mlp,
    KIND_mixer = KIND_attention | KIND_mamba,
    KIND_each = KIND_any | KIND_mamba
};
/* Has a layer more than one kind of block, so that it can lose one of them? */
static inline int kinds_several(unsigned kinds) { return (kinds & (kinds - 1)) != 0; }

/* Canonical tensors: "embed_tokens" and, per layer, "layers.{L}.q_proj.weight" and so on; as
 * families/common.h lists them. `when`: ALWAYS, or a config flag that must be true, or UNLESS_TIED.
 */
struct family_tensor {
    /* canonical, with {L} for the layer; every weight ends in .weight, every bias in .bias */
    const char *name;
    enum axis axes[2]; /* those of its dimensions; AXIS_NONE second for vectors */
    /* NULL: always; else terms joined by &, each a flag of the config ("attention_bias", "tied"),
     * or a number of it ("norms=2"), negated by !; "experts" and "!experts" of a layer */
    const char *when;
};

/* How a kind of file stores them, as layout.c reads it: a foreign tensor is a concatenation of
 * canonical ones along its rows, optionally stored transposed. */
struct family_stored {
    /* foreign, without .weight / .bias; {L}: the layer, {N}: the unit of the axis in `layout` */
    const char *name;
    /* canonical stems ("layers.{L}." implied when name has {L}) joined by |, or repeated for every
     * unit of an axis: "K*(q_proj|k_proj|v_proj)"; ~ before a stem: rope applies to its rows */
    const char *layout;
    int transposed;   /* weights of two dimensions are stored [in, out] */
    const char *when; /* as family_tensor.when: only in such models */
};

/* An architecture that llama.cpp gives GGUF files of the family. Several families may share one;
 * the first that explains a whole file is chosen. Of several of a family the first that can hold a
 * model is written. */
struct family_gguf {
    const char *arch;
    /* rope rotates neighbouring channels, unlike the class, so rows marked ~ are interleaved */
    int neighbours;
    /* models with this number of layers scale scores by hidden_size / num_attention_heads, not
     * head_dim */
    int64_t wide_score_layers;
    /* heads must be hidden_size / num_attention_heads wide; there must be as many KV heads */
    int head_by_width, no_groups;
    /* a tied head is stored too; no other head than a tied one; matrices that have no bias get one
     * of zeros */
    int needs_head, only_tied, needs_biases;
    /* has the epsilon of its norms under both names that there are */
    int both_epsilons;
    /* takes biases of o_proj, of the MLP */
    int o_bias, mlp_bias;
    /* > 0: has norms of q and k in models of at least so many layers, and in no others */
    int64_t qk_norm_layers;
    /* of mixtures of experts: divides the weights of the chosen experts by their sum */
    int renormalises;
    /* reads divisors of the rope frequencies from tensors; rotates only if rope.scaling.finetuned
     * is true, which it is unless the file says otherwise */
    int rope_divisors, rope_switch;
    /* Mamba heads must together have twice as many channels as the residual stream */
    int mamba_twice;
    /* runs sliding windows: in all layers but every n-th, unless the file lists them */
    int windows;
    int64_t
        window_layers; /* > 0: only in models with this number of layers, the others have none */
    /* llama.cpp's quantiser takes models with this number of layers and grouped heads for its 70B
     * model, whose v it gives more bits */
    int64_t large_layers;
};

/* One op line: out <- op(in...; weights). Weights are canonical stems ("q_proj"): w[0] =
 * stem.weight, w[1] = stem.bias if present. Norms over heads: groups = input width / weight length.
 * Parameters: eps, activation and scales from struct model_spec; heads, window and rope from its
 * layer. model_spec_has_line says which lines a layer runs. */
struct family_line {
    unsigned kinds; /* enum block_kind; 0 outside the blocks */
    enum op op;
    const char *out, *in[OP_INPUTS], *weight;
    /* as family_tensor.when; "rope": only in layers that rotate */
    const char *when;
};

/* A config key and the fact it gives. `fact` is a name known to lib/model/spec_config.c
 * ("hidden_size", "norm_eps", ...). */
struct family_key {
    /* several keys of one fact are its spellings: the first that a config has counts */
    const char *fact, *key; /* key NULL: the class has no key, the default holds */
    /* JSON text of the class default, or an expression name known to model/spec_config.c such as
     * "=num_attention_heads"; NULL: required */
    const char *fallback;
    /* what an explicit null means, in the same language; NULL: the same as an absent key */
    const char *on_null;
    /* as family_tensor.when: otherwise a later row of the same fact holds */
    const char *when;
};

/* Which layers have the sliding window where the config lists no layer_types, and which rotate
 * where it lists no no_rope_layers; see the tables of functions in spec_config.c. */
enum window_rule {
    WINDOW_NONE,          /* the class has no window */
    WINDOW_ALL,           /* all layers */
    WINDOW_EVERY_OTHER,   /* 0, 2, 4, ... */
    WINDOW_BUT_EVERY_NTH, /* all but every sliding_window_pattern-th */
    WINDOW_FROM_LAYER,    /* those from max_window_layers on */
    WINDOW_EVEN_BELOW,    /* 0, 2, 4, ... below max_window_layers */
    WINDOW_WITHOUT_ROPE,  /* those that do not rotate */
    WINDOW_RULES
};
enum rope_rule {
    ROPE_ALL,           /* all layers, if the class has rope */
    ROPE_BUT_EVERY_NTH, /* all but every no_rope_layer_interval-th */
    ROPE_WITH_WINDOW,   /* those that have the sliding window */
    ROPE_UNLESS_FULL,   /* the same; all layers if no window is in use */
    ROPE_UNLESS_ALIBI,  /* all layers, or none if the flag alibi is set */
    ROPE_IF_NAMED,      /* all, if position_embedding_type is "rope" */
    ROPE_RULES
};

struct family {
    const char *name, *architecture; /* model_type, architectures[0] */
    /* "model." : absent from checkpoints saved from the base model */
    const char *base_prefix;
    /* what the modules of transformers have in its place; NULL: the same */
    const char *module_prefix;
    const struct family_key *keys;       /* lists end with a NULL name */
    const struct family_tensor *tensors; /* in stream order: start, one layer, end */
    const struct family_stored *stored;
    const struct family_gguf
        *gguf; /* architectures of GGUF files, and what those call the tensors */
    const struct family_stored *gguf_stored;
    /* end stops before the head: its last line writes "n" */
    const struct family_line *start, *block, *end;
    int norm_plus1; /* norms multiply by 1 + w */
    /* a q_norm or k_norm as wide as all heads norms each head by itself, with weights of its own */
    int norms_by_head;
    int rope_neighbours; /* rope rotates channels 2i and 2i + 1, not i and i + half */
    /* embeddings are multiplied by sqrt(hidden_size): of the current width, also after a cut */
    int embed_by_width;
    /* its config class accepts a hidden_size that is not a multiple of the heads */
    int any_width;
    int explicit_head_dim; /* its config class honours head_dim */
    /* its config class checks longrope's lists against hidden_size / num_attention_heads */
    int longrope_by_width;
    /* its class has norms of q and k that are hidden_size / num_attention_heads wide */
    int qk_norms_by_width;
    /* families that compute the same function, written instead where the class refuses a shape;
     * NULL-terminated */
    const char *twins[4];
    /* auto_map of a class that transformers has not: its config and model in a Hub repository */
    const char *auto_map[2];
    enum window_rule windows;
    enum rope_rule ropes;
    /* config keys that do not change the function; "key=JSON": only with this value (or null) */
    const char *const *harmless;
};

extern const struct family *const families[];             /* NULL-terminated */
const struct family *family_find(const char *model_type); /* NULL: unknown */
int family_count_tensors(const struct family *f);         /* rows of its list */
/* Names of all families, "llama, mistral, ..."; free() it. */
char *family_list(void);

/* Names of canonical tensors. "layers.3.q_proj.weight": the layer and "q_proj.weight"; outside the
 * blocks -1 and the name itself. */
const char *tensor_layer(const char *name, int64_t *layer);
struct tensor_parts {
    int64_t layer;
    char stem[64];      /* "q_proj" */
    const char *suffix; /* ".weight", ".bias" or "" */
};
struct tensor_parts tensor_take_apart(const char *name);

/* The kinds of a family's blocks; the kinds of the lines that read a tensor (all kinds for a tensor
 * outside the blocks); the name of a single kind. */
unsigned family_kinds(const struct family *f);
unsigned family_tensor_kinds(const struct family *f, const struct family_tensor *t);
const char *block_kind_name(enum block_kind kind);
/* The kinds of the lines that read a tensor with this axis, or with one nested in it. */
unsigned family_axis_kinds(const struct family *f, enum axis axis);
/* Do its layers have sizes along this axis of the layers? Heads have a size in every family; else
 * only if some tensor has the axis. */
int family_has_axis(const struct family *f, enum axis axis);
/* Is this `when` a condition on a layer, not on the config? */
int family_when_of_layer(const char *when);

#endif
