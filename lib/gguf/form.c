/* The form that a model takes as a GGUF file: see gguf/write.h. In: a spec. Out: the architecture
 * that computes it, the tensors of the file, and what must be multiplied into them. A family's own
 * architectures come first, then those of its twins; each is tried in full: its metadata and
 * tensors, without data, are written to a file and read back by the reader of this room, which
 * knows what llama.cpp does with them. Refused, with the reason of the first: shapes, windows, rope
 * tables that no architecture can express. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "write.h"

/* The least time step of published models of nemotron_h. */
static const double USUAL_TIME_STEP = 1e-3;

/* ---- what the architecture demands */

static int check_heads(const struct gguf_form *f, struct err *e)
{
    const struct layer *y = &f->as.layers[0];
    int64_t E = f->as.hidden_size, H = y->num_attention_heads, D = y->head_dim;
    if (f->row->no_groups && y->num_key_value_heads != H)
        return err_set(e,
                       "llama.cpp's architecture %s requires as many KV heads as query heads, not "
                       "%" PRId64 " for %" PRId64,
                       f->row->arch, y->num_key_value_heads, H);
    if (!f->row->head_by_width || E == H * D)
        return 0;
    return err_set(
        e,
        "llama.cpp's architecture %s requires hidden_size to be num_attention_heads times "
        "head_dim: hidden_size %" PRId64 " does not suit %" PRId64 " heads of %" PRId64 ", %" PRId64
        " would",
        f->row->arch, E, H, D, H * D);
}

/* llama.cpp's hybrids need layers of both kinds. */
static int check_mixture(const struct gguf_form *f, struct err *e)
{
    unsigned kinds = 0;
    for (int64_t l = 0; l < f->as.num_hidden_layers; l++)
        kinds |= f->as.layers[l].kinds;
    if (!family_has_axis(f->as.family, AXIS_M) || (kinds & KIND_mixer) == KIND_mixer)
        return 0;
    return err_set(e,
                   "llama.cpp cannot run a model of architecture %s without any %s layer: keep one",
                   f->row->arch, block_kind_name(KIND_mixer & ~kinds));
}

static int check_mamba(const struct gguf_form *f, struct err *e)
{
    int64_t E = f->as.hidden_size, width = config_mixer_width(&f->as);
    if (check_mixture(f, e))
        return -1;
    if (!f->row->mamba_twice || width == 2 * E)
        return 0;
    return err_set(e,
                   "llama.cpp's architecture %s requires the Mamba heads of a layer to have twice "
                   "as many channels as hidden_size: %" PRId64 " do not suit hidden_size %" PRId64
                   ", %" PRId64 " would",
                   f->row->arch, width, E, 2 * E);
}

static int check_head(const struct gguf_form *f, struct err *e)
{
    if (!f->row->only_tied || f->as.tie_word_embeddings)
        return 0;
    return err_set(e,
                   "llama.cpp's architecture %s has no head other than the embedding, but this "
                   "model has one",
                   f->row->arch);
}

static int check_bias(const struct gguf_form *f, const char *stem, int taken, struct err *e)
{
    char name[TENSOR_NAME];
    for (int64_t l = 0; l < f->as.num_hidden_layers && !taken; l++) {
        snprintf(name, sizeof name, "layers.%" PRId64 ".%s.bias", l, stem);
        if (model_spec_find(&f->as, name) >= 0)
            return err_set(e, "llama.cpp's architecture %s has no bias of %s", f->row->arch, stem);
    }
    return 0;
}

static int check_biases(const struct gguf_form *f, struct err *e)
{
    return check_bias(f, "o_proj", f->row->o_bias, e) ||
           check_bias(f, "up_proj", f->row->mlp_bias, e) || check_bias(f, "out_proj", 0, e);
}

static int check_alibi(const struct gguf_form *f, struct err *e)
{
    if (!model_spec_flag(&f->as, "alibi"))
        return 0;
    return err_set(e, "llama.cpp's architecture %s has no ALiBi", f->row->arch);
}

