/* Lists of layers: their meaning, the message for each mistake, and text that reads back. */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/ranges.h"
#include "check.h"

static void refused(const char *text, enum ranges_kind kind, int64_t layers, const char *words)
{
    struct ranges r;
    struct err e = {0};
    int bad = ranges_parse(&r, "size", text, kind, &e) || ranges_check(&r, "size", layers, &e);
    CHECK(bad && strstr(e.msg, words), "\"%s\" is refused with \"%s\", not \"%s\"", text, words,
          e.msg);
    CHECK(!strncmp(e.msg, "--size", 6), "\"%s\" names the option: %s", text, e.msg);
    ranges_free(&r);
}

/* want[layer]: the value, 1 in a plain list, 0 where the layer is not named */
static void means(const char *text, enum ranges_kind kind, int64_t layers, const int64_t *want)
{
    struct ranges r;
    struct err e = {0};
    CHECK(!ranges_parse(&r, "size", text, kind, &e) && !ranges_check(&r, "size", layers, &e),
          "\"%s\": %s", text, e.msg);
    for (int64_t l = 0; l < layers; l++) {
        const struct range *found = ranges_find(&r, l);
        int64_t value = found != NULL;
        if (found && kind != RANGES_PLAIN)
            value = found->value;
        CHECK(value == want[l], "\"%s\": layer %d has %d, not %d", text, (int)l, (int)value,
              (int)want[l]);
    }
    ranges_free(&r);
}

static void test_meaning(void)
{
    means("1", RANGES_PLAIN, 4, (const int64_t[]){0, 1, 0, 0});
    means("3,0-1", RANGES_PLAIN, 4, (const int64_t[]){1, 1, 0, 1});
    means("2-", RANGES_PLAIN, 4, (const int64_t[]){0, 0, 1, 1});
    means("-1", RANGES_PLAIN, 4, (const int64_t[]){1, 1, 0, 0});
    means("896", RANGES_VALUES, 3, (const int64_t[]){896, 896, 896});
    means("0-1:896,2-:1024", RANGES_VALUES, 4, (const int64_t[]){896, 896, 1024, 1024});
    means("2:7,-0:5", RANGES_VALUES, 4, (const int64_t[]){5, 0, 7, 0});
    means("3-:9", RANGES_VALUES, 4, (const int64_t[]){0, 0, 0, 9});
}

static void test_mistakes(void)
{
    static const char *const no_list[] = {"",    ",",  "x",  "1,",  "1,,2", "1-2-3", "-",
                                          "1:2", " 1", "+1", "1 2", "0x1",  "1.5",   "--1"},
                             *const no_values[] = {"",    "x",    "0-3",  "0-3:",    ":8",
                                                   "8,9", "0:8,", "-:8",  "0-1:8;2", "0:-8",
                                                   "-8",  "+8",   "0:8:9"};
    for (size_t i = 0; i < sizeof no_list / sizeof *no_list; i++)
        refused(no_list[i], RANGES_PLAIN, 4, "takes a list of layers such as 0,3,12-19");
    for (size_t i = 0; i < sizeof no_values / sizeof *no_values; i++)
        refused(no_values[i], RANGES_VALUES, 4, "takes a number, or LAYERS:SIZE");
    refused("0-2:8,2-3:9", RANGES_VALUES, 4, "names layer 2 twice");
    refused("2-:8,0-3:9", RANGES_VALUES, 4, "names layer 2 twice");
    refused("1,0-3", RANGES_PLAIN, 4, "names layer 1 twice");
    refused("3-1:8", RANGES_VALUES, 4, "the range 3-1 is reversed");
    refused("0", RANGES_VALUES, 4, "at least 1, not 0");
    refused("0-3:0", RANGES_VALUES, 4, "at least 1, not 0");
    refused("0-4:8", RANGES_VALUES, 4, "names layer 4; the model's layers are 0 to 3");
    refused("4-:8", RANGES_VALUES, 4, "layers are 0 to 3");
    refused("0-99999999999999999999", RANGES_PLAIN, 4, "layers are 0 to 3");
    refused("9223372036854775807", RANGES_PLAIN, 4, "layers are 0 to 3");
    refused("999999999999999999", RANGES_PLAIN, 4, "names layer 999999999999999999;");
    refused("1000000000000000000", RANGES_PLAIN, 4, "names a layer of 10^18 or more;");
    refused("0:1000000000000000000", RANGES_VALUES, 4,
            "below 10^18, not \"0:1000000000000000000\"");
    refused("99999999999999999999", RANGES_NUMBER, 4, "below 10^18, not \"99999999999999999999\"");
}

static void test_numbers(void)
{
    means("7", RANGES_NUMBER, 2, (const int64_t[]){7, 7});
    refused("0-1:7", RANGES_NUMBER, 2, "takes a whole number, not \"0-1:7\"");
    refused("", RANGES_NUMBER, 2, "takes a whole number");
    refused("-3", RANGES_NUMBER, 2, "takes a whole number");
    refused("0", RANGES_NUMBER, 2, "at least 1, not 0");
}

static void text_is(const int64_t *layer, const int64_t *value, int64_t n, const char *want)
{
    char *text = ranges_text(layer, value, n);
    CHECK(!strcmp(text, want), "\"%s\", not \"%s\"", text, want);
    free(text);
}

static void test_text(void)
{
    static const int64_t all[] = {0, 1, 2, 3}, some[] = {0, 2, 3, 7};
    text_is(all, (const int64_t[]){5, 5, 5, 5}, 4, "5");
    text_is(some, (const int64_t[]){5, 5, 5, 5}, 4, "5");
    text_is(all, (const int64_t[]){5, 5, 6, 7}, 4, "0-1:5,2:6,3:7");
    text_is(some, (const int64_t[]){5, 5, 5, 6}, 4, "0:5,2-3:5,7:6");
    text_is(all, NULL, 4, "0-3");
    text_is(some, NULL, 4, "0,2-3,7");
}

int main(void)
{
    test_meaning();
    test_mistakes();
    test_numbers();
    test_text();
    return check_report();
}
