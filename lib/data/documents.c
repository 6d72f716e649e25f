/* Documents of a file or pipe: see documents.h. Memory is one document (one file, without a
 * separator). Refuses what text_in.h and documents.h name, JSON that lacks the field, objects that
 * are spread over several lines, and what follows an array. */
#include "documents.h"

#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/text.h"
#include "examples.h"
#include "json_extent.h"
#include "text_in.h"

enum { READ_BYTES = 1 << 20 };

enum form { FORM_WHOLE, FORM_PIECES, FORM_LINES, FORM_ARRAY };

struct documents {
    struct text_in *in;
    enum form form;
    enum documents_format format;
    const char *path, *separator;
    int ended, by_name;
    char *buffer; /* [from, n): read but not yet returned */
    int64_t from, n, room, bytes, number;
    struct digest digest;
    struct json_scan scan; /* holds the text of the current line */
    char *where;           /* the place of the last document, as documents_where says it */
    struct err *e;
};

enum documents_format documents_format_given(const char *format, const char *field,
                                             const char *separator, struct err *e)
{
    static const char *const names[] = {"auto", "text", "json"};
    int i = 0;
    while (format && i < 3 && strcmp(format, names[i]))
        i++;
    if (i == 3)
        err_set(e, "--format must be auto, text or json, not \"%s\"", format);
    else if (field && i == DOCUMENTS_TEXT)
        err_set(e, "--field is for JSON, and --format text reads none");
    else if (separator && (field || i == DOCUMENTS_JSON))
        err_set(e, "%s and --doc-sep cannot be combined: JSON is already divided into documents",
                field ? "--field" : "--format json");
    return field ? DOCUMENTS_JSON : (enum documents_format)i;
}

int64_t documents_bytes(const struct documents *d) { return d->bytes; }
int64_t documents_number(const struct documents *d) { return d->number; }

int64_t documents_taken(const struct documents *d, int64_t *total)
{
    return text_in_taken(d->in, total);
}

int documents_json(const struct documents *d, int *by_name)
{
    *by_name = d->by_name;
    return d->form >= FORM_LINES;
}

void documents_close(struct documents *d, char digest[ST_DIGEST])
{
    char unused[ST_DIGEST];
    digest_close(&d->digest, digest ? digest : unused);
    json_scan_close(&d->scan);
    if (d->in)
        text_in_close(d->in);
    free(d->buffer);
    free(d->where);
    free(d);
}

/* ---- bytes */

static int check_nul(const struct documents *d, int64_t got)
{
    const char *new = d->buffer + d->n, *nul = memchr(new, 0, (size_t)got);
    if (!nul || d->format != DOCUMENTS_AUTO || d->form >= FORM_LINES)
        return 0;
    return err_set(d->e,
                   "%s has a NUL byte at byte %lld, so it is not text: tr -d '\\0' removes them",
                   d->path, (long long)(d->bytes + (nul - d->buffer) - d->from));
}

static int documents_read(struct documents *d)
{
    if (d->from) {
        memmove(d->buffer, d->buffer + d->from, (size_t)(d->n - d->from));
        d->n -= d->from;
        d->from = 0;
    }
    if (d->room - d->n < READ_BYTES)
        d->buffer = mem_grow(d->buffer, (size_t)(d->room = 2 * d->n + 2 * READ_BYTES));
    int64_t got = text_in_read(d->in, d->buffer + d->n, READ_BYTES);
    if (got < 0 || check_nul(d, got))
        return -1;
    d->ended = !got;
    d->n += got;
    return 0;
}

/* Moves on by n bytes. */
static void consume(struct documents *d, int64_t n)
{
    digest_add(&d->digest, d->buffer + d->from, (size_t)n);
    d->from += n;
    d->bytes += n;
}

static int is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Moves on to the next byte that is not white space. 1: there is one, 0: the end, -1. */
static int skip_blanks(struct documents *d)
{
    for (;;) {
        int64_t i = d->from;
        while (i < d->n && is_blank(d->buffer[i]))
            i++;
        if (i > d->from)
            consume(d, i - d->from);
        if (i < d->n || d->ended)
            return i < d->n;
        if (documents_read(d))
            return -1;
    }
}

/* The value that begins at buffer[from + skip]: reads until it is there. Where it ends, counted
 * from `from`; -1: not before the end of the file, or an error. */