/* Are there norms of q and k just where the architecture has them? */
static int check_qk_norms(const struct gguf_form *f, struct err *e)
{
    int64_t least = f->row->qk_norm_layers, L = f->as.num_hidden_layers;
    int has = model_spec_find(&f->as, "layers.0.q_norm.weight") >= 0;
    if (!least || has == (L >= least))
        return 0;
    if (least == INT64_MAX)
        return err_set(e, "llama.cpp's architecture %s has no norms of q and k", f->row->arch);
    return err_set(e,
                   "llama.cpp's architecture %s has norms of q and k if there are at least %" PRId64
                   " layers, and only then: this model has %" PRId64 " layers and %s norms",
                   f->row->arch, least, L, has ? "such" : "no such");
}

/* Layers differ in shape only where the architecture has lists of shapes; there, llama.cpp skips
 * the attention of a layer without an MLP. */
static int check_layers(const struct gguf_form *f, struct err *e)
{
    const struct model_spec *h = &f->as;
    int lists = gguf_has_lists(h->family), halves = config_key(h->family, "block_configs") != NULL;
    for (int64_t l = 0; l < h->num_hidden_layers; l++) {
        const struct layer *y = &h->layers[l];
        for (enum axis a = LAYER_AXES; a < AXIS_COUNT && !lists; a++)
            if (y->kinds != h->layers[0].kinds || layer_size(y, a) != layer_size(h->layers, a))
                return err_set(
                    e,
                    "llama.cpp's architecture %s has one shape for all layers, but layer "
                    "%" PRId64 " differs from layer 0 in its %s",
                    f->row->arch, l, y->kinds == h->layers[0].kinds ? axis_rows[a].name : "blocks");
        if (halves && y->kinds == KIND_attention)
            return err_set(e,
                           "llama.cpp ignores the attention of a layer without an MLP, such as "
                           "layer %" PRId64 ": give it a narrow MLP instead",
                           l);
    }
    return 0;
}

/* ---- scores: what the architecture multiplies q k by, and the factor that is left for the weights
 */

static double scale_of_arch(const struct gguf_form *f)
{
    const struct model_spec *h = &f->as;
    const struct layer *y = &h->layers[0];
    if (config_key(h->family, "attention_scale"))
        return y->attention_scale;
    int64_t width = h->num_hidden_layers == f->row->wide_score_layers
                        ? h->hidden_size / y->num_attention_heads
                        : y->head_dim;
    return 1 / sqrt((double)width);
}

/* Multiplies the last tensor that q passes through: the weight of its norm, or its projection. */
static void fold_into_q(struct gguf_form *f, int64_t layer, double factor)
{
    static const char *const names[] = {"q_norm.weight", "q_proj.weight", "q_proj.bias"};
    for (int k = 0; k < 3; k++) {
        char name[TENSOR_NAME];
        snprintf(name, sizeof name, "layers.%" PRId64 ".%s", layer, names[k]);
        int i = model_spec_find(&f->as, name);
        if (i >= 0)
            f->fold[i] = factor;
        if (i >= 0 && !k)
            return;
    }
}

static void fold_scales(struct gguf_form *f)
{
    double scale = scale_of_arch(f);
    for (int i = 0; i < f->as.n_tensors; i++)
        f->fold[i] = 1;
    for (int64_t l = 0; l < f->as.num_hidden_layers; l++) {
        struct layer *y = &f->as.layers[l];
        double factor = y->attention_scale / scale;
        if (!(y->kinds & KIND_attention) || fabs(factor - 1) < 1e-6)
            continue;
        fold_into_q(f, l, factor);
        y->attention_scale = scale;
        f->n_folded++;
    }
}

/* ---- windows */

/* An architecture with windows must run some layers with one: as long as the context, where no
 * layer has any. (Where windows have a rope table of their own, llama.cpp lets 0 stand for none.)
 */
static void state_windows(struct gguf_form *f)
{
    struct model_spec *h = &f->as;
    int any = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        any |= h->layers[l].sliding_window > 0;
    for (int64_t l = 0; l < h->num_hidden_layers && !any; l++)
        if (gguf_windows(f->row, h->num_hidden_layers) && h->n_ropes == 1)
            h->layers[l].sliding_window = h->max_position_embeddings;
}

