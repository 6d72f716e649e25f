/* See batches.h. */
#include "batches.h"

#include <stdlib.h>

#include "../base/turns.h"
#include "tape_private.h"

static struct model *model_of(const struct batches *b) { return b->tape->spec.model; }
static int64_t last_section(const struct batches *b) { return model_of(b)->spec.num_hidden_layers; }

static int64_t states_bytes(const struct batches *b, const struct batch *x)
{
    int64_t values = x->n_seq * x->seq_len * model_of(b)->spec.hidden_size;
    return dtype_bytes(b->tape->x->compute, values);
}

int batches_plan(struct batches *b, struct err *e)
{
    if (!model_of(b)->sections)
        return 0;
    b->at = mem_alloc((size_t)(b->n + 1) * sizeof *b->at);
    for (int64_t i = 0; i < b->n; i++) {
        const struct batch *x = turn_is_mine(i) ? b->fill(b->user, i, e) : NULL;
        if (e->set)
            return -1;
        b->at[i + 1] = b->at[i] + (x ? states_bytes(b, x) : 0);
    }
    b->bytes = (1 + b->earlier) * b->at[b->n];
    return 0;
}

static void tell(const struct batches *b, int64_t done, int64_t of)
{
    if (b->progress)
        b->progress(b->user, done, of);
}

/* ---- states of a batch */

/* Where those are that enter a section. */
static int64_t states_at(const struct batches *b, int64_t i, int64_t section)
{
    return b->at[i] + section % (1 + b->earlier) * b->at[b->n];
}

static int64_t states_size(const struct batches *b, int64_t i) { return b->at[i + 1] - b->at[i]; }

const void *batches_states(struct batches *b, int64_t i, int64_t section, struct err *e)
{
    return spill_get(&b->states, states_at(b, i, section), states_size(b, i), e);
}

static int states_put(struct batches *b, int64_t i, int64_t section, struct err *e)
{
    int64_t n = states_size(b, i);
    const void *from = exec_view(b->tape->x, &b->host, tape_boundary(b->tape, section), (size_t)n);
    return spill_put(&b->states, states_at(b, i, section), from, n, e);
}

static int states_get(struct batches *b, int64_t i, int64_t section, struct err *e)
{
    const void *from = batches_states(b, i, section, e);
    if (from)
        exec_put(b->tape->x, tape_boundary(b->tape, section), from, (size_t)states_size(b, i));
    return from ? 0 : -1;
}

/* ---- running */

static int leave(const struct batches *b, int64_t i, int64_t from, int64_t to, struct err *e)
{
    return b->left ? b->left(b->user, i, from, to, e) : 0;
}

static int run_batch(const struct batches *b, int64_t i, struct err *e)
{
    if (!turn_is_mine(i))
        return leave(b, i, SECTION_START, last_section(b), e);
    const struct batch *x = b->fill(b->user, i, e);
    return x && !tape_forward(b->tape, x, e)
               ? b->done(b->user, i, SECTION_START, last_section(b), e)
               : -1;
}

static int run_whole(struct batches *b, struct err *e)
{
    tell(b, 0, b->n);
    for (int64_t i = 0; i < b->n; i++) {
        if (run_batch(b, i, e))
            return -1;
        tell(b, i + 1, b->n);
    }
    return 0;
}

static int run_section(struct batches *b, int64_t i, int64_t section, struct err *e)
{
    int64_t L = last_section(b), from = section < 0 ? 0 : section,
            to = section < L ? section + 1 : L;
    if (!turn_is_mine(i))
        return leave(b, i, section, section, e);
    const struct batch *x = b->fill(b->user, i, e);
    if (!x || (section >= 0 && states_get(b, i, section, e)) ||
        tape_forward_range(b->tape, x, from, to, e) || b->done(b->user, i, section, section, e))
        return -1;
    return section < L ? states_put(b, i, section + 1, e) : 0;
}

static int run_sections(struct batches *b, struct err *e)
{
    int64_t L = last_section(b);
    if (spill_open(&b->states, b->bytes, b->in_file, e))
        return -1;
    tell(b, 0, L + 2);
    for (int64_t section = SECTION_START; section <= L; section++) {
        if (model_section_read(model_of(b), section, e))
            return -1;
        for (int64_t i = 0; i < b->n; i++)
            if (run_section(b, i, section, e))
                return -1;
        tell(b, section + 2, L + 2);
    }
    return 0;
}

int batches_run(struct batches *b, struct err *e)
{
    return model_of(b)->sections ? run_sections(b, e) : run_whole(b, e);
}

void batches_close(struct batches *b)
{
    spill_close(&b->states);
    free(b->at);
    free(b->host);
}
