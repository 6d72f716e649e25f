/* Fuzzes the reading of a tokenizer.json and its use. Input: a tokenizer.json; if a NUL byte
 * follows, what comes after it is the text to encode, else a fixed one. A tokenizer that is
 * accepted must encode the text with spans that add up, and decode the ids. Then again with some of
 * the model's flags inverted; the bytes of the input decide which, so that every pair of flags
 * meets every change. */
#include "../../lib/tokenizer/tokenizer.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The long runs at the end outgrow the encoder's arrays. */
#define RUN "\xc3\xa9\xff\x01\xe2\x96\x81\xc3\xa9\xff\x01\xe2\x96\x81\xc3\xa9\xff\x01\xe2\x96\x81"
static const char fixed_text[] =
    "Hello world, it's 2024!  caf\xc3\xa9 e\xcc\x81 \xe2\x96\x81 <s>x</s> aab abab\n\n\t\xff\xc3 "
    "\xe1\x84\x80\xe1\x85\xa1 \xf0\x9f\x98\x80 the the" RUN RUN RUN RUN RUN RUN RUN RUN;

static void use(struct tokenizer *t, const char *text, int64_t n)
{
    struct err e = {0};
    struct ids x = {0};
    int64_t sum = 0, back;
    if (tokenizer_encode(t, text, n, &x, &e) >= 0) {
        for (int64_t i = 0; i < x.n; i++) {
            sum += x.bytes[i];
            if (x.id[i] >= tokenizer_vocab_size(t))
                abort();
        }
        if (sum + tokenizer_dropped(t) != n)
            abort();
    }
    free(tokenizer_decode(t, x.id, x.n, 0, &back));
    ids_free(&x);
}

static void try(const char *json, size_t size, const char *text, size_t n)
{
    struct err e = {0};
    struct tokenizer *t = tokenizer_open(json, (int64_t)size, &e);
    if (!t && !e.set)
        abort(); /* refused without a message */
    if (t)
        use(t, text, (int64_t)n);
    tokenizer_close(t);
}

enum { FALLBACK = 1, FUSE = 2, IGNORE = 4, BYTE_LEVEL = 8, UNKNOWN = 16, VARIANTS = 32 };

static void turn(json_t *whole, unsigned how)
{
    json_t *model = json_object_get(whole, "model"), *vocab = json_object_get(model, "vocab");
    const char *first = json_object_iter_key(json_object_iter(vocab));
    json_object_set_new(model, "byte_fallback", json_boolean(how & FALLBACK));
    json_object_set_new(model, "fuse_unk", json_boolean(how & FUSE));
    json_object_set_new(model, "ignore_merges", json_boolean(how & IGNORE));
    if (how & BYTE_LEVEL)
        json_object_set_new(whole, "pre_tokenizer",
                            json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                      "use_regex", how & FUSE));
    json_object_set_new(model, "unk_token",
                        how & UNKNOWN && first ? json_string(first) : json_null());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *json = (const char *)data, *nul = size ? memchr(json, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - json) : size;
    const char *text = nul ? nul + 1 : fixed_text;
    size_t text_n = nul ? size - n - 1 : sizeof fixed_text - 1;
    unsigned how = 0;
    for (size_t i = 0; i < size; i++)
        how += data[i];
    try(json, n, text, text_n);
    json_t *whole = json_loadb(json, n, 0, NULL);
    if (json_is_object(json_object_get(whole, "model"))) {
        turn(whole, how % VARIANTS);
        char *turned = json_dumps(whole, 0);
        try(turned, strlen(turned), text, text_n);
        free(turned);
    }
    json_decref(whole);
    return 0;
}
