/* Multiple choice: log-likelihoods against whole sequences in double precision, for every family,
 * whatever the batch, also without some blocks and beyond the length at which rope tables change;
 * what follows from them, against numbers worked out by hand; the texts of items. Reads
 * tests/golden; run from the repository root. usage: choices [--cuda] [FAMILY]...: all families, on
 * the CPU or in f32 on the CUDA device. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/base/rng.h"
#include "../../lib/eval/eval.h"
#include "device.h"

static struct exec x;
static struct err e;

/* ---- items of random ids */

enum { ITEMS = 9 };
/* stem, choices, ids of the first choice; each further one has three fewer, but at least two */
static const int shapes[ITEMS][3] = {{0, 2, 9},   {0, 3, 17}, {1, 2, 2},  {12, 4, 11}, {13, 4, 14},
                                     {40, 5, 20}, {55, 2, 9}, {30, 2, 2}, {44, 1, 5}};

static struct rng draws;

static int32_t *random_ids(int64_t n, int64_t vocab)
{
    int32_t *ids = mem_alloc((size_t)(n + 1) * sizeof *ids);
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)rng_below(&draws, (uint64_t)vocab);
    return ids;
}

static void item_make(struct choice_tokens *k, const int shape[3], int64_t vocab)
{
    *k = (struct choice_tokens){.stem = random_ids(shape[0], vocab),
                                .n_stem = shape[0],
                                .n = shape[1],
                                .longest = shape[2],
                                .rows = mem_alloc((size_t)shape[1] * sizeof *k->rows)};
    for (int i = 0; i < shape[1]; i++) {
        int64_t n = shape[2] - 3 * i < 2 ? 2 : shape[2] - 3 * i;
        k->rows[i] = (struct choice_row){
            .ids = random_ids(n, vocab), .n = n, .scored = n > 4 ? n - 3 : n - 1};
    }
}

static struct choices *choices_make(struct choice_items *items, int single, int64_t vocab)
{
    struct choices *c = mem_alloc(sizeof *c);
    draws = rng_open(5, 0);
    *items = (struct choice_items){.n = ITEMS - !single};
    *c = (struct choices){
        .items = items, .all = mem_alloc((size_t)ITEMS * sizeof *c->all), .single = single};
    for (int i = 0; i < items->n; i++)
        item_make(&c->all[i], shapes[i], vocab);
    return c;
}

/* ---- a row by itself */

/* The logits of a sequence, without some blocks. */
static const float *whole_logits(struct tape *t, const struct model *m, const int32_t *ids,
                                 int64_t n, const struct choice_run *o)
{
    struct batch b = {.n_seq = 1, .seq_len = n, .ids = ids};
    int64_t to = o->first + o->without;
    if (!o->without)
        tape_forward(t, &b, &e);
    else if (!tape_forward_range(t, &b, 0, o->first, &e)) {
        size_t bytes = (size_t)(n * m->spec.hidden_size) * sizeof(float);
        void *kept = mem_alloc(bytes);
        exec_get(&x, kept, tape_boundary(t, o->first), bytes);
        exec_put(&x, tape_boundary(t, to), kept, bytes);
        free(kept);
        tape_forward_range(t, &b, to, m->spec.num_hidden_layers, &e);
    }
    stop_on_error(&e, "a whole sequence");
    return tape_logits(t, 0, n);
}

/* -log p of one id; *first: no other logit is larger. */
static double nll_of(const float *z, int64_t V, int32_t id, int *first)
{
    double sum = 0;
    for (int64_t i = 0; i < V; i++) {
        sum += exp((double)z[i] - (double)z[id]);
        *first &= z[i] <= z[id];
    }
    return log(sum);
}

static void check_row(const char *name, struct tape *t, const struct model *m,
                      const struct choice_tokens *k, int64_t i, const struct choice_run *o)
{
    const struct choice_row *row = &k->rows[i];
    int64_t n = k->n_stem + row->n - 1, V = m->spec.vocab_size;
    int32_t *ids = mem_alloc((size_t)(n + 1) * sizeof *ids);
    memcpy(ids, k->stem, (size_t)k->n_stem * sizeof *ids);
    memcpy(ids + k->n_stem, row->ids, (size_t)row->n * sizeof *ids);
    const float *z = whole_logits(t, m, ids, n, o);
    double want = 0;
    int greedy = 1;
    for (int64_t p = n - row->scored; p < n; p++)
        want -= nll_of(z + p * V, V, ids[p + 1], &greedy);
    CHECK(fabs(row->log_likelihood - want) < 1e-5 * (1 - want),
          "%s, batches of %d, without %d: stem %d, choice %d: %.7f for %.7f", name,
          (int)o->batch_size, (int)o->without, (int)k->n_stem, (int)i, row->log_likelihood, want);
    CHECK(k->n > 1 || row->greedy == greedy, "%s: greedy %d for %d", name, row->greedy, greedy);
    free(ids);
}

