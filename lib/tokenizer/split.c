/* Pre-tokenizers of a tokenizer.json: a list of steps, each of which cuts every piece from the step
 * before it. ByteLevel (GPT-2's pattern, or none), Split (a string or a pattern, five behaviours),
 * Digits, Punctuation, Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit,
 * Metaspace, Sequence. Stretches that are not UTF-8 become pieces of their own and are never
 * matched against a pattern. Refuses every other pre-tokenizer by name. */
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "vocab.h"
#include "tokenizer_private.h"

enum { SPLIT_STEPS = 32 };

enum behaviour {
    REMOVED,
    ISOLATED,
    MERGED_WITH_PREVIOUS,
    MERGED_WITH_NEXT,
    CONTIGUOUS,
    BEHAVIOURS
};
static const char *const behaviour_names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                              "MergedWithNext", "Contiguous"};

enum prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct split {
    struct pattern *pattern; /* NULL: does not cut */
    enum behaviour behaviour;
    int invert;
    /* replaces spaces by `space`; puts `prefix` before a piece that does not begin with it */
    char *space, *prefix;
    enum prefix when;
    struct buffer work; /* the piece with insertions */
};

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* Punctuation as the Unicode tables of the tokenizers library have it, which are older than others,
 * and all of ASCII that is neither a letter nor a digit. */
static const char punctuation[] =
    "(?![\\x{61d}\\x{9fd}-\\x{a76}\\x{c77}-\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e5d}"
    "\\x{10ead}-\\x{10f89}\\x{1144b}-\\x{1145d}\\x{11660}-\\x{116b9}\\x{1183b}-\\x{11fff}"
    "\\x{12ff1}-\\x{12ff2}\\x{16e97}-\\x{16fe2}\\x{1e95e}-\\x{1e95f}])"
    "[\\p{P}$+<=>\\^`|~\\x{166d}\\x{111c9}]";

#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}" /* Rust's \w */
static const char words[] = "[" WORD "]+|[^" WORD "\\p{White_Space}]+";

/* ---- reading the specification */

static struct split *split_add(struct split_list *l, struct err *e)
{
    if (l->count == SPLIT_STEPS)
        return err_set(e, "the tokenizer has more than %d pre-tokenizers", SPLIT_STEPS), NULL;
    l->steps = mem_grow(l->steps, (size_t)(l->count + 1) * sizeof *l->steps);
    struct split *s = &l->steps[l->count++];
    *s = (struct split){.behaviour = ISOLATED};
    return s;
}

static int split_compile(struct split *s, const char *pattern, enum pattern_syntax syntax,
                         struct err *e)
{
    s->pattern = pattern_open(pattern, syntax, e);
    return s->pattern ? 0 : -1;
}

/* Isolated where nothing is said. */
static int read_behaviour(struct split *s, const json_t *spec, struct err *e)
{
    const char *name = json_string_value(json_object_get(spec, "behavior"));
    for (s->behaviour = name ? 0 : ISOLATED;
         name && s->behaviour < BEHAVIOURS && strcmp(name, behaviour_names[s->behaviour]);
         s->behaviour++)
        ;
    if (s->behaviour == BEHAVIOURS)
        return err_set(e, "the tokenizer's pre-tokenizer has the unknown behavior \"%.80s\"", name);
    return 0;
}

static int read_split(struct split_list *l, const json_t *spec, struct err *e)
{
    const json_t *pattern = json_object_get(spec, "pattern");
    const char *literal = json_string_value(json_object_get(pattern, "String")),
               *regex = json_string_value(json_object_get(pattern, "Regex"));
    struct split *s = split_add(l, e);
    if (!s)
        return -1;
    if (!json_object_get(spec, "behavior") || !(regex || (literal && *literal)))
        return err_set(e, "the tokenizer's pre-tokenizer Split has no pattern or no behavior");
    s->invert = json_is_true(json_object_get(spec, "invert"));
    enum pattern_syntax syntax = regex ? PATTERN_ONIGURUMA : PATTERN_LITERAL;
    return read_behaviour(s, spec, e) || split_compile(s, regex ? regex : literal, syntax, e);
}

static int read_byte_level(struct split_list *l, const json_t *spec, struct err *e)
{
    struct split *s;
    l->byte_level = 1;
    if (!json_is_false(json_object_get(spec, "add_prefix_space"))) {
        if (!(s = split_add(l, e)))
            return -1;
        s->prefix = mem_string(" ");
        s->when = PREFIX_ALWAYS;
    }
    if (json_is_false(json_object_get(spec, "use_regex")))
        return 0;
    return (s = split_add(l, e)) ? split_compile(s, gpt2_pattern, PATTERN_ONIGURUMA, e) : -1;
}

