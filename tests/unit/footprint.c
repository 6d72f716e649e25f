/* Costs of a shape: counts, bytes and FLOPs worked out by hand for tiny models, with each thing
 * that changes them alone, and published figures. */
#include <math.h>

#include "spec.h"

/* Of a llama with V 10, E 4, F 6, L 2, H 2, K 1, D 4:
 * embed_tokens and lm_head 40 each; a layer: norms 4 + 4, q 32, k 16, v 16, o 32, gate, up and down
 * 24 each, in all 176, of which 168 in matrices; norm 4. */
#define TINY(more) \
    "'hidden_size':4,'intermediate_size':6,'num_hidden_layers':2,'num_attention_heads':2," \
    "'num_key_value_heads':1,'head_dim':4,'vocab_size':10" more "}"

static const struct footprint_options at_5 = {DT_F32, DT_F16, 5};

static void has(const char *name, const struct model_spec *h, const struct footprint_options *o,
                struct footprint want)
{
    struct footprint f = model_footprint(h, o);
#define SAME(field) \
    CHECK(f.field == want.field, "%s: " #field " %lld, not %lld", name, (long long)f.field, \
          (long long)want.field)
    SAME(parameters);
    SAME(non_embedding);
    SAME(active);
    SAME(weight_bytes);
    SAME(active_bytes);
    SAME(kv_bytes);
    CHECK(fabs(f.prefill_flops - want.prefill_flops) < 1e-9, "%s: %g FLOPs", name, f.prefill_flops);
    CHECK(fabs(f.decode_flops - want.decode_flops) < 1e-9, "%s: %g FLOPs", name, f.decode_flops);
}

static void config_has(const char *name, const char *config, struct footprint want)
{
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h, config, &e), "%s: %s", name, e.msg);
    has(name, &h, &at_5, want);
    model_spec_free(&h);
}

/* FLOPs: 2 (40 + 2 * 168) = 752 in matrices, and 4 * 2 * 4 = 32 for each key of a layer. Positions
 * 1..5 attend to 3 keys on average, the last to 5. Keys and values: 2 * 4 * 2 bytes = 16 for each
 * position of a layer. */
static void test_parts(void)
{
    config_has("untied", "{'model_type':'llama'," TINY(""),
               (struct footprint){436, 356, 400, 1744, 1600, 160, 752 + 192, 752 + 320});
    config_has("tied", "{'model_type':'llama'," TINY(",'tie_word_embeddings':true"),
               (struct footprint){396, 356, 396, 1584, 1584, 160, 752 + 192, 752 + 320});
    /* a window of 2: 1, 2, 2, 2, 2 keys */
    config_has("window", "{'model_type':'mistral'," TINY(",'sliding_window':2"),
               (struct footprint){436, 356, 400, 1744, 1600, 64, 752 + 115.2, 752 + 128});
    /* only in layers 0, 2, ..., and norms after each branch: 8 a layer */
    config_has("window in every other layer", "{'model_type':'gemma2'," TINY(",'sliding_window':2"),
               (struct footprint){412, 372, 412, 1648, 1648, 112, 752 + 153.6, 752 + 224});
    /* 5 positions of 4, of which a token needs one; E 4 = H 2 * D 2; biases; norms with a bias:
     * a layer is 4 * (16 + 4) + 2 * 8 + 6 * 4 + 6 + 4 * 6 + 4 = 154, the last norm 8 */
    config_has("learned positions",
               "{'model_type':'gpt2','n_embd':4,'n_inner':6,'n_layer':2,'n_head':2,"
               "'vocab_size':10,'n_positions':5}",
               (struct footprint){376, 316, 360, 1504, 1440, 160, 528 + 96, 528 + 160});
}

/* Three experts of 6 neurons, two for a token: a layer has 104 for norms and attention, a router of
 * 12, 3 * 72 for experts; of these a token uses 72 fewer. Published: Mixtral 8x7B uses 12.9 billion
 * of 46.7. */
static void test_experts(void)
{
    config_has("experts", "{'model_type':'mixtral','num_local_experts':3," TINY(""),
               (struct footprint){748, 668, 568, 2992, 2272, 160, 1088 + 192, 1088 + 320});
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h, "{'model_type':'mixtral'}", &e), "%s", e.msg);
    struct footprint f = model_footprint(&h, &at_5);
    CHECK(f.parameters == 46702792704 && fabs((double)f.active / 1e9 - 12.75) < 0.01,
          "Mixtral uses %lld of %lld", (long long)f.active, (long long)f.parameters);
    model_spec_free(&h);
}

/* Sizes and kinds that differ between layers: layer 1 has two KV heads, 32 more parameters; then it
 * has no attention, 132 fewer. */
static void test_layers(void)
{
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h, "{'model_type':'llama'," TINY(""), &e), "%s", e.msg);
    h.layers[1].num_key_value_heads = 2;
    has("more KV heads", &h, &at_5,
        (struct footprint){468, 388, 432, 1872, 1728, 240, 816 + 192, 816 + 320});
    h.layers[1].kinds = KIND_mlp;
    has("half a layer", &h, &at_5,
        (struct footprint){336, 256, 300, 1344, 1200, 80, 560 + 96, 560 + 160});
    model_spec_free(&h);
}

