/* Tokenizers against the results of the tokenizers library on the same texts
 * (tests/golden/tokenizers_small, by tests/hf/make_tokenizers.py), merges against a plain
 * implementation of their definition, spans, bytes that are not text, long pieces. What is refused:
 * tokenizer_refused.c. */
#include "../../lib/tokenizer/tokenizer.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../lib/base/file.h"
#include "../../lib/base/rng.h"
#include "../../lib/tokenizer/tokenizer_private.h"
#include "check.h"

static const char folder[] = "tests/golden/tokenizers_small";

static struct tokenizer *open_file(const char *path)
{
    struct err e = {0};
    int64_t n = 0;
    char *json = file_read(path, 1 << 26, &n, &e);
    struct tokenizer *t = json ? tokenizer_open(json, n, &e) : NULL;
    CHECK(t != NULL, "%s: %s", path, e.msg);
    free(json);
    return t;
}

/* Encodes, and checks that the spans add up to the text. */
static struct ids encode(struct tokenizer *t, const char *s, int64_t n)
{
    struct ids x = {0};
    struct err e = {0};
    int64_t sum = 0, lost = tokenizer_dropped(t);
    CHECK(tokenizer_encode(t, s, n, &x, &e) == x.n, "%s", e.msg);
    for (int64_t i = 0; i < x.n; i++)
        sum += x.bytes[i];
    CHECK(sum + tokenizer_dropped(t) - lost == n, "spans add up to %lld of %lld bytes",
          (long long)sum, (long long)n);
    return x;
}

static int same_ids(const json_t *want, const uint32_t *ids, int64_t n)
{
    int same = (int64_t)json_array_size(want) == n;
    for (int64_t i = 0; i < n && same; i++)
        same = json_integer_value(json_array_get(want, (size_t)i)) == ids[i];
    return same;
}

/* ---- golden texts */

static void check_line(struct tokenizer *t, const char *name, int line, const json_t *j)
{
    const json_t *text = json_object_get(j, "text"), *decoded = json_object_get(j, "decoded");
    uint32_t special[16];
    struct ids x = encode(t, json_string_value(text), (int64_t)json_string_length(text));
    CHECK(same_ids(json_object_get(j, "ids"), x.id, x.n), "%s line %d: other ids", name, line);
    CHECK(same_ids(json_object_get(j, "special_prefix"), special,
                   tokenizer_special(t, 0, special, 16)),
          "%s line %d: other ids before a text", name, line);
    CHECK(same_ids(json_object_get(j, "special_suffix"), special,
                   tokenizer_special(t, 1, special, 16)),
          "%s line %d: other ids after a text", name, line);
    int64_t n;
    char *s = tokenizer_decode(t, x.id, x.n, 0, &n);
    const json_t *want = decoded ? decoded : text;
    /* for a token that is part of a character the library gives U+FFFD, this one the bytes */
    int replaced = strstr(json_string_value(want), "\xef\xbf\xbd") != NULL;
    CHECK(replaced || ((int64_t)json_string_length(want) == n &&
                       !memcmp(json_string_value(want), s, (size_t)n)),
          "%s line %d: decodes to \"%s\"", name, line, s);
    free(s);
    ids_free(&x);
}

static void check_golden(const char *name)
{
    char *path = mem_format("%s/%s", folder, name), *lines = mem_format("%sl", path), *at = NULL,
         *text, *line;
    struct err e = {0};
    struct tokenizer *t = open_file(path);
    text = file_read(lines, 1 << 26, NULL, &e);
    CHECK(text != NULL, "%s", e.msg);
    int number = 0;
    for (line = text ? strtok_r(text, "\n", &at) : NULL; line && t;
         line = strtok_r(NULL, "\n", &at)) {
        json_t *j = json_loads(line, JSON_ALLOW_NUL, NULL);
        check_line(t, name, ++number, j);
        json_decref(j);
    }
    CHECK(number > 50, "%s: only %d lines", lines, number);
    tokenizer_close(t);
    free(text);
    free(path);
    free(lines);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void test_golden(void)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, NULL, by_name), kinds = 0;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        size_t length = strlen(name);
        if (length > 5 && !strcmp(name + length - 5, ".json")) {
            check_golden(name);
            kinds++;
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    CHECK(kinds >= 23, "only %d tokenizers in %s", kinds, folder);
}

