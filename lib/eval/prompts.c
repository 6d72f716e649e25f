/* Prompts of a JSON Lines file: see prompts.h. The lines are kept as text and parsed again when
 * their answer is written: a tree of values would take many times the memory. */
#include "prompts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/minmax.h"
#include "json_lines.h"

static void prompt_add(struct prompts *p, const char *line, int64_t number)
{
    if (!(p->n & (p->n - 1))) /* room for the next power of two */
        p->all = mem_grow(p->all, (size_t)max64(1, 2 * p->n) * sizeof *p->all);
    p->all[p->n++] = (struct prompt){.line = mem_string(line), .number = number};
}

static int take_line(void *user, const char *line, const json_t *value, int64_t number,
                     const char *where, struct err *e)
{
    struct prompts *p = user;
    const json_t *text = json_given(value, "prompt"), *list = json_given(value, "messages");
    if (!text == !list || (text && !json_is_string(text)) || (list && !json_is_array(list)))
        return err_set(e,
                       "%s must be an object with a text under \"prompt\" or a list under "
                       "\"messages\"",
                       where);
    p->conversations += list != NULL;
    prompt_add(p, line, number);
    return 0;
}

int prompts_read(struct prompts *p, const char *path, struct err *e)
{
    *p = (struct prompts){.path = mem_string(json_lines_name(path))};
    if (json_lines_read(path, take_line, p, NULL, e))
        return -1;
    return p->n ? 0 : err_set(e, "%s has no prompts", p->path);
}

void prompts_free(struct prompts *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        free(p->all[i].line);
        ids_free(&p->all[i].text.ids);
    }
    free(p->all);
    free(p->path);
    *p = (struct prompts){0};
}

/* ---- ids */

static int encode_text(struct tokenizer *t, const json_t *text, struct ids *out, struct err *e)
{
    uint32_t special[SPECIAL_MAX];
    for (int i = 0, n = tokenizer_special(t, 0, special, SPECIAL_MAX); i < n; i++)
        ids_push(out, special[i], 0);
    int64_t n = tokenizer_encode(t, json_string_value(text), (int64_t)json_string_length(text), out,
                                 e);
    return n < 0 ? -1 : 0;
}

static int encode(struct prompts *p, struct prompt *one, struct tokenizer *t,
                  const struct chat *chat, struct err *e)
{
    json_t *j = json_loads(one->line, 0, NULL);
    const json_t *list = json_given(j, "messages");
    struct err why = {0};
    int failed;
    if (list)
        failed = chat_encode_prompt(chat, t, list, &one->text.ids, &why);
    else
        failed = encode_text(t, json_object_get(j, "prompt"), &one->text.ids, &why);
    if (failed)
        err_set(e, "%s: line %lld: %s", p->path, (long long)one->number, why.msg);
    json_decref(j);
    return failed;
}

static int length_check(const struct prompts *p, const struct prompt *one,
                        const struct model_spec *h, struct err *e)
{
    if (!one->text.prompt)
        return err_set(e,
                       "%s: line %lld: the prompt is empty, and the model's tokenizer adds no "
                       "token before a text",
                       p->path, (long long)one->number);
    if (!h->learned_positions || one->text.prompt <= h->max_position_embeddings)
        return 0;
    return err_set(e, "%s: line %lld: the prompt has %lld tokens, the model only %lld positions",
                   p->path, (long long)one->number, (long long)one->text.prompt,
                   (long long)h->max_position_embeddings);
}

int prompts_encode(struct prompts *p, struct tokenizer *t, const struct chat *chat,
                   const struct model_spec *h, int64_t max_new, uint64_t seed, struct err *e)
{
    for (int64_t i = 0; i < p->n; i++) {
        struct prompt *one = &p->all[i];
        if (encode(p, one, t, chat, e))
            return -1;
        one->text.prompt = one->text.ids.n;
        one->text.most = text_most(h, one->text.prompt, max_new);
        one->text.rng = rng_open(seed, (uint64_t)i);
        if (length_check(p, one, h, e))
            return -1;
    }
    return 0;
}

/* ---- batches */

int64_t prompts_batch(const struct prompts *p, const struct model_spec *h, int64_t first,
                      int64_t room, int64_t max_new)
{
    int64_t n = 0, end = min64(p->n, first + room);
    while (first + n < end && text_may_be_padded(h, p->all[first + n].text.prompt, max_new))
        n++;
    return max64(n, 1); /* one that may not be padded is continued alone */
}

