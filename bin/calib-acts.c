/* calib-acts: one forward pass over calibration text gives sums of every unit's activity (kind
 * "acts"), from which every kind of score can be computed. */
#include <stdlib.h>
#include <string.h>

#include "../lib/prune/prune.h"
#include "../lib/data/data.h"
#include "../lib/tool/tool.h"

static int64_t max_tokens, first, sequences, seq_length, batch_size, block_size;
static int any_tokenizer;

static const struct opt opts[] = {
    {"Text", OPT_GROUP, NULL, NULL, NULL, 0},
    {"max-tokens", OPT_INT, &max_tokens, "N",
     "stop before the sequence that would exceed N tokens; 0: no limit", OPT_FROM_0},
    {"first-sequence", OPT_INT, &first, "N",
     "skip the first N sequences; with --sequences, this selects one shard of a token stream",
     OPT_FROM_0},
    {"sequences", OPT_INT, &sequences, "N", "use at most N sequences; 0: no limit", OPT_FROM_0},
    {"seq-length", OPT_INT, &seq_length, "N",
     "read only the first N tokens of longer sequences; 0: N is that of the rows, or 2048 for "
     "documents, but no more than max_position_embeddings",
     OPT_FROM_0},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {"Sums", OPT_GROUP, NULL, NULL, NULL, 0},
    {"block-size", OPT_INT, &block_size, "N",
     "measure contiguous blocks of up to N layers; 0: of every length up to 32", OPT_FROM_0},
    {"Computation", OPT_GROUP, NULL, NULL, NULL, 0},
    {"batch-size", OPT_INT, &batch_size, "N",
     "sequences per forward pass; 0: as many as make about 1024 tokens",
     OPT_SILENT_ID | OPT_FROM_0},
    {0}};

static const struct tool_desc desc = {
    "calib-acts",
    "MODEL TOKENS[:N]...",
    "Sum the activations of every unit of a model over calibration text.",
    "Reads a model and token streams; writes activation sums. One forward pass, without the "
    "output head, serves every axis, aggregation and target shape: FFN neurons, heads, KV groups, "
    "experts, Mamba heads, hidden channels, layers and contiguous blocks of layers. Each sequence "
    "is one sample. Memory does not grow with the number of samples; but with --stream-layers, "
    "what entered the last N layers (--block-size) is kept for all tokens, in a file in TMPDIR if "
    "memory does not hold it.\n\nTOKENS:N takes the first N sequences of a stream (unless a file "
    "has that name), so that texts can be mixed.\n\nParts of a text may be summed separately and "
    "joined with ts-cat, which refuses to count a part twice.",
    "  calib-acts teacher/ web.tsz:768 code.tsz:256 |\n      score-importance | rank > "
    "rank.tsz",
    opts,
    2,
    -1,
    TOOL_OUTPUT | TOOL_COMPUTE | TOOL_MODEL | TOOL_WORLD | TOOL_LAYERS};

/* A TOKENS operand. */
struct token_text {
    char *path;
    int64_t most; /* sequences; 0: no limit */
    struct st_in *in;
    struct sequences s;
    char id[ST_DIGEST];
    int64_t end; /* one past the last sequence taken */
};

struct job {
    struct tool *t;
    struct calibration *c;
    struct token_text *texts;
    int n_texts;
    int32_t *ids;
    /* sequences in the batch so far, their common length, the most in a batch */
    int64_t n_seq, len, room;
    int64_t max_len;             /* of all texts */
    int64_t tokens_done, tokens; /* for the progress line */
    int64_t vocab_size;
};

/* ---- the texts */

static void operand_parse(struct job *j, struct token_text *x, const char *operand)
{
    char *end;
    const char *number = data_split_number(operand, &x->path);
    x->most = sequences;
    if (!number)
        return;
    x->most = strtoll(number, &end, 10);
    if (*end || x->most < 1)
        tool_usage(j->t,
                   "%s: the number of sequences after the colon must be a whole number from 1",
                   operand);
    if (sequences)
        tool_usage(j->t, "--sequences and %s both say how many sequences to take: give one",
                   operand);
}

