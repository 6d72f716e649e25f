/* What a calibration taps: the sums of every unit, and the hidden states between blocks. See
 * calibrate.h. */
#include "calibrate_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"

/* ---- while the tape runs: called by several threads, each writing only for its own sequences */

static void add_values(const struct tap_sum *s, const struct tapped *t,
                       const struct operand *values)
{
    struct op_args call = {.x = t->x, .batch = t->b, .in = {*values}, .rows = values->rows};
    call.p.seq_stats = (struct seq_stats_params){s->units,
                                                 s->width,
                                                 s->norm,
                                                 s->there + tap_sum_at(s, AGG_MEAN, t->first),
                                                 s->there + tap_sum_at(s, AGG_L2, t->first),
                                                 s->there + tap_sum_at(s, AGG_VAR, t->first)};
    op_forward(OP_seq_stats, &call);
}

/* Of a mixture's inputs; each sequence has its own part of the memory for that. */
static void add_experts(const struct tap_sum *s, const struct tapped *t)
{
    const struct calibration *c = s->c;
    struct op_args call = *t->call;
    struct operand use = {.dtype = t->values->dtype, .rows = call.rows, .cols = s->units};
    call.scratch = c->experts + t->first * c->expert_scratch;
    call.p.route.out_mean = s->there + tap_sum_at(s, AGG_MEAN, t->first);
    call.p.route.out_l2 = s->there + tap_sum_at(s, AGG_L2, t->first);
    call.p.route.out_var = s->there + tap_sum_at(s, AGG_VAR, t->first);
    use.v = c->experts + c->n_seq * c->expert_scratch + t->first * c->expert_use;
    call.out = use;
    op_forward(s->op, &call);
    if (s->op == OP_expert_use)
        add_values(s, t, &use);
}

static void tap_values(void *user, const struct tapped *t)
{
    for (const struct tap_sum *s = user; s; s = s->next)
        if (s->op == OP_seq_stats)
            add_values(s, t, t->values);
        else
            add_experts(s, t);
}

/* The input of block p is the output of every block p-n..p-1. */
void calibrate_compare(const struct calibration *c, const struct tapped *t, int64_t from,
                       int64_t to)
{
    int64_t N = c->acts.block_size, L = c->acts.axes.size[AXIS_L], T = t->values->rows,
            row = t->first * t->b->seq_len, at = c->group * N * row;
    struct op_args call = {.x = t->x,
                           .in = {*t->values},
                           .rows = T,
                           .p.row_cosine = {c->slots, from, to, N, c->cosines_there + at}};
    call.in[0].v = ring_at(c, 0, row);
    call.in[0].rows = c->n_seq * c->seq_len;
    op_forward(OP_row_cosine, &call);
    exec_get(t->x, c->cosines + at, c->cosines_there + at,
             (size_t)((to - from) * N * T) * sizeof(double));
    for (int64_t p = from; p < to; p++)
        for (int64_t n = 1; n <= N && n <= p; n++)
            for (int64_t i = 0; i < t->b->n_seq; i++) {
                const double *cosines = c->cosines + at + ((p - from) * N + n - 1) * T +
                                        i * t->b->seq_len;
                double sum = 0;
                for (int64_t k = 0; k < t->b->seq_len; k++)
                    sum += cosines[k];
                c->cosine_sums[((t->first + i) * N + n - 1) * L + p - n] = sum;
            }
}

static void tap_residual(void *user, const struct tapped *t)
{
    const struct tap_block *block = user;
    const struct calibration *c = block->c;
    const struct operand *v = t->values;
    int64_t p = block->layer;
    exec_copy(t->x, ring_at(c, p, t->first * t->b->seq_len), v->v,
              (size_t)dtype_bytes(v->dtype, v->rows * v->cols));
    if ((p + 1) % c->group == 0 || p == c->acts.axes.size[AXIS_L])
        calibrate_compare(c, t, p - p % c->group, p + 1);
}

/* ---- placing the taps */

static struct tap_sum *sum_new(struct calibration *c, struct tap_sum *next, int64_t units,
                               int64_t width, int norm, const char *name, int64_t layer)
{
    char full[64];
    struct tap_sum *s = mem_alloc(sizeof *s);
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "%s.%" PRId64, name, layer);
    acts_add_stat(&c->acts, full, norm ? units : units * width);
    *s = (struct tap_sum){.c = c,
                          .op = OP_seq_stats,
                          .stat = c->acts.n_stats - 1,
                          .units = units,
                          .width = width,
                          .norm = norm,
                          .section = c->section,
                          .next = next};
    c->sums = mem_grow(c->sums, (size_t)(c->n_sums + 1) * sizeof *c->sums);
    return c->sums[c->n_sums++] = s;
}

