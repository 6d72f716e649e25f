/* Families, configurations and specs: every golden config is read; tensors, stored layouts and
 * parameter counts are those of the golden checkpoints; shapes of published models have their
 * published parameter counts; rope tables match numbers worked by hand; what must be refused is
 * refused by name; stream headers survive the round trip, and hostile ones are refused; configs
 * after a cut are the golden ones. Reads tests/golden; run from the repository root. */
#include <dirent.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../../lib/model/layout.h"
#include "check.h"

#define GOLDEN "tests/golden/"

static json_t *load(const char *format, const char *a, const char *b)
{
    char path[500];
    json_error_t why;
    snprintf(path, sizeof path, format, a, b);
    json_t *j = json_load_file(path, 0, &why);
    CHECK(j, "%s: %s", path, why.text);
    return j;
}

/* A spec from a config given as text, with ' for ". */
static int head_of(struct model_spec *h, const char *text, struct err *e)
{
    char *json = mem_string(text);
    for (char *p = json; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    json_t *config = json_loads(json, 0, NULL);
    CHECK(config, "not JSON: %s", json);
    *e = (struct err){0};
    int rc = model_spec_from_config(h, config, e);
    json_decref(config);
    free(json);
    if (!rc)
        model_spec_list_tensors(h, DT_F32);
    return rc;
}

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

/* ---- parameter counts of published models (the first eight: Minitron papers, tables 10 and 3) */

static void test_published_counts(void)
{
#define LLAMA(E, F, L, H, V) \
    "{'model_type':'llama','hidden_size':" #E ",'intermediate_size':" #F \
    ",'num_hidden_layers':" #L ",'num_attention_heads':" #H \
    ",'num_key_value_heads':8,'head_dim':128,'vocab_size':" #V "}"
#define NEMOTRON(E, F, H, K) \
    "{'model_type':'nemotron','hidden_size':" #E ",'intermediate_size':" #F \
    ",'num_attention_heads':" #H ",'num_key_value_heads':" #K ",'head_dim':128}"
    static const struct {
        const char *name, *config;
        int64_t total, non_embedding;
    } models[] = {
        {"Llama-3.1-8B", LLAMA(4096, 14336, 32, 32, 128256), 8030261248, 6979588096},
        {"Llama-3.1-Minitron-4B-Width", LLAMA(3072, 9216, 32, 32, 128256), 4512746496, 3724741632},
        {"Llama-3.1-Minitron-4B-Depth", LLAMA(4096, 14336, 16, 32, 128256), 4540469248, 3489796096},
        {"Mistral-NeMo-12B", LLAMA(5120, 14336, 40, 32, 131072), 12247782400, 10905605120},
        {"MN-Minitron-8B", LLAMA(4096, 11520, 40, 32, 131072), 8414105600, 7340363776},
        {"Nemotron-4 15B", NEMOTRON(6144, 24576, 48, 8), 15628775424, 12483047424},
        {"Minitron 8B", NEMOTRON(4096, 16384, 48, 8), 8271699968, 6174547968},
        {"Minitron 4B", NEMOTRON(3072, 9216, 24, 8), 4190509056, 2617645056},
        {"Mistral-7B", "{'model_type':'mistral'}", 7241732096, 6979588096},
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
        {"StarCoder2-3B", "{'model_type':'starcoder2'}", 3030371328, 3030371328 - 49152 * 3072},
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

/* ---- rope tables */

static void check_table(const char *what, const double *f, const double *want, int n)
{
    for (int i = 0; i < n; i++)
        CHECK(f && fabs(f[i] - want[i]) < 2e-7 * want[i],
              "%s: frequency %d is %.10g, expected %.10g", what, i, f ? f[i] : NAN, want[i]);
}

/* theta 1e4, 16 channels, unless said: f_i = 10^(-i/2). */
#define ROPE_CONFIG(type, extra) \
    "{'model_type':'" type \
    "','hidden_size':64,'num_attention_heads':4,'num_key_value_heads':4,'num_hidden_layers':1," \
    "'max_position_embeddings':512," extra "}"

static void test_ropes(void)
{
    static const struct {
        const char *what, *config;
        double f[8], factor;
    } cases[] = {
        {"default",
         ROPE_CONFIG("llama", "'rope_scaling':null"),
         {1, 0.31622776602, 0.1, 0.031622776602, 0.01, 0.0031622776602, 0.001, 0.00031622776602},
         1},
        {"dynamic",
         ROPE_CONFIG("llama", "'rope_scaling':{'type':'dynamic','factor':2.0}"),
         {1, 0.31622776602, 0.1, 0.031622776602, 0.01, 0.0031622776602, 0.001, 0.00031622776602},
         1},
        {"theta inside wins",
         ROPE_CONFIG(
             "llama",
             "'rope_theta':5.0,'rope_parameters':{'rope_type':'default','rope_theta':100000000.0}"),
         {1, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6, 1e-7},
         1},
        {"rope_scaling replaces rope_parameters",
         ROPE_CONFIG("llama",
                     "'rope_scaling':{'type':'linear','factor':4.0},'rope_parameters':{'rope_type':"
                     "'default','rope_theta':7.0}"),
         {0.25, 0.079056941504, 0.025, 0.0079056941504, 0.0025, 0.00079056941504, 0.00025,
          0.000079056941504},
         1},
        /* llama3, P0 64: wavelengths 6.28 < 16 kept; 19.9 and 62.8 between: s = (P0/wave - 1)/3 =
           0.74035, 0.0061973; from 199 > 64 on divided by 8 */
        {"llama3",
         ROPE_CONFIG("llama", "'rope_scaling':{'rope_type':'llama3','factor':8.0,'low_freq_factor':"
                              "1.0,'high_freq_factor':4.0,"
                              "'original_max_position_embeddings':64}"),
         {1, 0.244384584, 0.01304225577, 0.0039528470752, 0.00125, 0.00039528470752, 0.000125,
          0.000039528470752},
         1},
        {"llama3, top-level P0 wins",
         ROPE_CONFIG("llama", "'original_max_position_embeddings':64,'rope_scaling':{'rope_type':'"
                              "llama3','factor':8.0,"
                              "'low_freq_factor':1.0,'high_freq_factor':4.0,'original_max_position_"
                              "embeddings':9999}"),
         {1, 0.244384584, 0.01304225577, 0.0039528470752, 0.00125, 0.00039528470752, 0.000125,
          0.000039528470752},
         1},
        /* yarn, P0 128: c(32) = -0.78 -> 0, c(1) = 2.62 -> 3: f (1 - i/3) + f/4 i/3; magnitude 0.1
           ln 4 + 1 */
        {"yarn",
         ROPE_CONFIG("llama", "'rope_scaling':{'rope_type':'yarn','factor':4.0,'original_max_"
                              "position_embeddings':128}"),
         {1, 0.237170824513, 0.05, 0.0079056941504, 0.0025, 0.00079056941504, 0.00025,
          0.000079056941504},
         1.138629436112},
        /* the same with c(8) = 0.8118, c(2) = 2.0160: t = 0.1563 and 0.9867 */
        {"yarn, untruncated",
         ROPE_CONFIG(
             "llama",
             "'rope_scaling':{'rope_type':'yarn','factor':4.0,'original_max_position_embeddings':"
             "128,"
             "'truncate':false,'mscale':0.7,'mscale_all_dim':0.3,'beta_fast':8,'beta_slow':2}"),
         {1, 0.279174533, 0.02599659159, 0.0079056941504, 0.0025, 0.00079056941504, 0.00025,
          0.000079056941504},
         1.05323768151431},
        {"v5 spelling",
         ROPE_CONFIG(
             "qwen3",
             "'head_dim':16,'rope_parameters':{'rope_theta':100000000.0,'rope_type':'default'}"),
         {1, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6, 1e-7},
         1},
    };
    struct err e;
    struct model_spec h;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (head_of(&h, cases[i].config, &e)) {
            CHECK(0, "%s: %s", cases[i].what, e.msg);
            continue;
        }
        CHECK(h.n_ropes == 1 && h.ropes[0].dims == 16 && !h.ropes[0].long_after, "%s: table",
              cases[i].what);
        CHECK(fabs(h.ropes[0].factor - cases[i].factor) < 1e-12, "%s: magnitude %.12g",
              cases[i].what, h.ropes[0].factor);
        check_table(cases[i].what, h.ropes[0].inv_freq, cases[i].f, 8);
        model_spec_free(&h);
    }
}

/* longrope: f / list; magnitude sqrt(1 + ln(512/128) / ln 128). phi3 takes P0 from the top level
 * only. */
static void test_longrope(void)
{
    static const double plain[] = {1,    0.31622776602,   0.1,   0.031622776602,
                                   0.01, 0.0031622776602, 0.001, 0.00031622776602};
    static const char *const types[] = {"su", "yarn", "longrope"};
    struct err e;
    struct model_spec h;
    for (int i = 0; i < 3; i++) {
        char text[1000];
        double near[8], far[8];
        snprintf(text, sizeof text,
                 ROPE_CONFIG("phi3", "'original_max_position_embeddings':128,'rope_scaling':{'type'"
                                     ":'%s','short_factor':[1,1.1,1.2,"
                                     "1.3,1.4,1.5,1.6,1.7],'long_factor':[1,2,3,4,5,6,7,8],'"
                                     "original_max_position_embeddings':7}"),
                 types[i]);
        CHECK(!head_of(&h, text, &e), "longrope: %s", e.msg);
        if (e.set)
            continue;
        for (int k = 0; k < 8; k++) {
            near[k] = plain[k] / (k ? 1 + 0.1 * k : 1);
            far[k] = plain[k] / (k + 1);
        }
        check_table("longrope, short", h.ropes[0].inv_freq, near, 8);
        check_table("longrope, long", h.ropes[0].long_inv_freq, far, 8);
        CHECK(h.ropes[0].long_after == 128, "longrope: long after %lld",
              (long long)h.ropes[0].long_after);
        CHECK(fabs(h.ropes[0].factor - 1.1338934190277) < 1e-12 &&
                  h.ropes[0].long_factor == h.ropes[0].factor,
              "longrope: magnitude");
        model_spec_free(&h);
    }
}

/* gemma3: a table for full layers, 100 and scaled by 4 (by neither in the last spelling), and one
 * for those with a window, 10^8; both spellings */
static void test_two_ropes(void)
{
    static const double slow[] = {1, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6, 1e-7};
    static const char *const two[] = {
        "'rope_theta':100.0,'rope_local_base_freq':1e8,'rope_scaling':{'rope_type':'linear','"
        "factor':4.0}",
        "'rope_parameters':{'full_attention':{'rope_theta':100.0,'rope_type':'linear','factor':4.0}"
        ",'sliding_attention':{'rope_theta':1e8}}",
        "'rope_local_base_freq':1e8,'rope_theta':100.0,'rope_parameters':{'full_attention':{'rope_"
        "type':'default'}}"};
    struct err e;
    struct model_spec h;
    for (int i = 0; i < 3; i++) {
        char text[1000];
        double full[8];
        snprintf(text, sizeof text,
                 ROPE_CONFIG("gemma3_text", "'head_dim':16,'num_hidden_layers':7,%s"), two[i]);
        int rc = head_of(&h, text, &e);
        CHECK(!rc && h.n_ropes == 2 && h.layers[4].rope == 1 && h.layers[5].rope == 0 &&
                  h.layers[6].rope == 1,
              "gemma3, spelling %d: %s", i, e.msg);
        for (int k = 0; k < 8; k++)
            full[k] = pow(100, -k / 8.0) / (i < 2 ? 4 : 1);
        if (rc)
            continue;
        check_table("gemma3, full", h.ropes[0].inv_freq, full, 8);
        check_table("gemma3, window", h.ropes[1].inv_freq, slow, 8);
        model_spec_free(&h);
    }
}

static void test_partial_ropes(void)
{
    static const struct {
        const char *config;
        int64_t dims;
    } partial[] = {
        {ROPE_CONFIG("nemotron", "'norm_eps':1e-5"), 8},
        {ROPE_CONFIG("nemotron", "'partial_rotary_factor':0.25"), 4},
        {ROPE_CONFIG("nemotron",
                     "'rope_parameters':{'rope_theta':10.0,'partial_rotary_factor':0.75}"),
         12},
        {ROPE_CONFIG("phi3", "'hidden_act':'silu'"), 16},
        {"{'model_type':'gpt_neox'}", 24},
        /* its class does not have the last two keys */
        {"{'model_type':'gpt_neox','rotary_pct':1.0,'rope_theta':5,'partial_rotary_factor':0.5}",
         96},
    };
    struct err e;
    struct model_spec h;
    for (int i = 0; i < 6; i++) {
        int rc = head_of(&h, partial[i].config, &e);
        CHECK(!rc && h.ropes[0].dims == partial[i].dims, "partial rotation %d: %s", i, e.msg);
        if (!rc)
            model_spec_free(&h);
    }
}

/* ---- rules of reading */

static void test_rules(void)
{
    struct err e;
    struct model_spec h;
#define READS(config, condition) \
    do { \
        int rc_ = head_of(&h, config, &e); \
        CHECK(!rc_ && (condition), "%s: %s %s", config, #condition, e.msg); \
        if (!rc_) \
            model_spec_free(&h); \
    } while (0)
#define SMALL(type, extra) \
    "{'model_type':'" type "','hidden_size':48,'num_attention_heads':6,'num_key_value_heads':2,'" \
    "num_hidden_layers':4" extra "}"
    READS("{'model_type':'mistral'}",
          h.layers[0].num_key_value_heads == 8 && h.layers[31].sliding_window == 4096);
    READS("{'model_type':'mistral','num_key_value_heads':null,'sliding_window':null}",
          h.layers[0].num_key_value_heads == 32 && !h.layers[0].sliding_window);
    READS("{'model_type':'llama','num_attention_heads':16}",
          h.layers[0].num_key_value_heads == 16 && h.layers[0].head_dim == 256);
    READS("{'model_type':'qwen2','num_key_value_heads':null,'num_attention_heads':16}",
          h.layers[0].num_key_value_heads == 16);
    READS("{'model_type':'qwen3'}",
          h.layers[0].head_dim == 128 && h.norm_eps == 1e-6 && !h.tie_word_embeddings);
    READS("{'model_type':'olmo2'}",
          h.norm_eps == 1e-5 && h.layers[0].num_key_value_heads == 32 && !h.tie_word_embeddings);
    READS(SMALL("olmo2", ""),
          h.tensors[model_spec_find(&h, "layers.1.q_norm.weight")].shape[0] == 48 &&
              h.tensors[model_spec_find(&h, "layers.1.k_norm.weight")].shape[0] == 16);
    READS("{'model_type':'smollm3'}", h.layers[0].num_key_value_heads == 4 &&
                                          h.tie_word_embeddings && h.layers[2].rope == 0 &&
                                          h.layers[3].rope == -1 && h.layers[34].rope == 0 &&
                                          h.layers[35].rope == -1 && !h.layers[3].sliding_window);
    READS(SMALL("smollm3", ",'no_rope_layers':[0,1,1,0],'no_rope_layer_interval':2"),
          h.layers[0].rope == -1 && h.layers[1].rope == 0 && h.layers[3].rope == -1);
    READS(SMALL("smollm3",
                ",'use_sliding_window':true,'sliding_window':7,'no_rope_layer_interval':2"),
          !h.layers[0].sliding_window && h.layers[1].sliding_window == 7);
    READS("{'model_type':'gemma2'}",
          h.layers[0].head_dim == 256 && h.layers[0].sliding_window == 4096 &&
              !h.layers[1].sliding_window && h.attention_cap == 50 && h.logit_cap == 30 &&
              h.embed_scale == 48 && h.layers[0].attention_scale == 0.0625 &&
              h.activation == ACT_GELU_TANH);
    READS(SMALL("gemma2", ",'query_pre_attn_scalar':144,'attn_logit_softcapping':null,'final_logit_"
                          "softcapping':null,'head_dim':64"),
          !h.attention_cap && !h.logit_cap && h.layers[3].attention_scale == 1.0 / 12);
    READS("{'model_type':'gemma3_text'}", h.layers[4].sliding_window == 4096 &&
                                              !h.layers[5].sliding_window &&
                                              h.layers[6].sliding_window && !h.logit_cap);
    READS(SMALL("gemma3_text", ",'sliding_window_pattern':2,'attn_logit_softcapping':9.0"),
          h.layers[2].rope == 1 && h.layers[3].rope == 0 && !h.attention_cap);
    READS("{'model_type':'gpt_neox'}", h.activation == ACT_GELU && !h.tie_word_embeddings &&
                                           model_spec_find(&h, "layers.9.k_proj.bias") >= 0 &&
                                           model_spec_flag(&h, "use_parallel_residual") &&
                                           h.ropes[0].inv_freq[0] == 1);
    READS("{'model_type':'gpt_neox','attention_bias':false,'use_parallel_residual':false}",
          model_spec_find(&h, "layers.9.k_proj.bias") < 0 &&
              model_spec_find(&h, "layers.9.up_proj.bias") >= 0 &&
              model_spec_flag(&h, "!use_parallel_residual"));
    READS("{'model_type':'granite'}", h.layers[7].attention_scale == 1 && h.embed_scale == 1 &&
                                          h.residual_scale == 1 && h.logit_scale == 1);
    READS(SMALL("granite", ",'attention_multiplier':0.25,'embedding_multiplier':12,"
                           "'residual_multiplier':0.5,'logits_scaling':8"),
          h.layers[3].attention_scale == 0.25 && h.embed_scale == 12 && h.residual_scale == 0.5 &&
              h.logit_scale == 0.125);
    READS("{'model_type':'starcoder2'}", !h.layers[0].sliding_window && h.tie_word_embeddings &&
                                             h.activation == ACT_GELU_TANH &&
                                             model_spec_find(&h, "layers.9.up_proj.bias") >= 0);
    READS(SMALL("starcoder2", ",'use_bias':false,'sliding_window':9"),
          h.layers[3].sliding_window == 9 && model_spec_find(&h, "layers.3.o_proj.bias") < 0);
    READS("{'model_type':'phi3'}", h.norm_eps == 1e-5 && !h.layers[0].sliding_window);
    READS("{'model_type':'phi3','sliding_window':2047}", h.layers[5].sliding_window == 2047);
    READS("{'model_type':'gpt2'}",
          h.tie_word_embeddings && h.learned_positions && h.activation == ACT_GELU_TANH &&
              h.layers[0].intermediate_size == 3072 && h.layers[0].rope == -1 &&
              h.layers[0].attention_scale == 0.125 && h.norm_eps == 1e-5);
    READS("{'model_type':'gpt2','n_inner':null,'n_embd':96}", h.layers[0].intermediate_size == 384);
    READS("{'model_type':'gpt2','scale_attn_weights':false}", h.layers[3].attention_scale == 1);
    READS("{'model_type':'gpt2','scale_attn_by_inverse_layer_idx':true}",
          h.layers[3].attention_scale == 0.03125);
    READS(SMALL("nemotron", ""),
          h.activation == ACT_RELU2 && h.norm_eps == 1e-5 && h.layers[0].head_dim == 8);
    READS(SMALL("llama", ",'hidden_act':'gelu'"), h.activation == ACT_GELU);
    READS(SMALL("llama", ",'attention_bias':true"),
          model_spec_find(&h, "layers.3.o_proj.bias") >= 0 &&
              model_spec_find(&h, "layers.3.up_proj.bias") < 0);
    READS(SMALL("qwen2", ""), model_spec_find(&h, "layers.3.v_proj.bias") >= 0 &&
                                  model_spec_find(&h, "layers.3.o_proj.bias") < 0);
    READS(SMALL("qwen2", ",'sliding_window':16"), !h.layers[3].sliding_window);
    READS(SMALL("qwen2", ",'sliding_window':16,'use_sliding_window':true,'max_window_layers':2"),
          !h.layers[1].sliding_window && h.layers[2].sliding_window == 16);
    READS(SMALL("qwen3", ",'use_sliding_window':true,'max_window_layers':0,'layer_types':['full_"
                         "attention','sliding_attention','full_attention',"
                         "'full_attention']"),
          !h.layers[0].sliding_window && h.layers[1].sliding_window == 4096 &&
              !h.layers[2].sliding_window);
}

/* ---- refusals: each names the culprit */

static void test_refusals(void)
{
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{'hidden_size':8}", "no model_type, so the family is unknown (known are llama, mistral"},
        {"{'model_type':'bert'}", "\"bert\" is not supported (supported are llama, mistral"},
        {SMALL("llama", ",'quantization_config':{'bits':4}"), "quantization_config"},
        {SMALL("llama", ",'attn_logit_softcapping':30.0"),
         "key attn_logit_softcapping (30.0) may change the function"},
        {SMALL("llama", ",'partial_rotary_factor':0.5"), "partial_rotary_factor 0.5"},
        {SMALL("llama", ",'rope_parameters':{'partial_rotary_factor':0.5}"),
         "partial_rotary_factor 0.5"},
        {SMALL("llama", ",'rope_scaling':{'type':'mrope','mrope_section':[1]}"), "mrope_section"},
        {SMALL("llama", ",'rope_scaling':{'type':'proportional'}"), "rope type proportional"},
        {SMALL("llama", ",'rope_scaling':{'type':'linear'}"), "no factor"},
        {SMALL("llama", ",'rope_scaling':{'type':'linear','factor':-2}"),
         "factor of the rope scaling is -2"},
        {SMALL("llama", ",'rope_scaling':4"), "rope_scaling is 4"},
        {SMALL("llama", ",'rope_theta':0"), "rope_theta is 0"},
        {SMALL("phi3",
               ",'rope_scaling':{'type':'su','short_factor':[1,1,1],'long_factor':[1,1,1,1]}"),
         "short_factor"},
        {SMALL("mistral", ",'attention_bias':true"), "attention_bias true"},
        {SMALL("granite", ",'logits_scaling':0"), "logits_scaling is 0"},
        {SMALL("mistral", ",'layer_types':['full_attention']"), "layer_types"},
        {SMALL("olmo2", ",'mlp_bias':true"), "mlp_bias"},
        {SMALL("olmo2", ",'sliding_window':16"), "sliding_window"},
        {SMALL("smollm3", ",'no_rope_layers':[1,1,0]"),
         "no_rope_layers has 3 entries for 4 layers"},
        {SMALL("smollm3", ",'no_rope_layers':[1,1,0,2]"), "no_rope_layers has 2"},
        {SMALL("smollm3", ",'no_rope_layers':1"), "no_rope_layers has 0 entries"},
        {SMALL("smollm3", ",'no_rope_layer_interval':0"), "no_rope_layer_interval is 0"},
        {SMALL("gemma2", ",'use_bidirectional_attention':true"),
         "use_bidirectional_attention true"},
        {SMALL("gemma2", ",'attn_logit_softcapping':-1"), "attn_logit_softcapping is -1"},
        {SMALL("gemma2", ",'query_pre_attn_scalar':0"), "query_pre_attn_scalar is 0"},
        {SMALL("gemma3_text", ",'rope_scaling':{'type':'linear','factor':2},'rope_parameters':{'"
                              "full_attention':{'rope_theta':1}}"),
         "rope_scaling beside"},
        {SMALL("gemma3_text", ",'rope_parameters':{'rope_theta':1}"),
         "key rope_theta (1) in rope_parameters"},
        {SMALL("gemma3_text", ",'rope_parameters':{'sliding_attention':4}"),
         "sliding_attention is 4"},
        {SMALL("gemma3_text", ",'sliding_window':null"), "no sliding_window is in use"},
        {"{'model_type':'gemma3','text_config':{}}", "gemma3_text"},
        {"{'model_type':'gpt_neox','head_dim':96}", "head_dim (96)"},
        {"{'model_type':'gpt_neox','use_parallel_residual':1}", "use_parallel_residual is 1"},
        {SMALL("gpt2", ""), "hidden_size"},
        {"{'model_type':'gpt2','add_cross_attention':true}", "add_cross_attention true"},
        {"{'model_type':'gpt2','n_embd':770}", "770 is not a multiple of n_head 12"},
        {"{'model_type':'nemotron'}", "no num_key_value_heads"},
        {"{'model_type':'llama','num_attention_heads':6,'hidden_size':48,'num_key_value_heads':4}",
         "num_attention_heads 6, which is not a multiple of num_key_value_heads 4"},
        {"{'model_type':'llama','hidden_size':42,'num_attention_heads':6}", "must be even"},
        {"{'model_type':'llama','hidden_size':0}", "hidden_size is 0"},
        {"{'model_type':'llama','hidden_size':-4}", "hidden_size is -4"},
        {"{'model_type':'llama','hidden_size':'big'}", "hidden_size is \"big\""},
        {"{'model_type':'llama','hidden_size':48.5}", "hidden_size is 48.5"},
        {"{'model_type':'llama','vocab_size':99999999999}", "vocab_size is 99999999999"},
        {"{'model_type':'llama','num_hidden_layers':100000}", "num_hidden_layers is 100000"},
        {"{'model_type':'llama','num_attention_heads':4194304,'num_key_value_heads':1,'head_dim':"
         "4194304}",
         "more than the limit of 4194304 channels"},
        {SMALL("llama", ",'attention_bias':1"), "attention_bias is 1"},
        {SMALL("llama", ",'tie_word_embeddings':'yes'"), "tie_word_embeddings is \"yes\""},
        {SMALL("llama", ",'hidden_act':'quick_gelu'"), "hidden_act \"quick_gelu\""},
        {SMALL("llama", ",'rms_norm_eps':-1"), "rms_norm_eps is -1"},
        {SMALL("qwen2", ",'layer_types':['full_attention']"),
         "layer_types has 1 entries for 4 layers"},
        {SMALL("qwen2", ",'layer_types':['chunked_attention','full_attention','full_attention','"
                        "full_attention']"),
         "chunked_attention"},
        {SMALL("qwen2", ",'layer_types':['sliding_attention','full_attention','full_attention','"
                        "full_attention']"),
         "no sliding_window is in use"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e;
        struct model_spec h;
        int rc = head_of(&h, cases[i].config, &e);
        CHECK(rc == -1 && e.set && strstr(e.msg, cases[i].says), "%s: \"%s\" does not say \"%s\"",
              cases[i].config, e.msg, cases[i].says);
        if (!rc)
            model_spec_free(&h);
    }
}

/* ---- hostile or contradictory stream headers */

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
    CHECK(model_spec_parameters(&want, NULL) == json_integer_value(total), "%s: parameters", name);
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
    test_ropes();
    test_longrope();
    test_two_ropes();
    test_partial_ropes();
    test_rules();
    test_refusals();
    test_headers();
    test_shared_norm();
    test_cuts();
    return check_report();
}
