/* Decoders of a tokenizer.json: from the texts of tokens back to the text.
 *   ByteLevel, Replace (of a string), ByteFallback, Fuse, Strip, Metaspace, and sequences of them;
 * without a decoder: texts joined by spaces. Bytes stay bytes: where a cut through a character
 * leaves ill-formed UTF-8, no replacement character is inserted. Refuses others by name. */
#include <stdlib.h>
#include <string.h>

#include "../base/text.h"
#include "../base/utf8.h"
#include "tokenizer_private.h"

enum {
    DECODE_BYTE_LEVEL,
    DECODE_REPLACE,
    DECODE_BYTE_FALLBACK,
    DECODE_FUSE,
    DECODE_STRIP,
    DECODE_METASPACE,
    DECODE_STEPS = 32,
    DECODE_GROWTH = 16 /* product over all steps; real tokenizers: 1 */
};

struct decode_step {
    int kind;
    char *from, *to;
    /* strip: the most to remove at each end; metaspace: start = drop them from the first token */
    int64_t start, stop;
};
struct decoder {
    struct decode_step steps[DECODE_STEPS];
    int count;
    int64_t growth; /* the most bytes that one byte can become */
};

/* The texts of a sequence, one after the other; end[i] is the end of text i. */
struct texts {
    char *s;
    int64_t *end, count;
};

/* ---- reading the specification */

static const char *text_of(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

/* The most bytes that a step makes of one byte. */
static int64_t step_growth(const struct decode_step *s)
{
    int64_t from = s->from ? (int64_t)strlen(s->from) : 0;
    int64_t to = s->to ? (int64_t)strlen(s->to) : 0;
    return to > from ? (to + from - 1) / from : 1;
}

static int decode_add(struct decoder *d, struct decode_step s, struct err *e)
{
    if (d->count == DECODE_STEPS)
        return err_set(e, "the tokenizer has more than %d decoders", DECODE_STEPS);
    int64_t growth = step_growth(&s);
    if (growth > DECODE_GROWTH / d->growth)
        return err_set(e, "the tokenizer's decoders make more than %d bytes of one", DECODE_GROWTH);
    d->growth *= growth;
    s.from = s.from ? mem_string(s.from) : NULL;
    s.to = s.to ? mem_string(s.to) : NULL;
    d->steps[d->count++] = s;
    return 0;
}

static int read_one(struct decoder *d, const json_t *spec, int depth, struct err *e)
{
    const char *type = text_of(spec, "type"), *content = text_of(spec, "content");
    const char *pattern = text_of(json_object_get(spec, "pattern"), "String"),
               *replacement = text_of(spec, "replacement"),
               *scheme = text_of(spec, "prepend_scheme");
    if (!type || depth > 8)
        return err_set(e, "the tokenizer's decoder is malformed");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(spec, "decoders");
        for (size_t i = 0; i < json_array_size(list); i++)
            if (read_one(d, json_array_get(list, i), depth + 1, e))
                return -1;
        return 0;
    }
    if (!strcmp(type, "ByteLevel"))
        return decode_add(d, (struct decode_step){.kind = DECODE_BYTE_LEVEL}, e);
    if (!strcmp(type, "ByteFallback"))
        return decode_add(d, (struct decode_step){.kind = DECODE_BYTE_FALLBACK}, e);
    if (!strcmp(type, "Fuse"))
        return decode_add(d, (struct decode_step){.kind = DECODE_FUSE}, e);
    if (!strcmp(type, "Replace") && pattern && *pattern && content)
        return decode_add(d,
                          (struct decode_step){.kind = DECODE_REPLACE,
                                               .from = (char *)pattern,
                                               .to = (char *)content},
                          e);
    if (!strcmp(type, "Strip") && content && *content)
        return decode_add(
            d,
            (struct decode_step){.kind = DECODE_STRIP,
                                 .from = (char *)content,
                                 .start = json_integer_value(json_object_get(spec, "start")),
                                 .stop = json_integer_value(json_object_get(spec, "stop"))},
            e);
    if (!strcmp(type, "Metaspace") && utf8_is_character(replacement)) {
        int keep = scheme ? !strcmp(scheme, "never")
                          : json_is_false(json_object_get(spec, "add_prefix_space"));
        return decode_add(
            d,
            (struct decode_step){
                .kind = DECODE_METASPACE, .from = (char *)replacement, .to = " ", .start = !keep},
            e);
    }
    return err_set(e, "the tokenizer's decoder \"%.80s\" is not supported", type);
}

struct decoder *decoder_read(const json_t *spec, struct err *e)
{
    struct decoder *d = mem_alloc(sizeof *d);
    d->growth = 1;
    if (!spec || json_is_null(spec) || !read_one(d, spec, 0, e))
        return d;
    decoder_free(d);
    return NULL;
}

