/* What goes wrong with a part of a vocabulary: a model whose files cannot be rewritten, and one
 * whose rows cannot be taken apart. */
#include <string.h>

#include "../../lib/prune/vocab.h"
#include "spec.h"

enum { V = 64 };

#define PHI \
    "{'model_type':'phi','hidden_size':32,'intermediate_size':32,'num_hidden_layers':1," \
    "'num_attention_heads':2,'vocab_size':64}"

/* Random values; the bias of the head in `dtype`. */
static struct model_in *phi(enum dtype dtype, struct err *e)
{
    struct model_spec h;
    CHECK(!head_of(&h, PHI, e), "%s", e->msg);
    struct model_in *in = model_random(&h, DT_F32, e);
    struct model_spec *own = model_in_spec(in);
    own->tensors[model_spec_find(own, "lm_head.bias")].dtype = dtype;
    model_spec_free(&h);
    return in;
}

/* The bias of 32 tokens, which end in another block than they begin in. */
static int take_rows(enum dtype dtype, struct err *e)
{
    struct model m;
    int64_t ids[V / 2];
    for (int64_t i = 0; i < V / 2; i++)
        ids[i] = i < 8 ? i : i + 16;
    struct model_in *in = model_take_rows(phi(dtype, e), ids, V / 2);
    int failed = model_load(&m, in, MODEL_TRAIN, e);
    model_free(&m);
    model_close(in);
    return failed;
}

static void test_rows(void)
{
    struct err e = {0};
    CHECK(!take_rows(DT_F16, &e), "%s", e.msg);
    CHECK(take_rows(DT_Q8_0, &e) && strstr(e.msg, "lm_head.bias is a vector of q8_0"), "%s", e.msg);
}

/* The model lists files that it does not contain. */
static void test_files(void)
{
    static const char *const names[] = {"vocab.json", "tokenizer.json", "LICENSE"};
    static const char json[] = "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}}";
    const int64_t index[] = {0};
    struct err e = {0};
    struct vocab_files files = {0};
    struct model_in *in = phi(DT_F32, &e);
    struct model_spec h;
    struct vocab v = {.tokenizer = tokenizer_open(json, sizeof json - 1, &e), .size = V};
    model_spec_copy(&h, model_in_spec(in));
    h.files = mem_alloc(3 * sizeof *h.files);
    for (h.n_files = 0; h.n_files < 3; h.n_files++)
        h.files[h.n_files].name = mem_string(names[h.n_files]);
    CHECK(v.tokenizer && vocab_files_make(&files, &v, index, 1, in, &h, &e) &&
              strstr(e.msg, "file tokenizer.json"),
          "%s", e.msg);
    CHECK(h.n_files == 2 && !strcmp(h.files[0].name, "tokenizer.json") &&
              !strcmp(h.files[1].name, "LICENSE") && h.files[0].name != h.files[1].name,
          "%d files", h.n_files);
    vocab_files_close(&files, &h);
    vocab_close(&v);
    model_spec_free(&h);
    model_close(in);
}

int main(void)
{
    test_rows();
    test_files();
    return check_report();
}
