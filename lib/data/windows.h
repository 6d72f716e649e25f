/* Tokens as windows, each with its own context: whole sequences, pieces of them, or pieces of all
 * sequences joined. A window of N tokens has N - 1 predictions: of the tokens at its positions
 * 1..N-1 (positions count from 0). */
#ifndef PARE_WINDOWS_H
#define PARE_WINDOWS_H

#include "batch.h"
#include "bos.h"

/* How windows are cut where published figures come from: see conventions.c, docs/evaluation.md. Of
 * the options below, all read `context`. */
enum convention {
    CONVENTION_NONE,
    CONVENTION_GPTQ,      /* context */
    CONVENTION_HF_STRIDE, /* stride */
    CONVENTION_HARNESS,   /* bos: the prefix of every document, at least one token */
    CONVENTION_LLAMA_CPP, /* score_from; bos: replaces the first token */
    CONVENTIONS
};
extern const char *const convention_names[CONVENTIONS];

struct window_options {
    enum convention convention;
    /* > 0: longer sequences are cut into pieces of that many tokens, the last one shorter; pieces
     * are never joined */
    int64_t seq_length;
    /* > 0: all sequences are joined and cut into windows of that many tokens; an incomplete last
     * one is dropped */
    int64_t context;
    /* > 0: windows start that far apart (<= context), and all but the first count only their last
     * `stride` tokens */
    int64_t stride;
    /* > 0: in every window only tokens at that position or later count */
    int64_t score_from;
    /* Put before every window that does not begin with it or with a whole sequence; counts towards
     * the window's length, and is never predicted. */
    struct row_bos bos;
};
struct windows {
    /* tokens: of the text, without added ones; longest: tokens of a window; bos_added: windows that
     * got a BOS; padding: tokens that are packed documents of their own, which are in neither
     * `tokens` nor `left_out` */
    int64_t n, longest, tokens, left_out, predictions, bos_added, padding;
    /* private */
    const struct tokens *from;
    struct window_options o;
    struct window *table; /* NULL: they are cut at regular places */
    int64_t each;         /* windows of a whole row */
};

/* The length that longer sequences are cut to. asked: by an option, 0: not given. Else it is that
 * of the stream's rows (0: documents), or 2048 tokens, but never more than the model's positions.
 */
int64_t window_length(int64_t asked, int64_t row, const struct model_spec *h);
/* The same of a stream; 0 if nobody asked and none is longer. */
int64_t window_length_of(const struct tokens *t, int64_t asked, const struct model_spec *h);
/* What to tell of windows of `length` tokens (0: uncut): that they go beyond the positions of the
 * model, or, where nobody asked for them, that sequences are cut. 0: nothing, text is left as it
 * is. */
int window_note(char text[200], int64_t length, int asked, const struct model_spec *h);

/* refuses options that contradict each other */
int window_options_check(const struct window_options *o, struct err *e);
/* Windows of rows that need no BOS, or of joined text without one, take no memory; others 32 bytes
 * each. The tokens are borrowed. Windows of which no prediction counts are left out. -1: nothing to
 * predict, or packed rows that would have to be joined or cut. */
int windows_open(struct windows *w, const struct tokens *t, const struct window_options *o,
                 struct err *e);
/* Window i, borrowing from w. */
struct data_row windows_row(const struct windows *w, int64_t i);
/* A batch of the `n` windows from `first` on: data_batch_fill of d->rows. */
int windows_fill(const struct windows *w, int64_t first, int64_t n, struct data_batch *d,
                 struct err *e);
/* Source bytes of the counted tokens; -1: unknown, or an error. */
int64_t windows_bytes(const struct windows *w, struct err *e);
/* The same of the `n` windows from `first` on. */
int64_t windows_part_bytes(const struct windows *w, int64_t first, int64_t n, struct err *e);
void windows_close(struct windows *w);

#endif
