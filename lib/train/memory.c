/* The memory a step takes, and whether it fits the device: see step.h. */
#include "step.h"

#include <stdio.h>

int64_t train_activation_bytes(const struct trainer *t)
{
    return t->nested ? nested_tape_bytes(t->nested) : tape_bytes(t->tape);
}
int64_t train_bytes(const struct trainer *t)
{
    return t->moved_bytes + t->state_bytes + train_activation_bytes(t);
}

/* What the activations of such a step would take; INT64_MAX if it cannot be. */
static int64_t bytes_of(const struct trainer *t, const struct tape_spec *spec)
{
    struct err e = {0};
    struct trainer other = *t;
    if (t->nested)
        other.nested = nested_plan(t->x, &t->o.nested, t->student, spec, &e);
    else
        other.tape = tape_record(t->x, spec, &e);
    int64_t bytes = e.set ? INT64_MAX : train_activation_bytes(&other);
    if (t->nested)
        nested_close(other.nested);
    else
        tape_close(other.tape);
    return bytes;
}

static double gigabytes(int64_t bytes) { return 1e-9 * (double)bytes; }

/* The largest batch, by halving, whose activations take at most `room` bytes: its sequences and
 * bytes; 0: none. */
static int64_t batch_that_fits(const struct trainer *t, struct tape_spec spec, int64_t room,
                               int64_t *bytes)
{
    *bytes = 0;
    for (; spec.n_seq > 0; spec.n_seq /= 2) {
        *bytes = bytes_of(t, &spec);
        if (*bytes <= room)
            break;
    }
    return spec.n_seq;
}

/* "; with --recompute and --batch-size 4 it would be 12.30 GB" */
static int64_t advise(const struct trainer *t, struct tape_spec spec, int recompute, int64_t room,
                      int64_t others, char *advice, size_t size)
{
    int64_t bytes, n;
    int added = recompute && !spec.recompute;
    spec.recompute = recompute;
    n = batch_that_fits(t, spec, room, &bytes);
    char batch[100] = "";
    if (n && n < spec.n_seq)
        snprintf(batch, sizeof batch,
                 "%s--batch-size %lld (and more --gradient-accumulation-steps)",
                 added ? " and " : "", (long long)n);
    if (n)
        snprintf(advice, size, "; with %s%s it would need %.2f GB", added ? "--recompute" : "",
                 batch, gigabytes(others + bytes));
    return n;
}

static const char *last_resort(int64_t room)
{
    return room < 0
               ? "; no option makes it fit: use a smaller student or teacher, or a larger device"
               : "; not even --recompute with --batch-size 1 fits: use shorter sequences, or a "
                 "smaller student or teacher";
}

int train_check_memory(const struct trainer *t, const struct tape_spec *spec, struct err *e)
{
    int64_t n = t->student->n_values, teacher = t->teacher ? t->moved_bytes - t->student_bytes : 0,
            others = train_bytes(t) - train_activation_bytes(t);
    int64_t available = exec_available(t->x), room = available - others;
    char lean[200] = "", less[200] = "";
    if (train_bytes(t) <= available)
        return 0;
    int64_t fits = advise(t, *spec, 1, room, others, lean, sizeof lean);
    if (!spec->recompute)
        fits |= advise(t, *spec, 0, room, others, less, sizeof less);
    return err_set(e,
                   "a step needs %.2f GB (weights, gradients and moments of the student's %.2f "
                   "billion parameters %.2f, teacher %.2f, activations of %lld x %lld tokens "
                   "%.2f), but the device has %.2f GB left%s%s%s",
                   gigabytes(train_bytes(t)), gigabytes(n), gigabytes(others - teacher),
                   gigabytes(teacher), (long long)spec->n_seq, (long long)spec->seq_len,
                   gigabytes(train_activation_bytes(t)), gigabytes(available), lean, less,
                   fits ? "" : last_resort(room));
}
