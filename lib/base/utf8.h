/* UTF-8: length and code point of characters, and text made safe for terminals. */
#ifndef PARE_UTF8_H
#define PARE_UTF8_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Bytes of the well-formed character at s (n > 0 bytes left), else 0: overlong forms, surrogates
 * and values beyond 10FFFF are ill-formed. */
static inline int utf8_length(const char *s, int64_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 0;
    int len = 2 + (u[0] >= 0xe0) + (u[0] >= 0xf0);
    if (n < len)
        return 0;
    for (int i = 1; i < len; i++)
        if ((u[i] & 0xc0) != 0x80)
            return 0;
    if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
        (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
        return 0;
    return len;
}

/* Is s exactly one well-formed character? NULL is not. */
static inline int utf8_is_character(const char *s)
{
    int64_t n = s ? (int64_t)strnlen(s, 5) : 0;
    return n && utf8_length(s, n) == n;
}

/* The code point of a well-formed character of `len` bytes. */
static inline uint32_t utf8_point(const char *s, int len)
{
    const unsigned char *u = (const unsigned char *)s;
    if (len == 1)
        return u[0];
    uint32_t c = u[0] & (0xffu >> (len + 1));
    for (int i = 1; i < len; i++)
        c = c << 6 | (u[i] & 63);
    return c;
}

/* White space, as str.isspace() of Python has it. */
static inline int utf8_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* The longest run at s that is entirely well-formed (*valid 1) or entirely ill-formed (*valid 0);
 * its bytes, at least 1 (n > 0). */
static inline int64_t utf8_run(const char *s, int64_t n, int *valid)
{
    int64_t i = 0;
    *valid = utf8_length(s, n) > 0;
    while (i < n) {
        int len = utf8_length(s + i, n - i);
        if ((len > 0) != *valid)
            break;
        i += len ? len : 1;
    }
    return i;
}

/* A copy that is safe to show, free() it: control characters (C1 too), characters that reorder a
 * line, and bytes that are not UTF-8 appear as \xNN. */
char *utf8_visible(const char *s);
void utf8_print(const char *s, FILE *f); /* the same, into f */
int utf8_is_visible(const char *s);      /* nothing in it needs escaping */

#endif
