/* Every loss against torch in float64 (tests/golden/kd), and against numbers worked by hand: given
 * logits pass through an identity head, so that values and gradients with respect to the logits can
 * be compared, at every temperature, with and without its square. Positions with label -100 are in
 * no mean. Tolerances are those of tests/golden/README.md; the error is printed beside them. On the
 * CPU, and in f32 on a CUDA device where there is one. */
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

/* A whole tensor as f64 (to_double) or in its dtype; NULL if the file does not have it. */
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

/* One loss on given logits [n,V] through identity heads. data: of a teacher whose form is not a
 * model. */
struct problem {
    int64_t n, V, counted;
    const float *student, *teacher, *identity;
    const int32_t *labels;
    struct loss_teacher form;
    const void *data;
};

static void *there(struct exec *x, struct arena *a, const void *here, size_t bytes)
{
    void *p = arena_take(a, bytes);
    if (here)
        exec_put(x, p, here, bytes);
    return p;
}

/* Mean of the loss over the counted positions; its gradient goes to dz [n,V]. */
static double run_loss(const struct problem *g, struct exec *x, struct loss_kind kind, float *dz)
{
    size_t logits = (size_t)(g->n * g->V) * sizeof(float), square = (size_t)(g->V * g->V) * 4;
    float step[LOSS_STEP] = {[LOSS_SCALE] = 1 / (float)g->counted};
    double *out = calloc((size_t)g->n, sizeof *out), sum = 0;
    struct batch b = {.n_seq = 1, .seq_len = g->n};
    struct op_args c = {.x = x, .batch = &b, .rows = g->n};
    struct arena a;
    struct err e = {0};
    for (int i = 0; i < LOSS_COUNT; i++)
        step[LOSS_WEIGHTS + i] = kind.set >> i & 1;
    c.p.loss = (struct loss_params){.kind = kind,
                                    .teacher = g->form,
                                    .logit_scale = 1,
                                    .teacher_logit_scale = 1,
                                    .chunk = 3,
                                    .gradients = 1};
    b.token_bytes = loss_token_bytes(g->form);
    for (int i = 0; i < (g->data ? 1 : 2); i++) {
        c.in[i] = (struct operand){.dtype = DT_F32, .rows = g->n, .cols = g->V};
        c.w[2 * i] = (struct operand){.dtype = DT_F32, .rows = g->V, .cols = g->V};
    }
    c.out = (struct operand){.dtype = DT_F64, .rows = g->n, .cols = 1};
    size_t scratch = op_scratch(OP_loss, &c);
    CHECK(!exec_arena(
              x, &a,
              4 * logits + 2 * square + scratch + (size_t)(g->n * (16 + b.token_bytes)) + 4096, &e),
          "%s", e.msg);
    c.in[0].v = there(x, &a, g->student, logits);
    c.in[0].g = there(x, &a, NULL, logits);
    c.w[0].v = there(x, &a, g->identity, square);
    if (g->data) {
        b.token_data = there(x, &a, g->data, (size_t)(g->n * b.token_bytes));
    } else {
        c.in[1].v = there(x, &a, g->teacher, logits);
        c.w[2].v = c.w[0].v;
    }
    b.labels = there(x, &a, g->labels, (size_t)g->n * sizeof *g->labels);
    c.step = there(x, &a, step, sizeof step);
    c.out.v = there(x, &a, NULL, (size_t)g->n * sizeof *out);
    c.scratch = there(x, &a, NULL, scratch);
    op_forward(OP_loss, &c);
    exec_get(x, out, c.out.v, (size_t)g->n * sizeof *out);
    exec_get(x, dz, c.in[0].g, logits);
    for (int64_t i = 0; i < g->n; i++)
        sum += out[i];
    arena_close(&a);
    free(out);
    return sum / (double)g->counted;
}

static struct loss_kind kind_of(enum loss loss, double temperature, int squared)
{
    return (struct loss_kind){1u << loss, (float)temperature, 0.5f, squared};
}

/* Distance from the expected gradient times `factor`, in units of its largest entry. */
static double gradient_distance(const float *dz, const double *want, double factor, int64_t n)
{
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(factor * want[i]));
        worst = fmax(worst, fabs((double)dz[i] - factor * want[i]));
        if (isnan(dz[i]))
            worst = INFINITY;
    }
    return worst / (largest > 0 ? largest : 1);
}

/* ---- a teacher that comes with the tokens */

/* The k largest logits, of equal ones those of lower ids, by id; and their logarithms of
 * probability, with that of the rest. */
