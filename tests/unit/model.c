/* A model in memory: loaded values are those of the golden checkpoints, as one f32 range or as
 * stored; gradients; random initialisation; written streams read back to the same bits, and
 * truncated ones are refused. Reads tests/golden; run from the repository root. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../formats/safetensors.h"
#include "../../lib/tool/model_open.h"
#include "../../lib/model/model.h"
#include "check.h"

#define GOLDEN "tests/golden/families/"

static struct err e;

static int load(struct model *m, const char *operand, int how)
{
    e = (struct err){0};
    struct model_in *in = model_open(operand, NULL, &e);
    int rc = in ? model_load(m, in, how, &e) : -1;
    model_close(in);
    return rc;
}

/* The values of a stored tensor against n loaded ones. */
static void check_values(const char *dir, const char *stored, const struct param *p, int64_t n)
{
    struct safetensors *file = sf_open(dir, &e);
    int i = file ? sf_find(file, stored) : -1;
    CHECK(i >= 0 && p && p->rows * p->cols == n, "%s of %s", stored, dir);
    if (i >= 0 && p) {
        const struct tensor *t = sf_tensor(file, i);
        float *want = mem_alloc((size_t)n * 4), *have = mem_alloc((size_t)n * 4);
        void *raw = mem_alloc((size_t)tensor_bytes(t));
        CHECK(tensor_count(t) >= n && !sf_read(file, i, 0, raw, tensor_bytes(t), &e), "%s", e.msg);
        to_f32(want, raw, t->dtype, n);
        to_f32(have, p->v, p->dtype, n);
        CHECK(!memcmp(want, have, (size_t)n * 4), "%s of %s: other values", stored, dir);
        free(want);
        free(have);
        free(raw);
    }
    sf_close(file);
}

static void test_load(void)
{
    struct model m;
    CHECK(!load(&m, GOLDEN "qwen3", MODEL_TRAIN), "%s", e.msg);
    int64_t total = model_spec_parameters(&m.spec, NULL), at = 0;
    CHECK(m.n_values == total && model_memory(&m.spec, MODEL_TRAIN, 0) == 4 * total, "%lld values",
          (long long)m.n_values);
    for (int i = 0; i < m.spec.n_tensors; i++) {
        CHECK(m.params[i].dtype == DT_F32 && m.spec.tensors[i].dtype == DT_F32, "%s is not f32",
              m.spec.tensors[i].name);
        CHECK((float *)m.params[i].v == (float *)m.weights.base + at,
              "%s is not where its running sum says", m.spec.tensors[i].name);
        at += m.params[i].rows * m.params[i].cols;
    }
    check_values(GOLDEN "qwen3", "model.layers.1.self_attn.k_norm.weight",
                 model_param(&m, 1, "k_norm.weight"), 8);
    check_values(GOLDEN "qwen3", "model.layers.2.mlp.down_proj.weight",
                 model_param(&m, 2, "down_proj.weight"), 36 * 45);
    check_values(GOLDEN "qwen3", "model.norm.weight", model_param(&m, -1, "norm.weight"), 36);
    CHECK(!model_param(&m, -1, "lm_head.weight") && !model_param(&m, 3, "q_proj.weight"),
          "absent tensors are found");
    CHECK(!model_add_grads(&m, &e), "%s", e.msg);
    for (int i = 0; i < m.spec.n_tensors; i++)
        CHECK(m.params[i].g - (float *)m.grads.base ==
                  (float *)m.params[i].v - (float *)m.weights.base,
              "gradient of %s", m.spec.tensors[i].name);
    CHECK(model_memory(&m.spec, MODEL_TRAIN, 1) == 8 * total, "memory with gradients");
    model_free(&m);

    CHECK(!load(&m, GOLDEN "qwen3", MODEL_FROZEN), "%s", e.msg);
    CHECK(model_param(&m, 0, "q_proj.weight")->dtype == DT_BF16 &&
              model_param(&m, 0, "q_norm.weight")->dtype == DT_F32,
          "frozen dtypes");
    for (int i = 0; i < m.spec.n_tensors; i++)
        CHECK((uintptr_t)m.params[i].v % 64 == 0, "%s is not aligned", m.spec.tensors[i].name);
    CHECK((int64_t)m.weights.used == model_memory(&m.spec, MODEL_FROZEN, 0),
          "memory of a frozen model");
    check_values(GOLDEN "qwen3", "model.layers.2.mlp.down_proj.weight",
                 model_param(&m, 2, "down_proj.weight"), 36 * 45);
    check_values(GOLDEN "qwen3", "model.layers.1.self_attn.k_norm.weight",
                 model_param(&m, 1, "k_norm.weight"), 8);
    model_free(&m);

    CHECK(!load(&m, GOLDEN "mistral", MODEL_FROZEN) &&
              model_param(&m, 0, "up_proj.weight")->dtype == DT_F16,
          "f16 stays: %s", e.msg);
    model_free(&m);
    CHECK(!load(&m, GOLDEN "gpt2", MODEL_FROZEN) &&
              model_param(&m, -1, "embed_positions.weight")->rows == 64,
          "positions: %s", e.msg);
    check_values(GOLDEN "gpt2", "transformer.wpe.weight",
                 model_param(&m, -1, "embed_positions.weight"), 64 * 42);
    model_free(&m);
    /* kernels read learned positions as f32 only: a bf16 gpt2 keeps its matrices, not those [64,
     * 42] */
    CHECK(!load(&m, GOLDEN "gpt2", MODEL_FROZEN), "%s", e.msg);
    model_spec_list_tensors(&m.spec, DT_BF16);
    int64_t want = 0;
    for (int i = 0; i < m.spec.n_tensors; i++) {
        const struct tensor *t = &m.spec.tensors[i];
        int wide = t->ndim == 1 || !strcmp(t->name, "embed_positions.weight");
        want += (tensor_count(t) * (wide ? 4 : 2) + 63) / 64 * 64;
    }
    CHECK(model_memory(&m.spec, MODEL_FROZEN, 0) == want, "memory of a frozen bf16 gpt2");
    model_free(&m);
    CHECK(load(&m, GOLDEN "nowhere", MODEL_TRAIN) == -1 && strstr(e.msg, "nowhere"),
          "a missing directory: %s", e.msg);
}

