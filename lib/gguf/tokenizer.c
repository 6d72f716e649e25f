/* tokenizer.ggml.* of a GGUF file -> tokenizer.json and its companions: see gguf/gguf_private.h.
 * "gpt2": byte-level BPE, tokens and merges as stored, splits by the name in .pre. "llama":
 * SentencePiece BPE, whose merges follow from the tokens' scores. Control, unknown and user-defined
 * tokens become added tokens. Refused: other models, unknown .pre, tokens that are not UTF-8. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "../../formats/json.h"
#include "gguf_private.h"

enum { PIECE_MAX = 1024 };

struct making {
    const struct gguf *g;
    char **token;                   /* [n], NUL-terminated copies */
    const struct gguf_value *types; /* NULL: all normal */
    int64_t n;
    json_t *vocab;  /* {token: id}; NULL: none is needed */
    int32_t *slots; /* of the pieces by hash: 1 + id, 0: free; a power of two of them */
    uint64_t mask;
    struct err *e;
};

/* ---- tokens */

static int64_t token_type(const struct making *m, int64_t i)
{
    int64_t type = GGUF_TOKEN_NORMAL;
    return m->types && !gguf_int(m->types, i, &type) ? GGUF_TOKEN_NORMAL : type;
}

static int read_tokens(struct making *m)
{
    const struct gguf_value *v = gguf_value(m->g, "tokenizer.ggml.tokens");
    struct gguf_text text;
    if (!v || !v->list || v->kind != GGUF_TEXT || !v->n)
        return err_set(m->e, "'%s' has no metadata tokenizer.ggml.tokens", gguf_path(m->g));
    m->token = mem_alloc((size_t)v->n * sizeof *m->token);
    m->types = gguf_value(m->g, "tokenizer.ggml.token_type");
    for (int64_t at = 0; gguf_next_text(v, &at, &text); m->n++) {
        m->token[m->n] = mem_format("%.*s", (int)(text.n < 1 << 20 ? text.n : 1 << 20), text.s);
        if ((int64_t)strlen(m->token[m->n]) != text.n ||
            (m->vocab && json_object_set_new(m->vocab, m->token[m->n], json_integer(m->n))))
            return err_set(m->e, "'%s': token %" PRId64 " of its vocabulary is not valid UTF-8",
                           gguf_path(m->g), m->n++);
    }
    return 0;
}

static json_t *added_tokens(const struct making *m)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < m->n; i++) {
        int64_t type = token_type(m, i);
        if (*m->token[i] && type >= GGUF_TOKEN_UNKNOWN && type <= GGUF_TOKEN_USER)
            json_array_append_new(
                list, json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i,
                                "content", m->token[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                                "normalized", 0, "special", type != GGUF_TOKEN_USER));
    }
    return list;
}

/* The text of the token whose id is in tokenizer.ggml.NAME; NULL if absent. */
static const char *special(const struct making *m, const char *name, int64_t *id)
{
    const struct gguf_value *v = gguf_meta(m->g, "tokenizer.ggml", name);
    return v && !v->list && gguf_int(v, 0, id) && *id >= 0 && *id < m->n ? m->token[*id] : NULL;
}

static int flag(const struct gguf *g, const char *name, int missing)
{
    const struct gguf_value *v = gguf_meta(g, "tokenizer.ggml", name);
    int64_t n;
    return v && !v->list && gguf_int(v, 0, &n) ? n != 0 : missing;
}

/* TemplateProcessing as add_bos_token and add_eos_token ask for; JSON null if neither is set. */
static json_t *post_processor(const struct making *m, int bos_missing)
{
    int64_t id[2];
    const char *text[2] = {
        flag(m->g, "add_bos_token", bos_missing) ? special(m, "bos_token_id", &id[0]) : NULL,
        flag(m->g, "add_eos_token", 0) ? special(m, "eos_token_id", &id[1]) : NULL};
    if (!text[0] && !text[1])
        return json_null();
    json_t *single = json_array(), *pair = json_array(), *table = json_object();
    for (int sequence = 0; sequence < 2; sequence++)
        for (int k = 0; k < 3; k++) { /* BOS, text, EOS */
            const char *type = k == 1 ? "Sequence" : "SpecialToken", *s = text[k / 2];
            if (k == 1)
                s = sequence ? "B" : "A";
            if (!s)
                continue;
            json_t *item = json_pack("{s:{s:s, s:i}}", type, "id", s, "type_id", sequence);
            if (!sequence)
                json_array_append(single, item);
            json_array_append_new(pair, item);
            if (k != 1)
                json_object_set_new(table, s,
                                    json_pack("{s:s, s:[I], s:[s]}", "id", s, "ids",
                                              (json_int_t)id[k / 2], "tokens", s));
        }
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair",
                     pair, "special_tokens", table);
}

/* ---- byte-level BPE */