void decoder_free(struct decoder *d)
{
    for (int i = 0; d && i < d->count; i++) {
        free(d->steps[i].from);
        free(d->steps[i].to);
    }
    free(d);
}

/* ---- the steps: each rewrites all texts */

static char *decode_byte_level(const char *s, int64_t n, char *out)
{
    char *from = out;
    for (int64_t i = 0; i < n;) {
        int len = utf8_length(s + i, n - i),
            byte = len ? point_to_byte(utf8_point(s + i, len)) : -1;
        if (byte < 0) { /* an added token, not in the alphabet: unchanged */
            memcpy(from, s, (size_t)n);
            return from + n;
        }
        *out++ = (char)byte;
        i += len;
    }
    return out;
}

static char *decode_replace(const struct decode_step *step, const char *s, int64_t n, int leave_out,
                            char *out)
{
    size_t from = strlen(step->from), to = leave_out ? 0 : strlen(step->to);
    const char *end = s + n;
    for (const char *p; s < end && (p = memmem(s, (size_t)(end - s), step->from, from));
         s = p + from) {
        memcpy(out, s, (size_t)(p - s));
        memcpy(out + (p - s), step->to, to);
        out += p - s + (int64_t)to;
    }
    memcpy(out, s, (size_t)(end - s));
    return out + (end - s);
}

static char *decode_fallback(const char *s, int64_t n, char *out)
{
    if (n == 6 && !memcmp(s, "<0x", 3) && s[5] == '>' && text_hex_digit(s[3]) >= 0 &&
        text_hex_digit(s[4]) >= 0) {
        *out = (char)(text_hex_digit(s[3]) * 16 + text_hex_digit(s[4]));
        return out + 1;
    }
    memcpy(out, s, (size_t)n);
    return out + n;
}

static char *decode_strip(const struct decode_step *step, const char *s, int64_t n, char *out)
{
    int64_t len = (int64_t)strlen(step->from), start = step->start, stop = step->stop;
    for (; start > 0 && n >= len && !memcmp(s, step->from, (size_t)len); start--)
        s += len, n -= len;
    for (; stop > 0 && n >= len && !memcmp(s + n - len, step->from, (size_t)len); stop--)
        n -= len;
    memcpy(out, s, (size_t)n);
    return out + n;
}

static char *decode_text(const struct decode_step *step, const char *s, int64_t n, int first,
                         char *out)
{
    switch (step->kind) {
    case DECODE_BYTE_LEVEL: return decode_byte_level(s, n, out);
    case DECODE_BYTE_FALLBACK: return decode_fallback(s, n, out);
    case DECODE_STRIP: return decode_strip(step, s, n, out);
    default:
        return decode_replace(step, s, n, step->kind == DECODE_METASPACE && first && step->start,
                              out);
    }
}

static void decode_step(const struct decode_step *step, struct texts *t)
{
    int64_t n = t->count ? t->end[t->count - 1] : 0, from = 0;
    if (step->kind == DECODE_FUSE) {
        t->end[0] = n;
        t->count = t->count > 0;
        return;
    }
    char *s = mem_alloc((size_t)(n * step_growth(step)) + 1), *out = s;
    for (int64_t i = 0; i < t->count; i++) {
        int64_t to = t->end[i];
        out = decode_text(step, t->s + from, to - from, i == 0, out);
        t->end[i] = out - s;
        from = to;
    }
    free(t->s);
    t->s = s;
}

static struct texts texts_copy(const struct piece *tokens, int64_t count, const char *between)
{
    int64_t n = 0, gap = (int64_t)strlen(between);
    for (int64_t i = 0; i < count; i++)
        n += tokens[i].n + gap;
    struct texts t = {mem_alloc((size_t)n + 1), mem_alloc((size_t)(count + 1) * sizeof *t.end),
                      count};
    n = 0;
    for (int64_t i = 0; i < count; i++) {
        memcpy(t.s + n, tokens[i].s, (size_t)tokens[i].n);
        n += tokens[i].n;
        if (i + 1 < count)
            memcpy(t.s + n, between, (size_t)gap), n += gap;
        t.end[i] = n;
    }
    return t;
}

char *decoder_apply(const struct decoder *d, const struct piece *tokens, int64_t count, int64_t *n)
{
    struct texts t = texts_copy(tokens, count, d->count ? "" : " ");
    for (int i = 0; i < d->count; i++)
        decode_step(&d->steps[i], &t);
    *n = t.count ? t.end[t.count - 1] : 0;
    t.s[*n] = 0;
    free(t.end);
    return t.s;
}
