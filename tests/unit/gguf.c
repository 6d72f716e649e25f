/* GGUF's block formats against the reference implementation's values (golden/gguf_quants) and
 * blocks (golden/gguf_blocks), rope divisors, hostile headers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/safetensors.h"
#include "../../lib/gguf/gguf_private.h"
#include "../../lib/tokenizer/tokenizer.h"
#include "check.h"

static void *read_all(struct safetensors *s, const char *type, const char *suffix, int64_t *bytes)
{
    struct err e = {0};
    char *name = mem_format("%s%s", type, suffix);
    int i = sf_find(s, name);
    *bytes = i < 0 ? 0 : tensor_bytes(sf_tensor(s, i));
    void *data = mem_alloc((size_t)*bytes);
    CHECK(i >= 0 && !sf_read(s, i, 0, data, *bytes, &e), "%s: %s", name, e.msg);
    free(name);
    return data;
}

static void test_quants(void)
{
    struct err e = {0};
    struct safetensors *s = sf_open("tests/golden/gguf_quants.safetensors", &e);
    CHECK(s != NULL, "%s", e.msg);
    for (int t = 0; s && t < GGUF_TYPE_COUNT; t++) {
        int64_t raw_bytes, bytes, wrong = 0;
        const char *name = gguf_type_name((enum gguf_type)t);
        void *raw = read_all(s, name, ".raw", &raw_bytes);
        float *want = read_all(s, name, ".values", &bytes);
        int64_t n = bytes / 4;
        CHECK(gguf_bytes((enum gguf_type)t, n) == raw_bytes, "%s: %lld values are not %lld bytes",
              name, (long long)n, (long long)raw_bytes);
        float *got = mem_alloc((size_t)bytes + 4);
        got[n] = 17;
        gguf_dequantize((enum gguf_type)t, got, raw, n);
        for (int64_t i = 0; i < n; i++)
            wrong += memcmp(&got[i], &want[i], 4) != 0;
        CHECK(n && !wrong && got[n] == 17, "%s: %lld of %lld values differ", name, (long long)wrong,
              (long long)n);
        free(raw);
        free(want);
        free(got);
    }
    sf_close(s);
    CHECK(gguf_bytes(GGUF_Q4_K, 128) < 0 && gguf_bytes(GGUF_Q8_0, INT64_MAX / 2) < 0,
          "broken blocks have bytes");
}

/* Values are rounded to the reference implementation's blocks, and those to themselves. */
static void test_rounding(void)
{
    struct err e = {0};
    struct safetensors *s = sf_open("tests/golden/gguf_quants.safetensors", &e);
    int64_t bytes, blocks;
    float *source = read_all(s, "Q8_0", ".source", &bytes), wide[Q8_BLOCK];
    unsigned char *want = read_all(s, "Q8_0", ".rounded", &blocks),
                  *got = mem_alloc((size_t)blocks), again[Q8_BYTES];
    int64_t n = bytes / 4, differ = 0, moved = 0;
    from_f32(got, DT_Q8_0, source, n);
    for (int64_t at = 0; at < blocks; at += Q8_BYTES) {
        differ += memcmp(got + at, want + at, Q8_BYTES) != 0;
        to_f32(wide, want + at, DT_Q8_0, Q8_BLOCK);
        from_f32(again, DT_Q8_0, wide, Q8_BLOCK);
        moved += want[at + 1] >= 4 && memcmp(again, want + at, Q8_BYTES); /* normal scales */
    }
    CHECK(blocks == dtype_bytes(DT_Q8_0, n) && !differ, "%lld blocks differ", (long long)differ);
    CHECK(!moved, "%lld blocks are not rounded to themselves", (long long)moved);
    source[3] = NAN;
    source[40] = INFINITY;
    from_f32(got, DT_Q8_0, source, 2 * Q8_BLOCK);
    for (int b = 0; b < 2; b++) {
        to_f32(wide, got + b * Q8_BYTES, DT_Q8_0, Q8_BLOCK);
        CHECK(isnan(wide[0]) && isnan(wide[31]), "block %d is finite", b);
    }
    free(source);
    free(want);
    free(got);
    sf_close(s);
}

static void test_quantize(void)
{
    struct err e = {0};
    struct safetensors *s = sf_open("tests/golden/gguf_blocks.safetensors", &e);
    CHECK(s != NULL, "%s", e.msg);
    int64_t bytes, want_bytes, wrong;
    float *values = read_all(s, "values", "", &bytes);
    for (int t = 0; s && t < GGUF_TYPE_COUNT; t++) {
        int64_t n = bytes / 4, size = gguf_bytes((enum gguf_type)t, gguf_block((enum gguf_type)t));
        unsigned char *want = read_all(s, gguf_type_name((enum gguf_type)t), "", &want_bytes),
                      *got = mem_alloc((size_t)want_bytes + 1);
        got[want_bytes] = 17;
        gguf_quantize((enum gguf_type)t, got, values, n);
        wrong = 0;
        for (int64_t i = 0; i < want_bytes; i += size)
            wrong += memcmp(got + i, want + i, (size_t)size) != 0;
        CHECK(n && want_bytes == gguf_bytes((enum gguf_type)t, n) && !wrong &&
                  got[want_bytes] == 17,
              "%s: %lld of %lld blocks differ", gguf_type_name((enum gguf_type)t), (long long)wrong,
              (long long)(want_bytes / size));
        free(want);
        free(got);
    }
    free(values);
    sf_close(s);
}

