/* The stream's reader and writer: round trips plain and compressed, every kind of damage, hostile
 * sizes, failing outputs, and the worked example of formats/SPEC.md byte for byte. Run from the
 * repository root. Prints "N passed, N failed". */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../formats/stream.h"
#include "../../lib/base/mem.h"
#include "../../lib/base/rng.h"

static int passed, failed;
static char dir[] = "/tmp/pare-stream-XXXXXX";

static void check(int ok, const char *what, const char *why)
{
    if (ok) {
        passed++;
        return;
    }
    failed++;
    printf("FAILED: %s", what);
    if (why && *why)
        printf(": %s", why);
    putchar('\n');
}

static char *in_dir(const char *name) { return mem_format("%s/%s", dir, name); }

struct bytes {
    unsigned char *p;
    size_t n;
};

static struct bytes file_read(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct bytes b = {mem_alloc(64 << 20), 0};
    if (f) {
        b.n = fread(b.p, 1, 64 << 20, f);
        fclose(f);
    }
    return b;
}

static void file_write(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    fwrite(p, 1, n, f);
    fclose(f);
}

/* ---- writing and reading a stream */

struct plan {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[3];
};
static const struct plan small[] = {
    {"a", DT_F32, 2, {2, 3}}, {"none", DT_U8, 1, {0}}, {"scalar", DT_I64, 0, {0}}};
static const struct plan large[] = {{"one", DT_U8, 1, {ST_CHUNK}},
                                    {"more", DT_U8, 1, {ST_CHUNK + 1}},
                                    {"many", DT_F32, 3, {3, 257, 1031}},
                                    {"q", DT_Q8_0, 2, {5, 64}},
                                    {"256", DT_U8, 1, {256}},
                                    {"65536", DT_U16, 1, {32768}},
                                    {"last", DT_F64, 1, {131071}}};

static struct tensor plan_tensor(const struct plan *p)
{
    struct tensor t = {
        .dtype = p->dtype, .ndim = p->ndim, .shape = {p->shape[0], p->shape[1], p->shape[2]}};
    snprintf(t.name, sizeof t.name, "%s", p->name);
    return t;
}

static unsigned char *plan_data(const struct tensor *t, uint64_t seed)
{
    struct rng r = rng_open(seed, 0);
    int64_t n = tensor_bytes(t);
    unsigned char *p = mem_alloc((size_t)n);
    for (int64_t i = 0; i < n; i++)
        p[i] = (unsigned char)(rng_u64(&r) >> 60); /* compressible */
    return p;
}

static json_t *sample_head(void)
{
    return json_pack("{s:s, s:s, s:{s:i, s:f, s:n, s:b, s:I}, s:[]}", "kind", "acts", "id",
                     "0123456789abcdef0123456789abcdef", "meta", "n", -5, "x", 0.1, "nil", "yes", 1,
                     "big", (json_int_t)INT64_MAX, "hist");
}

/* pieces: 0 by st_put, else payload in pieces of that many bytes. */
static int sample_write(const char *path, int compress, const struct plan *plans, int n,
                        int64_t pieces, struct err *e)
{
    struct st_out *out = st_create(path, compress, e);
    json_t *head = sample_head();
    if (out)
        st_begin(out, head);
    json_decref(head);
    if (!out)
        return -1;
    for (int i = 0; i < n; i++) {
        struct tensor t = plan_tensor(&plans[i]);
        unsigned char *data = plan_data(&t, (uint64_t)i);
        if (!pieces)
            st_put(out, &t, data);
        else
            st_record(out, &t);
        for (int64_t at = 0; pieces && at < tensor_bytes(&t); at += pieces)
            st_write(out, data + at,
                     tensor_bytes(&t) - at < pieces ? tensor_bytes(&t) - at : pieces);
        free(data);
    }
    st_end(out);
    return st_publish(out);
}

/* The record in two parts that are appended to each other. */
static int read_more(struct st_in *in, unsigned char *to, int64_t n)
{
    struct st_buffer b = {0};
    int ok = !st_read_more(in, &b, n / 3) && !st_read_more(in, &b, n - n / 3) && b.n == n;
    if (ok && n)
        memcpy(to, b.data, (size_t)n);
    free(b.data);
    return ok;
}

