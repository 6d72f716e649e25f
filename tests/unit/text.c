/* Untrusted text: as JSON, and escaped for a terminal. Prints "N passed, N failed". */
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../lib/base/utf8.h"
#include "check.h"

static const struct {
    const char *given, *json, *visible;
} cases[] = {
    {"", "", ""},
    {"plain, caf\xc3\xa9, \xf0\x9f\x98\x80", "plain, caf\xc3\xa9, \xf0\x9f\x98\x80",
     "plain, caf\xc3\xa9, \xf0\x9f\x98\x80"},
    {"a\xff\xc3", "a\xef\xbf\xbd\xef\xbf\xbd", "a\\xff\\xc3"},
    {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd", "\\xe2\\x82"}, /* a cut character */
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "\\xed\\xa0\\x80"}, /* a surrogate */
    {"\x1b[2J\r\n\x7f", "\x1b[2J\r\n\x7f", "\\x1b[2J\\x0d\\x0a\\x7f"},
    {"\xc2\x9b"
     "31m",
     "\xc2\x9b"
     "31m",
     "\\xc2\\x9b31m"}, /* C1: CSI in one character */
    {"a\xe2\x80\xae"
     "b",
     "a\xe2\x80\xae"
     "b",
     "a\\xe2\\x80\\xaeb"}, /* right-to-left override */
};

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *j = json_text(cases[i].given);
        char *text = utf8_visible(cases[i].given);
        CHECK(j && !strcmp(json_string_value(j), cases[i].json), "case %zu as JSON", i);
        CHECK(!strcmp(text, cases[i].visible), "case %zu: shown as %s", i, text);
        CHECK(utf8_is_visible(text), "case %zu: %s is not safe", i, text);
        CHECK(utf8_is_visible(cases[i].given) == !strcmp(text, cases[i].given), "case %zu", i);
        json_decref(j);
        free(text);
    }
    return check_report();
}