/* ---- rope_freqs.weight -> rope_scaling */

static json_t *scaling(const double *divisor, int64_t n)
{
    return gguf_rope_from_divisors(divisor, n, 500000, 131072);
}

/* The formula of 2407.21783 written for a single wave. */
static double llama3(double wave, double factor, double P0)
{
    if (wave < P0 / 4)
        return 1;
    if (wave > P0)
        return factor;
    double s = (P0 / wave - 1) / 3;
    return (double)(float)(1 / ((1 - s) / factor + s));
}

static void test_divisors(void)
{
    double d[64];
    for (int i = 0; i < 64; i++)
        d[i] = llama3(6.283185307179586 * pow(500000, i / 64.0), 32, 8192);
    json_t *found = scaling(d, 64);
    const char *type = json_string_value(json_object_get(found, "rope_type"));
    CHECK(type && !strcmp(type, "llama3"), "type %s", type ? type : "?");
    CHECK(json_number_value(json_object_get(found, "factor")) == 32, "factor");
    CHECK(json_integer_value(json_object_get(found, "original_max_position_embeddings")) == 8192,
          "positions");
    json_decref(found);
    d[40] *= 1.01;
    found = scaling(d, 64);
    type = json_string_value(json_object_get(found, "rope_type"));
    CHECK(type && !strcmp(type, "longrope"), "type %s", type ? type : "?");
    CHECK(json_array_size(json_object_get(found, "short_factor")) == 64, "factors");
    json_decref(found);
    for (int i = 0; i < 64; i++)
        d[i] = 1;
    CHECK(!scaling(d, 64), "divisors of 1 mean no scaling");
}

/* ---- false headers */

