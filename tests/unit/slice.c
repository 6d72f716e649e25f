/* The proof of a slice: it holds for a correct cut of each kind, and every planted mistake is
 * found. The naive forward pass itself gives the golden logits (float64) to 1e-6. Run from the
 * repository root. */
#include <glob.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../../lib/tool/model_open.h"
#include "../../lib/prune/prune.h"
#include "check.h"

enum { T = 24 };

static struct err e;
static uint32_t ids[T];
static glob_t families_found; /* tests/golden/families/NAME */

static const char *family_name(size_t i) { return strrchr(families_found.gl_pathv[i], '/') + 1; }

/* A rank that is the reverse of the original order everywhere. */
static void rank_reversed(struct rank *r, const struct model_spec *h)
{
    struct axes a;
    struct scores s;
    struct tensor t;
    axes_from_model(&a, h);
    scores_open(&s, &a);
    for (int64_t i = 0; i < axes_count(&a); i++) {
        axes_tensor(&a, i, DT_F64, &t);
        double *v = scores_entry(&s, i);
        for (int64_t j = 0; j < tensor_count(&t); j++)
            v[j] = (double)j;
    }
    rank_from_scores(r, &s);
    scores_free(&s);
    axes_free(&a);
}

struct cut {
    struct model_in *in;
    struct rank rank;
    struct slice_plan plan;
    struct model source, slice;
};

static void stop_if(int bad, const char *family)
{
    CHECK(!bad, "%s: %s", family, e.msg);
    if (bad)
        exit(check_report());
}

/* No tensor is read. */
static void cut_open_unread(struct cut *c, const char *family, const struct slice_target *target)
{
    char dir[200];
    snprintf(dir, sizeof dir, "tests/golden/families/%s", family);
    *c = (struct cut){.in = model_open(dir, NULL, &e)};
    stop_if(!c->in, family);
    rank_reversed(&c->rank, model_in_spec(c->in));
    stop_if(slice_plan_make(&c->plan, model_in_spec(c->in), &c->rank, "rank", target, &e), family);
}

static void cut_open(struct cut *c, const char *family, const struct slice_target *target)
{
    cut_open_unread(c, family, target);
    stop_if(slice_load(&c->plan, c->in, &c->source, &c->slice, &e), family);
}

static void cut_close(struct cut *c)
{
    model_free(&c->source);
    model_free(&c->slice);
    slice_plan_free(&c->plan);
    rank_free(&c->rank);
    model_close(c->in);
}

static int agrees(struct cut *c)
{
    struct verdict v;
    CHECK(!slice_verify(&c->plan, &c->source, &c->slice, ids, T, &v, &e), "%s", e.msg);
    return v.agrees;
}

static void flip(struct model *m, const char *name, int64_t entry)
{
    int i = model_spec_find(&m->spec, name);
    CHECK(i >= 0, "no tensor %s", name);
    size_t size = (size_t)dtype_bytes(m->params[i].dtype, 1);
    float x;
    to_f32(&x, (char *)m->params[i].v + (size_t)entry * size, m->params[i].dtype, 1);
    x += 0.125f;
    from_f32((char *)m->params[i].v + (size_t)entry * size, m->params[i].dtype, &x, 1);
}

/* As the option would be written. */
__attribute__((format(printf, 2, 3))) static void set(struct ranges *r, const char *format, ...)
{
    char text[80];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    CHECK(!ranges_parse(r, "size", text, RANGES_VALUES, &e), "%s", e.msg);
}

static int cut_agrees(const char *family, const struct slice_target *target)
{
    struct cut c;
    cut_open(&c, family, target);
    int right = agrees(&c);
    cut_close(&c);
    return right;
}

/* The smallest size of the layers that have units of the axis, from the first on; 0: none has. */
static int smallest(const struct model_spec *h, enum axis axis, int64_t first)
{
    int64_t least = 0;
    for (int64_t l = first; l < h->num_hidden_layers; l++)
        if (model_spec_has_units(h, axis, l) && (!least || model_spec_size(h, axis, l) < least))
            least = model_spec_size(h, axis, l);
    return (int)least;
}

