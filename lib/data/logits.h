/* Streams of what a model predicts for a text (kind "logits", SPEC.md): at every token of the
 * windows that a token stream is cut into, all logits, the largest probabilities, or tokens drawn
 * from the distribution. Record `logits.I` belongs to window I (windows.h); row t of it is what
 * follows token t. */
#ifndef PARE_LOGITS_H
#define PARE_LOGITS_H

#include "windows.h"

/* FULL: f32 [tokens, V]. The others are u8 [tokens, bytes]; ids take as few bytes as the vocabulary
 * allows, the lowest first:
 *
 * TOP: the ids of the n largest, ascending; the natural logarithms of their probabilities, f16;
 * with `tail` that of the mass of all others, f16. SAMPLE: n ids drawn with replacement, ascending:
 * an id that was drawn twice stands there twice. */
enum logits_form { LOGITS_FULL, LOGITS_TOP, LOGITS_SAMPLE };
enum { LOGITS_MOST = 4096 }; /* entries of a token */

struct logits_spec {
    enum logits_form form;
    int64_t n; /* entries; FULL: 0 */
    int tail;
    double temperature; /* of the probabilities; FULL: 1 */
    int64_t seed;       /* of SAMPLE */
    int64_t vocab_size;
    char model[ST_DIGEST], tokenizer[ST_DIGEST], tokens[ST_DIGEST]; /* ids */
    /* how the windows were cut, and which of them the stream has */
    int64_t seq_length; /* 0: whole sequences */
    struct row_bos bos;
    int64_t first, count;
};
/* what it is called in messages: "sampled logits", ... */
const char *logits_form_name(const struct logits_spec *s);
/* of a row */
int64_t logits_row_bytes(const struct logits_spec *s);
struct tensor logits_record(const struct logits_spec *s, int64_t window, int64_t tokens);

/* Entries of the header. New reference */
json_t *logits_meta(const struct logits_spec *s);
/* -1, naming path and entry: a damaged header */
int logits_meta_read(struct logits_spec *s, const json_t *head, const char *path, struct err *e);

/* -1: not the record of that window */
int logits_record_check(const struct logits_spec *s, int64_t window, const struct tensor *t,
                        const char *path, struct err *e);

/* Joins the shards of a stream, in their order, in constant memory: the entries of the header (new
 * reference), then the records. any_model: they may come from several models, and the header names
 * the first. NULL, -1: streams that differ, gaps, records that are missing. */
json_t *logits_join_meta(struct st_in *const *in, int n, int any_model, struct err *e);
int logits_join(struct st_out *out, struct st_in *const *in, int n, struct err *e);

/* The numbers of [0,1), ascending, by which pick (kernels/ops.def) draws a token's n entries: they
 * depend on the seed and where the token is, on nothing else. */
void logits_uniform(const struct logits_spec *s, int64_t window, int64_t token, double *u);
/* A row from the listing that pick has made. TOP, SAMPLE */
void logits_pack(const struct logits_spec *s, const struct loss_listing *l, unsigned char *row);
/* What op loss reads of a token (loss_token_bytes), from a row. Of TOP it is a listing for any of
 * its forms. -1: ids that are not ascending or beyond the vocabulary, probabilities above 1, by
 * themselves or together, what is no number. */
int logits_unpack(const struct logits_spec *s, const unsigned char *row, void *token_data);

#endif
