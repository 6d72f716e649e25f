/* Recording: a family's lines, with the sizes and tensors of a model, become the tape's lines. See
 * tape.h, family.h. */
#include "tape_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"

struct recorder {
    struct tape *t;
    struct model *m;
    int is_teacher;
    int64_t layer;
    struct {
        const char *name;
        int slot;
    } names[24];
    int n_names;
    struct err *e;
};

static int name_get(const struct recorder *r, const char *name)
{
    for (int i = 0; i < r->n_names; i++)
        if (!strcmp(r->names[i].name, name))
            return r->names[i].slot;
    return NO_SLOT;
}

static int name_set(struct recorder *r, const char *name, int slot)
{
    for (int i = 0; i < r->n_names; i++)
        if (!strcmp(r->names[i].name, name)) {
            r->names[i].slot = slot;
            return 0;
        }
    if (r->n_names == (int)(sizeof r->names / sizeof *r->names))
        return err_set(r->e, "family %s: too many slot names", r->m->spec.family->name);
    r->names[r->n_names].name = name;
    r->names[r->n_names++].slot = slot;
    return 0;
}

static struct param *param_find(const struct recorder *r, const char *stem, const char *suffix)
{
    char name[TENSOR_NAME];
    int64_t layer = r->layer < 0 || r->layer >= r->m->spec.num_hidden_layers ? -1 : r->layer;
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    return model_param(r->m, layer, name);
}

/* Rounded to the compute type, as in transformers: sqrt(3072) is 55.5 in bf16. */
static float scale_as_computed(const struct exec *x, double scale)
{
    float exact = (float)scale, rounded;
    uint64_t stored;
    from_f32(&stored, x->compute, &exact, 1);
    to_f32(&rounded, &stored, x->compute, 1);
    return rounded;
}

/* Parameters and output width of a line. The one place that knows which facts of the spec each op
 * needs. */
static int64_t line_params(struct recorder *r, const struct family_line *f, struct line *l,
                           int64_t cols)
{
    const struct model_spec *h = &r->m->spec;
    const struct layer *layer = l->layer >= 0 && l->layer < h->num_hidden_layers
                                    ? &h->layers[l->layer]
                                    : NULL;
    struct op_args *c = &l->sizes;
    switch (l->op) {
    case OP_embed:
        c->p.scale.scale = h->family->embed_by_width ? scale_as_computed(r->t->x, h->embed_scale)
                                                     : (float)h->embed_scale;
        return l->w[0]->cols;
    case OP_add: c->p.scale.scale = (float)h->residual_scale; return cols;
    case OP_linear: return l->w[0]->rows;
    case OP_rmsnorm:
    case OP_layernorm: {
        int64_t width = model_spec_norm_width(h, l->stem, l->w[0]->rows, layer ? l->layer : -1);
        c->p.norm = (struct norm_params){
            .groups = cols / width, .eps = (float)h->norm_eps, .plus1 = h->family->norm_plus1};
        return cols;
    }
    case OP_rope: {
        const struct rope_table *table = &h->ropes[layer->rope];
        c->p.rope = (struct rope_params){.heads = cols / layer->head_dim,
                                         .dims = table->dims,
                                         .positions = r->t->positions,
                                         .interleaved = table->interleaved};
        l->rope = (int)layer->rope;
        return cols;
    }
    case OP_attention:
        c->p.attention = (struct attention_params){.heads = layer->num_attention_heads,
                                                   .kv_heads = layer->num_key_value_heads,
                                                   .head_dim = layer->head_dim,
                                                   .window = layer->sliding_window,
                                                   .scale = (float)layer->attention_scale,
                                                   .cap = (float)h->attention_cap,
                                                   .alibi = model_spec_flag(h, "alibi")};
        return cols;
    case OP_conv:
        c->p.conv = (struct conv_params){.channels = cols, .width = l->w[0]->cols};
        return cols;
    case OP_scan:
        c->p.scan = (struct scan_params){.heads = layer->mamba_num_heads,
                                         .head_dim = layer->mamba_head_dim,
                                         .groups = layer->mamba_num_groups,
                                         .state = layer->mamba_state_size,
                                         .dt_min = (float)h->dt_min,
                                         .dt_max = (float)h->dt_max};
        return cols;
    case OP_act:
    case OP_glu: c->p.act.f = model_spec_activation(h, f); return cols;
    case OP_route:
    case OP_experts:
    case OP_mixture:
        c->p.route = (struct route_params){.top = h->experts_per_token,
                                           .renormalise = model_spec_flag(h, "norm_topk_prob")};
        if (l->op == OP_experts)
            return h->experts_per_token * (l->w[0]->rows / layer->num_experts);
        return l->op == OP_mixture ? l->w[0]->cols : cols;
    default: return cols;
    }
}

