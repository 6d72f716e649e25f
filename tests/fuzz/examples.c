/* Any bytes as a line of JSON Lines, for some chat templates and both kinds of tokenizers: refused
 * with a message that begins with the place, or else encoded with flags that only say what counts.
 */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/file.h"
#include "../../lib/data/data.h"
#include "../../lib/data/records.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static struct tokenizer *open_tokenizer(const char *path)
{
    struct err e = {0};
    int64_t n;
    char *json = file_read(path, 1 << 24, &n, &e);
    struct tokenizer *t = json ? tokenizer_open(json, n, &e) : NULL;
    if (!t)
        abort();
    free(json);
    return t;
}

static void try(struct tokenizer *t, const char *template, const char *field, const char *line,
                size_t n)
{
    struct examples x;
    struct bos bos = {.begin = {.ids = {1}, .n = 1}};
    struct err e = {0};
    struct ids out = {0};
    examples_open(&x, t, &bos, field, template, NULL);
    int failed = examples_line(&x, "line", line, (int64_t)n, &out, &e);
    if (failed ? !e.set || strncmp(e.msg, "line", 4) : e.set || !out.n)
        abort();
    for (int64_t i = 0; i < out.n; i++)
        if (out.flags[i] & ~TOKEN_UNCOUNTED || out.id[i] >= tokenizer_vocab_size(t))
            abort();
    ids_free(&out);
    examples_close(&x);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const char *const templates[] = {"smollm2", "llama3.1", "mistral-v1", "mistral-v3",
                                            "gemma3"};
    static const char *const fields[] = {NULL, "messages", "prompt+completion"};
    static struct tokenizer *tokenizers[2];
    if (!tokenizers[0]) {
        tokenizers[0] = open_tokenizer("tests/golden/chat/smollm.json");
        tokenizers[1] = open_tokenizer("tests/golden/chat/spm.json");
    }
    for (int i = 0; i < 5; i++)
        try(tokenizers[i == 2 || i == 3], templates[i], fields[i % 3], (const char *)data, size);
    return 0;
}
