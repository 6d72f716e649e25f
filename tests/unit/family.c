/* Families: every golden config is read; tensors and stored layouts are those of the golden
 * checkpoints; shapes of published models have their published parameter counts; layers without one
 * of their blocks have the tensors and lines of the other; configs after a cut are the golden ones.
 * Reads tests/golden; run from the repository root. */
#include <dirent.h>
#include <glob.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "spec.h"

/* ---- golden families */

/* The checkpoint has every tensor that family and config imply, with its shape, and no other. */
static void check_stored(const struct model_spec *h, struct safetensors *file, const char *which)
{
    struct layout l;
    struct err e = {0};
    CHECK(!layout_make(&l, h, h->family->stored, 0, NULL, NULL, &e), "%s: %s", which, e.msg);
    for (int i = 0; i < l.n_stored && !e.set; i++) {
        const struct tensor *want = &l.stored[i];
        int at = sf_find(file, want->name);
        const struct tensor *t = at < 0 ? NULL : sf_tensor(file, at);
        CHECK(t && t->ndim == want->ndim &&
                  !memcmp(t->shape, want->shape, (size_t)t->ndim * sizeof *t->shape),
              "%s: %s", which, want->name);
    }
    CHECK(l.n_stored == sf_count(file), "%s: %d stored tensors expected, %d in the file", which,
          l.n_stored, sf_count(file));
    layout_free(&l);
}

static void check_round_trip(struct model_spec *h, const char *which)
{
    struct err e = {0};
    struct model_spec again, copy;
    strcpy(h->id, "0123456789abcdef0123456789abcdef");
    h->files = mem_alloc(sizeof *h->files);
    h->files[0].name = mem_string("tokenizer.json");
    h->files[0].bytes = 77;
    h->n_files = 1;
    json_t *first = model_spec_to_json(h);
    CHECK(!model_spec_from_json(&again, first, &e), "%s: round trip: %s", which, e.msg);
    if (e.set)
        return;
    json_t *second = model_spec_to_json(&again);
    CHECK(json_equal(first, second), "%s: header changes in a round trip", which);
    CHECK(again.n_ropes == h->n_ropes &&
              (!h->n_ropes || again.ropes[0].inv_freq[1] == h->ropes[0].inv_freq[1]),
          "%s: ropes", which);
    model_spec_copy(&copy, &again);
    model_spec_free(&again);
    json_t *third = model_spec_to_json(&copy);
    CHECK(json_equal(first, third), "%s: header of a copy differs", which);
    CHECK(!model_spec_check_config(&copy, &e), "%s: %s", which, e.msg);
    model_spec_free(&copy);
    json_decref(first);
    json_decref(second);
    json_decref(third);
}

static void test_golden_families(void)
{
    DIR *d = opendir(GOLDEN "families");
    int n = 0;
    for (struct dirent *f; d && (f = readdir(d));) {
        if (*f->d_name == '.')
            continue;
        struct err e = {0};
        struct model_spec h;
        json_t *config = load(GOLDEN "families/%s/config.json", f->d_name, ""),
               *expected = load(GOLDEN "families/%s/expected.json", f->d_name, "");
        json_t *counts = json_object_get(expected, "parameters");
        if (!family_find(json_string_value(json_object_get(config, "model_type"))))
            continue;
        CHECK(!model_spec_from_config(&h, config, &e), "%s: %s", f->d_name, e.msg);
        if (e.set)
            continue;
        model_spec_list_tensors(&h, DT_F32);
        int64_t non_embedding, total = model_spec_parameters(&h, &non_embedding);
        CHECK(total == json_integer_value(json_object_get(counts, "total")), "%s: %lld parameters",
              f->d_name, (long long)total);
        CHECK(non_embedding == json_integer_value(json_object_get(counts, "non_embedding")),
              "%s: %lld", f->d_name, (long long)non_embedding);
        CHECK(!model_spec_check_tensors(&h, &e), "%s: %s", f->d_name, e.msg);
        CHECK(model_spec_bytes(&h) == 4 * total, "%s: bytes", f->d_name);
        for (int i = 0; i < h.n_tensors; i++) {
            int64_t layer;
            const struct family_tensor *t = model_spec_axes(&h, i, &layer);
            CHECK(t && (layer >= 0) == !strncmp(h.tensors[i].name, "layers.", 7), "%s: axes of %s",
                  f->d_name, h.tensors[i].name);
        }
        char path[300];
        snprintf(path, sizeof path, GOLDEN "families/%s", f->d_name);
        struct safetensors *file = sf_open(path, &e);
        CHECK(file, "%s", e.msg);
        if (file)
            check_stored(&h, file, f->d_name);
        sf_close(file);
        check_round_trip(&h, f->d_name);
        model_spec_free(&h);
        json_decref(config);
        json_decref(expected);
        n++;
    }
    closedir(d);
    CHECK(n >= 9, "%d golden families", n);
}