static void test_header(const char *what, const void *bytes, size_t n, const char *words)
{
    struct err e = {0};
    char path[40];
    int fd = memfd_create("gguf", MFD_CLOEXEC);
    CHECK(write(fd, bytes, n) == (ssize_t)n, "no memory file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct gguf *g = gguf_open(path, &e);
    CHECK(!g && strstr(e.msg, words), "%s: '%s' lacks '%s'", what, e.msg, words);
    gguf_close(g);
    close(fd);
}

#define V3 "GGUF\3\0\0\0"
#define N(x) x "\0\0\0\0\0\0\0" /* a number below 256 in eight bytes */
#define FLOAT(name) N("\1") name "\1\0\0\0" N("\1") "\0\0\0\0" N("\0") /* f32 [1] at 0 */
#define HEADER(what, bytes, words) test_header(what, bytes, sizeof bytes - 1, words)

static void test_hostile(void)
{
    HEADER("empty", "", "truncated");
    HEADER("other magic", "GGML\3\0\0\0" N("\0") N("\0"), "not a GGUF file");
    HEADER("version 1", "GGUF\1\0\0\0\0\0\0\0\0\0\0\0", "version 1");
    HEADER("big-endian", "GGUF\0\0\0\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0", "big-endian");
    HEADER("2^60 tensors", V3 "\0\0\0\0\0\0\0\x10" N("\0"), "number of tensors");
    HEADER("2^60 metadata", V3 N("\0") "\0\0\0\0\0\0\0\x10", "number of metadata");
    HEADER("long key",
           V3 N("\0") N("\1") "\0\0\0\0\1\0\0\0"
                              "abcdefgh",
           "length of a key");
    HEADER("negative text", V3 N("\0") N("\1") N("\1") "a\x8\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
           "length of a text");
    HEADER("long list", V3 N("\0") N("\1") N("\1") "a\x9\0\0\0\xa\0\0\0\0\0\0\0\0\0\0\x20",
           "length of a list");
    HEADER("list of lists", V3 N("\0") N("\1") N("\1") "a\x9\0\0\0\x9\0\0\0" N("\1") N("\1"),
           "list of lists");
    HEADER("unknown kind", V3 N("\0") N("\1") N("\1") "a\xd\0\0\0" N("\1") N("\1"), "type 13");
    HEADER("a key twice", V3 N("\0") N("\2") N("\1") "a\0\0\0\0\1" N("\1") "a\0\0\0\0\1", "twice");
    HEADER("no dimension", V3 N("\1") N("\0") N("\1") "a\0\0\0\0\0\0\0\0" N("\0"), "0 dimensions");
    HEADER("huge dimension",
           V3 N("\1") N("\0") N("\1") "a\2\0\0\0"
                                      "\0\0\0\0\0\0\0\x70\0\0\0\0\0\0\0\x70\0\0\0\0" N("\0"),
           "too large");
    HEADER("part of a block", V3 N("\1") N("\0") N("\1") "a\1\0\0\0" N("\x21") "\x8\0\0\0" N("\0"),
           "whole number of blocks");
    HEADER("Q2_K", V3 N("\1") N("\0") N("\1") "a\1\0\0\0" N("\1") "\xa\0\0\0" N("\0"), "Q2_K");
    HEADER("beyond the file", V3 N("\1") N("\0") N("\1") "a\1\0\0\0" N("\x40") "\0\0\0\0" N("\0"),
           "does not fit");
    HEADER("offset wraps",
           V3 N("\1") N("\0")
               N("\1") "a\1\0\0\0" N("\1") "\0\0\0\0\xe0\xff\xff\xff\xff\xff\xff\x7f",
           "does not fit");
    HEADER("off the alignment", V3 N("\1") N("\0") N("\1") "a\1\0\0\0" N("\1") "\0\0\0\0" N("\4"),
           "alignment of 32");
    HEADER("shared bytes", V3 N("\2") N("\0") FLOAT("a") FLOAT("b") "padding, data",
           "a and b overlap");
    HEADER("alignment 3", V3 N("\0") N("\1") N("\x11") "general.alignment\4\0\0\0\3\0\0\0",
           "power of two");
}

/* ---- splits of byte-level BPE */

static void add_merges(json_t *model, const json_t *merges)
{
    json_t *vocab = json_object_get(model, "vocab"), *list = json_object_get(model, "merges");
    for (size_t i = 0; i < json_array_size(merges); i++) {
        char left[8], right[8], both[16];
        CHECK(sscanf(json_string_value(json_array_get(merges, i)), "%7s %7s", left, right) == 2,
              "merge %zu", i);
        snprintf(both, sizeof both, "%s%s", left, right);
        json_object_set_new(vocab, both, json_integer((json_int_t)json_object_size(vocab)));
        json_array_append_new(list, json_pack("[s, s]", left, right));
    }
}

/* The tokenizer that the ids were made with, with the splits of that name. */
static struct tokenizer *open_with_splits(const char *name, const json_t *merges)
{
    struct err e = {0};
    json_t *j = json_load_file("tests/golden/tokenizers_small/split_removed.json", 0, NULL);
    const struct gguf_pre *p = gguf_pre_named(name);
    CHECK(p != NULL, "%s is not known", name);
    add_merges(json_object_get(j, "model"), merges);
    if (p) {
        json_object_set_new(j, "pre_tokenizer", gguf_pre_tokenizer(p));
        json_object_set_new(json_object_get(j, "model"), "ignore_merges",
                            json_boolean(p->ignore_merges));
    }
    char *text = json_dumps(j, 0);
    struct tokenizer *t = tokenizer_open(text, (int64_t)strlen(text), &e);
    CHECK(t != NULL, "%s: %s", name, e.msg);
    free(text);
    json_decref(j);
    return t;
}

static void check_splits(const char *name, const json_t *merges, const char *text,
                         const json_t *want)
{
    struct err e = {0};
    struct ids x = {0};
    struct tokenizer *t = open_with_splits(name, merges);
    int64_t n = t ? tokenizer_encode(t, text, (int64_t)strlen(text), &x, &e) : -1, same = 0;
    while (same < n && json_integer_value(json_array_get(want, (size_t)same)) == x.id[same])
        same++;
    CHECK(same == n && n == (int64_t)json_array_size(want), "%s: %lld ids, then others", name,
          (long long)same);
    ids_free(&x);
    tokenizer_close(t);
}

/* As llama.cpp has them, by tests/hf/make_gguf_splits.py. */
static void test_splits(void)
{
    json_t *golden = json_load_file("tests/golden/gguf_splits.json", 0, NULL), *group, *name;
    const char *text = json_string_value(json_object_get(golden, "text"));
    size_t i, k, names = 0;
    json_array_foreach(json_object_get(golden, "made"), i, group)
        json_array_foreach(json_object_get(group, "names"), k, name) {
            check_splits(json_string_value(name), json_object_get(golden, "merges"), text,
                         json_object_get(group, "ids"));
            names++;
        }
    CHECK(names > 80, "only %zu names", names);
    CHECK(gguf_pre_named(NULL) == gguf_pre_named("default") && !gguf_pre_named("gemma4"),
          "the default, or a name that is none");
    json_decref(golden);
}

int main(void)
{
    test_splits();
    test_quants();
    test_rounding();
    test_quantize();
    test_divisors();
    test_hostile();
    return check_report();
}
