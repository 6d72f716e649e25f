/* Frequency divisors of scaled rope, which GGUF keeps as tensors, and their equivalent in
 * config.json: see gguf/gguf_private.h. */
#include "gguf_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

json_t *gguf_json_real(double x)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x)
            return json_real(strtod(text, NULL));
    }
    return json_real(x);
}

json_t *gguf_json_reals(const double *x, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(list, gguf_json_real(x[i]));
    return list;
}

double *gguf_divisors(struct gguf *g, const char *tensor, int64_t n, struct err *e)
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
                     gguf_json_reals(divisor, n), "long_factor", gguf_json_reals(divisor, n),
                     "factor", 1.0, "attention_factor", 1.0, "original_max_position_embeddings",
                     (json_int_t)max_positions);
}
