/* XXH3-128 of a sequence of pieces: see stream.h. The function is compiled here, for the kernels'
 * instruction set: distributions build libxxhash for the oldest processor they support, which
 * hashes at a half to a third of the speed. In a pipeline of model streams this shows, since every
 * stage hashes what it reads and what it writes. */
#define XXH_INLINE_ALL
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "../lib/base/mem.h"
#include "stream.h"

void digest_open(struct digest *d)
{
    d->state = mem_must(XXH3_createState());
    XXH3_128bits_reset(d->state);
}

void digest_add(struct digest *d, const void *data, size_t n)
{
    XXH3_128bits_update(d->state, data, n);
}

/* Spelled as `xxhsum -H2` prints it. */
void digest_close(struct digest *d, char hex[ST_DIGEST])
{
    XXH128_canonical_t c;
    XXH128_canonicalFromHash(&c, XXH3_128bits_digest(d->state));
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", c.digest[i]);
    XXH3_freeState(d->state);
    d->state = NULL;
}

int digest_is(const char *s)
{
    return strlen(s) == ST_DIGEST - 1 && strspn(s, "0123456789abcdef") == ST_DIGEST - 1;
}

int digest_may_equal(const char *a, const char *b) { return !*a || !*b || !strcmp(a, b); }
