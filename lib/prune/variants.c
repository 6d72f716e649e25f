/* Variants of layers: their list from words, and their table. See variants.h. */
#include "variants.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/file.h"
#include "../base/file_out.h"

/* ---- from words */

struct reader {
    struct variants *v;
    const struct model_spec *h;
    const struct rank *rank;
    const char *rank_path;
    struct err *e;
};

static const struct drop_word {
    const char *word, *name;
    unsigned kinds;
} drop_words[] = {{"drop-attention", "attention", KIND_attention},
                  {"drop-mlp", "mlp", KIND_mlp},
                  {"drop-layers", "layer", WHOLE_LAYER}};
enum { DROP_WORDS = sizeof drop_words / sizeof *drop_words };

static void add(struct reader *r, struct variant x)
{
    struct slice_plan p;
    struct variants *v = r->v;
    if (r->e->set || variant_plan(&p, &x, r->h, r->rank, r->rank_path, r->e))
        return;
    slice_plan_free(&p);
    v->list = mem_grow(v->list, (size_t)(v->n + 1) * sizeof *v->list);
    v->list[v->n++] = x;
}

/* A layer that has one half can only be dropped as a whole. */
static void add_drops(struct reader *r, unsigned kinds)
{
    for (int64_t l = 0; l < r->h->num_hidden_layers; l++)
        if (kinds == WHOLE_LAYER ||
            (kinds_several(r->h->layers[l].kinds) && r->h->layers[l].kinds & kinds))
            add(r, (struct variant){.layer = l, .drop = kinds});
}

static void add_sizes(struct reader *r, enum axis axis, int64_t size)
{
    for (int64_t l = 0; l < r->h->num_hidden_layers; l++)
        if (model_spec_has_units(r->h, axis, l) && size < layer_size(&r->h->layers[l], axis))
            add(r, (struct variant){.layer = l, .axis = axis, .size = size});
}

static enum axis axis_of_option(const char *word, size_t length)
{
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++) {
        const char *option = axis_rows[x].option;
        if (option && strlen(option) == length && !strncmp(option, word, length))
            return x;
    }
    return AXIS_NONE;
}

static void read_sizes(struct reader *r, enum axis axis, char *list)
{
    char *item, *end;
    while ((item = strsep(&list, ",")) && !r->e->set) {
        int64_t before = r->v->n, size = strtoll(item, &end, 10);
        if (end == item || *end || size < 1)
            err_set(r->e, "%s takes sizes from 1, separated by commas, not \"%s\"",
                    axis_rows[axis].option, item);
        else
            add_sizes(r, axis, size);
        if (!r->e->set && r->v->n == before)
            err_set(r->e, "no layer is larger than %s=%s", axis_rows[axis].option, item);
    }
}

static void read_word(struct reader *r, char *word)
{
    int64_t before = r->v->n;
    for (int i = 0; i < DROP_WORDS; i++)
        if (!strcmp(word, drop_words[i].word)) {
            add_drops(r, drop_words[i].kinds);
            if (r->v->n == before && !r->e->set)
                err_set(r->e, "%s: no layer has both halves", word);
            return;
        }
    char *value = strchr(word, '=');
    enum axis axis = value ? axis_of_option(word, (size_t)(value - word)) : AXIS_NONE;
    if (axis)
        read_sizes(r, axis, value + 1);
    else
        err_set(r->e,
                "\"%s\" is neither drop-attention, drop-mlp, drop-layers, nor sizes of an axis of "
                "the layers such as intermediate-size=256,512",
                word);
}

static int by_layer(const void *a, const void *b)
{
    const struct variant *x = a, *y = b;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    if (x->axis != y->axis)
        return x->axis < y->axis ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return (x->drop > y->drop) - (x->drop < y->drop);
}

static void sort(struct variants *v, struct err *e)
{
    if (!v->n) {
        err_set(e, "no variants are named");
        return;
    }
    qsort(v->list, (size_t)v->n, sizeof *v->list, by_layer);
    for (int64_t i = 1; i < v->n; i++)
        if (!by_layer(&v->list[i - 1], &v->list[i])) {
            err_set(e, "a variant is named twice");
            return;
        }
}

int variants_open(struct variants *v, const char *text, const struct model_spec *h,
                  const struct rank *rank, const char *rank_path, struct err *e)
{
    struct reader r = {v, h, rank, rank_path, e};
    char *copy = mem_string(text), *rest = copy, *word;
    *v = (struct variants){0};
    while ((word = strsep(&rest, " \t\n")) && !e->set)
        if (*word)
            read_word(&r, word);
    free(copy);
    if (!e->set)
        sort(v, e);
    if (e->set)
        variants_close(v);
    return e->set ? -1 : 0;
}

