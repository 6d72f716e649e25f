/* The loss op against torch in float64 (tests/golden/kd): given logits pass through an identity
 * head, so that the values and the gradients with respect to the logits stand beside the expected
 * ones: forward KL at every temperature, and cross-entropy. Positions with label -100 count in no
 * mean. Tolerances are those of tests/golden/README.md; the worst observed error is printed beside
 * them. */
#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../../kernels/op.h"
#include "check.h"

struct golden {
    const char *name;
    struct safetensors *file;
    json_t *losses;
    int64_t n, V, counted;
    int32_t *labels;
    float *student, *teacher, *identity;
};

/* A whole tensor as f64 (to_double) or as it is; NULL if the file has none of that name. */
static void *load(struct golden *g, const char *name, int to_double)
{
    struct err e = {0};
    int i = sf_find(g->file, name);
    if (i < 0)
        return NULL;
    const struct tensor *t = sf_tensor(g->file, i);
    void *data = malloc((size_t)tensor_bytes(t));
    CHECK(!sf_read(g->file, i, 0, data, tensor_bytes(t), &e), "%s", e.msg);
    if (!to_double || t->dtype == DT_F64)
        return data;
    double *wide = malloc((size_t)tensor_count(t) * sizeof *wide);
    for (int64_t j = 0; j < tensor_count(t); j++)
        wide[j] = (double)((float *)data)[j];
    free(data);
    return wide;
}

static int golden_open(struct golden *g, const char *name)
{
    char path[100];
    struct err e = {0};
    *g = (struct golden){.name = name};
    snprintf(path, sizeof path, "tests/golden/kd/%s.safetensors", name);
    g->file = sf_open(path, &e);
    CHECK(g->file != NULL, "%s", e.msg);
    snprintf(path, sizeof path, "tests/golden/kd/%s.json", name);
    json_t *root = json_load_file(path, 0, NULL);
    CHECK(root != NULL, "cannot read %s", path);
    if (!g->file || !root)
        return -1;
    g->losses = json_incref(json_object_get(root, "losses"));
    json_decref(root);
    const struct tensor *t = sf_tensor(g->file, sf_find(g->file, "student_logits"));
    g->n = t->shape[0];
    g->V = t->shape[1];
    g->labels = load(g, "labels", 0);
    g->student = load(g, "student_logits", 0);
    g->teacher = load(g, "teacher_logits", 0);
    g->identity = calloc((size_t)(g->V * g->V), sizeof(float));
    for (int64_t i = 0; i < g->V; i++)
        g->identity[i * (g->V + 1)] = 1;
    for (int64_t i = 0; i < g->n; i++)
        g->counted += g->labels[i] >= 0;
    return 0;
}

static void golden_close(struct golden *g)
{
    void *all[] = {g->labels, g->student, g->teacher, g->identity};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    json_decref(g->losses);
    sf_close(g->file);
}

/* Mean over the counted positions of ce (which = 0) or kl (1); its gradient goes to dz [n,V]. */
static double run_loss(const struct golden *g, struct exec *x, int which, float temperature,
                       float *dz)
{
    float scale = 1 / (float)g->counted;
    double *out = calloc((size_t)g->n, 2 * sizeof *out), sum = 0;
    struct batch b = {.n_seq = 1, .seq_len = g->n, .labels = g->labels};
    struct operand head = {.v = g->identity, .dtype = DT_F32, .rows = g->V, .cols = g->V};
    struct op_args c = {
        .x = x,
        .batch = &b,
        .rows = g->n,
        .in = {{g->student, dz, DT_F32, g->n, g->V}, {g->teacher, NULL, DT_F32, g->n, g->V}},
        .w = {[0] = head, [2] = head},
        .out = {out, NULL, DT_F64, g->n, 2}};
    c.p.loss = (struct loss_params){
        (float)!which, (float)which, temperature, 1, 0, 1, 0, &scale, 3, 1};
    c.scratch = aligned_alloc(64, (op_scratch(OP_loss, &c) + 63) & ~(size_t)63);
    memset(dz, 0, (size_t)(g->n * g->V) * sizeof *dz);
    op_forward(OP_loss, &c);
    for (int64_t i = 0; i < g->n; i++)
        sum += out[2 * i + which];
    free(c.scratch);
    free(out);
    return sum / (double)g->counted;
}

/* Returns 1 if the file has a gradient too. */
static int check_loss(struct golden *g, struct exec *x, const char *loss, int which,
                      double temperature)
{
    char name[60];
    snprintf(name, sizeof name, "grad.%s", loss);
    int64_t n = g->n * g->V;
    double *want = load(g, name, 1), largest = 0, worst = 0;
    double value = json_number_value(json_object_get(json_object_get(g->losses, loss), "value"));
    float *dz = malloc((size_t)n * sizeof *dz);
    double error = fabs(run_loss(g, x, which, (float)temperature, dz) - value) /
                   (value > 0 ? value : 1);
    double allowed = strcmp(g->name, "extreme") ? 1e-5 : 1e-4;
    CHECK(error <= allowed, "%s %s: relative error %.2g, allowed %.2g", g->name, loss, error,
          allowed);
    for (int64_t i = 0; want && i < n; i++) {
        largest = fmax(largest, fabs(want[i]));
        worst = fmax(worst, fabs((double)dz[i] - want[i]));
        if (isnan(dz[i]))
            worst = INFINITY;
    }
    CHECK(!want || worst <= 1e-4 * largest,
          "%s %s: gradient off by %.2g of its largest entry, allowed 1e-4", g->name, loss,
          worst / largest);
    printf("%-8s %-15s value %.1e (allowed %.0e)", g->name, loss, error, allowed);
    if (want)
        printf(", gradient %.1e (allowed 1e-4)", worst / largest);
    putchar('\n');
    int had = want != NULL;
    free(want);
    free(dz);
    return had;
}

static void check_file(const char *name, struct exec *x, int *losses, int *gradients)
{
    static const char prefix[] = "forward_kl@";
    struct golden g;
    const char *loss;
    json_t *value;
    if (golden_open(&g, name))
        return;
    json_object_foreach(g.losses, loss, value)
    {
        int kl = !strncmp(loss, prefix, sizeof prefix - 1);
        if (!kl && strcmp(loss, "ce@1"))
            continue;
        ++*losses;
        *gradients += check_loss(&g, x, loss, kl, kl ? atof(loss + sizeof prefix - 1) : 1);
    }
    golden_close(&g);
}

int main(void)
{
    static const char *const files[] = {"plain", "ignored", "extreme", "wide"};
    struct exec x;
    int losses = 0, gradients = 0;
    CHECK(exec_open(&x, DEVICE_CPU, 2) == 0, "%s", x.err.msg);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        check_file(files[i], &x, &losses, &gradients);
    CHECK(losses == 18 && gradients == 15, "%d losses and %d gradients found, 18 and 15 expected",
          losses, gradients);
    exec_close(&x);
    return check_report();
}
