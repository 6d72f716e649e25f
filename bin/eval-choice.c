/* eval-choice: multiple choice. Models and a file of items in; one JSON line per model, or a table
 * for people, out, and on request a line for each item. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/file_out.h"
#include "../lib/base/usage.h"
#include "../lib/base/world.h"
#include "../lib/eval/eval.h"
#include "../lib/tool/tool.h"

static struct choice_run run;
static int64_t fewshot, limit;
static const char *fewshot_file, *items_file;
static int table;

static const struct opt opts[] = {
    {"limit", OPT_INT, &limit, "N", "use only the first N items; 0: all", OPT_FROM_0},
    {"fewshot", OPT_INT, &fewshot, "N", "put N answered examples before each item (default 0)",
     OPT_FROM_0},
    {"fewshot-file", OPT_PATH, &fewshot_file, "FILE",
     "items to take the examples from: the first N of the item's group, itself left out", 0},
    {"batch-size", OPT_INT, &run.batch_size, "N",
     "items at a time; 0: as many as make about 2048 tokens", OPT_FROM_0},
    {"items", OPT_PATH, &items_file, "FILE", "write a line of JSON for each item to FILE",
     OPT_SILENT_ID},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", OPT_SILENT_ID},
    {0}};

static const struct tool_desc desc = {
    "eval-choice",
    "MODEL... FILE.jsonl",
    "Evaluate models on multiple choice: accuracy and its standard error.",
    "Reads items, one JSON object a line, and computes how probable the model finds each choice "
    "after its ctx, with the same tokens as lm-evaluation-harness 0.4. Members of an item:\n"
    "- \"choices\": the texts to choose from, or one text\n"
    "- \"ctx\": what each of them continues, a text or a list of texts; none where it is left out\n"
    "- \"gold\": which one is right, counted from 0, or a list if several are\n"
    "- \"description\": a text that precedes everything, examples too\n"
    "- \"group\": the subject; results are also given by group\n"
    "Of ctx and choices, one that is a text goes with every entry of the other. The texts are "
    "joined as they are, so a choice usually begins with a space. pipelines/tasks makes such files "
    "of published benchmarks.\n\n"
    "Prints one JSON object per model. acc counts the items whose most probable choice is right; "
    "acc_norm compares log-likelihoods per character, acc_bytes per byte, acc_tokens per token, "
    "the space before a choice not counted. An item of one choice is right if each of its tokens "
    "is the most probable one. probability is the mean share of the right choice in the "
    "probability of all, and nll its mean negative log-likelihood, in nats. Standard errors are "
    "those of means over items. Texts beyond max_position_embeddings lose their beginning and are "
    "counted in truncated.\n\n"
    "A bad line is refused by its number before anything is computed. docs/evaluation.md has "
    "examples.",
    "  sh pipelines/tasks hellaswag hellaswag_val.jsonl > hellaswag.jsonl\n"
    "  eval-choice teacher/ pruned.tsz hellaswag.jsonl --table",
    opts,
    2,
    -1,
    TOOL_COMPUTE | TOOL_MODEL | TOOL_WORLD};

static struct choice_items items, shots;
static struct file_out log_file = {.fd = -1};
static struct tool_table rows;

/* Their names in a record. */
static const char *const rule_names[CHOICE_RULES] = {[BY_SUM] = "acc",
                                                     [BY_CHARACTER] = "acc_norm",
                                                     [BY_BYTE] = "acc_bytes",
                                                     [BY_TOKEN] = "acc_tokens"};

/* ---- a record */

static void put_mean(json_t *j, const char *name, struct estimate m)
{
    char *error = mem_format("%s_standard_error", name);
    json_put_number(j, name, m.mean);
    json_put_number(j, error, m.error);
    free(error);
}

static void put_scores(json_t *j, const struct choice_scores *s)
{
    json_object_set_new(j, "items", json_integer(s->items));
    for (int rule = 0; rule < CHOICE_RULES; rule++)
        put_mean(j, rule_names[rule], s->acc[rule]);
    put_mean(j, "probability", s->probability);
    put_mean(j, "nll", s->nll);
    json_put_number(j, "ppl", exp(s->nll.mean));
}

/* NULL: the items have none. */
static json_t *groups_record(const struct choices *c)
{
    json_t *groups = json_object();
    for (int64_t i = 0; i < items.n; i++) {
        const char *name = items.all[i].group;
        struct choice_scores s;
        if (!*name || json_object_get(groups, name))
            continue;
        json_t *j = json_object();
        choices_scores(c, name, &s);
        put_scores(j, &s);
        json_object_set_new(groups, name, j);
    }
    if (json_object_size(groups))
        return groups;
    json_decref(groups);
    return NULL;
}