/* Appends the line; the name of its output means it from now on. */
static int line_add(struct recorder *r, struct line l, const char *out, int64_t out_cols)
{
    int slot = tape_line_add(r->t, l, out, out_cols, r->e);
    if (slot >= 0)
        slot = tape_adapter_add(r->t, r->m, slot, r->e);
    return slot < 0 ? -1 : name_set(r, out, slot);
}

/* A sum that joins the line before it: what that line computed by itself has no name any more. */
static int sum_join(struct recorder *r, const struct line *l, const char *out)
{
    int slot = l->op == OP_add ? tape_sum_join(r->t, l, out) : NO_SLOT;
    if (slot == NO_SLOT)
        return 0;
    for (int i = 0; i < r->n_names; i++)
        if (r->names[i].slot == slot)
            r->names[i].slot = NO_SLOT;
    name_set(r, out, slot);
    return 1;
}

/* *slot becomes one that keeps its rows between calls. */
static int cache_add(struct recorder *r, const char *name, int *slot)
{
    struct line l = tape_line(OP_cache, r->layer, *slot, NO_SLOT);
    l.is_teacher = r->is_teacher;
    if (line_add(r, l, name, r->t->slots[*slot].cols))
        return -1;
    *slot = r->t->lines[r->t->n_lines - 1].out;
    r->t->slots[*slot].kept = r->t->spec.kv_len;
    return 0;
}

static int record_line(struct recorder *r, const struct family_line *f)
{
    const struct model_spec *h = &r->m->spec;
    struct line l = {
        .op = f->op, .stem = f->weight, .layer = r->layer, .is_teacher = r->is_teacher, .rope = -1};
    if (!model_spec_has_line(h, f, r->layer < h->num_hidden_layers ? r->layer : -1))
        return 0;
    if (f->weight) {
        l.w[0] = param_find(r, f->weight, ".weight");
        l.w[1] = ops[f->op].weights > 1 ? param_find(r, f->weight, ".bias") : NULL;
        l.w[2] = ops[f->op].weights > 2 ? param_find(r, f->weight, ".skip") : NULL;
        if (!l.w[0])
            return err_set(r->e, "tensor %s.weight of layer %lld is missing", f->weight,
                           (long long)r->layer);
    }
    for (int i = 0; i < OP_INPUTS; i++) {
        l.in[i] = i < ops[f->op].inputs && f->in[i] ? name_get(r, f->in[i]) : NO_SLOT;
        if (l.in[i] == NO_SLOT && i < ops[f->op].inputs)
            return err_set(r->e, "family %s: a line reads \"%s\" before it is written",
                           h->family->name, f->in[i] ? f->in[i] : "");
    }
    int64_t cols = line_params(r, f, &l, l.in[0] == NO_SLOT ? 0 : r->t->slots[l.in[0]].cols);
    if (f->op == OP_attention && r->t->spec.kv_len &&
        (cache_add(r, "cached k", &l.in[1]) || cache_add(r, "cached v", &l.in[2])))
        return -1;
    return sum_join(r, &l, f->out) ? 0 : line_add(r, l, f->out, cols);
}

