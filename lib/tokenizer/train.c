/* The trainer of tokenizer.h. Words are kept once with their counts; every pair records how often
 * it occurs and in which words, so a merge touches only those. A heap holds the pairs; an entry
 * whose count has changed is put back with the new count when it reaches the top. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "vocab.h"

/* symbols at start, n of them left; before training: bytes */
struct word {
    int64_t count;
    uint64_t start;
    uint32_t n;
};
/* key: as in vocab.h; round: when it last grew */
struct pair {
    uint64_t key;
    int64_t count;
    uint32_t *words;
    int64_t n, room, round;
};
struct queued {
    int64_t count;
    uint64_t key;
};
struct token {
    char *text;
    int64_t n;
}; /* in the byte-level alphabet */

struct bpe_trainer {
    struct split_list split;
    struct added_set special;
    struct added_token *special_tokens;
    char *bytes; /* of all words */
    uint64_t bytes_n, bytes_room, slot_mask, pair_mask;
    struct word *words;
    uint32_t *slots; /* by hash of the word: index + 1 */
    int64_t n_words, words_room;
    uint32_t *symbols;
    struct pair *pairs;
    uint32_t *pair_slots; /* by key: index + 1 */
    int64_t n_pairs, pairs_room;
    struct queued *heap;
    int64_t heap_n, heap_room;
    uint32_t *grown; /* pairs that became more frequent in this round */
    int64_t n_grown, grown_room;
    struct token *tokens;  /* by id */
    uint32_t *token_slots; /* by hash of the text: id + 1 */
    uint64_t token_mask;
    int64_t n_tokens, n_merges; /* n_merges counts rounds too */
    uint64_t *merges;           /* keys in order */
};

/* ---- words */

static void words_index(struct bpe_trainer *b, uint64_t size)
{
    free(b->slots);
    b->slots = mem_alloc(size * sizeof *b->slots);
    b->slot_mask = size - 1;
    for (int64_t w = 0; w < b->n_words; w++) {
        uint64_t i = hash_bytes(b->bytes + b->words[w].start, b->words[w].n) & b->slot_mask;
        while (b->slots[i])
            i = (i + 1) & b->slot_mask;
        b->slots[i] = (uint32_t)w + 1;
    }
}

static int word_count(void *context, struct text t, struct err *e)
{
    struct bpe_trainer *b = context;
    uint64_t i = hash_bytes(t.s, t.n) & b->slot_mask;
    for (; b->slots[i]; i = (i + 1) & b->slot_mask) {
        struct word *w = &b->words[b->slots[i] - 1];
        if (w->n == t.n && !memcmp(b->bytes + w->start, t.s, (size_t)t.n)) {
            w->count++;
            return 0;
        }
    }
    if (t.n > INT32_MAX || b->n_words >= INT32_MAX)
        return err_set(
            e, "the text has too many words, or words too long, to learn a vocabulary from");
    if (b->n_words == b->words_room)
        b->words = mem_grow(b->words,
                            (size_t)(b->words_room = 2 * b->words_room + 1024) * sizeof *b->words);
    if (b->bytes_room - b->bytes_n < (uint64_t)t.n)
        b->bytes = mem_grow(b->bytes, b->bytes_room = 2 * b->bytes_room + (uint64_t)t.n + 4096);
    memcpy(b->bytes + b->bytes_n, t.s, (size_t)t.n);
    b->words[b->n_words] = (struct word){1, b->bytes_n, (uint32_t)t.n};
    b->bytes_n += (uint64_t)t.n;
    b->slots[i] = (uint32_t)++b->n_words;
    if (2 * (uint64_t)b->n_words > b->slot_mask)
        words_index(b, 4 * (b->slot_mask + 1));
    return 0;
}

int bpe_train_text(struct bpe_trainer *b, const char *s, int64_t n, struct err *e)
{
    struct text t = {s, n, NULL, 1};
    struct added_match m;
    int64_t at = 0, from = 0;
    added_begin(&b->special);
    while (added_find(&b->special, t, &at, from, &m)) {
        if (split_apply(&b->split, text_part(t, from, m.start), word_count, b, e))
            return -1;
        from = m.end;
    }
    return split_apply(&b->split, text_part(t, from, n), word_count, b, e);
}

/* ---- pairs */

