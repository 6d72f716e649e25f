/* tokenizer.json and its companions -> tokenizer.ggml.*: see gguf/write.h. The inverse of
 * gguf/tokenizer.c. A byte-level BPE becomes model gpt2, with its merges, and the name of its
 * splits as llama.cpp knows them; a SentencePiece BPE becomes model llama, whose merges follow from
 * scores: minus the place of a token's first merge. Tokens that the vocabulary lacks become
 * [PAD...], unused. A model without tokenizer.json gets model none. Refused: other kinds of
 * tokenizer, those that put text into lower case, and splits that llama.cpp has no name for. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/text.h"
#include "write.h"

static const struct json_limits limits = {.values = 1 << 24, .depth = 64};

struct writing {
    struct gguf_head *head;
    const struct gguf_texts *texts;
    json_t *tokenizer, *config; /* config NULL: no tokenizer_config.json */
    const json_t *model;        /* of the tokenizer */
    int64_t n;
    char **token; /* [n] */
    int32_t *type;
    struct err *e;
};

/* ---- kinds */

static const char *text_of(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

/* Does it have a part of this type, among the parts of a Sequence or by itself? */
static const json_t *find_part(const json_t *part, const char *list, const char *type)
{
    json_t *x;
    size_t i;
    if (!strcmp(text_of(part, "type"), type))
        return part;
    json_array_foreach(json_object_get(part, list), i, x)
        if (!strcmp(text_of(x, "type"), type))
            return x;
    return NULL;
}

static int is_byte_level(const struct writing *w)
{
    const json_t *pre = json_object_get(w->tokenizer, "pre_tokenizer"),
                 *decoder = json_object_get(w->tokenizer, "decoder");
    return find_part(pre, "pretokenizers", "ByteLevel") ||
           find_part(decoder, "decoders", "ByteLevel");
}

static int is_sentencepiece(const struct writing *w)
{
    return json_is_true(json_object_get(w->model, "byte_fallback"));
}

/* The type of a normalizer that changes text as llama.cpp does not, NULL if there is none. It
 * leaves out NFC, which changes few texts, and does by itself what SentencePiece does to spaces. */
static const char *foreign_normalizer(const struct writing *w)
{
    json_t *whole = json_object_get(w->tokenizer, "normalizer"), *x;
    json_t *parts = json_object_get(whole, "normalizers");
    int64_t n = parts ? (int64_t)json_array_size(parts) : !!json_is_object(whole);
    for (int64_t i = 0; i < n; i++) {
        x = parts ? json_array_get(parts, (size_t)i) : whole;
        const char *type = text_of(x, "type");
        int is_spaces = !strcmp(type, "Prepend") || !strcmp(type, "Replace");
        if (is_byte_level(w) ? strcmp(type, "NFC") : !is_spaces)
            return type;
    }
    return NULL;
}

/* ---- tokens */

static int is_listed(const char *s)
{
    static const char *const special[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++)
        if (!strcmp(s, special[i]))
            return 1;
    return 0;
}

/* Tokens that published tokenizers do not mark as special, but that are not part of any text. */
static int looks_special(const char *s)
{
    return is_listed(s) || (text_begins(s, "<|") && text_ends(s, "|>")) ||
           (text_begins(s, "<\uff5c") && text_ends(s, "\uff5c>")) ||
           (text_begins(s, "<unused") && text_ends(s, ">"));
}

static int is_byte(const char *s)
{
    return strlen(s) == 6 && text_begins(s, "<0x") && text_hex_digit(s[3]) >= 0 &&
           text_hex_digit(s[4]) >= 0 && s[5] == '>';
}

static void set_token(struct writing *w, int64_t id, const char *text, int type)
{
    if (id < 0 || id >= w->n) {
        err_set(w->e,
                "tokenizer.json gives token %.60s the id %" PRId64
                ", but the model's vocabulary has %" PRId64 " entries",
                text, id, w->n);
        return;
    }
    free(w->token[id]);
    w->token[id] = mem_string(text);
    w->type[id] = type;
}

/* Spaces of user-defined tokens of SentencePiece are stored as such. */
static char *with_spaces(const char *text)
{
    char *made = mem_string(""), *found;
    for (; (found = strstr(text, "\u2581")); text = found + strlen("\u2581"))
        made = mem_append(made, "%.*s ", (int)(found - text), text);
    return mem_append(made, "%s", text);
}

static void set_added(struct writing *w, const json_t *added)
{
    const char *text = text_of(added, "content");
    int special = json_is_true(json_object_get(added, "special")) || looks_special(text);
    char *stored = special ? mem_string(text) : with_spaces(text);
    set_token(w, json_integer_value(json_object_get(added, "id")), stored,
              special ? GGUF_TOKEN_CONTROL : GGUF_TOKEN_USER);
    free(stored);
}

static void set_tokens(struct writing *w)
{
    const char *text, *unknown = json_string_value(json_object_get(w->model, "unk_token"));
    json_t *id, *added;
    size_t i;
    for (int64_t k = 0; k < w->n; k++) {
        w->token[k] = mem_format("[PAD%" PRId64 "]", k);
        w->type[k] = GGUF_TOKEN_UNUSED;
    }
    json_object_foreach(json_object_get(w->model, "vocab"), text, id)
        set_token(w, json_integer_value(id), text,
                  is_sentencepiece(w) && is_byte(text) ? GGUF_TOKEN_BYTE : GGUF_TOKEN_NORMAL);
    json_array_foreach(json_object_get(w->tokenizer, "added_tokens"), i, added)
        set_added(w, added);
    if (is_sentencepiece(w) && unknown &&
        (id = json_object_get(json_object_get(w->model, "vocab"), unknown)))
        set_token(w, json_integer_value(id), unknown, GGUF_TOKEN_UNKNOWN);
}

/* ---- merges */

/* Both spellings: "a b", and ["a", "b"]. *right follows *left in one text, which is free()d. */
static char *split_merge(const json_t *merge, const char **right)
{
    const char *a = json_string_value(json_is_array(merge) ? json_array_get(merge, 0) : merge),
               *b = json_string_value(json_array_get(merge, 1)), *space;
    if (!json_is_array(merge)) {
        space = a ? strchr(a, ' ') : NULL;
        b = space ? space + 1 : NULL;
    }
    if (!a || !b)
        return NULL;
    char *text = json_is_array(merge) ? mem_format("%s %s", a, b) : mem_string(a);
    *right = text + strlen(text) - strlen(b);
    return text;
}

static void put_merges(struct writing *w)
{
    const json_t *merges = json_object_get(w->model, "merges");
    int64_t n = (int64_t)json_array_size(merges);
    char **text = mem_alloc((size_t)(n + 1) * sizeof *text);
    const char *right;
    for (int64_t i = 0; i < n; i++)
        if (!(text[i] = split_merge(json_array_get(merges, (size_t)i), &right))) {
            err_set(w->e, "merge %" PRId64 " of tokenizer.json is not a pair of tokens", i);
            text[i] = mem_string("");
        }
    gguf_put_texts(w->head, "tokenizer.ggml.merges", text, n);
    for (int64_t i = 0; i < n; i++)
        free(text[i]);
    free(text);
}

static void put_scores(struct writing *w)
{
    const json_t *merges = json_object_get(w->model, "merges"),
                 *vocab = json_object_get(w->model, "vocab");
    int64_t n = (int64_t)json_array_size(merges);
    float *score = mem_alloc((size_t)w->n * sizeof *score);
    for (int64_t k = 0; k < w->n; k++)
        score[k] = -(float)n - 1;
    for (int64_t i = n - 1; i >= 0; i--) {
        const char *right;
        char *whole = split_merge(json_array_get(merges, (size_t)i), &right);
        if (!whole)
            continue;
        memmove((char *)(uintptr_t)right - 1, right, strlen(right) + 1);
        const json_t *id = json_object_get(vocab, whole);
        if (id && json_integer_value(id) >= 0 && json_integer_value(id) < w->n)
            score[json_integer_value(id)] = -(float)i;
        free(whole);
    }
    gguf_put_reals(w->head, "tokenizer.ggml.scores", score, w->n);
    free(score);
}

/* ---- special tokens */

/* A token of tokenizer_config.json: text, or an object with its content. NULL: none. */
static const char *named_token(const struct writing *w, const char *kind)
{
    char key[40];
    snprintf(key, sizeof key, "%s_token", kind);
    const json_t *v = json_object_get(w->config, key);
    return json_is_object(v) ? json_string_value(json_object_get(v, "content"))
                             : json_string_value(v);
}

static int64_t id_of(const struct writing *w, const char *text)
{
    for (int64_t k = 0; text && k < w->n; k++)
        if (w->type[k] != GGUF_TOKEN_UNUSED && !strcmp(w->token[k], text))
            return k;
    return -1;
}

static void put_id(const struct writing *w, const char *kind, int64_t id)
{
    char key[64];
    snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", kind);
    if (id >= 0 && id < w->n)
        gguf_put_u32(w->head, key, id);
}

/* The id that config.json or generation_config.json gives; of a list the first that is not `but`.
 */
static int64_t config_id(const json_t *config, const char *kind, int64_t but)
{
    char key[40];
    snprintf(key, sizeof key, "%s_token_id", kind);
    const json_t *v = json_object_get(config, key), *x = v;
    for (size_t i = 0; i < json_array_size(v) || (!i && json_is_integer(v)); i++) {
        x = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_integer(x) && json_integer_value(x) != but)
            return json_integer_value(x);
    }
    return -1;
}

