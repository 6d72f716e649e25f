/* The scanner for large JSON files: strings and numbers, what a strict reader accepts and refuses,
 * members of an object. */
#include "../../formats/json_scan.h"

#include <string.h>

#include "check.h"

static void test_scanner(void)
{
    struct json_scan j;
    int64_t n;
    json_scan_open(&j, "  \"a\\u00e9\\ud83d\\ude00\\n\\\\\" , 12 ", 34);
    const char *s = json_string_text(&j, &n);
    CHECK(s && n == 9 && !memcmp(s, "a\xc3\xa9\xf0\x9f\x98\x80\n\\", 9), "escapes");
    json_need(&j, ',');
    CHECK(json_whole(&j) == 12 && !j.failed, "a number");
    json_scan_close(&j);
    static const char *const bad[] = {"\"\\ud83d\"", "\"\\x\"", "\"\\u12g4\"", "\"a", "a", "\"\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_scan_open(&j, bad[i], (int64_t)strlen(bad[i]));
        CHECK(!json_string_text(&j, &n) && j.failed, "taken for a string: %s", bad[i]);
        json_scan_close(&j);
    }
}

/* What a strict reader accepts and refuses (RFC 8259, sections 2 to 8). */
static void test_strict(void)
{
    static const char *const good[] = {"true",
                                       "false",
                                       "null",
                                       "0",
                                       "-0",
                                       "-12.5e+3",
                                       "1E9",
                                       "[]",
                                       "{}",
                                       "[1, [2, {}]]",
                                       "{\"a\": {\"b\": []}, \"c\": \"\xc3\xa9\\ud83d\\ude00\"}",
                                       " \t\r\n1"};
    static const char *const wrong[] = {"tru",         "nulll",    "TRUE",
                                        "NaN",         "--5",      "+1",
                                        "-",           "01",       "1.",
                                        ".5",          "1e",       "1e+",
                                        "0x1",         "1 2",      "[1,]",
                                        "[,1]",        "[1 2]",    "[1}",
                                        "{\"a\"}",     "{\"a\":}", "{\"a\":1,}",
                                        "{a:1}",       "{1:2}",    "'a'",
                                        "\"a\nb\"",    "\"\xff\"", "\"\xed\xa0\x80\"",
                                        "\"\\ude00\"", "\"\\a\"",  "",
                                        "[",           "]",        "\"",
                                        "\"\\u12"};
    struct json_scan j;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        json_scan_open(&j, good[i], (int64_t)strlen(good[i]));
        json_skip_value(&j);
        json_need_end(&j);
        CHECK(!j.failed, "refused: %s", good[i]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_scan_open(&j, wrong[i], (int64_t)strlen(wrong[i]));
        json_skip_value(&j);
        json_need_end(&j);
        CHECK(j.failed, "taken for JSON: %s", wrong[i]);
    }
    char deep[2 * JSON_SCAN_DEPTH + 2];
    for (int depth = JSON_SCAN_DEPTH; depth <= JSON_SCAN_DEPTH + 1; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        json_scan_open(&j, deep, 2 * depth);
        json_skip_value(&j);
        CHECK(j.failed == (depth > JSON_SCAN_DEPTH), "%d brackets", depth);
    }
}

static void test_members(void)
{
    static const char object[] = "{\"z\": 3, \"x\": [1, {\"y\": \"]}\"}], \"y\": {\"x\": 2}}";
    static const char *const names[] = {"x", "y", "w"}, *const wrong[] = {"{\"x\": 1} {\"x\": 2}",
                                                                          "{\"x\": 1, \"x\": 1}",
                                                                          "[]", "{\"x\": 1", ""};
    struct json_range v[3];
    const char *why;
    CHECK(!json_members((struct json_range){object, sizeof object - 1}, names, v, 3, &why), "%s",
          why);
    CHECK(v[0].n == 16 && *v[0].s == '[' && v[1].n == 8 && !v[2].n, "members %lld %lld %lld",
          (long long)v[0].n, (long long)v[1].n, (long long)v[2].n);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(json_members((struct json_range){wrong[i], (int64_t)strlen(wrong[i])}, names, v, 3,
                           &why) &&
                  why,
              "accepted: %s", wrong[i]);
}

int main(void)
{
    test_scanner();
    test_strict();
    test_members();
    return check_report();
}
