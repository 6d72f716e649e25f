/* eval-ppl: the loss of models on a token stream, and how far they are from a teacher. Models and
 * tokens in; one JSON line per model, or a table for people, out. */
#include <math.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/minmax.h"
#include "../lib/base/usage.h"
#include "../lib/eval/eval.h"
#include "../lib/tool/tool.h"

static struct eval_options o;
static int64_t max_tokens, seq_length; /* as given */
static int table, any_tokenizer, per_sequence, conventions;
static struct tool_table rows;
static double max_nll;
static const char *row_bos = "auto", *loss_on = "completion", *against, *text_name,
                  *text_field = "text";
static struct text_size text_size;
static int64_t stored_bytes; /* of the model's weights, whatever they become on the device */

static const struct opt opts[] = {
    {"Windows", OPT_GROUP, NULL, NULL, NULL, 0},
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
    {"any-tokenizer", OPT_FLAG, &any_tokenizer, NULL,
     "continue even if model and tokens come from different tokenizers", 0},
    {"Figures", OPT_GROUP, NULL, NULL, NULL, 0},
    {"conventions", OPT_FLAG, &conventions, NULL,
     "evaluate as published figures were made: gptq, hf-stride, harness and llama.cpp, an object "
     "for each; --context is the length of windows (by default 2048, for llama.cpp 512, but no "
     "more than the model's positions), --stride that of hf-stride (512, or half a window)",
     0},
    {"text", OPT_PATH, &text_name, "FILE",
     "the text whose words and bytes harness divides by: that of TOKENS, or what it was made from; "
     "if not given, words are unknown, and bytes are those of TOKENS",
     0},
    {"text-field", OPT_TEXT, &text_field, "NAME",
     "if --text holds JSON, the member of each object that has the text", 0},
    {"against", OPT_PATH, &against, "TEACHER|LOGITS",
     "compare every prediction with a teacher's: a model, or what dump-logits --full has written "
     "for TOKENS (a pipe is taken for the latter); if the vocabulary of the first MODEL was cut "
     "from the teacher's, only the tokens that stayed count",
     0},
    {"Output", OPT_GROUP, NULL, NULL, NULL, 0},
    {"per-sequence", OPT_FLAG, &per_sequence, NULL,
     "print a JSON object for each sequence first; with --context for each window", OPT_SILENT_ID},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", OPT_SILENT_ID},
    {"max-nll", OPT_REAL, &max_nll, "X", "exit with status 3 if the nll of any model exceeds X",
     OPT_SILENT_ID},
    {"Computation", OPT_GROUP, NULL, NULL, NULL, 0},
    {"batch-size", OPT_INT, &o.batch_size, "N",
     "windows per forward pass; 0: as many as make about 1024 tokens", OPT_FROM_0},
    {0}};

static const struct tool_desc desc = {
    "eval-ppl",
    "MODEL... TOKENS",
    "Evaluate models on tokens: nats per token, perplexity, bits per byte.",
    "Prints one JSON object per model. Each window is evaluated in a fresh context: a window of N "
    "tokens gives N - 1 predictions, and its first token is read but not predicted. Windows are "
    "whole sequences, pieces of them (--seq-length), or pieces of the joined text (--context); "
    "the documents of packed rows (tokenize --pack) are evaluated as if by themselves. A "
    "remainder of one token is left out and counted in tokens_left_out, or in padding if it is a "
    "packed document.\n\nnll is the mean over all scored predictions, in nats; standard_error is "
    "that of the mean over windows; bits_per_byte divides by the source bytes of the predicted "
    "tokens. Sums are accumulated in f64.\n\nWith --against, the member against has the mean "
    "KL(teacher || model) in nats, its percentiles, and the share of the teacher's 1, 5 and 10 "
    "most probable tokens that are among the model's: the figures of llama-perplexity "
    "--kl-divergence, by its formulas.",
    "  eval-ppl teacher/ pruned.tsz distilled.tsz test.tsz --context 512 --table\n"
    "  eval-ppl pruned.tsz distilled.tsz test.tsz --against teacher/ --table",
    opts,
    2,
    -1,
    TOOL_COMPUTE | TOOL_MODEL | TOOL_LAYERS | TOOL_WORLD};

/* ---- records */