static void list_top(const float *z, int64_t V, int64_t k, double temperature, int32_t *ids,
                     float *log_p)
{
    double sum = 0, rest = 0, largest = -INFINITY;
    int64_t n = 0;
    for (int64_t v = 0; v < V; v++)
        largest = fmax(largest, (double)z[v]);
    for (int64_t v = 0; v < V; v++)
        sum += exp(((double)z[v] - largest) / temperature);
    for (int64_t v = 0; v < V; v++) {
        int64_t before = 0;
        for (int64_t u = 0; u < V; u++)
            before += z[u] > z[v] || (z[u] == z[v] && u < v);
        double log_of = ((double)z[v] - largest) / temperature - log(sum);
        if (before >= k) {
            rest += exp(log_of);
        } else {
            ids[n] = (int32_t)v;
            log_p[n++] = (float)log_of;
        }
    }
    log_p[k] = (float)log(rest);
}

/* What a batch holds of the teacher's logits in that form; to be freed. */
static void *token_data(const struct golden *g, struct loss_teacher t, double temperature)
{
    int64_t bytes = loss_token_bytes(t);
    char *data = malloc((size_t)(g->n * bytes));
    for (int64_t i = 0; i < g->n; i++) {
        void *token = data + i * bytes;
        if (t.form == TEACHER_LOGITS)
            memcpy(token, g->teacher + i * g->V, (size_t)bytes);
        else
            list_top(g->teacher + i * g->V, g->V, t.n, temperature, token, (float *)token + t.n);
    }
    return data;
}

/* ---- golden files */

/* One entry of the JSON, `name`@`temperature`, without the factor temperature^2 or with it, of a
 * teacher in that form. Returns 1 if the file has a gradient too. */
static int check_loss(struct golden *g, struct exec *x, const char *name, enum loss loss,
                      struct loss_teacher form, double temperature, int squared)
{
    void *data = form.form == TEACHER_MODEL ? NULL : token_data(g, form, temperature);
    struct problem p = {g->n,        g->V,      g->counted, g->student, g->teacher,
                        g->identity, g->labels, form,       data};
    const json_t *entry = json_object_get(g->losses, name);
    const json_t *expected = json_object_get(entry, squared ? "value_times_t2" : "value");
    double value = json_number_value(expected), allowed = strcmp(g->name, "extreme") ? 1e-5 : 1e-4;
    char key[60];
    snprintf(key, sizeof key, "grad.%s", name);
    int64_t n = g->n * g->V;
    float *dz = malloc((size_t)n * sizeof *dz);
    double *want = load(g, key, 1),
           error = fabs(run_loss(&p, x, kind_of(loss, temperature, squared), dz) - value) /
                   (value > 0 ? value : 1);
    CHECK(error <= allowed, "%s %s: relative error %.2g, allowed %.2g", g->name, name, error,
          allowed);
    double scale = squared ? temperature * temperature : 1;
    double off = want ? gradient_distance(dz, want, scale, n) : 0;
    CHECK(off <= 1e-4, "%s %s: gradient off by %.2g of its largest entry, allowed 1e-4", g->name,
          name, off);
    printf("%-8s %-15s value %.1e (allowed %.0e)", g->name, name, error, allowed);
    if (want)
        printf(", gradient %.1e (allowed 1e-4)", off);
    putchar('\n');
    int had = want != NULL;
    free(want);
    free(dz);
    free(data);
    return had;
}

static int golden_loss(const char *name, enum loss *loss)
{
    static const char *const names[LOSS_COUNT] = {
        [LOSS_ce] = "ce",   [LOSS_kl] = "forward_kl", [LOSS_rkl] = "reverse_kl",
        [LOSS_jsd] = "jsd", [LOSS_mse] = "mse",       [LOSS_cosine] = "cosine"};
    size_t n = strcspn(name, "@");
    for (int i = 0; i < LOSS_COUNT; i++)
        if (names[i] && strlen(names[i]) == n && !strncmp(name, names[i], n))
            return *loss = (enum loss)i, 1;
    return 0;
}

/* top8_renormalised and the like are kl of a teacher that lists its largest entries. */
static int golden_listing(const char *name, struct loss_teacher *form)
{
    static const char *const names[] = {[TEACHER_TERMS] = "truncated",
                                        [TEACHER_TOP] = "renormalised",
                                        [TEACHER_REST] = "tail_bucket"};
    long long k;
    char rest[20];
    if (sscanf(name, "top%lld_%19[a-z_]", &k, rest) != 2)
        return 0;
    for (enum teacher_form f = TEACHER_TERMS; f <= TEACHER_REST; f++)
        if (!strcmp(rest, names[f]))
            return *form = (struct loss_teacher){f, k}, 1;
    return 0;
}

