/* See table.h. */
#include "table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/utf8.h"

enum { NAME = 18 };

void tool_print_json(const json_t *record)
{
    if (!json_dumpf(record, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12)))
        putchar('\n');
    fflush(stdout);
}

/* ---- cells */

/* The end of a long path tells more than its beginning. */
static void print_name(const char *text)
{
    char *name = utf8_visible(text);
    size_t n = strlen(name);
    if (n > NAME)
        printf("...%s", name + n - (NAME - 3));
    else
        printf("%-*s", NAME, name);
    free(name);
}

/* 44.2K, 134.5M, 8.0B */
static void print_count(double x)
{
    static const char units[] = "KMB";
    int unit = 0;
    for (x /= 1e3; x >= 999.95 && units[unit + 1]; unit++)
        x /= 1e3;
    printf(" %5.1f%c", x, units[unit]);
}

/* A number too long for its decimals loses them, or gets an exponent; - is none. */
static void print_number(double x, int width, int decimals, const char *sign)
{
    char text[40];
    snprintf(text, sizeof text, *sign ? "%+.*f" : "%.*f", decimals, x);
    if ((int)strlen(text) > width)
        snprintf(text, sizeof text, "%.0f", x);
    if ((int)strlen(text) > width)
        snprintf(text, sizeof text, "%.*e", width - 6, x);
    printf(" %*s", width, isnan(x) ? "-" : text);
}

static void print_percent(double x, int width, int decimals)
{
    if (isnan(x))
        printf(" %*s", width, "-");
    else
        printf(" %*.*f%%", width - 1, decimals, 100 * x);
}

/* ---- evaluations */

static void print_header(const json_t *teacher)
{
    printf("%-*s %6s %8s %5s %7s %7s %8s ", NAME, "model", "params", "MB", "share", "nats", "error",
           "diff.");
    puts(teacher ? "     KL  top-1" : "    ppl b/byte");
}

static void print_row(const json_t *j, const json_t *first)
{
    const json_t *teacher = json_object_get(j, "against");
    double bytes = json_number_of(j, "weight_bytes"), nll = json_number_of(j, "nll");
    print_name(json_string_value(json_object_get(j, "model")));
    print_count(json_number_of(j, "parameters"));
    print_number(bytes / 1e6, 8, 1, "");
    print_percent(bytes / json_number_of(first, "weight_bytes"), 5, 0);
    print_number(nll, 7, 4, "");
    print_number(json_number_of(j, "standard_error"), 7, 4, "");
    print_number(j == first ? NAN : nll - json_number_of(first, "nll"), 8, 4, "+");
    if (teacher) {
        print_number(json_number_of(teacher, "kl"), 7, 4, "");
        print_percent(json_number_of(teacher, "same_top1"), 6, 1);
    } else {
        print_number(json_number_of(j, "ppl"), 7, 2, "");
        print_number(json_number_of(j, "bits_per_byte"), 6, 4, "");
    }
    putchar('\n');
}

void tool_table_row(struct tool_table *t, json_t *record)
{
    if (!t->first) {
        t->first = json_incref(record);
        print_header(json_object_get(record, "against"));
    }
    print_row(record, t->first);
    fflush(stdout);
}

/* ---- conventions */

static void print_convention(const json_t *j, const char *what, const char *figure)
{
    char name[32];
    snprintf(name, sizeof name, "%s%s", json_string_value(json_object_get(j, "convention")), what);
    print_name(json_string_value(json_object_get(j, "model")));
    printf(" %-13s %7.0f %8.0f %10.0f", name, json_number_of(j, "context"),
           json_number_of(j, "windows"), json_number_of(j, "predictions"));
    print_number(json_number_of(j, "nll"), 8, 4, "");
    print_number(json_number_of(j, figure), 10, 4, "");
    putchar('\n');
}

void tool_table_convention(struct tool_table *t, json_t *record)
{
    if (!t->first) {
        t->first = json_incref(record);
        printf("%-*s %-13s %7s %8s %10s %8s %10s\n", NAME, "model", "convention", "context",
               "windows", "scored", "nats", "ppl");
    }
    if (json_object_get(record, "byte_perplexity")) {
        print_convention(record, " word", "word_perplexity");
        print_convention(record, " byte", "byte_perplexity");
    } else {
        print_convention(record, "", "ppl");
    }
    fflush(stdout);
}

/* ---- multiple choice */

static void print_choice(const char *name, const json_t *j)
{
    print_name(name);
    print_number(json_number_of(j, "items"), 7, 0, "");
    print_number(json_number_of(j, "acc"), 8, 4, "");
    print_number(json_number_of(j, "acc_standard_error"), 7, 4, "");
    print_number(json_number_of(j, "acc_norm"), 8, 4, "");
    print_number(json_number_of(j, "acc_norm_standard_error"), 7, 4, "");
    print_number(json_number_of(j, "probability"), 8, 4, "");
    print_number(json_number_of(j, "nll"), 9, 3, "");
    putchar('\n');
}

void tool_table_choice(struct tool_table *t, json_t *record)
{
    const char *group;
    json_t *of_group;
    if (!t->first) {
        t->first = json_incref(record);
        printf("%-*s %7s %8s %7s %8s %7s %8s %9s\n", NAME, "model", "items", "acc", "error",
               "acc_norm", "error", "p(gold)", "nats");
    }
    print_choice(json_string_value(json_object_get(record, "model")), record);
    json_object_foreach(json_object_get(record, "groups"), group, of_group) {
        char *name = mem_format("  %s", group);
        print_choice(name, of_group);
        free(name);
    }
    fflush(stdout);
}

/* ---- costs */

static void print_speed(const json_t *j, const char *key)
{
    print_number(json_number_of(json_object_get(j, "measured"), key), 7, 1, "");
    print_number(json_number_of(json_object_get(j, "predicted"), key), 7, 1, "");
}

void tool_table_costs(struct tool_table *t, json_t *record)
{
    if (!t->first) {
        t->first = json_incref(record);
        printf("%-*s %6s %7s %6s %7s %7s %7s %7s %7s\n", NAME, "model", "params", "MB", "KV",
               "memory", "prefill", "bound", "decode", "bound");
    }
    print_name(json_string_value(json_object_get(record, "model")));
    print_count(json_number_of(record, "parameters"));
    print_number(json_number_of(record, "weight_bytes") / 1e6, 7, 1, "");
    print_number(json_number_of(record, "kv_bytes") / 1e6, 6, 1, "");
    print_number(json_number_of(json_object_get(record, "measured"), "memory") / 1e6, 7, 1, "");
    print_speed(record, "prefill");
    print_speed(record, "decode");
    putchar('\n');
    fflush(stdout);
}

void tool_table_end(struct tool_table *t)
{
    json_decref(t->first);
    t->first = NULL;
}
