/* Fuzzes the reading of a tokenizer.json; one that is accepted must encode and decode a fixed text
 * with spans that add up. */
#include "../../lib/tokenizer/tokenizer.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char text[] =
    "Hello world, it's 2024!  caf\xc3\xa9 e\xcc\x81 \xe2\x96\x81 <s>x</s> aab abab\n\n\t\xff\xc3 "
    "\xe1\x84\x80\xe1\x85\xa1 \xf0\x9f\x98\x80 the the";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct ids x = {0};
    struct tokenizer *t = tokenizer_open((const char *)data, (int64_t)size, &e);
    if (!t) {
        if (!e.set)
            abort(); /* refused without a word */
        return 0;
    }
    int64_t n = sizeof text - 1, sum = 0, back;
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
    free(x.id);
    free(x.bytes);
    tokenizer_close(t);
    return 0;
}
