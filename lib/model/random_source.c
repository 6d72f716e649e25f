/* A model of random values as a source: see source.h. The values are a pattern that repeats, so
 * that drawing them costs no more than copying. */
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/rng.h"
#include "dtypes.h"
#include "source.h"

enum { BLOCKS = 512, VALUES = BLOCKS * Q8_BLOCK };

struct random_in {
    const struct model_spec *spec;
    unsigned char *pattern[DT_COUNT]; /* VALUES entries of each dtype that is used */
};

/* q8_0: blocks of one scale, with int8 that are uniform. */
static void draw_blocks(unsigned char *to, struct rng *rng)
{
    uint16_t scale = f32_to_f16(0x1p-12f);
    for (int b = 0; b < BLOCKS; b++, to += Q8_BYTES) {
        memcpy(to, &scale, sizeof scale);
        for (int i = 0; i < Q8_BLOCK; i++)
            to[2 + i] = (unsigned char)rng_below(rng, 256);
    }
}

static unsigned char *draw(enum dtype d)
{
    struct rng rng = rng_open(1, (uint64_t)d);
    unsigned char *pattern = mem_alloc((size_t)dtype_bytes(d, VALUES));
    float *values = mem_alloc(VALUES * sizeof *values);
    for (int i = 0; i < VALUES; i++)
        values[i] = 0.02f * (float)rng_normal(&rng);
    if (d == DT_Q8_0)
        draw_blocks(pattern, &rng);
    else
        from_f32(pattern, d, values, VALUES);
    free(values);
    return pattern;
}

static const char *random_file(void *self, const char *name, int64_t *bytes, struct err *e)
{
    (void)self, (void)name, (void)bytes, (void)e;
    return NULL;
}

static int random_next(void *self, int i, struct err *e)
{
    struct random_in *s = self;
    enum dtype d = s->spec->tensors[i].dtype;
    (void)e;
    if (!s->pattern[d])
        s->pattern[d] = draw(d);
    return 0;
}

static int random_read(void *self, int i, int64_t at, void *buf, int64_t n, struct err *e)
{
    struct random_in *s = self;
    enum dtype d = s->spec->tensors[i].dtype;
    int64_t period = dtype_bytes(d, VALUES);
    (void)e;
    for (int64_t end = at + n, part; at < end; at += part) {
        part = min64(end - at, period - at % period);
        memcpy(buf, s->pattern[d] + at % period, (size_t)part);
        buf = (char *)buf + part;
    }
    return 0;
}

static int random_end(void *self, struct err *e)
{
    (void)self, (void)e;
    return 0;
}

static void random_close(void *self)
{
    struct random_in *s = self;
    for (int d = 0; d < DT_COUNT; d++)
        free(s->pattern[d]);
    free(s);
}

struct model_in *model_random(const struct model_spec *shape, enum dtype dtype, struct err *e)
{
    static const struct model_source source = {random_file, random_next, random_read, random_end,
                                               random_close};
    struct random_in *self = mem_alloc(sizeof *self);
    struct model_in *in = mem_alloc(sizeof *in);
    *self = (struct random_in){.spec = &in->spec};
    *in = (struct model_in){.source = &source, .self = self, .err = e, .current = -1};
    model_spec_copy(&in->spec, shape);
    model_spec_update_config(&in->spec);
    model_spec_list_tensors(&in->spec, dtype);
    for (int i = 0; i < in->spec.n_tensors; i++) {
        struct tensor *t = &in->spec.tensors[i];
        t->dtype = dtype_written((struct dtype_choice){1, dtype}, DT_F32, t);
    }
    return in;
}