/* ---- merging against its definition: the best-ranked pair, leftmost first, until none is left */

enum { ALPHABET = 4, MERGES = 40 };

static int64_t plain_merge(const json_t *vocab, const json_t *merges, const char *s, int64_t *ids)
{
    char *part[200];
    int64_t n = 0;
    for (; s[n]; n++)
        part[n] = mem_format("%c", s[n]);
    for (size_t best;;) {
        int64_t at = -1;
        best = json_array_size(merges);
        for (int64_t i = 0; i + 1 < n; i++) {
            char *pair = mem_format("%s %s", part[i], part[i + 1]);
            for (size_t m = 0; m < best; m++)
                if (!strcmp(json_string_value(json_array_get(merges, m)), pair)) {
                    best = m;
                    at = i;
                }
            free(pair);
        }
        if (at < 0)
            break;
        char *joined = mem_format("%s%s", part[at], part[at + 1]);
        free(part[at]);
        free(part[at + 1]);
        part[at] = joined;
        memmove(part + at + 1, part + at + 2, sizeof *part * (size_t)(--n - at - 1));
    }
    for (int64_t i = 0; i < n; i++) {
        ids[i] = json_integer_value(json_object_get(vocab, part[i]));
        free(part[i]);
    }
    return n;
}

/* A vocabulary of random merges over few letters, each text spelled by one pair only. */
static json_t *random_model(struct rng *r)
{
    json_t *vocab = json_object(), *merges = json_array();
    char names[ALPHABET + MERGES][80];
    int n = 0;
    for (; n < ALPHABET; n++)
        snprintf(names[n], sizeof names[n], "%c", 'a' + n);
    while (n < ALPHABET + MERGES) {
        const char *a = names[rng_below(r, (uint64_t)n)], *b = names[rng_below(r, (uint64_t)n)];
        int known = strlen(a) + strlen(b) > 12;
        char joined[80], *pair = mem_format("%s %s", a, b);
        snprintf(joined, sizeof joined, "%.39s%.39s", a, b);
        for (int i = 0; i < n; i++)
            known |= !strcmp(names[i], joined);
        if (!known) {
            strcpy(names[n++], joined);
            json_array_append_new(merges, json_string(pair));
        }
        free(pair);
    }
    for (int i = 0; i < n; i++)
        json_object_set_new(vocab, names[i], json_integer(i));
    return json_pack("{s:{s:s, s:o, s:o}}", "model", "type", "BPE", "vocab", vocab, "merges",
                     merges);
}

static void test_merges(void)
{
    struct rng r = rng_open(5, 0);
    for (int round = 0; round < 20; round++) {
        json_t *j = random_model(&r), *model = json_object_get(j, "model");
        char *json = json_dumps(j, 0);
        struct err e = {0};
        struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
        CHECK(t != NULL, "%s", e.msg);
        for (int k = 0; k < 30 && t; k++) {
            char s[80] = {0};
            int64_t want[80], n = 1 + (int64_t)rng_below(&r, sizeof s - 2), m;
            for (int64_t i = 0; i < n; i++)
                s[i] = (char)('a' + rng_below(&r, ALPHABET));
            m = plain_merge(json_object_get(model, "vocab"), json_object_get(model, "merges"), s,
                            want);
            struct ids x = encode(t, s, n);
            int same = x.n == m;
            for (int64_t i = 0; i < m && same; i++)
                same = x.id[i] == want[i];
            CHECK(same, "round %d: \"%s\" merges otherwise", round, s);
            ids_free(&x);
        }
        tokenizer_close(t);
        free(json);
        json_decref(j);
    }
}

