/* Sources of training: names, weights and patterns; proportions after every draw, epochs of each,
 * going on at any position. Prints "N passed, N failed". */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "token_stream.h"

static void make_file(const char *name) { close(open(name, O_CREAT | O_WRONLY, 0666)); }

/* In a directory with a, a:2, s1, s10, s2 and [x]. */
static void test_names(void)
{
    static const struct {
        const char *text, *name;
        double weight;
        int64_t streams;
        const char *last;
    } cases[] = {{"a", "a", 1, 1, "a"},       {"a:3", "a", 3, 1, "a"},
                 {"a:2", "a:2", 1, 1, "a:2"}, {"a:2:0.25", "a:2", 0.25, 1, "a:2"},
                 {"s*", "s*", 1, 3, "s2"},    {"s?:2e3", "s?", 2000, 2, "s2"},
                 {"[x]", "[x]", 1, 1, "[x]"}, {"[as]:1", "[as]", 1, 1, "a"},
                 {"a:b", "a:b", 1, 1, "a:b"}, {"-:2", "-", 2, 1, "-"}};
    static const char *const refused[] = {"a:0", "a:-1", "a:1e7", "a:1.2.3", "z*"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct data_sources s = {0};
        struct err e = {0};
        CHECK(!data_sources_add(&s, cases[i].text, &e), "%s: %s", cases[i].text, e.msg);
        const struct data_source *a = s.all;
        CHECK(!strcmp(a->name, cases[i].name) && a->weight == llround(1e6 * cases[i].weight) &&
                  a->n_streams == cases[i].streams &&
                  !strcmp(a->streams[a->n_streams - 1].path, cases[i].last),
              "%s: %s, weight %lld, %lld streams", cases[i].text, a->name, (long long)a->weight,
              (long long)a->n_streams);
        CHECK(data_sources_add(&s, a->name, &e) && strstr(e.msg, "twice"), "%s again: %s", a->name,
              e.msg);
        data_sources_close(&s);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct data_sources s = {0};
        struct err e = {0};
        CHECK(data_sources_add(&s, refused[i], &e) && strstr(e.msg, refused[i]), "%s was taken",
              refused[i]);
        data_sources_close(&s);
    }
}

/* Streams of rows of two tokens: token 100 k + i twice for sequence i of stream k. */
static void stream_make(struct data_stream *s, int k, int64_t n)
{
    uint32_t ids[200];
    struct err e = {0};
    for (int64_t i = 0; i < 2 * n; i++)
        ids[i] = (uint32_t)(100 * k + i / 2);
    token_stream(&s->tokens, &(struct token_arrays){.ids = ids}, 2 * n, NULL, 0, 2);
    CHECK(!windows_open(&s->windows, &s->tokens, &(struct window_options){0}, &e), "%s", e.msg);
}

static int token_of(const struct data_row *r)
{
    uint32_t ids[2];
    struct err e = {0};
    CHECK(r->n == 2 && !data_row_read(r, ids, NULL, &e) && ids[0] == ids[1], "%s", e.msg);
    return (int)ids[0];
}

static void sources_make(struct data_sources *s, int shuffled)
{
    static const char *const texts[] = {"a:3", "s*:2", "[x]:0.5"};
    struct err e = {0};
    *s = (struct data_sources){.shuffled = shuffled, .seed = 5};
    for (int i = 0; i < 3; i++)
        CHECK(!data_sources_add(s, texts[i], &e), "%s", e.msg);
    stream_make(&s->all[0].streams[0], 0, 7);
    for (int k = 0; k < 3; k++)
        stream_make(&s->all[1].streams[k], 1 + k, 2 + k);
    stream_make(&s->all[2].streams[0], 4, 5);
    data_sources_ready(s);
}

static int source_of(int token) { return token < 100 ? 0 : 1 + (token >= 400); }

/* Each source passes through all its sequences, then all of them again. */
static void check_epochs(const struct data_sources *s, const int *tokens, int n)
{
    for (int i = 0; i < s->n; i++) {
        int seen[500] = {0}, epoch = 0, drawn = 0, whole = 1;
        for (int p = 0; p < n; p++) {
            if (source_of(tokens[p]) != i)
                continue;
            whole &= seen[tokens[p]]++ == epoch;
            epoch = ++drawn / (int)s->all[i].n;
        }
        CHECK(whole && epoch > 2, "source %d is not drawn in epochs (%d)", i, epoch);
    }
}

