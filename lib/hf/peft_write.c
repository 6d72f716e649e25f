/* Writing a PEFT directory: see peft.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../base/dir.h"
#include "../base/file.h"
#include "peft.h"
#include "peft_modules.h"

/* By module: the ranks of all parts together, 0 if it has no adapter; their one scale. */
struct module {
    int64_t rank;
    double scale;
};
struct writer {
    const struct adapters *s;
    struct peft_modules modules;
    struct module *all;
    int *of, n; /* those that have adapters */
};

static int writer_open(struct writer *w, const struct adapters *s, const struct model_spec *h,
                       struct err *e)
{
    *w = (struct writer){.s = s};
    if (peft_modules_open(&w->modules, h, 1, e))
        return -1;
    int n = w->modules.layout.n_stored;
    w->all = mem_alloc((size_t)n * sizeof *w->all);
    w->of = mem_alloc((size_t)n * sizeof *w->of);
    for (int i = 0; i < s->n; i++) {
        struct module *to = &w->all[layout_view(&w->modules.layout, i)->stored];
        to->rank += s->of[i].rank;
        if (s->of[i].rank)
            to->scale = s->of[i].scale;
    }
    for (int k = 0; k < n; k++)
        if (w->all[k].rank)
            w->of[w->n++] = k;
    return 0;
}

static void writer_close(struct writer *w)
{
    peft_modules_close(&w->modules);
    free(w->all);
    free(w->of);
}

/* ---- adapter_config.json */

static const char *last_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* "q_proj" where all modules of that name have adapters of this one's rank and scale, else the
 * whole name. */
static const char *short_name(const struct writer *w, int module, char name[TENSOR_NAME])
{
    char other[TENSOR_NAME];
    peft_module_name(&w->modules, module, name);
    for (int k = 0; k < w->modules.layout.n_stored; k++) {
        peft_module_name(&w->modules, k, other);
        if (!strcmp(last_name(other), last_name(name)) &&
            (w->all[k].rank != w->all[module].rank || w->all[k].scale != w->all[module].scale))
            return name;
    }
    return last_name(name);
}

static int is_listed(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), name))
            return 1;
    return 0;
}

/* A whole number as one: PEFT declares lora_alpha an integer. */
static json_t *number(double x)
{
    return x == (double)(int64_t)x ? json_integer((json_int_t)x) : json_real(x);
}

/* PEFT divides alpha by the rank of the module. */
static double alpha_of(const struct module *m) { return m->scale * (double)m->rank; }

static json_t *config_of(const struct writer *w, const char *base)
{
    json_t *targets = json_array(), *ranks = json_object(), *alphas = json_object();
    const struct module *first = &w->all[w->of[0]];
    char name[TENSOR_NAME];
    int is_transposed = 0;
    for (int k = 0; k < w->n; k++) {
        const struct module *m = &w->all[w->of[k]];
        const char *target = short_name(w, w->of[k], name);
        is_transposed |= peft_module_is_transposed(&w->modules, w->of[k]);
        if (is_listed(targets, target))
            continue;
        json_array_append_new(targets, json_string(target));
        if (m->rank != first->rank)
            json_object_set_new(ranks, target, json_integer(m->rank));
        if (alpha_of(m) != alpha_of(first))
            json_object_set_new(alphas, target, number(alpha_of(m)));
    }
    return json_pack("{s:s, s:s, s:s?, s:I, s:o, s:f, s:s, s:b, s:o, s:o, s:o, s:b}", "peft_type",
                     "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", base, "r",
                     (json_int_t)first->rank, "lora_alpha", number(alpha_of(first)), "lora_dropout",
                     0.0, "bias", "none", "fan_in_fan_out", is_transposed, "target_modules",
                     targets, "rank_pattern", ranks, "alpha_pattern", alphas, "inference_mode", 1);
}

static int write_config(const struct writer *w, const char *dir, const char *base, struct err *e)
{
    json_t *config = config_of(w, base);
    char *body = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS),
         *text = mem_format("%s\n", body), *path = mem_format("%s/" PEFT_CONFIG, dir);
    int failed = file_write(path, text, (int64_t)strlen(text), e);
    json_decref(config);
    free(body);
    free(text);
    free(path);
    return failed;
}