static json_t *stored_merges(const struct making *m)
{
    const struct gguf_value *v = gguf_value(m->g, "tokenizer.ggml.merges");
    struct gguf_text text;
    json_t *list = json_array();
    if (!v || !v->list || v->kind != GGUF_TEXT)
        err_set(m->e, "'%s' has no metadata tokenizer.ggml.merges", gguf_path(m->g));
    for (int64_t at = 0; !m->e->set && gguf_next_text(v, &at, &text);)
        if (json_array_append_new(list, json_stringn(text.s, (size_t)text.n)))
            err_set(m->e, "'%s': a merge of its tokenizer is not valid UTF-8", gguf_path(m->g));
    return list;
}

static json_t *byte_level(const struct making *m)
{
    const struct gguf_pre *p = gguf_pre(m->g, m->e);
    if (!p)
        return NULL;
    json_t *model = json_pack("{s:s, s:n, s:n, s:b, s:b, s:b, s:O, s:o}", "type", "BPE", "dropout",
                              "unk_token", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                              p->ignore_merges, "vocab", m->vocab, "merges", stored_merges(m));
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:{s:s, s:b, s:b, s:b}, s:o}", "version",
                     "1.0", "truncation", "padding", "added_tokens", added_tokens(m), "normalizer",
                     p->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(), "pre_tokenizer",
                     gguf_pre_tokenizer(p), "post_processor", post_processor(m, p->add_bos),
                     "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                     "use_regex", 1, "model", model);
}

/* ---- SentencePiece BPE: every split of a piece into two pieces is a merge; the best score of the
 * result comes first, then the longer left part (runs of spaces share a score; sentencepiece merges
 * the leftmost pair). */

/* The slot of a piece, or the free one where it would be. */
static int32_t *slot_of(const struct making *m, const char *s, size_t n)
{
    uint64_t at = XXH3_64bits(s, n) & m->mask;
    for (; m->slots[at]; at = (at + 1) & m->mask) {
        const char *piece = m->token[m->slots[at] - 1];
        if (!strncmp(piece, s, n) && !piece[n])
            break;
    }
    return &m->slots[at];
}

static int64_t id_of(const struct making *m, const char *s, size_t n)
{
    return *slot_of(m, s, n) - 1;
}

static void index_pieces(struct making *m)
{
    m->mask = 1;
    while (m->mask < 2 * (uint64_t)m->n)
        m->mask = 2 * m->mask + 1;
    m->slots = mem_alloc((size_t)(m->mask + 1) * sizeof *m->slots);
    for (int64_t i = 0; i < m->n; i++)
        *slot_of(m, m->token[i], strlen(m->token[i])) = (int32_t)i + 1;
}

struct merge {
    int64_t whole, left, right;
    int left_length, right_length;
    double score;
};

static int merge_order(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->left_length != y->left_length)
        return y->left_length - x->left_length;
    if (x->right_length != y->right_length)
        return y->right_length - x->right_length;
    int64_t d = x->whole - y->whole;
    if (!d)
        d = x->left - y->left;
    if (!d)
        d = x->right - y->right;
    return (d > 0) - (d < 0);
}

static int length(const char *s, const char *end)
{
    int n = 0;
    for (; s < end; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

/* Appends the merges that make token i to *list. */
static void split_piece(const struct making *m, int64_t i, double score, struct merge **list,
                        int64_t *n, int64_t *room)
{
    const char *s = m->token[i], *end = s + strlen(s);
    if (end - s >= PIECE_MAX) {
        err_set(m->e,
                "'%s': token %" PRId64 " of its vocabulary has %td bytes; at most %d are allowed",
                gguf_path(m->g), i, end - s, PIECE_MAX - 1);
        return;
    }
    for (const char *at = s + 1; at < end; at++) {
        if ((*at & 0xc0) == 0x80)
            continue;
        int64_t left = id_of(m, s, (size_t)(at - s)),
                right = left < 0 ? -1 : id_of(m, at, (size_t)(end - at));
        if (right < 0)
            continue;
        if (*n == *room)
            *list = mem_grow(*list, (size_t)(*room = 2 * *room + 1024) * sizeof **list);
        (*list)[(*n)++] = (struct merge){i, left, right, length(s, at), length(at, end), score};
    }
}

/* [left, right], of texts that are UTF-8 */
static json_t *pair_of(const char *left, const char *right)
{
    json_t *pair = json_array();
    json_array_append_new(pair, json_string_nocheck(left));
    json_array_append_new(pair, json_string_nocheck(right));
    return pair;
}

static json_t *merges_from_scores(struct making *m)
{
    const struct gguf_value *scores = gguf_value(m->g, "tokenizer.ggml.scores");
    struct merge *list = NULL;
    int64_t n = 0, room = 0;
    double score;
    index_pieces(m);
    for (int64_t i = 0; i < m->n && !m->e->set; i++) {
        if (!scores || !gguf_real(scores, i, &score))
            err_set(m->e, "'%s' has no score of token %" PRId64, gguf_path(m->g), i);
        else if (token_type(m, i) == GGUF_TOKEN_NORMAL)
            split_piece(m, i, score, &list, &n, &room);
    }
    if (n)
        qsort(list, (size_t)n, sizeof *list, merge_order);
    json_t *merges = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(merges, pair_of(m->token[list[i].left], m->token[list[i].right]));
    free(list);
    return merges;
}

/* Spaces are U+2581; one is put before the text unless add_space_prefix is false. */
static json_t *sentencepiece(struct making *m)
{
    int prefix = flag(m->g, "add_space_prefix", 1);
    const char *unk = NULL;
    for (int64_t i = 0; i < m->n && !unk; i++)
        unk = token_type(m, i) == GGUF_TOKEN_UNKNOWN ? m->token[i] : NULL;
    json_t *steps = json_array(), *decoders = json_array();
    if (prefix)
        json_array_append_new(steps,
                              json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "\u2581"));
    json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                           "String", " ", "content", "\u2581"));
    json_array_append_new(decoders, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern",
                                              "String", "\u2581", "content", " "));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "Fuse"));
    if (prefix)
        json_array_append_new(decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip",
                                                  "content", " ", "start", 1, "stop", 0));
    json_t *model = json_pack("{s:s, s:n, s:s?, s:b, s:b, s:b, s:O, s:o}", "type", "BPE", "dropout",
                              "unk_token", unk, "fuse_unk", 1, "byte_fallback", 1, "ignore_merges",
                              0, "vocab", m->vocab, "merges", merges_from_scores(m));
    return json_pack("{s:s, s:n, s:n, s:o, s:{s:s, s:o}, s:n, s:o, s:{s:s, s:o}, s:o}", "version",
                     "1.0", "truncation", "padding", "added_tokens", added_tokens(m), "normalizer",
                     "type", "Sequence", "normalizers", steps, "pre_tokenizer", "post_processor",
                     post_processor(m, 1), "decoder", "type", "Sequence", "decoders", decoders,
                     "model", model);
}

