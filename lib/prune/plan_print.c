/* A plan as a table for people: see slice_plan_print in slice.h. */
#include "slice.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A table, the width of its column of names, and that of those of sizes, which per-layer sizes may
 * widen. */
struct table {
    FILE *f;
    int names, width;
};

static void print_texts(const struct table *t, const char *what, const char *before,
                        const char *after, double share)
{
    fprintf(t->f, "%-*s %*s %*s  %5.1f %%\n", t->names, what, t->width, before, t->width, after,
            100 * share);
}

static void print_row(const struct table *t, const char *what, int64_t before, int64_t after)
{
    char a[24], b[24];
    snprintf(a, sizeof a, "%" PRId64, before);
    snprintf(b, sizeof b, "%" PRId64, after);
    print_texts(t, what, a, b, (double)after / (double)(before ? before : 1));
}

static double mean(const struct model_spec *h, enum axis axis)
{
    double sum = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        sum += (double)model_spec_size(h, axis, l);
    return sum / (double)h->num_hidden_layers;
}

/* The sizes of an axis of the layers as texts; free() both. */
struct size_texts {
    char *before, *after;
};

static struct size_texts size_texts(const struct slice_plan *p, const struct model_spec *source,
                                    enum axis axis)
{
    return (struct size_texts){model_spec_size_text(source, axis, NULL),
                               model_spec_size_text(&p->spec, axis, p->kept[AXIS_L].index)};
}

static void size_texts_free(struct size_texts s)
{
    free(s.before);
    free(s.after);
}

static int wider(int width, const char *text)
{
    return (int)strlen(text) > width ? (int)strlen(text) : width;
}

/* Of the columns: 16, or what the longest per-layer sizes need. */
static int table_width(const struct slice_plan *p, const struct model_spec *source)
{
    int width = 16;
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++) {
        struct size_texts s = size_texts(p, source, x);
        width = wider(wider(width, s.before), s.after);
        size_texts_free(s);
    }
    return width;
}

static void print_axis(const struct table *t, const struct slice_plan *p,
                       const struct model_spec *source, enum axis axis)
{
    const char *name = axis_rows[axis].name;
    if (axis < LAYER_AXES) {
        print_row(t, name, model_spec_size(source, axis, 0), model_spec_size(&p->spec, axis, 0));
        return;
    }
    struct size_texts s = size_texts(p, source, axis);
    print_texts(t, name, s.before, s.after, mean(&p->spec, axis) / mean(source, axis));
    size_texts_free(s);
}

/* The kinds of block that remain of a source layer. */
static unsigned kinds_left(const struct slice_plan *p, int64_t layer)
{
    for (int64_t i = 0; i < p->kept[AXIS_L].n; i++)
        if (p->kept[AXIS_L].index[i] == layer)
            return p->spec.layers[i].kinds;
    return 0;
}

/* The layers that lose this kind of block, or (kind 0) every kind they had, as text for options;
 * NULL: none. Free it. */
static char *dropped_text(const struct slice_plan *p, const struct model_spec *source,
                          unsigned kind)
{
    int64_t n = 0, *layers = mem_alloc((size_t)source->num_hidden_layers * sizeof *layers);
    for (int64_t l = 0; l < source->num_hidden_layers; l++) {
        unsigned left = kinds_left(p, l), lost = source->layers[l].kinds & ~left;
        if (kind ? left && lost & kind : !left)
            layers[n++] = l;
    }
    char *text = n ? ranges_text(layers, NULL, n) : NULL;
    free(layers);
    return text;
}

static const struct {
    const char *what, *option;
    unsigned kind;
} drops[] = {{"layers", "drop-layers", 0},
             {"attention", "drop-attention", KIND_attention},
             {"MLP", "drop-mlp", KIND_mlp}};
enum { DROPS = sizeof drops / sizeof *drops };

/* The sizes of an axis as text for its option; NULL: none is cut. Layers without such units are not
 * named. Free it. */
static char *cut_text(const struct slice_plan *p, const struct model_spec *source, enum axis axis)
{
    const struct model_spec *h = &p->spec;
    const struct kept *layers = &p->kept[AXIS_L];
    int64_t n = 0, cut = 0, *layer = mem_alloc((size_t)layers->n * sizeof *layer),
            *size = mem_alloc((size_t)layers->n * sizeof *size);
    for (int64_t i = 0; i < layers->n; i++) {
        if (!model_spec_has_units(h, axis, i))
            continue;
        layer[n] = layers->index[i];
        size[n] = model_spec_size(h, axis, i);
        cut += size[n] < model_spec_size(source, axis, layer[n]);
        n++;
    }
    char *text = cut ? ranges_text(layer, size, n) : NULL;
    free(layer);
    free(size);
    return text;
}

char *slice_plan_options(const struct slice_plan *p, const struct model_spec *source)
{
    enum axis x;
    char *all = mem_string("");
    for (int64_t i = 0; (x = axes_listed(i)); i++) {
        char *sizes = x == AXIS_L ? NULL : cut_text(p, source, x);
        if (sizes)
            all = mem_append(all, " --%s %s", axis_rows[x].option, sizes);
        free(sizes);
    }
    for (int i = 0; i < DROPS; i++) {
        char *layers = dropped_text(p, source, drops[i].kind);
        if (layers)
            all = mem_append(all, " --%s %s", drops[i].option, layers);
        free(layers);
    }
    return all;
}

