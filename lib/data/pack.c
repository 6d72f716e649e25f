/* Packing: see pack.h. Best fit decreasing in windows: of WINDOW pieces, the longest first, each
 * goes to the row with the least room for it. Rows are then numbered as their first documents
 * follow each other. */
#include "pack.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "records.h"

enum { WINDOW = 1024, PADDING_ID = 0 };

/* `front` ids of a BOS, and then tokens `at` to at + text - 1. */
struct piece {
    int64_t at, text, front;
    int row; /* of the window, in the order in which they were opened */
};
struct row {
    int64_t room, place; /* place: in the result, -1: none yet */
};
struct packing {
    const struct ids *text;
    const struct row_bos *bos;
    int64_t N;
    struct piece window[WINDOW], *order[WINDOW]; /* order: longest first */
    int n;                                       /* pieces in the window */
    struct ids to;                               /* rows so far */
    struct packed result;
};

static int64_t piece_tokens(const struct piece *p) { return p->front + p->text; }

/* Longest first, then as in the text. */
static int by_tokens(const void *a, const void *b)
{
    const struct piece *x = *(const struct piece *const *)a, *y = *(const struct piece *const *)b;
    int64_t m = piece_tokens(x), n = piece_tokens(y);
    return m != n ? (m < n) - (m > n) : (x > y) - (x < y);
}

/* The row with the least room for n tokens; n_rows: none has it. */
static int tightest(const struct row *rows, int n_rows, int64_t n)
{
    int best = n_rows;
    for (int i = 0; i < n_rows; i++)
        if (rows[i].room >= n && (best == n_rows || rows[i].room < rows[best].room))
            best = i;
    return best;
}

/* Assigns the window's pieces to rows. */
static void pieces_fit(struct packing *p, struct row *rows)
{
    int n_rows = 0;
    for (int i = 0; i < p->n; i++)
        p->order[i] = &p->window[i];
    qsort(p->order, (size_t)p->n, sizeof *p->order, by_tokens);
    for (int i = 0; i < p->n; i++) {
        int64_t n = piece_tokens(p->order[i]);
        int r = tightest(rows, n_rows, n);
        if (r == n_rows)
            rows[n_rows++] = (struct row){p->N, -1};
        rows[r].room -= n;
        p->order[i]->row = r;
    }
}

static void row_add(struct packing *p)
{
    for (int64_t i = 0; i < p->N; i++) {
        ids_push(&p->to, PADDING_ID, 0);
        p->to.flags[p->to.n - 1] = TOKEN_BEGINS;
    }
    p->result.rows++;
    p->result.padding += p->N;
}

static void piece_put(struct packing *p, const struct piece *piece, int64_t place)
{
    struct ids *to = &p->to;
    int64_t first = place;
    for (int64_t i = 0; i < piece->front; i++, place++) {
        to->id[place] = p->bos->ids[i];
        to->flags[place] = i ? TOKEN_UNCOUNTED : 0;
    }
    for (int64_t i = piece->at; i < piece->at + piece->text; i++, place++) {
        to->id[place] = p->text->id[i];
        to->bytes[place] = p->text->bytes[i];
        to->flags[place] = p->text->flags[i];
    }
    to->flags[first] |= TOKEN_BEGINS;
    p->result.padding -= place - first;
}

static void window_put(struct packing *p)
{
    struct row rows[WINDOW];
    pieces_fit(p, rows);
    for (int i = 0; i < p->n; i++) {
        struct row *r = &rows[p->window[i].row];
        if (r->place < 0) {
            r->place = p->to.n;
            row_add(p);
        }
        piece_put(p, &p->window[i], r->place);
        r->place += piece_tokens(&p->window[i]);
    }
    p->n = 0;
}

static void document_add(struct packing *p, int64_t at, int64_t end)
{
    const struct ids *text = p->text;
    for (int64_t start = at; at < end;) {
        int whole = at == start || row_bos_present(p->bos, text->id + at, text->n - at);
        int64_t front = whole ? 0 : p->bos->n, n = min64(p->N - front, end - at);
        if (p->n == WINDOW)
            window_put(p);
        p->window[p->n++] = (struct piece){.at = at, .text = n, .front = front};
        at += n;
    }
}

struct packed pack_documents(struct ids *text, const int64_t *ends, int64_t documents, int64_t N,
                             const struct row_bos *bos)
{
    struct packing *p = mem_alloc(sizeof *p);
    p->text = text;
    p->bos = bos;
    p->N = N;
    for (int64_t i = 0, at = 0; i < documents && at < text->n; at = ends[i++])
        document_add(p, at, min64(ends[i], text->n));
    window_put(p);
    struct packed result = p->result;
    ids_free(text);
    *text = p->to;
    free(p);
    return result;
}
