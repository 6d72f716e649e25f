/* Values as msgpack: round trips, values that are cut, bytes after a value. */
#include "../../formats/mpk.h"

#include <stdlib.h>
#include <string.h>

#include "../../lib/base/mem.h"
#include "check.h"

/* The value of exactly these bytes; NULL: refused or incomplete. */
static json_t *decode(const unsigned char *p, size_t n)
{
    struct mpk_scan s = {.limits = {n, 1 << 20}};
    const char *why = NULL;
    return mpk_scan(&s, p, n, &why) == 1 && s.at == n ? mpk_decode(p, n, &why) : NULL;
}

static void check_value(const char *text)
{
    unsigned char *p = NULL;
    size_t n = 0;
    const char *why = "";
    json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
    CHECK(!mpk_encode(v, &p, &n, &why), "%s: %s", text, why);
    json_t *w = decode(p, n);
    CHECK(w && json_equal(v, w), "%s comes back as another value", text);
    for (size_t k = 0; k < n; k++) {
        json_t *x = decode(p, k);
        CHECK(!x, "%s: read from %zu of %zu bytes", text, k, n);
        json_decref(x);
    }
    p = mem_grow(p, n + 1);
    p[n] = 0xc0;
    CHECK(!decode(p, n + 1), "%s: read with a byte after it", text);
    free(p);
    json_decref(v);
    json_decref(w);
}

int main(void)
{
    static const char *const texts[] = {"null",
                                        "true",
                                        "0",
                                        "-1",
                                        "-33",
                                        "127",
                                        "128",
                                        "65535",
                                        "65536",
                                        "4294967296",
                                        "-9223372036854775808",
                                        "0.1",
                                        "-1e300",
                                        "\"\"",
                                        "\"\xc3\xa9\"",
                                        "[]",
                                        "{}",
                                        "[1,[2,{\"a\":[]}],\"x\"]",
                                        "{\"b\":1,\"a\":{\"z\":2.5,\"y\":null}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_value(texts[i]);
    return check_report();
}
