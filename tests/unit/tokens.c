/* Token streams by position: rows and documents, limits, source bytes, flags, refusals. Prints "N
 * passed, N failed". */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/data/data.h"
#include "check.h"

static const char some_id[] = "00112233445566778899aabbccddeeff",
                  other_id[] = "ffeeddccbbaa99887766554433221100";
static char path[] = "/tmp/pare-tokens-XXXXXX";

/* A record of a stream to be written: `n` entries counting up from `first`, as rows if `width`. */
struct plan {
    const char *name;
    int64_t n, width;
    uint32_t first;
    enum dtype dtype;
};
enum { PLANS = 6 };
/* level of zstd; 0: plain, read in place and not from a copy */
static int compress;
static int packed; /* the header says that documents share rows */

static void stream_write(const struct plan *p)
{
    static uint64_t buf[2000];
    struct err e = {0};
    struct st_out *out = st_create(path, compress, &e);
    json_t *head = json_pack("{s:s, s:s, s:s, s:[]}", "kind", "tokens", "id", some_id,
                             "tokenizer_id", other_id, "hist");
    if (packed)
        json_object_set_new(head, "packed", json_true());
    st_begin(out, head);
    json_decref(head);
    for (int k = 0; k < PLANS && p[k].name; k++) {
        struct tensor t = {.dtype = p[k].dtype ? p[k].dtype : DT_U32,
                           .ndim = p[k].width ? 2 : 1,
                           .shape = {p[k].n, 0}};
        if (p[k].width)
            t.shape[0] = p[k].n / p[k].width, t.shape[1] = p[k].width;
        snprintf(t.name, sizeof t.name, "%s", p[k].name);
        for (int64_t i = 0; i < p[k].n; i++)
            ((uint32_t *)buf)[i] = p[k].first + (uint32_t)i;
        st_put(out, &t, buf);
    }
    st_end(out);
    CHECK(!st_publish(out), "%s", e.msg);
}

static int load(struct tokens *t, const struct plan *p, int64_t limit, struct err *e)
{
    stream_write(p);
    e->set = 0;
    e->msg[0] = 0;
    struct st_in *in = st_open(path, e);
    int r = tokens_load(t, in, limit, e);
    st_close(in);
    return r;
}

/* Reads the stream as sequences instead; -1: refused. */
static int walk(const struct plan *p, struct err *e)
{
    static const struct model_spec spec = {.max_position_embeddings = 100};
    struct sequences s;
    const uint32_t *ids;
    int64_t n;
    int more = 1;
    stream_write(p);
    *e = (struct err){0};
    struct st_in *in = st_open(path, e);
    if (sequences_open(&s, in, 0, &spec, e))
        more = -1;
    while (more > 0)
        more = sequences_next(&s, &ids, &n);
    sequences_close(&s);
    st_close(in);
    return more;
}

/* Do they count up from `first` (flags: stay 0), however they are read? */
static int values_are(const struct tokens *t, enum token_record which, uint32_t first)
{
    struct err e = {0};
    int same = 1;
    for (int64_t at = 0; at < t->total; at++)
        for (int64_t n = 1; at + n <= t->total; n++) {
            union {
                uint32_t words[100];
                uint8_t flags[400];
            } got;
            same &= !tokens_read(t, which, at, n, &got, &e);
            for (int64_t i = 0; i < n; i++)
                same &= which == TOKEN_FLAGS ? !got.flags[i]
                                             : got.words[i] == first + (uint32_t)(at + i);
        }
    return same;
}

/* limit, then the expected sequences, tokens and length of the last sequence */
static void test_limits(const struct plan *p, int64_t rows[][4], int n)
{
    for (int i = 0; i < n; i++) {
        struct tokens t;
        struct err e;
        if (load(&t, p, rows[i][0], &e)) {
            CHECK(0, "limit %lld: %s", (long long)rows[i][0], e.msg);
            continue;
        }
        int64_t total = t.total, last = t.n ? total - tokens_start(&t, t.n - 1) : 0;
        CHECK(t.n == rows[i][1] && total == rows[i][2] && last == rows[i][3],
              "limit %lld: %lld sequences, %lld tokens, %lld in the last", (long long)rows[i][0],
              (long long)t.n, (long long)total, (long long)last);
        CHECK(values_are(&t, TOKEN_IDS, 100) && values_are(&t, TOKEN_BYTES, 500) &&
                  values_are(&t, TOKEN_FLAGS, 0) && t.max_id == 99 + (uint32_t)total,
              "limit %lld: values", (long long)rows[i][0]);
        CHECK(!strcmp(t.id, some_id) && !strcmp(t.tokenizer_id, other_id), "ids");
        tokens_free(&t);
    }
}

