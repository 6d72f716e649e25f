/* Model cards: see card.h. The history and the origin's card are untrusted text: what a terminal or
 * a reader of Markdown would act on is not copied. */
#include "card.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/file.h"
#include "../base/text.h"
#include "../base/utf8.h"
#include "history.h"

enum { COLUMNS = 88 };

static const char name_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

/* ---- what the history says */

static const char *step_tool(const json_t *step)
{
    const char *tool = json_string_value(json_object_get(step, "tool"));
    return tool ? tool : "";
}

static int has_step(const struct card *c, const char *tool, const char *const *options)
{
    size_t i;
    json_t *step;
    json_array_foreach(c->steps, i, step)
        for (int k = 0; !strcmp(step_tool(step), tool) && options[k]; k++)
            if (json_object_get(json_object_get(step, "options"), options[k]))
                return 1;
    return 0;
}

static int is_distilled(const struct card *c)
{
    static const char *const teachers[] = {"teacher", "teacher-logits", NULL};
    return has_step(c, "kd-train", teachers);
}

static int is_adapted(const struct card *c)
{
    static const char *const merge[] = {"merge", NULL};
    return has_step(c, "hf-export", merge);
}

static int is_trained(const struct card *c)
{
    static const char *const always[] = {"max-steps", NULL};
    return has_step(c, "kd-train", always);
}

/* Did slice-model remove anything, as far as its options say? */
static int is_pruned(const struct card *c)
{
    static const char *const drops[] = {"drop-layers", "drop-attention", "drop-mlp", NULL};
    size_t i;
    json_t *step;
    int pruned = has_step(c, "slice-model", drops);
    json_array_foreach(c->steps, i, step)
        for (enum axis x = 0; !strcmp(step_tool(step), "slice-model") && x < AXIS_COUNT; x++) {
            const json_t *size = axis_rows[x].option
                                     ? json_object_get(json_object_get(step, "options"),
                                                       axis_rows[x].option)
                                     : NULL;
            pruned |= json_is_string(size) || json_integer_value(size) > 0;
        }
    return pruned;
}

int card_is_hub_name(const char *name)
{
    size_t n = strspn(name, name_characters),
           m = name[n] == '/' ? strspn(name + n + 1, name_characters) : 0;
    return n && m && name[0] != '.' && name[n + 1] != '.' && !name[n + 1 + m];
}

/* models--ORGANISATION--NAME, a folder of the Hub's cache, anywhere in a path. */
char *card_cached_name(const char *path)
{
    const char *at = path ? strstr(path, "models--") : NULL;
    char *name = at ? mem_string(at + strlen("models--")) : NULL, *middle;
    if (!name)
        return NULL;
    name[strcspn(name, "/")] = 0;
    middle = strstr(name, "--");
    if (middle) {
        *middle = '/';
        memmove(middle + 1, middle + 2, strlen(middle + 2) + 1);
    }
    if (card_is_hub_name(name))
        return name;
    free(name);
    return NULL;
}

char *card_hub_name(const struct model_spec *model, const json_t *steps)
{
    const char *named = json_string_value(json_object_get(model->config, "_name_or_path"));
    char *name = card_cached_name(json_string_value(json_object_get(hist_origin(steps), "path")));
    if (!name && named && card_is_hub_name(named))
        name = mem_string(named);
    return name;
}

/* ---- metadata */

