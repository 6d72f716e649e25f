/* Reading a PEFT directory: see peft.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../formats/safetensors.h"
#include "../base/text.h"
#include "peft.h"
#include "peft_modules.h"

enum { RANK_MOST = PEFT_PARTS * ADAPTER_RANK_MOST }; /* of a module */
static const struct json_limits config_limits = {1 << 20, 20000, 16};

/* A module's factors as they are stored, widened to f32: A [rank, cols], B [rows, rank]. */
struct stored {
    int64_t rank, rows, cols;
    double scale;
    float *A, *B;
};
struct reader {
    const char *dir;
    const struct model_spec *h;
    json_t *config;
    struct safetensors *sf;
    struct peft_modules modules;
    struct stored *of; /* by module; rank 0: no adapter */
    char *is_used;     /* by column of the B at hand: does it write to the part at hand? */
};

/* ---- adapter_config.json */

static int is_false(const json_t *j)
{
    return !j || json_is_null(j) || json_is_false(j) || (json_is_array(j) && !json_array_size(j)) ||
           (json_is_object(j) && !json_object_size(j));
}

/* What changes the function in ways that two matrices per module do not express. */
static int check_config(const struct reader *x, struct err *e)
{
    static const char *const unknown[] = {
        "use_dora",          "modules_to_save",   "lora_bias",  "trainable_token_indices",
        "layer_replication", "target_parameters", "use_qalora", "alora_invocation_tokens"};
    const char *type = json_string_value(json_object_get(x->config, "peft_type")),
               *bias = json_string_value(json_object_get(x->config, "bias"));
    if (!type || strcmp(type, "LORA"))
        return err_set(e, "'%s': adapters must be of peft_type LORA, not \"%s\"", x->dir,
                       type ? type : "");
    if (bias && strcmp(bias, "none"))
        return err_set(e, "'%s': adapters must have bias \"none\", not \"%s\"", x->dir, bias);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (!is_false(json_object_get(x->config, unknown[i])))
            return err_set(e, "'%s': adapters with %s cannot be read: only plain LoRA can", x->dir,
                           unknown[i]);
    return 0;
}

/* Does a key of a pattern name the module: by its whole name or the end of it? */
static int key_names(const char *key, const char *module)
{
    size_t n = strlen(module), k = strlen(key);
    return text_ends(module, key) && (n == k || module[n - k - 1] == '.');
}

static double alpha_of(const struct reader *x, const char *module)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(x->config, "alpha_pattern"), key, value)
        if (key_names(key, module))
            return json_number_value(value);
    const json_t *alpha = json_object_get(x->config, "lora_alpha");
    return alpha ? json_number_value(alpha) : 8; /* PEFT's default */
}

/* PEFT takes keys as regular expressions; here they are names. */
static int check_pattern(const struct reader *x, struct err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(x->config, "alpha_pattern"), key, value) {
        int found = 0;
        char name[TENSOR_NAME];
        for (int k = 0; k < x->modules.layout.n_stored && !found; k++) {
            peft_module_name(&x->modules, k, name);
            found = key_names(key, name);
        }
        if (!found || !json_is_number(value))
            return err_set(e, "'%s': alpha_pattern \"%s\" is not a module of the model", x->dir,
                           key);
    }
    return 0;
}

static double scale_of(const struct reader *x, const char *module, int64_t rank)
{
    int is_root = json_is_true(json_object_get(x->config, "use_rslora"));
    return alpha_of(x, module) / (is_root ? sqrt((double)rank) : (double)rank);
}

/* ---- adapter_model.safetensors */

/* The module whose factor a tensor is, and which ('A' or 'B'); -1: of none. */
static int module_of(const struct reader *x, const char *tensor, char *which)
{
    static const char prefix[] = PEFT_PREFIX;
    const char *name = tensor + sizeof prefix - 1, *end = strstr(tensor, ".lora_");
    if (!text_begins(tensor, prefix) || !end || end < name ||
        (strcmp(end, ".lora_A.weight") && strcmp(end, ".lora_B.weight")))
        return -1;
    *which = end[strlen(".lora_")];
    for (int k = 0; k < x->modules.layout.n_stored; k++) {
        char module[TENSOR_NAME];
        peft_module_name(&x->modules, k, module);
        if (strlen(module) == (size_t)(end - name) && text_begins(name, module))
            return k;
    }
    return -1;
}