int64_t prompts_length(const struct prompts *p, int64_t first)
{
    int64_t most = 1;
    for (int64_t i = first; i < p->n; i++)
        most = max64(most, p->all[i].text.most);
    return most;
}

/* ---- answers */

static int answers(const json_t *answer, const json_t *prompt)
{
    const json_t *text = json_given(prompt, "prompt");
    if (text)
        return json_equal(text, json_given(answer, "prompt")) &&
               json_is_string(json_given(answer, "completion"));
    const json_t *list = json_given(prompt, "messages"), *all = json_given(answer, "messages");
    size_t n = json_array_size(list);
    int same = json_array_size(all) == n + 1;
    for (size_t i = 0; same && i < n; i++)
        same = json_equal(json_array_get(list, i), json_array_get(all, i));
    return same;
}

static int line_answers(const char *line, const struct prompt *prompt)
{
    json_t *a = json_loads(line, 0, NULL), *b = json_loads(prompt->line, 0, NULL);
    int same = answers(a, b);
    json_decref(a);
    json_decref(b);
    return same;
}

/* Counts the whole lines, each the answer to its prompt; *kept: their bytes. */
static int64_t answers_there(FILE *f, const char *path, const struct prompts *p, long *kept,
                             struct err *e)
{
    char *line = NULL;
    size_t room = 0;
    int64_t n = 0;
    ssize_t length;
    for (*kept = 0; (length = getline(&line, &room, f)) > 0 && line[length - 1] == '\n'; n++) {
        *kept += length;
        if (n < p->n && line_answers(line, &p->all[n]))
            continue;
        err_set(e, "%s: line %lld is not the answer to prompt %lld of %s: use another file", path,
                (long long)n + 1, (long long)n + 1, p->path);
        break;
    }
    if (ferror(f))
        err_set(e, "cannot read '%s':", path);
    free(line);
    return e->set ? -1 : n;
}

int64_t answers_open(struct answers *a, const char *path, int resume, const struct prompts *p,
                     struct err *e)
{
    long kept;
    *a = (struct answers){.f = path ? fopen(path, "a+e") : stdout,
                          .path = path ? path : "standard output"};
    if (!a->f)
        return err_set(e, "cannot write '%s':", path);
    if (!path)
        return 0;
    rewind(a->f);
    if (!resume && fgetc(a->f) != EOF)
        return err_set(e, "%s is not empty: continue with --resume, or use another file", path);
    int64_t n = resume ? answers_there(a->f, path, p, &kept, e) : 0;
    if (n >= 0 && resume && (fflush(a->f) || ftruncate(fileno(a->f), kept)))
        return err_set(e, "cannot write '%s':", path);
    return n;
}

/* What follows a prompt, as text. Some tokenizers leave out a space that a text begins with, so it
 * is read together with the prompt. */
static json_t *completion(const struct text *x, const struct tokenizer *t)
{
    int64_t n, before;
    char *all = tokenizer_decode(t, x->ids.id, x->ids.n, 1, &n),
         *prompt = tokenizer_decode(t, x->ids.id, x->prompt, 1, &before);
    json_t *j = json_text(all + min64(before, n));
    free(all);
    free(prompt);
    return j;
}

/* An answer is a text of its own. */
static json_t *answer_message(const struct text *x, const struct tokenizer *t)
{
    int64_t n;
    char *text = tokenizer_decode(t, x->ids.id + x->prompt, x->ids.n - x->prompt, 1, &n);
    json_t *j = json_pack("{s:s, s:o}", "role", "assistant", "content", json_text(text));
    free(text);
    return j;
}

int answers_add(struct answers *a, const struct prompt *p, const struct tokenizer *t, struct err *e)
{
    json_t *j = json_loads(p->line, 0, NULL), *list = json_given(j, "messages");
    if (list)
        json_array_append_new(list, answer_message(&p->text, t));
    else
        json_object_set_new(j, "completion", completion(&p->text, t));
    json_object_set_new(j, "finish_reason", json_string(p->text.stopped ? "stop" : "length"));
    int failed = json_dumpf(j, a->f, JSON_COMPACT) || fputc('\n', a->f) == EOF || fflush(a->f);
    json_decref(j);
    return failed ? err_set(e, "cannot write '%s':", a->path) : 0;
}

int answers_close(struct answers *a, struct err *e)
{
    int failed = a->f && a->f != stdout && fclose(a->f);
    a->f = NULL;
    return failed ? err_set(e, "cannot write '%s':", a->path) : 0;
}
