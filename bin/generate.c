/* generate: continues a text, or the prompts of a file, many at a time. Model in; out the text as
 * it is generated, or a line of JSON for each prompt. Keys and values stay in memory, so each token
 * costs one position. */
#include <stdlib.h>
#include <string.h>

#include "../formats/json.h"
#include "../lib/base/minmax.h"
#include "../lib/eval/eval.h"
#include "../lib/tokenizer/tokenizer.h"
#include "../lib/tool/tool.h"

static const char *prompt, *prompt_ids, *data_name, *output, *chat_name_given = "auto";
static int64_t max_new_tokens = 100, seed, top_k, batch_size = 8;
static double temperature, top_p = 1;
static int ignore_eos, resume, is_chat;

static const struct opt opts[] = {
    {"One prompt", OPT_GROUP, NULL, NULL, NULL, 0},
    {"prompt", OPT_TEXT, &prompt, "TEXT", "text to continue; special tokens in it are recognised",
     0},
    {"prompt-ids", OPT_TEXT, &prompt_ids, "IDS",
     "token ids to continue, in decimal; prints ids and needs no tokenizer", 0},
    {"chat", OPT_FLAG, &is_chat, NULL,
     "TEXT is what a user says: it is written with the chat template, and only the answer is "
     "printed",
     0},
    {"Continuation", OPT_GROUP, NULL, NULL, NULL, 0},
    {"chat-template", OPT_TEXT, &chat_name_given, "auto|NAME",
     "how messages are written (tokenize --help lists the names); auto: as the model's own "
     "template does",
     0},
    {"max-new-tokens", OPT_INT, &max_new_tokens, "N", "generate at most N tokens", 0},
    {"temperature", OPT_REAL, &temperature, "X",
     "sampling temperature; 0: always take the most probable token", 0},
    {"top-p", OPT_REAL, &top_p, "X",
     "sample from the most probable tokens whose probabilities add up to X", 0},
    {"top-k", OPT_INT, &top_k, "N", "sample from the N most probable tokens; 0: from all",
     OPT_FROM_0},
    {"seed", OPT_INT, &seed, "N", "seed for sampling (default 0)", 0},
    {"ignore-eos", OPT_FLAG, &ignore_eos, NULL, "do not stop at an end-of-sequence token", 0},
    {"Many prompts", OPT_GROUP, NULL, NULL, NULL, 0},
    {"data", OPT_PATH, &data_name, "FILE",
     "JSON lines with a \"prompt\", or with \"messages\" of which the last is the user's; -: "
     "standard input",
     0},
    {"output", OPT_PATH, &output, "FILE",
     "add the answers to FILE, batch by batch, instead of printing them", 0},
    {"resume", OPT_FLAG, &resume, NULL, "skip the prompts that FILE already answers", 0},
    {"batch-size", OPT_INT, &batch_size, "N", "prompts at a time", OPT_FROM_1},
    {0}};

static const struct tool_desc desc = {
    "generate",
    "MODEL",
    "Continue a text with a model.",
    "Prints the prompt and its continuation, or with --chat the answer alone. Stops at an "
    "end-of-sequence token of generation_config.json or config.json, after --max-new-tokens, or at "
    "the end of the model's learned positions.\n\nWith --data, each line {\"prompt\": ...} or "
    "{\"messages\": ...} is "
    "written again with its answer: a \"completion\", or one more message; other members are "
    "passed on, and \"finish_reason\" is \"stop\" or, where the answer was cut off, \"length\". "
    "Answers are in the order of the prompts. What is drawn depends on the seed and the place of "
    "the prompt, not on --batch-size, which changes only rounding. All lines are read before "
    "the first answer, and a bad one is refused by its number; FILE keeps what was finished before "
    "an interruption.",
    "  generate teacher/ --prompt 'In the beginning' --max-new-tokens 40\n"
    "  generate teacher/ --data prompts.jsonl -o answers.jsonl --batch-size 16",
    opts,
    1,
    1,
    TOOL_COMPUTE | TOOL_MODEL};

static struct model model;
static struct tokenizer *tokenizer; /* NULL: ids are printed */
static struct stop_ids stop;

/* ---- the model */

