/* Large numbers in options: see amount.h. */
#include "amount.h"

#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    double value;
};

/* -1: neither such a unit nor none. */
static int64_t parse(const char *text, const struct unit *units)
{
    char *end;
    double n = strtod(text, &end);
    if (end == text || !(n >= 0))
        return -1;
    while (units->name && strcasecmp(end, units->name))
        units++;
    n *= units->value;
    return units->name && n < 9.2e18 ? (int64_t)n : -1;
}

int64_t amount_count(const char *text)
{
    static const struct unit units[] = {{"", 1},    {"K", 1e3},  {"M", 1e6}, {"B", 1e9},
                                        {"G", 1e9}, {"T", 1e12}, {NULL, 0}};
    return parse(text, units);
}

int64_t amount_bytes(const char *text)
{
    static const struct unit units[] = {{"", 1},     {"B", 1},     {"K", 1e3}, {"KB", 1e3},
                                        {"M", 1e6},  {"MB", 1e6},  {"G", 1e9}, {"GB", 1e9},
                                        {"T", 1e12}, {"TB", 1e12}, {NULL, 0}};
    return parse(text, units);
}

double amount_share(const char *text)
{
    char *end;
    double share = strtod(text, &end);
    int percent = !strcmp(end, "%");
    if (end == text || (*end && !percent) || !(share >= 0))
        return -1;
    return percent ? share / 100 : share;
}
