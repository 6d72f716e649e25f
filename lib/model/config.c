/* Facts of a config.json. A family's key list gives each fact's key and the meaning of an absent
 * key and of a null; values are JSON or small expressions over other facts ("=4*hidden_size",
 * "=hidden_size/num_attention_heads", exact or refused). Refuses numbers out of bounds. */
#include "config.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *config_key(const struct family *f, const char *fact)
{
    for (const struct family_key *k = f->keys; k->fact; k++)
        if (!k->when && !strcmp(k->fact, fact))
            return k->key;
    return NULL;
}

/* The row of a fact: of several the first whose key is in the config, else the first. */
static const struct family_key *key_row(const struct config *c, const char *fact)
{
    const struct family_key *first = NULL;
    for (const struct family_key *k = c->family->keys; k->fact; k++) {
        if (strcmp(k->fact, fact) || k->when)
            continue;
        if (k->key && json_object_get(c->json, k->key))
            return k;
        first = first ? first : k;
    }
    return first;
}

/* The same; before it a row whose condition holds. */
static const struct family_key *find_row(const struct config *c, const char *fact)
{
    for (const struct family_key *k = c->family->keys; k->fact; k++)
        if (k->when && !strcmp(k->fact, fact) && config_when(c, k->when))
            return k;
    return key_row(c, fact);
}

const char *config_spelling(const struct config *c, const char *fact)
{
    const struct family_key *k = find_row(c, fact);
    return k ? k->key : NULL;
}

const char *config_spelled(const struct config *c, const char *fact)
{
    const char *key = config_spelling(c, fact);
    return key ? key : fact;
}

const char *config_show(const json_t *value, char buf[80])
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
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
                    config_spelled(c, fact), (long long)value, config_spelled(c, at), (long long)f);
            return NULL;
        }
        value = op == '*' ? value * f : value / f;
        op = next;
    }
    return json_integer(value);
}

/* A value that is derived may be called "auto". */
static int is_auto(const struct family_key *k, const json_t *said)
{
    return json_is_string(said) && !strcmp(json_string_value(said), "auto") && k->fallback &&
           *k->fallback == '=';
}

json_t *config_value(const struct config *c, const char *fact)
{
    const struct family_key *k = find_row(c, fact);
    if (!k)
        return NULL;
    json_t *said = k->key ? json_object_get(c->json, k->key) : NULL;
    if (is_auto(k, said))
        said = NULL;
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
                    config_spelled(c, fact), config_show(v, show), (long long)low, (long long)high);
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
        err_set(c->e, "config.json: %s is %s; it must be a number from %g to %g",
                config_spelled(c, fact), config_show(v, show), low, high);
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
        err_set(c->e, "config.json: %s is %s; it must be true or false", config_spelled(c, fact),
                config_show(v, show));
    }
    int flag = json_is_null(v) ? missing : json_is_true(v);
    json_decref(v);
    return flag;
}

/* One term of a condition: a flag, or "fact=number". */
static int term_holds(const struct config *c, const char *term, int n)
{
    char fact[80];
    const char *number = memchr(term, '=', (size_t)n);
    snprintf(fact, sizeof fact, "%.*s", number ? (int)(number - term) : n, term);
    if (number)
        return config_int(c, fact, INT64_MIN, INT64_MAX, INT64_MIN) == atoll(number + 1);
    return config_flag(c, strcmp(fact, "tied") ? fact : "tie_word_embeddings", 0);
}

int config_when(const struct config *c, const char *when)
{
    int holds = 1;
    for (int n; when && *when; when += n + (when[n] == '&')) {
        n = (int)strcspn(when, "&");
        int negated = *when == '!';
        holds &= term_holds(c, when + negated, n - negated) != negated;
    }
    return holds;
}