void variants_close(struct variants *v)
{
    free(v->list);
    *v = (struct variants){0};
}

int variant_plan(struct slice_plan *p, const struct variant *v, const struct model_spec *h,
                 const struct rank *rank, const char *rank_path, struct err *e)
{
    struct range here = {v->layer, v->layer, v->size};
    struct ranges one = {&here, 1};
    struct slice_target t = {.in_order = !rank};
    if (v->axis)
        t.size[v->axis] = one;
    else if (v->drop == WHOLE_LAYER)
        t.drop_layers = one;
    else if (v->drop == KIND_attention)
        t.drop_attention = one;
    else
        t.drop_mlp = one;
    return slice_plan_make(p, h, rank, rank_path, &t, e);
}

/* ---- the table */

enum { MOST_BYTES = 64 << 20 };

static json_t *variant_json(const struct variant *v, const struct variant_means *m)
{
    json_t *j = json_pack("{s:I}", "layer", (json_int_t)v->layer);
    for (int i = 0; i < DROP_WORDS && !v->axis; i++)
        if (drop_words[i].kinds == v->drop)
            json_object_set_new(j, "drop", json_string(drop_words[i].name));
    if (v->axis)
        json_object_set_new(j, axis_rows[v->axis].name, json_integer(v->size));
    json_object_set_new(j, "kl", json_number_or_null(m->kl));
    json_object_set_new(j, "nll", json_number_or_null(m->nll));
    json_object_set_new(j, "same_top1", json_number_or_null(m->same_top1));
    return j;
}

static void write_line(json_t *j, FILE *f)
{
    json_dumpf(j, f, JSON_COMPACT);
    putc('\n', f);
    json_decref(j);
}

static void write_table(const struct variants *v, const json_t *head, FILE *f)
{
    json_t *first = json_copy((json_t *)head);
    json_object_set_new(first, "windows", json_integer(v->windows));
    json_object_set_new(first, "predictions", json_integer(v->predictions));
    json_object_set_new(first, "nll", json_number_or_null(v->nll));
    write_line(first, f);
    for (int64_t i = 0; i < v->n; i++)
        write_line(variant_json(&v->list[i], &v->list[i].means), f);
}

int variants_save(const struct variants *v, const json_t *head, const char *path, struct err *e)
{
    struct file_out out;
    char *text;
    size_t n;
    FILE *f = mem_stream_open(&text, &n);
    write_table(v, head, f);
    mem_stream_close(f);
    int failed = file_create(&out, path, e) || file_append(&out, text, (int64_t)n, e) ||
                 file_publish(&out, e);
    free(text);
    return failed ? -1 : 0;
}

/* Takes up the means of a line, if it is of that variant. */
static int take_line(struct variant *v, const json_t *line)
{
    struct variant_means m = {json_number_of(line, "kl"), json_number_of(line, "nll"),
                              json_number_of(line, "same_top1")};
    json_t *same = variant_json(v, &m);
    int equal = json_equal(same, line);
    json_decref(same);
    if (equal)
        v->means = m;
    return equal;
}

static int take_head(struct variants *v, const json_t *head, int64_t most, const json_t *line)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    v->windows = json_integer_value(json_object_get(line, "windows"));
    v->predictions = json_integer_value(json_object_get(line, "predictions"));
    v->nll = json_number_of(line, "nll");
    return id && !strcmp(id, json_string_value(json_object_get(head, "id"))) && v->windows > 0 &&
           v->windows <= most && v->predictions > 0 && isfinite(v->nll);
}

int variants_read(struct variants *v, const json_t *head, int64_t most, const char *path,
                  struct err *e)
{
    const struct json_limits limits = {0, 1 << 20, 64};
    int64_t i = -1;
    char *text = file_read(path, MOST_BYTES, NULL, e), *rest = text, *line;
    for (; text && !e->set && *rest; i++) {
        line = strsep(&rest, "\n");
        json_t *j = json_parse_text(line, (int64_t)strlen(line), &limits, path, e);
        int is_ours = i < 0 ? take_head(v, head, most, j) : i < v->n && take_line(&v->list[i], j);
        if (!e->set && !is_ours)
            err_set(e, "%s is not from a run with these models, tokens and options", path);
        json_decref(j);
        rest = rest ? rest : "";
    }
    free(text);
    if (!e->set && i < v->n)
        err_set(e, "%s has %lld variants, not %lld", path, (long long)i, (long long)v->n);
    return e->set ? -1 : 0;
}
