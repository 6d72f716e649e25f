/* Rules of hf-export for models that no directory can hold: shapes that GPT-2's class cannot
 * express, layers of different sizes. */
#include <string.h>

#include "../../lib/hf/config.h"
#include "../../lib/hf/hf.h"
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
    const char *reason = strstr(e.msg, "differs between layers");
    CHECK(!reason || !strstr(reason + 1, "differs between layers"), "twice: %s", e.msg);
    model_spec_free(h);
}

static void test_shapes(void)
{
    static const char gpt2[] = "{\"model_type\": \"gpt2\", \"n_embd\": 42, \"n_head\": 6, "
                               "\"n_layer\": 2, \"n_positions\": 8, \"vocab_size\": 11}";
    static const char qwen3[] = "{\"model_type\": \"qwen3\", \"num_hidden_layers\": 2}";
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
    check_refused(&h, "hidden size 28 with 4 heads");

    h = read_head(qwen3);
    h.layers[1].intermediate_size = 99;
    check_refused(&h, "intermediate_size differs between layers (0:22016,1:99), but config.json "
                      "for model_type qwen3 has one number for all layers; a model stream (.tsz) "
                      "can hold that");
}

/* ---- layers of different shapes, as nemotron-nas */

static const char llama[] =
    "{\"model_type\": \"llama\", \"hidden_size\": 24, \"num_attention_heads\": 4, "
    "\"num_key_value_heads\": 2, \"intermediate_size\": 512, \"num_hidden_layers\": 3, "
    "\"vocab_size\": 11}";

/* The entry of a layer, after it was written; its values as compact text. */
static void check_blocks(struct model_spec *h, const char *expected, const char *says)
{
    struct err e = {0};
    char note[400];
    CHECK(!hf_config_write(h, DT_F32, note, &e), "%s", e.msg);
    CHECK(strstr(note, "written as model_type nemotron-nas") && strstr(note, says), "%s", note);
    char *text = json_dumps(json_object_get(h->config, "block_configs"), JSON_COMPACT);
    CHECK(text && !strcmp(text, expected), "%s", text);
    free(text);
}

static struct model_spec half_layers(void)
{
    struct model_spec h = read_head(llama);
    h.layers[1].kinds = KIND_mlp;
    h.layers[1].num_key_value_heads = 1; /* means nothing */
    h.layers[1].intermediate_size = 256;
    h.layers[2].num_key_value_heads = 1;
    return h;
}

static void test_blocks(void)
{
#define ATTENTION(group, no_op) \
    "{\"attention\":{\"n_heads_in_group\":" group ",\"no_op\":" no_op \
    ",\"replace_with_linear\":false},"
#define FFN(width, no_op) "\"ffn\":{" width ",\"no_op\":" no_op ",\"replace_with_linear\":false}}"
    struct model_spec h = half_layers();
    model_spec_list_tensors(&h, DT_F32);
    /* 3/2 of 512 / 24, and of 256 / 24 */
    check_blocks(&h,
                 "[" ATTENTION("2", "false")
                     FFN("\"ffn_mult\":32.0", "false") "," ATTENTION("null", "true")
                         FFN("\"ffn_mult\":16.0", "false") "," ATTENTION("4", "false")
                             FFN("\"ffn_mult\":32.0", "false") "]",
                 "");
    CHECK(json_object_get(h.config, "auto_map"), "no class is named");
    CHECK(json_is_null(json_object_get(h.config, "intermediate_size")), "it has one width");
    model_spec_free(&h);

    h = half_layers();
    h.layers[0].intermediate_size = 500;
    h.layers[2].kinds = KIND_attention;
    model_spec_list_tensors(&h, DT_F32);
    check_blocks(&h,
                 "[" ATTENTION("2", "false")
                     FFN("\"intermediate_size\":500", "false") "," ATTENTION("null", "true")
                         FFN("\"intermediate_size\":256", "false") "," ATTENTION("4", "false")
                             FFN("\"intermediate_size\":null", "true") "]",
                 "; FFN widths that are not multiples of 256 are written as intermediate_size, "
                 "which NVIDIA's class, MLX and llama.cpp do not read; llama.cpp ignores the "
                 "attention of layer 2, which has no MLP");
    CHECK(!json_object_get(h.config, "auto_map"), "a class that cannot load it is named");
    model_spec_free(&h);
}

static void test_blocks_refused(void)
{
    struct model_spec h = half_layers();
    h.layers[0].kinds = KIND_mlp;
    model_spec_list_tensors(&h, DT_F32);
    check_refused(&h, "has no attention in layer 0: leave layer 0 out of --drop-attention");
    h = half_layers();
    h.layers[2].num_attention_heads = 2;
    model_spec_list_tensors(&h, DT_F32);
    check_refused(&h, "num_attention_heads differs between layers (0-1:4,2:2)");
    h = half_layers();
    h.hidden_size = 20; /* 4 heads of 6 channels */
    model_spec_list_tensors(&h, DT_F32);
    check_refused(&h, "config.json for nemotron-nas has no head_dim");
}

/* What every reader loads, and what some do not. */
static void test_portable(void)
{
    struct model_spec h = read_head(llama);
    CHECK(hf_is_portable(&h), "a llama");
    model_spec_free(&h);
    h = half_layers();
    model_spec_list_tensors(&h, DT_F32);
    CHECK(hf_is_portable(&h), "multiples of 256 and a layer without attention");
    h.layers[0].intermediate_size = 500;
    model_spec_list_tensors(&h, DT_F32);
    CHECK(!hf_is_portable(&h), "a width of 500");
    model_spec_free(&h);
    h = half_layers();
    h.layers[2].kinds = KIND_attention;
    model_spec_list_tensors(&h, DT_F32);
    CHECK(!hf_is_portable(&h), "attention without MLP");
    h.layers[2].kinds = KIND_any;
    h.layers[0].kinds = KIND_mlp;
    model_spec_list_tensors(&h, DT_F32);
    CHECK(!hf_is_portable(&h), "no attention in layer 0");
    model_spec_free(&h);
}

int main(void)
{
    test_portable();
    test_shapes();
    test_blocks();
    test_blocks_refused();
    return check_report();
}