/* The axes of a linear line's weight. */
static const enum axis *line_axes(const struct family *f, const struct family_line *line)
{
    char name[TENSOR_NAME];
    snprintf(name, sizeof name, "layers.{L}.%s.weight", line->weight);
    for (const struct family_tensor *t = f->tensors; t->name; t++)
        if (!strcmp(t->name, name))
            return t->axes;
    return NULL;
}

/* The earlier line of the layer that wrote the input of `line`; NULL: the residual stream that
 * entered the block. */
static const struct family_line *writer_of(const struct model_spec *h,
                                           const struct family_line *line, int64_t layer)
{
    for (const struct family_line *w = line; w-- > h->family->block;)
        if (!strcmp(w->out, line->in[0]) && model_spec_has_line(h, w, layer))
            return w;
    return NULL;
}

/* The first linear line of the layer that reads the same values: what it reads is summed once. */
static const struct family_line *first_reader(const struct model_spec *h,
                                              const struct family_line *line, int64_t layer)
{
    for (const struct family_line *l = h->family->block; l < line; l++)
        if (l->op == OP_linear && model_spec_has_line(h, l, layer) &&
            !strcmp(l->in[0], line->in[0]) && writer_of(h, l, layer) == writer_of(h, line, layer))
            return l;
    return line;
}

void calibrate_input_name(const struct model_spec *h, const struct family_line *line, int64_t layer,
                          char name[64])
{
    const struct tap_rule *rule = tap_rule_of(line_axes(h->family, line)[1]);
    const struct family_line *first = first_reader(h, line, layer), *w = writer_of(h, first, layer);
    if (rule)
        snprintf(name, 64, "%s.%" PRId64, rule->inputs, layer);
    else if (w && w->weight)
        snprintf(name, 64, "hidden.%" PRId64 ".%s", layer, w->weight);
    else
        snprintf(name, 64, "hidden.%" PRId64 ".residual.%.24s", layer, first->weight);
}

/* A rule's name for outputs; with the first word of the stem where several lines write the axis:
 * neuron_first, or neuron_first_gate and neuron_first_up. */
static void outputs_name(const struct family *f, const struct family_line *line, char name[64])
{
    int lines = 0;
    enum axis out = line_axes(f, line)[0];
    const char *outputs = tap_rule_of(out)->outputs;
    for (const struct family_line *l = f->block; l->out; l++)
        lines += l->op == OP_linear && line_axes(f, l) && line_axes(f, l)[0] == out;
    if (lines > 1)
        snprintf(name, 64, "%s_%.*s", outputs, (int)strcspn(line->weight, "_"), line->weight);
    else
        snprintf(name, 64, "%s", outputs);
}

/* Adds sums of a linear line's input along an axis of the layers: of its channels, of its units,
 * and of the units these are nested in. */
static struct tap_sum *unit_sums(struct calibration *c, const struct tap_rule *r, int64_t layer)
{
    const struct layer *y = &c->acts.axes.layers[layer];
    enum axis inside = axis_rows[r->axis].inside;
    int64_t units = layer_units(y, r->axis), n = units * layer_width(y, r->axis);
    struct tap_sum *s = sum_new(c, NULL, n, 1, 0, r->inputs, layer);
    if (r->norms)
        s = sum_new(c, s, units, n / units, 1, r->norms, layer);
    if (r->outer)
        s = sum_new(c, s, layer_size(y, inside), n / layer_size(y, inside), 1, r->outer, layer);
    return s;
}

/* If the layer lacks the line, its units get sums of zeros, so that scores and ranks have an entry
 * for every layer. */
