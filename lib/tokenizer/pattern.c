/* Patterns of a tokenizer.json, in PCRE2 with its JIT compiler. A search is narrow at first: it
 * sees some bytes, and takes some steps of backtracking from each start. Where that is not enough,
 * a wide one sees or takes more, from this start only, and its time is limited: the patterns of
 * real tokenizers need a thousandth of it, others the square of a text, or worse, and are refused.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <time.h>

#include "../base/minmax.h"
#include "tokenizer_private.h"

enum { JIT_STACK = 32 << 20 };

struct pattern {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    int may_be_empty;
};

static void *memory_take(size_t n, void *unused)
{
    (void)unused;
    return mem_grow(NULL, n);
}

static void memory_give(void *p, void *unused)
{
    (void)unused;
    free(p);
}

pcre2_general_context *pattern_memory(void)
{
    static pcre2_general_context *context;
    if (!context)
        context = pcre2_general_context_create(memory_take, memory_give, NULL);
    return context;
}

static pcre2_code *compile(const char *text, enum pattern_syntax syntax, struct err *e)
{
    int code, literal = syntax == PATTERN_LITERAL;
    PCRE2_SIZE at;
    char *translated = syntax == PATTERN_ONIGURUMA ? split_pattern_translate(text, e)
                                                   : mem_string(text);
    if (!translated)
        return NULL;
    pcre2_compile_context *context = pcre2_compile_context_create(pattern_memory());
    uint32_t options = literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_USE_OFFSET_LIMIT | options, &code, &at,
                                         context);
    pcre2_compile_context_free(context);
    free(translated);
    if (!compiled) {
        char why[160];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        err_set(e, "the tokenizer's pattern \"%.200s\" is not valid: %s", text, why);
    }
    return compiled;
}

struct pattern *pattern_open(const char *text, enum pattern_syntax syntax, struct err *e)
{
    uint32_t may_be_empty = 0;
    pcre2_code *code = compile(text, syntax, e);
    if (!code)
        return NULL;
    /* where there is no JIT, PCRE2 interprets */
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &may_be_empty);
    struct pattern *p = mem_alloc(sizeof *p);
    *p = (struct pattern){.code = code,
                          .match = pcre2_match_data_create(1, pattern_memory()),
                          .context = pcre2_match_context_create(pattern_memory()),
                          .stack = pcre2_jit_stack_create(32 << 10, JIT_STACK, pattern_memory()),
                          .may_be_empty = may_be_empty != 0};
    pcre2_jit_stack_assign(p->context, NULL, p->stack);
    return p;
}

void pattern_close(struct pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->context);
    pcre2_jit_stack_free(p->stack);
    free(p);
}

int pattern_may_be_empty(const struct pattern *p) { return p->may_be_empty; }

/* ---- searching */

struct bounds {
    int64_t ahead, steps; /* bytes seen beyond the first start; steps from each */
    int wide;
};
static const struct bounds narrow = {64, 256, 0};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int64_t next_character(const char *s, int64_t n, int64_t at)
{
    for (at++; at < n && (s[at] & 0xc0) == 0x80;)
        at++;
    return at;
}

/* PCRE2's result of a search of s[0, end) that begins at `at`; is_whole: nothing follows. */
static int search(const struct pattern *p, const struct bounds *b, const char *s, int64_t end,
                  int64_t at, int is_whole, double *seconds)
{
    double began = b->wide ? cpu_seconds() : 0;
    pcre2_set_match_limit(p->context, (uint32_t)min64(b->steps, UINT32_MAX));
    pcre2_set_offset_limit(p->context, b->wide ? (PCRE2_SIZE)at : PCRE2_UNSET);
    int found = pcre2_match(p->code, (PCRE2_SPTR)s, (PCRE2_SIZE)end, (PCRE2_SIZE)at,
                            PCRE2_NO_UTF_CHECK | (is_whole ? 0 : PCRE2_PARTIAL_HARD), p->match,
                            p->context);
    *seconds -= b->wide ? cpu_seconds() - began : 0;
    return found;
}

static int failure(int code, int64_t n, struct err *e)
{
    char why[160] = "matching takes time out of proportion to the text";
    if (code)
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return err_set(e, "the tokenizer's pattern failed on a text of %lld bytes: %s", (long long)n,
                   why);
}

int pattern_find(const struct pattern *p, const char *s, int64_t n, int64_t at, int64_t match[2],
                 double *seconds, struct err *e)
{
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(p->match);
    struct bounds b = narrow;
    while (at <= n) {
        int64_t end = b.ahead < n - at ? next_character(s, n, at + b.ahead - 1) : n;
        int found = search(p, &b, s, end, at, end == n, seconds);
        if (*seconds < 0)
            return failure(0, n, e);
        if (found == PCRE2_ERROR_NOMATCH) {
            if (!b.wide && end == n)
                return 0;
            at = b.wide ? next_character(s, n, at) : end;
            b = narrow;
        } else if (found == PCRE2_ERROR_PARTIAL) { /* from `where` on, the end is in the way */
            at = (int64_t)where[0];
            b.ahead *= 2;
            b.wide = 1;
        } else if (found == PCRE2_ERROR_MATCHLIMIT) {
            b.steps *= b.wide ? 2 : 1; /* a narrow search does not say which start it was */
            b.wide = 1;
        } else if (found < 0) {
            return failure(found, n, e);
        } else {
            match[0] = (int64_t)where[0];
            match[1] = (int64_t)where[1];
            return 1;
        }
    }
    return 0;
}
