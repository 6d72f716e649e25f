/* What no directory can show to hf-export's rules: shapes that GPT-2's class cannot say, layers of
 * different sizes, fused layouts by group. */
#include "../../lib/hf/layout.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/hf/config.h"
#include "check.h"

static struct model_spec read_head(const char *text)
{
    struct model_spec h;
    struct err e = {0};
    json_t *config = json_loads(text, 0, NULL);
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    json_decref(config);
    model_spec_list_tensors(&h, DT_F32);
    return h;
}

static void check_refused(struct model_spec *h, const char *words)
{
    struct err e = {0};
    char note[400];
    CHECK(hf_config_write(h, DT_F32, note, &e) == -1, "written, but it should say %s", words);
    CHECK(strstr(e.msg, words) != NULL, "'%s' lacks '%s'", e.msg, words);
    model_spec_free(h);
}

static void test_shapes(void)
{
    static const char gpt2[] = "{\"model_type\": \"gpt2\", \"n_embd\": 42, \"n_head\": 6, "
                               "\"n_layer\": 2, \"n_positions\": 8, \"vocab_size\": 11}";
    static const char llama[] =
        "{\"model_type\": \"llama\", \"hidden_size\": 24, \"num_attention_heads\": 4, "
        "\"num_hidden_layers\": 2, \"vocab_size\": 11}";
    struct err e = {0};
    char note[400];
    struct model_spec h = read_head(gpt2);
    CHECK(!hf_config_write(&h, DT_BF16, note, &e) && !*note, "%s %s", e.msg, note);
    CHECK(json_integer_value(json_object_get(h.config, "n_inner")) == 168, "4E is not written");
    CHECK(!strcmp(json_string_value(json_object_get(h.config, "torch_dtype")), "bfloat16"),
          "no dtype");
    model_spec_free(&h);

    h = read_head(gpt2);
    for (int l = 0; l < 2; l++)
        /* of 7 channels: 28, not 42 */
        h.layers[l].num_attention_heads = h.layers[l].num_key_value_heads = 4;
    check_refused(&h, "hidden 28 with 4 heads");

    h = read_head(llama);
    h.layers[1].intermediate_size = 99;
    model_spec_list_tensors(&h, DT_F32);
    check_refused(&h, "intermediate_size of layer 1");
}

/* Rows of the canonical tensors in "K*(q_proj:GD|k_proj:D|v_proj:D)", against the definition, for 2
 * KV heads, 3 query heads each, size 4. */
static void test_groups(void)
{
    static const struct family_stored stored[] = {
        {"x.{L}.qkv", "K*(q_proj:GD|k_proj:D|v_proj:D)", 0, NULL},
        {"x.{L}.o", "o_proj", 1, NULL},
        {"x.{L}.n1", "input_layernorm", 0, NULL},
        {"x.{L}.n2", "post_attention_layernorm", 0, NULL},
        {"x.{L}.gu", "gate_proj|up_proj", 0, NULL},
        {"x.{L}.d", "down_proj", 0, NULL},
        {"e", "embed_tokens", 0, NULL},
        {"n", "norm", 0, NULL},
        {"h", "lm_head", 0, NULL},
        {0}};
    struct model_spec h = read_head(
        "{\"model_type\": \"llama\", \"hidden_size\": 24, \"num_attention_heads\": 6, "
        "\"num_key_value_heads\": 2,"
        " \"num_hidden_layers\": 2, \"intermediate_size\": 10, \"vocab_size\": 11}");
    struct family f = *h.family;
    f.stored = stored;
    h.family = &f;
    struct hf_layout l;
    struct err e = {0};
    CHECK(!hf_layout_make(&l, &h, &e), "%s", e.msg);
    int expected[40], n = 0; /* stored row -> canonical row, + 100 for k, + 200 for v */
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 12; i++)
            expected[n++] = 12 * k + i;
        for (int i = 0; i < 4; i++)
            expected[n++] = 100 + 4 * k + i;
        for (int i = 0; i < 4; i++)
            expected[n++] = 200 + 4 * k + i;
    }
    static const char *const names[] = {"layers.1.q_proj.weight", "layers.1.k_proj.weight",
                                        "layers.1.v_proj.weight"};
    for (int part = 0; part < 3; part++) {
        const struct hf_view *v = &l.views[model_spec_find(&h, names[part])];
        CHECK(!strcmp(l.stored[v->stored].name, "x.1.qkv.weight") &&
                  l.stored[v->stored].shape[0] == 40,
              "stored as %s", l.stored[v->stored].name);
        for (int64_t r = 0; r < v->rows; r++) {
            int64_t run, row = hf_view_row(v, r, &run);
            CHECK(row >= 0 && row < 40 && expected[row] == 100 * part + r,
                  "%s row %lld lies at %lld", names[part], (long long)r, (long long)row);
            CHECK(run == (part ? 4 : 12) - r % (part ? 4 : 12), "%s row %lld is followed by %lld",
                  names[part], (long long)r, (long long)run);
        }
    }
    const struct hf_view *o = &l.views[model_spec_find(&h, "layers.0.o_proj.weight")];
    CHECK(o->transposed && l.stored[o->stored].shape[0] == 24 && l.stored[o->stored].shape[1] == 24,
          "o_proj is not transposed");
    hf_layout_free(&l);

    f.stored = stored + 1; /* nothing stores q, k and v */
    CHECK(hf_layout_make(&l, &h, &e) == -1 && strstr(e.msg, "q_proj"), "'%s'", e.msg);
    model_spec_free(&h);
}

int main(void)
{
    test_shapes();
    test_groups();
    return check_report();
}
