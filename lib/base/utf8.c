/* Text made safe to show: see utf8.h. */
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>

#include "mem.h"

/* Control characters (C0, DEL, C1), and characters that reorder or break a line: marks, separators,
 * embeddings, overrides and isolates of the bidirectional algorithm. */
static int is_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Bytes of the character at s if it may be shown; 0: not a character, or one to escape. */
static int visible_length(const char *s, int64_t n)
{
    int len = utf8_length(s, n);
    return len && !is_hidden(utf8_point(s, len)) ? len : 0;
}

int utf8_is_visible(const char *s)
{
    int64_t n = (int64_t)strlen(s), i = 0;
    for (int len; i < n && (len = visible_length(s + i, n - i)); i += len)
        ;
    return i == n;
}

char *utf8_visible(const char *s)
{
    int64_t n = (int64_t)strlen(s);
    char *text = mem_alloc((size_t)(4 * n + 1)), *to = text;
    for (int64_t i = 0; i < n;) {
        int len = visible_length(s + i, n - i);
        if (len)
            memcpy(to, s + i, (size_t)len);
        else
            sprintf(to, "\\x%02x", (unsigned char)s[i]);
        to += len ? len : 4;
        i += len ? len : 1;
    }
    return text;
}

void utf8_print(const char *s, FILE *f)
{
    char *text = utf8_visible(s);
    fputs(text, f);
    free(text);
}
