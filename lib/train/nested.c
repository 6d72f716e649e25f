/* Nested students: see nested.h. */
#include "nested.h"

#include <stdlib.h>

#include "../base/minmax.h"
#include "../base/rng.h"

struct member {
    const struct nested_model *of;
    struct model *model; /* own, or the student */
    struct model own;
    struct tape *tape;
    struct gather_params parts; /* in device memory */
};
struct nested {
    struct exec *x;
    struct model *student;
    struct member *members;
    int64_t n, largest;
    struct member *entered;
    struct arena arena; /* the fields below, and the parts of all members */
    float *weights, *grads;
    void *copies; /* bf16; NULL where the student has none */
};

static int is_whole(const struct member *m) { return !m->of->n_parts; }

static int64_t parts_bytes(const struct member *m)
{
    return (int64_t)arena_round((size_t)m->of->n_parts * sizeof *m->of->parts);
}

/* Values of the largest model that is not the student. */
static int64_t most_values(const struct nested *n)
{
    int64_t most = 0;
    for (int64_t i = 0; i < n->n; i++)
        if (!is_whole(&n->members[i]))
            most = max64(most, n->members[i].own.n_values);
    return most;
}

static int has_copies(const struct nested *n) { return n->x->compute != DT_F32; }

int64_t nested_model_bytes(const struct nested *n)
{
    size_t most = (size_t)most_values(n);
    size_t bytes = 2 * arena_round(most * sizeof(float)) + has_copies(n) * arena_round(most * 2);
    for (int64_t i = 0; i < n->n; i++)
        bytes += (size_t)parts_bytes(&n->members[i]);
    return (int64_t)bytes;
}

int64_t nested_tape_bytes(const struct nested *n)
{
    int64_t bytes = tape_working_bytes(n->members[n->largest].tape);
    for (int64_t i = 0; i < n->n; i++)
        bytes += tape_bytes(n->members[i].tape) - tape_working_bytes(n->members[i].tape);
    return bytes;
}

/* ---- planning and opening */

static int plan_member(struct nested *n, struct member *m, struct tape_spec spec, struct err *e)
{
    m->model = n->student;
    if (!is_whole(m)) {
        model_open_planned(&m->own, &m->of->spec);
        model_plan(&m->own, n->x);
        m->model = &m->own;
    }
    spec.model = m->model;
    m->tape = tape_record(n->x, &spec, e);
    return m->tape ? 0 : -1;
}

struct nested *nested_plan(struct exec *x, const struct nested_list *list, struct model *student,
                           const struct tape_spec *spec, struct err *e)
{
    struct nested *n = mem_alloc(sizeof *n);
    *n = (struct nested){.x = x, .student = student, .n = list->n};
    n->members = mem_alloc((size_t)n->n * sizeof *n->members);
    for (int64_t i = 0; i < n->n; i++)
        n->members[i].of = &list->models[i];
    for (int64_t i = 0; i < n->n; i++) {
        if (plan_member(n, &n->members[i], *spec, e)) {
            nested_close(n);
            return NULL;
        }
        if (tape_working_bytes(n->members[i].tape) >
            tape_working_bytes(n->members[n->largest].tape))
            n->largest = i;
    }
    return n;
}

static void open_parts(struct nested *n, struct member *m)
{
    size_t bytes = (size_t)m->of->n_parts * sizeof *m->of->parts;
    struct gather_part *there = arena_take(&n->arena, bytes);
    exec_put(n->x, there, m->of->parts, bytes);
    m->parts = (struct gather_params){.parts = there, .n_parts = m->of->n_parts};
    for (int64_t i = 0; i < m->of->n_parts; i++)
        m->parts.most = max64(m->parts.most, m->of->parts[i].rows * m->of->parts[i].cols);
    model_lend(m->model, n->weights, n->copies);
    model_lend_grads(m->model, n->grads);
}

int nested_open(struct nested *n, struct err *e)
{
    const struct tape *largest = n->members[n->largest].tape;
    size_t most = (size_t)most_values(n);
    if (exec_arena(n->x, &n->arena, (size_t)nested_model_bytes(n), e))
        return -1;
    n->weights = arena_take(&n->arena, most * sizeof *n->weights);
    n->grads = arena_take(&n->arena, most * sizeof *n->grads);
    n->copies = has_copies(n) ? arena_take(&n->arena, most * 2) : NULL;
    for (int64_t i = 0; i < n->n; i++)
        if (!is_whole(&n->members[i]))
            open_parts(n, &n->members[i]);
    if (tape_open(n->members[n->largest].tape, e))
        return -1;
    for (int64_t i = 0; i < n->n; i++)
        if (i != n->largest && tape_open_beside(n->members[i].tape, largest, e))
            return -1;
    return 0;
}

void nested_close(struct nested *n)
{
    for (int64_t i = 0; n && i < n->n; i++) {
        tape_close(n->members[i].tape);
        if (n->members[i].model == &n->members[i].own)
            model_free(&n->members[i].own);
    }
    if (n) {
        arena_close(&n->arena);
        free(n->members);
    }
    free(n);
}

/* ---- a step */

int64_t nested_draw(const struct nested *n, uint64_t seed, int64_t step)
{
    /* a stream of its own, apart from those of the data's order and of random weights */
    struct rng r = rng_open(seed, UINT64_MAX);
    r.counter = (uint64_t)step;
    double all = 0, at;
    int64_t i = 0;
    for (int64_t k = 0; k < n->n; k++)
        all += n->members[k].of->weight;
    at = rng_uniform(&r) * all;
    while (i < n->n - 1 && at >= n->members[i].of->weight)
        at -= n->members[i++].of->weight;
    return i;
}

/* The call between the student's values and those of a model, of one type. */
static struct op_args call_of(const struct nested *n, const struct member *m, enum dtype d)
{
    struct op_args c = {.x = n->x, .rows = 1, .p.gather = m->parts};
    c.in[0] = (struct operand){.dtype = d, .rows = 1, .cols = n->student->n_values};
    c.out = (struct operand){.dtype = d, .rows = 1, .cols = m->own.n_values};
    return c;
}

static void gather(const struct nested *n, const struct member *m, enum dtype d, void *from,
                   void *to)
{
    struct op_args c = call_of(n, m, d);
    c.in[0].v = from;
    c.out.v = to;
    op_forward(OP_gather, &c);
}

void nested_enter(struct nested *n, int64_t i)
{
    struct member *m = n->entered = &n->members[i];
    if (is_whole(m))
        return;
    gather(n, m, DT_F32, n->student->weights.base, n->weights);
    if (n->copies)
        gather(n, m, DT_BF16, n->student->copies.base, n->copies);
}

void nested_leave(struct nested *n)
{
    struct member *m = n->entered;
    if (is_whole(m))
        return;
    struct op_args c = call_of(n, m, DT_F32);
    c.in[0].g = (float *)n->student->grads.base;
    c.out.g = n->grads;
    exec_zero(n->x, c.in[0].g, (size_t)n->student->n_values * sizeof(float));
    op_backward(OP_gather, &c);
}

struct model *nested_model(const struct nested *n, int64_t i) { return n->members[i].model; }
struct tape *nested_tape(const struct nested *n, int64_t i) { return n->members[i].tape; }
int64_t nested_largest(const struct nested *n) { return n->largest; }