/* The first layer, of those from `from` on, with units of the axis; -1: none. */
static int first_with(const struct model_spec *h, enum axis axis, int64_t from)
{
    while (from < h->num_hidden_layers && !model_spec_has_units(h, axis, from))
        from++;
    return from < h->num_hidden_layers ? (int)from : -1;
}

/* A group of Mamba heads less where there are several, and one head less in each. */
static void set_mamba(struct slice_target *all, struct slice_target *uneven,
                      const struct model_spec *h)
{
    int at = first_with(h, AXIS_M, 0), G = smallest(h, AXIS_G, 0), M = smallest(h, AXIS_M, 0);
    if (at < 0)
        return;
    set(&uneven->size[AXIS_M], "%d:%d", at, M - G);
    if (G > 1)
        set(&all->size[AXIS_G], "%d", G - 1);
    set(&all->size[AXIS_M], "%d", (G > 1 ? G - 1 : 1) * (M / G - 1));
}

/* Half the neurons of an axis of the MLP in the first layer that has some, a third in the others;
 * `even`: half in all, of which layer 0 will go. */
static void set_neurons(struct slice_target *t, const struct model_spec *h, enum axis axis,
                        int even)
{
    char text[400] = "";
    int n = smallest(h, axis, even), first = 1;
    for (int64_t l = 0; l < h->num_hidden_layers && !even; l++)
        if (model_spec_has_units(h, axis, l)) {
            sprintf(text + strlen(text), "%s%d:%d", first ? "" : ",", (int)l,
                    first ? n / 2 : n / 3);
            first = 0;
        }
    if (n && even)
        set(&t->size[axis], "%d", n / 2);
    else if (n)
        set(&t->size[axis], "%s", text);
}

static void test_right_cuts(void)
{
    for (size_t i = 0; i < families_found.gl_pathc; i++) {
        const char *name = family_name(i);
        struct slice_target none = {0}, all = {0}, uneven = {0};
        struct cut c;
        cut_open(&c, name, &none);
        const struct model_spec *h = &c.source.spec;
        int E = (int)h->hidden_size, K = (int)h->layers->num_key_value_heads,
            X = smallest(h, AXIS_X, 1), heads_stay = model_spec_flag(h, "alibi");
        for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
            if (axis_may_lack(x) && axis_rows[x].option && x != AXIS_X && x != AXIS_G &&
                x != AXIS_M) {
                set_neurons(&all, h, x, 1);
                set_neurons(&uneven, h, x, 0);
            }
        set_mamba(&all, &uneven, h);
        if (!heads_stay)
            set(&uneven.size[AXIS_K], "%d:%d", first_with(h, AXIS_K, 1), K > 2 ? K - 1 : 1);
        cut_close(&c);
        if (X)
            set(&all.size[AXIS_X], "%d", X - 1);
        set(&all.size[AXIS_E], "%d", E - 5);
        if (!heads_stay)
            set(&all.size[AXIS_K], "%d", K > 2 ? K - 1 : 1);
        CHECK(!ranges_parse(&all.drop_layers, "drop", "0", RANGES_PLAIN, &e), "%s", e.msg);
        CHECK(cut_agrees(name, &all), "%s: every axis", name);
        CHECK(cut_agrees(name, &uneven), "%s: other sizes in other layers", name);
        slice_target_free(&all);
        slice_target_free(&uneven);
    }
}

