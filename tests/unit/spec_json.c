/* Headers of model streams that are hostile or contradict themselves are refused. Reads
 * tests/golden; run from the repository root. */
#include <string.h>

#include "spec.h"

typedef void edit_fn(json_t *head);
static json_t *tensor_entry(json_t *head, size_t i)
{
    return json_array_get(json_object_get(head, "tensors"), i);
}
static void edit_kind(json_t *head) { json_object_set_new(head, "kind", json_string("rank")); }
static void edit_shape(json_t *head)
{
    json_array_set_new(json_object_get(tensor_entry(head, 2), "shape"), 0,
                       json_integer(INT64_C(1) << 60));
}
static void edit_dims(json_t *head)
{
    json_array_append_new(json_object_get(tensor_entry(head, 2), "shape"), json_integer(1));
}
static void edit_name(json_t *head)
{
    json_object_set_new(tensor_entry(head, 3), "name", json_string("layers.0.x_proj.weight"));
}
static void edit_dtype(json_t *head)
{
    json_object_set_new(tensor_entry(head, 1), "dtype", json_string("i32"));
}
static void edit_q8(json_t *head)
{
    json_object_set_new(tensor_entry(head, 2), "dtype", json_string("q8_0"));
}
static void edit_missing(json_t *head) { json_array_remove(json_object_get(head, "tensors"), 5); }
static void edit_last(json_t *head)
{
    json_array_remove(json_object_get(head, "tensors"),
                      json_array_size(json_object_get(head, "tensors")) - 1);
}
static void edit_more(json_t *head)
{
    json_array_append(json_object_get(head, "tensors"), tensor_entry(head, 2));
}
static void edit_layers(json_t *head) { json_array_remove(json_object_get(head, "layers"), 0); }
static void edit_heads(json_t *head)
{
    json_object_set_new(json_array_get(json_object_get(head, "layers"), 1), "head_dim",
                        json_integer(INT64_C(1) << 40));
}
static void edit_rope(json_t *head)
{
    json_object_set_new(json_array_get(json_object_get(head, "layers"), 1), "rope",
                        json_integer(1));
}
static void edit_scale(json_t *head)
{
    json_object_del(json_array_get(json_object_get(head, "layers"), 0), "attention_scale");
}
static void edit_family(json_t *head) { json_object_set_new(head, "family", json_string("gpt2")); }
static void edit_config(json_t *head)
{
    json_object_set_new(json_object_get(head, "config"), "hidden_size", json_integer(40));
}
static void edit_no_config(json_t *head) { json_object_del(head, "config"); }
static void edit_id(json_t *head)
{
    json_object_set_new(head, "id", json_string("../../etc/passwd"));
}
static void edit_file(json_t *head)
{
    json_array_append_new(json_object_get(head, "files"),
                          json_pack("{s:s, s:i}", "name", "x/../../y", "bytes", 3));
}
static void edit_file_bytes(json_t *head)
{
    json_array_append_new(json_object_get(head, "files"),
                          json_pack("{s:s, s:I}", "name", "x", "bytes", (json_int_t)-3));
}

static void test_headers(void)
{
    static const struct {
        edit_fn *edit;
        const char *says;
    } cases[] = {
        {edit_kind, "kind rank"},
        {edit_shape, "layers.0.q_proj.weight has shape [1152921504606846976, 36]; the "
                     "configuration requires [48, 36]"},
        {edit_dims, "layers.0.q_proj.weight has shape"},
        {edit_name, "layers.0.x_proj.weight, expected layers.0.k_proj.weight"},
        {edit_dtype, "dtype i32"},
        {edit_q8, "q8_0 blocks"},
        {edit_missing, "layers.0.o_proj.weight"},
        {edit_last, "no tensor lm_head.weight"},
        {edit_more, "do not know"},
        {edit_layers, "lists 3 layers, but its config says 4"},
        {edit_heads, "head_dim"},
        {edit_rope, "rope is 1"},
        {edit_scale, "attention_scale"},
        {edit_family, "family gpt2"},
        {edit_config, "has shape"},
        {edit_no_config, "config.json is not a JSON object"},
        {edit_id, "id is not a digest"},
        {edit_file, "x/../../y"},
        {edit_file_bytes, "-3 bytes"},
    };
    struct err e = {0};
    struct model_spec h, again;
    json_t *config = load(GOLDEN "families/%s/config.json", "llama", "");
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    model_spec_list_tensors(&h, DT_BF16);
    json_t *head = model_spec_to_json(&h);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *bad = json_deep_copy(head);
        cases[i].edit(bad);
        e = (struct err){0};
        int rc = model_spec_from_json(&again, bad, &e);
        CHECK(rc == -1 && strstr(e.msg, cases[i].says), "case %zu: \"%s\" does not say \"%s\"", i,
              e.msg, cases[i].says);
        if (!rc)
            model_spec_free(&again);
        json_decref(bad);
    }
    model_spec_free(&h);
    json_decref(head);
    json_decref(config);
}

int main(void)
{
    test_headers();
    return check_report();
}
