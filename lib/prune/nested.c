/* Shapes of nested models, parsed and planned: see nested.h. */
#include "nested.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"

static const char spaces[] = " \t\r";

/* The option of slice-model that the word sets; NULL: none. */
static const char **option_of(struct slice_options *o, const char *word, size_t length)
{
    const struct {
        const char *name;
        const char **value;
    } others[] = {{"drop-layers", &o->drop_layers},
                  {"drop-attention", &o->drop_attention},
                  {"drop-mlp", &o->drop_mlp}};
    for (enum axis x = 0; x < AXIS_COUNT; x++) {
        const char *name = axis_rows[x].option;
        if (name && strlen(name) == length && !strncmp(name, word, length))
            return &o->size[x];
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strlen(others[i].name) == length && !strncmp(others[i].name, word, length))
            return others[i].value;
    return NULL;
}

static int read_weight(double *weight, const char *text, struct err *e)
{
    char *end;
    *weight = strtod(text, &end);
    if (*text && !*end && *weight >= 1e-6 && *weight <= 1e6)
        return 0;
    return err_set(e, "weight must be from 1e-6 to 1e6, not \"%s\"", text);
}

/* "full", "weight=X" or "OPTION=VALUE"; the value stays in the word. */
static int read_word(struct slice_options *o, double *weight, char *word, struct err *e)
{
    char *value = strchr(word, '=');
    if (!strcmp(word, "full"))
        return 0;
    const char **option = value ? option_of(o, word, (size_t)(value - word)) : NULL;
    if (value && !strncmp(word, "weight=", 7))
        return *weight ? err_set(e, "weight is given twice") : read_weight(weight, value + 1, e);
    if (!option)
        return err_set(e,
                       "\"%s\" is neither full, nor weight=X, nor a size of slice-model such as "
                       "hidden-size=384",
                       word);
    if (*option)
        return err_set(e, "%.*s is given twice", (int)(value - word), word);
    *option = value + 1;
    return 0;
}

/* The words of a line: options, weight and, without the weight, the name of the shape. */
static int read_words(struct slice_options *o, struct nested_model *m, char *line, struct err *e)
{
    char *rest = line, *word;
    int full = 0, sizes = 0;
    m->name = mem_string("");
    while ((word = strsep(&rest, spaces))) {
        if (!*word)
            continue;
        if (read_word(o, &m->weight, word, e))
            return -1;
        if (!strncmp(word, "weight=", 7))
            continue;
        full |= !strcmp(word, "full");
        m->name = mem_append(m->name, "%s%s", *m->name ? " " : "", word);
        sizes++;
    }
    m->weight = m->weight ? m->weight : 1;
    if (!sizes)
        return err_set(e, "a weight without a shape");
    return full && sizes > 1 ? err_set(e, "full is the model itself and takes no sizes") : 0;
}

static int plan_model(struct nested_model *m, const struct slice_options *o,
                      const struct model_spec *source, struct err *e)
{
    struct slice_target target;
    struct slice_plan p;
    if (slice_target_read(&target, o, e))
        return -1;
    int failed = slice_plan_make(&p, source, NULL, NULL, &target, e);
    slice_target_free(&target);
    if (failed)
        return -1;
    m->parts = slice_parts(&p, source, &m->n_parts);
    model_spec_copy(&m->spec, &p.spec);
    slice_plan_free(&p);
    return 0;
}

static int is_same(const struct nested_model *a, const struct nested_model *b)
{
    return a->n_parts == b->n_parts &&
           (!a->n_parts || !memcmp(a->parts, b->parts, (size_t)a->n_parts * sizeof *a->parts));
}

static int add_line(struct nested_list *l, char *line, const struct model_spec *source,
                    struct err *e)
{
    struct slice_options o = {.in_order = 1};
    line[strcspn(line, "#")] = 0;
    if (!line[strspn(line, spaces)])
        return 0;
    l->models = mem_grow(l->models, (size_t)(l->n + 1) * sizeof *l->models);
    struct nested_model *m = &l->models[l->n++];
    *m = (struct nested_model){0};
    if (read_words(&o, m, line, e) || plan_model(m, &o, source, e))
        return -1;
    for (int64_t i = 0; i < l->n - 1; i++)
        if (is_same(&l->models[i], m))
            return err_set(e, "the same shape as an earlier line, \"%s\"", l->models[i].name);
    return 0;
}

int nested_parse(struct nested_list *l, const char *text, const char *path,
                 const struct model_spec *source, struct err *e)
{
    char *copy = mem_string(text), *rest = copy, *line;
    struct err why = {0};
    *l = (struct nested_list){0};
    for (int number = 1; !e->set && (line = strsep(&rest, "\n")); number++)
        if (add_line(l, line, source, &why))
            err_set(e, "%s, line %d: %s", path, number, why.msg);
    if (!e->set && !l->n)
        err_set(e, "%s lists no shape: it needs a line such as hidden-size=384", path);
    free(copy);
    if (e->set)
        nested_list_free(l);
    return e->set ? -1 : 0;
}