/* Time steps that transformers keeps from vanishing: llama.cpp does not, which a note says. */
static void state_time_steps(struct gguf_form *f)
{
    if (f->as.dt_min <= USUAL_TIME_STEP)
        f->as.dt_min = 0;
}

/* ---- tensors of the file: the layout's, then those that canonical tensors do not fill */

static struct gguf_tensor *add_tensor(struct gguf_form *f, const char *name, const struct tensor *t)
{
    if (f->n_tensors % 64 == 0)
        f->tensors = mem_grow(f->tensors, (size_t)(f->n_tensors + 64) * sizeof *f->tensors);
    struct gguf_tensor *x = &f->tensors[f->n_tensors++];
    *x = (struct gguf_tensor){.type = GGUF_F32, .ndim = t->ndim};
    snprintf(x->name, sizeof x->name, "%s", name);
    memcpy(x->shape, t->shape, (size_t)t->ndim * sizeof *x->shape);
    if (t->ndim == 2 && t->shape[0] == 1) { /* a matrix of one row is a vector there */
        x->ndim = 1;
        x->shape[0] = t->shape[1];
    }
    return x;
}

static int has_stored(const struct gguf_form *f, const char *name)
{
    for (int k = 0; k < f->layout.n_stored; k++)
        if (!strcmp(f->layout.stored[k].name, name))
            return 1;
    return 0;
}

/* A bias of zeros for each matrix of a layer that has none. */
static void add_biases(struct gguf_form *f)
{
    for (int k = 0; k < f->layout.n_stored && f->row->needs_biases; k++) {
        const struct tensor *t = &f->layout.stored[k];
        if (t->ndim != 2 || strncmp(t->name, "blk.", 4))
            continue;
        char *name = mem_format("%.*s.bias", (int)(strrchr(t->name, '.') - t->name), t->name);
        if (!has_stored(f, name)) {
            add_tensor(f, name, &(struct tensor){.ndim = 1, .shape = {t->shape[0]}});
            f->n_zero++;
        }
        free(name);
    }
}

static int make_tensors(struct gguf_form *f, struct err *e)
{
    const struct model_spec *h = &f->as;
    if (layout_make(&f->layout, h, h->family->gguf_stored, f->row->neighbours, NULL, NULL, e))
        return -1;
    for (int k = 0; k < f->layout.n_stored; k++)
        add_tensor(f, f->layout.stored[k].name, &f->layout.stored[k]);
    f->first_zero = f->n_tensors;
    add_biases(f);
    f->first_table = f->n_tensors;
    for (int k = 0; k < f->rope.n_tables; k++)
        add_tensor(f, f->rope.tables[k].name,
                   &(struct tensor){.ndim = 1, .shape = {h->ropes[0].dims / 2}});
    f->head = -1;
    if (f->row->needs_head && h->tie_word_embeddings) {
        f->head = f->n_tensors;
        add_tensor(f, "output.weight", &h->tensors[model_spec_find(h, "embed_tokens.weight")]);
    }
    return 0;
}

int gguf_form_write(const struct gguf_form *f, struct gguf_out *out, struct err *e)
{
    int failed = 0;
    for (int k = 0; k < f->rope.n_tables && !failed; k++)
        failed = gguf_write(out, f->first_table + k, 0, f->rope.tables[k].values,
                            f->tensors[f->first_table + k].shape[0] * 4, e);
    for (int k = f->first_zero; k < f->first_zero + f->n_zero && !failed; k++) {
        void *zeros = mem_alloc((size_t)f->tensors[k].shape[0] * 4);
        failed = gguf_write(out, k, 0, zeros, f->tensors[k].shape[0] * 4, e);
        free(zeros);
    }
    return failed;
}

/* ---- the proof */

