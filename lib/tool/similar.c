/* Names that a mistyped one may have meant: see similar.h. */
#include "similar.h"

#include <string.h>

enum { LONGEST = 40, PART = 100, ABBREVIATION = 200 };

static int least(int a, int b) { return a < b ? a : b; }

/* Damerau's distance, in which an exchange of neighbours counts as one mistake (optimal string
 * alignment). */
static int mistakes(const char *a, const char *b)
{
    int d[LONGEST + 1][LONGEST + 1], n = (int)strlen(a), m = (int)strlen(b);
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            int replaced = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = least(replaced, 1 + least(d[i - 1][j], d[i][j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = least(d[i][j], 1 + d[i - 2][j - 2]);
        }
    return d[n][m];
}

static int has_part(const char *name, const char *part)
{
    size_t n = strlen(part);
    for (const char *at = name; (at = strstr(at, part)); at++)
        if ((at == name || at[-1] == '-') && (at[n] == '-' || !at[n]))
            return 1;
    return 0;
}

static int are_initials(const char *name, const char *word)
{
    for (int begins = 1; *name; begins = *name++ == '-')
        if (begins && *name != *word++)
            return 0;
    return !*word;
}

/* At least three letters, so that not everything is meant. */
static int abbreviates(const char *word, const char *name)
{
    if (strlen(word) < 3 || *word != *name)
        return 0;
    for (; *name && *word; name++)
        word += *word == *name;
    return !*word;
}

int similar_distance(const char *word, const char *name)
{
    size_t n = strlen(word);
    if (!n || n > LONGEST || strlen(name) > LONGEST)
        return -1;
    int wrong = mistakes(word, name);
    if (4 * wrong <= (int)n)
        return wrong - 1;
    if (has_part(name, word) || are_initials(name, word))
        return PART;
    return abbreviates(word, name) ? ABBREVIATION : -1;
}
