/* Rope as GGUF states it, in metadata and tensors of frequency divisors -> its members of
 * config.json: see gguf/gguf_private.h. The inverse of gguf/rope_write.c. Refused: rotary
 * dimensions that the family does not support, other scaling than linear, yarn and by divisors. */
#include "gguf_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *reals(const double *x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, gguf_json_real(x[i]));
    return list;
}

/* The frequency divisors of a one-dimensional tensor such as rope_freqs.weight: NULL if there is
 * none, or on error. free() them. */
static double *divisors(struct gguf *g, const char *tensor, int64_t n, struct err *e)
{
    int i = gguf_find(g, tensor);
    if (i < 0 || e->set)
        return NULL;
    const struct gguf_tensor *t = gguf_tensor(g, i);
    if (t->type != GGUF_F32 || t->ndim != 1 || t->shape[0] != n) {
        err_set(e, "'%s': %s must be %" PRId64 " F32 divisors", gguf_path(g), tensor, n);
        return NULL;
    }
    float *f = mem_alloc((size_t)n * sizeof *f);
    double *x = mem_alloc((size_t)n * sizeof *x);
    if (gguf_read(g, i, 0, f, t->bytes, e))
        free(x), x = NULL;
    for (int64_t k = 0; x && k < n; k++)
        x[k] = (double)f[k];
    free(f);
    return x;
}

/* llama3 (2407.21783) with its usual factors 1 and 4: the divisor of channel pair i for a model
 * trained on P0 positions. */
static double llama3_divisor(int64_t i, int64_t n, double theta, double factor, double P0)
{
    double waves = P0 * pow(theta, -(double)i / (double)n) / (2 * M_PI), s = (waves - 1) / 3;
    if (waves < 1)
        return factor;
    return waves > 4 ? 1 : 1 / ((1 - s) / factor + s);
}

/* P0 from a divisor between the extremes; 0 if no P0 explains all divisors. */
static double llama3_positions(const double *divisor, int64_t n, double theta, double factor)
{
    double P0 = 0;
    for (int64_t i = 0; i < n && !P0; i++) {
        double s = (1 / divisor[i] - 1 / factor) / (1 - 1 / factor);
        if (s > 1e-5 && s < 1 - 1e-5)
            P0 = nearbyint((1 + 3 * s) * 2 * M_PI * pow(theta, (double)i / (double)n));
    }
    for (int64_t i = 0; i < n && P0; i++)
        if (fabs(llama3_divisor(i, n, theta, factor, P0) / divisor[i] - 1) > 1e-5)
            P0 = 0;
    return P0 >= 2 && P0 < 0x1p40 ? P0 : 0;
}

json_t *gguf_rope_from_divisors(const double *divisor, int64_t n, double theta,
                                int64_t max_positions)
{
    double factor = 1;
    for (int64_t i = 0; i < n; i++)
        factor = fmax(factor, divisor[i]);
    int64_t ones = 0;
    while (ones < n && divisor[ones] == 1)
        ones++;
    if (ones == n)
        return NULL;
    double P0 = llama3_positions(divisor, n, theta, factor);
    if (P0)
        return json_pack("{s:s, s:o, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                         gguf_json_real(factor), "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                         "original_max_position_embeddings", (json_int_t)P0);
    return json_pack("{s:s, s:o, s:o, s:f, s:f, s:I}", "rope_type", "longrope", "short_factor",
                     reals(divisor, n), "long_factor", reals(divisor, n), "factor", 1.0,
                     "attention_factor", 1.0, "original_max_position_embeddings",
                     (json_int_t)max_positions);
}

/* ---- config.json */

/* The number of rotating channels, as partial_rotary_factor if the family has that key; otherwise
 * as many must rotate as in all its models. */
static int64_t put_rotating(const struct gguf_making *m, int64_t D)
{
    int64_t R = gguf_size(m, "rope.dimension_count", D);
    const struct config c = {.family = m->family, .json = m->config, .e = m->e};
    double usual = config_real(&c, "partial_rotary_factor", 0, 1, 1) * (double)D;
    int fixed = !config_key(m->family, "partial_rotary_factor");
    if (R < 2 || R > D || R % 2 || (fixed && (double)R != usual))
        err_set(m->e,
                "'%s': %s.rope.dimension_count %" PRId64 " is not supported for heads of %" PRId64
                " channels",
                gguf_path(m->g), m->arch, R, D);
    double part = (double)R / (double)D;
    if (floor(part * (double)D) < (double)R)
        part = nextafter(part, 2);
    gguf_put_fact(m, "partial_rotary_factor", json_real(part));
    return R;
}