static void test_drawing(int shuffled)
{
    enum { N = 220 };
    static const double parts[] = {3 / 5.5, 2 / 5.5, 0.5 / 5.5};
    struct data_sources s;
    int tokens[N];
    int64_t drawn[3] = {0};
    double off = 0;
    sources_make(&s, shuffled);
    CHECK(s.all[1].n == 9 && data_sources_longest(&s) == 2, "sequences of the shards");
    for (int p = 0; p < N; p++) {
        struct data_row r = data_sources_next(&s);
        drawn[source_of(tokens[p] = token_of(&r))]++;
        for (int i = 0; i < 3; i++) {
            off = fmax(off, fabs((double)drawn[i] - parts[i] * (p + 1)));
            CHECK(data_sources_drawn(&s, i, p + 1) == drawn[i], "source %d after %d draws", i,
                  p + 1);
        }
    }
    CHECK(off <= 1.5 && drawn[0] == 120 && drawn[1] == 80 && drawn[2] == 20,
          "%lld, %lld, %lld; at most %.2f off", (long long)drawn[0], (long long)drawn[1],
          (long long)drawn[2], off);
    check_epochs(&s, tokens, N);
    for (int p = N - 1; p >= 0; p -= 13) {
        s.position = p;
        struct data_row r = data_sources_next(&s);
        CHECK(token_of(&r) == tokens[p] && s.position == p + 1, "going on at %d", p);
    }
    CHECK((tokens[0] == 0 && tokens[1] == 100) != shuffled, "the order of the first draws");
    data_sources_close(&s);
}

/* After 2^62 draws the counts are exact. */
static void test_far(void)
{
    struct data_sources s = {0};
    struct err e = {0};
    int64_t sum = 0, far = INT64_C(1) << 62;
    data_sources_add(&s, "a:999999.999999", &e);
    data_sources_add(&s, "a:2:0.000001", &e);
    for (int i = 0; i < 2; i++)
        sum += data_sources_drawn(&s, i, far);
    CHECK(sum == far &&
              data_sources_drawn(&s, 1, far) == INT64_C(4611686018427387904) / 1000000000000,
          "%lld, %lld", (long long)sum, (long long)data_sources_drawn(&s, 1, far));
    data_sources_close(&s);
}

static void test_id(void)
{
    struct data_sources s;
    struct err e = {0};
    sources_make(&s, 0);
    strcpy(s.all[0].streams->tokens.id, "a");
    json_t *all = data_sources_id(&s);
    char *text = json_dumps(all, JSON_COMPACT);
    CHECK(!strncmp(text, "[[\"a\",3.0],[\"", 13) && json_array_size(all) == 3 &&
              strlen(json_string_value(json_array_get(json_array_get(all, 1), 0))) == 32,
          "%s", text);
    free(text);
    json_decref(all);
    struct data_sources one = {0};
    struct tokens t = s.all[0].streams->tokens;
    s.all[0].streams->tokens = (struct tokens){.file.fd = -1};
    data_sources_one(&one, &t);
    CHECK(!windows_open(&one.all->streams->windows, &one.all->streams->tokens,
                        &(struct window_options){0}, &e),
          "%s", e.msg);
    data_sources_ready(&one);
    all = data_sources_id(&one);
    CHECK(json_is_string(all) && one.all->n == 7, "the id of a single stream");
    json_decref(all);
    data_sources_close(&one);
    data_sources_close(&s);
}

int main(void)
{
    static const char *const files[] = {"a", "a:2", "s1", "s10", "s2", "[x]"};
    char dir[] = "/tmp/pare-sources-XXXXXX";
    if (!mkdtemp(dir) || chdir(dir))
        return perror(dir), 1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        make_file(files[i]);
    test_names();
    test_drawing(0);
    test_drawing(1);
    test_far();
    test_id();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    rmdir(dir);
    return check_report();
}
