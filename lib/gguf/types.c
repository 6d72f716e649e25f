/* How each tensor of a GGUF file is stored: see gguf/write.h. Rules as in llama.cpp's quantiser
 * (src/llama-quant.cpp), without an importance matrix: vectors, norms, routers and learned
 * positions stay f32; the head, or the embedding that is one, and with _M and _S some of v and of
 * the MLP's second matrix get more bits; rows that are not whole blocks get the nearest type that
 * can hold them. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "../base/text.h"
#include "write.h"

static const struct gguf_recipe recipes[] = {
    {"f32", 0, GGUF_F32, EVEN},       {"f16", 1, GGUF_F16, EVEN},
    {"bf16", 32, GGUF_BF16, EVEN},    {"q8_0", 7, GGUF_Q8_0, EVEN},
    {"q4_0", 2, GGUF_Q4_0, EVEN},     {"q4_1", 3, GGUF_Q4_1, EVEN},
    {"q5_0", 8, GGUF_Q5_0, EVEN},     {"q5_1", 9, GGUF_Q5_1, EVEN},
    {"q4_k_s", 14, GGUF_Q4_K, SMALL}, {"q4_k_m", 15, GGUF_Q4_K, MEDIUM},
    {"q5_k_s", 16, GGUF_Q5_K, SMALL}, {"q5_k_m", 17, GGUF_Q5_K, MEDIUM},
    {"q6_k", 18, GGUF_Q6_K, EVEN},
};

const char gguf_type_names[] = "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k_s, q4_k_m (or "
                               "q4_k), q5_k_s, q5_k_m (or q5_k), q6_k";

int gguf_is_type(const char *name) { return gguf_recipe(name) != NULL; }

const struct gguf_recipe *gguf_recipe(const char *name)
{
    char whole[16];
    int is_short = !strcasecmp(name, "q4_k") || !strcasecmp(name, "q5_k");
    snprintf(whole, sizeof whole, "%s%s", name, is_short ? "_m" : "");
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
        if (!strcasecmp(recipes[i].name, whole))
            return &recipes[i];
    return NULL;
}

/* ---- the types */

struct choosing {
    const struct gguf_form *f;
    const struct gguf_recipe *recipe; /* NULL: as the values are */
    int even;                         /* one type for all matrices */
    int n_v, v, n_down, down;         /* matrices of v and of the MLP's output: all, seen */
};

/* Is it stored as f32 in every file? */
static int is_kept(const struct gguf_tensor *t)
{
    return t->ndim < 2 || !text_ends(t->name, "weight") || strstr(t->name, "_norm.weight") ||
           strstr(t->name, "ffn_gate_inp.") || strstr(t->name, "ssm_conv1d.") ||
           !strcmp(t->name, "position_embd.weight");
}

static int is_head(const struct choosing *c, const struct gguf_tensor *t)
{
    int tied = c->f->head < 0 && c->f->as.tie_word_embeddings;
    return !strcmp(t->name, tied ? "token_embd.weight" : "output.weight");
}

/* v, alone or with q and k. */
static int is_v(const struct gguf_tensor *t)
{
    return strstr(t->name, "attn_v.weight") || strstr(t->name, "attn_qkv.weight");
}

static int is_down(const struct gguf_tensor *t) { return strstr(t->name, "ffn_down") != NULL; }

