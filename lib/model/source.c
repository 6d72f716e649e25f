/* Reading a model from any kind of source: see source.h. */
#include "source.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "../base/minmax.h"

const char *const model_file_names[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model",
                                        "generation_config.json",
                                        "chat_template.jinja",
                                        "LICENSE",
                                        "README.md",
                                        NULL};

struct model_spec *model_in_spec(struct model_in *in) { return &in->spec; }

const char *model_in_note(const struct model_in *in) { return in->note; }

const char *model_in_file(struct model_in *in, const char *name, int64_t *bytes)
{
    return in->err->set ? NULL : in->source->file(in->self, name, bytes, in->err);
}

const char *model_in_tokenizer(struct model_in *in, const char *operand, int64_t *bytes,
                               struct err *e)
{
    const char *text = model_in_file(in, "tokenizer.json", bytes);
    if (!text)
        err_set(e, "%s has no tokenizer.json%s", operand,
                model_in_file(in, "tokenizer.model", bytes)
                    ? ", only a SentencePiece tokenizer.model: load it with AutoTokenizer of "
                      "transformers and write tokenizer.json with save_pretrained"
                    : "");
    return text;
}

void model_digest(struct model_in *in)
{
    assert(in->current < 0 && !in->with_digest);
    in->with_digest = 1;
    digest_open(&in->values);
}

/* A multiple of every dtype's smallest piece, and small enough for a core's own cache. */
enum { WIDENED = 4096 };

static void add_values(struct digest *d, enum dtype dtype, const void *data, int64_t bytes)
{
    float wide[WIDENED];
    int64_t n = bytes * Q8_BLOCK / dtype_bytes(dtype, Q8_BLOCK);
    assert(dtype_bytes(dtype, n) == bytes);
    if (dtype == DT_F32) {
        digest_add(d, data, (size_t)bytes);
        return;
    }
    for (int64_t at = 0; at < n; at += WIDENED) {
        int64_t k = min64(n - at, WIDENED);
        to_f32(wide, (const char *)data + dtype_bytes(dtype, at), dtype, k);
        digest_add(d, wide, (size_t)k * sizeof *wide);
    }
}

static int end(struct model_in *in)
{
    if (in->source->end(in->self, in->err))
        return -1;
    if (in->with_digest)
        digest_close(&in->values, in->spec.digest);
    in->with_digest = 0;
    return 0;
}

int model_next(struct model_in *in, struct tensor *t)
{
    if (in->err->set)
        return -1;
    assert(!in->with_digest || !in->left);
    if (in->current + 1 >= in->spec.n_tensors) {
        in->left = 0;
        return end(in);
    }
    if (in->source->next(in->self, ++in->current, in->err))
        return -1;
    *t = in->spec.tensors[in->current];
    in->left = tensor_bytes(t);
    return 1;
}

int model_read(struct model_in *in, void *buf, int64_t n)
{
    if (in->err->set)
        return -1;
    if (in->current < 0 || n < 0 || n > in->left)
        return err_set(in->err, "tensor '%s' has only %" PRId64 " bytes left, not %" PRId64,
                       in->current < 0 ? "(none)" : in->spec.tensors[in->current].name, in->left,
                       n);
    int64_t at = tensor_bytes(&in->spec.tensors[in->current]) - in->left;
    in->left -= n;
    if (in->source->read(in->self, in->current, at, buf, n, in->err))
        return -1;
    if (in->with_digest)
        add_values(&in->values, in->spec.tensors[in->current].dtype, buf, n);
    return 0;
}

void model_close(struct model_in *in)
{
    if (!in)
        return;
    in->source->close(in->self);
    if (in->with_digest)
        digest_close(&in->values, in->spec.digest);
    model_spec_free(&in->spec);
    free(in->note);
    free(in);
}