/* Only matrices of blocks can have an adapter, see adapters_stem. */
static int check_parts(const struct reader *x, int module, const char *name, struct err *e)
{
    int parts[PEFT_PARTS], n = peft_module_parts(&x->modules, module, parts);
    for (int i = 0; i < n || !n; i++)
        if (!n || !adapters_stem(x->h, parts[i]))
            return err_set(e,
                           "'%s': %s is not of a matrix of a block; only those can have adapters",
                           x->dir, name);
    return 0;
}

static float *read_values(const struct reader *x, int i, struct err *e)
{
    const struct tensor *t = sf_tensor(x->sf, i);
    int64_t n = tensor_count(t);
    void *raw = mem_alloc((size_t)tensor_bytes(t));
    float *v = mem_alloc((size_t)n * sizeof *v);
    if (!sf_read(x->sf, i, 0, raw, tensor_bytes(t), e))
        to_f32(v, raw, t->dtype, n);
    free(raw);
    for (int64_t k = 0; k < n && !e->set; k++)
        if (!isfinite(v[k]))
            err_set(e, "'%s': %s has values that are not finite", x->dir, t->name);
    return v;
}

static int misshapen(const struct reader *x, const struct tensor *t, const char *wanted,
                     struct err *e)
{
    char found[TENSOR_SHAPE];
    return err_set(e, "'%s': %s has shape %s; the model requires %s, with a rank up to %d", x->dir,
                   t->name, tensor_shape(t, found), wanted, RANK_MOST);
}

static int read_factor(struct reader *x, int i, struct err *e)
{
    const struct tensor *t = sf_tensor(x->sf, i);
    char which;
    int module = module_of(x, t->name, &which);
    if (module < 0)
        return err_set(e,
                       "'%s' has tensor %s, which is not an adapter of any of the model's matrices",
                       x->dir, t->name);
    if (check_parts(x, module, t->name, e))
        return -1;
    struct stored *s = &x->of[module];
    int is_b = which == 'B';
    s->rows = peft_module_rows(&x->modules, module);
    s->cols = peft_module_cols(&x->modules, module);
    int64_t rank = t->ndim == 2 ? t->shape[is_b] : 0, other = t->shape[!is_b];
    char wanted[80];
    snprintf(wanted, sizeof wanted, is_b ? "[%lld, rank]" : "[rank, %lld]",
             (long long)(is_b ? s->rows : s->cols));
    if (rank < 1 || rank > RANK_MOST || t->dtype == DT_Q8_0 || (s->rank && s->rank != rank) ||
        other != (is_b ? s->rows : s->cols))
        return misshapen(x, t, wanted, e);
    s->rank = rank;
    *(is_b ? &s->B : &s->A) = read_values(x, i, e);
    return e->set ? -1 : 0;
}

static int read_tensors(struct reader *x, struct err *e)
{
    char name[TENSOR_NAME];
    for (int i = 0; i < sf_count(x->sf); i++)
        if (read_factor(x, i, e))
            return -1;
    for (int k = 0; k < x->modules.layout.n_stored; k++) {
        struct stored *s = &x->of[k];
        peft_module_name(&x->modules, k, name);
        if (s->rank && (!s->A || !s->B))
            return err_set(e, "'%s' has lora_%c of %s without lora_%c", x->dir, s->A ? 'A' : 'B',
                           name, s->A ? 'B' : 'A');
        s->scale = s->rank ? scale_of(x, name, s->rank) : 0;
        if (s->rank && (!isfinite(s->scale) || s->scale == 0))
            return err_set(e, "'%s': lora_alpha of %s must be a number other than 0", x->dir, name);
    }
    return 0;
}

/* ---- the matrices' own */

/* Marks the columns of B that write to rows of canonical tensor i; of a module that is one matrix,
 * or whose B is all 0, every column. How many. */
static int64_t mark_used(const struct reader *x, int module, int i)
{
    const struct stored *s = &x->of[module];
    const struct tensor *t = &x->h->tensors[i];
    int parts[PEFT_PARTS], whole = peft_module_parts(&x->modules, module, parts) == 1, any = 0;
    int64_t n = 0;
    for (int64_t k = 0; k < s->rows * s->rank && !any; k++)
        any = s->B[k] != 0;
    for (int64_t k = 0; k < s->rank; k++) {
        x->is_used[k] = (char)(whole || !any);
        for (int64_t r = 0; r < t->shape[0] && !x->is_used[k]; r++)
            x->is_used[k] = s->B[peft_module_row(&x->modules, i, r) * s->rank + k] != 0;
        n += x->is_used[k];
    }
    return n;
}

