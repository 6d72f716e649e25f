/* generate: continues a text. Model in, text out as it is generated; keys and values stay in
 * memory, so each token costs one position. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/eval/eval.h"
#include "../lib/tokenizer/tokenizer.h"
#include "../lib/tool/tool.h"

enum { MAX_EOS = 32 };

static const char *prompt, *prompt_ids;
static int64_t max_new_tokens = 100, seed, top_k;
static double temperature, top_p = 1;
static int ignore_eos;

static const struct opt opts[] = {
    {"prompt", OPT_TEXT, &prompt, "TEXT", "text to continue; special tokens in it are recognised",
     0},
    {"prompt-ids", OPT_TEXT, &prompt_ids, "IDS",
     "token ids to continue, in decimal; prints ids and needs no tokenizer", 0},
    {"max-new-tokens", OPT_INT, &max_new_tokens, "N", "generate at most N tokens", 0},
    {"temperature", OPT_REAL, &temperature, "X",
     "sampling temperature; 0: always take the most probable token", 0},
    {"top-p", OPT_REAL, &top_p, "X",
     "sample from the most probable tokens whose probabilities add up to X", 0},
    {"top-k", OPT_INT, &top_k, "N", "sample from the N most probable tokens; 0: from all",
     OPT_FROM_0},
    {"seed", OPT_INT, &seed, "N", "seed for sampling", 0},
    {"ignore-eos", OPT_FLAG, &ignore_eos, NULL, "do not stop at an end-of-sequence token", 0},
    {0}};

static const struct tool_desc desc = {
    "generate",
    "MODEL",
    "Continue a text with a model.",
    "Prints the prompt and its continuation. Stops at an end-of-sequence token of "
    "generation_config.json or config.json, after --max-new-tokens, or at the end of the model's "
    "learned positions.",
    "  generate teacher/ --prompt 'In the beginning' --max-new-tokens 40",
    opts,
    1,
    1,
    TOOL_COMPUTE};

struct text {
    struct tokenizer *tokenizer; /* NULL: ids are printed */
    struct ids ids;              /* prompt and continuation */
    int64_t printed;             /* bytes, or ids */
};

static void print_new(struct text *x)
{
    if (!x->tokenizer) {
        for (; x->printed < x->ids.n; x->printed++)
            printf("%s%u", x->printed ? " " : "", x->ids.id[x->printed]);
    } else {
        int64_t n;
        char *all = tokenizer_decode(x->tokenizer, x->ids.id, x->ids.n, 1, &n);
        if (n > x->printed)
            fwrite(all + x->printed, 1, (size_t)(n - x->printed), stdout);
        x->printed = n;
        free(all);
    }
    fflush(stdout);
}

static void read_ids(struct tool *t, struct text *x)
{
    char *end;
    for (const char *s = prompt_ids + strspn(prompt_ids, " ,"); *s; s = end + strspn(end, " ,")) {
        unsigned long long id = strtoull(s, &end, 10);
        if (end == s || *s < '0' || *s > '9' || id > INT32_MAX)
            tool_usage(t, "--prompt-ids takes decimal numbers, not \"%.20s\"", s);
        ids_push(&x->ids, (uint32_t)id, 0);
    }
}

static void read_prompt(struct tool *t, struct text *x, struct model_in *in)
{
    int64_t bytes;
    const char *json = model_in_file(in, "tokenizer.json", &bytes);
    tool_check(t);
    if (!json)
        tool_die(t, "%s has no tokenizer.json to read text with: use --prompt-ids",
                 tool_operand(t, 0));
    x->tokenizer = tokenizer_open(json, bytes, tool_err(t));
    tool_check(t);
    uint32_t special[SPECIAL_MAX];
    for (int i = 0, n = tokenizer_special(x->tokenizer, 0, special, SPECIAL_MAX); i < n; i++)
        ids_push(&x->ids, special[i], 0);
    tokenizer_encode(x->tokenizer, prompt, (int64_t)strlen(prompt), &x->ids, tool_err(t));
    tool_check(t);
}

static void read_model(struct tool *t, struct text *x, struct model *m, int64_t eos[MAX_EOS],
                       int *n_eos)
{
    struct model_in *in = tool_model(t, tool_operand(t, 0));
    if (prompt_ids)
        read_ids(t, x);
    else
        read_prompt(t, x, in);
    if (!x->ids.n)
        tool_die(t, "the prompt is empty, and the model's tokenizer adds no token before a text");
    *n_eos = ignore_eos ? 0 : model_eos(in, eos, MAX_EOS, tool_err(t));
    if (!model_load(m, in, MODEL_FROZEN, tool_err(t)))
        model_move(m, tool_exec(t), tool_err(t));
    tool_check(t);
    model_close(in);
}

static int is_one_of(int64_t id, const int64_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        if (ids[i] == id)
            return 1;
    return 0;
}

static void check_options(struct tool *t)
{
    if (!prompt == !prompt_ids)
        tool_usage(t, "give either --prompt TEXT or --prompt-ids IDS");
    if (max_new_tokens < 0 || max_new_tokens > INT32_MAX)
        tool_usage(t, "--max-new-tokens must be from 0 to %d, not %lld", INT32_MAX,
                   (long long)max_new_tokens);
    if (!(temperature >= 0))
        tool_usage(t, "--temperature must be 0 or above, not %g", temperature);
    if (!(top_p > 0 && top_p <= 1))
        tool_usage(t, "--top-p must be above 0 and at most 1, not %g", top_p);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    check_options(t);
    struct text x = {0};
    struct model m;
    struct sampler sampler;
    struct generator g;
    int64_t eos[MAX_EOS];
    int n_eos;
    read_model(t, &x, &m, eos, &n_eos);
    int64_t length = x.ids.n + max_new_tokens, next = 0;
    if (m.spec.learned_positions && length > m.spec.max_position_embeddings &&
        x.ids.n <= m.spec.max_position_embeddings)
        length = m.spec.max_position_embeddings;
    generator_open(&g, tool_exec(t), &m, length, tool_err(t));
    tool_check(t);
    sample_open(&sampler, temperature, top_p, top_k, (uint64_t)seed, g.vocab);
    print_new(&x);
    const float *logits = length > x.ids.n ? generator_read(&g, x.ids.id, x.ids.n, tool_err(t))
                                           : NULL;
    while (logits) {
        next = sample_token(&sampler, logits);
        if (!isfinite(logits[next]))
            tool_die(t, "%s gives logits that are not finite after token %lld", tool_operand(t, 0),
                     (long long)x.ids.n);
        if (is_one_of(next, eos, n_eos))
            break;
        ids_push(&x.ids, (uint32_t)next, 0);
        print_new(&x);
        logits = x.ids.n < length ? generator_read(&g, x.ids.id + x.ids.n - 1, 1, tool_err(t))
                                  : NULL;
    }
    putchar('\n');
    tool_check(t);
    sample_close(&sampler);
    generator_close(&g);
    tokenizer_close(x.tokenizer);
    model_free(&m);
    ids_free(&x.ids);
    return tool_finish(t);
}