static void open_tokenizer(struct tool *t, struct model_in *in)
{
    int64_t bytes;
    const char *json = model_in_file(in, "tokenizer.json", &bytes);
    tool_check(t);
    if (!json)
        tool_die(t, "%s has no tokenizer.json to read text with: use --prompt-ids",
                 tool_operand(t, 0));
    tokenizer = tokenizer_open(json, bytes, tool_err(t));
    tool_check(t);
}

static void load_model(struct tool *t, struct model_in *in)
{
    if (ignore_eos)
        stop.n = 0;
    tool_load(t, &model, in);
    model_close(in);
}

static void open_generator(struct tool *t, struct generator *g, struct sampler *s, int64_t room,
                           int64_t length)
{
    generator_open(g, tool_exec(t), &model, room, length, tool_err(t));
    tool_check(t);
    sample_open(s, temperature, top_p, top_k, g->vocab);
}

/* ---- one prompt */

static int64_t printed; /* bytes, or ids */

static void print_new(void *unused, const struct text *x)
{
    (void)unused;
    if (!tokenizer) {
        for (; printed < x->ids.n; printed++)
            printf("%s%u", printed ? " " : "", x->ids.id[printed]);
    } else {
        int64_t n;
        char *all = tokenizer_decode(tokenizer, x->ids.id, x->ids.n, 1, &n);
        if (n > printed)
            fwrite(all + printed, 1, (size_t)(n - printed), stdout);
        printed = n;
        free(all);
    }
    fflush(stdout);
}

static void read_ids(struct tool *t, struct ids *ids)
{
    char *end;
    for (const char *s = prompt_ids + strspn(prompt_ids, " ,"); *s; s = end + strspn(end, " ,")) {
        unsigned long long id = strtoull(s, &end, 10);
        if (end == s || *s < '0' || *s > '9' || id > INT32_MAX)
            tool_usage(t, "--prompt-ids takes decimal numbers, not \"%.20s\"", s);
        ids_push(ids, (uint32_t)id, 0);
    }
}

/* The prompt as a conversation of one message, of which nothing is printed. */
static void read_chat(struct tool *t, struct ids *ids, struct model_in *in)
{
    struct chat c;
    json_t *messages = json_pack("[{s:s, s:o}]", "role", "user", "content", json_text(prompt));
    if (!chat_open(&c, chat_name_given, tokenizer, in, tool_err(t)))
        chat_encode_prompt(&c, tokenizer, messages, ids, tool_err(t));
    tool_check(t);
    stop_ids_add(&stop, chat_answer_end(&c, tokenizer));
    free(tokenizer_decode(tokenizer, ids->id, ids->n, 1, &printed));
    json_decref(messages);
    chat_close(&c);
}

static void read_prompt(struct tool *t, struct ids *ids, struct model_in *in)
{
    open_tokenizer(t, in);
    if (is_chat) {
        read_chat(t, ids, in);
        return;
    }
    uint32_t special[SPECIAL_MAX];
    for (int i = 0, n = tokenizer_special(tokenizer, 0, special, SPECIAL_MAX); i < n; i++)
        ids_push(ids, special[i], 0);
    tokenizer_encode(tokenizer, prompt, (int64_t)strlen(prompt), ids, tool_err(t));
    tool_check(t);
}

static void continue_one(struct tool *t, struct model_in *in)
{
    struct text x = {.rng = rng_open((uint64_t)seed, 0)}, *only = &x;
    struct generator g;
    struct sampler s;
    stop_ids_read(&stop, in, tool_err(t));
    if (prompt_ids)
        read_ids(t, &x.ids);
    else
        read_prompt(t, &x.ids, in);
    if (!x.ids.n)
        tool_die(t, "the prompt is empty, and the model's tokenizer adds no token before a text");
    load_model(t, in);
    x.prompt = x.ids.n;
    x.most = text_most(&model.spec, x.prompt, max_new_tokens);
    open_generator(t, &g, &s, 1, x.most);
    print_new(NULL, &x);
    generate_texts(&g, &s, &stop, &only, 1, print_new, NULL, tool_err(t));
    putchar('\n');
    tool_check(t);
    sample_close(&s);
    generator_close(&g);
    ids_free(&x.ids);
}

/* ---- many prompts */

