/* Rope tables match numbers worked by hand: every kind of scaling, tables for long sequences, one
 * table for each kind of layer, partial rotation. */
#include <math.h>

#include "spec.h"

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

int main(void)
{
    test_ropes();
    test_longrope();
    test_two_ropes();
    test_partial_ropes();
    return check_report();
}
