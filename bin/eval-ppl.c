/* eval-ppl: the loss of models on a token stream. Models and tokens in; one JSON line per model, or
 * a table for people, out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/usage.h"
#include "../lib/base/utf8.h"
#include "../lib/eval/eval.h"
#include "../lib/tool/tool.h"

static struct eval_options o;
static int64_t max_tokens, seq_length; /* as given */
static int table, any_tokenizer;
static double max_nll;
static const char *row_bos = "auto", *loss_on = "completion";

static const struct opt opts[] = {
    {"seq-length", OPT_INT, &seq_length, "N",
     "cut longer sequences into windows of N tokens and a shorter last one; 0: N is that of the "
     "rows, or 2048 for documents, but no more than max_position_embeddings",
     0},
    {"context", OPT_INT, &o.windows.context, "N",
     "join the sequences and cut the result into windows of N tokens; an incomplete last window is "
     "left out",
     0},
    {"stride", OPT_INT, &o.windows.stride, "N",
     "start a window every N tokens; all but the first score only their last N tokens", 0},
    {"score-from", OPT_INT, &o.windows.score_from, "N",
     "score only the tokens at positions N, N + 1, ... of each window, counted from 0; --context "
     "512 --score-from 257 scores what llama-perplexity scores",
     0},
    {"row-bos", OPT_TEXT, &row_bos, "auto|yes|no",
     "whether windows that begin inside a text begin with a BOS token, which counts as one of "
     "their N tokens and is never predicted; auto: if the tokenizer puts one before a text",
     0},
    {"loss-on", OPT_TEXT, &loss_on, "completion|all",
     "whether the tokens of prompts are scored too, where TOKENS has conversations", 0},
    {"max-tokens", OPT_INT, &max_tokens, "N", "use only the first N tokens; 0: no limit",
     OPT_FROM_0},
    {"batch-size", OPT_INT, &o.batch_size, "N",
     "windows per forward pass; 0: as many as make about 1024 tokens", OPT_FROM_0},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", OPT_SILENT_ID},
    {"max-nll", OPT_REAL, &max_nll, "X", "exit with status 3 if the nll of any model exceeds X",
     OPT_SILENT_ID},
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {0}};

static const struct tool_desc desc = {
    "eval-ppl",
    "MODEL... TOKENS",
    "Evaluate models on tokens: nats per token, perplexity, bits per byte.",
    "Prints one JSON object per model. Each window is evaluated in a fresh context: a window of N "
    "tokens gives N - 1 predictions, and its first token is read but not predicted. Windows are "
    "whole sequences, pieces of them (--seq-length), or pieces of the joined text "
    "(--context); the documents of packed rows (tokenize --pack) are evaluated as if by "
    "themselves. "
    "A remainder of one token is left out and counted in tokens_left_out, or in padding if it is a "
    "packed document.\n\nnll is "
    "the mean over all scored predictions, in nats; standard_error is that of the mean over "
    "windows; bits_per_byte divides by the source bytes of the predicted tokens. Sums are "
    "accumulated in f64.",
    "  eval-ppl teacher/ pruned.tsz distilled.tsz test.tsz --context 512 --table",
    opts,
    2,
    -1,
    TOOL_COMPUTE};