static int sample_read(const char *path, const struct plan *plans, int n, int64_t pieces,
                       struct err *e)
{
    struct st_in *in = st_open(path, e);
    struct tensor t, want;
    int ok = in != NULL, i = 0;
    json_t *head = sample_head();
    if (in) {
        const char *first = json_object_iter_key(json_object_iter(st_head(in)));
        ok = !strcmp(first, "pare");
        json_object_set_new(head, "pare", json_integer(1));
        ok = ok && json_equal(head, st_head(in));
    }
    json_decref(head);
    while (ok && st_next(in, &t) > 0 && i < n) {
        want = plan_tensor(&plans[i]);
        unsigned char *data = plan_data(&want, (uint64_t)i),
                      *got = mem_alloc((size_t)tensor_bytes(&want));
        ok = !memcmp(&t, &want, sizeof t);
        if (pieces < 0)
            ; /* leave it to st_next to skip */
        else if (!pieces)
            ok = ok && read_more(in, got, tensor_bytes(&t));
        else
            for (int64_t at = 0, r; ok && at < tensor_bytes(&t); at += r) {
                int64_t left = tensor_bytes(&t) - at, k = pieces < left ? pieces : left;
                r = st_read(in, got + at, k);
                ok = r == k;
            }
        ok = ok && (pieces < 0 || !memcmp(got, data, (size_t)tensor_bytes(&want)));
        ok = ok && (pieces < 0 || st_read(in, got, 1) == 0 || !tensor_bytes(&t));
        free(data);
        free(got);
        i++;
    }
    ok = ok && i == n && st_next(in, &t) == 0 && !e->set;
    st_close(in);
    return ok;
}

/* Reads to the end; 1 if whole. */
static int is_whole(const char *path, struct err *e)
{
    struct tensor t;
    struct st_in *in = st_open(path, e);
    int r = -1;
    while (in && (r = st_next(in, &t)) > 0)
        ;
    st_close(in);
    check((r == 0) == !e->set, "a result that agrees with the error", e->msg);
    return r == 0;
}

static void test_round_trips(void)
{
    static const int64_t pieces[] = {0, 1000, 1 << 16, (1 << 20) + 7, 1 << 24};
    char *path = in_dir("a.tsz");
    for (int compress = -1; compress < 4; compress += 1 + (compress == 0))
        for (unsigned i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            struct err e = {0};
            check(!sample_write(path, compress, large, 7, pieces[i], &e), "write large", e.msg);
            check(sample_read(path, large, 7, pieces[(i + 1) % 5], &e), "read large", e.msg);
            check(sample_read(path, large, 7, -1, &e), "skip large", e.msg);
            check(!sample_write(path, compress, small, 3, i ? (int64_t)i : 0, &e), "write small",
                  e.msg);
            check(sample_read(path, small, 3, i ? 7 : 0, &e), "read small", e.msg);
        }
    free(path);
}

/* The same bytes however the payload was cut; a regular file is compressed unless told otherwise.
 */
static void test_bytes_are_fixed(void)
{
    struct err e = {0};
    char *a = in_dir("a.tsz"), *b = in_dir("b.tsz");
    sample_write(a, 0, large, 7, 0, &e);
    sample_write(b, 0, large, 7, 777, &e);
    struct bytes x = file_read(a), y = file_read(b);
    check(x.n == y.n && !memcmp(x.p, y.p, x.n), "same bytes for any pieces", e.msg);
    free(y.p);
    sample_write(b, -1, large, 7, 0, &e);
    y = file_read(b);
    check(y.n < x.n && y.p[0] == 0x28 && y.p[1] == 0xb5 && x.p[0] == 0x85, "zstd for files", e.msg);
    free(x.p);
    free(y.p);
    free(a);
    free(b);
}

/* ---- damage */