/* V 2, E 32, F 64, one head of 32, one layer, tied: 66 rows of 32 in embed, gate and up, 4 * 32 in
 * attention, 32 rows of 64 in down; three norms of 32. */
static void test_dtypes(void)
{
    static const struct {
        enum dtype weights, cache;
        int64_t bytes, kv;
    } rows[] = {{DT_F64, DT_F32, 8 * 10400, 256},
                {DT_F32, DT_F32, 4 * 10400, 256},
                {DT_BF16, DT_BF16, 2 * 10400, 128},
                {DT_Q8_0, DT_Q8_0, 34 * (2 + 128 + 128 + 64) + 4 * 96, 68}};
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h,
                   "{'model_type':'llama','hidden_size':32,'intermediate_size':64,"
                   "'num_hidden_layers':1,'num_attention_heads':1,'vocab_size':2,"
                   "'tie_word_embeddings':true}",
                   &e),
          "%s", e.msg);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct footprint f = model_footprint(
            &h, &(struct footprint_options){rows[i].weights, rows[i].cache, 1});
        CHECK(f.weight_bytes == rows[i].bytes && f.active_bytes == rows[i].bytes, "%s: %lld bytes",
              dtype_name(rows[i].weights), (long long)f.weight_bytes);
        CHECK(f.kv_bytes == rows[i].kv, "%s: cache of %lld bytes", dtype_name(rows[i].cache),
              (long long)f.kv_bytes);
    }
    /* rows of 40 are no whole blocks: down is f16 */
    h.layers[0].intermediate_size = 40;
    struct footprint f = model_footprint(&h, &(struct footprint_options){DT_Q8_0, DT_F16, 1});
    CHECK(f.weight_bytes == 34 * (2 + 80 + 128) + 2 * 32 * 40 + 4 * 96, "rows of 40: %lld bytes",
          (long long)f.weight_bytes);
    /* what is stored */
    model_spec_list_tensors(&h, DT_BF16);
    f = model_footprint(&h, &(struct footprint_options){DT_BF16, DT_F16, 1});
    CHECK(f.weight_bytes == model_spec_bytes(&h) && f.parameters == model_spec_parameters(&h, NULL),
          "as stored");
    model_spec_free(&h);
}

/* Llama-3.1-8B: 8.03e9 parameters, 1 GiB of f16 keys and values at 8,192 positions, and
 * 2 (8030261248 - 128256 * 4096 - 266240 in norms) FLOPs and 4 * 4096 * 32 for each key. */
static void test_published(void)
{
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h,
                   "{'model_type':'llama','hidden_size':4096,'intermediate_size':14336,"
                   "'num_hidden_layers':32,'num_attention_heads':32,'num_key_value_heads':8,"
                   "'vocab_size':128256}",
                   &e),
          "%s", e.msg);
    has("Llama-3.1-8B", &h, &(struct footprint_options){DT_BF16, DT_F16, 8192},
        (struct footprint){8030261248, 6979588096, 7504928768, 16060522496, 15009857536, 1 << 30,
                           2 * 7504658432.0 + 524288 * 4096.5, 2 * 7504658432.0 + 524288 * 8192.0});
    model_spec_free(&h);
}

/* A model of random values has the bytes that are counted, and loads. */
static void test_random_values(void)
{
    static const enum dtype types[] = {DT_F32, DT_BF16, DT_F16, DT_Q8_0};
    struct err e;
    struct model_spec h;
    CHECK(!head_of(&h, "{'model_type':'llama'," TINY(",'intermediate_size':64"), &e), "%s", e.msg);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct footprint f = model_footprint(&h, &(struct footprint_options){types[i], DT_F16, 1});
        struct model_in *in = model_random(&h, types[i], &e);
        CHECK(model_spec_bytes(model_in_spec(in)) == f.weight_bytes, "%s: %lld bytes",
              dtype_name(types[i]), (long long)model_spec_bytes(model_in_spec(in)));
        struct model m;
        CHECK(!model_load(&m, in, MODEL_FROZEN, &e), "%s", e.msg);
        double largest = 0, sum = 0;
        float v[64];
        const struct param *p = model_param(&m, 1, "down_proj.weight");
        to_f32(v, p->v, p->dtype, 64);
        for (int k = 0; k < 64; k++) {
            largest = fmax(largest, fabs(v[k]));
            sum += v[k] * v[k];
        }
        CHECK(largest < 0.1 && sum > 64 * 1e-4 && sum < 64 * 1e-3, "%s: largest %g, squares %g",
              dtype_name(types[i]), largest, sum / 64);
        model_free(&m);
        model_close(in);
    }
    model_spec_free(&h);
}

int main(void)
{
    test_parts();
    test_experts();
    test_layers();
    test_dtypes();
    test_published();
    test_random_values();
    return check_report();
}