/* Of the tokens that will be read, as far as that is known. */
static int64_t tokens_ahead(const struct sequences *s)
{
    int64_t n = s->rows_left * s->row_len;
    if (s->record.ndim == 2 && s->part.count && s->part.count < s->rows_left)
        n = s->part.count * s->row_len;
    if (s->part.max_tokens && (s->part.max_tokens < n || s->record.ndim == 1))
        n = s->part.max_tokens;
    return n;
}

static void text_open(struct job *j, struct token_text *x, const struct model_spec *h)
{
    struct tool *t = j->t;
    struct err *e = tool_err(t);
    x->in = tool_in(t, x->path, "tokens");
    st_head_id(st_head(x->in), "id", x->id, x->path, e);
    for (const struct token_text *y = j->texts; y < x; y++)
        if (!strcmp(x->path, y->path) || (x->id[0] && !strcmp(x->id, y->id)))
            tool_die(t, "%s and %s are the same stream: each counts once", y->path, x->path);
    const char *tokenizer = json_string_value(json_object_get(st_head(x->in), "tokenizer_id"));
    if (!any_tokenizer)
        data_check_tokenizers(tool_operand(t, 0), h->tokenizer_id, x->path,
                              tokenizer ? tokenizer : "", e);
    tool_check(t);
    sequences_open(&x->s, x->in, seq_length, h, e);
    tool_check(t);
    x->s.part = (struct sequences_part){first, x->most, max_tokens};
    j->max_len = x->s.max_len > j->max_len ? x->s.max_len : j->max_len;
    j->tokens += tokens_ahead(&x->s);
}

/* The numbers after the names change what is made, unlike the names. */
static void identify(struct job *j)
{
    json_t *counts = json_array();
    int given = 0;
    for (int i = 0; i < j->n_texts; i++) {
        given |= j->texts[i].most != sequences;
        json_array_append_new(counts, json_integer(j->texts[i].most));
    }
    if (given)
        tool_identify(j->t, "sequences of each", counts);
    else
        json_decref(counts);
}

static void texts_open(struct job *j, const struct model_spec *h)
{
    struct tool *t = j->t;
    j->n_texts = tool_operands(t) - 1;
    j->texts = mem_alloc((size_t)j->n_texts * sizeof *j->texts);
    if (j->n_texts > 1 && (first || sequences || max_tokens))
        tool_usage(t,
                   "--max-tokens, --first-sequence and --sequences are for a single TOKENS; with "
                   "several, give each its number of sequences as TOKENS:N");
    for (int i = 0; i < j->n_texts; i++)
        operand_parse(j, &j->texts[i], tool_operand(t, i + 1));
    for (int i = 0; i < j->n_texts; i++)
        text_open(j, &j->texts[i], h);
    identify(j);
}

/* ---- samples */

static void run_batch(struct job *j)
{
    struct batch b = {.n_seq = j->n_seq, .seq_len = j->len, .ids = j->ids};
    if (j->n_seq && calibrate_batch(j->c, &b, tool_err(j->t)))
        tool_check(j->t);
    j->tokens_done += j->n_seq * j->len;
    j->n_seq = 0;
    tool_progress(j->t, j->tokens_done, j->tokens > j->tokens_done ? j->tokens : 0, "tokens");
}

static void add_sequence(struct job *j, const struct sequences *s, const uint32_t *ids, int64_t n)
{
    if (sequences_check(s, ids, n, j->vocab_size))
        tool_check(j->t);
    if (j->n_seq == j->room || n != j->len)
        run_batch(j);
    j->len = n;
    for (int64_t i = 0; i < n; i++)
        j->ids[j->n_seq * n + i] = (int32_t)ids[i];
    j->n_seq++;
}

