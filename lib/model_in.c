/* A MODEL operand, whatever stands behind it: see model.h for the reader's side, model_in.h for the source's.
 * In: a directory, a regular file (told by its first bytes), a FIFO or "-" (model streams). Refused: anything else, reading past a tensor. */
#include "model_in.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const model_file_names[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model",
    "generation_config.json", "chat_template.jinja", "LICENSE", NULL
};

static int is_gguf(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, magic, 4, 0);
    if (fd >= 0)
        close(fd);
    return n == 4 && !memcmp(magic, "GGUF", 4);
}

static int open_operand(struct model_in *in, const char *operand, struct err *e)
{
    struct stat st;
    size_t n = strlen(operand);
    if (!strcmp(operand, "-"))
        return stream_in_open(in, operand, e);
    if (stat(operand, &st) < 0)
        return err_set(e, "cannot open model '%s':", operand);
    if (S_ISDIR(st.st_mode))
        return hf_in_open(in, operand, e);
    if ((n > 12 && !strcmp(operand + n - 12, ".safetensors")) || (n > 5 && !strcmp(operand + n - 5, ".json")))
        return err_set(e, "'%s' is one file of a model directory: name the directory instead", operand);
    if (S_ISREG(st.st_mode) && is_gguf(operand))
        return gguf_in_open(in, operand, e);
    return stream_in_open(in, operand, e);
}

struct model_in *model_open(const char *operand, struct err *e)
{
    struct model_in *in = mem_alloc(sizeof *in);
    in->err = e;
    in->current = -1;
    if (open_operand(in, operand, e)) {
        free(in);
        return NULL;
    }
    return in;
}

struct model_head *model_in_head(struct model_in *in) { return &in->head; }

const char *model_in_note(const struct model_in *in) { return in->note; }

const char *model_in_file(struct model_in *in, const char *name, int64_t *bytes)
{
    return in->err->set ? NULL : in->source->file(in->self, name, bytes, in->err);
}

const char *model_in_tokenizer(struct model_in *in, const char *operand, int64_t *bytes, struct err *e)
{
    const char *text = model_in_file(in, "tokenizer.json", bytes);
    if (!text)
        err_set(e, "%s has no tokenizer.json%s", operand, model_in_file(in, "tokenizer.model", bytes)
                ? ", only a SentencePiece tokenizer.model: AutoTokenizer of transformers reads it, and its save_pretrained writes a tokenizer.json" : "");
    return text;
}

int model_next(struct model_in *in, struct tensor *t)
{
    if (in->err->set)
        return -1;
    if (in->current + 1 >= in->head.n_tensors) {
        in->left = 0;
        return in->source->end(in->self, in->err);
    }
    if (in->source->next(in->self, ++in->current, in->err))
        return -1;
    *t = in->head.tensors[in->current];
    in->left = tensor_bytes(t);
    return 1;
}

int model_read(struct model_in *in, void *buf, int64_t n)
{
    if (in->err->set)
        return -1;
    if (n < 0 || n > in->left)
        return err_set(in->err, "tensor '%s' has %" PRId64 " bytes left, not the %" PRId64 " asked for",
                       in->current < 0 ? "(none)" : in->head.tensors[in->current].name, in->left, n);
    in->left -= n;
    return in->source->read(in->self, buf, n, in->err);
}

void model_close(struct model_in *in)
{
    if (!in)
        return;
    in->source->close(in->self);
    model_head_free(&in->head);
    free(in->note);
    free(in);
}

int model_write_files(struct st_out *out, const struct model_head *h, struct model_in *files_from)
{
    for (int i = 0; i < h->n_files; i++) {
        int64_t bytes;
        const char *text = model_in_file(files_from, h->files[i].name, &bytes);
        if (!text || bytes != h->files[i].bytes)
            return err_set(files_from->err, "the model's file %s changed while it was read", h->files[i].name);
        struct tensor t = {.dtype = DT_U8, .ndim = 1, .shape = {bytes}};
        snprintf(t.name, sizeof t.name, "file/%s", h->files[i].name);
        if (st_put(out, &t, text))
            return -1;
    }
    return 0;
}

int model_copy(struct st_out *out, struct model_in *in)
{
    struct tensor t;
    int more;
    char *block = mem_alloc(ST_BLOCK);
    while ((more = model_next(in, &t)) > 0) {
        int failed = st_record(out, &t);
        while (!failed && in->left) {
            int64_t n = in->left < ST_BLOCK ? in->left : ST_BLOCK;
            failed = model_read(in, block, n) || st_write(out, block, n);
        }
        if (failed) {
            more = -1;
            break;
        }
    }
    free(block);
    return more;
}
