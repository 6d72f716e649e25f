/* Views of canonical tensors in stored ones, against the definition of each kind of row: grouped by
 * an axis, transposed, one tensor a unit, stacks of three dimensions, interleaved for rope, and the
 * choice between rows by which tensors are present. */
#include "../../lib/model/layout.h"

#include <string.h>

#include "check.h"

/* 2 layers of 6 heads in 2 groups of 4 channels; width 24, 10 neurons. */
static struct model_spec small_llama(void)
{
    struct model_spec h;
    struct err e = {0};
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", "llama",
                               "hidden_size", 24, "num_attention_heads", 6, "num_key_value_heads",
                               2, "num_hidden_layers", 2, "intermediate_size", 10, "vocab_size",
                               11);
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    json_decref(config);
    model_spec_list_tensors(&h, DT_F32);
    return h;
}

#define OTHERS \
    {"x.{L}.n1", "input_layernorm", 0, NULL}, {"x.{L}.n2", "post_attention_layernorm", 0, NULL}, \
        {"e", "embed_tokens", 0, NULL}, {"n", "norm", 0, NULL}, {"h", "lm_head", 0, NULL}, \
    { \
        0 \
    }

/* Row r of a canonical tensor is row `row` of the stored tensor of that name. */
static void check_row(const struct layout *l, const struct model_spec *h, const char *tensor,
                      int64_t r, const char *stored, int64_t row, int64_t run)
{
    const struct view *v;
    int64_t found_run, found = layout_row(l, model_spec_find(h, tensor), r, &v, &found_run);
    CHECK(!strcmp(l->stored[v->stored].name, stored) && found == row && found_run == run,
          "%s row %lld is %s row %lld, followed by %lld; not in %s row %lld, %lld", tensor,
          (long long)r, l->stored[v->stored].name, (long long)found, (long long)found_run, stored,
          (long long)row, (long long)run);
}

static void check_shape(const struct layout *l, const char *stored, const char *shape)
{
    char text[TENSOR_SHAPE] = "nothing";
    for (int i = 0; i < l->n_stored; i++)
        if (!strcmp(l->stored[i].name, stored))
            tensor_shape(&l->stored[i], text);
    CHECK(!strcmp(text, shape), "%s has shape %s, not %s", stored, text, shape);
}

static void test_groups(void)
{
    static const struct family_stored rows[] = {{"x.{L}.qkv", "K*(q_proj|k_proj|v_proj)", 0, NULL},
                                                {"x.{L}.o", "o_proj", 1, NULL},
                                                {"x.{L}.gu", "gate_proj|up_proj", 0, NULL},
                                                {"x.{L}.d", "down_proj", 1, NULL},
                                                OTHERS};
    struct model_spec h = small_llama();
    struct layout l;
    struct err e = {0};
    CHECK(!layout_make(&l, &h, rows, 0, NULL, NULL, &e), "%s", e.msg);
    check_shape(&l, "x.1.qkv.weight", "[40, 24]");
    for (int64_t r = 0; r < 24; r++) /* 20 rows a group: 12 of q, 4 of k, 4 of v */
        check_row(&l, &h, "layers.1.q_proj.weight", r, "x.1.qkv.weight", r / 12 * 20 + r % 12,
                  12 - r % 12);
    for (int64_t r = 0; r < 8; r++) {
        int64_t group = r / 4 * 20 + r % 4;
        check_row(&l, &h, "layers.1.k_proj.weight", r, "x.1.qkv.weight", group + 12, 4 - r % 4);
        check_row(&l, &h, "layers.1.v_proj.weight", r, "x.1.qkv.weight", group + 16, 4 - r % 4);
    }
    check_row(&l, &h, "layers.0.up_proj.weight", 3, "x.0.gu.weight", 13, 7);
    check_shape(&l, "x.0.d.weight", "[10, 24]");
    CHECK(layout_view(&l, model_spec_find(&h, "layers.0.down_proj.weight"))->transposed,
          "down_proj is not transposed");
    layout_free(&l);
    CHECK(layout_make(&l, &h, rows + 1, 0, NULL, NULL, &e) == -1 && strstr(e.msg, "q_proj"), "'%s'",
          e.msg);
    model_spec_free(&h);
}

/* One tensor a KV group, with q and v rows of the group; k rows interleave by head. */
static void test_units(void)
{
    static const struct family_stored rows[] = {{"x.{L}.g.{N}.qv", "K*(q_proj|v_proj)", 0, NULL},
                                                {"x.{L}.k", "~k_proj", 0, NULL},
                                                {"x.{L}.o", "o_proj", 0, NULL},
                                                {"x.{L}.g", "gate_proj", 0, NULL},
                                                {"x.{L}.u", "up_proj", 0, NULL},
                                                {"x.{L}.d", "down_proj", 0, NULL},
                                                OTHERS};
    static const int64_t interleaved[] = {0, 2, 1, 3, 4, 6, 5, 7};
    struct model_spec h = small_llama();
    struct layout l;
    struct err e = {0};
    CHECK(!layout_make(&l, &h, rows, 1, NULL, NULL, &e), "%s", e.msg);
    check_shape(&l, "x.1.g.0.qv.weight", "[16, 24]");
    check_shape(&l, "x.1.g.1.qv.weight", "[16, 24]");
    for (int64_t r = 0; r < 24; r++)
        check_row(&l, &h, "layers.1.q_proj.weight", r,
                  r < 12 ? "x.1.g.0.qv.weight" : "x.1.g.1.qv.weight", r % 12, 12 - r % 12);
    check_row(&l, &h, "layers.1.v_proj.weight", 5, "x.1.g.1.qv.weight", 13, 3);
    for (int64_t r = 0; r < 8; r++)
        check_row(&l, &h, "layers.0.k_proj.weight", r, "x.0.k.weight", interleaved[r], 1);
    layout_free(&l);
    CHECK(!layout_make(&l, &h, rows, 0, NULL, NULL, &e), "%s", e.msg);
    check_row(&l, &h, "layers.0.k_proj.weight", 1, "x.0.k.weight", 1, 7);
    layout_free(&l);
    model_spec_free(&h);
}