static int read_metaspace(struct split_list *l, const json_t *spec, struct err *e)
{
    const char *replacement = json_string_value(json_object_get(spec, "replacement"));
    const char *scheme = json_string_value(json_object_get(spec, "prepend_scheme"));
    int always = scheme ? !strcmp(scheme, "always")
                        : !json_is_false(json_object_get(spec, "add_prefix_space"));
    struct split *s = split_add(l, e);
    if (!s)
        return -1;
    if (!utf8_is_character(replacement))
        return err_set(e,
                       "the tokenizer's pre-tokenizer Metaspace has a replacement that is not "
                       "one character: \"%.80s\"",
                       replacement ? replacement : "");
    if (scheme && !always && strcmp(scheme, "first") && strcmp(scheme, "never"))
        return err_set(e,
                       "the tokenizer's pre-tokenizer Metaspace has the prepend_scheme "
                       "\"%.80s\", not always, first or never",
                       scheme);
    s->space = mem_string(replacement);
    s->prefix = mem_string(replacement);
    if (always)
        s->when = PREFIX_ALWAYS;
    else
        s->when = scheme && !strcmp(scheme, "first") ? PREFIX_FIRST : PREFIX_NEVER;
    s->behaviour = MERGED_WITH_NEXT;
    return json_is_false(json_object_get(spec, "split"))
               ? 0
               : split_compile(s, replacement, PATTERN_LITERAL, e);
}

/* Pre-tokenizers that are patterns; of several with one name, one after the other. */
static const struct {
    const char *name, *pattern;
    enum behaviour behaviour;
    int invert;
} named[] = {
    {"Digits", "\\p{N}+", ISOLATED, 0},
    {"Digits", "\\p{N}", ISOLATED, 0}, /* with individual_digits only */
    {"Punctuation", punctuation, ISOLATED, 0},
    {"Whitespace", words, REMOVED, 1},
    {"WhitespaceSplit", "\\p{White_Space}", REMOVED, 0},
    {"BertPreTokenizer", "\\p{White_Space}", REMOVED, 0},
    {"BertPreTokenizer", punctuation, ISOLATED, 0},
};

static int read_named(struct split_list *l, const char *type, const json_t *spec, struct err *e)
{
    int found = 0, whole = !json_is_true(json_object_get(spec, "individual_digits"));
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(named[i].name, type) || (found && whole && !strcmp(type, "Digits")))
            continue;
        struct split *s = split_add(l, e);
        if (!s)
            return -1;
        s->behaviour = named[i].behaviour;
        s->invert = named[i].invert;
        if (json_object_get(spec, "behavior") && read_behaviour(s, spec, e))
            return -1;
        if (split_compile(s, named[i].pattern, PATTERN_PCRE2, e))
            return -1;
        found = 1;
    }
    if (found)
        return 0;
    return err_set(e, "the tokenizer's pre-tokenizer \"%.80s\" is not supported", type);
}

static int read_delimiter(struct split_list *l, const json_t *spec, struct err *e)
{
    const char *delimiter = json_string_value(json_object_get(spec, "delimiter"));
    struct split *s = split_add(l, e);
    if (!s)
        return -1;
    if (!utf8_is_character(delimiter))
        return err_set(e, "the tokenizer's pre-tokenizer CharDelimiterSplit has no delimiter of "
                          "one character");
    s->behaviour = REMOVED;
    return split_compile(s, delimiter, PATTERN_LITERAL, e);
}

static int read_one(struct split_list *l, const json_t *spec, int depth, struct err *e)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type || depth > 8)
        return err_set(e, "the tokenizer's pre-tokenizer is malformed");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(spec, "pretokenizers");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_one(l, json_array_get(list, i), depth + 1, e))
                return -1;
        return 0;
    }
    if (l->byte_level)
        return err_set(
            e,
            "the tokenizer's pre-tokenizer \"%.80s\" comes after ByteLevel, which is not supported",
            type);
    if (!strcmp(type, "ByteLevel"))
        return read_byte_level(l, spec, e);
    if (!strcmp(type, "Split"))
        return read_split(l, spec, e);
    if (!strcmp(type, "Metaspace"))
        return read_metaspace(l, spec, e);
    if (!strcmp(type, "CharDelimiterSplit"))
        return read_delimiter(l, spec, e);
    return read_named(l, type, spec, e);
}

int split_read(struct split_list *l, const json_t *spec, struct err *e)
{
    l->seconds = PATTERN_SECONDS;
    return !spec || json_is_null(spec) ? 0 : read_one(l, spec, 0, e);
}

void split_free(struct split_list *l)
{
    for (int i = 0; i < l->count; i++) {
        struct split *s = &l->steps[i];
        pattern_close(s->pattern);
        free(s->space);
        free(s->prefix);
        buffer_free(&s->work);
    }
    free(l->steps);
}

/* ---- cutting */

struct run { /* a text passing through the steps from `step` on */
    struct split_list *list;
    int step;
    split_use *use;
    void *context;
    struct err *e;
    struct text text;
    int64_t start, end; /* the last stretch, which the next may still join */
    int some, matched;  /* there is one; it was a match */
};