static int record_lines(struct recorder *r, const struct family_line *lines)
{
    for (; lines->out; lines++)
        if (record_line(r, lines))
            return -1;
    return 0;
}

/* One model up to the input of its head, with the states of the student; returns that slot, or
 * -1. */
static int record_model(struct tape *t, struct model *m, int is_teacher, struct err *e)
{
    struct recorder r = {.t = t, .m = m, .is_teacher = is_teacher, .layer = -1, .e = e};
    const struct family *f = m->spec.family;
    int64_t L = m->spec.num_hidden_layers;
    int *boundary = mem_alloc(sizeof *boundary * (size_t)(L + 1));
    t->boundary[is_teacher] = boundary;
    for (int64_t i = 0; i <= L; i++)
        boundary[i] = NO_SLOT;
    if (record_lines(&r, f->start))
        return -1;
    boundary[0] = name_get(&r, "x");
    for (r.layer = 0; r.layer < L; r.layer++) {
        if (record_lines(&r, f->block))
            return -1;
        boundary[r.layer + 1] = name_get(&r, "x");
        if (!is_teacher && tape_record_states(t, 0, e))
            return -1;
    }
    if (record_lines(&r, f->end) || (!is_teacher && tape_record_states(t, 1, e)))
        return -1;
    return name_get(&r, "n");
}

static struct param *head_weight(struct model *m)
{
    return model_param(m, -1,
                       m->spec.tie_word_embeddings ? "embed_tokens.weight" : "lm_head.weight");
}

static void head_scales(const struct model_spec *h, float *scale, float *cap)
{
    *scale = (float)h->logit_scale;
    *cap = (float)h->logit_cap;
}

/* Tokens per chunk of head and loss. */
static int64_t chunk_choose(const struct tape *t)
{
    const struct model_spec *h = &t->spec.model->spec;
    int64_t teacher = t->spec.teacher ? t->spec.teacher->spec.vocab_size : 0;
    if (t->spec.given.form == TEACHER_LOGITS)
        teacher = t->spec.given.n;
    int64_t chunk = t->spec.loss_chunk ? t->spec.loss_chunk
                                       : loss_chunk(t->x, h->vocab_size, teacher, h->hidden_size);
    return min64(chunk, t->T);
}

/* Fills in defaults. Refused: a loss whose needs the tape does not meet. */
static int loss_kind_check(struct recorder *r, struct loss_kind *kind)
{
    if (kind->temperature == 0)
        kind->temperature = 1;
    if (kind->jsd_beta == 0)
        kind->jsd_beta = 0.5f;
    const struct tape_spec *s = &r->t->spec;
    int is_given = s->given.form != TEACHER_MODEL, has_teacher = s->teacher || is_given;
    if (s->teacher && is_given)
        return err_set(r->e, "a teacher and another that comes with the tokens");
    for (int i = 0; i < LOSS_COUNT; i++) {
        if (!(kind->set >> i & 1))
            continue;
        if (loss_table[i].needs_teacher && !has_teacher)
            return err_set(r->e, "loss %s needs a teacher", loss_table[i].name);
        if (!loss_possible((enum loss)i, s->given.form))
            return err_set(r->e, "loss %s needs more of the teacher than comes with the tokens",
                           loss_table[i].name);
    }
    return 0;
}

/* Does the loss line read the teacher's logits? */
static int loss_has_teacher(const struct tape *t, const struct loss_kind *kind)
{
    int needed = 0;
    for (int i = 0; i < LOSS_COUNT && t->spec.teacher; i++)
        needed |= (kind->set >> i & 1) && loss_table[i].needs_teacher;
    return needed;
}