static json_t *record(struct tool *t, const char *name, const struct model_spec *h,
                      const struct tokens *tokens, const struct eval *v, const struct eval_sums *s,
                      double seconds)
{
    const struct windows *w = eval_windows(v);
    int64_t non_embedding, parameters = model_spec_parameters(h, &non_embedding),
                           bytes = windows_bytes(w, tool_err(t));
    tool_check(t);
    json_t *j = json_pack("{s:o, s:s, s:s, s:s}", "model", json_text(name), "model_id", h->id,
                          "family", h->family->name, "tokens_id", tokens->id);
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"parameters", parameters},
                    {"non_embedding_parameters", non_embedding},
                    {"weight_bytes", stored_bytes},
                    {"seq_length", o.windows.seq_length},
                    {"context", o.windows.context},
                    {"stride", o.windows.stride},
                    {"score_from", o.windows.score_from},
                    {"max_tokens", max_tokens},
                    {"windows", w->n},
                    {"bos_added", w->bos_added},
                    {"tokens", w->tokens},
                    {"tokens_left_out", w->left_out},
                    {"padding", w->padding},
                    {"predictions", w->predictions},
                    {"bytes", bytes}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    json_object_set_new(j, "model_digest", json_string(h->digest));
    json_object_set_new(j, "tokenizer_id", json_string(tokens->tokenizer_id));
    json_object_set_new(j, "row_bos", json_string(row_bos));
    json_object_set_new(j, "loss_on", json_string(loss_on));
    json_put_number(j, "nll", s->nll);
    json_put_number(j, "standard_error", s->standard_error);
    json_put_number(j, "ppl", exp(s->nll));
    json_put_number(j, "bits_per_byte",
                    bytes > 0 ? s->nll * (double)w->predictions / M_LN2 / (double)bytes : NAN);
    json_object_set_new(j, "seconds", json_real(round(seconds * 1e3) / 1e3));
    json_object_set_new(j, "tokens_per_second", json_integer(llround((double)w->tokens / seconds)));
    tool_put_machine(t, j);
    return j;
}

static void print_sequences(struct tool *t, const char *name, const struct eval *v)
{
    int joined = o.windows.context > 0 && o.windows.convention != CONVENTION_HARNESS;
    struct report_sequences r = {.of = v, .joined = joined};
    json_t *j, *sequence;
    while ((sequence = report_sequence_next(&r, tool_err(t)))) {
        j = json_pack("{s:o}", "model", json_text(name));
        json_object_update(j, sequence);
        tool_print_json(j);
        json_decref(j);
        json_decref(sequence);
    }
    tool_check(t);
}

/* ---- a model */

static void show_progress(void *t, int64_t done, int64_t of)
{
    tool_progress(t, done, of, tool_streams_layers(t) ? "sections" : "windows");
}

/* Windows for a model, and a note of what nobody asked for. */
static int resolve_windows(struct tool *t, const struct tokens *tokens, const struct model_spec *h,
                           struct tool_teacher *r)
{
    struct window_options *w = &o.windows;
    char text[200];
    int asked = seq_length || w->context;
    if ((r && tool_teacher_apply(r, &o)) || conventions)
        return 0;
    w->seq_length = w->context ? 0 : window_length_of(tokens, seq_length, h);
    if (window_note(text, w->context + w->seq_length, asked, h))
        tool_note(t, "%s", text);
    return row_bos_of_stream(&w->bos, tokens->head, row_bos, h, tool_err(t));
}

static void notes(struct tool *t, const char *name, const struct windows *w)
{
    char text[200];
    if (w->bos_added && conventions)
        tool_note(t, "%s: %s: %lld of %lld windows begin with an added BOS token", name,
                  convention_names[o.windows.convention], (long long)w->bos_added, (long long)w->n);
    else if (w->bos_added)
        tool_note(t, "%s: %lld of %lld windows begin with an added BOS token (--row-bos %s)", name,
                  (long long)w->bos_added, (long long)w->n, row_bos);
    if (loss_on_note(text, w))
        tool_note(t, "%s", text);
}