static void run_text(struct job *j, struct token_text *x)
{
    const uint32_t *ids;
    int64_t n, taken = 0;
    while (sequences_next(&x->s, &ids, &n) > 0) {
        add_sequence(j, &x->s, ids, n);
        x->end = x->s.index;
        taken++;
    }
    tool_check(j->t);
    if (x->most != sequences && taken < x->most)
        tool_note(j->t, "%s has only %lld of %lld sequences", x->path, (long long)taken,
                  (long long)x->most);
}

static void run_texts(struct job *j)
{
    tool_progress(j->t, 0, j->tokens, "tokens");
    for (int i = 0; i < j->n_texts; i++)
        run_text(j, &j->texts[i]);
    run_batch(j);
}

static void show_sections(void *t, int64_t done, int64_t of)
{
    tool_progress(t, done, of, "sections");
}

/* Of a model that comes layer by layer, the batches of all texts are read first. */
static void run_all(struct job *j, const struct model *m)
{
    struct tool *t = j->t;
    struct err *e = tool_err(t);
    if (m->sections)
        run_texts(j);
    struct batches *b = calibrate_batches(j->c, e);
    tool_check(t);
    tool_predict_batches(t, NULL,
                         (struct memory_part[]){tool_weights(m),
                                                {"activations and sums", calibrate_bytes(j->c), 0},
                                                {0}},
                         b);
    if (m->sections)
        calibrate_run(j->c, show_sections, t, e);
    else
        run_texts(j);
    tool_check(t);
}

/* Which sequences went in, for ts-cat, and a note if any was cut. */
static void add_shards(struct job *j, struct acts *a, const struct model_spec *h)
{
    char text[200];
    int64_t cut = 0;
    for (int i = 0; i < j->n_texts; i++) {
        struct token_text *x = &j->texts[i];
        json_array_append_new(a->shards,
                              json_pack("[s, I, I]", x->id, (json_int_t)first, (json_int_t)x->end));
        cut = x->s.cut && x->s.max_len > cut ? x->s.max_len : cut;
    }
    if (window_note(text, cut, seq_length > 0, h))
        tool_note(j->t, "%s", text);
}

static void texts_close(struct job *j)
{
    for (int i = 0; i < j->n_texts; i++) {
        sequences_close(&j->texts[i].s);
        st_close(j->texts[i].in);
        free(j->texts[i].path);
    }
    free(j->texts);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err *e = tool_err(t);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    const struct model_spec *h = model_in_spec(in);
    struct job j = {.t = t, .room = batch_size};
    texts_open(&j, h);
    if (block_size > h->num_hidden_layers)
        tool_die(t, "--block-size %lld exceeds the model's %lld layers", (long long)block_size,
                 (long long)h->num_hidden_layers);
    struct model m;
    tool_load(t, &m, in);
    j.vocab_size = m.spec.vocab_size;
    if (!j.room)
        j.room = j.max_len < 1024 ? 1024 / j.max_len : 1;
    if (j.max_len > INT32_MAX || j.room > INT32_MAX / j.max_len)
        tool_usage(t,
                   "a forward pass of %lld sequences of %lld tokens is too large for memory: lower "
                   "--batch-size or --seq-length",
                   (long long)j.room, (long long)j.max_len);
    int64_t most = m.spec.num_hidden_layers < 32 ? m.spec.num_hidden_layers : 32;
    if (!(j.c = calibrate_open(tool_exec(t), &m, j.room, j.max_len, block_size ? block_size : most,
                               e)))
        tool_check(t);
    j.ids = mem_alloc((size_t)(j.room * j.max_len) * sizeof *j.ids);
    run_all(&j, &m);
    struct acts *a = calibrate_acts(j.c);
    add_shards(&j, a, &m.spec);
    tool_note(t, "%lld samples, %lld positions", (long long)a->samples, (long long)a->positions);
    acts_write(tool_out(t, "acts", acts_meta(a)), a);
    calibrate_close(j.c);
    texts_close(&j);
    model_close(in);
    model_free(&m);
    free(j.ids);
    return tool_finish(t);
}