static int64_t special_id(const struct writing *w, const json_t *config, const char *kind)
{
    int64_t id = id_of(w, named_token(w, kind));
    return id < 0 ? config_id(config, kind, -1) : id;
}

/* eot: another id that ends a turn, as generation_config.json lists them. */
static void put_special(const struct writing *w, const json_t *config)
{
    static const char *const kinds[][2] = {{"bos", "bos"},       {"unk", "unknown"},
                                           {"sep", "seperator"}, {"pad", "padding"},
                                           {"cls", "cls"},       {"mask", "mask"}};
    struct err ignored = {0};
    int64_t eos = special_id(w, config, "eos");
    put_id(w, "eos", eos);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        put_id(w, kinds[i][1], special_id(w, config, kinds[i][0]));
    json_t *generation = w->texts->generation_config
                             ? json_parse_text(w->texts->generation_config,
                                               (int64_t)strlen(w->texts->generation_config),
                                               &limits, "generation_config.json", &ignored)
                             : NULL;
    if (json_is_array(json_object_get(generation, "eos_token_id")))
        put_id(w, "eot", config_id(generation, "eos", eos));
    json_decref(generation);
}

/* Is this put before (after) a text? As tokenizer_config.json says, or the post-processor does. */
static int adds(const struct writing *w, const char *kind, int last)
{
    char key[40];
    snprintf(key, sizeof key, "add_%s_token", kind);
    const json_t *said = json_object_get(w->config, key);
    if (json_is_boolean(said))
        return json_is_true(said);
    const json_t *post = find_part(json_object_get(w->tokenizer, "post_processor"), "processors",
                                   "TemplateProcessing"),
                 *single = json_object_get(post, "single");
    size_t n = json_array_size(single);
    const json_t *item = json_array_get(single, last && n ? n - 1 : 0);
    const char *token = named_token(w, kind), *id = json_string_value(json_object_get(
                                                  json_object_get(item, "SpecialToken"), "id"));
    return id && token && !strcmp(id, token);
}