/* ---- bytes, long pieces */

static void check_bytes(const char *name, const char *s, int64_t n)
{
    char *path = mem_format("%s/%s.json", folder, name);
    struct tokenizer *t = open_file(path);
    struct ids x = encode(t, s, n);
    int64_t back;
    char *text = tokenizer_decode(t, x.id, x.n, 0, &back);
    CHECK(back == n && !memcmp(text, s, (size_t)n), "%s: %lld bytes come back as %lld", name,
          (long long)n, (long long)back);
    free(text);
    ids_free(&x);
    tokenizer_close(t);
    free(path);
}

static void test_bytes(void)
{
    struct rng r = rng_open(6, 0);
    char s[2000];
    for (size_t i = 0; i < sizeof s; i++)
        s[i] = (char)rng_below(&r, 256);
    check_bytes("gpt2", s, sizeof s);
    check_bytes("llama3", s, sizeof s);
    check_bytes("qwen2", "abc \xff\xfe d\xc3 \xc3", 12);
    check_bytes("spm", "a\xff b\xe2\x82 \xf0\x9f", 10);
}

static void test_long(void)
{
    static const char *const names[] = {"gpt2", "spm", "metaspace_first"};
    enum { LONG = 400000 };
    char *s = mem_alloc(LONG);
    for (int i = 0; i < LONG; i++)
        s[i] = "the other "[i % 10 == 3 || i % 10 == 9 ? 0 : i % 10];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = mem_format("%s/%s.json", folder, names[i]);
        struct tokenizer *t = open_file(path);
        clock_t start = clock();
        struct ids x = encode(t, s, LONG);
        double spent = (double)(clock() - start) / CLOCKS_PER_SEC;
        CHECK(spent < 5, "%s: %.1f s for %d letters without a space", names[i], spent, LONG);
        ids_free(&x);
        tokenizer_close(t);
        free(path);
    }
    free(s);
}

static void test_special(void)
{
    struct tokenizer *t = open_file("tests/golden/tokenizers_small/gpt2.json");
    struct ids x = encode(t, "a<|endoftext|>b", 15);
    int64_t n;
    char *s = tokenizer_decode(t, x.id, x.n, 1, &n);
    CHECK(!strcmp(s, "ab"), "without special tokens: \"%s\"", s);
    CHECK(x.n == 3 && x.id[1] == tokenizer_id(t, "<|endoftext|>") && x.bytes[1] == 13,
          "the special token is not one");
    CHECK(tokenizer_id(t, "no such token") == -1 && tokenizer_vocab_size(t) == 420,
          "ids and sizes");
    uint32_t beyond = 4000000000u;
    free(s);
    s = tokenizer_decode(t, &beyond, 1, 0, &n);
    CHECK(n == 0, "an id beyond the vocabulary decodes to nothing");
    free(s);
    ids_free(&x);
    tokenizer_close(t);
}

