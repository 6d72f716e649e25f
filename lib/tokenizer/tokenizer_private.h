/* Shared by the files of the tokenizer. The stages of a text:
 *   added tokens cut out (added.c) -> normalizers (normalize.c) -> added tokens again, those that
 * stand in normalised text
 *   -> splits (split.c) -> merges of one piece (bpe.c) -> ids. */
#ifndef PARE_TOKENIZER_PARTS_H
#define PARE_TOKENIZER_PARTS_H

#include <jansson.h>
#include <stdio.h>

#include "../../formats/json_scan.h"
#include "buffer.h"

/* ---- the byte-level alphabet (GPT-2): byte <-> character, so that every byte is printable */
uint32_t byte_to_point(unsigned char byte); /* 0x21 -> U+0021, 0x20 -> U+0120 */
int point_to_byte(uint32_t point);          /* -1: not in the alphabet */

/* ---- vocabulary and merges */
struct bpe;
struct bpe_flags {
    int byte_fallback, fuse_unk, ignore_merges, byte_level;
};
struct bpe *bpe_open(void);
void bpe_close(struct bpe *b);
/* {"text": id, ...} */
int bpe_read_vocab(struct bpe *b, const char *json, int64_t n, struct err *e);
/* ["a b", ...] or [["a", "b"], ...]; after the vocabulary */
int bpe_read_merges(struct bpe *b, const char *json, int64_t n, struct err *e);
/* after both; unk NULL: none */
int bpe_configure(struct bpe *b, struct bpe_flags flags, const char *unk, struct err *e);
/* largest id + 1 */
int64_t bpe_size(const struct bpe *b);
/* id of a token's text, -1 */
int64_t bpe_find(const struct bpe *b, const char *s, int64_t n);
/* NULL: no such token */
const char *bpe_text(const struct bpe *b, uint32_t id, int64_t *n);
/* Appends the ids of one piece; what the vocabulary cannot express is dropped. */
int bpe_encode(struct bpe *b, struct text piece, struct ids *out, struct err *e);
/* The two tokens that the last merge joins when a token's own text is encoded; 0: merges do not
 * make it, because it is a single symbol or cannot be reached. */
int bpe_parents(struct bpe *b, uint32_t id, uint32_t pair[2]);
/* Must the token stay in every vocabulary cut from this one? Those of single bytes, the unknown
 * token, and U+2581 where it stands for a space. */
int bpe_stays(const struct bpe *b, uint32_t id);
/* Can a vocabulary cut from this one still express every text: is it of bytes, or does it fall back
 * to bytes? */
int bpe_has_bytes(const struct bpe *b);
/* "vocab" and "merges" of a tokenizer.json, as read, with only the kept tokens: id_of[id] is the
 * new id, -1: lost. */
int bpe_write_vocab(FILE *f, const char *json, int64_t n, const int64_t *id_of, struct err *e);
int bpe_write_merges(const struct bpe *b, FILE *f, const char *json, int64_t n,
                     const int64_t *id_of, struct err *e);

/* ---- the other model: tokens with scores (unigram.c); texts and ids are in a bpe without merges
 */
struct unigram;
/* json: [["text", score], ...]; unk: id of the unknown token, -1 none. NULL on error. */
struct unigram *unigram_open(struct bpe *b, const char *json, int64_t n, int64_t unk,
                             struct err *e);
void unigram_close(struct unigram *u);
/* as bpe_encode */
int unigram_encode(struct unigram *u, const struct bpe *b, struct text piece, struct ids *out,
                   struct err *e);
int64_t unigram_unk(const struct unigram *u); /* -1: none */
/* Must the token stay in every cut? The unknown one, and one with the lowest score, on which that
 * of unknown characters depends. */
int unigram_stays(const struct unigram *u, uint32_t id);
/* Does every token have a text, and none that of another? */
int unigram_is_unambiguous(const struct unigram *u, const struct bpe *b);
/* Encodes from now on without the tokens of lost[bpe_size]; NULL: with all of them. */
void unigram_lose(struct unigram *u, const uint8_t *lost);
/* as bpe_write_vocab; an entry's place is its id, so the new ids must be in the old order */
int unigram_write_vocab(FILE *f, const char *json, int64_t n, const int64_t *id_of, struct err *e);

/* ---- added tokens */
struct added_token {
    char *text;
    int64_t n;
    uint32_t id;
    int order; /* of several with one text, the lowest counts: special ones first, as listed */
    int special, lstrip, rstrip, single_word, normalized;
};
struct added_set {
    struct added_token **tokens;
    int count;
    int64_t longest;          /* bytes */
    char is_last[256];        /* some token ends with this byte */
    struct added_node *nodes; /* added_index.c */
    /* for the places [from, to) of a text: the longest token that begins there, -1 none */
    int32_t *found;
    int64_t from, to, room;
};
/* including white space taken by lstrip and rstrip */
struct added_match {
    int64_t start, end;
    const struct added_token *token;
};
/* after tokens and count are set; refuses tokens of very many bytes together */
int added_set_index(struct added_set *set, struct err *e);
void added_set_free(struct added_set *set); /* tokens themselves stay */
void added_begin(struct added_set *set);    /* another text */
/* The longest token that begins at the first place from *at on where one does, which *at becomes;
 * NULL: none. Places never go back. */
