/* Dtypes of weights: see dtypes.h. */
#include "dtypes.h"

#include <math.h>
#include <string.h>

/* values at once, a multiple of Q8_BLOCK */
enum { PIECE = 2048 };

int dtype_choose(struct dtype_choice *c, const char *text, struct err *e)
{
    int d = text ? dtype_parse(text) : -1;
    *c = (struct dtype_choice){0};
    if (!text || !strcmp(text, "keep"))
        return 0;
    if (d != DT_F32 && d != DT_F16 && d != DT_BF16 && d != DT_Q8_0)
        return err_set(e, "--dtype must be keep, f32, f16, bf16 or q8_0, not \"%s\"", text);
    *c = (struct dtype_choice){1, (enum dtype)d};
    return 0;
}

enum dtype dtype_written(struct dtype_choice c, enum dtype from, const struct tensor *t)
{
    enum dtype d = c.given ? c.dtype : from;
    int is_matrix = t->ndim > 1;
    if (d != DT_Q8_0)
        return d;
    if (t->shape[t->ndim - 1] % Q8_BLOCK == 0 && (is_matrix || from == DT_Q8_0))
        return DT_Q8_0;
    return is_matrix ? DT_F16 : DT_F32;
}

/* Magnitudes from here on are infinite in f16, or the scale of their block is. */
static float limit_of(enum dtype d)
{
    if (d == DT_F16)
        return 65520;
    return d == DT_Q8_0 ? 65520 * 127.0f : INFINITY;
}

static int check_range(const struct tensor *t, const float *v, int64_t n, struct err *e)
{
    float limit = limit_of(t->dtype);
    for (int64_t i = 0; i < n; i++)
        if (fabsf(v[i]) >= limit && isfinite(v[i]))
            return err_set(
                e, "tensor %s has the value %g, which %s cannot represent: choose another --dtype",
                t->name, (double)v[i], dtype_name(t->dtype));
    return 0;
}

int dtype_convert(void *to, const struct tensor *t, const void *values, enum dtype from, int64_t n,
                  struct err *e)
{
    float wide[PIECE];
    if (from == t->dtype) {
        memcpy(to, values, (size_t)dtype_bytes(from, n));
        return 0;
    }
    for (int64_t at = 0, k; at < n; at += k) {
        k = n - at < PIECE ? n - at : PIECE;
        to_f32(wide, (const char *)values + dtype_bytes(from, at), from, k);
        if (check_range(t, wide, k, e))
            return -1;
        from_f32((char *)to + dtype_bytes(t->dtype, at), t->dtype, wide, k);
    }
    return 0;
}
