/* Costs of a model from its spec: see footprint.h. */
#include "footprint.h"

#include <assert.h>
#include <string.h>

#include "../base/minmax.h"
#include "dtypes.h"

struct counting {
    struct footprint f;
    struct dtype_choice dtype;
    int64_t multiplied; /* entries of the matrices that multiply a token */
};

/* Bytes of `rows` rows of n entries, each beginning a block. */
static int64_t row_bytes(enum dtype d, int64_t rows, int64_t n)
{
    int64_t whole = (n + Q8_BLOCK - 1) / Q8_BLOCK * Q8_BLOCK;
    return rows * dtype_bytes(d, d == DT_Q8_0 ? whole : n);
}

/* Embeddings are multiplied too where they are the head. */
static int is_looked_up(const struct model_spec *h, const struct family_tensor *t)
{
    if (!family_tensor_is_table(t) || !strcmp(t->name, "lm_head.weight"))
        return 0;
    return t->axes[0] == AXIS_P || !h->tie_word_embeddings;
}

int64_t footprint_rows_used(const struct model_spec *h, const struct family_tensor *t,
                            int64_t layer, int64_t rows)
{
    if (is_looked_up(h, t))
        return 1;
    return t->axes[0] == AXIS_N ? rows / h->layers[layer].num_experts * h->experts_per_token : rows;
}

static int count_tensor(void *user, const struct model_spec *h, const struct family_tensor *t,
                        int64_t layer)
{
    struct counting *c = user;
    int is_matrix = t->axes[1] != AXIS_NONE, looked_up = is_looked_up(h, t);
    int64_t first = model_spec_dimension(h, t->axes[0], layer), rows = is_matrix ? first : 1,
            cols = is_matrix ? model_spec_dimension(h, t->axes[1], layer) : first;
    struct tensor shape = {.ndim = 1 + is_matrix, .shape = {is_matrix ? rows : cols, cols}};
    int64_t bytes = row_bytes(dtype_written(c->dtype, DT_F32, &shape), 1, cols),
            used = footprint_rows_used(h, t, layer, rows);
    c->f.parameters += rows * cols;
    c->f.non_embedding += family_tensor_is_table(t) ? 0 : rows * cols;
    c->f.active += used * cols;
    c->f.weight_bytes += rows * bytes;
    c->f.active_bytes += used * bytes;
    c->multiplied += is_matrix && !looked_up ? used * cols : 0;
    return 0;
}

/* Of one layer with attention, at n positions of context. */
static void count_attention(struct footprint *f, const struct layer *y,
                            const struct footprint_options *o)
{
    int64_t n = o->context, w = y->sliding_window ? min64(n, y->sliding_window) : n;
    double each = 4.0 * (double)(y->num_attention_heads * y->head_dim), keys = (double)w;
    f->kv_bytes += 2 * row_bytes(o->cache, w * y->num_key_value_heads, y->head_dim);
    f->decode_flops += each * keys;
    f->prefill_flops += each * (keys * (keys + 1) / 2 + (double)(n - w) * keys) / (double)n;
}

/* Of one Mamba layer: what a sequence keeps is f32, whatever the cache. */
static void count_mamba(struct footprint *f, const struct layer *y)
{
    int64_t x = layer_units(y, AXIS_R), bc = 2 * layer_units(y, AXIS_Z),
            state = x * y->mamba_state_size;
    f->kv_bytes += (int64_t)sizeof(float) * (state + (y->mamba_conv_kernel - 1) * (x + bc));
    f->decode_flops += 5.0 * (double)state;
    f->prefill_flops += 5.0 * (double)state;
}

struct footprint model_footprint(const struct model_spec *h, const struct footprint_options *o)
{
    struct counting c = {.dtype = {1, o->weights}};
    assert(o->context >= 1 && o->context <= FOOTPRINT_CONTEXT);
    model_spec_visit(h, count_tensor, &c);
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        if (h->layers[l].kinds & KIND_attention)
            count_attention(&c.f, &h->layers[l], o);
        if (h->layers[l].kinds & KIND_mamba)
            count_mamba(&c.f, &h->layers[l]);
    }
    c.f.decode_flops += 2.0 * (double)c.multiplied;
    c.f.prefill_flops += 2.0 * (double)c.multiplied;
    return c.f;
}