/* Source bytes stay with their tokens if a normalizer changes lengths or a character is dropped. */
static void test_spans(void)
{
    static const struct {
        const char *from, *to, *text;
        int n;
        uint32_t ids[4], bytes[4];
    } cases[] = {
        {" ", "\xe2\x96\x81", "x a", 2, {0, 1}, {1, 1}}, /* x is not in the vocabulary */
        {"xx", "", "xxa", 1, {1}, {3}},
        {"xx", "", "axxa", 2, {1, 1}, {3, 1}},
        {"xx", "aa", "xxa", 3, {1, 1, 1}, {2, 0, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *json = mem_format(
            "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"%s\"},\"content\":\"%"
            "s\"},"
            "\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xe2\x96\x81\":0,\"a\":1},\"merges\":[]}}",
            cases[i].from, cases[i].to);
        struct err e = {0};
        struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
        CHECK(t != NULL, "%s", e.msg);
        struct ids x = encode(t, cases[i].text, (int64_t)strlen(cases[i].text));
        size_t size = (size_t)cases[i].n * sizeof *x.id;
        CHECK(x.n == cases[i].n && !memcmp(x.id, cases[i].ids, size) &&
                  !memcmp(x.bytes, cases[i].bytes, size),
              "case %zu: %lld tokens, the first of %u bytes", i, (long long)x.n,
              x.n ? x.bytes[0] : 0);
        ids_free(&x);
        tokenizer_close(t);
        free(json);
    }
}

/* A byte that the byte-level alphabet of a vocabulary lacks is spelled by its two bytes of UTF-8,
 * each a token of byte fallback: two symbols a byte, in pieces of every length. */
static void test_fallback(void)
{
    json_t *vocab = json_object();
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", i);
        json_object_set_new(vocab, name, json_integer(i));
    }
    json_t *j = json_pack("{s:{s:s, s:s}, s:{s:o, s:[], s:b}}", "pre_tokenizer", "type",
                          "ByteLevel", "prefix", "", "model", "vocab", vocab, "merges",
                          "byte_fallback", 1);
    json_object_set_new(json_object_get(j, "pre_tokenizer"), "add_prefix_space", json_false());
    json_object_set_new(json_object_get(j, "pre_tokenizer"), "use_regex", json_false());
    char *json = json_dumps(j, 0), text[3000];
    memset(text, 1, sizeof text); /* U+0101 in the alphabet: C4 81 */
    struct err e = {0};
    for (int64_t n = 1; n <= (int64_t)sizeof text; n += n / 3 + 1) {
        struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
        CHECK(t != NULL, "%s", e.msg);
        struct ids x = encode(t, text, n);
        int same = x.n == 2 * n;
        for (int64_t i = 0; i < x.n && same; i++)
            same = x.id[i] == (i % 2 ? 0x81 : 0xc4) && x.bytes[i] == !(i % 2);
        CHECK(same, "%lld bytes become %lld ids", (long long)n, (long long)x.n);
        ids_free(&x);
        tokenizer_close(t);
    }
    free(json);
    json_decref(j);
}

/* ---- the trainer's refusals */

static void test_trainer(void)
{
    struct err e = {0};
    const char *twice[] = {"<a>", "<a>"}, *byte[] = {"b"}, *one[] = {"<a>"};
    CHECK(!bpe_train_open(twice, 2, &e) && strstr(e.msg, "twice"), "'%s'", e.msg);
    e.set = 0;
    CHECK(!bpe_train_open(byte, 1, &e) && strstr(e.msg, "byte"), "'%s'", e.msg);
    e.set = 0;
    struct bpe_trainer *b = bpe_train_open(one, 1, &e);
    bpe_train_text(b, "abab<a>abab<a>cc", 16, &e);
    int64_t n;
    CHECK(!bpe_train_finish(b, 1000, &n, &e) && strstr(e.msg, "only 259 tokens"), "'%s'", e.msg);
    bpe_train_close(b);
    e.set = 0;
    b = bpe_train_open(one, 1, &e);
    bpe_train_text(b, "abab<a>abab<a>cc", 16, &e);
    char *json = bpe_train_finish(b, 259, &n, &e);
    struct tokenizer *t = json ? tokenizer_open(json, n, &e) : NULL;
    CHECK(t != NULL, "%s", e.msg);
    if (t) {
        struct ids x = encode(t, "abab<a>", 7);
        CHECK(x.n == 2 && x.id[0] == 258 && x.id[1] == 0, "%lld ids, first %u", (long long)x.n,
              x.id[0]);
        ids_free(&x);
    }
    tokenizer_close(t);
    free(json);
    bpe_train_close(b);
}

/* What random tokenizers found to differ from the library, which gives these ids. */
#define SPLIT(pattern, behaviour) \
    "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"" pattern \
    "\"}, \"behavior\": \"" behaviour "\"}"
#define REMOVE_SPACES "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\"}"
#define REPLACE(pattern, content) \
    "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"" pattern \
    "\"}, \"content\": \"" content "\"}"
#define METASPACE \
    "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\", " \
    "\"prepend_scheme\": \"first\"}"
static void test_found(void)
{
    static const struct {
        const char *parts, *text, *ids;
    } cases[] = {
        /* empty matches cut */
        {SPLIT("x*", "Isolated"), "ab", "0 1 "},
        {SPLIT("x*", "MergedWithNext"), "abab", "0 1 0 1 "},
        {SPLIT("x*", "MergedWithPrevious"), "abab", "0 1 0 1 "},
        {SPLIT("x*", "Contiguous"), "abab", "0 1 0 1 "},
        {SPLIT("b|x*", "Removed"), "abaab", "0 0 0 "},
        /* Oniguruma: {n}+ repeats, {n}? may be missing, $ is before a newline and at the end */
        {SPLIT("a{2}+", "Isolated"), "aaaaab", "0 0 0 0 2 "},
        {SPLIT("a{1,2}+b", "Removed"), "aaabb", "1 "},
        {SPLIT("(?:ab){2}?", "Removed"), "ababb", "1 "},
        {SPLIT("a{,2}b", "Removed"), "aaab", "0 "},
        {SPLIT("b$", "Removed"), "ab\nab", "0 4 0 "},
        {SPLIT("^a", "Removed"), "ab\nab", "1 4 1 "},
        {SPLIT("a(?i)B|B", "Removed"), "abbba", "1 1 0 "},
        {SPLIT("[^b&&[^x]]+", "Removed"), "abx", "1 "},
        {SPLIT("[^a[x]]", "Removed"), "axb", "0 "},
        {SPLIT("[a[^b_]]", "Removed"), "ab_", "1 3 "},
        {SPLIT("[a-z&&[^b]&&[^x]]", "Removed"), "ab_x", "1 3 "},
        /* a token within the white space that one before it took */
        {"\"added_tokens\": [{\"id\": 4, \"content\": \"\\n\", \"lstrip\": true, \"rstrip\": "
         "true}]",
         "a\n\nb\n", "0 4 1 4 "},
        /* the beginning of the source, or only of what is left of it */
        {"\"normalizer\": " REMOVE_SPACES ", " METASPACE, "a b", "3 2 "},
        {"\"normalizer\": " REMOVE_SPACES ", " METASPACE, " ab", "2 "},
        {"\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" REMOVE_SPACES
         ", {\"type\": \"Prepend\", \"prepend\": \"a\"}]}, " METASPACE,
         " ab", "0 2 "},
        {"\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \" \"}, \"pre_tokenizer\": "
         "{\"type\": "
         "\"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
         "\"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\"}]}",
         "a b", "3 0 1 "},
        /* patterns in normalizers: an empty match is replaced, but not right after another */
        {REPLACE("x*", "a"), "bxb", "2 2 0 "},
        {REPLACE("[a-z]{2}?", "_"), "abab b", "3 3 3 1 3 "},
        {REPLACE("xx", "a") ", " METASPACE, "xxb", "2 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        char *json = mem_format("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, "
                                "\"ab\": 2, \"_\": 3, \"\\n\": 4}, \"merges\": [\"a b\"]}, %s}",
                                cases[i].parts),
             *got = mem_string("");
        struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
        CHECK(t != NULL, "%s: %s", cases[i].parts, e.msg);
        struct ids x = {0};
        if (t)
            x = encode(t, cases[i].text, (int64_t)strlen(cases[i].text));
        for (int64_t k = 0; k < x.n; k++)
            got = mem_append(got, "%u ", x.id[k]);
        CHECK(!strcmp(got, cases[i].ids), "%s: %s, not %s", cases[i].parts, got, cases[i].ids);
        tokenizer_close(t);
        ids_free(&x);
        free(json);
        free(got);
    }
}

/* Paths worked out by hand. */
static void test_unigram(void)
{
    static const struct {
        const char *text, *ids, *bytes;
    } cases[] = {
        {"ab", "3 ", "2 "},                /* -1.5 against -1 - 1 */
        {"aab", "1 3 ", "1 2 "},           /* -2.5 */
        {"abab", "3 3 ", "2 2 "},          /* -3 against -3.5: a, bab */
        {"babb", "4 2 ", "3 1 "},          /* bab, b: -3.5, as b, ab, b: the one found first */
        {"xyb", "0 2 ", "2 1 "},           /* -13.5 each, but one token */
        {"a\xc3\xa9", "1 5 6 ", "1 1 1 "}, /* bytes */
        {"x\xc3\xa9", "0 ", "3 "},         /* not together with what has no byte tokens */
        {"ab\xff", "3 0 ", "2 1 "},
    };
    struct err e = {0};
    static const char json[] =
        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":["
        "[\"<unk>\",0],[\"a\",-1],[\"b\",-1],[\"ab\",-1.5],[\"bab\",-2.5],[\"<0xC3>\",-3],"
        "[\"<0xA9>\",-3.5]]}}";
    struct tokenizer *t = tokenizer_open(json, sizeof json - 1, &e);
    CHECK(t != NULL, "%s", e.msg);
    for (size_t i = 0; t && i < sizeof cases / sizeof *cases; i++) {
        struct ids x = encode(t, cases[i].text, (int64_t)strlen(cases[i].text));
        char *ids = mem_string(""), *bytes = mem_string("");
        for (int64_t k = 0; k < x.n; k++) {
            ids = mem_append(ids, "%u ", x.id[k]);
            bytes = mem_append(bytes, "%u ", x.bytes[k]);
        }
        CHECK(!strcmp(ids, cases[i].ids) && !strcmp(bytes, cases[i].bytes),
              "%s: %s of %s bytes, not %s of %s", cases[i].text, ids, bytes, cases[i].ids,
              cases[i].bytes);
        free(ids);
        free(bytes);
        ids_free(&x);
    }
    tokenizer_close(t);
}

/* What takes the square of a text, or more, where it is done in the simplest way. */
static void test_linear(void)
{
    enum { N = 300000 };
    static const struct {
        const char *parts, *unit, *end, *why; /* why: refused */
    } cases[] = {
        {"\"normalizer\": {\"type\": \"NFC\"}", "\u0323\u0301", "", NULL},
        {"\"normalizer\": {\"type\": \"NFC\"}", "\u0301\u0323", "", NULL},
        {SPLIT("\\\\s*[\\r\\n]+|\\\\s+(?!\\\\S)|\\\\s+", "Isolated"), " ", "a", NULL},
        {SPLIT("(?:a|aa)+[bc]", "Isolated"), "a", "", "out of proportion"},
        {SPLIT("[ab]*[ac]*d|a", "Isolated"), "a", "", "out of proportion"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct ids x = {0};
        size_t unit = strlen(cases[i].unit), n = unit * N + strlen(cases[i].end);
        char *json = mem_format(
                 "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"merges\": []}, %s}",
                 cases[i].parts),
             *text = mem_alloc(n + 1);
        for (size_t k = 0; k < N; k++)
            memcpy(text + k * unit, cases[i].unit, unit);
        strcpy(text + N * unit, cases[i].end);
        struct tokenizer *t = tokenizer_open(json, (int64_t)strlen(json), &e);
        CHECK(t != NULL, "%s: %s", cases[i].parts, e.msg);
        int failed = t && tokenizer_encode(t, text, (int64_t)n, &x, &e) < 0;
        CHECK(failed == (cases[i].why != NULL) && (!failed || strstr(e.msg, cases[i].why)),
              "%s: %s", cases[i].parts, e.msg);
        tokenizer_close(t);
        ids_free(&x);
        free(json);
        free(text);
    }
}

int main(void)
{
    test_golden();
    test_merges();
    test_bytes();
    test_long();
    test_special();
    test_spans();
    test_fallback();
    test_trainer();
    test_found();
    test_unigram();
    test_linear();
    return check_report();
}