static struct pair *pair_find(struct bpe_trainer *b, uint64_t key)
{
    uint64_t i = hash_pair(key) & b->pair_mask;
    for (; b->pair_slots[i]; i = (i + 1) & b->pair_mask)
        if (b->pairs[b->pair_slots[i] - 1].key == key)
            return &b->pairs[b->pair_slots[i] - 1];
    if (b->n_pairs == b->pairs_room)
        b->pairs = mem_grow(b->pairs,
                            (size_t)(b->pairs_room = 2 * b->pairs_room + 1024) * sizeof *b->pairs);
    b->pairs[b->n_pairs] = (struct pair){.key = key, .round = -1};
    b->pair_slots[i] = (uint32_t)++b->n_pairs;
    if (2 * (uint64_t)b->n_pairs > b->pair_mask) {
        uint64_t size = 4 * (b->pair_mask + 1);
        free(b->pair_slots);
        b->pair_slots = mem_alloc(size * sizeof *b->pair_slots);
        b->pair_mask = size - 1;
        for (int64_t p = 0; p < b->n_pairs; p++) {
            for (i = hash_pair(b->pairs[p].key) & b->pair_mask; b->pair_slots[i];)
                i = (i + 1) & b->pair_mask;
            b->pair_slots[i] = (uint32_t)p + 1;
        }
    }
    return &b->pairs[b->n_pairs - 1];
}

static void pair_change(struct bpe_trainer *b, uint32_t left, uint32_t right, uint32_t word,
                        int64_t by)
{
    struct pair *p = pair_find(b, pair_key(left, right));
    p->count += by;
    if (by > 0 && p->round != b->n_merges) {
        p->round = b->n_merges;
        if (b->n_grown == b->grown_room)
            b->grown = mem_grow(b->grown, (size_t)(b->grown_room = 2 * b->grown_room + 1024) *
                                              sizeof *b->grown);
        b->grown[b->n_grown++] = (uint32_t)(p - b->pairs);
    }
    if (by < 0 || (p->n && p->words[p->n - 1] == word))
        return;
    if (p->n == p->room)
        p->words = mem_grow(p->words, (size_t)(p->room = 2 * p->room + 4) * sizeof *p->words);
    p->words[p->n++] = word;
}

static int before(struct queued x, struct queued y)
{
    return x.count != y.count ? x.count > y.count : x.key < y.key;
}

static void queue_push(struct bpe_trainer *b, struct queued x)
{
    if (b->heap_n == b->heap_room)
        b->heap = mem_grow(b->heap,
                           (size_t)(b->heap_room = 2 * b->heap_room + 1024) * sizeof *b->heap);
    int64_t i = b->heap_n++;
    for (int64_t up; i && before(x, b->heap[up = (i - 1) / 2]); i = up)
        b->heap[i] = b->heap[up];
    b->heap[i] = x;
}

/* A pair may be in the queue several times; only the entry with its current count is used. */
static void queue_grown(struct bpe_trainer *b)
{
    for (int64_t i = 0; i < b->n_grown; i++)
        queue_push(b, (struct queued){b->pairs[b->grown[i]].count, b->pairs[b->grown[i]].key});
    b->n_grown = 0;
}