static void print_all(struct tool *t, const char *name, json_t *j, const struct eval *v,
                      const struct tool_teacher *r)
{
    if (r)
        json_object_set_new(j, "against", tool_teacher_record(r, v));
    if (per_sequence)
        print_sequences(t, name, v);
    if (!table)
        tool_print_json(j);
    else if (conventions)
        tool_table_convention(&rows, j);
    else
        tool_table_row(&rows, j);
    json_decref(j);
}

static double teacher_nll(const struct eval *v)
{
    const struct divergences *d = eval_divergences(v);
    double mean[DIVERGENCE_COLUMNS];
    divergences_mean(d, 0, d->n, mean);
    return mean[DIVERGENCE_TEACHER_NLL];
}

static void predict_memory(struct tool *t, const char *name, const struct model *m,
                           int64_t activations, const struct tool_teacher *r, struct batches *b)
{
    int64_t teacher_bytes = r ? tool_teacher_bytes(r) : 0;
    tool_predict_batches(
        t, name,
        (struct memory_part[]){tool_weights(m),
                               {"activations", activations, 0},
                               {teacher_bytes ? "teacher" : NULL, teacher_bytes, 1},
                               {0}},
        b);
}

/* A model on the windows of o, ready to run. */
static struct eval *open_windows(struct tool *t, struct model *m, const struct tokens *tokens)
{
    struct eval *v = eval_open(tool_exec(t), m, tokens, &o, tool_err(t));
    tool_check(t);
    return v;
}

/* One model on the windows of o, from memory to its record; returns its nll. */
static double run(struct tool *t, const char *name, struct model *m, const struct tokens *tokens,
                  struct tool_teacher *r)
{
    struct err *e = tool_err(t);
    struct eval_sums sums;
    struct eval *v = open_windows(t, m, tokens);
    notes(t, name, eval_windows(v));
    if (!conventions)
        predict_memory(t, name, m, eval_bytes(v), r, eval_batches(v));
    double start = usage_seconds();
    eval_run(v, &sums, show_progress, t, e);
    tool_check(t);
    json_t *j = record(t, name, &m->spec, tokens, v, &sums, usage_seconds() - start);
    if (conventions)
        published_record(j, &o.windows, v, tokens, &sums, text_name ? &text_size : NULL, e);
    tool_check(t);
    print_all(t, name, j, v, r);
    if (r && isfinite(sums.nll) && !isfinite(teacher_nll(v)))
        tool_die(t, "the nll of %s is not finite", against);
    eval_close(v);
    return sums.nll;
}

/* By every convention; returns the sum of their nll, which is finite if all are. The windows of all
 * are made once before the first is run: any may be refused, and the largest sets the memory. */
static double run_conventions(struct tool *t, const char *name, struct model *m,
                              const struct tokens *tokens, struct tool_teacher *r)
{
    const struct window_options asked = o.windows;
    struct window_options of[CONVENTIONS];
    int64_t most = 0;
    double nll = 0;
    char text[200];
    if (window_note(text, asked.context, 1, &m->spec))
        tool_note(t, "%s: %s", name, text);
    for (enum convention c = CONVENTION_NONE + 1; c < CONVENTIONS; c++) {
        published_windows(&o.windows, c, asked.context, asked.stride, tokens, &m->spec,
                          tool_err(t));
        tool_check(t);
        struct eval *v = open_windows(t, m, tokens);
        most = max64(most, eval_bytes(v));
        eval_close(v);
        of[c] = o.windows;
    }
    predict_memory(t, name, m, most, r, &(struct batches){0});
    for (enum convention c = CONVENTION_NONE + 1; c < CONVENTIONS; c++) {
        o.windows = of[c];
        nll += run(t, name, m, tokens, r);
    }
    o.windows = asked;
    return nll;
}

/* Evaluates one model, from its values to its records, and closes it. */
static double evaluate(struct tool *t, const char *name, struct model_in *in,
                       const char *tokens_name, const struct tokens *tokens, struct tool_teacher *r)
{
    struct model m = {0};
    struct err *e = tool_err(t);
    stored_bytes = model_spec_bytes(model_in_spec(in));
    if (!data_check_model(tokens, tokens_name, model_in_spec(in), name, any_tokenizer, e) &&
        !resolve_windows(t, tokens, model_in_spec(in), r))
        tool_load(t, &m, in);
    tool_check(t);
    double nll = conventions ? run_conventions(t, name, &m, tokens, r)
                             : run(t, name, &m, tokens, r);
    model_free(&m);
    model_close(in);
    return nll;
}