/* Entries of the origin's card that hold for what is made from it, as they stand there. */
static int is_taken_over(const char *line)
{
    static const char *const keys[] = {"license:", "license_name:", "license_link:", "language:"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (text_begins(line, keys[i]))
            return 1;
    return 0;
}

/* The next line of a text, which may end its lines as Windows does; NULL: the end. */
static char *next_line(char **rest)
{
    char *line = strsep(rest, "\n");
    size_t n = line ? strlen(line) : 0;
    if (n && line[n - 1] == '\r')
        line[n - 1] = 0;
    return line;
}

/* The entries between the two lines "---" that begin a card; what continues an entry is indented
 * or a member of a list. Returns whether a base model is among them. */
static int print_origin(const struct card *c, FILE *f)
{
    char *text = mem_string(c->origin ? c->origin : ""), *rest = text, *line = next_line(&rest);
    int taken = 0, based = 0, more = !strcmp(line, "---");
    while (more && (line = next_line(&rest)) && strcmp(line, "---")) {
        int is_base = !c->base_model && text_begins(line, "base_model:");
        if (*line != ' ' && *line != '-')
            taken = is_base || is_taken_over(line);
        based |= is_base;
        if (taken && utf8_is_visible(line))
            fprintf(f, "%s\n", line);
    }
    free(text);
    return based;
}

char *card_metadata(const struct card *c)
{
    char *text;
    size_t n;
    FILE *f = mem_stream_open(&text, &n);
    int pruned = is_pruned(c), changed = pruned || is_trained(c) || is_adapted(c);
    fputs("---\nlibrary_name: transformers\npipeline_tag: text-generation\n", f);
    int based = print_origin(c, f) || c->base_model;
    if (c->base_model)
        fprintf(f, "base_model: %s\n", c->base_model);
    if (based && changed)
        fputs("base_model_relation: finetune\n", f);
    fputs("tags:\n- pare\n", f);
    if (pruned)
        fputs("- pruned\n", f);
    if (is_distilled(c))
        fputs("- distillation\n", f);
    fputs("---\n", f);
    mem_stream_close(f);
    return text;
}

/* ---- sections */

static void print_summary(const struct card *c, FILE *f)
{
    const char *how = "Written";
    if (is_pruned(c))
        how = is_distilled(c) ? "Pruned and distilled" : "Pruned";
    else if (is_trained(c))
        how = is_distilled(c) ? "Distilled" : "Trained";
    else if (is_adapted(c))
        how = "Adapted";
    fprintf(f, "\n# %s\n\n%s", c->name, how);
    if (c->base_model)
        fprintf(f, " from [%s](https://huggingface.co/%s)", c->base_model, c->base_model);
    fputs(
        " with `pare`, which makes compact language models by structured pruning and knowledge "
        "distillation, the Minitron method\n([arXiv 2407.14679](https://arxiv.org/abs/2407.14679), "
        "[arXiv 2408.11796](https://arxiv.org/abs/2408.11796)).\n",
        f);
}

static void print_shape(const struct card *c, FILE *f)
{
    const struct model_spec *h = c->model;
    int64_t body, all = model_spec_parameters(h, &body);
    fprintf(f, "\n| | |\n|---|---|\n| architecture | %s |\n", h->family->architecture);
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++) {
        char *size = x < LAYER_AXES ? mem_format("%" PRId64, model_spec_size(h, x, 0))
                                    : model_spec_size_text(h, x, NULL);
        if (strcmp(size, "0"))
            fprintf(f, "| %s | %s |\n", axis_rows[x].name, size);
        free(size);
    }
    fprintf(f, "| max_position_embeddings | %" PRId64 " |\n", h->max_position_embeddings);
    fprintf(f, "| parameters | %" PRId64 ", %" PRId64 " of them outside the embeddings |\n", all,
            body);
}

static void print_real(const json_t *object, const char *key, const char *format, FILE *f)
{
    const json_t *v = json_object_get(object, key);
    fputs(" | ", f);
    if (json_is_number(v))
        fprintf(f, format, json_number_value(v));
}

static void print_figures(const struct card *c, FILE *f)
{
    size_t i;
    json_t *r;
    if (!json_array_size(c->figures))
        return;
    fputs(
        "\n## Figures\n\nLoss in nats per token, on the same held-out tokens for every row; KL is "
        "the mean divergence from the teacher, agreement how often both rank the same token "
        "first.\n\n| model | parameters | loss | perplexity | bits per byte | KL | agreement "
        "|\n|---|---:|---:|---:|---:|---:|---:|\n",
        f);
    json_array_foreach(c->figures, i, r) {
        const json_t *against = json_object_get(r, "against");
        const char *name = json_string_value(json_object_get(r, "model"));
        char *visible = utf8_visible(name ? name : "");
        fprintf(f, "| `%s`", visible);
        free(visible);
        print_real(r, "parameters", "%.0f", f);
        print_real(r, "nll", "%.4f", f);
        print_real(r, "ppl", "%.3f", f);
        print_real(r, "bits_per_byte", "%.4f", f);
        print_real(against, "kl", "%.4f", f);
        print_real(against, "same_top1", "%.3f", f);
        fputs(" |\n", f);
    }
}

/* Where the next option begins, or the command ends; not within a quoted word (hist_word). */
static const char *next_option(const char *s)
{
    int quoted = 0;
    for (s++; *s && (quoted || strncmp(s, " -", 2) != 0); s++)
        if (*s == '\\' && !quoted && s[1])
            s++;
        else
            quoted ^= *s == '\'';
    return s;
}

/* Breaks a command before options that would make a line too long. */
static void print_wrapped(const char *command, FILE *f)
{
    size_t column = 0;
    for (const char *s = command, *next; *s; s = next) {
        next = next_option(s);
        if (column && column + (size_t)(next - s) > COLUMNS) {
            fputs(" \\\n   ", f);
            column = 3;
        }
        fwrite(s, 1, (size_t)(next - s), f);
        column += (size_t)(next - s);
    }
}

