/* Writing models: a directory written in pieces of any size has the bytes of one copied in blocks;
 * an incomplete model is refused and leaves nothing behind. Reads tests/golden; run from the
 * repository root. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/base/file.h"
#include "../../lib/hf/hf.h"
#include "../../lib/tool/model_open.h"
#include "check.h"

#define GOLDEN "tests/golden/families/"

static struct err e;
static char at[] = "/tmp/pare-sink-XXXXXX", dir[64];

static struct model_out *open_dir(const struct model_spec *spec)
{
    struct hf_sink_options o = {.keep_dtype = 1, .overwrite = 1};
    e = (struct err){0};
    return hf_sink_open(spec, dir, &o, &e);
}

static void remove_dir(void)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = mem_format("%s/%s", dir, names[i]);
        unlink(path);
        free(path);
    }
    rmdir(dir);
}

static char *weights(int64_t *bytes)
{
    char *path = mem_format("%s/model.safetensors", dir),
         *text = file_read(path, 1 << 30, bytes, &e);
    free(path);
    return text;
}

/* Every tensor of `in` in pieces of n bytes. */
static int copy_pieces(struct model_out *out, struct model_in *in, int64_t n)
{
    struct tensor t;
    char piece[4096];
    int more = model_copy_files(out, in) ? -1 : 1;
    while (more > 0 && (more = model_next(in, &t)) > 0)
        for (int failed = model_out_next(out); in->left && more > 0;) {
            int64_t k = in->left < n ? in->left : n;
            if (failed || model_read(in, piece, k) || model_out_write(out, piece, k))
                more = -1;
        }
    return more ? -1 : model_out_end(out);
}

static void test_pieces(const char *model)
{
    char *operand = mem_format(GOLDEN "%s", model), *copied, *pieced = NULL;
    int64_t n = 0, m = 0;
    for (int64_t piece = 0; piece <= 4096; piece = piece ? piece * 585 : 7) {
        struct model_in *in = model_open(operand, NULL, &e);
        struct model_out *out = open_dir(model_in_spec(in));
        CHECK(out && !(piece ? copy_pieces(out, in, piece) : model_copy(out, in, NULL, NULL)),
              "%s: %s", model, e.msg);
        model_out_close(out);
        model_close(in);
        copied = weights(&n);
        if (!piece) {
            pieced = copied;
            m = n;
            continue;
        }
        CHECK(copied && pieced && n == m && !memcmp(copied, pieced, (size_t)n),
              "%s in pieces of %lld bytes", model, (long long)piece);
        free(copied);
    }
    free(pieced);
    free(operand);
    remove_dir();
}

/* One call too few or too many, each refused with its reason; no directory appears. */
static void test_refusals(void)
{
    struct model_in *in = model_open(GOLDEN "gpt2", NULL, &e);
    const struct model_spec *h = model_in_spec(in);
    int64_t bytes = tensor_bytes(&h->tensors[0]), largest = 0;
    for (int i = 0; i < h->n_tensors; i++)
        largest = tensor_bytes(&h->tensors[i]) > largest ? tensor_bytes(&h->tensors[i]) : largest;
    char *zeros = mem_alloc((size_t)largest + 1);

    struct model_out *out = open_dir(h);
    CHECK(model_out_write(out, zeros, 1) && strstr(e.msg, "(none)"), "%s", e.msg);
    model_out_close(out);

    out = open_dir(h);
    CHECK(!model_out_next(out) && model_out_write(out, zeros, bytes + 1) &&
              strstr(e.msg, "more bytes"),
          "%s", e.msg);
    model_out_close(out);

    out = open_dir(h);
    CHECK(!model_out_next(out) && !model_out_write(out, zeros, bytes - 1) && model_out_next(out) &&
              strstr(e.msg, "lacks 1 of"),
          "%s", e.msg);
    model_out_close(out);

    out = open_dir(h);
    CHECK(model_out_end(out) && strstr(e.msg, "before its file generation_config.json"), "%s",
          e.msg);
    model_out_close(out);

    out = open_dir(h);
    CHECK(!model_copy_files(out, in) && model_out_end(out) && strstr(e.msg, "before tensor"), "%s",
          e.msg);
    model_out_close(out);
    CHECK(access(dir, F_OK), "%s is there though nothing was whole", dir);

    out = open_dir(h);
    model_copy_files(out, in);
    for (int i = 0; i < h->n_tensors; i++)
        model_out_tensor(out, zeros);
    CHECK(model_out_file(out, zeros) && strstr(e.msg, "only 1 files"), "%s", e.msg);
    e = (struct err){0};
    CHECK(model_out_next(out) && strstr(e.msg, "only"), "%s", e.msg);
    e = (struct err){0};
    CHECK(!model_out_end(out) && !access(dir, F_OK), "%s", e.msg);
    model_out_close(out);
    model_close(in);
    free(zeros);
    remove_dir();
}

/* Tensors of several blocks, straight (the embedding) and transposed (the MLP): they read back to
 * the same bits. */
static void test_blocks(void)
{
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", "gpt2",
                               "n_embd", 64, "n_inner", 40000, "n_layer", 1, "n_head", 4,
                               "n_positions", 16, "vocab_size", 40000);
    struct model_spec h = {0};
    struct model m = {0}, again = {0};
    CHECK(!model_spec_from_config(&h, config, &e) && !model_init_random(&m, &h, 5, &e), "%s",
          e.msg);
    struct model_out *out = open_dir(&m.spec);
    CHECK(out && !model_write(out, &m), "%s", e.msg);
    model_out_close(out);
    struct model_in *in = model_open(dir, NULL, &e);
    CHECK(in && !model_load(&again, in, MODEL_TRAIN, &e), "%s", e.msg);
    CHECK(m.n_values > 7680000 && m.n_values == again.n_values &&
              !memcmp(m.weights.base, again.weights.base, (size_t)m.n_values * 4),
          "other values came back");
    model_close(in);
    model_free(&m);
    model_free(&again);
    model_spec_free(&h);
    json_decref(config);
    remove_dir();
}

int main(void)
{
    if (!mkdtemp(at))
        return 1;
    snprintf(dir, sizeof dir, "%s/model", at);
    test_pieces("gpt2"); /* transposed */
    test_pieces("phi3"); /* fused */
    test_pieces("qwen3");
    test_refusals();
    test_blocks();
    rmdir(at);
    return check_report();
}