/* ---- options */

static void check_options(struct tool *t)
{
    struct err e = {0};
    struct window_options w = o.windows;
    int has_bos = strcmp(row_bos, "auto") != 0;
    w.seq_length = seq_length;
    if (conventions && !w.context)
        w.stride = 0; /* of a context that is known later */
    if (window_options_check(&w, &e) || row_bos_check(row_bos, &e) || loss_on_check(loss_on, &e))
        tool_usage(t, "%s", e.msg);
    if (table && per_sequence)
        tool_usage(t, "--table prints no objects of sequences: leave out --per-sequence");
    if (table && conventions && against)
        tool_usage(t, "--table prints no divergence of --conventions: leave out --table");
    if (conventions && (seq_length || w.score_from || has_bos || max_nll > 0))
        tool_usage(t, "--conventions has windows of its own, and a loss for each: leave out "
                      "--seq-length, --score-from, --row-bos and --max-nll");
    if (conventions && w.context == 2)
        tool_usage(t, "llama.cpp scores the second half of a window: --conventions needs a "
                      "--context of at least 3, not 2");
    if (tool_streams_layers(t) && conventions)
        tool_usage(t, "--conventions evaluates four times, --stream-layers once: leave one out");
    if (tool_streams_layers(t) && against && !tool_is_logits(against))
        tool_usage(t,
                   "--stream-layers evaluates one model at a time: give --against the logits of "
                   "%s, which dump-logits --full --stream-layers writes",
                   against);
    if (text_name && !conventions)
        tool_usage(t, "--text is read by harness: give --conventions too");
    if (text_name && max_tokens)
        tool_usage(t, "--text is all of the text, --max-tokens a part of it: leave one out");
    if (against && (seq_length || w.context || has_bos || conventions) && tool_is_logits(against))
        tool_usage(t,
                   "the windows are those of %s: leave out --conventions, --context, --seq-length "
                   "and --row-bos, or give --against a model",
                   against);
}

static void read_text(struct tool *t, const struct tokens *tokens)
{
    int64_t made_from = 0;
    if (text_name)
        tool_stdin_once(t, text_name);
    if (text_name && !text_size_read(&text_size, text_name, text_field, tool_err(t)))
        text_size_check(&text_size, text_name, tokens, &made_from, tool_err(t));
    tool_check(t);
    if (made_from > 0 && made_from != text_size.bytes)
        tool_note(t, "--text %s has %lld bytes, by which harness divides; %s was made from %lld",
                  text_name, (long long)text_size.bytes, tokens->file.path, (long long)made_from);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct tokens tokens;
    int n = tool_operands(t) - 1, failed = 0, no_numbers = 0;
    check_options(t);
    tool_models_there(t, n);
    const char *tokens_name = tool_operand(t, n);
    struct st_in *in = tool_in(t, tokens_name, "tokens");
    if (!tokens_load(&tokens, in, max_tokens, tool_err(t)) && (o.windows.context || conventions))
        row_bos_check_join(tokens.head, tokens_name, tool_err(t));
    tool_check(t);
    loss_on_apply(loss_on, &tokens);
    st_close(in);
    read_text(t, &tokens);
    struct tool_teacher *r = NULL;
    struct model_in *first = tool_model(t, tool_operand(t, 0));
    if (against)
        r = tool_teacher_open(t, against, first, &tokens, tokens_name, any_tokenizer, n);
    for (int i = 0; i < n; i++) {
        struct model_in *model = i ? tool_model(t, tool_operand(t, i)) : first;
        double nll = evaluate(t, tool_operand(t, i), model, tokens_name, &tokens, r);
        failed += !(nll <= max_nll) && max_nll > 0; /* NaN fails too */
        no_numbers += !isfinite(nll);
    }
    if (failed)
        tool_refuse(t, "the nll of %d of %d models exceeds --max-nll %g or is not finite", failed,
                    n, max_nll);
    if (no_numbers)
        tool_die(t, "the nll of %d of %d models is not finite", no_numbers, n);
    tool_teacher_close(t, r);
    tool_table_end(&rows);
    tokens_free(&tokens);
    return tool_finish(t);
}