static json_t *longrope(const struct gguf_making *m, int64_t n)
{
    double *near = divisors(m->g, "rope_factors_short.weight", n, m->e),
           *far = divisors(m->g, "rope_factors_long.weight", n, m->e);
    json_t *scaling = NULL;
    if (near && far) {
        scaling = json_pack("{s:s, s:o, s:o}", "type", "longrope", "short_factor", reals(near, n),
                            "long_factor", reals(far, n));
        int64_t P0 = gguf_size(m, "rope.scaling.original_context_length", -1),
                P = gguf_size(m, "context_length", -1);
        double s = (double)P / (double)P0, said = gguf_number(m, "rope.scaling.attn_factor", -1),
               usual = s <= 1 ? 1 : sqrt(1 + log(s) / log((double)P0));
        if (said > 0 && fabs(said - usual) > 1e-5)
            json_object_set_new(scaling, "attention_factor", gguf_json_real(said));
        json_object_set_new(m->config, "original_max_position_embeddings", json_integer(P0));
    }
    free(near);
    free(far);
    return scaling;
}

/* attention: what llama.cpp multiplies the usual magnitude by. */
static json_t *yarn(const struct gguf_making *m, double factor, double attention)
{
    json_t *scaling = json_pack(
        "{s:s, s:o, s:I}", "rope_type", "yarn", "factor", gguf_json_real(factor),
        "original_max_position_embeddings",
        (json_int_t)gguf_size(m, "rope.scaling.original_context_length", -1));
    if (attention != 1)
        json_object_set_new(scaling, "attention_factor",
                            json_real(attention * (1 + 0.1 * log(factor))));
    return scaling;
}

static json_t *rope_scaling(const struct gguf_making *m, int64_t R, double theta)
{
    const struct gguf_value *v = gguf_meta(m->g, m->arch, "rope.scaling.type");
    char *key = mem_format("%s.rope.scaling.type", m->arch),
         *type = v ? gguf_meta_text(m->g, key) : NULL;
    double factor = gguf_number(m, "rope.scaling.factor", gguf_number(m, "rope.scale_linear", 1)),
           attention = gguf_number(m, "rope.scaling.attn_factor", 1),
           *divisor = divisors(m->g, "rope_freqs.weight", R / 2, m->e);
    json_t *scaling = NULL;
    int is_long = gguf_find(m->g, "rope_factors_long.weight") >= 0,
        is_yarn = type && !strcmp(type, "yarn");
    if (divisor)
        scaling = gguf_rope_from_divisors(divisor, R / 2, theta,
                                          gguf_size(m, "context_length", -1));
    else if (is_long)
        scaling = longrope(m, R / 2);
    else if (is_yarn)
        scaling = yarn(m, factor, attention);
    else if (type && strcmp(type, "none") && strcmp(type, "linear"))
        err_set(m->e, "'%s': rope scaling %.60s is not supported", gguf_path(m->g), type);
    else if (factor != 1 && (!type || !strcmp(type, "linear")))
        scaling = json_pack("{s:s, s:o}", "rope_type", "linear", "factor", gguf_json_real(factor));
    if (attention != 1 && !is_long && !is_yarn)
        err_set(m->e, "'%s': %s.rope.scaling.attn_factor is not supported", gguf_path(m->g),
                m->arch);
    free(divisor);
    free(type);
    free(key);
    return scaling ? scaling : json_null();
}

void gguf_config_rope(const struct gguf_making *m, int64_t D)
{
    if (!config_key(m->family, "rope_theta") || m->e->set)
        return;
    int turns = !m->row->rope_switch || gguf_number(m, "rope.scaling.finetuned", 1) != 0;
    if (!turns && !config_key(m->family, "position_embedding"))
        err_set(m->e, "'%s': %s.rope.scaling.finetuned is false: llama.cpp runs it without rope",
                gguf_path(m->g), m->arch);
    gguf_put_fact(m, "position_embedding", json_string(turns ? "rope" : "nope"));
    if (!turns)
        return;
    int64_t R = put_rotating(m, D);
    double theta = gguf_number(m, "rope.freq_base", 10000);
    if (!m->e->set)
        gguf_put_fact(m, "rope_theta", gguf_json_real(theta));
    if (!m->e->set)
        json_object_set_new(m->config, "rope_scaling", rope_scaling(m, R, theta));
}