/* Slopes of ALiBi follow from the places of all heads. */
static void test_heads_that_stay(void)
{
    struct slice_target fewer = {0}, sorted = {.sort = 1};
    struct model_in *in = model_open("tests/golden/families/falcon_rw", NULL, &e);
    stop_if(!in, "falcon_rw");
    set(&fewer.size[AXIS_H], "1:5");
    const struct slice_target *const targets[] = {&fewer, &sorted};
    for (int i = 0; i < 2; i++) {
        struct slice_plan plan;
        struct err why = {0};
        CHECK(slice_plan_shape(&plan, model_in_spec(in), NULL, NULL, targets[i], &why) &&
                  strstr(why.msg, i ? "cannot be sorted" : "cannot be removed"),
              "%s", why.msg);
    }
    for (enum axis x = AXIS_H; x <= AXIS_K; x++) {
        struct search_list sizes;
        struct err why = {0};
        CHECK(search_list_read(&sizes, x, "5,6", model_in_spec(in), &why) &&
                  strstr(why.msg, "heads must be 6: a model with ALiBi keeps all its heads"),
              "%s", why.msg);
    }
    slice_target_free(&fewer);
    model_close(in);
}

/* Mistakes of a wrong cut, one at a time, in a slice of llama that loses some of everything. */
static void test_planted_mistakes(void)
{
    static const char *const tensors[] = {"embed_tokens.weight",
                                          "layers.0.q_proj.weight",
                                          "layers.1.k_proj.weight",
                                          "layers.2.v_proj.weight",
                                          "layers.0.o_proj.weight",
                                          "layers.0.gate_proj.weight",
                                          "layers.1.up_proj.weight",
                                          "layers.2.down_proj.weight",
                                          "layers.1.input_layernorm.weight",
                                          "layers.1.post_attention_layernorm.weight",
                                          "norm.weight",
                                          "lm_head.weight"};
    struct slice_target target = {0};
    struct cut c;
    set(&target.size[AXIS_E], "30");
    set(&target.size[AXIS_F], "20");
    set(&target.size[AXIS_H], "4");
    set(&target.size[AXIS_L], "3");
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        cut_open(&c, "llama", &target);
        flip(&c.slice, tensors[i], !strcmp(tensors[i], "embed_tokens.weight") ? ids[0] * 30 : 3);
        CHECK(!agrees(&c), "one wrong entry of %s is found", tensors[i]);
        cut_close(&c);
    }
    /* the cut kept channels 6.. of the reversed rank; the plan now claims that 5 was kept
     * instead */
    cut_open(&c, "llama", &target);
    c.plan.kept[AXIS_E].index[0]--;
    CHECK(!agrees(&c), "another channel of the residual stream is found");
    c.plan.kept[AXIS_E].index[0]++;
    CHECK(agrees(&c), "and nothing else was wrong");
    c.plan.layers[1].kept[AXIS_F].index[0]--;
    CHECK(!agrees(&c), "another neuron is found");
    c.plan.layers[1].kept[AXIS_F].index[0]++;
    c.plan.layers[2].kept[AXIS_H].index[0]--;
    CHECK(!agrees(&c), "another head is found");
    c.plan.layers[2].kept[AXIS_H].index[0]++;
    c.plan.kept[AXIS_L].index[0]--;
    CHECK(!agrees(&c), "another layer is found");
    c.plan.kept[AXIS_L].index[0]++;
    c.slice.spec.norm_eps *= 2;
    CHECK(!agrees(&c), "a wrong epsilon is found");
    c.slice.spec.norm_eps /= 2;
    c.slice.spec.layers[1].attention_scale *= 1.01;
    CHECK(!agrees(&c), "a score scale that follows the new sizes is found");
    cut_close(&c);
    slice_target_free(&target);
}

/* Layer by layer the verdict is the same, and the values are those of the slice that was rounded.
 */