/* Only half of each head rotates, and only that half is interleaved. */
static void test_partly_rotary(void)
{
    static const struct family_stored rows[] = {{"x.{L}.q", "~q_proj", 0, NULL},
                                                {"x.{L}.k", "~k_proj", 0, NULL},
                                                {"x.{L}.v", "v_proj", 0, NULL},
                                                {"x.{L}.o", "o_proj", 0, NULL},
                                                {"x.{L}.u", "up_proj", 0, NULL},
                                                {"x.{L}.d", "down_proj", 0, NULL},
                                                OTHERS};
    static const int64_t at[] = {0, 2, 1, 3, 4, 5, 6, 7}, run[] = {1, 1, 1, 1, 4, 3, 2, 1};
    struct model_spec h;
    struct layout l;
    struct err e = {0};
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", "nemotron",
                               "hidden_size", 16, "num_attention_heads", 2, "num_key_value_heads",
                               2, "num_hidden_layers", 1, "intermediate_size", 10, "vocab_size",
                               11);
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    json_decref(config);
    model_spec_list_tensors(&h, DT_F32);
    CHECK(!layout_make(&l, &h, rows, 1, NULL, NULL, &e), "%s", e.msg);
    for (int64_t r = 0; r < 16; r++)
        check_row(&l, &h, "layers.0.q_proj.weight", r, "x.0.q.weight", r / 8 * 8 + at[r % 8],
                  run[r % 8]);
    layout_free(&l);
    model_spec_free(&h);
}

/* The layouts of experts, with KV heads as units: [units, rows, cols] as one tensor per unit, as a
 * stack, and as a stack shared by two. */
static void test_stacks(void)
{
    static const struct family_stored rows[] = {
        {"x.{L}.q", "q_proj", 0, NULL},
        {"x.{L}.k", "k_proj", 0, NULL},
        {"x.{L}.v", "v_proj", 0, NULL},
        {"x.{L}.o", "o_proj", 0, NULL},
        {"x.{L}.e.{N}.down", "K*down_proj", 0, NULL},
        {"x.{L}.e.gate_up", "K*(gate_proj|up_proj)", 0, NULL},
        OTHERS};
    static const char *const stacked[] = {"gate_proj", "up_proj", "down_proj"};
    struct model_spec h = small_llama();
    struct layout l;
    struct err e = {0};
    for (int i = 0; i < h.n_tensors; i++)
        for (int k = 0; k < 3; k++)
            if (strstr(h.tensors[i].name, stacked[k])) {
                h.tensors[i].ndim = 3;
                memmove(h.tensors[i].shape + 1, h.tensors[i].shape, 2 * sizeof(int64_t));
                h.tensors[i].shape[0] = 2;
            }
    CHECK(!layout_make(&l, &h, rows, 0, NULL, NULL, &e), "%s", e.msg);
    check_shape(&l, "x.1.e.0.down.weight", "[24, 10]");
    check_shape(&l, "x.1.e.gate_up.weight", "[2, 20, 24]");
    check_row(&l, &h, "layers.1.down_proj.weight", 25, "x.1.e.1.down.weight", 1, 23);
    check_row(&l, &h, "layers.1.gate_proj.weight", 12, "x.1.e.gate_up.weight", 22, 8);
    check_row(&l, &h, "layers.1.up_proj.weight", 12, "x.1.e.gate_up.weight", 32, 8);
    layout_free(&l);
    model_spec_free(&h);
}

static int begins_with(void *user, const char *name) { return !strncmp(name, user, strlen(user)); }

/* Of rows that store the same tensors, the first that is present and has no part placed yet is
 * used. */
static void test_choice(void)
{
    static const struct family_stored rows[] = {
        {"a.{L}.q", "q_proj", 0, NULL},    {"a.{L}.k", "k_proj", 0, NULL},
        {"a.{L}.v", "v_proj", 0, NULL},    {"b.{L}.qkv", "q_proj|k_proj|v_proj", 0, NULL},
        {"a.{L}.o", "o_proj", 0, NULL},    {"a.{L}.g", "gate_proj", 0, NULL},
        {"b.{L}.u", "up_proj", 0, NULL},   {"b.{L}.u", "gate_proj|up_proj", 0, NULL},
        {"a.{L}.d", "down_proj", 0, NULL}, OTHERS};
    struct model_spec h = small_llama();
    struct layout l;
    struct err e = {0};
    CHECK(!layout_make(&l, &h, rows, 0, begins_with, "b", &e), "%s", e.msg);
    check_shape(&l, "b.1.qkv.weight", "[40, 24]");
    check_shape(&l, "b.1.u.weight", "[20, 24]");
    check_row(&l, &h, "layers.0.up_proj.weight", 0, "b.0.u.weight", 10, 10);
    layout_free(&l);
    CHECK(!layout_make(&l, &h, rows, 0, begins_with, "a", &e), "%s", e.msg);
    check_shape(&l, "a.1.k.weight", "[8, 24]");
    check_shape(&l, "b.1.u.weight", "[10, 24]");
    layout_free(&l);
    model_spec_free(&h);
}

int main(void)
{
    test_groups();
    test_units();
    test_partly_rotary();
    test_stacks();
    test_choice();
    return check_report();
}