static int compare(const struct gguf_form *f, struct gguf *g, struct err *e)
{
    struct model_spec read;
    struct gguf_layout tensors;
    struct err why = {0};
    int64_t layer;
    if (gguf_read_as(g, f->as.family, f->row, f->as.tie_word_embeddings, &read, &tensors, &why) !=
        GGUF_FITS) {
        const char *said = strstr(why.msg, "': ");
        return err_set(e, "llama.cpp's architecture %s cannot express this model: %.400s",
                       f->row->arch, said ? said + 3 : why.msg);
    }
    const char *what = model_spec_difference(&f->as, &read, 1e-6, &layer);
    gguf_layout_free(&tensors);
    model_spec_free(&read);
    if (what && layer >= 0)
        return err_set(e, "llama.cpp's architecture %s cannot express the %s of layer %" PRId64,
                       f->row->arch, what, layer);
    return what ? err_set(e, "llama.cpp's architecture %s cannot express this model's %s",
                          f->row->arch, what)
                : 0;
}

static int prove(const struct gguf_form *f, const char *path, struct err *e)
{
    struct gguf_head head = {0};
    gguf_put_config(&head, f);
    struct gguf_out *out = gguf_create(path, &head, f->tensors, f->n_tensors, e);
    struct gguf *g = NULL;
    if (out && !gguf_form_write(f, out, e))
        g = gguf_open(gguf_out_path(out), e);
    int failed = g ? compare(f, g, e) : -1;
    gguf_close(g);
    gguf_abandon(out);
    gguf_head_free(&head);
    return failed;
}

/* ---- choosing */

/* Makes h a model of the twin, which may lack axes of which no layer of h has units: those of
 * Mamba layers, and the limits of their time steps. */
static void become(struct model_spec *h, const struct family *twin)
{
    for (enum axis a = LAYER_AXES; a < AXIS_COUNT; a++) {
        unsigned kinds = family_axis_kinds(h->family, a);
        for (int64_t l = 0; l < h->num_hidden_layers && !family_has_axis(twin, a); l++)
            if (!(h->layers[l].kinds & kinds))
                layer_set_size(&h->layers[l], a, 0);
    }
    if (!family_has_axis(twin, AXIS_M))
        h->dt_min = h->dt_max = 0;
    h->family = twin;
}

static int try_form(struct gguf_form *f, const struct model_spec *h, const struct family *family,
                    const struct family_gguf *row, const char *path, struct err *e)
{
    *f = (struct gguf_form){.row = row};
    model_spec_copy(&f->as, h);
    become(&f->as, family);
    f->fold = mem_alloc((size_t)h->n_tensors * sizeof *f->fold);
    if (!check_heads(f, e) && !check_mamba(f, e) && !check_head(f, e) && !check_biases(f, e) &&
        !check_alibi(f, e) && !check_qk_norms(f, e) && !check_layers(f, e) &&
        !gguf_rope_make(&f->rope, h, row, e)) {
        fold_scales(f);
        state_windows(f);
        state_time_steps(f);
        if (!make_tensors(f, e) && !prove(f, path, e))
            return 0;
    }
    gguf_form_free(f);
    return -1;
}

static int try_family(struct gguf_form *f, const struct model_spec *h, const struct family *family,
                      const char *path, struct err *first)
{
    for (const struct family_gguf *row = family->gguf; row->arch; row++) {
        struct err why = {0};
        if (!try_form(f, h, family, row, path, &why))
            return 0;
        if (!first->set)
            *first = why;
    }
    return -1;
}

int gguf_form_make(struct gguf_form *f, const struct model_spec *h, const char *path, struct err *e)
{
    struct err why = {0};
    int failed = try_family(f, h, h->family, path, &why);
    for (const char *const *twin = h->family->twins; failed && *twin; twin++)
        failed = try_family(f, h, family_find(*twin), path, &why);
    if (failed && !why.set)
        return err_set(e, "llama.cpp has no architecture for family %s", h->family->name);
    return failed ? err_set(e, "%s", why.msg) : 0;
}

void gguf_form_free(struct gguf_form *f)
{
    model_spec_free(&f->as);
    layout_free(&f->layout);
    gguf_rope_free(&f->rope);
    free(f->fold);
    free(f->tensors);
    *f = (struct gguf_form){0};
}