static json_t *record(struct tool *t, const char *name, const struct model_spec *h,
                      const struct choices *c, double seconds)
{
    struct choice_scores s;
    int64_t non_embedding, parameters = model_spec_parameters(h, &non_embedding);
    json_t *j = json_pack("{s:o, s:s, s:s, s:s, s:o, s:s}", "model", json_text(name), "model_id",
                          h->id, "model_digest", h->digest, "family", h->family->name, "file",
                          json_text(items.path), "file_digest", items.digest);
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"parameters", parameters}, {"non_embedding_parameters", non_embedding},
                    {"limit", limit},           {"fewshot", fewshot},
                    {"choices", c->rows},       {"truncated", c->truncated},
                    {"tokens", c->tokens}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    if (fewshot)
        json_object_set_new(j, "fewshot_digest", json_string(shots.digest));
    choices_scores(c, NULL, &s);
    put_scores(j, &s);
    json_object_set_new(j, "groups", groups_record(c)); /* of NULL: nothing */
    json_object_set_new(j, "seconds", json_real(round(seconds * 1e3) / 1e3));
    json_object_set_new(j, "tokens_per_second", json_integer(llround((double)c->tokens / seconds)));
    tool_put_machine(t, j);
    return j;
}

/* ---- a line for each item */

static json_t *item_record(const struct choices *c, const char *name, int64_t i)
{
    const struct choice_item *q = &items.all[i];
    const struct choice_tokens *k = &c->all[i];
    json_t *gold = json_array(), *values = json_array(), *tokens = json_array();
    for (int64_t r = 0; r < k->n; r++) {
        if (q->gold[r])
            json_array_append_new(gold, json_integer(r));
        json_array_append_new(values, json_real(k->rows[r].log_likelihood));
        json_array_append_new(tokens, json_integer(k->rows[r].scored));
    }
    json_t *j = json_pack("{s:o, s:I, s:o, s:o, s:o}", "model", json_text(name), "line",
                          (json_int_t)q->line, "gold", gold, "log_likelihood", values, "tokens",
                          tokens);
    for (int rule = 0; rule < CHOICE_RULES && k->n > 1; rule++) {
        char *choice = mem_format("choice%s", rule_names[rule] + strlen("acc"));
        json_object_set_new(j, choice, json_integer(choice_made(c, i, (enum choice_rule)rule)));
        free(choice);
    }
    if (k->n == 1)
        json_object_set_new(j, "greedy", json_boolean(k->rows[0].greedy));
    return j;
}

static void write_items(struct tool *t, const struct choices *c, const char *name)
{
    for (int64_t i = 0; items_file && i < items.n; i++) {
        json_t *j = item_record(c, name, i);
        char *text = mem_must(json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(12)));
        file_append(&log_file, text, (int64_t)strlen(text), tool_err(t));
        file_append(&log_file, "\n", 1, tool_err(t));
        free(text);
        json_decref(j);
    }
    tool_check(t);
}

/* ---- */

static void show_progress(void *t, int64_t done, int64_t tokens)
{
    tool_progress(t, done, tokens, "tokens");
}

/* Evaluates one model, from opening to its record. */
static void evaluate(struct tool *t, const char *name)
{
    struct err *e = tool_err(t);
    struct model_in *in = tool_model(t, name);
    struct model m = {0};
    struct choices *c = choices_open(&items, &shots, fewshot, in, e);
    tool_check(t);
    if (c->truncated)
        tool_note(t,
                  "%s: %lld of %lld choices lose the beginning of their text, which has more "
                  "than %lld tokens",
                  name, (long long)c->truncated, (long long)c->rows,
                  (long long)model_in_spec(in)->max_position_embeddings);
    tool_load(t, &m, in);
    int64_t bytes = choices_run_bytes(c, tool_exec(t), &m, &run, e);
    tool_check(t);
    tool_predict_memory(t, name,
                        (struct memory_part[]){{"weights", (int64_t)m.weights.size, 1},
                                               {"items", choices_bytes(c), 1},
                                               {"keys, values and activations", bytes, 0},
                                               {0}});
    double start = usage_seconds();
    show_progress(t, 0, c->tokens);
    choices_run(c, tool_exec(t), &m, &run, show_progress, t, e);
    tool_check(t);
    json_t *j = record(t, name, &m.spec, c, usage_seconds() - start);
    write_items(t, c, name);
    if (table)
        tool_table_choice(&rows, j);
    else
        tool_print_json(j);
    json_decref(j);
    choices_close(c);
    model_free(&m);
    model_close(in);
}

static void read_items(struct tool *t, const char *path)
{
    struct err *e = tool_err(t);
    tool_stdin_once(t, path);
    choice_items_read(&items, path, limit, e);
    tool_check(t);
    if (!fewshot)
        return;
    tool_stdin_once(t, fewshot_file);
    choice_items_read(&shots, fewshot_file, 0, e);
    tool_check(t);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    int n = tool_operands(t) - 1;
    if (!fewshot != !fewshot_file)
        tool_usage(t, "--fewshot N and --fewshot-file FILE go together");
    if (run.batch_size > 4096)
        tool_usage(t, "--batch-size must be from 0 to 4096, not %lld", (long long)run.batch_size);
    tool_models_there(t, n);
    read_items(t, tool_operand(t, n));
    if (world_rank())
        items_file = NULL; /* rank 0 writes it */
    if (items_file && file_create(&log_file, items_file, tool_err(t)))
        tool_check(t);
    for (int i = 0; i < n; i++)
        evaluate(t, tool_operand(t, i));
    if (items_file && file_publish(&log_file, tool_err(t)))
        tool_check(t);
    tool_table_end(&rows);
    choice_items_free(&items);
    choice_items_free(&shots);
    return tool_finish(t);
}
