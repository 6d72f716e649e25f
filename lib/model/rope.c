/* Rope tables from a config: which channels rotate, and at what frequency, for every scaling type
 * the families use: default, linear, dynamic (no effect up to max_position_embeddings), llama3,
 * yarn, longrope. Formulas: see config_ropes. Refuses unknown scaling types, odd numbers of
 * rotating channels, factor lists of the wrong length. */
#include "config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const rope_keys[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "partial_rotary_factor",
                                        "factor",
                                        "original_max_position_embeddings",
                                        "attention_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "mscale",
                                        "mscale_all_dim",
                                        "truncate",
                                        "short_factor",
                                        "long_factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "alpha",
                                        NULL};

int config_rope_knows(const char *key)
{
    int i = 0;
    while (rope_keys[i] && strcmp(rope_keys[i], key))
        i++;
    return rope_keys[i] != NULL;
}

/* The table being filled: d channels, base frequencies f[d/2], P0 positions before scaling and Pm
 * after. */
struct rope {
    const struct config *c;
    const json_t *said; /* rope_scaling or rope_parameters; NULL: neither */
    double theta, P0, Pm;
    struct rope_table *t;
};

/* The tables that a family may have: the facts that hold their theta, and the layers they are
 * for. */
static const char *const theta_facts[] = {"rope_theta", "rope_local_theta"};
static const char *const layer_types[] = {"full_attention", "sliding_attention", NULL};

int config_rope_tables(const struct family *f)
{
    int n = 0;
    while (n < 2 && config_key(f, theta_facts[n]))
        n++;
    return n;
}

/* A non-empty object member, of these keys (NULL: of any); NULL: absent or empty, or an error. */
static const json_t *find_object(const struct config *c, const json_t *in, const char *name,
                                 const char *const *known)
{
    json_t *r = json_object_get(in, name), *v;
    const char *key;
    char show[80];
    if (!r || json_is_null(r) || (json_is_object(r) && !json_object_size(r)))
        return NULL;
    if (!json_is_object(r)) {
        err_set(c->e, "config.json: %s is %s; it must be an object", name, config_show(r, show));
        return NULL;
    }
    json_object_foreach(r, key, v) {
        int k = 0;
        while (known && known[k] && strcmp(known[k], key))
            k++;
        if (known && !known[k])
            err_set(c->e,
                    "config.json: key %.100s (%s) in %s changes the function and is not supported",
                    key, config_show(v, show), name);
    }
    return c->e->set ? NULL : r;
}

/* The scaling object of a table. A non-null rope_scaling replaces rope_parameters as a whole; where
 * there are two tables it belongs to the first. With both keys the class would mix the two
 * spellings, so that is refused. */
static const json_t *find_scaling(const struct config *c, int table)
{
    int two = config_rope_tables(c->family) == 2;
    const json_t *scaling = find_object(c, c->json, "rope_scaling", NULL);
    const json_t *parameters = find_object(c, c->json, "rope_parameters", two ? layer_types : NULL);
    if (two && scaling && parameters)
        err_set(
            c->e,
            "config.json: rope_scaling beside rope_parameters is not supported for model_type %s",
            c->family->name);
    if (two && parameters)
        return find_object(c, parameters, layer_types[table], NULL);
    if (table)
        return NULL;
    return scaling ? scaling : parameters;
}

/* A number of the scaling object, > 0; `missing` if it is absent or null; missing < 0: required. */
static double number(const struct rope *r, const char *key, double missing)
{
    const json_t *v = json_object_get(r->said, key);
    if (!v || json_is_null(v)) {
        if (missing < 0)
            err_set(r->c->e, "config.json: the rope scaling has no %s", key);
        return missing < 0 ? 1 : missing;
    }
    double x = json_number_value(v);
    char show[80];
    if (!json_is_number(v) || !(x > 0 && x < 1e12)) {
        err_set(r->c->e, "config.json: %s of the rope scaling is %s; it must be a positive number",
                key, config_show(v, show));
        return 1;
    }
    return x;
}

/* Grattafiori et al. 2407.21783: long wavelengths are stretched, short ones kept, those between
 * interpolated. */
static void scale_llama3(struct rope *r)
{
    double factor = number(r, "factor", -1), low = number(r, "low_freq_factor", -1),
           high = number(r, "high_freq_factor", -1);
    if (!(low < high))
        err_set(
            r->c->e,
            "config.json: low_freq_factor %g of the rope scaling must be below high_freq_factor %g",
            low, high);
    for (int64_t i = 0; i < r->t->dims / 2; i++) {
        double f = r->t->inv_freq[i], waves = r->P0 * f / (2 * M_PI); /* P0 / wavelength */
        if (waves < low)
            f /= factor;
        else if (waves <= high)
            f *= (waves - low) / (high - low) + (1 - (waves - low) / (high - low)) / factor;
        r->t->inv_freq[i] = f;
    }
}