static int64_t value_read(struct documents *d, int64_t skip)
{
    struct json_extent x = {0};
    for (;;) {
        int64_t n = d->n - d->from - skip, end = json_extent(&x, d->buffer + d->from + skip, n);
        if (end >= 0)
            return skip + end;
        if (d->ended || documents_read(d))
            return d->ended && !d->e->set && x.at && !x.depth && !x.in_string ? skip + n : -1;
    }
}

/* ---- pieces */

/* The bytes up to the next separator, which is consumed too. 1, 0 at the end, -1. */
static int documents_piece(struct documents *d, const char **text, int64_t *n)
{
    int64_t length = d->separator ? (int64_t)strlen(d->separator) : 0, seen = 0;
    const char *at;
    for (;;) {
        at = length && d->buffer
                 ? memmem(d->buffer + d->from + seen, (size_t)(d->n - d->from - seen), d->separator,
                          (size_t)length)
                 : NULL;
        if (at || d->ended)
            break;
        seen = d->n - d->from - length + 1;
        seen = seen > 0 ? seen : 0;
        if (documents_read(d))
            return -1;
    }
    if (!at && d->from == d->n)
        return 0;
    *text = d->buffer + d->from;
    *n = (at ? at : d->buffer + d->n) - *text;
    consume(d, *n + (at ? length : 0));
    d->number++;
    return 1;
}

static void text_strip(const char **text, int64_t *n)
{
    while (*n && is_blank((*text)[*n - 1]))
        --*n;
    while (*n && is_blank(**text))
        ++*text, --*n;
}

/* Consumes what stands before the next element. 1: it follows, 0: the array has ended, -1. */
static int element_begin(struct documents *d)
{
    int more = skip_blanks(d);
    if (more > 0 && d->buffer[d->from] == (d->number ? ',' : '[')) {
        consume(d, 1);
        more = skip_blanks(d);
        if (more > 0 && (d->number || d->buffer[d->from] != ']'))
            return 1;
    }
    if (more <= 0)
        return more ? -1 : err_set(d->e, "%s ends early, inside its array", d->path);
    if (d->buffer[d->from] != ']')
        return err_set(d->e, "%s: element %lld of its array is followed by neither , nor ]",
                       d->path, (long long)d->number);
    consume(d, 1);
    more = skip_blanks(d);
    return more > 0 ? err_set(d->e, "%s: something follows its array", d->path) : more;
}

static int documents_element(struct documents *d, const char **text, int64_t *n)
{
    int more = element_begin(d);
    if (more <= 0)
        return more;
    d->number++;
    if ((*n = value_read(d, 0)) < 0)
        return err_set(d->e, "%s ends early, inside element %lld of its array", d->path,
                       (long long)d->number);
    *text = d->buffer + d->from;
    consume(d, *n);
    return 1;
}

const char *documents_where(struct documents *d)
{
    free(d->where);
    return d->where = mem_format("%s: %s %lld", d->path, d->form == FORM_ARRAY ? "element" : "line",
                                 (long long)d->number);
}

int documents_next(struct documents *d, const char **text, int64_t *n)
{
    int r;
    if (d->form == FORM_ARRAY)
        return documents_element(d, text, n);
    while ((r = documents_piece(d, text, n)) > 0) {
        if (d->form == FORM_WHOLE)
            return 1;
        text_strip(text, n);
        if (*n)
            return 1;
    }
    return r;
}

int documents_next_text(struct documents *d, const char *field, const char **text, int64_t *n)
{
    int r = documents_next(d, text, n);
    if (r <= 0 || d->form < FORM_LINES)
        return r;
    json_scan_close(&d->scan);
    *text = json_line_text(&d->scan, documents_where(d), *text, field ? field : "text", n, d->e);
    return *text ? 1 : -1;
}

/* ---- what the file holds */

static int ends_name(const char *path, const char *const *endings)
{
    for (; *endings; endings++)
        if (text_ends(path, *endings))
            return 1;
    return 0;
}

/* A whole JSON object that is not empty? */
static int is_object(const char *s, int64_t n)
{
    struct json_scan j, first;
    json_scan_open(&j, s, n);
    first = j;
    json_skip_value(&j);
    int whole = !j.failed && j.p == j.end && json_take(&first, '{') && !json_take(&first, '}');
    json_scan_close(&j);
    return whole;
}

/* Is there nothing but white space up to the end of the line that has buffer[from + at]? */
static int line_ends(struct documents *d, int64_t at)
{
    for (;; at++) {
        if (at == d->n - d->from && !d->ended && documents_read(d))
            return 0;
        if (at == d->n - d->from)
            return 1;
        char c = d->buffer[d->from + at];
        if (c == '\n' || !is_blank(c))
            return c == '\n';
    }
}

