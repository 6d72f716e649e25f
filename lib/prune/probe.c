/* Layer probes: see probe.h. A block is skipped by copying its input to where the next block
 * reads. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>

#include "../base/mem.h"
#include "../base/minmax.h"

struct run {
    struct probe *p;
    struct exec *exec;
    struct tape *tape;
    const struct batch *b;
    int64_t E;
    struct arena memory;
    void *x; /* [T, E], device memory: input of the current block */
    struct err *e;
};

static double loss_sum(const struct run *r)
{
    const double *losses = tape_losses(r->tape, 0);
    double sum = 0;
    for (int64_t t = 0; t < r->b->n_seq * r->b->seq_len; t++)
        sum += losses[t];
    return sum;
}

static size_t residual_bytes(const struct run *r)
{
    return (size_t)dtype_bytes(r->exec->compute, r->b->n_seq * r->b->seq_len * r->E);
}

static void keep_entry(void *user, const struct tapped *t)
{
    const struct run *r = user;
    const struct operand *v = t->values;
    exec_copy(t->x, (char *)r->x + dtype_bytes(v->dtype, t->first * t->b->seq_len * v->cols), v->v,
              (size_t)dtype_bytes(v->dtype, v->rows * v->cols));
}

static int probe_from(struct run *r, int64_t layer)
{
    struct probe *p = r->p;
    for (int64_t n = p->shortest; n <= p->longest && layer + n <= p->layers; n++) {
        exec_copy(r->exec, tape_boundary(r->tape, layer + n), r->x, residual_bytes(r));
        if (tape_forward_range(r->tape, r->b, layer + n, p->layers, r->e))
            return -1;
        p->without[(n - 1) * p->layers + layer] += loss_sum(r);
    }
    exec_copy(r->exec, tape_boundary(r->tape, layer), r->x, residual_bytes(r));
    if (tape_forward_range(r->tape, r->b, layer, layer + 1, r->e))
        return -1;
    exec_copy(r->exec, r->x, tape_boundary(r->tape, layer + 1), residual_bytes(r));
    return 0;
}

static int probe_batch(struct run *r)
{
    if (tape_forward(r->tape, r->b, r->e))
        return -1;
    r->p->base += loss_sum(r);
    if (!isfinite(r->p->base))
        return err_set(r->e, "the losses are not finite");
    for (int64_t l = 0; l < r->p->layers; l++)
        if (probe_from(r, l))
            return -1;
    return 0;
}

static void probe_means(struct probe *p)
{
    p->base /= (double)p->predictions;
    for (int64_t i = 0; i < p->longest * p->layers; i++)
        p->without[i] /= (double)p->predictions;
}

int probe_run(struct probe *p, struct exec *x, struct model *m, const struct windows *w,
              int64_t batch_size, probe_progress *progress, void *user, struct err *e)
{
    int64_t most = w->longest, n_rows = w->n;
    batch_size = min64(batch_size ? batch_size : max64(1, 1024 / most), n_rows);
    struct tape_spec spec = {.model = m,
                             .n_seq = batch_size,
                             .seq_len = most - 1,
                             .end = TAPE_LOSS,
                             .losses = {{.kind.set = LOSS_BIT(ce)}}};
    struct data_batch batch;
    struct run r = {.p = p,
                    .exec = x,
                    .tape = tape_record(x, &spec, e),
                    .b = &batch.b,
                    .E = m->spec.hidden_size,
                    .e = e};
    p->layers = m->spec.num_hidden_layers;
    p->without = mem_alloc((size_t)(p->longest * p->layers) * sizeof *p->without);
    data_batch_open(&batch, batch_size, most);
    if (r.tape && !tape_tap(r.tape, TAP_BLOCK_INPUT, 0, NULL, keep_entry, &r, e) &&
        !tape_open(r.tape, e) &&
        !exec_arena(x, &r.memory, (size_t)dtype_bytes(x->compute, batch_size * (most - 1) * r.E),
                    e)) {
        r.x = r.memory.base;
        for (int64_t done = 0; done < n_rows && !e->set; done += batch.b.n_seq) {
            if (windows_fill(w, done, min64(batch_size, n_rows - done), &batch, e))
                break;
            for (int64_t i = 0; i < batch.b.n_seq; i++)
                p->predictions += batch.rows[i].predictions;
            if (!probe_batch(&r) && progress)
                progress(user, done + batch.b.n_seq, n_rows);
        }
    }
    probe_means(p);
    tape_close(r.tape);
    data_batch_close(&batch);
    arena_close(&r.memory);
    return e->set ? -1 : 0;
}

void probe_scores(const struct probe *p, double *scores)
{
    int64_t n = p->shortest;
    for (int64_t l = 0; l < p->layers; l++) {
        scores[l] = INFINITY;
        for (int64_t i = l - n + 1 < 0 ? 0 : l - n + 1; i <= l && i + n <= p->layers; i++)
            scores[l] = fmin(scores[l], p->without[(n - 1) * p->layers + i] - p->base);
    }
}

void probe_close(struct probe *p)
{
    free(p->without);
    *p = (struct probe){0};
}
