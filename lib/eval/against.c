/* See against.h. The logits of a batch exist at once, those of all tokens never do. */
#include "against.h"

#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"

enum { LOGITS_BYTES = 256 << 20 };

struct against {
    struct exec *x;
    struct teacher from;
    struct tape *student, *teacher; /* teacher: NULL where its logits are given */
    struct comparison compare;
    struct arena arena; /* given logits of a batch, f32 */
    int64_t rows, bytes;
    struct against *beside; /* whose teacher and comparison these are; NULL: its own */
};

int64_t against_batch_size(const struct model_spec *h, int64_t n, int64_t most)
{
    return max64(1, min64(most, LOGITS_BYTES / 4 / max64(1, n * h->vocab_size)));
}

static int64_t given_bytes(const struct against *a)
{
    return a->from.logits ? a->rows * logits_row_bytes(&a->from.logits->spec) : 0;
}

static struct tape *tape_of(struct against *a, struct model *m, int64_t n_seq, int64_t n,
                            struct err *e)
{
    struct tape_spec spec = {.model = m, .n_seq = n_seq, .seq_len = n - 1, .end = TAPE_LOGITS};
    return tape_record(a->x, &spec, e);
}

/* In memory of its own, or that of another student. */
static int open_student(struct against *a, struct model *m, int64_t n_seq, int64_t n, struct err *e)
{
    if (!(a->student = tape_of(a, m, n_seq, n, e)))
        return -1;
    int64_t working = tape_working_bytes(a->student);
    int fits = a->beside && working <= tape_working_bytes(a->beside->student);
    a->bytes += tape_bytes(a->student) - (fits ? working : 0);
    return tape_open_beside(a->student, fits ? a->beside->student : NULL, e);
}

static int open_teacher(struct against *a, int64_t n_seq, int64_t n, struct err *e)
{
    if (a->beside)
        return 0;
    if (a->from.model &&
        (!(a->teacher = tape_of(a, a->from.model, n_seq, n, e)) || tape_open(a->teacher, e)))
        return -1;
    if (a->from.logits && exec_arena(a->x, &a->arena, (size_t)given_bytes(a), e))
        return -1;
    a->bytes += (a->teacher ? tape_bytes(a->teacher) : 0) + given_bytes(a) +
                comparison_bytes(a->rows);
    return comparison_open(&a->compare, a->x, a->rows, e);
}

static int is_same_teacher(const struct against *a, const struct against *other)
{
    return other && !other->beside && a->rows <= other->rows &&
           a->from.model == other->from.model && a->from.logits == other->from.logits;
}

struct against *against_open(struct exec *x, struct model *m, const struct teacher *t,
                             int64_t n_seq, int64_t n, struct against *beside, struct err *e)
{
    struct against *a = mem_alloc(sizeof *a);
    *a = (struct against){.x = x, .from = *t, .rows = n_seq * (n - 1)};
    a->beside = is_same_teacher(a, beside) ? beside : NULL;
    if (open_student(a, m, n_seq, n, e) || open_teacher(a, n_seq, n, e)) {
        against_close(a);
        return NULL;
    }
    return a;
}

int64_t against_bytes(const struct against *a) { return a->bytes; }

/* Puts the given logits of each window where its tokens are in the batch. */
static int given_put(const struct against *a, const struct data_batch *d, struct err *e)
{
    int64_t row = logits_row_bytes(&a->from.logits->spec);
    for (int64_t i = 0; i < d->b.n_seq; i++) {
        const struct data_row *r = &d->rows[i];
        const void *z = logits_read(a->from.logits, r->window, r->n, e);
        if (!z)
            return -1;
        exec_put(a->x, (char *)a->arena.base + i * d->b.seq_len * row, z,
                 (size_t)((r->n - 1) * row));
    }
    return 0;
}

static int teacher_run(const struct against *a, const struct data_batch *d, struct operand *z,
                       struct err *e)
{
    int64_t rows = d->b.n_seq * d->b.seq_len;
    if (a->teacher) {
        if (tape_forward(a->teacher, &d->b, e))
            return -1;
        *z = tape_logits_there(a->teacher, rows);
        return 0;
    }
    *z = (struct operand){
        .v = a->arena.base, .dtype = DT_F32, .rows = rows, .cols = a->from.logits->spec.vocab_size};
    return given_put(a, d, e);
}

struct tape *against_tape(struct against *a) { return a->student; }

const double *against_compare(struct against *a, const struct data_batch *d, struct err *e)
{
    struct operand student, teacher;
    int64_t rows = d->b.n_seq * d->b.seq_len;
    struct against *own = a->beside ? a->beside : a;
    if (teacher_run(own, d, &teacher, e))
        return NULL;
    student = tape_logits_there(a->student, rows);
    const double *values = comparison_run(&own->compare, &student, &teacher, d->b.labels, rows);
    if (a->x->err.set)
        err_set(e, "%s", a->x->err.msg);
    return e->set ? NULL : values;
}

void against_close(struct against *a)
{
    if (!a)
        return;
    tape_close(a->student);
    tape_close(a->teacher);
    comparison_close(&a->compare);
    arena_close(&a->arena);
    free(a);
}