static double yarn_magnitude(double scale, double factor)
{
    return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

/* Peng et al. 2309.00071, "NTK by parts": channels that turn more than beta_fast times are kept,
 * fewer than beta_slow times stretched. */
static void scale_yarn(struct rope *r)
{
    double factor = number(r, "factor", r->Pm / r->P0), d = (double)r->t->dims;
    double lo = d * log(r->P0 / (2 * M_PI * number(r, "beta_fast", 32))) / (2 * log(r->theta));
    double hi = d * log(r->P0 / (2 * M_PI * number(r, "beta_slow", 1))) / (2 * log(r->theta));
    if (!json_is_false(json_object_get(r->said, "truncate"))) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0);
    hi = fmin(hi, d - 1);
    if (lo == hi)
        hi += 0.001;
    for (int64_t i = 0; i < r->t->dims / 2; i++) {
        double t = fmin(fmax(((double)i - lo) / (hi - lo), 0), 1), f = r->t->inv_freq[i];
        r->t->inv_freq[i] = f * (1 - t) + f / factor * t;
    }
    double mscale = number(r, "mscale", 0), all = number(r, "mscale_all_dim", 0);
    r->t->factor = number(r, "attention_factor",
                          mscale > 0 && all > 0
                              ? yarn_magnitude(mscale, factor) / yarn_magnitude(all, factor)
                              : yarn_magnitude(1, factor));
}

/* f / list[i]; NULL on error. */
static double *divided(const struct rope *r, const char *key)
{
    const json_t *list = json_object_get(r->said, key);
    int64_t n = r->t->dims / 2;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n) {
        err_set(r->c->e,
                "config.json: %s of the rope scaling must be a list of %lld numbers, one for each "
                "pair of rotating channels",
                key, (long long)n);
        return NULL;
    }
    double *f = mem_alloc((size_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++) {
        double x = json_number_value(json_array_get(list, (size_t)i));
        if (!(x > 0 && x < 1e12))
            err_set(r->c->e,
                    "config.json: entry %lld of %s of the rope scaling must be a positive number",
                    (long long)i, key);
        f[i] = r->t->inv_freq[i] / x;
    }
    return f;
}

/* Ding et al. 2402.13753: one list of divisors for sequences up to P0 positions, another for every
 * position of a longer one. */
static void scale_longrope(struct rope *r)
{
    double s = number(r, "factor", r->Pm / r->P0);
    double *near = divided(r, "short_factor");
    r->t->long_inv_freq = divided(r, "long_factor");
    if (near) {
        free(r->t->inv_freq);
        r->t->inv_freq = near;
    }
    r->t->factor = number(r, "attention_factor", s <= 1 ? 1 : sqrt(1 + log(s) / log(r->P0)));
    r->t->long_factor = r->t->factor;
    r->t->long_after = (int64_t)r->P0;
}

static void scale_linear(struct rope *r)
{
    double factor = number(r, "factor", -1);
    for (int64_t i = 0; i < r->t->dims / 2; i++)
        r->t->inv_freq[i] /= factor;
}

/* Theta is stretched by alpha, whatever the length; without it: dynamic. */
static void scale_ntk(struct rope *r)
{
    double d = (double)r->t->dims, alpha = number(r, "alpha", 0);
    if (alpha == 0)
        r->t->most = (int64_t)r->Pm;
    for (int64_t i = 0; i < r->t->dims / 2 && alpha > 0; i++)
        r->t->inv_freq[i] *= pow(alpha, -2.0 * (double)i / (d - 2));
}

/* The scaling's name; "su" and "yarn" mean something else in some families (fact rope_types).
 * "" on error. */
static void name_type(const struct rope *r, char name[61])
{
    const json_t *v = json_object_get(r->said, "rope_type");
    v = v ? v : json_object_get(r->said, "type");
    const char *type = v ? json_string_value(v) : "default";
    json_t *other = config_value(r->c, "rope_types");
    const char *meant = type ? json_string_value(json_object_get(other, type)) : NULL;
    char show[80];
    if (!type)
        err_set(r->c->e, "config.json: the rope type is %s; it must be text", config_show(v, show));
    type = meant ? meant : type;
    snprintf(name, 61, "%s", type ? type : "");
    json_decref(other);
}

static void scale(struct rope *r)
{
    char type[61];
    name_type(r, type);
    if (!*type)
        return;
    if (!strcmp(type, "linear"))
        scale_linear(r);
    else if (!strcmp(type, "llama3"))
        scale_llama3(r);
    else if (!strcmp(type, "yarn"))
        scale_yarn(r);
    else if (!strcmp(type, "longrope"))
        scale_longrope(r);
    else if (!strcmp(type, "ntk"))
        scale_ntk(r);
    else if (!strcmp(type, "dynamic"))
        r->t->most = (int64_t)r->Pm;
    else if (strcmp(type, "default"))
        err_set(r->c->e, "config.json: rope type %s is not supported", type);
}