/* The first and last eighth of the layers, and every third in between. */
static int has_more_bits(int i, int n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static enum gguf_type type_of_v(struct choosing *c, enum gguf_type base)
{
    const struct model_spec *h = &c->f->as;
    const struct layer *y = &h->layers[0];
    enum gguf_mixture m = c->recipe->mixture;
    enum gguf_type t = base;
    int i = c->v++;
    if (m == MEDIUM && has_more_bits(i, c->n_v))
        t = GGUF_Q6_K;
    else if (m == SMALL && base == GGUF_Q4_K && i < 4)
        t = GGUF_Q5_K;
    int is_large = h->num_hidden_layers == c->f->row->large_layers &&
                   y->num_key_value_heads < y->num_attention_heads;
    return is_large && t == GGUF_Q4_K ? GGUF_Q5_K : t;
}

static enum gguf_type type_of_down(struct choosing *c, enum gguf_type base)
{
    int n = (int)c->f->as.num_hidden_layers, i = c->down++;
    if (c->recipe->mixture == MEDIUM && has_more_bits(i, n))
        return GGUF_Q6_K;
    return c->recipe->mixture == SMALL && base == GGUF_Q4_K && i < n / 8 ? GGUF_Q5_K : base;
}

static enum gguf_type type_of_head(const struct gguf_tensor *t, enum gguf_type base)
{
    if (t->shape[t->ndim - 1] % gguf_block(base))
        return GGUF_Q8_0;
    return base == GGUF_Q8_0 ? base : GGUF_Q6_K;
}

/* Before it is known whether the rows are whole blocks. */
static enum gguf_type wanted(struct choosing *c, const struct gguf_tensor *t)
{
    enum gguf_type base = c->recipe->type;
    if (c->even || gguf_block(base) == 1)
        return base;
    if (is_head(c, t))
        return type_of_head(t, base);
    if (is_v(t))
        return type_of_v(c, base);
    return is_down(t) ? type_of_down(c, base) : base;
}

static enum gguf_type fallback(enum gguf_type t, int64_t cols)
{
    static const enum gguf_type of_32[] = {
        [GGUF_Q4_K] = GGUF_Q5_0, [GGUF_Q5_K] = GGUF_Q5_1, [GGUF_Q6_K] = GGUF_Q8_0};
    if (cols % gguf_block(t) == 0)
        return t;
    t = gguf_block(t) == 256 ? of_32[t] : t;
    return cols % gguf_block(t) ? GGUF_F16 : t;
}

static int64_t columns(const struct gguf_tensor *t) { return t->shape[t->ndim - 1]; }

/* ---- the note: which type stands for another, and the size that would not need it */

/* Option and nearest size for which the columns of stored tensor k are whole blocks; "" for a
 * tensor whose columns no option changes. */
static void suggest(const struct gguf_form *f, int k, int block, char text[100])
{
    const struct model_spec *h = &f->as;
    int64_t layer, cols = columns(&f->tensors[k]);
    *text = 0;
    for (int i = 0; i < h->n_tensors; i++) {
        const struct view *v = &f->layout.of[i].views[0];
        if (v->stored != k)
            continue;
        enum axis a = model_spec_axes(h, i, &layer)->axes[!v->transposed];
        int64_t width = a == AXIS_H ? h->layers[0].head_dim : 1,
                groups = a == AXIS_H ? layer_size(&h->layers[layer], AXIS_K) : 1,
                near = (cols + block / 2) / block * block;
        near = near < block ? block : near;
        while (near % (width * groups))
            near += block;
        if (a != AXIS_NONE && axis_rows[a].option)
            snprintf(text, 100, " (--%s %" PRId64 " would suit)", axis_rows[a].option,
                     near / width);
        return;
    }
}

struct fallen {
    int n, first;
    enum gguf_type from, to;
};

static void add_fallen(struct fallen *list, int *n, int k, enum gguf_type from, enum gguf_type to,
                       const struct gguf_tensor *tensors)
{
    for (int i = 0; i < *n; i++)
        if (list[i].from == from && list[i].to == to &&
            columns(&tensors[list[i].first]) == columns(&tensors[k])) {
            list[i].n++;
            return;
        }
    if (*n < GGUF_FALLEN)
        list[(*n)++] = (struct fallen){1, k, from, to};
}

static char *note_fallen(const struct gguf_form *f, const struct fallen *list, int n)
{
    char *note = NULL, near[100];
    for (int i = 0; i < n; i++) {
        const struct gguf_tensor *t = &f->tensors[list[i].first];
        int block = gguf_block(list[i].from);
        suggest(f, list[i].first, block, near);
        note = mem_append(note ? note : mem_string(""),
                          "%s%d tensors with rows of %" PRId64 " are %s, since %s takes multiples "
                          "of %d%s",
                          i ? "; " : "", list[i].n, columns(t), gguf_type_name(list[i].to),
                          gguf_type_name(list[i].from), block, near);
    }
    return note;
}

/* ---- */

static enum gguf_type own_type(const struct gguf_form *f, int k)
{
    const struct model_spec *h = &f->as;
    enum dtype d = k < f->layout.n_stored
                       ? f->layout.stored[k].dtype
                       : h->tensors[model_spec_find(h, "embed_tokens.weight")].dtype;
    for (int t = 0; t < GGUF_TYPE_COUNT; t++)
        if (gguf_dtype((enum gguf_type)t) == (int)d)
            return (enum gguf_type)t;
    return GGUF_F32;
}

char *gguf_choose_types(struct gguf_form *f, const struct gguf_recipe *recipe, int even)
{
    struct choosing c = {.f = f, .recipe = recipe, .even = even};
    struct fallen list[GGUF_FALLEN];
    int n = 0;
    for (int k = 0; k < f->n_tensors; k++)
        c.n_v += is_v(&f->tensors[k]);
    for (int k = 0; k < f->n_tensors; k++) {
        struct gguf_tensor *t = &f->tensors[k];
        if (is_kept(t))
            continue;
        enum gguf_type want = recipe ? wanted(&c, t) : own_type(f, k);
        t->type = fallback(want, columns(t));
        if (t->type != want)
            add_fallen(list, &n, k, want, t->type, f->tensors);
    }
    return note_fallen(f, list, n);
}

const struct gguf_recipe *gguf_recipe_of(const struct model_spec *h)
{
    int64_t count[DT_COUNT] = {0};
    int most = DT_F32;
    for (int i = 0; i < h->n_tensors; i++) {
        enum dtype d = h->tensors[i].dtype;
        count[d] += tensor_count(&h->tensors[i]);
        most = count[d] > count[most] ? (int)d : most;
    }
    const struct gguf_recipe *found = gguf_recipe(dtype_name((enum dtype)most));
    return found ? found : gguf_recipe("f32");
}
