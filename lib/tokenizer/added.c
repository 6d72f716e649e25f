/* Tokens that are cut out of a text before anything else: special ones (<|endoftext|>) and others
 * added to a vocabulary. The leftmost match wins, and of those that begin at one position the
 * longest; single_word requires that no letter is adjacent, lstrip and rstrip include the white
 * space beside the token, as in the tokenizers library. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "tokenizer_private.h"

static int by_first_byte(const void *a, const void *b)
{
    const struct added_token *x = *(struct added_token *const *)a,
                             *y = *(struct added_token *const *)b;
    if (x->text[0] != y->text[0])
        return (unsigned char)x->text[0] - (unsigned char)y->text[0];
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : memcmp(x->text, y->text, (size_t)x->n);
}

void added_set_index(struct added_set *set)
{
    if (set->count)
        qsort(set->tokens, (size_t)set->count, sizeof *set->tokens, by_first_byte);
    int at = 0;
    for (int c = 0; c < 257; c++) {
        while (at < set->count && (unsigned char)set->tokens[at]->text[0] < c)
            at++;
        set->begin[c] = at;
    }
}

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

static const struct added_token *token_at(const struct added_set *set, struct text t, int64_t at)
{
    unsigned char c = (unsigned char)t.s[at];
    for (int i = set->begin[c]; i < set->begin[c + 1]; i++) {
        const struct added_token *a = set->tokens[i];
        if (a->n <= t.n - at && !memcmp(a->text, t.s + at, (size_t)a->n))
            return a;
    }
    return NULL;
}

int added_find(const struct added_set *set, struct text t, int64_t *at, int64_t from,
               struct added_match *m)
{
    while (set->count && *at < t.n) {
        const struct added_token *a = token_at(set, t, *at);
        if (!a) {
            ++*at;
            continue;
        }
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