static int record_loss(struct recorder *r, struct tape_loss *loss, int normed, int teacher_normed)
{
    struct tape *t = r->t;
    struct model *m = t->spec.model,
                 *teacher = loss_has_teacher(t, &loss->kind) ? t->spec.teacher : NULL;
    struct line l = tape_line(OP_loss, t->n_layers, normed, teacher ? teacher_normed : NO_SLOT);
    l.stem = "lm_head";
    l.step = t->n_step;
    l.n_step = LOSS_STEP;
    if (loss_kind_check(r, &loss->kind))
        return -1;
    struct loss_params p = {.kind = loss->kind,
                            .teacher = t->spec.given,
                            .teacher_logit_scale = 1,
                            .gradients = t->spec.train};
    l.w[0] = head_weight(m);
    l.w[1] = model_param(m, -1, "lm_head.bias");
    head_scales(&m->spec, &p.logit_scale, &p.logit_cap);
    if (teacher) {
        l.w[2] = head_weight(teacher);
        l.w[3] = model_param(teacher, -1, "lm_head.bias");
        head_scales(&teacher->spec, &p.teacher_logit_scale, &p.teacher_logit_cap);
    }
    p.chunk = chunk_choose(t);
    l.sizes.p.loss = p;
    if (line_add(r, l, "loss", loss_columns(p.kind.set)))
        return -1;
    t->n_step += l.n_step;
    t->losses[t->n_losses++] = t->n_lines - 1;
    t->slots[t->lines[t->n_lines - 1].out].is_result = 1;
    return 0;
}

static int record_logits(struct recorder *r, int normed)
{
    struct tape *t = r->t;
    struct model *m = t->spec.model;
    struct line l = tape_line(OP_linear, t->n_layers, normed, NO_SLOT);
    l.stem = "lm_head";
    l.w[0] = head_weight(m);
    l.w[1] = model_param(m, -1, "lm_head.bias");
    if (line_add(r, l, "logits", l.w[0]->rows))
        return -1;
    struct line cap = tape_line(OP_softcap, t->n_layers, t->lines[t->n_lines - 1].out, NO_SLOT);
    head_scales(&m->spec, &cap.sizes.p.scale.scale, &cap.sizes.p.scale.cap);
    if (cap.sizes.p.scale.scale == 1 && cap.sizes.p.scale.cap == 0)
        return 0;
    return line_add(r, cap, "logits", l.w[0]->rows);
}

/* The teacher's lines behind the last one that a loss reads. */
static void mark_unread(struct tape *t)
{
    char *read = mem_alloc((size_t)t->n_slots + 1);
    for (int i = t->n_lines - 1; i >= 0; i--) {
        struct line *l = &t->lines[i];
        l->unread = l->is_teacher && !read[l->out];
        for (int k = 0; k < OP_INPUTS && !l->unread; k++)
            if (l->in[k] != NO_SLOT)
                read[l->in[k]] = 1;
    }
    free(read);
}

int tape_record_lines(struct tape *t, struct err *e)
{
    struct tape_spec *s = &t->spec;
    t->n_layers = s->model->spec.num_hidden_layers;
    t->n_step = s->states[0].place ? STATE_STEP : 0;
    int teacher_normed = NO_SLOT;
    if (s->teacher && (teacher_normed = record_model(t, s->teacher, 1, e)) < 0)
        return -1;
    t->normed = record_model(t, s->model, 0, e);
    if (t->normed < 0)
        return -1;
    struct recorder r = {.t = t, .m = s->model, .layer = t->n_layers, .e = e};
    int losses = s->end == TAPE_NO_HEAD ? 0 : TAPE_LOSSES;
    for (int i = 0; i < losses && s->losses[i].kind.set; i++)
        if (record_loss(&r, &s->losses[i], t->normed, teacher_normed))
            return -1;
    if (s->end == TAPE_LOGITS && record_logits(&r, t->normed))
        return -1;
    t->last = t->lines[t->n_lines - 1].out;
    t->slots[t->last].is_result = 1;
    mark_unread(t);
    return 0;
}