static void test_loading(void)
{
    static const struct plan rows[PLANS] = {
        {"ids", 12, 4, 100, 0}, {"other", 3, 0, 0, 0}, {"bytes", 12, 4, 500, 0}};
    static const struct plan documents[PLANS] = {
        {"ids.0", 5, 0, 100, 0}, {"bytes.0", 5, 0, 500, 0}, {"ids.1", 0, 0, 0, 0},
        {"bytes.1", 0, 0, 0, 0}, {"ids.2", 3, 0, 105, 0},   {"bytes.2", 3, 0, 505, 0}};
    int64_t of_rows[][4] = {{0, 3, 12, 4}, {12, 3, 12, 4}, {100, 3, 12, 4},
                            {8, 2, 8, 4},  {9, 3, 9, 1},   {3, 1, 3, 3}};
    int64_t of_documents[][4] = {
        {0, 3, 8, 3}, {8, 2, 8, 3}, {6, 2, 6, 1}, {5, 1, 5, 5}, {2, 1, 2, 2}};
    test_limits(rows, of_rows, 6);
    test_limits(documents, of_documents, 5);
}

/* Where chunks meet, and in last chunks whose frames are of every length. */
static void test_chunks(int rows)
{
    enum { CHUNK = ST_CHUNK / 4, MOST = 2 * CHUNK + 70000 };
    static const int64_t tails[] = {0, 1, 63, 64, 20000, 70000}, sizes[] = {1, 3, CHUNK, CHUNK + 2};
    static uint32_t ids[MOST], got[MOST];
    for (int64_t i = 0; i < MOST; i++)
        ids[i] = (uint32_t)(i % 1000003 * 977);
    for (size_t k = 0; k < sizeof tails / sizeof *tails; k++) {
        int64_t total = 2 * CHUNK + tails[k], same = 0, all = 0;
        struct err e = {0};
        struct tokens t;
        struct st_out *out = st_create(path, compress, &e);
        json_t *head = json_pack("{s:s, s:s, s:[]}", "kind", "tokens", "id", some_id, "hist");
        st_begin(out, head);
        tokens_write(out, &(struct token_arrays){.ids = ids}, total, &total, 1, rows ? total : 0);
        st_end(out);
        st_publish(out);
        json_decref(head);
        struct st_in *in = st_open(path, &e);
        CHECK(!tokens_load(&t, in, 0, &e), "%s", e.msg);
        st_close(in);
        for (int edge = 0; edge < 3; edge++)
            for (int64_t at = edge * CHUNK - 2; at < edge * CHUNK + 2; at++)
                for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
                    if (at < 0 || at + sizes[j] > total)
                        continue;
                    all++;
                    same += !tokens_read(&t, TOKEN_IDS, at, sizes[j], got, &e) &&
                            !memcmp(got, ids + at, (size_t)sizes[j] * sizeof *got);
                }
        CHECK(all > 20 && same == all, "tail of %lld: %lld of %lld; %s", (long long)tails[k],
              (long long)same, (long long)all, e.msg);
        tokens_free(&t);
    }
}

static void test_without_bytes(void)
{
    static const struct plan rows[PLANS] = {{"ids", 12, 4, 100, 0}},
                             none[PLANS] = {{"ids.0", 0, 0, 0, 0}};
    struct tokens t;
    struct err e;
    CHECK(!load(&t, rows, 0, &e) && !t.has_bytes && t.n == 3, "%s", e.msg);
    CHECK(!tokens_check(&t, 112, "x", &e), "%s", e.msg);
    CHECK(tokens_check(&t, 111, "x.tsz", &e) &&
              strstr(e.msg,
                     "x.tsz has token id 111, but the model's vocabulary has only 111 tokens: "
                     "tokenize its text with that model"),
          "%s", e.msg);
    tokens_free(&t);
    CHECK(!load(&t, none, 0, &e) && t.n == 1 && tokens_check(&t, 10, "x.tsz", &e) &&
              strstr(e.msg, "no tokens"),
          "%s", e.msg);
    tokens_free(&t);
}

