/* Tokens that are cut out of a text before anything else: special ones (<|endoftext|>) and others
 * added to a vocabulary. The leftmost match wins, and of those that begin at one position the
 * longest; single_word requires that no letter is adjacent, lstrip and rstrip include the white
 * space beside the token, as in the tokenizers library. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "../base/utf8.h"
#include "tokenizer_private.h"

static int is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

/* Bytes of the character that ends before s[at]; 0 at the start or after ill-formed bytes. */
static int length_before(const char *s, int64_t at)
{
    for (int len = 1; len <= 4 && len <= at; len++)
        if (utf8_length(s + at - len, len) == len)
            return len;
    return 0;
}

/* Letters, marks, decimal digits, connectors and joiners: Unicode's definition of \w. */
static int is_word(const char *s, int len)
{
    static pcre2_code *word;
    if (!len)
        return 0;
    if (!word) {
        int code;
        PCRE2_SIZE at;
        pcre2_compile_context *compile = pcre2_compile_context_create(pattern_memory());
        word = pcre2_compile((PCRE2_SPTR) "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]",
                             PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, compile);
        pcre2_compile_context_free(compile);
    }
    pcre2_match_data *m = pcre2_match_data_create(1, pattern_memory());
    int found = pcre2_match(word, (PCRE2_SPTR)s, (PCRE2_SIZE)len, 0, PCRE2_NO_UTF_CHECK, m, NULL) >
                0;
    pcre2_match_data_free(m);
    return found;
}

static int stands_alone(struct text t, int64_t start, int64_t end)
{
    int before = length_before(t.s, start),
        after = end < t.n ? utf8_length(t.s + end, t.n - end) : 0;
    return !is_word(t.s + start - before, before) && !is_word(t.s + end, after);
}

static int64_t space_before(const char *s, int64_t at, int64_t from)
{
    for (int len;
         at > from && (len = length_before(s, at)) && is_space(utf8_point(s + at - len, len));)
        at -= len;
    return at < from ? from : at;
}

static int64_t space_after(struct text t, int64_t at)
{
    for (int len; at < t.n && (len = utf8_length(t.s + at, t.n - at)) &&
                  is_space(utf8_point(t.s + at, len));)
        at += len;
    return at;
}

int added_find(struct added_set *set, struct text t, int64_t *at, int64_t from,
               struct added_match *m)
{
    const struct added_token *a;
    while ((a = added_next(set, t, at))) {
        m->token = a;
        m->start = *at;
        m->end = *at += a->n;
        if (a->single_word && !stands_alone(t, m->start, m->end))
            continue;
        if (a->lstrip)
            m->start = space_before(t.s, m->start, from);
        if (a->rstrip)
            m->end = space_after(t, m->end);
        return 1;
    }
    return 0;
}
