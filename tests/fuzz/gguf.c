/* Any bytes as a GGUF file: opened at the format level, reading every tensor to its last byte and
 * every metadata value; then as a model, with its files and all its tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/gguf.h"
#include "../../lib/tool/model_open.h"
#include "../../lib/model/model.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void values_read(const struct gguf *g)
{
    for (int i = 0; i < gguf_values(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        struct gguf_text text;
        int64_t at = 0, whole, count = 0;
        double real;
        while (gguf_next_text(v, &at, &text))
            count++;
        if (v->kind == GGUF_TEXT && count != v->n)
            abort();
        if (v->n && v->kind != GGUF_TEXT && !gguf_real(v, v->n - 1, &real) &&
            !(v->kind == GGUF_U64 && !gguf_int(v, v->n - 1, &whole)))
            abort();
    }
}

static void tensors_read(struct gguf *g)
{
    char last;
    struct err e = {0};
    for (int i = 0; i < gguf_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor(g, i);
        if (gguf_find(g, t->name) != i || t->bytes < 1 ||
            gguf_read(g, i, t->bytes - 1, &last, 1, &e))
            abort();
    }
}

static void model_read_all(const char *path)
{
    struct err e = {0};
    struct tensor t;
    char block[4096];
    struct model_in *in = model_open(path, NULL, &e);
    if ((in == NULL) != e.set)
        abort();
    int64_t total = 0, limit = 4 << 20;
    while (in && total < limit && model_next(in, &t) > 0)
        for (int64_t left = tensor_bytes(&t), n; left > 0 && total < limit; left -= n, total += n)
            if (model_read(in, block,
                           n = left < (int64_t)sizeof block ? left : (int64_t)sizeof block))
                abort();
    model_close(in);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct err e = {0};
    struct gguf *g = gguf_open(path, &e);
    if ((g == NULL) != e.set)
        abort();
    if (g) {
        values_read(g);
        tensors_read(g);
        gguf_close(g);
        model_read_all(path);
    }
    close(fd);
    return 0;
}
