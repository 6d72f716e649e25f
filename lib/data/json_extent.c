/* See json_extent.h. */
#include "json_extent.h"

#include <string.h>

static void in_string(struct json_extent *x, char c)
{
    if (x->escaped)
        x->escaped = 0;
    else if (c == '\\')
        x->escaped = 1;
    else if (c == '"')
        x->in_string = 0;
}

static int ends_scalar(char c) { return c && strchr(" \t\r\n,]}", c) != NULL; }

int64_t json_extent(struct json_extent *x, const char *s, int64_t n)
{
    while (x->at < n) {
        char c = s[x->at];
        if (!x->in_string && !x->depth && x->at && ends_scalar(c))
            return x->at;
        x->at++;
        if (x->in_string)
            in_string(x, c);
        else if (c == '"')
            x->in_string = 1;
        else if (c == '{' || c == '[')
            x->depth++;
        else if (c == '}' || c == ']')
            x->depth--;
        if (!x->in_string && x->depth <= 0 && strchr("\"}]", c))
            return x->at;
    }
    return -1;
}