/* The path under which a later step reads what step `of` made; NULL: none does. */
static const char *read_as(const struct card *c, size_t of)
{
    const char *id = json_string_value(json_object_get(json_array_get(c->steps, of), "id"));
    for (size_t i = of + 1; id && i < json_array_size(c->steps); i++) {
        size_t k;
        json_t *input;
        json_array_foreach(json_object_get(json_array_get(c->steps, i), "inputs"), k, input) {
            const char *made = json_string_value(json_object_get(input, "id"));
            if (made && !strcmp(made, id))
                return json_string_value(json_object_get(input, "path"));
        }
    }
    return NULL;
}

/* Frees text, in which every `from` becomes `to`. */
static char *replaced(char *text, const char *from, const char *to)
{
    char *made = mem_string(""), *found, *rest = text;
    for (; (found = strstr(rest, from)); rest = found + strlen(from))
        made = mem_append(made, "%.*s%s", (int)(found - rest), rest, to);
    made = mem_append(made, "%s", rest);
    free(text);
    return made;
}

/* The folders of its maker's machine are no concern of a card's readers: of the absolute paths that
 * a step reads, the names stay. */
static char *without_folders(char *command, const json_t *step)
{
    size_t i;
    json_t *input;
    json_array_foreach(json_object_get(step, "inputs"), i, input) {
        const char *path = json_string_value(json_object_get(input, "path"));
        if (path && *path == '/' && path[1]) {
            char *name = file_base_name(path);
            command = replaced(command, path, name);
            free(name);
        }
    }
    return command;
}

static char *command_of(const struct card *c, size_t i)
{
    char *text;
    size_t n;
    const json_t *step = json_array_get(c->steps, i);
    const char *path = read_as(c, i);
    FILE *f = mem_stream_open(&text, &n);
    hist_command(step, f);
    mem_stream_close(f);
    text = without_folders(text, step);
    if (!path)
        return text;
    if (!strcmp(path, "-"))
        return mem_append(text, " |");
    char *name = *path == '/' ? file_base_name(path) : mem_string(path);
    if (strspn(name, name_characters) == strlen(name))
        text = mem_append(text, " -o %s", name);
    free(name);
    return text;
}

static void print_steps(const struct card *c, FILE *f)
{
    fputs("\n## How it was made\n\n```sh\n", f);
    for (size_t i = 0; i < json_array_size(c->steps); i++) {
        const char *tool = step_tool(json_array_get(c->steps, i));
        char *command = command_of(c, i);
        if (utf8_is_visible(command))
            print_wrapped(command, f);
        else
            fprintf(f, "# %s, with words that cannot be shown",
                    utf8_is_visible(tool) ? tool : "a step");
        fputc('\n', f);
        free(command);
    }
    fputs(
        "```\n\n`history.json` has the same with the ids of all inputs; `ts-dump --hist DIRECTORY` "
        "turns it into a script.\n",
        f);
}

static void print_usage(const struct card *c, FILE *f)
{
    const struct model_spec *h = c->model;
    int remote = json_object_get(h->config, "auto_map") != NULL;
    const char *code = remote ? ", trust_remote_code=True" : "";
    fprintf(f,
            "\n## How to run it\n\n```python\nfrom transformers import AutoModelForCausalLM, "
            "AutoTokenizer\n\nname = \"%s\"\ntokenizer = AutoTokenizer.from_pretrained(name%s)\n"
            "model = AutoModelForCausalLM.from_pretrained(name, dtype=\"auto\"%s)\n",
            c->name, code, code);
    if (c->has_chat)
        fputs("messages = [{\"role\": \"user\", \"content\": \"What is a language model?\"}]\n"
              "inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True,\n"
              "                                       return_tensors=\"pt\", return_dict=True)\n",
              f);
    else
        fputs("inputs = tokenizer(\"A language model is\", return_tensors=\"pt\")\n", f);
    fprintf(
        f,
        "outputs = model.generate(**inputs, max_new_tokens=64)\nprint(tokenizer.decode(outputs[0], "
        "skip_special_tokens=True))\n```\n\n```sh\nvllm serve %s%s\nmlx_lm.generate --model %s "
        "--prompt \"A language model is\"\nlm_eval --model hf --model_args pretrained=%s%s "
        "--tasks hellaswag\n```\n",
        c->name, remote ? " --trust-remote-code" : "", c->name, c->name,
        remote ? ",trust_remote_code=True" : "");
}

char *card_text(const struct card *c)
{
    char *text, *metadata = card_metadata(c);
    size_t n;
    FILE *f = mem_stream_open(&text, &n);
    fputs(metadata, f);
    free(metadata);
    print_summary(c, f);
    print_shape(c, f);
    print_figures(c, f);
    print_steps(c, f);
    print_usage(c, f);
    mem_stream_close(f);
    return text;
}