/* ---- parameter counts of published models; those of the Minitron papers: search.c */

/* Ten layers of Granite 4.0-H, of which the sixth has attention. */
#define MAMBAS "'mamba','mamba','mamba','mamba'"
#define GRANITE_10 MAMBAS ",'mamba','attention'," MAMBAS

static void test_published_counts(void)
{
    static const struct {
        const char *name, *config;
        int64_t total, non_embedding;
    } models[] = {
        {"Mistral-7B", "{'model_type':'mistral'}", 7241732096, 6979588096},
        {"Gemma-2B",
         "{'model_type':'gemma','hidden_size':2048,'intermediate_size':16384,'num_hidden_layers':"
         "18,"
         "'num_attention_heads':8,'num_key_value_heads':1}",
         2506172416, 2506172416 - 256000 * 2048},
        {"Phi-2",
         "{'model_type':'phi','hidden_size':2560,'intermediate_size':10240,'num_hidden_layers':32}",
         2779683840, 2779683840 - 2 * 51200 * 2560},
        {"StableLM-3B-4E1T", "{'model_type':'stablelm'}", 2795443200,
         2795443200 - 2 * 50304 * 2560},
        {"Falcon-RW-1B",
         "{'model_type':'falcon','hidden_size':2048,'num_hidden_layers':24,"
         "'num_attention_heads':32,'vocab_size':50304,'alibi':true,'bias':true,"
         "'multi_query':false,'parallel_attn':false}",
         1311625216, 1311625216 - 50304 * 2048},
        {"Falcon-7B", "{'model_type':'falcon'}", 6921720704, 6921720704 - 65024 * 4544},
        {"Command-R7B",
         "{'model_type':'cohere2','hidden_size':4096,'intermediate_size':14336,"
         "'num_hidden_layers':32,'num_attention_heads':32,'num_key_value_heads':8}",
         8028033024, 8028033024 - INT64_C(256000) * 4096},
        {"Command R+",
         "{'model_type':'cohere','hidden_size':12288,'intermediate_size':33792,"
         "'num_hidden_layers':64,'num_attention_heads':96,'num_key_value_heads':8,"
         "'use_qk_norm':true}",
         103810674688, 103810674688 - INT64_C(256000) * 12288},
        {"GPT-2", "{'model_type':'gpt2'}", 124439808, 85056000},
        {"Phi-3-mini", "{'model_type':'phi3'}", 3821079552, 3624078336},
        {"Qwen2-0.5B",
         "{'model_type':'qwen2','hidden_size':896,'intermediate_size':4864,'num_hidden_layers':24,'"
         "num_attention_heads':14,"
         "'num_key_value_heads':2,'tie_word_embeddings':true}",
         494032768, 494032768 - 151936 * 896},
        {"Qwen3-0.6B",
         "{'model_type':'qwen3','hidden_size':1024,'intermediate_size':3072,'num_hidden_layers':28,"
         "'num_attention_heads':16,"
         "'num_key_value_heads':8,'tie_word_embeddings':true}",
         596049920, 596049920 - 151936 * 1024},
        {"SmolLM2-135M",
         "{'model_type':'llama','hidden_size':576,'intermediate_size':1536,'num_hidden_layers':30,'"
         "num_attention_heads':9,"
         "'num_key_value_heads':3,'vocab_size':49152,'tie_word_embeddings':true}",
         134515008, 134515008 - 49152 * 576},
        {"OLMo-2-7B", "{'model_type':'olmo2','vocab_size':100352}", 7298617344, 6476533760},
        {"SmolLM3-3B", "{'model_type':'smollm3'}", 3075098624, 2812430336},
        {"Gemma-2-2B", "{'model_type':'gemma2'}", 2614341888, 2024517888},
        {"Gemma-3-1B",
         "{'model_type':'gemma3_text','vocab_size':262144,'hidden_size':1152,'intermediate_size':"
         "6912,'num_attention_heads':4,"
         "'num_key_value_heads':1}",
         999885952, 697896064},
        {"GPT-NeoX-20B", "{'model_type':'gpt_neox'}", 20554567680, 19934859264},
        {"Granite-3.1-2B",
         "{'model_type':'granite','hidden_size':2048,'intermediate_size':8192,"
         "'num_hidden_layers':40,'num_key_value_heads':8,'vocab_size':49155,"
         "'tie_word_embeddings':true}",
         2533531648, 2533531648 - 49155 * 2048},
        {"Mixtral-8x7B", "{'model_type':'mixtral'}", 46702792704, 46702792704 - 2 * 32000 * 4096},
        {"Qwen1.5-MoE-A2.7B", "{'model_type':'qwen2_moe'}", 14315784192,
         14315784192 - (int64_t)2 * 151936 * 2048},
        {"Qwen3-30B-A3B",
         "{'model_type':'qwen3_moe','num_hidden_layers':48,'head_dim':128,'num_experts':128}",
         30532122624, 30532122624 - (int64_t)2 * 151936 * 2048},
        {"OLMoE-1B-7B", "{'model_type':'olmoe','intermediate_size':1024}", 6919161856,
         6919161856 - 2 * 50304 * 2048},
        {"StarCoder2-3B", "{'model_type':'starcoder2'}", 3030371328, 3030371328 - 49152 * 3072},
        {"Nemotron-Nano-9B-v2",
         "{'model_type':'nemotron_h','hidden_size':4480,'intermediate_size':15680,"
         "'num_attention_heads':40,'mamba_head_dim':80,'hybrid_override_pattern':"
         "'M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-'}",
         8888227328, 8888227328 - 2 * 131072 * 4480},
        {"Granite-4.0-H-Micro",
         "{'model_type':'granitemoehybrid','vocab_size':100352,'hidden_size':2048,"
         "'num_key_value_heads':8,'num_local_experts':0,'shared_intermediate_size':8192,"
         "'mamba_n_heads':64,'mamba_d_state':128,'tie_word_embeddings':true,'layer_types':"
         "[" GRANITE_10 "," GRANITE_10 "," GRANITE_10 "," GRANITE_10 "]}",
         3191396096, 3191396096 - 100352 * 2048},
        {"Bamba-9B",
         "{'model_type':'bamba','vocab_size':128256,'attn_layer_indices':[9,18,27],"
         "'mamba_d_state':128}",
         9780235392, 9780235392 - 2 * 128256 * 4096},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct err e;
        struct model_spec h;
        if (head_of(&h, models[i].config, &e)) {
            CHECK(0, "%s: %s", models[i].name, e.msg);
            continue;
        }
        int64_t non_embedding, total = model_spec_parameters(&h, &non_embedding);
        CHECK(total == models[i].total, "%s: %lld parameters", models[i].name, (long long)total);
        CHECK(non_embedding == models[i].non_embedding, "%s: %lld without embeddings",
              models[i].name, (long long)non_embedding);
        model_spec_free(&h);
    }
}