void slice_plan_print(FILE *f, const struct slice_plan *p, const struct model_spec *source)
{
    const struct model_spec *h = &p->spec;
    enum axis x;
    int64_t body_a, body_b, all_a = model_spec_parameters(source, &body_a),
                            all_b = model_spec_parameters(h, &body_b);
    const struct table t = {f, family_has_axis(h->family, AXIS_S) ? 32 : 28,
                            table_width(p, source)};
    fprintf(f, "%-*s %*s %*s\n", t.names, "", t.width, "model", t.width, "slice");
    for (int64_t i = 0; (x = axes_listed(i)); i++)
        if (x < LAYER_AXES || family_has_axis(h->family, x))
            print_axis(&t, p, source, x);
    print_axis(&t, p, source, AXIS_D);
    print_row(&t, "parameters", all_a, all_b);
    print_row(&t, "non-embedding parameters", body_a, body_b);
    print_row(&t, "tensors", source->n_tensors, h->n_tensors);
    print_row(&t, "bytes", model_spec_bytes(source), model_spec_bytes(h));
    for (int i = 0; i < DROPS; i++) {
        char *layers = dropped_text(p, source, drops[i].kind);
        if (layers)
            fprintf(f, "%s dropped: %s\n", drops[i].what, layers);
        free(layers);
    }
    char *options = slice_plan_options(p, source);
    fprintf(f, "options:%s\n", *options ? options : " none");
    free(options);
}

/* The first matrix of the slice whose rows are not whole blocks any more; -1: none. */
static int cut_block(const struct slice_plan *p, const struct model_spec *source, int64_t block)
{
    for (int i = 0; i < source->n_tensors; i++) {
        const struct tensor *from = &source->tensors[i];
        int to = p->dest[i];
        if (to >= 0 && from->ndim == 2 && from->shape[1] % block == 0 &&
            p->spec.tensors[to].shape[1] % block)
            return to;
    }
    return -1;
}

/* Was the slice's tensor `to`, a matrix of the source's tensor, meant to be q8_0? */
static int misses_q8(const struct slice_plan *p, const struct tensor *source, int to)
{
    const struct tensor *t = &p->spec.tensors[to];
    enum dtype wanted = p->dtype.given ? p->dtype.dtype : source->dtype;
    return wanted == DT_Q8_0 && t->ndim == 2 && t->dtype != DT_Q8_0;
}

/* The widths nearest to that of tensor `to` that are whole blocks, as values of the option where
 * they are. */
static char *widths_text(const struct slice_plan *p, int to, int64_t most)
{
    int64_t layer, cols = p->spec.tensors[to].shape[1], less = cols / Q8_BLOCK * Q8_BLOCK,
                   more = less + Q8_BLOCK;
    enum axis x = model_spec_axes(&p->spec, to, &layer)->axes[1];
    int is_size = axis_rows[x].option && model_spec_size(&p->spec, x, layer) == cols;
    char *text = is_size ? mem_format("; --%s", axis_rows[x].option) : mem_string("; a width of");
    if (more <= most)
        text = mem_append(text, " %" PRId64, more);
    if (less)
        text = mem_append(text, "%s %" PRId64, more <= most ? " or" : "", less);
    return mem_append(text, " would fit");
}

/* most: values in a row of the source */
static char *misfit_text(const struct slice_plan *p, int to, int64_t most, int n)
{
    char *widths = most < Q8_BLOCK ? mem_string("") : widths_text(p, to, most);
    char *text = mem_format("rows of %s have %" PRId64 " values, which is not a multiple of 32, so "
                            "q8_0 cannot hold them: %d matri%s written as f16%s",
                            tensor_take_apart(p->spec.tensors[to].name).stem,
                            p->spec.tensors[to].shape[1], n, n == 1 ? "x is" : "ces are", widths);
    free(widths);
    return text;
}

/* What q8_0 was to hold and cannot; NULL: nothing. */
static char *misfits_text(const struct slice_plan *p, const struct model_spec *source)
{
    int n = 0, first = -1;
    for (int i = 0; i < source->n_tensors; i++)
        if (p->dest[i] >= 0 && misses_q8(p, &source->tensors[i], p->dest[i]))
            first = n++ ? first : i;
    return n ? misfit_text(p, p->dest[first], source->tensors[first].shape[1], n) : NULL;
}

char *slice_plan_blocks(const struct slice_plan *p, const struct model_spec *source)
{
    static const struct {
        int64_t values;
        const char *what;
    } blocks[] = {{32, "no quantised type of GGUF holds them"},
                  {256, "K-quants of GGUF do not hold them, other types do"}};
    char *misfits = misfits_text(p, source);
    if (misfits)
        return misfits;
    for (int b = 0; b < 2; b++) {
        int i = cut_block(p, source, blocks[b].values);
        if (i >= 0)
            return mem_format("rows of %s have %" PRId64
                              " values, which is not a multiple of %" PRId64 ": %s",
                              tensor_take_apart(p->spec.tensors[i].name).stem,
                              p->spec.tensors[i].shape[1], blocks[b].values, blocks[b].what);
    }
    return NULL;
}