static void test_damage(void)
{
    for (int compress = 0; compress < 2; compress++) {
        struct err e = {0};
        char *path = in_dir("a.tsz"), *bad = in_dir("bad.tsz"), note[100];
        sample_write(path, compress, small, 3, 0, &e);
        struct bytes b = file_read(path);
        int cut = 0, flipped = 0;
        for (size_t n = 0; n < b.n; n++) {
            e.set = 0;
            file_write(bad, b.p, n);
            cut += !is_whole(bad, &e);
            for (int bit = 0; bit < 8; bit++) {
                unsigned char *copy = mem_alloc(b.n);
                memcpy(copy, b.p, b.n);
                copy[n] ^= (unsigned char)(1 << bit);
                file_write(bad, copy, b.n);
                free(copy);
                e.set = 0;
                int whole = is_whole(bad, &e);
                /* some zstd bits have no effect (an unused flag, a larger window): then the content
                 * must be the same */
                flipped += !whole || (compress && sample_read(bad, small, 3, 0, &e));
            }
        }
        snprintf(note, sizeof note, "%d of %zu", cut, b.n);
        check(cut == (int)b.n, "every truncation is detected", note);
        snprintf(note, sizeof note, "%d of %zu", flipped, 8 * b.n);
        check(flipped == 8 * (int)b.n, "every flipped bit is detected or harmless", note);
        file_write(bad, b.p, b.n);
        FILE *f = fopen(bad, "ab");
        fputc(0xc0, f);
        fclose(f);
        e.set = 0;
        check(!is_whole(bad, &e), "a byte after the end map is refused", e.msg);
        free(b.p);
        free(path);
        free(bad);
    }
}

/* A damaged large record is noticed by the reader that asked for its bytes, no later than with the
 * last of them. */
static void test_damage_is_seen_by_reader(void)
{
    struct err e = {0};
    struct tensor t;
    char *path = in_dir("a.tsz"), buf[4096];
    sample_write(path, 0, large, 2, 0, &e);
    struct bytes b = file_read(path);
    b.p[b.n / 4] ^= 1;
    file_write(path, b.p, b.n);
    struct st_in *in = st_open(path, &e);
    int64_t r = 0;
    st_next(in, &t);
    while ((r = st_read(in, buf, sizeof buf)) > 0)
        ;
    check(r < 0 && strstr(e.msg, "digest") && strstr(e.msg, "record one"), "a flipped payload byte",
          e.msg);
    check(st_next(in, &t) < 0 && st_read(in, buf, 1) < 0, "errors stick", e.msg);
    st_close(in);
    free(b.p);
    free(path);
}

/* ---- hostile and malformed objects */