static struct queued queue_pop(struct bpe_trainer *b)
{
    struct queued top = b->heap[0], x = b->heap[--b->heap_n];
    int64_t i = 0;
    for (int64_t child; (child = 2 * i + 1) < b->heap_n; i = child) {
        if (child + 1 < b->heap_n && before(b->heap[child + 1], b->heap[child]))
            child++;
        if (before(x, b->heap[child]))
            break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = x;
    return top;
}

/* The most frequent pair: 1, or 0 if none occurs twice. */
static int pair_best(struct bpe_trainer *b, uint64_t *key)
{
    while (b->heap_n) {
        struct queued top = queue_pop(b);
        int64_t now = pair_find(b, top.key)->count;
        if (now == top.count && now > 1) {
            *key = top.key;
            return 1;
        }
        if (now > 1 && now < top.count)
            queue_push(b, (struct queued){now, top.key});
    }
    return 0;
}

/* Replaces every occurrence of left, right in a word by `id`. */
static void word_merge(struct bpe_trainer *b, uint32_t w, uint32_t left, uint32_t right,
                       uint32_t id)
{
    struct word *word = &b->words[w];
    uint32_t *s = b->symbols + word->start, n = 0;
    for (uint32_t i = 0; i < word->n; i++) {
        if (i + 1 == word->n || s[i] != left || s[i + 1] != right) {
            s[n++] = s[i];
            continue;
        }
        if (n) {
            pair_change(b, s[n - 1], left, w, -word->count);
            pair_change(b, s[n - 1], id, w, word->count);
        }
        if (i + 2 < word->n) {
            pair_change(b, right, s[i + 2], w, -word->count);
            pair_change(b, id, s[i + 2], w, word->count);
        }
        s[n++] = id;
        i++;
    }
    word->n = n;
}

/* ---- tokens */

/* The slot of a text in the table, or the free slot for it. */
static uint64_t token_slot(const struct bpe_trainer *b, const char *s, int64_t n)
{
    uint64_t i = hash_bytes(s, n) & b->token_mask;
    for (; b->token_slots[i]; i = (i + 1) & b->token_mask) {
        const struct token *t = &b->tokens[b->token_slots[i] - 1];
        if (t->n == n && !memcmp(t->text, s, (size_t)n))
            break;
    }
    return i;
}

/* The id of a text, of which it takes ownership: a new token, or the existing one with the same
 * text (two different pairs can spell it). */
static uint32_t token_id(struct bpe_trainer *b, char *s, int64_t n)
{
    uint64_t slot = token_slot(b, s, n);
    if (b->token_slots[slot]) {
        free(s);
        return b->token_slots[slot] - 1;
    }
    b->tokens[b->n_tokens] = (struct token){s, n};
    b->token_slots[slot] = (uint32_t)++b->n_tokens;
    return (uint32_t)b->n_tokens - 1;
}

static void merge_best(struct bpe_trainer *b, uint64_t key)
{
    uint32_t left = (uint32_t)((key - 1) >> 32), right = (uint32_t)(key - 1);
    const struct token *l = &b->tokens[left], *r = &b->tokens[right];
    struct pair p = *pair_find(b, key);
    *pair_find(b, key) = (struct pair){.key = key, .round = -1};
    uint32_t id = token_id(b, mem_format("%s%s", l->text, r->text), l->n + r->n);
    /* a pair that would spell a special token stays two tokens */
    if (id >= (uint32_t)b->special.count) {
        b->merges = mem_grow(b->merges, (size_t)(b->n_merges + 1) * sizeof *b->merges);
        b->merges[b->n_merges++] = key;
        for (int64_t i = 0; i < p.n; i++)
            word_merge(b, p.words[i], left, right, id);
        pair_find(b, key)->count = 0;
        queue_grown(b);
    }
    free(p.words);
}

/* Lists special tokens, then the bytes in the order of their characters; turns the words into
 * symbols; counts all pairs. */
static void train_start(struct bpe_trainer *b, int64_t vocab_size)
{
    uint32_t id_of[256];
    uint64_t slots = 1024;
    while (slots < 2 * (uint64_t)vocab_size)
        slots *= 2;
    b->token_slots = mem_alloc(slots * sizeof *b->token_slots);
    b->token_mask = slots - 1;
    b->tokens = mem_alloc((size_t)(vocab_size + 1) * sizeof *b->tokens);
    for (int i = 0; i < b->special.count; i++)
        token_id(b, mem_string(b->special_tokens[i].text), b->special_tokens[i].n);
    for (uint32_t point = 0; point < 0x200; point++) {
        int byte = point_to_byte(point);
        char text[3] = {0};
        if (byte >= 0) {
            int n = byte_to_text((unsigned char)byte, text);
            id_of[byte] = token_id(b, mem_string(text), n);
        }
    }
    b->symbols = mem_alloc((b->bytes_n + 1) * sizeof *b->symbols);
    for (uint64_t i = 0; i < b->bytes_n; i++)
        b->symbols[i] = id_of[(unsigned char)b->bytes[i]];
    for (int64_t w = 0; w < b->n_words; w++)
        for (uint32_t i = 0; i + 1 < b->words[w].n; i++)
            pair_change(b, b->symbols[b->words[w].start + i], b->symbols[b->words[w].start + i + 1],
                        (uint32_t)w, b->words[w].count);
    queue_grown(b);
}

static char *train_json(const struct bpe_trainer *b, int64_t *n)
{
    json_t *added = json_array(), *vocab = json_object(), *merges = json_array();
    for (int i = 0; i < b->special.count; i++)
        json_array_append_new(added,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", i, "content",
                                        b->special_tokens[i].text, "single_word", 0, "lstrip", 0,
                                        "rstrip", 0, "normalized", 0, "special", 1));
    for (int64_t i = 0; i < b->n_tokens; i++)
        json_object_set_new(vocab, b->tokens[i].text, json_integer(i));
    for (int64_t i = 0; i < b->n_merges; i++) {
        char *text = mem_format("%s %s", b->tokens[(b->merges[i] - 1) >> 32].text,
                                b->tokens[(uint32_t)(b->merges[i] - 1)].text);
        json_array_append_new(merges, json_string(text));
        free(text);
    }
    json_t *all = json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, s:{s:s, "
        "s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}}",
        "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
        "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
        1, "post_processor", "decoder", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets",
        1, "use_regex", 1, "model", "type", "BPE", "dropout", "unk_token",
        "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0,
        "ignore_merges", 0, "vocab", vocab, "merges", merges);
    char *text = json_dumps(all, JSON_INDENT(1));
    json_decref(all);
    *n = text ? (int64_t)strlen(text) : 0;
    return text;
}