static void put_flags(struct writing *w)
{
    gguf_put_flag(w->head, "tokenizer.ggml.add_bos_token", adds(w, "bos", 0));
    gguf_put_flag(w->head, "tokenizer.ggml.add_eos_token", adds(w, "eos", 1));
    if (is_byte_level(w))
        return;
    const json_t *normalizer = json_object_get(w->tokenizer, "normalizer"),
                 *pre = find_part(json_object_get(w->tokenizer, "pre_tokenizer"), "pretokenizers",
                                  "Metaspace");
    const char *scheme = text_of(pre, "prepend_scheme");
    int prefix = find_part(normalizer, "normalizers", "Prepend") != NULL ||
                 (pre && strcmp(scheme, "never"));
    gguf_put_flag(w->head, "tokenizer.ggml.add_space_prefix", prefix);
}

/* The template of chat_template.jinja, or of tokenizer_config.json: a text, or a list of which one
 * is called default. */
static void put_template(struct writing *w)
{
    const json_t *v = json_object_get(w->config, "chat_template");
    json_t *x;
    size_t i;
    const char *text = w->texts->chat_template ? w->texts->chat_template : json_string_value(v);
    json_array_foreach(v, i, x)
        if (!text && !strcmp(text_of(x, "name"), "default"))
            text = text_of(x, "template");
    if (text && *text)
        gguf_put_text(w->head, "tokenizer.chat_template", text);
}