/* How many channels of a head rotate. Families without a partial factor require it to be 1. */
static int64_t rotating(const struct rope *r, int64_t head_dim)
{
    double inside = number(r, "partial_rotary_factor", 0),
           partial = config_real(r->c, "partial_rotary_factor", 0, 1, -1);
    if (inside > 0 && inside != 1 && partial < 0)
        err_set(r->c->e,
                "config.json: partial_rotary_factor %g changes the function and is not supported "
                "for model_type %s",
                inside, r->c->family->name);
    if (inside > 0 || partial < 0)
        partial = inside > 0 ? inside : 1;
    double d = floor(partial * (double)head_dim);
    if (d < 2 || d > (double)head_dim || fmod(d, 2) != 0)
        err_set(r->c->e,
                "config.json: rope would rotate %g of the %lld channels of a head; the number must "
                "be even",
                d, (long long)head_dim);
    return r->c->e->set ? 2 : (int64_t)d;
}

static struct rope read_table(const struct config *c, const struct model_spec *h, int table)
{
    struct rope r = {.c = c,
                     .said = find_scaling(c, table),
                     .Pm = (double)h->max_position_embeddings,
                     .t = &h->ropes[table]};
    r.theta = number(&r, "rope_theta", config_real(c, theta_facts[table], 1e-3, 1e12, 10000));
    r.P0 = (double)config_int(c, "original_max_position_embeddings", 2, INT64_C(1) << 40, 0);
    if (r.P0 == 0)
        r.P0 = number(&r, "original_max_position_embeddings", r.Pm);
    return r;
}

static void fill_table(const struct config *c, const struct model_spec *h, int table,
                       int64_t head_dim)
{
    struct rope r = read_table(c, h, table);
    int64_t d = rotating(&r, head_dim);
    if (r.P0 < 2)
        err_set(c->e,
                "config.json: original_max_position_embeddings of the rope scaling is %g; it must "
                "be at least 2",
                r.P0);
    if (c->e->set)
        return;
    *r.t = (struct rope_table){.dims = d,
                               .interleaved = c->family->rope_neighbours,
                               .factor = 1,
                               .long_factor = 1,
                               .inv_freq = mem_alloc((size_t)(d / 2) * sizeof(double))};
    for (int64_t i = 0; i < d / 2; i++)
        r.t->inv_freq[i] = pow(r.theta, -2.0 * (double)i / (double)d);
    scale(&r);
    double sum = r.t->factor;
    for (int64_t i = 0; i < d / 2; i++)
        sum += r.t->inv_freq[i] + (r.t->long_inv_freq ? r.t->long_inv_freq[i] : 0);
    if (!isfinite(sum))
        err_set(c->e,
                "config.json: rope_theta %g and its scaling give frequencies that are not finite",
                r.theta);
}

struct rope_said config_rope_said(const struct model_spec *h, int table)
{
    struct err ignored = {0}; /* bad values were refused on reading */
    const struct config c = {.family = h->family, .json = h->config, .e = &ignored};
    struct rope r = read_table(&c, h, table);
    struct rope_said said = {.theta = r.theta, .positions = r.P0};
    name_type(&r, said.type);
    said.factor = number(&r, "factor", r.Pm / r.P0);
    said.usual_yarn = number(&r, "beta_fast", 32) == 32 && number(&r, "beta_slow", 1) == 1 &&
                      !json_is_false(json_object_get(r.said, "truncate"));
    double alpha = number(&r, "alpha", 0), d = (double)h->ropes[table].dims;
    if (!strcmp(said.type, "ntk")) {
        strcpy(said.type, alpha > 0 ? "default" : "dynamic");
        said.theta *= alpha > 0 ? pow(alpha, d / (d - 2)) : 1;
    }
    return said;
}

/* Does the model need tables? Where position_embedding_type decides, only if a layer rotates. */
static int rotates(const struct config *c, const struct model_spec *h)
{
    int any = c->family->ropes != ROPE_IF_NAMED;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        any |= h->layers[l].rope >= 0;
    return any;
}

int config_ropes(const struct config *c, struct model_spec *h, int64_t head_dim)
{
    h->n_ropes = rotates(c, h) ? config_rope_tables(c->family) : 0;
    h->ropes = mem_alloc((size_t)h->n_ropes * sizeof *h->ropes);
    for (int i = 0; i < h->n_ropes && !c->e->set; i++)
        fill_table(c, h, i, head_dim);
    return c->e->set ? -1 : 0;
}
