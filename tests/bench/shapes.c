/* The bench's models: see shapes.h. */
#include "shapes.h"

#include <string.h>

static const struct shape shapes[] = {
    {"L15", 288, 6, 6, 6, 48, 768, 32000, 8, 256, 0, 0, 0, NULL},
    {"L110", 768, 12, 12, 12, 64, 2048, 32000, 4, 256, 0, 0, 0, NULL},
    {"S135", 576, 30, 9, 3, 64, 1536, 49152, 2, 512, 32, 2048, 0, NULL},
    {"S90", 480, 30, 9, 3, 64, 1152, 49152, 2, 512, 32, 2048, 0, NULL},
    /* TinyLlama, and half of it */
    {"B1", 2048, 22, 32, 4, 64, 5632, 32000, 1, 2048, 8, 2048, 1, NULL},
    {"B06", 1536, 22, 24, 4, 64, 4096, 32000, 1, 2048, 8, 2048, 1, NULL},
    /* a hybrid of TinyLlama's size: the first half of Nemotron Nano 9B v2's layers */
    {"H1", 2048, 28, 16, 8, 128, 7168, 32000, 1, 2048, 8, 2048, 1, "M-M-M-MM-M-M-M*-M-M-M*-M-M-M"},
    /* Llama 3.1 8B, and Minitron's width-pruned one */
    {"B8", 4096, 32, 32, 8, 128, 14336, 128256, 1, 4096, 1, 4096, 1, NULL},
    {"B4", 3072, 32, 32, 8, 128, 9216, 128256, 1, 4096, 1, 4096, 1, NULL},
    /* for tests of this program; of odd the emulated library refuses products */
    {"tiny", 64, 2, 4, 2, 16, 128, 512, 2, 64, 0, 0, 0, NULL},
    {"odd", 63, 2, 4, 2, 16, 128, 512, 2, 64, 0, 0, 0, NULL},
    {"hybrid", 64, 3, 4, 2, 16, 128, 512, 2, 64, 0, 0, 0, "M*-"},
};

const struct shape *shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!strcmp(shapes[i].name, name))
            return &shapes[i];
    return NULL;
}

/* Mamba layers have twice the hidden channels in heads of 64, as Nemotron-H's have by default. */
static json_t *kind_of(const struct shape *s)
{
    if (!s->blocks)
        return json_pack("{s:s, s:[s], s:I}", "model_type", "llama", "architectures",
                         "LlamaForCausalLM", "num_hidden_layers", s->L);
    return json_pack("{s:s, s:[s], s:s, s:I, s:i}", "model_type", "nemotron_h", "architectures",
                     "NemotronHForCausalLM", "hybrid_override_pattern", s->blocks,
                     "mamba_num_heads", s->E / 32, "n_groups", s->E < 512 ? 1 : 8);
}

static json_t *config_of(const struct shape *s)
{
    json_t *kind = kind_of(s),
           *config = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:b, s:f}", "hidden_size", s->E,
                               "num_attention_heads", s->H, "num_key_value_heads", s->K, "head_dim",
                               s->D, "intermediate_size", s->F, "vocab_size", s->V,
                               "max_position_embeddings", 8192, "tie_word_embeddings", !s->untied,
                               "rms_norm_eps", 1e-5);
    json_object_update(config, kind);
    json_decref(kind);
    return config;
}

int shape_spec(struct model_spec *h, const struct shape *s, struct err *e)
{
    *h = (struct model_spec){0};
    return model_spec_from_config(h, config_of(s), e);
}