enum { MARK = 3 }; /* bytes of the mark that some programs put before UTF-8 */

static int has_mark(const struct documents *d)
{
    return d->n >= MARK && !memcmp(d->buffer, "\xef\xbb\xbf", MARK);
}

/* Where in the buffer the first object begins that the file, or the array in it, begins with; -1:
 * there is none. */
static int64_t object_begins(const struct documents *d, int *array)
{
    const char *s = d->buffer + (has_mark(d) ? MARK : 0), *end = d->buffer + d->n;
    while (s < end && is_blank(*s))
        s++;
    *array = s < end && *s == '[';
    for (s += *array; s < end && is_blank(*s);)
        s++;
    return s < end && *s == '{' ? s - d->buffer : -1;
}

/* Sets the form that the file's beginning shows; leaves it alone if that is not JSON. */
static int form_detect(struct documents *d)
{
    int array;
    int64_t begin = object_begins(d, &array), end = begin < 0 ? -1 : value_read(d, begin);
    if (end < 0 || !is_object(d->buffer + begin, end - begin))
        return d->e->set ? -1 : 0;
    if (!array && memchr(d->buffer + begin, '\n', (size_t)(end - begin)))
        return err_set(d->e,
                       "%s begins with a JSON object that is spread over several lines: jq -c . "
                       "puts each on a line of its own, --format text takes it as plain text",
                       d->path);
    if (array)
        d->form = FORM_ARRAY;
    else if (line_ends(d, end))
        d->form = FORM_LINES;
    return d->e->set ? -1 : 0;
}

/* Finds out the form of the file, whose first bytes are read. */
static int form_find(struct documents *d)
{
    static const char *const lines[] = {".jsonl",     ".ndjson",     ".jsonl.gz", ".ndjson.gz",
                                        ".jsonl.zst", ".ndjson.zst", NULL};
    static const char *const json[] = {".json", ".json.gz", ".json.zst", NULL};
    int array;
    d->by_name = d->format == DOCUMENTS_AUTO && ends_name(d->path, lines);
    if (!d->separator && form_detect(d))
        return -1;
    if (d->form < FORM_LINES && (d->by_name || d->format == DOCUMENTS_JSON)) {
        object_begins(d, &array);
        d->form = array ? FORM_ARRAY : FORM_LINES;
    }
    if (d->form == FORM_WHOLE && ends_name(d->path, json))
        return err_set(d->e,
                       "%s holds neither lines of JSON nor an array of objects; --format text "
                       "takes it as plain text",
                       d->path);
    if (d->form >= FORM_LINES) {
        d->separator = "\n";
        consume(d, has_mark(d) ? MARK : 0);
    }
    return 0;
}

struct documents *documents_open(const char *path, const char *separator,
                                 enum documents_format format, struct err *e)
{
    struct text_in *in = text_in_open(path, e);
    if (!in)
        return NULL;
    struct documents *d = mem_alloc(sizeof *d);
    *d = (struct documents){.in = in,
                            .path = text_in_path(in),
                            .separator = format == DOCUMENTS_LINES ? "\n" : separator,
                            .format = format,
                            .e = e};
    d->form = d->separator ? FORM_PIECES : FORM_WHOLE;
    digest_open(&d->digest);
    int find = format == DOCUMENTS_JSON || format == DOCUMENTS_AUTO;
    if (!documents_read(d) && (!find || !form_find(d)))
        return d;
    documents_close(d, NULL);
    return NULL;
}

int documents_ids(const struct documents *d, const char *s, int64_t n, int64_t vocab_size,
                  struct ids *out)
{
    int64_t most = vocab_size ? vocab_size : (int64_t)INT32_MAX + 1;
    for (int64_t i = 0; i < n;) {
        int64_t id = 0, from = i;
        for (; i < n && s[i] >= '0' && s[i] <= '9' && id < most; i++)
            id = 10 * id + (s[i] - '0');
        if (i == from || (i < n && !is_blank(s[i]) && id < most))
            return err_set(d->e, "%s: line %lld: expected decimal token ids, not \"%.*s\"", d->path,
                           (long long)d->number, (int)(n - from < 20 ? n - from : 20), s + from);
        if (id >= most)
            return err_set(d->e,
                           "%s: line %lld has id %.*s, larger than the largest possible, %lld",
                           d->path, (long long)d->number, (int)strspn(s + from, "0123456789"),
                           s + from, (long long)most - 1);
        ids_push(out, (uint32_t)id, 0);
        while (i < n && is_blank(s[i]))
            i++;
    }
    return 0;
}
