/* Rope as GGUF states it: see gguf/write.h. Linear and yarn scaling are metadata; llama3's is a
 * tensor of divisors, longrope's are two. Refused: scaling that the architecture does not read, and
 * yarn with another ramp than the usual one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "write.h"

static double unscaled(const struct gguf_rope *r, const struct rope_table *t, int64_t i)
{
    return pow(r->said.theta, -2.0 * (double)i / (double)t->dims);
}

static void add_table(struct gguf_rope *r, const char *name, const struct rope_table *t,
                      const double *frequency)
{
    float *x = mem_alloc((size_t)(t->dims / 2) * sizeof *x);
    for (int64_t i = 0; i < t->dims / 2; i++)
        x[i] = (float)(unscaled(r, t, i) / frequency[i]);
    r->tables[r->n_tables].name = name;
    r->tables[r->n_tables++].values = x;
}

static int is(const struct gguf_rope *r, const char *type) { return !strcmp(r->said.type, type); }

static int add_scaling(struct gguf_rope *r, const struct rope_table *t,
                       const struct family_gguf *row, struct err *e)
{
    int divided = is(r, "llama3") || is(r, "longrope");
    if (divided && !row->rope_divisors)
        return err_set(e, "llama.cpp's architecture %s has no rope scaling of type %s", row->arch,
                       r->said.type);
    if (is(r, "yarn") && !r->said.usual_yarn)
        return err_set(e,
                       "llama.cpp has no yarn scaling with a beta_fast other than 32, a beta_slow "
                       "other than 1, or truncate false");
    if (is(r, "llama3"))
        add_table(r, "rope_freqs.weight", t, t->inv_freq);
    if (is(r, "longrope")) {
        add_table(r, "rope_factors_long.weight", t, t->long_inv_freq);
        add_table(r, "rope_factors_short.weight", t, t->inv_freq);
        r->attention = t->factor;
    }
    if (is(r, "yarn"))
        r->attention = t->factor / (1 + 0.1 * log(fmax(r->said.factor, 1)));
    return 0;
}

int gguf_rope_make(struct gguf_rope *r, const struct model_spec *h, const struct family_gguf *row,
                   struct err *e)
{
    *r = (struct gguf_rope){.attention = 1};
    if (!h->n_ropes)
        return 0;
    r->said = config_rope_said(h, 0);
    if (h->n_ropes > 1)
        r->local_theta = config_rope_said(h, 1).theta;
    return add_scaling(r, &h->ropes[0], row, e);
}

void gguf_rope_free(struct gguf_rope *r)
{
    for (int k = 0; k < r->n_tables; k++)
        free(r->tables[k].values);
}

static char *key(const char *arch, const char *name, char text[200])
{
    snprintf(text, 200, "%s.rope.%s", arch, name);
    return text;
}

void gguf_put_rope(struct gguf_head *head, const char *arch, const struct gguf_rope *r,
                   const struct model_spec *h)
{
    char k[200];
    if (!h->n_ropes)
        return;
    gguf_put_u32(head, key(arch, "dimension_count", k), h->ropes[0].dims);
    gguf_put_real(head, key(arch, "freq_base", k), r->said.theta);
    if (r->local_theta > 0)
        gguf_put_real(head, key(arch, "freq_base_swa", k), r->local_theta);
    int stretched = is(r, "linear") || is(r, "yarn");
    if (stretched || is(r, "longrope"))
        gguf_put_text(head, key(arch, "scaling.type", k), r->said.type);
    if (stretched)
        gguf_put_real(head, key(arch, "scaling.factor", k), r->said.factor);
    if (is(r, "yarn") || is(r, "longrope"))
        gguf_put_u32(head, key(arch, "scaling.original_context_length", k),
                     (int64_t)r->said.positions);
    if (is(r, "longrope") || fabs(r->attention - 1) > 1e-6)
        gguf_put_real(head, key(arch, "scaling.attn_factor", k), r->attention);
}