static int run_text(struct split_list *l, int step, struct text t, split_use *use, void *context,
                    struct err *e);

static int run_emit(struct run *r)
{
    int64_t start = r->start;
    r->start = r->end;
    return start == r->end ? 0
                           : run_text(r->list, r->step + 1, text_part(r->text, start, r->end),
                                      r->use, r->context, r->e);
}

/* The next stretch, up to `end`: a match of the pattern, which may be empty, or the text between
 * matches. */
static int run_stretch(struct run *r, int64_t end, int match)
{
    int joins = 0, was = r->matched;
    switch (r->list->steps[r->step].behaviour) {
    case MERGED_WITH_PREVIOUS: joins = match && !was; break;
    case MERGED_WITH_NEXT: joins = !match && was; break;
    case CONTIGUOUS: joins = match == was; break;
    default: break;
    }
    r->matched = match;
    if (!(joins && r->some) && run_emit(r))
        return -1;
    r->end = end;
    r->some = 1;
    if (match && r->list->steps[r->step].behaviour == REMOVED)
        r->start = end;
    return 0;
}

/* Runs the pattern over the well-formed stretch [from, to) of the text. An empty match cuts, too,
 * unless the match before it ends there. */
static int run_pattern(struct run *r, int64_t from, int64_t to)
{
    const struct split *s = &r->list->steps[r->step];
    const char *base = r->text.s + from;
    int64_t n = to - from, at = 0, done = 0, last = -1, match[2];
    int found = 0, may_be_empty = pattern_may_be_empty(s->pattern);
    while (at < n + may_be_empty &&
           (found = pattern_find(s->pattern, base, n, at, match, &r->list->seconds, r->e)) > 0) {
        int64_t start = match[0], end = match[1];
        if (end == start && end == last) {
            at += at < n ? utf8_length(base + at, n - at) : 1;
            continue;
        }
        if ((start > done && run_stretch(r, from + start, s->invert)) ||
            run_stretch(r, from + end, !s->invert))
            return -1;
        at = done = last = end;
    }
    return found < 0 || (done < n && run_stretch(r, to, s->invert)) ? -1 : 0;
}

static int run_cut(struct split_list *l, int step, struct text t, split_use *use, void *context,
                   struct err *e)
{
    struct run r = {.list = l, .step = step, .use = use, .context = context, .e = e, .text = t};
    for (int64_t at = 0; at < t.n;) {
        int valid;
        int64_t end = at + utf8_run(t.s + at, t.n - at, &valid);
        if (valid ? run_pattern(&r, at, end) : run_stretch(&r, end, 0))
            return -1;
        at = end;
    }
    return run_emit(&r);
}

/* Puts the step's prefix before the piece and replaces its spaces, in the step's buffer; leaves the
 * piece in place if nothing changes. */
static int split_insert(struct split_list *l, struct split *s, struct text *t, struct err *e)
{
    int64_t n = s->prefix ? (int64_t)strlen(s->prefix) : 0,
            space = s->space ? (int64_t)strlen(s->space) : 0;
    const char *begin = s->space && t->s[0] == ' ' ? s->prefix : t->s;
    int prefixed = !n || begin == s->prefix || (t->n >= n && !memcmp(begin, s->prefix, (size_t)n));
    int wanted = !prefixed && (s->when == PREFIX_ALWAYS || (s->when == PREFIX_FIRST && t->first));
    if (!wanted && !space)
        return 0;
    buffer_clear(&s->work, t->n + l->left);
    if (wanted)
        buffer_add(&s->work, s->prefix, n, NULL, 0);
    for (int64_t i = 0, end; i < t->n; i = end) {
        const char *p = space ? memchr(t->s + i, ' ', (size_t)(t->n - i)) : NULL;
        end = p ? p - t->s : t->n;
        buffer_add_text(&s->work, text_part(*t, i, end));
        if (p)
            buffer_add(&s->work, s->space, space, NULL,
                       (uint32_t)text_weight(text_part(*t, end, end + 1)));
        end += p != NULL;
    }
    if (s->work.full)
        return err_set(e, "the tokenizer's pre-tokenizers put too much into a text: more than "
                          "sixteen times its bytes");
    l->left -= s->work.n - t->n;
    *t = (struct text){s->work.s, s->work.n, s->work.weight, t->first};
    return 0;
}

static int run_text(struct split_list *l, int step, struct text t, split_use *use, void *context,
                    struct err *e)
{
    for (; step < l->count; step++) {
        if (split_insert(l, &l->steps[step], &t, e))
            return -1;
        if (l->steps[step].pattern)
            return run_cut(l, step, t, use, context, e);
    }
    return use(context, t, e);
}

int split_apply(struct split_list *l, struct text t, split_use *use, void *context, struct err *e)
{
    l->left = text_most(t.n);
    l->seconds += PATTERN_SECONDS_PER_BYTE * (double)t.n;
    return t.n ? run_text(l, 0, t, use, context, e) : 0;
}
