/* Rules of hf-export for models that no directory can hold: shapes that GPT-2's class cannot
 * express, layers of different sizes. */
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
    check_refused(&h, "hidden size 28 with 4 heads");

    h = read_head(llama);
    h.layers[1].intermediate_size = 99;
    model_spec_list_tensors(&h, DT_F32);
    check_refused(&h, "intermediate_size differs between layers (0:11008,1:99): a model stream "
                      "(.tsz) can hold that");
}

int main(void)
{
    test_shapes();
    return check_report();
}
