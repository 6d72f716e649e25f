/* Reading a model from any kind of source: see source.h. */
#include "source.h"

#include <inttypes.h>
#include <stdlib.h>

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

int model_next(struct model_in *in, struct tensor *t)
{
    if (in->err->set)
        return -1;
    if (in->current + 1 >= in->spec.n_tensors) {
        in->left = 0;
        return in->source->end(in->self, in->err);
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
    return in->source->read(in->self, in->current, at, buf, n, in->err);
}

void model_close(struct model_in *in)
{
    if (!in)
        return;
    in->source->close(in->self);
    model_spec_free(&in->spec);
    free(in->note);
    free(in);
}
