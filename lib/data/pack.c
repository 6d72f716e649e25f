/* Packing: see pack.h. Best fit with a bounded number of open rows: if a piece fits into none of
 * them, the fullest is closed, and a new one opened. */
#include "pack.h"

#include "../base/mem.h"
#include "../base/minmax.h"
#include "records.h"

enum { OPEN = 64, PADDING_ID = 0 };

/* `front` ids of a BOS and then tokens `at` to at + text - 1, in row `row` from `place` on. */
struct piece {
    int64_t at, text, front, row, place;
};
struct open_row {
    int64_t row, room;
};
struct packing {
    int64_t N;
    struct open_row open[OPEN];
    int n_open;
    int64_t rows;
    struct piece *pieces;
    int64_t n, most; /* pieces, and room for them */
};

/* The open row with the least room for n tokens; with n = 0, the fullest. */
static struct open_row *tightest(struct packing *p, int64_t n)
{
    struct open_row *best = NULL;
    for (int i = 0; i < p->n_open; i++)
        if (p->open[i].room >= n && (!best || p->open[i].room < best->room))
            best = &p->open[i];
    return best;
}

static struct open_row *row_open(struct packing *p)
{
    struct open_row *r = p->n_open < OPEN ? &p->open[p->n_open++] : tightest(p, 0);
    *r = (struct open_row){p->rows++, p->N};
    return r;
}

static void piece_add(struct packing *p, struct piece piece)
{
    int64_t n = piece.front + piece.text;
    struct open_row *r = tightest(p, n);
    if (!r)
        r = row_open(p);
    piece.row = r->row;
    piece.place = p->N - r->room;
    r->room -= n;
    if (p->n == p->most)
        p->pieces = mem_grow(p->pieces, (size_t)(p->most = 2 * p->n + 64) * sizeof *p->pieces);
    p->pieces[p->n++] = piece;
}

static void document_add(struct packing *p, const struct ids *text, int64_t at, int64_t end,
                         const struct row_bos *bos)
{
    for (int64_t start = at; at < end;) {
        int whole = at == start || row_bos_present(bos, text->id + at, text->n - at);
        int64_t front = whole ? 0 : bos->n, n = min64(p->N - front, end - at);
        piece_add(p, (struct piece){.at = at, .text = n, .front = front});
        at += n;
    }
}

static void piece_put(const struct packing *p, const struct piece *piece, const struct ids *text,
                      const struct row_bos *bos, struct ids *to)
{
    int64_t first = piece->row * p->N + piece->place, place = first;
    for (int64_t i = 0; i < piece->front; i++, place++) {
        to->id[place] = bos->ids[i];
        to->flags[place] = i ? TOKEN_UNCOUNTED : 0;
    }
    for (int64_t i = piece->at; i < piece->at + piece->text; i++, place++) {
        to->id[place] = text->id[i];
        to->bytes[place] = text->bytes[i];
        to->flags[place] = text->flags[i];
    }
    to->flags[first] |= TOKEN_BEGINS;
}

struct packed pack_documents(struct ids *text, const int64_t *ends, int64_t documents, int64_t N,
                             const struct row_bos *bos)
{
    struct packing p = {.N = N};
    struct ids to = {0};
    for (int64_t i = 0, at = 0; i < documents && at < text->n; at = ends[i++])
        document_add(&p, text, at, min64(ends[i], text->n), bos);
    for (int64_t i = 0; i < p.rows * N; i++) {
        ids_push(&to, PADDING_ID, 0);
        to.flags[i] = TOKEN_BEGINS;
    }
    struct packed result = {p.rows, to.n};
    for (int64_t i = 0; i < p.n; i++) {
        piece_put(&p, &p.pieces[i], text, bos, &to);
        result.padding -= p.pieces[i].front + p.pieces[i].text;
    }
    free(p.pieces);
    ids_free(text);
    *text = to;
    return result;
}