/* Layers of Llama-3.3-Nemotron-Super-49B in a row that are alike: how many, whether they have
 * attention (of 8 KV heads), and the size of their MLP. */
static const struct {
    int n, attention;
    double ffn_mult;
} super_49b[] = {{1, 1, 2.625},  {5, 1, 5.25},   {2, 0, 2.625},  {3, 1, 5.25},   {1, 0, 3.28125},
                 {30, 1, 5.25},  {1, 0, 1.3125}, {2, 0, 2.625},  {1, 0, 1.3125}, {1, 0, 5.25},
                 {1, 0, 1.3125}, {1, 0, 2.625},  {3, 0, 1.3125}, {1, 1, 5.25},   {1, 0, 1.3125},
                 {2, 0, 1.0},    {1, 0, 1.3125}, {3, 0, 1.0},    {2, 0, 1.3125}, {2, 0, 0.5},
                 {2, 0, 1.0},    {2, 0, 0.5},    {1, 0, 1.0},    {2, 0, 0.5},    {9, 1, 5.25}};

static void test_published_blocks(void)
{
    struct err e = {0};
    struct model_spec h;
    json_t *blocks = json_array(),
           *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:o}", "model_type", "nemotron-nas",
                               "hidden_size", 8192, "num_attention_heads", 64, "vocab_size", 128256,
                               "num_hidden_layers", 80, "block_configs", blocks);
    for (size_t i = 0; i < sizeof super_49b / sizeof *super_49b; i++)
        for (int k = 0; k < super_49b[i].n; k++)
            json_array_append_new(blocks,
                                  json_pack("{s:{s:i, s:b}, s:{s:f}}", "attention",
                                            "n_heads_in_group", 8, "no_op", !super_49b[i].attention,
                                            "ffn", "ffn_mult", super_49b[i].ffn_mult));
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    model_spec_list_tensors(&h, DT_F32);
    CHECK(model_spec_parameters(&h, NULL) == 49867145216, "%lld parameters",
          (long long)model_spec_parameters(&h, NULL));
    model_spec_free(&h);
    json_decref(config);
}