const struct added_token *added_next(struct added_set *set, struct text t, int64_t *at);
/* 1: the next match at or after *at, which moves past the token itself; text before `from` is
 * already consumed. 0: none. */
int added_find(struct added_set *set, struct text t, int64_t *at, int64_t from,
               struct added_match *m);

/* ---- patterns */
struct pattern;
/* how a pattern is written: as in tokenizer.json, as text to be found, as PCRE2 has it */
enum pattern_syntax { PATTERN_ONIGURUMA, PATTERN_LITERAL, PATTERN_PCRE2 };
/* NULL on error */
struct pattern *pattern_open(const char *text, enum pattern_syntax syntax, struct err *e);
void pattern_close(struct pattern *p);
int pattern_may_be_empty(const struct pattern *p); /* may a match? */
/* The first match [match[0], match[1]) that begins at or after `at` in the UTF-8 s[0, n): 1, 0
 * none, -1 error. *seconds: what searches for long or difficult matches may still take; less than 0
 * is an error. */
int pattern_find(const struct pattern *p, const char *s, int64_t n, int64_t at, int64_t match[2],
                 double *seconds, struct err *e);
/* What wide searches may take by all texts together, and for each byte of text. */
#define PATTERN_SECONDS 0.3
#define PATTERN_SECONDS_PER_BYTE 1e-6
/* Translates a pattern of tokenizer.json (Oniguruma's syntax) into PCRE2's, with the same meaning;
 * NULL: refused, the error names the construct. free() it. */
char *split_pattern_translate(const char *pattern, struct err *e);
/* For PCRE2: an allocator that ends the process when out of memory, so that PCRE2 never returns
 * NULL for want of it. Lives as long as the process. */
struct pcre2_real_general_context_8 *pattern_memory(void);

/* ---- normalizers */
enum norm_kind {
    NORM_PREPEND,
    NORM_REPLACE,
    NORM_PATTERN,
    NORM_STRIP,
    NORM_LOWER,
    NORM_NMT,
    NORM_NFC,
    NORM_NFD,
    NORM_NFKC,
    NORM_NFKD
};
struct norm_step {
    enum norm_kind kind;
    char *from, *to; /* prepend: to */
    struct pattern *pattern;
    int left, right; /* what is stripped */
};
struct norm {
    struct norm_step *steps;
    int count;
    struct buffer work[2];
    double seconds; /* that wide searches of patterns may still take */
};
int norm_read(struct norm *n, const json_t *spec, struct err *e);
/* *t then points into n->work, valid until the next call */
int norm_apply(struct norm *n, struct text *t, struct err *e);
void norm_free(struct norm *n);
/* Appends the text in one of Unicode's four forms. */
void form_apply(struct buffer *out, struct text t, enum norm_kind form);

/* ---- splits */
struct split;
struct split_list {
    struct split *steps;
    int count;
    int byte_level;
    int64_t left;   /* bytes that may still be inserted into the current text */
    double seconds; /* that wide searches of patterns may still take */
};
int split_read(struct split_list *l, const json_t *spec, struct err *e);
typedef int split_use(void *context, struct text piece, struct err *e);
/* calls `use` for every non-empty piece */
int split_apply(struct split_list *l, struct text t, split_use *use, void *context, struct err *e);
void split_free(struct split_list *l);
/* ---- reading tokenizer.json (json.c) */
struct tokenizer {
    struct bpe *bpe;
    struct unigram *unigram;   /* NULL: the model is BPE */
    struct added_token *added; /* by id */
    int n_added;
    struct added_set raw, normal; /* matched in the original text, and after the normalizers */
    struct norm norm;
    struct split_list split;
    struct decoder *decoder;
    /* what the post-processor puts before and after */
    struct {
        uint32_t ids[SPECIAL_MAX];
        int n;
    } special[2];
    int64_t size, dropped;
};
int tokenizer_read(struct tokenizer *t, const char *json, int64_t n, struct err *e);
/* The members of a tokenizer.json and of its model, where they are. */
enum { T_MODEL, T_ADDED, T_NORM, T_SPLIT, T_POST, T_DECODER, T_PADDING, T_COUNT };
enum {
    M_TYPE,
    M_DROPOUT,
    M_UNK,
    M_UNK_ID,
    M_PREFIX,
    M_SUFFIX,
    M_FUSE,
    M_FALLBACK,
    M_IGNORE,
    M_VOCAB,
    M_MERGES,
    M_COUNT
};
struct tokenizer_members {
    struct json_range top[T_COUNT], model[M_COUNT];
};
int tokenizer_locate(struct tokenizer_members *m, const char *json, int64_t n, struct err *e);
/* A member as a JSON value; NULL if absent or null, or on error. */
json_t *tokenizer_member(const struct tokenizer_members *m, int which, struct err *e);
/* NULL: none with that id */
const struct added_token *added_by_id(const struct tokenizer *t, uint32_t id);

/* ---- decoders */
struct decoder;
struct decoder *decoder_read(const json_t *spec, struct err *e); /* NULL on error */
void decoder_free(struct decoder *d);
/* tokens: n texts, lengths; result as tokenizer_decode. */
struct piece {
    const char *s;
    int64_t n;
};
char *decoder_apply(const struct decoder *d, const struct piece *tokens, int64_t count, int64_t *n);

#endif