/* The digest is that of all values as f32, whatever they were stored as and however read. */
static void test_digest(void)
{
    static const char *const dirs[] = {GOLDEN "qwen3", GOLDEN "mistral", GOLDEN "gpt2"};
    for (int i = 0; i < 3; i++) {
        struct model wide, stored;
        struct digest d;
        char want[ST_DIGEST];
        CHECK(!load(&wide, dirs[i], MODEL_TRAIN) && !load(&stored, dirs[i], MODEL_FROZEN), "%s",
              e.msg);
        digest_open(&d);
        digest_add(&d, wide.weights.base, (size_t)wide.n_values * sizeof(float));
        digest_close(&d, want);
        CHECK(!strcmp(wide.spec.digest, want) && !strcmp(stored.spec.digest, want),
              "%s: digests %s and %s, not %s", dirs[i], wide.spec.digest, stored.spec.digest, want);
        model_free(&wide);
        model_free(&stored);
    }
}

/* mean and standard deviation */
static void moments(const struct param *p, double *mean, double *std)
{
    double s = 0, q = 0;
    int64_t n = p->rows * p->cols;
    for (int64_t i = 0; i < n; i++) {
        double v = ((float *)p->v)[i];
        s += v;
        q += v * v;
    }
    *mean = s / (double)n;
    *std = sqrt(q / (double)n - *mean * *mean);
}

static void test_random(const char *family, double range, float norm)
{
    char path[100];
    snprintf(path, sizeof path, GOLDEN "%s", family);
    struct model from, a, b;
    double mean, std;
    CHECK(!load(&from, path, MODEL_TRAIN), "%s", e.msg);
    CHECK(!model_init_random(&a, &from.spec, 5, &e), "%s", e.msg);
    double L = (double)a.spec.num_hidden_layers;
    moments(model_param(&a, -1, "embed_tokens.weight"), &mean, &std);
    CHECK(fabs(mean) < 0.1 * range && fabs(std / range - 1) < 0.05, "%s: embedding %g +- %g",
          family, mean, std);
    moments(model_param(&a, 1, "down_proj.weight"), &mean, &std);
    CHECK(fabs(std / range * sqrt(2 * L) - 1) < 0.1, "%s: down_proj +- %g", family, std);
    moments(model_param(&a, 1, "q_proj.weight"), &mean, &std);
    CHECK(fabs(std / range - 1) < 0.1, "%s: q_proj +- %g", family, std);
    moments(model_param(&a, 1, "input_layernorm.weight"), &mean, &std);
    CHECK(mean == norm && std == 0, "%s: norms start at %g", family, mean);
    if (model_param(&a, 1, "input_layernorm.bias")) {
        moments(model_param(&a, 1, "input_layernorm.bias"), &mean, &std);
        CHECK(mean == 0 && std == 0, "%s: biases start at %g", family, mean);
    }
    omp_set_num_threads(3);
    CHECK(!model_init_random(&b, &from.spec, 5, &e), "%s", e.msg);
    CHECK(!memcmp(a.weights.base, b.weights.base, (size_t)a.n_values * 4),
          "%s: the same seed gives other bits with other threads", family);
    model_free(&b);
    CHECK(!model_init_random(&b, &from.spec, 6, &e) &&
              memcmp(a.weights.base, b.weights.base, (size_t)a.n_values * 4),
          "%s: seeds", family);
    model_free(&a);
    model_free(&b);
    model_free(&from);
}

