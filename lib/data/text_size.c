/* See text_size.h. */
#include "text_size.h"

#include "../base/utf8.h"
#include "documents.h"

static int64_t words_of(const char *text, int64_t n)
{
    int64_t words = 1;
    int space = 0;
    for (int64_t i = 0; i < n;) {
        int length = utf8_length(text + i, n - i), was_space = space;
        space = length && utf8_is_space(utf8_point(text + i, length));
        words += space && !was_space;
        i += length ? length : 1;
    }
    return words;
}

int text_size_read(struct text_size *s, const char *path, const char *field, struct err *e)
{
    struct documents *d = documents_open(path, NULL, DOCUMENTS_AUTO, e);
    const char *text;
    int64_t n;
    int more = -1;
    *s = (struct text_size){0};
    if (!d)
        return -1;
    while ((more = documents_next_text(d, field, &text, &n)) > 0) {
        s->words += words_of(text, n);
        s->bytes += n;
    }
    documents_close(d, NULL);
    return more;
}

int text_size_check(const struct text_size *s, const char *path, const struct tokens *t,
                    int64_t *made_from, struct err *e)
{
    if (!s->words)
        return err_set(e, "%s holds no words, so there is nothing to divide by", path);
    int64_t n = *made_from = tokens_source_bytes(t, e);
    if (e->set)
        return -1;
    if (n <= 0 || (s->bytes - n <= n && n - s->bytes <= s->bytes))
        return 0;
    return err_set(e,
                   "--text %s has %lld bytes, but the tokens of %s come from %lld: give the text "
                   "that they were made from",
                   path, (long long)s->bytes, t->file.path, (long long)n);
}
