/* The front matter of model cards: what is read, what is left out, and values that read back.
 * Prints "N passed, N failed". */
#include <stdlib.h>
#include <string.h>

#include "../../formats/front_matter.h"
#include "check.h"

#define CARD(entries) "---\n" entries "---\nlicense: of the text\n"

static const struct {
    const char *card, *json; /* with its keys sorted */
} cases[] = {
    {"", "{}"},
    {"# Title\n---\nlicense: mit\n---\n", "{}"},
    {"----\nlicense: mit\n---\n", "{}"},
    {"---\nlicense: mit", "{'license': 'mit'}"},
    {"---\r\nlicense: mit\r\nlanguage:\r\n- en\r\n- de\r\n---\r\n",
     "{'language': ['en', 'de'], 'license': 'mit'}"},
    {CARD("license: mit  # as ever\n# none: of this\nname: a#b c\n"),
     "{'license': 'mit', 'name': 'a#b c'}"},
    {CARD("a: 'it''s: x' # y\nb: \"\\u00fc \\\"#\"\nc: 'open\nd: \"open\ne: \"\\q\"\n"),
     "{'a': 'it's: x', 'b': '\xc3\xbc \\\"#'}"},
    {CARD("a: [en, \"d,e\", 'f', ]\nb: [\n  x,\n  y: z, # not\n  w\n]\nc: []\n"),
     "{'a': ['en', 'd,e', 'f'], 'b': ['x', 'w'], 'c': []}"},
    {CARD("a:\n  - x\n  # not\n  -\ty\n    - deeper\n\n  - k: v\n  - \"z\"\nb:\n- no\n"),
     "{'a': ['x', 'y', 'z'], 'b': ['no']}"},
    {CARD(
         "url: https://a.b/c:d\nmap:\n  x: y\na: &b c\nd: >-\n  e\nf: g\n  h\ni: ~\nj: null\nk:\n"),
     "{'url': 'https://a.b/c:d'}"},
    {CARD("a: # of these\n- x\n# not\n- y\n  and more\n- z\n  # not\nb: c\n"),
     "{'a': ['x', 'z'], 'b': 'c'}"},
    {CARD("- x: y\n x: y\n: y\nlast: 1\nlast: 2\n\xff: y\nx: \xff\n"), "{'last': '2'}"},
};

/* With ' for each ", which C would have to escape. */
static char *as_text(const char *card)
{
    json_t *entries = front_matter_read(card);
    char *text = json_dumps(entries, JSON_SORT_KEYS);
    for (char *s = text; *s; s++)
        if (*s == '"' && (s == text || s[-1] != '\\'))
            *s = '\'';
    json_decref(entries);
    return text;
}

static void check_value(const char *text, const char *want)
{
    char *value = front_matter_value(text), card[200];
    snprintf(card, sizeof card, "---\nx: %s\ny:\n- %s\nz: [%s]\n---\n", value, value, value);
    json_t *entries = front_matter_read(card);
    const json_t *y = json_array_get(json_object_get(entries, "y"), 0),
                 *z = json_array_get(json_object_get(entries, "z"), 0);
    CHECK(value && !strcmp(value, want), "%s as a value: %s, not %s", text, value, want);
    const char *x = json_string_value(json_object_get(entries, "x"));
    CHECK(x && !strcmp(x, text), "%s does not read back", text);
    CHECK(y && !strcmp(json_string_value(y), text), "%s does not read back as a member", text);
    CHECK(z && !strcmp(json_string_value(z), text), "%s does not read back in brackets", text);
    json_decref(entries);
    free(value);
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = as_text(cases[i].card);
        CHECK(!strcmp(text, cases[i].json), "case %zu: %s", i, text);
        free(text);
    }
    check_value("apache-2.0", "apache-2.0");
    check_value("https://huggingface.co/house/big", "https://huggingface.co/house/big");
    check_value("no", "\"no\"");
    check_value("1.0", "\"1.0\"");
    check_value("two words", "\"two words\"");
    check_value("a: \"b\" #c", "\"a: \\\"b\\\" #c\"");
    check_value("it's", "\"it's\"");
    check_value("", "\"\"");
    CHECK(!front_matter_value("a\nb") && !front_matter_value("\xff"), "hidden characters");
    return check_report();
}