static void check_sections(const char *family, const struct slice_target *target)
{
    struct cut whole, c;
    struct verdict a, b;
    struct spill values = {.fd = -1};
    int64_t at = 0;
    cut_open(&whole, family, target);
    cut_open_unread(&c, family, target);
    slice_verify(&whole.plan, &whole.source, &whole.slice, ids, T, &a, &e);
    stop_if(slice_verify_sections(&c.plan, c.in, ids, T, &values, &b, &e) ||
                slice_round(&whole.plan, &whole.slice, &e),
            family);
    CHECK(b.agrees && b.difference == a.difference && b.largest == a.largest && b.tokens == T,
          "%s: another verdict: %g, %g", family, b.difference, b.largest);
    CHECK(!strcmp(model_in_spec(c.in)->digest, model_in_spec(whole.in)->digest), "%s: digest",
          family);
    for (int i = 0; i < whole.plan.spec.n_tensors; i++) {
        int64_t n = tensor_bytes(&whole.plan.spec.tensors[i]);
        const void *kept = spill_get(&values, at, n, &e);
        CHECK(kept && !memcmp(kept, whole.slice.params[i].v, (size_t)n), "%s: %s", family,
              whole.plan.spec.tensors[i].name);
        at += n;
    }
    spill_close(&values);
    cut_close(&whole);
    cut_close(&c);
}

/* A slice with other norms is found. */
static void check_section_mistake(const char *family, const struct slice_target *target)
{
    struct cut c;
    struct verdict v;
    struct spill values = {.fd = -1};
    cut_open_unread(&c, family, target);
    c.plan.spec.norm_eps *= 2;
    stop_if(slice_verify_sections(&c.plan, c.in, ids, T, &values, &v, &e), family);
    CHECK(!v.agrees, "%s: other norms are not found", family);
    spill_close(&values);
    cut_close(&c);
}

static void test_sections(void)
{
    static const char *const some[] = {"gemma2", "gpt2", "qwen2_moe"};
    for (int i = 0; i < 3; i++) {
        struct slice_target target = {.dtype = {1, DT_BF16}};
        CHECK(!ranges_parse(&target.drop_layers, "drop", "1", RANGES_PLAIN, &e), "%s", e.msg);
        set(&target.size[AXIS_E], "6");
        check_sections(some[i], &target);
        check_section_mistake(some[i], &target);
        slice_target_free(&target);
    }
}

static void read_tensor(struct safetensors *s, const char *name, void *out)
{
    int i = sf_find(s, name);
    CHECK(i >= 0 && !sf_read(s, i, 0, out, tensor_bytes(sf_tensor(s, i)), &e), "%s: %s", name,
          e.msg);
}

static void test_golden_logits(void)
{
    for (size_t f = 0; f < families_found.gl_pathc; f++) {
        const char *name = family_name(f);
        char path[200];
        struct cut c;
        snprintf(path, sizeof path, "tests/golden/families/%s/expected.safetensors", name);
        cut_open(&c, name, &(struct slice_target){0});
        struct safetensors *s = sf_open(path, &e);
        const struct tensor *t = sf_tensor(s, sf_find(s, "logits"));
        int64_t len = t->shape[1], V = t->shape[2],
                wide = sf_tensor(s, sf_find(s, "input_ids"))->dtype == DT_I64;
        double *want = malloc((size_t)tensor_bytes(t)),
               *got = malloc((size_t)(len * V) * sizeof *got), worst = 0;
        int64_t *raw = malloc((size_t)(t->shape[0] * len) * 8);
        uint32_t text[128];
        read_tensor(s, "logits", want);
        read_tensor(s, "input_ids", raw);
        for (int64_t i = 0; i < len; i++)
            text[i] = wide ? (uint32_t)raw[i] : ((uint32_t *)raw)[i];
        CHECK(!naive_logits(&c.source, NULL, text, len, got, &e), "%s", e.msg);
        for (int64_t i = 0; i < len * V; i++)
            worst = fmax(worst, fabs(got[i] - want[i]));
        CHECK(t->dtype == DT_F64 && worst < 1e-6, "%s: logits off by %g", name, worst);
        free(want);
        free(got);
        free(raw);
        sf_close(s);
        cut_close(&c);
    }
}

int main(void)
{
    for (int i = 0; i < T; i++)
        ids[i] = (uint32_t)(i * 29 % 41);
    CHECK(!glob("tests/golden/families/*", 0, NULL, &families_found), "no golden families");
    test_right_cuts();
    test_heads_that_stay();
    test_planted_mistakes();
    test_sections();
    test_golden_logits();
    globfree(&families_found);
    return check_report();
}