static void check_file(const char *name, struct exec *x, int *count, int *gradients)
{
    struct golden g;
    const char *key;
    json_t *value;
    enum loss loss;
    if (golden_open(&g, name))
        return;
    json_object_foreach(g.losses, key, value) {
        struct loss_teacher form = {TEACHER_MODEL, 0}, given = {TEACHER_LOGITS, g.V};
        int listing = golden_listing(key, &form);
        if (listing)
            loss = LOSS_kl;
        else if (!golden_loss(key, &loss))
            continue;
        double temperature = atof(strchr(key, '@') + 1);
        ++*count;
        *gradients += check_loss(&g, x, key, loss, form, temperature, 0);
        if (json_object_get(value, "value_times_t2"))
            check_loss(&g, x, key, loss, form, temperature, 1);
        if (!listing)
            check_loss(&g, x, key, loss, given, temperature, 0);
    }
    golden_close(&g);
}

/* ---- worked by hand: two entries */

/* Teacher (ln 3, 0) and student (1, 1): p_t = (3/4, 1/4), p_s = (1/2, 1/2), label 0.
 * ce      ln 2; gradient (1/2 - 1, 1/2)
 * kl      3/4 ln(3/2) + 1/4 ln(1/2); gradient p_s - p_t = (-1/4, 1/4)
 * rkl     1/2 ln(2/3) + 1/2 ln 2; gradient p_s (ln(p_s/p_t) - rkl), the first 1/2 (ln(2/3) - rkl)
 * jsd     m = (5/8, 3/8): half of 3/4 ln(6/5) + 1/4 ln(2/3), and of k = 1/2 ln(4/5) + 1/2 ln(4/3);
 *         gradient 1/2 p_s (ln(p_s/m) - k), the first 1/4 (ln(4/5) - k)
 * mse     ((1 - ln 3)^2 + 1) / 2; gradient z_s - z_t = (1 - ln 3, 1)
 * cosine  1 - 1 / sqrt 2; gradient cos z_s / 2 - z_t / (sqrt 2 ln 3), the first (1/2 - 1) / sqrt 2
 * At temperature 2 with the teacher's logits doubled and the student's as they are, the softmaxes
 * are the same: the values too, and gradients are halved; with the square four times that. */
static const struct {
    enum loss loss;
    double value, gradient[2];
} by_hand[] = {
    {LOSS_ce, 0.69314718056, {-0.5, 0.5}},
    {LOSS_kl, 0.13081203594, {-0.25, 0.25}},
    {LOSS_rkl, 0.14384103622, {-0.27465307217, 0.27465307217}},
    {LOSS_jsd, 0.03382208218, {-0.06385320299, 0.06385320299}},
    {LOSS_mse, 0.50486221730, {-0.09861228867, 1}},
    {LOSS_cosine, 0.29289321881, {-0.35355339059, 0.35355339059}},
};

static void check_by_hand(struct exec *x)
{
    static const float identity[] = {1, 0, 0, 1}, student[] = {1, 1}, same[] = {1.0986122887f, 0},
                       doubled[] = {2.1972245773f, 0};
    static const int32_t label[] = {0};
    unsigned covered = 0;
    for (size_t i = 0; i < sizeof by_hand / sizeof *by_hand; i++)
        covered |= 1u << by_hand[i].loss;
    CHECK(covered == (1u << LOSS_COUNT) - 1, "a loss has no numbers worked by hand");
    for (size_t i = 0; i < sizeof by_hand / sizeof *by_hand; i++)
        for (int mode = 0; mode < (loss_table[by_hand[i].loss].has_temperature ? 3 : 1); mode++) {
            const struct problem p = {
                1, 2, 1, student, mode ? doubled : same, identity, label, {TEACHER_MODEL, 0}, NULL};
            float dz[2];
            double square = mode == 2 ? 4 : 1;
            double gradient = mode ? square / 2 : 1;
            double value = run_loss(&p, x, kind_of(by_hand[i].loss, mode ? 2 : 1, mode == 2), dz);
            CHECK(fabs(value - square * by_hand[i].value) < 1e-6 &&
                      gradient_distance(dz, by_hand[i].gradient, gradient, 2) < 1e-5,
                  "%s by hand, mode %d: %.9f, gradient %.9f %.9f", loss_table[by_hand[i].loss].name,
                  mode, value, (double)dz[0], (double)dz[1]);
        }
}