/* ---- adapter_model.safetensors */

static struct tensor tensor_of(const struct writer *w, int module, char which, int64_t rows,
                               int64_t cols)
{
    struct tensor t = {.dtype = DT_F32, .ndim = 2, .shape = {rows, cols}};
    char name[TENSOR_NAME];
    peft_module_name(&w->modules, module, name);
    snprintf(t.name, sizeof t.name, PEFT_PREFIX "%.150s.lora_%c.weight", name, which);
    return t;
}

/* A [rank, cols] of the module, or its B [rows, rank]; to be freed. */
static float *values_of(const struct writer *w, int module, int is_b)
{
    int parts[PEFT_PARTS], n = peft_module_parts(&w->modules, module, parts);
    int64_t rank = w->all[module].rank, cols = peft_module_cols(&w->modules, module), at = 0;
    size_t count = (size_t)(rank * (is_b ? peft_module_rows(&w->modules, module) : cols));
    float *to = mem_alloc(count * sizeof *to);
    for (int i = 0; i < n; i++) {
        const struct adapter *a = &w->s->of[parts[i]];
        if (!a->rank)
            continue;
        const struct param *p = adapter_params(w->s, a) + is_b;
        float *from = mem_alloc((size_t)(p->rows * p->cols) * sizeof *from);
        adapter_values(w->s, a, is_b, from);
        for (int64_t r = 0; r < p->rows; r++) {
            int64_t row = is_b ? peft_module_row(&w->modules, parts[i], r) * rank + at
                               : (at + r) * cols;
            memcpy(to + row, from + r * p->cols, (size_t)p->cols * sizeof *to);
        }
        free(from);
        at += a->rank;
    }
    return to;
}

static int write_tensors(const struct writer *w, const char *dir, struct err *e)
{
    int n = 2 * w->n;
    struct tensor *tensors = mem_alloc((size_t)n * sizeof *tensors);
    for (int k = 0; k < n; k++) {
        int module = w->of[k / 2];
        int64_t rank = w->all[module].rank;
        tensors[k] = k % 2 ? tensor_of(w, module, 'B', peft_module_rows(&w->modules, module), rank)
                           : tensor_of(w, module, 'A', rank, peft_module_cols(&w->modules, module));
    }
    struct safetensors_out *out = sf_create(dir, tensors, n, 0, e);
    for (int k = 0; k < n && out && !e->set; k++) {
        float *values = values_of(w, w->of[k / 2], k % 2);
        sf_write(out, k, 0, values, tensor_bytes(&tensors[k]), e);
        free(values);
    }
    free(tensors);
    if (!out || sf_finish(out, e))
        return -1;
    char *made = mem_format("%s/model.safetensors", dir),
         *name = mem_format("%s/" PEFT_WEIGHTS, dir);
    int failed = rename(made, name) ? err_set(e, "cannot write '%s':", name) : 0;
    free(made);
    free(name);
    return failed;
}

int peft_check(const char *dir, const struct model_spec *h, int overwrite, struct err *e)
{
    struct dir_out probe;
    struct peft_modules m;
    if (peft_modules_open(&m, h, 1, e))
        return -1;
    peft_modules_close(&m);
    if (dir_create(&probe, dir, overwrite, PEFT_CONFIG, e))
        return -1;
    dir_abandon(&probe);
    return 0;
}

int peft_write(const struct adapters *s, const struct model_spec *h, const char *dir,
               const char *base, int overwrite, struct err *e)
{
    struct writer w;
    struct dir_out d = {0};
    if (writer_open(&w, s, h, e))
        return -1;
    int failed = dir_create(&d, dir, overwrite, PEFT_CONFIG, e) ||
                 write_config(&w, d.temporary.path, base, e) ||
                 write_tensors(&w, d.temporary.path, e) || dir_publish(&d, e);
    if (failed)
        dir_abandon(&d);
    writer_close(&w);
    return failed ? -1 : 0;
}