static int module_with(const struct reader *x, int i)
{
    return layout_view(&x->modules.layout, i)->stored;
}

static void take_values(const struct reader *x, struct adapters *to, int i)
{
    const struct stored *s = &x->of[module_with(x, i)];
    const struct adapter *a = &to->of[i];
    float *A = adapter_params(to, a)[0].v, *B = adapter_params(to, a)[1].v;
    int64_t at = 0;
    mark_used(x, module_with(x, i), i);
    for (int64_t k = 0; k < s->rank; k++) {
        if (!x->is_used[k])
            continue;
        memcpy(A + at * s->cols, s->A + k * s->cols, (size_t)s->cols * sizeof *A);
        for (int64_t r = 0; r < x->h->tensors[i].shape[0]; r++)
            B[r * a->rank + at] = s->B[peft_module_row(&x->modules, i, r) * s->rank + k];
        at++;
    }
}

static int take_all(const struct reader *x, struct adapters *to, struct err *e)
{
    adapters_open(to, x->h);
    for (int i = 0; i < to->n; i++) {
        const struct stored *s = &x->of[module_with(x, i)];
        if (s->rank)
            to->of[i] = (struct adapter){.rank = mark_used(x, module_with(x, i), i),
                                         .scale = s->scale};
    }
    if (adapters_allocate(to, x->h, e))
        return -1;
    for (int i = 0; i < to->n; i++)
        if (to->of[i].rank)
            take_values(x, to, i);
    return 0;
}

static void identify(const struct adapters *s, char id[ST_DIGEST])
{
    struct digest d;
    digest_open(&d);
    for (int i = 0; i < s->n; i++) {
        digest_add(&d, &s->of[i].rank, sizeof s->of[i].rank);
        digest_add(&d, &s->of[i].scale, sizeof s->of[i].scale);
    }
    digest_add(&d, s->values.weights.base, (size_t)s->values.n_values * sizeof(float));
    digest_close(&d, id);
}

/* ---- opening */

/* Modules are named as the model's family names them, or as hf-export writes the model. */
static int open_modules(struct reader *x, struct err *e)
{
    char which;
    if (peft_modules_open(&x->modules, x->h, 0, e))
        return -1;
    if (!sf_count(x->sf))
        return err_set(e, "'%s' has no adapters", x->dir);
    if (module_of(x, sf_tensor(x->sf, 0)->name, &which) < 0) {
        struct peft_modules other;
        if (!peft_modules_open(&other, x->h, 1, &(struct err){0})) {
            peft_modules_close(&x->modules);
            x->modules = other;
        }
    }
    x->of = mem_alloc((size_t)x->modules.layout.n_stored * sizeof *x->of);
    x->is_used = mem_alloc(RANK_MOST);
    return 0;
}

static int reader_open(struct reader *x, struct err *e)
{
    char *path = mem_format("%s/" PEFT_CONFIG, x->dir);
    x->config = json_parse_file(path, &config_limits, e);
    free(path);
    if (!x->config || check_config(x, e))
        return -1;
    path = mem_format("%s/" PEFT_WEIGHTS, x->dir);
    x->sf = sf_open(path, e);
    free(path);
    return !x->sf || open_modules(x, e) || check_pattern(x, e) ? -1 : 0;
}

static void reader_close(struct reader *x)
{
    for (int k = 0; x->of && k < x->modules.layout.n_stored; k++) {
        free(x->of[k].A);
        free(x->of[k].B);
    }
    free(x->of);
    free(x->is_used);
    peft_modules_close(&x->modules);
    sf_close(x->sf);
    json_decref(x->config);
}

int peft_read(struct adapters *s, const struct model_spec *h, const char *dir, char id[ST_DIGEST],
              struct err *e)
{
    struct reader x = {.dir = dir, .h = h};
    *s = (struct adapters){0};
    int failed = reader_open(&x, e) || read_tensors(&x, e) || take_all(&x, s, e);
    if (failed)
        adapters_close(s);
    else
        identify(s, id);
    reader_close(&x);
    return failed ? -1 : 0;
}