/* ---- files */

static void making_free(struct making *m)
{
    for (int64_t i = 0; i < m->n; i++)
        free(m->token[i]);
    free(m->token);
    free(m->slots);
    json_decref(m->vocab);
}

static char *text_of(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    return text;
}

char *gguf_tokenizer_json(const struct gguf *g, struct err *e)
{
    char *model = gguf_meta_text(g, "tokenizer.ggml.model");
    struct making m = {.g = g, .vocab = json_object(), .e = e};
    json_t *made = NULL;
    if (!model)
        err_set(e, "'%s' has no tokenizer", gguf_path(g));
    else if (strcmp(model, "gpt2") && strcmp(model, "llama"))
        err_set(e, "'%s': tokenizer model %.60s is not supported (supported are gpt2 and llama)",
                gguf_path(g), model);
    else if (!read_tokens(&m))
        made = *model == 'g' ? byte_level(&m) : sentencepiece(&m);
    free(model);
    making_free(&m);
    char *text = made && !e->set ? json_dumps(made, JSON_COMPACT) : NULL;
    json_decref(made);
    return text;
}

char *gguf_tokenizer_config(const struct gguf *g)
{
    static const char *const kinds[][2] = {
        {"bos", "bos"}, {"eos", "eos"}, {"unk", "unknown"}, {"pad", "padding"}};
    struct err ignored = {0};
    struct making m = {.g = g, .e = &ignored};
    json_t *config = json_pack("{s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "clean_up_tokenization_spaces", 0);
    read_tokens(&m);
    for (int i = 0; i < 4; i++) {
        char name[40], key[40];
        int64_t id;
        snprintf(key, sizeof key, "%s_token", kinds[i][0]);
        snprintf(name, sizeof name, "%s_token_id", kinds[i][1]);
        const char *text = special(&m, name, &id);
        if (text)
            json_object_set_new(config, key, json_text(text));
    }
    making_free(&m);
    char *template = gguf_meta_text(g, "tokenizer.chat_template");
    if (template)
        json_object_set_new(config, "chat_template", json_text(template));
    free(template);
    return text_of(config);
}

char *gguf_generation_config(const struct gguf *g)
{
    int64_t bos = gguf_meta_int(g, "tokenizer.ggml.bos_token_id", -1),
            eos = gguf_meta_int(g, "tokenizer.ggml.eos_token_id", -1);
    int64_t turn = gguf_meta_int(g, "tokenizer.ggml.eot_token_id", -1),
            pad = gguf_meta_int(g, "tokenizer.ggml.padding_token_id", -1);
    json_t *config = json_object();
    if (bos >= 0)
        json_object_set_new(config, "bos_token_id", json_integer(bos));
    if (eos >= 0)
        json_object_set_new(config, "eos_token_id",
                            turn >= 0 && turn != eos
                                ? json_pack("[I, I]", (json_int_t)eos, (json_int_t)turn)
                                : json_integer(eos));
    if (pad >= 0)
        json_object_set_new(config, "pad_token_id", json_integer(pad));
    return text_of(config);
}