/* ---- kinds of block */

/* As in Falcon: one norm feeds both halves of a layer, which read the same residual stream. */
static void test_shared_norm(void)
{
    static const struct family_line block[] = {
        {KIND_any, OP_rmsnorm, "n", {"x"}, "input_layernorm", NULL},
        {KIND_attention, OP_linear, "q", {"n"}, "q_proj", NULL},
        {KIND_attention, OP_rope, "q", {"q"}, NULL, "rope"},
        {KIND_mlp, OP_linear, "y", {"n"}, "up_proj", NULL},
        {0}};
    static const struct family_tensor tensors[] = {
        {"layers.{L}.input_layernorm.weight", {DIM_E, DIM_NONE}, NULL},
        {"layers.{L}.q_proj.weight", {DIM_HD, DIM_E}, NULL},
        {"layers.{L}.up_proj.weight", {DIM_F, DIM_E}, NULL},
        {0}};
    static const char *const names[] = {
        "layers.0.input_layernorm.weight", "layers.0.q_proj.weight",
        "layers.0.up_proj.weight",         "layers.1.input_layernorm.weight",
        "layers.1.up_proj.weight",         "layers.2.input_layernorm.weight",
        "layers.2.q_proj.weight"};
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h, SMALL("llama", ",'num_hidden_layers':3"), &e), "%s", e.msg);
    struct family f = *h.family;
    f.block = block;
    f.tensors = tensors;
    h.family = &f;
    h.layers[1].kinds = KIND_mlp;
    h.layers[2].kinds = KIND_attention;
    h.layers[2].rope = -1;
    model_spec_list_tensors(&h, DT_F32);
    CHECK(h.n_tensors == 7, "%d tensors", h.n_tensors);
    for (int i = 0; i < 7 && i < h.n_tensors; i++)
        CHECK(!strcmp(h.tensors[i].name, names[i]), "%s, not %s", h.tensors[i].name, names[i]);
    static const char runs[3][5] = {"1111", "1001", "1100"};
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < 4; i++)
            CHECK(model_spec_has_line(&h, &block[i], l) == (runs[l][i] == '1'), "layer %d line %d",
                  l, i);
    model_spec_free(&h);
}

/* ---- after a cut */

/* Gives `h` the sizes of the golden cut, the way slicing does, and compares what is written. */
static void check_cut(const char *family, const char *name)
{
    struct err e = {0};
    struct model_spec h, want;
    json_t *from = load(GOLDEN "families/%s/config.json", family, ""),
           *to = load(GOLDEN "slice/%s/config.json", name, "");
    json_t *expected = load(GOLDEN "slice/%s/expected.json", name, "");
    CHECK(!model_spec_from_config(&h, from, &e) && !model_spec_from_config(&want, to, &e), "%s: %s",
          name, e.msg);
    if (e.set)
        return;
    /* else the golden directory is a twin of another class */
    if (h.family == want.family) {
        h.hidden_size = want.hidden_size;
        h.num_hidden_layers = want.num_hidden_layers;
        for (int64_t l = 0; l < h.num_hidden_layers; l++)
            h.layers[l] = want.layers[l];
        model_spec_update_config(&h);
        const char *key;
        json_t *value;
        json_object_foreach(to, key, value)
            CHECK(json_equal(json_object_get(h.config, key), value), "%s: key %s", name, key);
        CHECK(json_object_size(h.config) == json_object_size(to), "%s: %zu keys", name,
              json_object_size(h.config));
        CHECK(!model_spec_check_config(&h, &e), "%s: %s", name, e.msg);
    }
    model_spec_list_tensors(&want, DT_F32);
    json_t *total = json_object_get(json_object_get(expected, "parameters"), "total");
    /* cuts with merged heads do not state it */
    CHECK(!total || model_spec_parameters(&want, NULL) == json_integer_value(total),
          "%s: parameters", name);
    model_spec_free(&h);
    model_spec_free(&want);
    json_decref(from);
    json_decref(to);
    json_decref(expected);
}