static int tap_line(struct calibration *c, const struct model_spec *h,
                    const struct family_line *line, int64_t layer, struct err *e)
{
    const enum axis *axes = line_axes(h->family, line);
    const struct tap_rule *out = tap_rule_of(axes[0]), *in = tap_rule_of(axes[1]);
    int here = model_spec_has_line(h, line, layer);
    struct tap_sum *s = NULL;
    char name[64];
    if (in && layer_size(&c->acts.axes.layers[layer], in->axis)) {
        s = unit_sums(c, in, layer);
    } else if (axes[1] == AXIS_E && here && first_reader(h, line, layer) == line) {
        calibrate_input_name(h, line, layer, name);
        s = sum_new(c, NULL, c->acts.axes.size[AXIS_E], 1, 0, name, -1);
    }
    if (s && here && tape_tap(c->tape, TAP_INPUT_OF, layer, line->weight, tap_values, s, e))
        return -1;
    if (!out || !out->outputs || !layer_size(&c->acts.axes.layers[layer], axes[0]))
        return 0;
    outputs_name(h->family, line, name);
    s = sum_new(c, NULL, layer_units(&c->acts.axes.layers[layer], axes[0]), 1, 0, name, layer);
    return here ? tape_tap(c->tape, TAP_OUTPUT_OF, layer, line->weight, tap_values, s, e) : 0;
}

/* Memory of one sequence for the ops that look at the experts of a layer. */
static void expert_memory(struct calibration *c, const struct model_spec *h, const struct layer *y,
                          enum dtype weights)
{
    const struct batch b = {.n_seq = 1, .seq_len = c->seq_len};
    struct op_args call = {.x = c->x, .batch = &b, .rows = c->seq_len};
    int64_t X = y->num_experts, N = y->moe_intermediate_size;
    call.p.route.top = h->experts_per_token;
    call.in[0].cols = h->experts_per_token * N;
    call.in[1].cols = X;
    call.w[0] = (struct operand){.dtype = weights, .rows = X * N, .cols = h->hidden_size};
    int64_t scratch = max64((int64_t)op_scratch(OP_expert_use, &call),
                            (int64_t)op_scratch(OP_expert_stats, &call));
    c->expert_scratch = max64(c->expert_scratch, (int64_t)arena_round((size_t)scratch));
    c->expert_use = max64(c->expert_use, dtype_bytes(c->x->compute, c->seq_len * 2 * X));
}

/* Sums of the inputs of a mixture: of the neurons of its experts, and of its experts. */
static int tap_mixture(struct calibration *c, struct model *m, const struct family_line *line,
                       int64_t layer, struct err *e)
{
    const struct layer *y = &c->acts.axes.layers[layer];
    char name[TENSOR_NAME];
    if (!y->num_experts)
        return 0;
    struct tap_sum *s = sum_new(c, NULL, layer_units(y, AXIS_N), 1, 0, tap_rule_of(AXIS_N)->inputs,
                                layer);
    s->op = OP_expert_stats;
    s = sum_new(c, s, 2 * y->num_experts, 1, 0, "expert_use", layer);
    s->op = OP_expert_use;
    if (!model_spec_has_line(&m->spec, line, layer))
        return 0;
    snprintf(name, sizeof name, "%s.weight", line->weight);
    expert_memory(c, &m->spec, y, model_param(m, layer, name)->dtype);
    return tape_tap(c->tape, TAP_INPUT_OF, layer, line->weight, tap_values, s, e);
}

static int tap_layer(struct calibration *c, struct model *m, int64_t layer, struct err *e)
{
    const struct family *f = m->spec.family;
    int bad = 0;
    for (const struct family_line *l = f->block; l->out && !bad; l++)
        if (l->op == OP_linear && line_axes(f, l))
            bad = tap_line(c, &m->spec, l, layer, e);
        else if (l->op == OP_mixture)
            bad = tap_mixture(c, m, l, layer, e);
    return bad;
}

static int tap_blocks(struct calibration *c, struct err *e)
{
    int64_t L = c->acts.axes.size[AXIS_L];
    c->blocks = mem_alloc((size_t)(L + 1) * sizeof *c->blocks);
    for (int64_t l = 0; l <= L; l++) {
        c->blocks[l] = (struct tap_block){c, l};
        if (tape_tap(c->tape, TAP_BLOCK_INPUT, l, NULL, tap_residual, &c->blocks[l], e))
            return -1;
    }
    return 0;
}

int calibrate_tap(struct calibration *c, struct model *m, struct err *e)
{
    int64_t L = c->acts.axes.size[AXIS_L];
    for (c->section = 0; c->section < L; c->section++)
        if (tap_layer(c, m, c->section, e))
            return -1;
    struct tap_sum *s = sum_new(c, NULL, c->acts.axes.size[AXIS_E], 1, 0, "hidden.final", -1);
    if (tape_tap(c->tape, TAP_INPUT_OF, -1, "lm_head", tap_values, s, e))
        return -1;
    return m->sections ? 0 : tap_blocks(c, e);
}