/* ---- the whole */

static void put_tokenizer(struct writing *w, const json_t *config)
{
    const char *pre = is_byte_level(w) ? gguf_pre_of(w->tokenizer, w->e) : "default";
    if (!pre)
        return;
    gguf_put_text(w->head, "tokenizer.ggml.model", is_byte_level(w) ? "gpt2" : "llama");
    gguf_put_text(w->head, "tokenizer.ggml.pre", pre);
    w->token = mem_alloc((size_t)w->n * sizeof *w->token);
    w->type = mem_alloc((size_t)w->n * sizeof *w->type);
    set_tokens(w);
    gguf_put_texts(w->head, "tokenizer.ggml.tokens", w->token, w->n);
    if (!is_byte_level(w))
        put_scores(w);
    gguf_put_i32s(w->head, "tokenizer.ggml.token_type", w->type, w->n);
    if (is_byte_level(w))
        put_merges(w);
    put_special(w, config);
    put_flags(w);
    put_template(w);
    for (int64_t k = 0; k < w->n; k++)
        free(w->token[k]);
    free(w->token);
    free(w->type);
}

static json_t *parse(const char *text, const char *name, struct err *e)
{
    return text ? json_parse_text(text, (int64_t)strlen(text), &limits, name, e) : NULL;
}

int gguf_put_tokenizer(struct gguf_head *head, const struct gguf_texts *texts, const json_t *config,
                       int64_t vocab_size, struct err *e)
{
    struct writing w = {.head = head, .texts = texts, .n = vocab_size, .e = e};
    if (!texts->tokenizer) {
        gguf_put_text(head, "tokenizer.ggml.model", "none");
        return 0;
    }
    w.tokenizer = parse(texts->tokenizer, "tokenizer.json", e);
    w.config = parse(texts->tokenizer_config, "tokenizer_config.json", e);
    w.model = json_object_get(w.tokenizer, "model");
    if (!e->set &&
        (strcmp(text_of(w.model, "type"), "BPE") || (!is_byte_level(&w) && !is_sentencepiece(&w))))
        err_set(e,
                "llama.cpp has no form for this tokenizer.json: model %.40s is neither byte-level "
                "BPE nor a BPE with bytes to fall back to",
                text_of(w.model, "type"));
    const char *foreign = e->set ? NULL : foreign_normalizer(&w);
    if (foreign)
        err_set(e,
                "llama.cpp has no form for this tokenizer.json: it changes text by the normalizer "
                "%.40s, which llama.cpp does not have for such a BPE",
                foreign);
    if (!e->set)
        put_tokenizer(&w, config);
    json_decref(w.tokenizer);
    json_decref(w.config);
    return e->set ? -1 : 0;
}