static void test_cuts(void)
{
    glob_t found;
    CHECK(!glob(GOLDEN "slice/*/*/config.json", 0, NULL, &found), "no golden cuts");
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char family[100], name[200];
        if (sscanf(found.gl_pathv[i], GOLDEN "slice/%199[^.]", name) == 1 &&
            sscanf(name, "%99[^/]", family) == 1) {
            *strrchr(name, '/') = 0;
            check_cut(family, name);
        }
    }
    globfree(&found);

    struct err e;
    struct model_spec h;
    /* Implied values are written out; windows follow their layers, first as a suffix (also for old
     * readers), then not. */
    head_of(&h,
            SMALL("qwen2", ",'use_sliding_window':true,'sliding_window':16,'max_window_layers':2"),
            &e);
    h.layers[0].head_dim = 8;
    h.num_hidden_layers = 3;
    memmove(h.layers, h.layers + 1, 3 * sizeof *h.layers);
    model_spec_update_config(&h);
    json_t *types = json_object_get(h.config, "layer_types");
    CHECK(json_array_size(types) == 3 &&
              !strcmp(json_string_value(json_array_get(types, 0)), "full_attention") &&
              !strcmp(json_string_value(json_array_get(types, 1)), "sliding_attention"),
          "layer_types after a cut");
    CHECK(json_integer_value(json_object_get(h.config, "max_window_layers")) == 1,
          "max_window_layers after a cut");
    CHECK(json_integer_value(json_object_get(h.config, "head_dim")) == 8 &&
              json_integer_value(json_object_get(h.config, "intermediate_size")) == 22016,
          "defaults are written");
    CHECK(!model_spec_check_config(&h, &e), "%s", e.msg);
    model_spec_free(&h);

    /* gemma2, whose windows follow a rule, cut to its two layers without one: layer_types keep the
     * rule by index from giving them one */
    head_of(&h, SMALL("gemma2", ",'head_dim':8"), &e);
    h.layers[0] = h.layers[1];
    h.layers[1] = h.layers[3];
    h.num_hidden_layers = 2;
    model_spec_update_config(&h);
    CHECK(!model_spec_check_config(&h, &e) &&
              json_array_size(json_object_get(h.config, "layer_types")) == 2,
          "gemma2 without windows: %s", e.msg);
    model_spec_free(&h);

    /* What no config.json can express */
    head_of(&h, "{'model_type':'gpt2','n_layer':2,'n_embd':42,'n_head':6}", &e);
    for (int l = 0; l < 2; l++)
        h.layers[l].num_attention_heads = h.layers[l].num_key_value_heads = 4;
    model_spec_update_config(&h);
    CHECK(model_spec_check_config(&h, &e) == -1 &&
              strstr(e.msg, "42 is not a multiple of n_head 4"),
          "gpt2 heads alone: %s", e.msg);
    e = (struct err){0};
    h.hidden_size = 24; /* divisible now, but head_dim would be read as 6 */
    model_spec_update_config(&h);
    CHECK(model_spec_check_config(&h, &e) == -1 &&
              strstr(e.msg, "gpt2 cannot express the head_dim of layer 0"),
          "gpt2 head_dim: %s", e.msg);
    model_spec_list_tensors(&h, DT_F32);
    json_t *head = model_spec_to_json(&h);
    model_spec_free(&h);
    e = (struct err){0};
    CHECK(!model_spec_from_json(&h, head, &e) && h.layers[1].head_dim == 7,
          "a stream can say it: %s", e.msg);
    model_spec_free(&h);
    json_decref(head);
    head_of(&h, SMALL("llama", ""), &e);
    h.layers[2].intermediate_size = 7;
    model_spec_update_config(&h);
    CHECK(model_spec_check_config(&h, &e) == -1 && strstr(e.msg, "intermediate_size of layer 2"),
          "layers of different width: %s", e.msg);
    model_spec_free(&h);
}

int main(void)
{
    test_golden_families();
    test_published_counts();
    test_published_blocks();
    test_shared_norm();
    test_cuts();
    return check_report();
}
