/* Conversations as chat templates write them, against the ids of apply_chat_template of
 * transformers and the tokens that belong to answers (tests/golden/chat, by tests/hf/chat.py);
 * which template a text is; refusals. */
#include "../../lib/data/chat.h"

#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../../lib/base/file.h"
#include "../../lib/base/mem.h"
#include "../../lib/data/chat_template.h"
#include "../../lib/data/records.h"
#include "check.h"

#define FOLDER "tests/golden/chat/"

/* without: a token's text that the vocabulary shall lack, or NULL. */
static struct tokenizer *open_without(const char *name, const char *without)
{
    struct err e = {0};
    char *path = mem_format(FOLDER "%s.json", name);
    json_t *json = json_load_file(path, 0, NULL);
    if (without)
        json_object_del(json_object_get(json_object_get(json, "model"), "vocab"), without);
    char *text = json_dumps(json, JSON_COMPACT);
    struct tokenizer *t = tokenizer_open(text, (int64_t)strlen(text), &e);
    CHECK(t != NULL, "%s: %s", path, e.msg);
    json_decref(json);
    free(path);
    free(text);
    return t;
}

static struct tokenizer *open_tokenizer(const char *name) { return open_without(name, NULL); }

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* ---- golden conversations */

static int encode_line(struct tokenizer *t, const json_t *line, struct ids *out, struct err *e)
{
    struct chat c;
    const json_t *messages = json_object_get(line, "messages");
    int failed = chat_open(&c, text_of(line, "template"), t, NULL, e);
    if (!failed && json_is_true(json_object_get(line, "prompt")))
        failed = chat_encode_prompt(&c, t, messages, out, e);
    else if (!failed)
        failed = chat_encode(&c, t, messages, out, e);
    chat_close(&c);
    return failed;
}

static void compare(const struct ids *x, const json_t *line, int number)
{
    const json_t *ids = json_object_get(line, "ids");
    const char *counted = text_of(line, "counted"), *name = text_of(line, "template");
    int64_t n = (int64_t)json_array_size(ids), i = 0;
    CHECK(n == x->n, "line %d, %s: %lld ids, not %lld", number, name, (long long)x->n,
          (long long)n);
    while (i < n && i < x->n && json_integer_value(json_array_get(ids, (size_t)i)) == x->id[i])
        i++;
    CHECK(i == n, "line %d, %s: another id at %lld", number, name, (long long)i);
    for (i = 0; i < n && i < x->n && (counted[i] == '0') == (x->flags[i] & TOKEN_UNCOUNTED);)
        i++;
    CHECK(i == n, "line %d, %s: token %lld counts in one only", number, name, (long long)i);
}

static void check_line(const char *s, int number)
{
    struct err e = {0};
    struct ids x = {0};
    json_t *line = json_loads(s, 0, NULL);
    struct tokenizer *t = open_tokenizer(text_of(line, "tokenizer"));
    int failed = encode_line(t, line, &x, &e), refuse = !json_object_get(line, "ids");
    CHECK(!!failed == refuse, "line %d: %s", number, failed ? e.msg : "is not refused");
    if (!failed && !refuse)
        compare(&x, line, number);
    ids_free(&x);
    tokenizer_close(t);
    json_decref(line);
}

static void check_golden(void)
{
    struct err e = {0};
    int64_t n;
    int number = 0;
    char *all = file_read(FOLDER "conversations.jsonl", 1 << 24, &n, &e), *at = all;
    CHECK(all != NULL, "%s", e.msg);
    for (char *line; all && (line = strsep(&at, "\n")) && *line;)
        check_line(line, ++number);
    CHECK(number > 100, "%d golden conversations", number);
    free(all);
}

/* ---- which template it is */

static void check_digest(void)
{
    static const char *const same[] = {"{{ 'a\n' }}", "{{ 'a\\n' }}", "{{ 'a\r\n' }}\r\n \t"};
    char want[ST_DIGEST], got[ST_DIGEST];
    chat_digest(same[0], (int64_t)strlen(same[0]), want);
    for (int i = 1; i < 3; i++) {
        chat_digest(same[i], (int64_t)strlen(same[i]), got);
        CHECK(!strcmp(got, want), "spelling %d of a template has another digest", i);
    }
    chat_digest("{{ 'a\n'  }}", 11, got);
    CHECK(strcmp(got, want), "white space within a template does not count");
}

/* ---- pairs */

static void check_pair(void)
{
    struct err e = {0};
    struct ids x = {0};
    struct chat c;
    struct tokenizer *t = open_tokenizer("spm");
    CHECK(chat_open_pair(&c, t, NULL, &e) && strstr(e.msg, "end-of-sequence"),
          "a pair without a known end: %s", e.msg);
    chat_close(&c);
    e = (struct err){0};
    CHECK(!chat_open(&c, "mistral", t, NULL, &e), "%s", e.msg);
    CHECK(!chat_encode_pair(&c, t, (struct chat_text){"the", 3}, (struct chat_text){" the", 4}, &x,
                            &e),
          "%s", e.msg);
    CHECK(x.n > 3 && x.id[0] == 1 && x.id[x.n - 1] == 2, "begins with BOS and ends with EOS");
    int64_t counted = 0, at = 0;
    for (int64_t i = 0; i < x.n; at += x.bytes[i++])
        if (!(x.flags[i] & TOKEN_UNCOUNTED)) {
            CHECK(at >= 3, "token %lld is of the prompt, but counts", (long long)i);
            counted++;
        }
    CHECK(counted >= 2, "%lld tokens count", (long long)counted);
    ids_free(&x);
    chat_close(&c);
    tokenizer_close(t);
}

