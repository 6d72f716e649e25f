/* A plan as a table for people: see slice_plan_print in slice.h. */
#include "slice.h"

#include <inttypes.h>
#include <stdlib.h>

static void print_texts(FILE *f, const char *what, const char *before, const char *after,
                        double share)
{
    fprintf(f, "%-28s %16s %16s  %5.1f %%\n", what, before, after, 100 * share);
}

static void print_row(FILE *f, const char *what, int64_t before, int64_t after)
{
    char a[24], b[24];
    snprintf(a, sizeof a, "%" PRId64, before);
    snprintf(b, sizeof b, "%" PRId64, after);
    print_texts(f, what, a, b, (double)after / (double)(before ? before : 1));
}

static double mean(const struct model_spec *h, enum axis axis)
{
    double sum = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        sum += (double)model_spec_size(h, axis, l);
    return sum / (double)h->num_hidden_layers;
}

static void print_axis(FILE *f, const struct slice_plan *p, const struct model_spec *source,
                       enum axis axis)
{
    const char *name = axis_rows[axis].name;
    if (axis < LAYER_AXES) {
        print_row(f, name, model_spec_size(source, axis, 0), model_spec_size(&p->spec, axis, 0));
        return;
    }
    char *a = model_spec_size_text(source, axis, NULL),
         *b = model_spec_size_text(&p->spec, axis, p->kept[AXIS_L].index);
    print_texts(f, name, a, b, mean(&p->spec, axis) / mean(source, axis));
    free(a);
    free(b);
}

/* The kinds of block that remain of a source layer. */
static unsigned kinds_left(const struct slice_plan *p, int64_t layer)
{
    for (int64_t i = 0; i < p->kept[AXIS_L].n; i++)
        if (p->kept[AXIS_L].index[i] == layer)
            return p->spec.layers[i].kinds;
    return 0;
}

/* The layers that lose this kind of block, or (kind 0) every kind they had. */
static void print_dropped(FILE *f, const char *what, const struct slice_plan *p,
                          const struct model_spec *source, unsigned kind)
{
    int any = 0;
    for (int64_t l = 0; l < source->num_hidden_layers; l++) {
        unsigned left = kinds_left(p, l), lost = source->layers[l].kinds & ~left;
        if (kind ? !left || !(lost & kind) : left != 0)
            continue;
        if (!any++)
            fprintf(f, "%s dropped:", what);
        fprintf(f, " %" PRId64, l);
    }
    if (any)
        fputc('\n', f);
}

void slice_plan_print(FILE *f, const struct slice_plan *p, const struct model_spec *source)
{
    const struct model_spec *h = &p->spec;
    enum axis x;
    int64_t body_a, body_b, all_a = model_spec_parameters(source, &body_a),
                            all_b = model_spec_parameters(h, &body_b);
    fprintf(f, "%-28s %16s %16s\n", "", "model", "slice");
    for (int64_t i = 0; (x = axes_listed(i)); i++)
        print_axis(f, p, source, x);
    print_axis(f, p, source, AXIS_D);
    print_row(f, "parameters", all_a, all_b);
    print_row(f, "non-embedding parameters", body_a, body_b);
    print_row(f, "tensors", source->n_tensors, h->n_tensors);
    print_row(f, "bytes", model_spec_bytes(source), model_spec_bytes(h));
    print_dropped(f, "layers", p, source, 0);
    print_dropped(f, "attention", p, source, KIND_attention);
    print_dropped(f, "MLP", p, source, KIND_mlp);
}