static void read_prompts(struct tool *t, struct prompts *p, struct model_in *in)
{
    struct err *e = tool_err(t);
    struct chat chat = {0};
    tool_stdin_once(t, data_name);
    prompts_read(p, data_name, e);
    tool_check(t);
    open_tokenizer(t, in);
    stop_ids_read(&stop, in, e);
    if (p->conversations && !chat_open(&chat, chat_name_given, tokenizer, in, e))
        stop_ids_add(&stop, chat_answer_end(&chat, tokenizer));
    tool_check(t);
    prompts_encode(p, tokenizer, &chat, model_in_spec(in), max_new_tokens, (uint64_t)seed, e);
    chat_close(&chat);
    tool_check(t);
}

/* Answers all prompts from `first` on; returns the tokens that were generated. */
static int64_t answer_all(struct tool *t, struct prompts *p, int64_t first, struct generator *g,
                          const struct sampler *s, struct answers *out)
{
    struct text **texts = mem_alloc((size_t)batch_size * sizeof *texts);
    int64_t tokens = 0;
    tool_progress(t, 0, p->n - first, "prompts");
    for (int64_t at = first, n; at < p->n; at += n) {
        n = prompts_batch(p, &model.spec, at, batch_size, max_new_tokens);
        for (int64_t i = 0; i < n; i++)
            texts[i] = &p->all[at + i].text;
        generate_texts(g, s, &stop, texts, n, NULL, NULL, tool_err(t));
        for (int64_t i = 0; i < n; i++) {
            answers_add(out, &p->all[at + i], tokenizer, tool_err(t));
            tokens += texts[i]->ids.n - texts[i]->prompt;
        }
        tool_check(t);
        tool_progress(t, at + n - first, p->n - first, "prompts");
    }
    free(texts);
    return tokens;
}

static void continue_many(struct tool *t, struct model_in *in)
{
    struct prompts p;
    struct answers out;
    struct generator g;
    struct sampler s;
    read_prompts(t, &p, in);
    int64_t first = answers_open(&out, output, resume, &p, tool_err(t));
    tool_check(t);
    if (resume)
        tool_note(t, "%lld of %lld prompts are answered already", (long long)first, (long long)p.n);
    load_model(t, in);
    batch_size = min64(batch_size, max64(1, p.n - first));
    open_generator(t, &g, &s, batch_size, prompts_length(&p, first));
    tool_predict_memory(t, NULL,
                        (struct memory_part[]){{"weights", (int64_t)model.weights.size, 1},
                                               {"keys and values", generator_bytes(&g), 0},
                                               {0}});
    double start = usage_seconds();
    int64_t tokens = answer_all(t, &p, first, &g, &s, &out);
    answers_close(&out, tool_err(t));
    tool_check(t);
    int64_t answers = p.n - first;
    tool_note(t, "%lld answer%s, %lld tokens, %.0f tokens/s", (long long)answers,
              answers == 1 ? "" : "s", (long long)tokens,
              (double)tokens / (usage_seconds() - start));
    sample_close(&s);
    generator_close(&g);
    prompts_free(&p);
}

/* ---- */

static void check_options(struct tool *t)
{
    if ((prompt != NULL) + (prompt_ids != NULL) + (data_name != NULL) != 1)
        tool_usage(t, "give one of --prompt TEXT, --prompt-ids IDS and --data FILE");
    struct err e = {0};
    if (chat_check_name(chat_name_given, &e))
        tool_usage(t, "%s", e.msg);
    if (is_chat && !prompt)
        tool_usage(t, "--chat needs --prompt TEXT");
    if (!data_name && output)
        tool_usage(t, "--output is for the answers to --data");
    if (resume && !output)
        tool_usage(t, "--resume needs --output FILE, which has the answers so far");
    if (max_new_tokens < 0 || max_new_tokens > INT32_MAX)
        tool_usage(t, "--max-new-tokens must be from 0 to %d, not %lld", INT32_MAX,
                   (long long)max_new_tokens);
    if (batch_size > 4096)
        tool_usage(t, "--batch-size must be from 1 to 4096, not %lld", (long long)batch_size);
    if (!(temperature >= 0))
        tool_usage(t, "--temperature must be 0 or above, not %g", temperature);
    if (!(top_p > 0 && top_p <= 1))
        tool_usage(t, "--top-p must be above 0 and at most 1, not %g", top_p);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    check_options(t);
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    if (data_name)
        continue_many(t, in);
    else
        continue_one(t, in);
    tokenizer_close(tokenizer);
    model_free(&model);
    return tool_finish(t);
}
