/* Which keys of a config.json count: those that the family's class reads; those known to be
 * harmless; all others, which the class does not declare and transformers therefore ignores.
 * Refuses values that change the function in ways not known here, and a fact under another name
 * that contradicts the one that the class reads; a model_type that no family has. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

/* Keys of any config.json that do not change the function: bookkeeping, token ids, dropouts (off
 * when a model is evaluated; 0 here when it is trained), generation defaults of old files, output
 * switches. "key=JSON": only with this value; among these are keys that transformers reads in code
 * shared by all classes. */
static const char *const common_harmless[] = {"architectures",
                                              "model_type",
                                              "torch_dtype",
                                              "dtype",
                                              "transformers_version",
                                              "_name_or_path",
                                              "auto_map",
                                              "use_cache",
                                              "unk_token_id",
                                              "sep_token_id",
                                              "mask_token_id",
                                              "decoder_start_token_id",
                                              "initializer_range",
                                              "attention_dropout",
                                              "hidden_dropout",
                                              "attn_pdrop",
                                              "embd_pdrop",
                                              "resid_pdrop",
                                              "dropout",
                                              "_attn_implementation",
                                              "attn_implementation",
                                              "_attn_implementation_autoset",
                                              "_attn_implementation_internal",
                                              "_commit_hash",
                                              "tokenizer_class",
                                              "prefix",
                                              "task_specific_params",
                                              "problem_type",
                                              "finetuning_task",
                                              "id2label",
                                              "label2id",
                                              "num_labels",
                                              "output_attentions",
                                              "output_hidden_states",
                                              "output_scores",
                                              "return_dict",
                                              "return_dict_in_generate",
                                              "torchscript",
                                              "gradient_checkpointing",
                                              "max_length",
                                              "min_length",
                                              "do_sample",
                                              "early_stopping",
                                              "num_beams",
                                              "num_beam_groups",
                                              "diversity_penalty",
                                              "temperature",
                                              "top_k",
                                              "top_p",
                                              "typical_p",
                                              "repetition_penalty",
                                              "length_penalty",
                                              "no_repeat_ngram_size",
                                              "encoder_no_repeat_ngram_size",
                                              "bad_words_ids",
                                              "num_return_sequences",
                                              "chunk_size_feed_forward",
                                              "forced_bos_token_id",
                                              "forced_eos_token_id",
                                              "remove_invalid_values",
                                              "exponential_decay_length_penalty",
                                              "suppress_tokens",
                                              "begin_suppress_tokens",
                                              "tf_legacy_loss",
                                              "use_bfloat16",
                                              "transformers.js_config",
                                              "is_decoder",
                                              "is_encoder_decoder=false",
                                              "tie_encoder_decoder=false",
                                              "add_cross_attention=false",
                                              "cross_attention_hidden_size=null",
                                              "pruned_heads={}",
                                              "is_causal=true",
                                              "sliding_window=null",
                                              "attention_chunk_size=null",
                                              "per_layer_config={}",
                                              "kv_sharing_modes=null",
                                              "layer_types=null",
                                              "quantization_config=null",
                                              "tie_last_hidden_states",
                                              NULL};

static int same_value(const json_t *a, const json_t *b)
{
    return json_is_number(a) && json_is_number(b) ? json_number_value(a) == json_number_value(b)
                                                  : json_equal(a, b);
}

int config_listed(const char *const *list, const char *key, const json_t *value)
{
    size_t n = strlen(key);
    for (; *list; list++) {
        if (strncmp(*list, key, n) || ((*list)[n] && (*list)[n] != '='))
            continue;
        if (!(*list)[n] || json_is_null(value))
            return 1;
        json_t *only = json_loads(*list + n + 1, JSON_DECODE_ANY, NULL);
        int ok = only && same_value(only, value);
        json_decref(only);
        return ok ? 1 : -1;
    }
    return 0;
}

static int is_read(const struct family *f, const char *key)
{
    for (const struct family_key *k = f->keys; k->fact; k++)
        if (k->key && !strcmp(k->key, key))
            return 1;
    return config_rope_tables(f) &&
           (!strcmp(key, "rope_scaling") || !strcmp(key, "rope_parameters"));
}

/* As config_listed, of the lists that concern a family. */
static int harmless(const struct family *f, const char *key, const json_t *value)
{
    int known = config_listed(f->harmless, key, value);
    return known ? known : config_listed(common_harmless, key, value);
}

int config_knows(const struct family *f, const char *key, const json_t *value)
{
    return is_read(f, key) || harmless(f, key, value) > 0;
}