char *bpe_train_finish(struct bpe_trainer *b, int64_t vocab_size, int64_t *n, struct err *e)
{
    uint64_t key;
    if (vocab_size < 256 + b->special.count || vocab_size > 1 << 24)
        return err_set(e,
                       "--vocab-size must be from %d, the 256 bytes and the special tokens, to "
                       "16777216, not %lld",
                       256 + b->special.count, (long long)vocab_size),
               NULL;
    train_start(b, vocab_size);
    while (b->n_tokens < vocab_size && pair_best(b, &key))
        merge_best(b, key);
    if (b->n_tokens < vocab_size)
        return err_set(e, "the text supports only %lld tokens, not the %lld of --vocab-size",
                       (long long)b->n_tokens, (long long)vocab_size),
               NULL;
    return train_json(b, n);
}

/* ---- open and close */

static int special_check(const struct bpe_trainer *b, const char *text, struct err *e)
{
    int length = utf8_length(text, (int64_t)strlen(text) + 1);
    if (!*text || (text[length] == 0 && point_to_byte(utf8_point(text, length)) >= 0))
        return err_set(e, "\"%s\" cannot be a special token: it is %s", text,
                       *text ? "the token of a byte" : "empty");
    for (int i = 0; i < b->special.count; i++)
        if (!strcmp(b->special_tokens[i].text, text))
            return err_set(e, "the special token \"%s\" is given twice", text);
    int valid;
    if (utf8_run(text, (int64_t)strlen(text), &valid) < (int64_t)strlen(text) || !valid)
        return err_set(e, "a special token is not valid UTF-8");
    return 0;
}

struct bpe_trainer *bpe_train_open(const char *const *special, int n_special, struct err *e)
{
    struct bpe_trainer *b = mem_alloc(sizeof *b);
    json_t *spec = json_pack("{s:s, s:b}", "type", "ByteLevel", "add_prefix_space", 0);
    int failed = split_read(&b->split, spec, e);
    json_decref(spec);
    b->special_tokens = mem_alloc((size_t)(n_special + 1) * sizeof *b->special_tokens);
    b->special.tokens = mem_alloc((size_t)(n_special + 1) * sizeof *b->special.tokens);
    for (int i = 0; i < n_special && !failed && !(failed = special_check(b, special[i], e)); i++) {
        b->special_tokens[i] = (struct added_token){.text = mem_string(special[i]),
                                                    .n = (int64_t)strlen(special[i]),
                                                    .id = (uint32_t)i,
                                                    .special = 1};
        b->special.tokens[b->special.count++] = &b->special_tokens[i];
    }
    failed = failed || added_set_index(&b->special, e);
    words_index(b, 1 << 16);
    b->pair_mask = 1023;
    b->pair_slots = mem_alloc((b->pair_mask + 1) * sizeof *b->pair_slots);
    if (!failed)
        return b;
    bpe_train_close(b);
    return NULL;
}

void bpe_train_close(struct bpe_trainer *b)
{
    for (int64_t i = 0; i < b->n_pairs; i++)
        free(b->pairs[i].words);
    for (int64_t i = 0; i < b->n_tokens; i++)
        free(b->tokens[i].text);
    for (int i = 0; i < b->special.count; i++)
        free(b->special_tokens[i].text);
    added_set_free(&b->special);
    void *all[] = {b->special_tokens, b->bytes,      b->words, b->slots, b->symbols,
                   b->pairs,          b->pair_slots, b->heap,  b->grown, b->tokens,
                   b->token_slots,    b->merges,     b};
    split_free(&b->split);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}