static void check_run(const char *name, struct model *m, int single, struct choice_run o)
{
    struct choice_items items;
    struct choices *c = choices_make(&items, single, m->spec.vocab_size);
    struct tape_spec spec = {.model = m, .n_seq = 1, .seq_len = 64, .end = TAPE_LOGITS};
    struct tape *t = tape_record(&x, &spec, &e);
    tape_open(t, &e);
    CHECK(choices_run_bytes(c, &x, m, &o, &e) > 0, "%s", e.msg);
    choices_run(c, &x, m, &o, NULL, NULL, &e);
    stop_on_error(&e, name);
    for (int64_t i = 0; i < items.n; i++)
        for (int64_t k = 0; k < c->all[i].n; k++)
            check_row(name, t, m, &c->all[i], k, &o);
    tape_close(t);
    choices_close(c);
}

/* Of all ids, one is the most probable after a stem. */
static void check_greedy(struct model *m)
{
    struct choice_items items;
    struct choices *c = choices_make(&items, 1, m->spec.vocab_size);
    int64_t V = m->spec.vocab_size, found = 0;
    struct choice_run o = {0};
    for (int64_t id = 0; id < V; id++) {
        struct choice_tokens one = {.stem = c->all[3].stem, .n_stem = 12, .n = 1, .longest = 2};
        struct choice_row row = {.ids = (int32_t[]){5, (int32_t)id}, .n = 2, .scored = 1};
        one.rows = &row;
        struct choices alone = {.items = &(struct choice_items){.n = 1}, .all = &one, .single = 1};
        choices_run(&alone, &x, m, &o, NULL, NULL, &e);
        found += row.greedy;
    }
    CHECK(found == 1, "%lld ids are the most probable one", (long long)found);
    choices_close(c);
}

static void check_family(const char *name)
{
    char *dir = mem_format("tests/golden/%s", name);
    struct model m;
    load_model(&m, dir, MODEL_FROZEN, &x);
    check_run(name, &m, 0, (struct choice_run){0});
    check_run(name, &m, 1, (struct choice_run){.batch_size = 3});
    check_run(name, &m, 1, (struct choice_run){.batch_size = 1, .without = 1, .first = 1});
    if (!strcmp(name, "families/llama")) {
        check_run(name, &m, 0, (struct choice_run){.without = 1});
        check_greedy(&m);
    }
    model_free(&m);
    free(dir);
}

/* ---- by hand */

static void read_text(struct choice_items *s, const char *text, int64_t limit, struct err *why)
{
    char path[] = "/tmp/choices-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs(text, f);
    fclose(f);
    choice_items_read(s, path, limit, why);
    unlink(path);
}

static void set_row(struct choice_row *row, double log_likelihood, int64_t scored)
{
    row->log_likelihood = log_likelihood;
    row->scored = scored;
}

/* Four items of two choices, the first of which is right: " ab", of 2 characters and bytes without
 * its space, and " \u00e9\u00e9\u00e9", of 3 characters and 6 bytes. In turn, what the second is
 * made by:
 *
 * -1 and -2 in 2 tokens each: bytes, -1/2 and -1/3.
 *
 * -2 in 2 and -2.8 in 1: characters, -1 and -.93 (with the space, -.67 and -.7), and bytes.
 *
 * -4 in 2 and -9 in 3: bytes, -2 and -1.5.
 *
 * -3 in 1 and -1 in 2: all.
 *
 * So acc is 3/4, its error sqrt(3/4 1/4 4/3 / 4) = 1/4; per character 1/2, error sqrt(1/4 4/3 / 4)
 * = sqrt(1/12); per byte 0; per token 3/4. nll (1 + 2 + 4 + 3) / 4 = 2.5; deviations -1.5, -.5, 1.5
 * and .5, so its error is sqrt(5 / 3 / 4). Probability of the first: 1 / (1 + e^-1) and so on. */