/* Facts under names that other classes and programs give them. */
static const struct {
    const char *key, *fact;
} aliases[] = {{"d_model", "hidden_size"},
               {"n_embd", "hidden_size"},
               {"d_ff", "intermediate_size"},
               {"ffn_dim", "intermediate_size"},
               {"ffn_hidden_size", "intermediate_size"},
               {"n_inner", "intermediate_size"},
               {"n_layer", "num_hidden_layers"},
               {"n_layers", "num_hidden_layers"},
               {"num_layers", "num_hidden_layers"},
               {"n_head", "num_attention_heads"},
               {"n_heads", "num_attention_heads"},
               {"num_heads", "num_attention_heads"},
               {"n_head_kv", "num_key_value_heads"},
               {"n_kv_heads", "num_key_value_heads"},
               {"num_kv_heads", "num_key_value_heads"},
               {"num_query_groups", "num_key_value_heads"},
               {"attention_head_size", "head_dim"},
               {"kv_channels", "head_dim"},
               {"rope_base", "rope_theta"},
               {"rotary_base", "rope_theta"},
               {"rms_norm_eps", "norm_eps"},
               {"layer_norm_eps", "norm_eps"},
               {"layer_norm_epsilon", "norm_eps"},
               {"layernorm_epsilon", "norm_eps"},
               {"norm_epsilon", "norm_eps"}};

/* The fact that a key of no effect seems to state: an alias, or the fact's own name. */
static const char *stated_fact(const char *key)
{
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (!strcmp(aliases[i].key, key))
            return aliases[i].fact;
    return key;
}

/* A key that the class does not read may still state a fact, and must not contradict it. */
static int check_stated(const struct config *c, const char *key, const json_t *value)
{
    const char *fact = stated_fact(key);
    json_t *holds = json_is_null(value) ? NULL : config_value(c, fact);
    char said[80], held[80];
    if (holds && !json_is_null(holds) && !same_value(holds, value))
        err_set(c->e,
                "config.json: %.100s is %s, but model_type %s computes with %s %s (--ignore-key "
                "%.100s if that is right)",
                key, config_show(value, said), c->family->name, config_spelled(c, fact),
                config_show(holds, held), key);
    json_decref(holds);
    return c->e->set ? -1 : 0;
}

int config_check_keys(const struct config *c)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)c->json, key, value) {
        if (is_read(c->family, key))
            continue;
        int known = harmless(c->family, key, value);
        char show[80];
        if (known < 0)
            return err_set(c->e,
                           "config.json: %.100s %s changes the function and is not supported for "
                           "model_type %s (--ignore-key %.100s: read it as if it were absent)",
                           key, config_show(value, show), c->family->name, key);
        if (!known && check_stated(c, key, value))
            return -1;
    }
    return 0;
}

/* Appends a name to a list in words. */
static char *add_unread(char *list, const char *in, const char *dot, const char *key,
                        const char *reader)
{
    list = list ? mem_append(list, ", %s%s%.100s", in, dot, key)
                : mem_format("%s%s%.100s", in, dot, key);
    return reader ? mem_append(list, " (which %s reads)", reader) : list;
}

char *config_unread(const struct family *f, const json_t *config)
{
    static const char *const rope_places[] = {"rope_scaling", "rope_parameters"};
    char *list = NULL;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        if (!is_read(f, key) && !harmless(f, key, value))
            list = add_unread(list, "", "", key, NULL);
    }
    for (int i = 0; i < 2; i++)
        json_object_foreach(json_object_get(config, rope_places[i]), key, value) {
            if (!json_is_object(value) && !config_rope_knows(key))
                list = add_unread(list, rope_places[i], ".", key,
                                  strcmp(key, "attn_factor") ? NULL : "vLLM");
        }
    return list;
}

/* ---- what an unknown family resembles */

/* Do both names begin with the same letters, up to the first digit or mark? */
static int same_stem(const char *a, const char *b)
{
    const char *letters = "abcdefghijklmnopqrstuvwxyz";
    size_t n = strspn(a, letters);
    return n > 1 && n == strspn(b, letters) && !strncmp(a, b, n);
}

static int count_known(const struct family *f, const json_t *config)
{
    int n = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value)
        n += config_knows(f, key, value);
    return n;
}

/* Families of a similar name, and the one that knows most of the keys, in words; free() it. */
static char *near(const char *model_type, const json_t *config)
{
    char *names = mem_string("");
    const struct family *best = families[0];
    for (int i = 0; families[i]; i++) {
        if (same_stem(model_type, families[i]->name))
            names = mem_append(names, "%s%s", *names ? ", " : "its name is like ",
                               families[i]->name);
        if (count_known(families[i], config) > count_known(best, config))
            best = families[i];
    }
    return mem_append(names, "%s%d of its %zu keys are those of %s", *names ? "; " : "",
                      count_known(best, config), json_object_size(config), best->name);
}

void config_unknown_family(const json_t *config, struct err *e)
{
    const json_t *type = json_object_get(config, "model_type");
    const char *name = json_string_value(type);
    char *list = family_list(), *like = near(name ? name : "", config), show[80];
    if (!type)
        err_set(e, "config.json has no model_type, so the family is unknown (supported: %s)", list);
    else
        err_set(e,
                "config.json: model_type %s is not supported; %s. CONTRIBUTING.md says how a "
                "family is added. Supported: %s",
                config_show(type, show), like, list);
    free(like);
    free(list);
}