static json_t *number_or_null(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *record(struct tool *t, const char *name, const struct model_spec *h,
                      const struct tokens *tokens, const struct windows *w,
                      const struct eval_sums *s, double seconds)
{
    int64_t non_embedding, parameters = model_spec_parameters(h, &non_embedding),
                           bytes = windows_bytes(w, tool_err(t));
    tool_check(t);
    json_t *j = json_pack("{s:o, s:s, s:s, s:s}", "model", json_text(name), "model_id", h->id,
                          "family", h->family->name, "tokens_id", tokens->id);
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {
        {"parameters", parameters},           {"non_embedding_parameters", non_embedding},
        {"seq_length", o.windows.seq_length}, {"context", o.windows.context},
        {"stride", o.windows.stride},         {"score_from", o.windows.score_from},
        {"max_tokens", max_tokens},           {"windows", w->n},
        {"bos_added", w->bos_added},          {"tokens", w->tokens},
        {"tokens_left_out", w->left_out},     {"padding", w->padding},
        {"predictions", w->predictions},      {"bytes", bytes}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    json_object_set_new(j, "model_digest", json_string(h->digest));
    json_object_set_new(j, "row_bos", json_string(row_bos));
    json_object_set_new(j, "loss_on", json_string(loss_on));
    json_object_set_new(j, "nll", number_or_null(s->nll));
    json_object_set_new(j, "standard_error", number_or_null(s->standard_error));
    json_object_set_new(j, "ppl", number_or_null(exp(s->nll)));
    json_object_set_new(
        j, "bits_per_byte",
        number_or_null(bytes > 0 ? s->nll * (double)w->predictions / M_LN2 / (double)bytes : NAN));
    json_object_set_new(j, "seconds", json_real(round(seconds * 1e3) / 1e3));
    json_object_set_new(j, "tokens_per_second", json_integer(llround((double)w->tokens / seconds)));
    json_object_set_new(j, "peak_rss", json_integer(usage_peak_bytes()));
    json_object_set_new(j, "threads", json_integer(tool_exec(t)->threads));
    json_object_set_new(j, "math", json_string(exec_math_library()));
    return j;
}

/* In a column of ten: a number too long for its decimals gets an exponent. */
static void print_number(double x, int decimals)
{
    printf(x < 1e6 ? " %10.*f" : " %10.*e", decimals, x);
}

static void print_row(const json_t *j)
{
    const char *const columns[] = {"nll", "standard_error", "ppl", "bits_per_byte"};
    char *name = utf8_visible(json_string_value(json_object_get(j, "model")));
    /* the end of a long path tells more than its beginning */
    size_t n = strlen(name), room = 32;
    if (n > room)
        printf("...%s", name + n - (room - 3));
    else
        printf("%-*s", (int)room, name);
    printf(" %12lld", (long long)json_integer_value(json_object_get(j, "parameters")));
    for (int i = 0; i < 4; i++) {
        const json_t *value = json_object_get(j, columns[i]);
        if (json_is_null(value))
            printf(" %10s", "-");
        else
            print_number(json_real_value(value), i == 2 ? 2 : 4);
    }
    printf(" %9.1f %9lld\n", json_real_value(json_object_get(j, "seconds")),
           (long long)json_integer_value(json_object_get(j, "tokens_per_second")));
    free(name);
}

static void show_progress(void *t, int64_t done, int64_t windows)
{
    tool_progress(t, done, windows, "windows");
}

/* Windows for a model, and a note of what nobody asked for. */
static int resolve_windows(struct tool *t, const struct tokens *tokens, const struct model_spec *h)
{
    struct window_options *w = &o.windows;
    char text[200];
    int asked = seq_length || w->context;
    w->seq_length = w->context ? 0 : window_length_of(tokens, seq_length, h);
    if (window_note(text, w->context + w->seq_length, asked, h))
        tool_note(t, "%s", text);
    return row_bos_of_stream(&w->bos, tokens->head, row_bos, h, tool_err(t));
}

/* Evaluates one model, from opening to its record; returns its nll. */
static double evaluate(struct tool *t, const char *name, const char *tokens_name,
                       const struct tokens *tokens)
{
    struct model_in *in = tool_model(t, name);
    struct model m = {0};
    struct eval_sums sums;
    struct err *e = tool_err(t);
    if (!data_check_model(tokens, tokens_name, model_in_spec(in), name, any_tokenizer, e) &&
        !resolve_windows(t, tokens, model_in_spec(in)))
        model_load(&m, in, MODEL_FROZEN, e);
    tool_check(t);
    model_move(&m, tool_exec(t), e);
    tool_check(t);
    struct eval *v = eval_open(tool_exec(t), &m, tokens, &o, e);
    tool_check(t);
    if (eval_windows(v)->bos_added)
        tool_note(t, "%s: %lld of %lld windows begin with an added BOS token (--row-bos %s)", name,
                  (long long)eval_windows(v)->bos_added, (long long)eval_windows(v)->n, row_bos);
    char text[200];
    if (loss_on_note(text, eval_windows(v)))
        tool_note(t, "%s", text);
    tool_predict_memory(t, name,
                        (struct memory_part[]){{"weights", (int64_t)m.weights.size, 1},
                                               {"activations", eval_bytes(v), 0},
                                               {0}});
    double start = usage_seconds();
    eval_run(v, &sums, show_progress, t, e);
    tool_check(t);
    json_t *j = record(t, name, &m.spec, tokens, eval_windows(v), &sums, usage_seconds() - start);
    if (table)
        print_row(j);
    else if (!json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12)))
        putchar('\n');
    fflush(stdout);
    json_decref(j);
    eval_close(v);
    model_free(&m);
    model_close(in);
    return sums.nll;
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct tokens tokens;
    struct err usage = {0};
    int n = tool_operands(t) - 1, failed = 0, no_numbers = 0;
    o.windows.seq_length = seq_length;
    if (window_options_check(&o.windows, &usage) || row_bos_check(row_bos, &usage) ||
        loss_on_check(loss_on, &usage))
        tool_usage(t, "%s", usage.msg);
    const char *tokens_name = tool_operand(t, n);
    struct st_in *in = tool_in(t, tokens_name, "tokens");
    if (!tokens_load(&tokens, in, max_tokens, tool_err(t)) && o.windows.context)
        row_bos_check_join(tokens.head, tokens_name, tool_err(t));
    tool_check(t);
    loss_on_apply(loss_on, &tokens);
    st_close(in);
    if (table)
        printf("%-32s %12s %10s %10s %10s %10s %9s %9s\n", "model", "parameters", "nats/token",
               "std. error", "ppl", "bits/byte", "seconds", "tokens/s");
    for (int i = 0; i < n; i++) {
        double nll = evaluate(t, tool_operand(t, i), tokens_name, &tokens);
        failed += !(nll <= max_nll) && max_nll > 0; /* NaN fails too */
        no_numbers += !isfinite(nll);
    }
    if (failed)
        tool_refuse(t, "the nll of %d of %d models exceeds --max-nll %g or is not finite", failed,
                    n, max_nll);
    if (no_numbers)
        tool_die(t, "the nll of %d of %d models is not finite", no_numbers, n);
    tokens_free(&tokens);
    return tool_finish(t);
}