/* Three entries, of which the student (0, 0, 0) gives each 1/3, and the teacher lists one with 1/2,
 * or that and one with 1/4. s and t: of the listed ones and the rest.
 * terms of kl      1/2 ln(3/2); gradient 1/2 p_s - t = (1/6 - 1/2, 1/6, 1/6)
 * kl, rest         1/2 ln(3/2) + 1/2 ln(3/4), s = (1/3, 2/3), t = (1/2, 1/2); gradient s - t =
 *                  (-1/6, 1/6), the second in equal parts
 * kl, renormalised of both, s = (1/2, 1/2), t = (2/3, 1/3): 2/3 ln(4/3) + 1/3 ln(2/3); gradient
 *                  s - t
 * rkl, rest        1/3 ln(2/3) + 2/3 ln(4/3); gradient s (ln(s/t) - rkl), the first 1/3 (ln(2/3) -
 *                  rkl)
 * jsd, rest        m = (5/12, 7/12): half of 1/2 ln(6/5) + 1/2 ln(6/7), and of k = 1/3 ln(4/5) +
 * 2/3 ln(8/7); gradient 1/2 s (ln(s/m) - k), the first 1/6 (ln(4/5) - k) */
static const struct {
    enum loss loss;
    struct loss_teacher teacher;
    double value, gradient[3];
} listings_by_hand[] = {
    {LOSS_kl, {TEACHER_TERMS, 1}, 0.20273255405, {-1 / 3.0, 1 / 6.0, 1 / 6.0}},
    {LOSS_kl, {TEACHER_REST, 1}, 0.05889151783, {-1 / 6.0, 1 / 12.0, 1 / 12.0}},
    {LOSS_kl, {TEACHER_TOP, 2}, 0.05663301227, {-1 / 6.0, 1 / 6.0, 0}},
    {LOSS_rkl, {TEACHER_REST, 1}, 0.05663301227, {-0.15403270679, 0.0770163534, 0.0770163534}},
    {LOSS_jsd, {TEACHER_REST, 1}, 0.01436259156, {-0.03963054933, 0.01981527466, 0.01981527466}},
};

static void check_listings_by_hand(struct exec *x)
{
    static const float identity[] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, student[3] = {0};
    static const int32_t label[] = {2};
    const float half = logf(0.5f), quarter = logf(0.25f);
    const struct {
        int32_t id;
        float log_p[2];
    } one = {0, {half, half}};
    const struct {
        int32_t ids[2];
        float log_p[3];
    } two = {{0, 1}, {half, quarter, quarter}};
    for (size_t i = 0; i < sizeof listings_by_hand / sizeof *listings_by_hand; i++) {
        struct loss_teacher teacher = listings_by_hand[i].teacher;
        const struct problem p = {1,       3,       1,
                                  student, NULL,    identity,
                                  label,   teacher, teacher.n == 1 ? (const void *)&one : &two};
        float dz[3];
        double value = run_loss(&p, x, kind_of(listings_by_hand[i].loss, 1, 0), dz);
        CHECK(fabs(value - listings_by_hand[i].value) < 1e-7 &&
                  gradient_distance(dz, listings_by_hand[i].gradient, 1, 3) < 1e-6,
              "listing %zu by hand: %.9f, gradient %.9f %.9f %.9f", i, value, (double)dz[0],
              (double)dz[1], (double)dz[2]);
    }
}

/* The last files are skipped on an emulator, where an identity head of 4,095 ids takes minutes. */
static void check_device(struct exec *x, int left_out)
{
    static const char *const files[] = {"plain", "ignored", "extreme", "wide"};
    static const int all[] = {39, 15, 27, 39};
    int count = 0, gradients = 0, expected = 0;
    for (int i = 0; i < 4 - left_out; i++) {
        check_file(files[i], x, &count, &gradients);
        expected += all[i];
    }
    CHECK(count == expected && gradients > count / 2, "%d losses and %d gradients found", count,
          gradients);
    check_by_hand(x);
    check_listings_by_hand(x);
    CHECK(!x->err.set, "%s", x->err.msg);
    exec_close(x);
}

int main(void)
{
    struct exec x;
    CHECK(exec_open(&x, DEVICE_CPU, 2) == 0, "%s", x.err.msg);
    check_device(&x, 0);
    if (exec_open(&x, DEVICE_CUDA, 0) == 0) {
        x.compute = DT_F32;
        puts("CUDA:");
        check_device(&x, 1);
    } else {
        printf("no CUDA: %s\n", x.err.msg);
    }
    return check_report();
}