#define HEAD "\x82\xa4pare\x01\xa4kind\xa1m"
static const struct {
    const char *what;
    const char *bytes;
    size_t n;
    const char *message;
} hostile[] = {
#define ROW(what, bytes, message) \
    { \
        what, bytes, sizeof bytes - 1, message \
    }
    ROW("empty file", "", "is empty"),
    ROW("text", "hello world, this is text", "not a pare stream"),
    ROW("one byte", "\x81", "header"),
    ROW("array of 4 G", "\xdd\xff\xff\xff\xff", "not a pare stream"),
    ROW("map of 4 G", "\xdf\xff\xff\xff\xff\xa4pare\x01", "size larger than the limit"),
    ROW("array of 4 G inside", "\x82\xa4pare\x01\xa1x\xdd\xff\xff\xff\xff",
        "size larger than the limit"),
    ROW("text of 4 G", "\x82\xa4pare\x01\xa1x\xdb\xff\xff\xff\xff", "size larger than the limit"),
    ROW("array longer than the file", "\x82\xa4pare\x01\xa1x\xdc\x40\x00zz",
        "size larger than the limit"),
    ROW("binary", "\x82\xa4pare\x01\xa4kind\xc4\x01z", "type that headers do not use"),
    ROW("extension", "\x82\xa4pare\x01\xa4kind\xd4\x01z", "type that headers do not use"),
    ROW("reserved byte", "\x82\xa4pare\x01\xa4kind\xc1", "type that headers do not use"),
    ROW("not UTF-8", "\x82\xa4pare\x01\xa4kind\xa2\xff\xfe", "not UTF-8"),
    ROW("NUL in text", "\x82\xa4pare\x01\xa4kind\xa2z\0", "NUL"),
    ROW("key twice", "\x83\xa4pare\x01\xa4kind\xa1m\xa4kind\xa1m", "twice"),
    ROW("key no text", "\x83\xa4pare\x01\xa4kind\xa1m\x01\x01", "key that is not text"),
    ROW("NaN", "\x83\xa4pare\x01\xa4kind\xa1m\xa1x\xcb\x7f\xf8\0\0\0\0\0\0", "not finite"),
    ROW("infinity", "\x83\xa4pare\x01\xa4kind\xa1m\xa1x\xca\x7f\x80\0\0", "not finite"),
    ROW("64 bits", "\x83\xa4pare\x01\xa4kind\xa1m\xa1x\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        "63 bits"),
    ROW("version 2", "\x82\xa4pare\x02\xa4kind\xa1m", "version 2"),
    ROW("version text", "\x82\xa4pare\xa1z\xa4kind\xa1m", "version is not an integer"),
    ROW("no kind", "\x81\xa4pare\x01", "no \"kind\""),
    ROW("no end map", HEAD, "no end map"),
    ROW("record no map", HEAD "\x01", "not a map"),
    ROW("record of 4 G", HEAD "\xdf\xff\xff\xff\xff", "size larger than the limit"),
    ROW("record without shape",
        HEAD "\x82\xa4name\xa1z\xa5"
             "dtype\xa2u8",
        "not {name, dtype, shape, bytes}"),
    ROW("record name empty",
        HEAD "\x84\xa4name\xa0\xa5"
             "dtype\xa2u8\xa5shape\x91\x01\xa5"
             "bytes\x01",
        "not {name, dtype, shape, bytes}"),
    ROW("unknown dtype",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2z8\xa5shape\x91\x01\xa5"
             "bytes\x01",
        "unknown dtype"),
    ROW("bytes disagree",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x02\xa5"
             "bytes\x01",
        "do not make 1 bytes"),
    ROW("negative shape",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\xff\xa5"
             "bytes\xff",
        "do not make"),
    ROW("shape overflows",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa3"
             "f64\xa5shape\x92\xcf\x20\0\0\0\0\0\0\0\x08\xa5"
             "bytes\0",
        "do not make"),
    ROW("shape of text",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\xa1z\xa5"
             "bytes\x01",
        "do not make"),
    ROW("seven dimensions",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x97\x01\x01\x01\x01\x01\x01\x01\xa5"
             "bytes\x01",
        "7 dimensions"),
    ROW("q8_0 of 31",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa4q8_0\xa5shape\x91\x1f\xa5"
             "bytes\x22",
        "do not make"),
    ROW("exabytes",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\xcf\x10\0\0\0\0\0\0\0\xa5"
             "bytes\xcf\x10\0\0\0\0\0\0\0\xc6\0\x10\0\0z",
        "ends early"),
    ROW("is missing",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x02\xa5"
             "bytes\x02\xa2zz",
        "is missing"),
    ROW("short chunk",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x02\xa5"
             "bytes\x02\xc4\x01z\xc4\x01z",
        "a chunk of 1 bytes"),
    ROW("long chunk",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x02\xa5"
             "bytes\x02\xc4\x03zzz",
        "a chunk of 3 bytes"),
    ROW("no digest",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x01\xa5"
             "bytes\x01\xc4\x01z\x80",
        "digest"),
    ROW("wrong digest",
        HEAD "\x84\xa4name\xa1z\xa5"
             "dtype\xa2u8\xa5shape\x91\x01\xa5"
             "bytes\x01\xc4\x01z\x81\xa6"
             "digest\xa1z",
        "digest of record z"),
    ROW("wrong count",
        HEAD "\x82\xa7records\x01\xa6"
             "digest\xa1z",
        "its end map says 1"),
    ROW("wrong end digest",
        HEAD "\x82\xa7records\0\xa6"
             "digest\xa1z",
        "digest of its headers"),
    ROW("broken zstd", "\x28\xb5\x2f\xfd\x04\x00\xff\xff\xff\xff\xff\xff", "damaged"),
    ROW("zstd magic alone", "\x28\xb5\x2f\xfd", "ends early"),
};

static void test_hostile(void)
{
    char *path = in_dir("bad.tsz");
    for (unsigned i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct err e = {0};
        file_write(path, hostile[i].bytes, hostile[i].n);
        check(!is_whole(path, &e) && strstr(e.msg, hostile[i].message) && strstr(e.msg, path),
              hostile[i].what, e.msg);
    }
    /* a nest of 40 arrays; and from a pipe, where the size is not known, 200 million entries and a
     * text of 200 MB that never come */
    unsigned char nest[64] = "\x83\xa4pare\x01\xa4kind\xa1m\xa1x";
    struct err e = {0};
    memset(nest + 16, 0x91, 40);
    file_write(path, nest, 58);
    check(!is_whole(path, &e) && strstr(e.msg, "deeper than 32"), "deep nesting", e.msg);
    free(path);
}

/* Claims of a pipe allocate nothing: run under a small address space. */
static void test_hostile_pipe(void)
{
    static const struct {
        const char *bytes;
        size_t n;
    } claims[] = {{"\x82\xa4pare\x01\xa1x\xdd\x0b\xff\xff\xff", 14},
                  {"\x82\xa4pare\x01\xa1x\xdb\x0b\xff\xff\xff", 14}};
    for (int i = 0; i < 2; i++) {
        int fd[2], status = 0;
        if (pipe(fd))
            return check(0, "pipe", "");
        pid_t pid = fork();
        if (!pid) {
            struct rlimit limit = {80 << 20, 80 << 20};
            struct err e = {0};
            dup2(fd[0], 0);
            close(fd[1]);
#ifndef __SANITIZE_ADDRESS__
            setrlimit(RLIMIT_AS, &limit);
#endif
            (void)limit;
            const char *says = i ? "far more memory" : "ends early";
            _exit(!st_open("-", &e) && strstr(e.msg, says) ? 0 : 1);
        }
        close(fd[0]);
        check(write(fd[1], claims[i].bytes, claims[i].n) == (ssize_t)claims[i].n, "pipe", "");
        close(fd[1]);
        waitpid(pid, &status, 0);
        check(WIFEXITED(status) && !WEXITSTATUS(status), "a hostile pipe", i ? "text" : "array");
    }
}

/* A header of many small values in a zstd frame of a few hundred bytes is refused early; one in
 * proportion to the file is read. */
static void test_header_memory(void)
{
    static const struct {
        const char *what;
        int values, level, whole;
    } cases[] = {{"a million maps in a small frame", 1000000, 19, 0},
                 {"a million maps, plain", 1000000, 0, 0},
                 {"a hundred thousand maps in a small frame", 100000, 19, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        char *path = in_dir("maps.tsz");
        json_t *head = sample_head(), *list = json_array();
        for (int k = 0; k < cases[i].values; k++)
            json_array_append_new(list, json_object());
        json_object_set_new(head, "list", list);
        struct st_out *out = st_create(path, cases[i].level, &e);
        st_begin(out, head);
        st_end(out);
        st_publish(out);
        struct st_in *in = st_open(path, &e);
        check(cases[i].whole ? in != NULL : !in && strstr(e.msg, "far more memory"), cases[i].what,
              e.msg);
        st_close(in);
        json_decref(head);
        free(path);
    }
}

/* ---- digests */

/* Test vectors of the canonical XXH3-128: the empty input, and input in any pieces. */
static void test_digest(void)
{
    struct digest d;
    char a[ST_DIGEST], b[ST_DIGEST];
    digest_open(&d);
    digest_close(&d, a);
    check(!strcmp(a, "99aa06d3014798d86001c324468d497f"), "digest of nothing", a);
    digest_open(&d);
    digest_add(&d, "hello world", 11);
    digest_close(&d, a);
    digest_open(&d);
    digest_add(&d, "hello", 5);
    digest_add(&d, " world", 6);
    digest_close(&d, b);
    check(!strcmp(a, b) && strcmp(a, "99aa06d3014798d86001c324468d497f"), "digest of pieces", b);
}

/* ---- the worked example of SPEC.md: the bytes of its hex block, each line ending where two digits
 * and a space no longer follow */

static struct bytes example_read(void)
{
    FILE *f = fopen("formats/SPEC.md", "r");
    struct bytes b = {mem_alloc(4096), 0};
    char line[500];
    int inside = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (!strncmp(line, "```", 3))
            inside = !strncmp(line, "```hex", 6);
        else if (inside)
            for (char *p = line; b.n < 4096 && strspn(p, "0123456789abcdef") == 2 && p[2] == ' ';
                 p += p[3] == ' ' && p[4] != ' ' ? 4 : 3)
                b.p[b.n++] = (unsigned char)strtol(p, NULL, 16);
    }
    if (f)
        fclose(f);
    return b;
}

static void test_spec(void)
{
    static const uint32_t ids[] = {464, 3290, 13};
    static const struct tensor t = {.name = "ids", .dtype = DT_U32, .ndim = 2, .shape = {1, 3}};
    struct err e = {0};
    char *path = in_dir("a.tsz");
    json_t *head = json_pack("{s:s, s:s, s:s, s:[]}", "kind", "tokens", "id",
                             "99aa06d3014798d86001c324468d497f", "tokenizer_id", "", "hist");
    struct st_out *out = st_create(path, 0, &e);
    st_begin(out, head);
    st_put(out, &t, ids);
    st_end(out);
    st_publish(out);
    struct bytes ours = file_read(path), spec = example_read();
    check(spec.n > 100 && ours.n == spec.n && !memcmp(ours.p, spec.p, spec.n),
          "the example of SPEC.md is written", e.msg);
    file_write(path, spec.p, spec.n);
    check(is_whole(path, &e), "the example of SPEC.md is read", e.msg);
    json_decref(head);
    free(ours.p);
    free(spec.p);
    free(path);
}

/* ---- outputs that fail */

static void test_outputs(void)
{
    struct err e = {0};
    struct stat st;
    char *path = in_dir("new.tsz"), *nowhere = in_dir("no/such/x.tsz"), *link = in_dir("link.tsz");
    struct st_out *out = st_create(path, 0, &e);
    struct tensor t = plan_tensor(&small[0]);
    check(out && stat(path, &st), "nothing appears before publish", e.msg);
    json_t *head = sample_head();
    st_begin(out, head);
    st_record(out, &t);
    check(st_end(out) < 0 && strstr(e.msg, "lacks 24 bytes"), "an unfinished record", e.msg);
    check(st_publish(out) < 0 && stat(path, &st), "what failed does not appear", e.msg);

    e.set = 0;
    file_write(path, "old", 3);
    out = st_create(path, 0, &e);
    st_begin(out, head);
    st_record(out, &t);
    check(st_write(out, path, 25) < 0 && strstr(e.msg, "more bytes"), "too many bytes", e.msg);
    st_abandon(out);
    check(!stat(path, &st) && st.st_size == 3, "the old file stays", "");

    e.set = 0;
    out = st_create(path, 0, &e);
    check(st_publish(out) < 0 && strstr(e.msg, "incomplete"), "publish without end", e.msg);
    e.set = 0;
    out = st_create(path, 0, &e);
    st_begin(out, head);
    err_set(&e, "another input is damaged");
    check(st_end(out) < 0 && st_publish(out) < 0, "an error elsewhere withholds the end map",
          e.msg);
    e.set = 0;
    check(!st_create(nowhere, 0, &e) && strstr(e.msg, nowhere) && strstr(e.msg, strerror(ENOENT)),
          "no such directory", e.msg);
    e.set = 0;
    check(!st_create(dir, 0, &e) && strstr(e.msg, strerror(EISDIR)), "a directory", e.msg);
    e.set = 0;
    check(sample_write("/dev/full", 0, small, 3, 0, &e) < 0 && strstr(e.msg, strerror(ENOSPC)),
          "full disk", e.msg);
    e.set = 0;
    check(sample_write("/dev/full", 3, large, 7, 0, &e) < 0 && strstr(e.msg, strerror(ENOSPC)),
          "full disk, compressed", e.msg);
    e.set = 0;
    check(!sample_write("/dev/null", -1, small, 3, 0, &e), "a device is written in place", e.msg);

    check(!symlink("new.tsz", link), "symlink", strerror(errno));
    check(!sample_write(link, 0, small, 3, 0, &e) && sample_read(path, small, 3, 0, &e),
          "a link is followed", e.msg);
    check(!lstat(link, &st) && S_ISLNK(st.st_mode), "and stays a link", "");
    json_decref(head);
    free(path);
    free(nowhere);
    free(link);
}

/* A header that was read is written unchanged. */
static void test_pass_header(void)
{
    struct err e = {0};
    char *a = in_dir("a.tsz"), *b = in_dir("b.tsz");
    sample_write(a, 0, NULL, 0, 0, &e);
    struct st_in *in = st_open(a, &e);
    struct st_out *out = st_create(b, 0, &e);
    st_begin(out, st_head(in));
    st_end(out);
    st_publish(out);
    st_close(in);
    struct bytes x = file_read(a), y = file_read(b);
    check(x.n == y.n && !memcmp(x.p, y.p, x.n), "a header passed on", e.msg);
    free(x.p);
    free(y.p);
    free(a);
    free(b);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    if (!mkdtemp(dir))
        return perror(dir), 1;
    test_digest();
    test_header_memory();
    test_round_trips();
    test_bytes_are_fixed();
    test_pass_header();
    test_damage();
    test_damage_is_seen_by_reader();
    test_hostile();
    test_hostile_pipe();
    test_spec();
    test_outputs();
    char *rm = mem_format("rm -rf %s", dir);
    if (system(rm))
        failed++;
    free(rm);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