/* A byte that the vocabulary lacks is left out, and moves no range. */
static void check_dropped(void)
{
    static const char *const texts[] = {"a\x01\x01 word", "a word"};
    struct err e = {0};
    struct ids x[2] = {{0}};
    struct chat c;
    struct tokenizer *t = open_without("smollm", "\xc4\x81"); /* of the byte 01 */
    CHECK(!chat_open(&c, "chatml", t, NULL, &e), "%s", e.msg);
    for (int i = 0; i < 2; i++) {
        json_t *m = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", texts[i],
                              "role", "assistant", "content", "word");
        CHECK(!chat_encode(&c, t, m, &x[i], &e), "%s", e.msg);
        json_decref(m);
    }
    CHECK(tokenizer_dropped(t) == 2, "%lld bytes dropped", (long long)tokenizer_dropped(t));
    CHECK(x[0].n == x[1].n && !memcmp(x[0].flags, x[1].flags, (size_t)x[0].n),
          "dropped bytes move what counts");
    ids_free(&x[0]);
    ids_free(&x[1]);
    chat_close(&c);
    tokenizer_close(t);
}

/* ---- refusals */

static void refuse(const char *template, const char *messages, int prompt, const char *why)
{
    struct err e = {0};
    struct ids x = {0};
    struct tokenizer *t = open_tokenizer("smollm");
    json_t *line = json_pack("{s:s, s:b, s:o}", "template", template, "prompt", prompt, "messages",
                             json_loads(messages, JSON_DECODE_ANY, NULL));
    CHECK(encode_line(t, line, &x, &e) && strstr(e.msg, why), "%s: \"%s\", not \"%s\"", messages,
          e.msg, why);
    json_decref(line);
    ids_free(&x);
    tokenizer_close(t);
}

#define USER "{\"role\": \"user\", \"content\": \"a\"}"
#define ANSWER "{\"role\": \"assistant\", \"content\": \"a\"}"
#define SYSTEM "{\"role\": \"system\", \"content\": \"a\"}"

static void check_refusals(void)
{
    refuse("chatml2", "[" USER "]", 0, "must be auto, chatml, ");
    refuse("chatml", "[]", 0, "no list of messages, or an empty one");
    refuse("chatml", "\"a\"", 0, "no list of messages");
    refuse("chatml", "[1]", 0, "message 1 has no \"role\"");
    refuse("chatml", "[" USER ", {\"content\": \"a\"}]", 0, "message 2 has no \"role\"");
    refuse("chatml", "[{\"role\": \"tool\", \"content\": \"a\"}]", 0, "the role \"tool\"");
    refuse("chatml", "[{\"role\": \"user\"}]", 0, "message 1 has no \"content\"");
    refuse("chatml", "[{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]", 0,
           "one text part");
    refuse("chatml",
           "[" USER ", {\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}]", 0,
           "message 2 has tool_calls");
    refuse("chatml", "[" USER ", " SYSTEM "]", 0, "message 2 is a system prompt, which only");
    refuse("gemma", "[" SYSTEM ", " USER "]", 0, "which chat template gemma has not");
    refuse("gemma3", "[" USER ", " USER "]", 0, "message 2 is the user's, but");
    refuse("mistral-v1", "[" ANSWER "]", 0, "message 1 is the assistant's, but");
    refuse("mistral-v3", "[" SYSTEM "," USER "," ANSWER "]", 0, "would vanish before an answer");
    refuse("chatml", "[" USER "," ANSWER "]", 1, "message 2, the last, is not the user's");
    refuse("qwen3", "[" USER ", {\"role\": \"assistant\", \"content\": \"<think>a</think>b\"}]", 0,
           "message 2 has \"</think>\", of which");
    refuse("qwen3",
           "[" USER ", {\"role\": \"assistant\", \"content\": \"b\", \"reasoning_content\": "
           "\"a\"}]",
           0, "message 2 has reasoning_content");
    refuse("plain", "[" USER "]", 0, "names no end-of-sequence token");
}

static void check_part(void)
{
    struct err e = {0};
    struct ids x = {0};
    struct tokenizer *t = open_tokenizer("smollm");
    json_t *line = json_loads("{\"template\": \"chatml\", \"messages\": [{\"role\": \"user\", "
                              "\"content\": [{\"type\": \"text\", \"text\": \"a\"}]}]}",
                              0, NULL);
    CHECK(!encode_line(t, line, &x, &e), "one text part: %s", e.msg);
    json_decref(line);
    ids_free(&x);
    tokenizer_close(t);
}

int main(void)
{
    check_golden();
    check_digest();
    check_pair();
    check_dropped();
    check_refusals();
    check_part();
    return check_report();
}