/* Flags of some documents only; unknown ones; ignored ones; what they do to windows. */
static void test_flags(void)
{
    static const struct plan some[PLANS] = {
        {"ids.0", 3, 0, 5, 0}, {"ids.1", 3, 0, 8, 0}, {"flags.1", 3, 0, 0x010300, DT_U8}};
    static const struct plan unknown[PLANS] = {{"ids.0", 3, 0, 5, 0},
                                               {"flags.0", 3, 0, 0x000400, DT_U8}};
    static const uint8_t expected[] = {0, 0, 0, 0, 3, 1}, begins[] = {0, 0, 0, 0, 2, 0};
    struct tokens t;
    struct err e;
    struct windows w;
    /* the last record of a file, shorter than the longest frame of a chunk */
    static const struct plan shortest[PLANS] = {{"ids.0", 2, 0, 5, 0},
                                                {"flags.0", 2, 0, 0x0103, DT_U8}};
    uint8_t flags[6];
    CHECK(load(&t, unknown, 0, &e) && strstr(e.msg, "flags 4"), "unknown flags: %s", e.msg);
    CHECK(load(&t, some, 0, &e) && strstr(e.msg, "header does not say so"), "packed: %s", e.msg);
    packed = 1;
    CHECK(!load(&t, some, 0, &e) && t.flags == 3, "%s", e.msg);
    CHECK(!tokens_read(&t, TOKEN_FLAGS, 0, 6, flags, &e) && !memcmp(flags, expected, 6),
          "flags of the second document");
    CHECK(!windows_open(&w, &t, &(struct window_options){0}, &e) && w.n == 1 && w.predictions == 2,
          "%lld windows, %lld predictions", (long long)w.n, (long long)w.predictions);
    windows_close(&w);
    t.flags &= ~(unsigned)TOKEN_UNCOUNTED;
    CHECK(!tokens_read(&t, TOKEN_FLAGS, 0, 6, flags, &e) && !memcmp(flags, begins, 6),
          "an ignored flag");
    CHECK(!windows_open(&w, &t, &(struct window_options){0}, &e) && w.n == 2 && w.predictions == 3,
          "%lld windows, %lld predictions of all", (long long)w.n, (long long)w.predictions);
    windows_close(&w);
    tokens_free(&t);
    CHECK(!load(&t, shortest, 0, &e) && !tokens_read(&t, TOKEN_FLAGS, 0, 2, flags, &e) &&
              flags[0] == 3 && flags[1] == 1,
          "flags of two tokens: %s", e.msg);
    tokens_free(&t);
    packed = 0;
}

static void test_refusals(void)
{
    static const struct {
        const char *message;
        struct plan p[PLANS];
    } refused[] = {
        {"no record ids", {{NULL, 0, 0, 0, 0}}},
        {"no record ids", {{"idsx", 3, 0, 0, 0}}},
        {"not u32 [sequences, tokens]", {{"ids", 4, 0, 0, 0}}},
        {"not u32 [sequences, tokens]", {{"ids", 4, 4, 0, DT_I32}}},
        {"not u32 [tokens]", {{"ids.0", 4, 4, 0, 0}}},
        {"out of place", {{"ids.1", 4, 0, 0, 0}}},
        {"out of place", {{"ids.0", 4, 0, 0, 0}, {"ids.0", 4, 0, 0, 0}}},
        {"out of place", {{"ids.0", 4, 0, 0, 0}, {"ids", 4, 4, 0, 0}}},
        {"out of place", {{"ids", 4, 4, 0, 0}, {"ids.1", 4, 0, 0, 0}}},
        {"a second record ids", {{"ids", 4, 4, 0, 0}, {"ids", 4, 4, 0, 0}}},
        {"does not match", {{"bytes", 4, 4, 0, 0}}},
        {"does not match", {{"ids", 4, 4, 0, 0}, {"bytes", 3, 3, 0, 0}}},
        {"does not match", {{"ids.0", 4, 0, 0, 0}, {"bytes.0", 5, 0, 0, 0}}},
        {"does not match", {{"ids", 4, 4, 0, 0}, {"flags", 4, 2, 0, DT_U8}}},
        {"does not match",
         {{"ids.0", 4, 0, 0, 0}, {"flags.0", 4, 0, 0, DT_U8}, {"bytes.0", 4, 0, 0, 0}}},
        {"flags is not u8 [sequences, tokens]", {{"ids", 4, 4, 0, 0}, {"flags", 4, 4, 0, 0}}},
        {"some of its tokens only",
         {{"ids.0", 4, 0, 0, 0}, {"ids.1", 4, 0, 0, 0}, {"bytes.1", 4, 0, 0, 0}}},
        {"some of its tokens only",
         {{"ids.0", 4, 0, 0, 0}, {"bytes.0", 4, 0, 0, 0}, {"ids.1", 4, 0, 0, 0}}},
    };
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct tokens t;
        struct err e;
        CHECK(load(&t, refused[i].p, 0, &e) && strstr(e.msg, refused[i].message) &&
                  strstr(e.msg, path),
              "%u: \"%s\" should tell \"%s\"", i, e.msg, refused[i].message);
        if (!strstr(refused[i].message, "some of its tokens")) /* sequences do not read bytes */
            CHECK(walk(refused[i].p, &e) && strstr(e.msg, refused[i].message),
                  "%u, as sequences: \"%s\" should tell \"%s\"", i, e.msg, refused[i].message);
    }
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return perror(path), 1;
    close(fd);
    for (compress = 0; compress < 2; compress++) {
        test_loading();
        test_chunks(0);
        test_chunks(1);
        test_without_bytes();
        test_flags();
        test_refusals();
    }
    unlink(path);
    return check_report();
}