static void check_scores(void)
{
    static const double values[4][2] = {{-1, -2}, {-2, -2.8}, {-4, -9}, {-3, -1}};
    static const int tokens[4][2] = {{2, 2}, {2, 1}, {2, 3}, {1, 2}};
    char *line = mem_string("{\"choices\":[\" ab\",\" \\u00e9\\u00e9\\u00e9\"],\"gold\":0}\n"),
         *text = mem_format("%s%s%s%s", line, line, line, line);
    struct choice_items items;
    read_text(&items, text, 0, &e);
    stop_on_error(&e, "reading items");
    struct choice_tokens all[4];
    struct choices c = {.items = &items, .all = all};
    double probability = 0;
    for (int i = 0; i < 4; i++) {
        all[i] = (struct choice_tokens){.n = 2, .rows = mem_alloc(2 * sizeof *all[i].rows)};
        for (int k = 0; k < 2; k++)
            set_row(&all[i].rows[k], values[i][k], tokens[i][k]);
        probability += 1 / (1 + exp(values[i][1] - values[i][0])) / 4;
    }
    struct choice_scores s;
    choices_scores(&c, NULL, &s);
    static const struct estimate want[CHOICE_RULES] = {[BY_SUM] = {0.75, 0.25},
                                                       [BY_CHARACTER] = {0.5, 0.28867513459},
                                                       [BY_BYTE] = {0, 0},
                                                       [BY_TOKEN] = {0.75, 0.25}};
    for (int r = 0; r < CHOICE_RULES; r++)
        CHECK(fabs(s.acc[r].mean - want[r].mean) < 1e-9 &&
                  fabs(s.acc[r].error - want[r].error) < 1e-9,
              "rule %d: %.9f +- %.9f", r, s.acc[r].mean, s.acc[r].error);
    CHECK(s.items == 4 && fabs(s.nll.mean - 2.5) < 1e-9 && fabs(s.nll.error - 0.64549722437) < 1e-9,
          "nll %.9f +- %.9f", s.nll.mean, s.nll.error);
    CHECK(fabs(s.probability.mean - probability) < 1e-9, "probability %.9f", s.probability.mean);
    for (int i = 0; i < 4; i++)
        free(all[i].rows);
    choice_items_free(&items);
    free(line);
    free(text);
}

/* Several right choices: their probabilities add up; one choice: its own, and greedy. */
static void check_special(void)
{
    struct choice_items items;
    read_text(&items,
              "{\"choices\": [\"a\", \"b\", \"c\"], \"gold\": [0, 2]}\n\n"
              "{\"ctx\": \"x\", \"choices\": \"y\"}\n",
              0, &e);
    stop_on_error(&e, "reading items");
    struct choice_row three[] = {{.log_likelihood = log(0.2)},
                                 {.log_likelihood = log(0.4)},
                                 {.log_likelihood = log(0.2)}},
                      one[] = {{.log_likelihood = log(0.3), .greedy = 1}};
    struct choice_tokens all[] = {{.n = 3, .rows = three}, {.n = 1, .rows = one}};
    struct choices c = {.items = &items, .all = all};
    CHECK(items.n == 2 && items.all[1].line == 3, "lines");
    CHECK(fabs(choice_probability(&c, 0) - 0.5) < 1e-12 &&
              fabs(choice_nll(&c, 0) + log(0.4)) < 1e-12,
          "two right choices of three: %g %g", choice_probability(&c, 0), choice_nll(&c, 0));
    CHECK(!choice_is_right(&c, 0, BY_SUM) && choice_made(&c, 0, BY_SUM) == 1, "the second is made");
    three[2].log_likelihood = three[1].log_likelihood;
    CHECK(choice_made(&c, 0, BY_SUM) == 1, "of equal ones the first is made");
    CHECK(fabs(choice_probability(&c, 1) - 0.3) < 1e-12 && choice_is_right(&c, 1, BY_SUM),
          "one choice");
    choice_items_free(&items);
}

/* ---- few-shot examples */

static void check_preamble(void)
{
    struct choice_items s;
    struct err why = {0};
    read_text(&s,
              "{\"ctx\":[\"A \",\"B \"],\"choices\":\"x\",\"gold\":1,\"group\":\"g\"}\n"
              "{\"ctx\":\"C:\",\"choices\":[\" y\",\" z\"],\"gold\":0,\"group\":\"g\","
              "\"description\":\"About g.\\n\"}\n"
              "{\"ctx\":\"D:\",\"choices\":[\" y\"],\"group\":\"h\"}\n"
              "{\"ctx\":\"E:\",\"choices\":[\" v\",\" w\"],\"gold\":1,\"group\":\"g\"}\n",
              0, &e);
    stop_on_error(&e, "reading examples");
    char *none = choice_preamble(&s.all[1], NULL, 0, &e),
         *two = choice_preamble(&s.all[1], &s, 2, &e);
    CHECK(!strcmp(none, "About g.\n"), "\"%s\"", none);
    CHECK(!strcmp(two, "About g.\nB x\n\nE: w\n\n"), "\"%s\"", two);
    CHECK(!choice_preamble(&s.all[1], &s, 3, &why) && strstr(why.msg, "has 2 examples for line 2"),
          "%s", why.msg);
    free(none);
    free(two);
    choice_items_free(&s);
}

int main(int argc, char **argv)
{
    device_open(&x, &argc, &argv);
    each_family(argc, argv, check_family);
    if (argc < 2) {
        check_family("longrope");
        check_scores();
        check_special();
        check_preamble();
    }
    exec_close(&x);
    return check_report();
}