static void test_streams(void)
{
    char path[] = "/tmp/pare-model-XXXXXX.tsz";
    int fd = mkstemps(path, 4);
    close(fd);
    struct model m, again;
    CHECK(!load(&m, GOLDEN "llama31", MODEL_FROZEN), "%s", e.msg);
    model_spec_take_files(&m.spec, &(struct model_spec){0});
    json_t *head = model_spec_to_json(&m.spec);
    struct st_out *st = st_create(path, 0, &e);
    struct model_out *out = stream_sink_open(st, &m.spec, &e);
    CHECK(!st_begin(st, head) && !model_write(out, &m) && !st_end(st) && !st_publish(st), "%s",
          e.msg);
    model_out_close(out);
    CHECK(!load(&again, path, MODEL_FROZEN), "%s", e.msg);
    CHECK(again.weights.used == m.weights.used &&
              !memcmp(again.weights.base, m.weights.base, m.weights.used),
          "other bits after a round trip");
    model_free(&again);
    CHECK(!load(&again, path, MODEL_TRAIN) &&
              model_param(&again, 0, "q_proj.weight")->dtype == DT_F32,
          "%s", e.msg);
    model_free(&again);
    CHECK(!truncate(path, 60000) && load(&again, path, MODEL_TRAIN) == -1 && e.set,
          "a cut stream loads");
    json_decref(head);
    model_free(&m);
    unlink(path);
}

/* Matrices of q8_0 blocks (scale 2^-4, values by a rule), more than one piece of the loader's
 * buffer: packed where they are frozen, f32 where trained. */
static void test_q8(void)
{
    char path[] = "/tmp/pare-model-XXXXXX.tsz";
    int fd = mkstemps(path, 4);
    close(fd);
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", "llama",
                               "hidden_size", 64, "intermediate_size", 96, "num_hidden_layers", 1,
                               "num_attention_heads", 4, "num_key_value_heads", 2, "vocab_size",
                               20011);
    struct model_spec h;
    e = (struct err){0};
    CHECK(!model_spec_from_config(&h, config, &e), "%s", e.msg);
    model_spec_list_tensors(&h, DT_F32);
    for (int i = 0; i < h.n_tensors; i++)
        h.tensors[i].dtype = h.tensors[i].ndim == 2 ? DT_Q8_0 : DT_F32;
    struct st_out *out = st_create(path, 0, &e);
    json_t *head = model_spec_to_json(&h);
    CHECK(!st_begin(out, head), "%s", e.msg);
    for (int i = 0; i < h.n_tensors; i++) {
        int64_t bytes = tensor_bytes(&h.tensors[i]);
        unsigned char *data = mem_alloc((size_t)bytes);
        for (int64_t b = 0; h.tensors[i].ndim == 2 && b < bytes / Q8_BYTES; b++) {
            data[b * Q8_BYTES + 1] = 0x2c; /* f16 0x2c00 = 1/16 */
            for (int k = 0; k < Q8_BLOCK; k++)
                data[b * Q8_BYTES + 2 + k] = (unsigned char)(b * 7 + k);
        }
        CHECK(!st_put(out, &h.tensors[i], data), "%s", e.msg);
        free(data);
    }
    CHECK(!st_end(out) && !st_publish(out), "%s", e.msg);
    struct model m;
    CHECK(!load(&m, path, MODEL_FROZEN), "%s", e.msg);
    const struct param *p = model_param(&m, -1, "embed_tokens.weight");
    const unsigned char *packed = p->v;
    int64_t wrong = 0, n = p->rows * p->cols, bytes = model_spec_bytes(&h);
    for (int64_t j = 0; j < n && p->dtype == DT_Q8_0; j++)
        wrong += packed[j / 32 * Q8_BYTES + 2 + j % 32] != (unsigned char)(j / 32 * 7 + j % 32);
    CHECK(p->dtype == DT_Q8_0 && !wrong, "%lld of the packed values are wrong", (long long)wrong);
    CHECK(m.weights.used >= (size_t)bytes && m.weights.used < (size_t)bytes + 4096,
          "%zu bytes for %lld of weights", m.weights.used, (long long)bytes);
    model_free(&m);
    CHECK(!load(&m, path, MODEL_TRAIN), "%s", e.msg);
    p = model_param(&m, -1, "embed_tokens.weight");
    for (int64_t j = 0; j < n; j++)
        wrong += ((float *)p->v)[j] != (float)(int8_t)(j / 32 * 7 + j % 32) / 16;
    CHECK(p->dtype == DT_F32 && !wrong, "%lld of the q8_0 values are wrong", (long long)wrong);
    model_free(&m);
    model_spec_free(&h);
    json_decref(head);
    json_decref(config);
    unlink(path);
}

int main(void)
{
    test_load();
    test_digest();
    test_random("llama", 0.02, 1);
    test_random("nemotron", 0.0134, 0);
    test_streams();
    test_q8();
    return check_report();
}
