/* Facts of a config.json. A family's key list gives each fact's key and the meaning of an absent
 * key and of a null; values are JSON or small expressions over other facts ("=4*hidden_size",
 * "=hidden_size/num_attention_heads", exact or refused). Refuses numbers out of bounds and unknown
 * keys. */
#include "config.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Keys of any config.json that do not change the function: bookkeeping, token ids, dropouts (off
 * when a model is evaluated; 0 here when it is trained), generation defaults of old files, output
 * switches. "key=JSON": only with this value. */
static const char *const common_harmless[] = {"architectures",
                                              "model_type",
                                              "torch_dtype",
                                              "dtype",
                                              "transformers_version",
                                              "_name_or_path",
                                              "auto_map",
                                              "use_cache",
                                              "bos_token_id",
                                              "eos_token_id",
                                              "pad_token_id",
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
                                              NULL};

static const struct family_key *find_key(const struct family *f, const char *fact)
{
    for (const struct family_key *k = f->keys; k->fact; k++)
        if (!strcmp(k->fact, fact))
            return k;
    return NULL;
}

const char *config_key(const struct family *f, const char *fact)
{
    const struct family_key *k = find_key(f, fact);
    return k ? k->key : NULL;
}

static const char *spelled(const struct config *c, const char *fact)
{
    const char *key = config_key(c->family, fact);
    return key ? key : fact;
}

const char *config_show(const json_t *value, char buf[80])
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    strncpy(buf, text ? text : "?", 79);
    buf[79] = 0;
    if (text && strlen(text) > 79)
        strcpy(buf + 76, "...");
    free(text);
    return buf;
}

/* A factor of an expression: a number or another fact. */
static int64_t factor(const struct config *c, const char *word)
{
    return isdigit((unsigned char)*word) ? atoll(word)
                                         : config_int(c, word, 1, INT64_C(1) << 31, 1);
}

/* "a*b" and "a/b", left to right; the division must be exact. Expressions come from the .def files
 * and are trusted; their values come from the file and are not. */
static json_t *expression(const struct config *c, const char *fact, const char *text)
{
    char words[100], *at = words;
    assert(strlen(text) < sizeof words);
    strcpy(words, text);
    size_t n = strcspn(at, "*/");
    char op = at[n];
    at[n] = 0;
    int64_t value = factor(c, at);
    while (op) {
        at += n + 1;
        n = strcspn(at, "*/");
        char next = at[n];
        at[n] = 0;
        int64_t f = factor(c, at);
        if (op == '/' && value % f) {
            err_set(c->e,
                    "config.json: %s is missing and cannot be derived: %lld is not a multiple of "
                    "%s %lld",
                    spelled(c, fact), (long long)value, spelled(c, at), (long long)f);
            return NULL;
        }
        value = op == '*' ? value * f : value / f;
        op = next;
    }
    return json_integer(value);
}

json_t *config_value(const struct config *c, const char *fact)
{
    const struct family_key *k = find_key(c->family, fact);
    if (!k)
        return NULL;
    json_t *said = k->key ? json_object_get(c->json, k->key) : NULL;
    if (said && !json_is_null(said))
        return json_incref(said);
    const char *text = said && k->on_null ? k->on_null : k->fallback;
    if (!text) {
        err_set(c->e, "config.json has no %s, which model_type %s requires", k->key,
                c->family->name);
        return NULL;
    }
    return *text == '=' ? expression(c, fact, text + 1) : json_loads(text, JSON_DECODE_ANY, NULL);
}

int64_t config_int(const struct config *c, const char *fact, int64_t low, int64_t high,
                   int64_t missing)
{
    json_t *v = config_value(c, fact);
    if (!v)
        return c->e->set ? low : missing;
    int64_t n = missing;
    if (!json_is_null(v)) {
        char show[80];
        double real = json_is_real(v) ? json_real_value(v) : 0;
        int whole = json_is_integer(v) ||
                    (json_is_real(v) && real == floor(real) && fabs(real) < 0x1p53);
        n = json_is_integer(v) ? json_integer_value(v) : 0;
        if (json_is_real(v) && whole)
            n = (int64_t)real;
        if (!whole || n < low || n > high) {
            err_set(c->e, "config.json: %s is %s; it must be a whole number from %lld to %lld",
                    spelled(c, fact), config_show(v, show), (long long)low, (long long)high);
            n = low;
        }
    }
    json_decref(v);
    return n;
}

double config_real(const struct config *c, const char *fact, double low, double high,
                   double missing)
{
    json_t *v = config_value(c, fact);
    if (!v)
        return c->e->set ? low : missing;
    double x = json_is_null(v) ? missing : json_number_value(v);
    if (!json_is_null(v) && (!json_is_number(v) || !(x >= low && x <= high))) {
        char show[80];
        err_set(c->e, "config.json: %s is %s; it must be a number from %g to %g", spelled(c, fact),
                config_show(v, show), low, high);
        x = low;
    }
    json_decref(v);
    return x;
}

int config_flag(const struct config *c, const char *fact, int missing)
{
    json_t *v = config_value(c, fact);
    if (!v)
        return missing;
    if (!json_is_boolean(v) && !json_is_null(v)) {
        char show[80];
        err_set(c->e, "config.json: %s is %s; it must be true or false", spelled(c, fact),
                config_show(v, show));
    }
    int flag = json_is_null(v) ? missing : json_is_true(v);
    json_decref(v);
    return flag;
}

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
    return find_key(f, "rope_theta") &&
           (!strcmp(key, "rope_scaling") || !strcmp(key, "rope_parameters"));
}

int config_knows(const struct family *f, const char *key, const json_t *value)
{
    return is_read(f, key) || config_listed(f->harmless, key, value) > 0 ||
           config_listed(common_harmless, key, value) > 0;
}

int config_check_keys(const struct config *c)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)c->json, key, value) {
        if (is_read(c->family, key))
            continue;
        int known = config_listed(c->family->harmless, key, value);
        if (!known)
            known = config_listed(common_harmless, key, value);
        char show[80];
        if (!known)
            return err_set(c->e,
                           "config.json: key %.100s (%s) may change the function and is not "
                           "supported for model_type %s",
                           key, config_show(value, show), c->family->name);
        if (known < 0)
            return err_set(c->e,
                           "config.json: %.100s %s changes the function and is not supported for "
                           "model_type %s",
                           key, config_show(value, show), c->family->name);
    }
    return 0;
}
