/* The ids of roots: see model/source.h. A guard against mix-ups, computed in milliseconds; it
 * proves nothing about the bytes it does not read. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "source.h"

enum { ID_VALUES = 1024 };

static void add(struct digest *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct digest *d, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    digest_add(d, text, strlen(text));
}

static void add_frequencies(struct digest *d, const double *f, int64_t dims)
{
    for (int64_t i = 0; f && i < dims / 2; i++)
        add(d, " %.5g", f[i]);
}

/* The conditions of a block's lines; those that families got when models without them had ids
 * already, only where they hold. Those on layers are covered layer by layer. */
static void add_conditions(struct digest *d, const struct model_spec *h)
{
    for (const struct family_line *l = h->family->block; l->out; l++) {
        if (!l->when || family_when_of_layer(l->when))
            continue;
        int holds = model_spec_flag(h, l->when);
        if (holds || strcmp(l->when, "qk_norms"))
            add(d, "when %s %d\n", l->when, holds);
    }
}

static void add_function(struct digest *d, const struct model_spec *h)
{
    add(d, "plus1 %d act %d eps %.5g scales %.5g %.5g %.5g %.5g tied %d positions %d\n",
        h->family->norm_plus1, (int)h->activation, h->norm_eps, h->embed_scale, h->logit_scale,
        h->logit_cap, h->residual_scale, !!h->tie_word_embeddings, !!h->learned_positions);
    add_conditions(d, h);
    if (model_spec_flag(h, "alibi"))
        add(d, "alibi\n");
    if (h->attention_cap > 0)
        add(d, "attention cap %.5g\n", h->attention_cap);
    if (h->experts_per_token)
        add(d, "experts %" PRId64 " renormalise %d\n", h->experts_per_token,
            model_spec_flag(h, "norm_topk_prob"));
    if (family_has_axis(h->family, AXIS_M))
        add(d, "time steps %.5g %.5g\n", h->dt_min, h->dt_max);
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        const struct layer *y = &h->layers[l];
        add(d, "layer");
        for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++)
            if (layer_size(y, a))
                add(d, " %" PRId64, layer_size(y, a));
        add(d, " window %" PRId64 " rope %" PRId64 " scale %.5g\n", y->sliding_window, y->rope,
            y->attention_scale);
    }
    for (int r = 0; r < h->n_ropes; r++) {
        const struct rope_table *p = &h->ropes[r];
        add(d, "rope %" PRId64 " %d %.5g:", p->dims, p->interleaved, p->factor);
        add_frequencies(d, p->inv_freq, p->dims);
        add(d, "\nlong %" PRId64 " %.5g:", p->long_after, p->long_after ? p->long_factor : 0);
        add_frequencies(d, p->long_after ? p->long_inv_freq : NULL, p->dims);
        add(d, "\n");
    }
}

/* The first n values of tensor i, as f32. */
static int add_values(struct digest *d, int i, enum dtype dtype, int64_t n, model_peek *peek,
                      void *self, struct err *e)
{
    unsigned char raw[ID_VALUES * 8];
    float values[ID_VALUES];
    if (peek(self, i, raw, dtype_bytes(dtype, n), e))
        return -1;
    to_f32(values, raw, dtype, n);
    digest_add(d, values, (size_t)n * sizeof *values);
    return 0;
}

int model_root_id(struct model_spec *h, model_peek *peek, void *self, struct err *e)
{
    struct digest d;
    digest_open(&d);
    add_function(&d, h);
    int failed = 0;
    for (int i = 0; i < h->n_tensors && !failed; i++) {
        const struct tensor *t = &h->tensors[i];
        int64_t n = tensor_count(t);
        add(&d, "%s", t->name);
        for (int k = 0; k < t->ndim; k++)
            add(&d, " %" PRId64, t->shape[k]);
        add(&d, "\n");
        if (peek)
            failed = add_values(&d, i, t->dtype, n < ID_VALUES ? n : ID_VALUES, peek, self, e);
    }
    digest_close(&d, h->id);
    return failed;
}

void model_tokenizer_id(char id[ST_DIGEST], const char *tokenizer, int64_t bytes)
{
    struct digest d;
    digest_open(&d);
    digest_add(&d, tokenizer, (size_t)bytes);
    digest_close(&d, id);
}
