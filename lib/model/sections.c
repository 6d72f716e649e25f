/* Reading a model section by section: see sections.h. */
#include "sections.h"

#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "model.h"

/* values read at once; a multiple of Q8_BLOCK */
enum { PIECE = 1 << 18 };

struct model_sections {
    struct model_in *in;
    struct exec *x;
    int next;    /* tensor */
    size_t held; /* bytes of those that stay to the end */
};

/* ---- which tensors */

int64_t model_section_of(const struct model_spec *h, int i, int64_t before)
{
    int64_t layer;
    model_spec_axes(h, i, &layer);
    if (layer >= 0)
        return layer;
    return before < 0 ? SECTION_START : h->num_hidden_layers;
}

static int stays(const struct model_spec *h, int64_t section)
{
    return section == SECTION_START && h->tie_word_embeddings;
}

/* What the sections take at most; *held: of that, what stays to the end. */
static int64_t most_bytes(const struct model *m, size_t *held)
{
    int64_t most = 0, bytes = 0, section = SECTION_START;
    *held = 0;
    for (int i = 0; i < m->spec.n_tensors; i++) {
        int64_t own = model_section_of(&m->spec, i, section),
                size = (int64_t)arena_round((size_t)model_param_bytes(m, i));
        bytes = own == section ? bytes + size : size;
        section = own;
        if (stays(&m->spec, section))
            *held += (size_t)size;
        else
            most = max64(most, bytes);
    }
    return most + (int64_t)*held;
}

/* ---- opening */

int64_t model_sections_memory(const struct model_spec *h)
{
    struct model m;
    size_t held;
    model_open_frozen(&m, h);
    int64_t bytes = most_bytes(&m, &held);
    model_free(&m);
    return bytes;
}

int model_open_sections(struct model *m, struct model_in *in, struct exec *x, struct err *e)
{
    size_t held;
    model_open_frozen(m, model_in_spec(in));
    model_plan(m, x);
    int64_t bytes = most_bytes(m, &held);
    m->x = x->device == DEVICE_CPU ? NULL : x;
    m->sections = mem_alloc(sizeof *m->sections);
    *m->sections = (struct model_sections){.in = in, .x = x, .held = held};
    model_digest(in);
    if (!exec_arena(x, &m->weights, (size_t)bytes, e))
        return 0;
    model_free(m);
    return -1;
}

/* ---- reading */

/* Reads the tensor that comes next, piece by piece, to where its param is. */
static int read_values(struct model *m, const struct tensor *from, const struct param *p,
                       void *piece)
{
    struct model_sections *s = m->sections;
    int64_t n = tensor_count(from);
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t k = min64(PIECE, n - at);
        struct param to = {
            .v = (char *)p->v + dtype_bytes(p->dtype, at), .dtype = p->dtype, .rows = k, .cols = 1};
        if (model_read(s->in, piece, dtype_bytes(from->dtype, k)))
            return -1;
        param_put(s->x, &to, piece, from->dtype);
    }
    return 0;
}

static int read_tensor(struct model *m, void *piece, struct err *e)
{
    struct model_sections *s = m->sections;
    struct param *p = &m->params[s->next];
    struct tensor t;
    if (model_next(s->in, &t) <= 0)
        return e->set
                   ? -1
                   : err_set(e, "the model ends before tensor %s", m->spec.tensors[s->next].name);
    p->v = arena_take(&m->weights, (size_t)model_param_bytes(m, s->next++));
    return read_values(m, &t, p, piece);
}

/* All values have been read. */
static int end(struct model *m)
{
    struct model_in *in = m->sections->in;
    struct tensor t;
    if (model_next(in, &t))
        return -1;
    memcpy(m->spec.digest, model_in_spec(in)->digest, sizeof m->spec.digest);
    return 0;
}

int model_section_read(struct model *m, int64_t section, struct err *e)
{
    struct model_sections *s = m->sections;
    const struct model_spec *h = &m->spec;
    m->weights.used = section == SECTION_START ? 0 : s->held;
    void *piece = mem_alloc(PIECE * sizeof(double));
    int failed = 0;
    while (!failed && s->next < h->n_tensors && model_section_of(h, s->next, section) == section)
        failed = read_tensor(m, piece, e);
    free(piece);
    if (!failed && section == h->num_hidden_layers)
        failed = end(m);
    if (!failed && s->x->err.set)
        failed = err_set(e, "%s", s->x->err.msg);
    return failed ? -1 : 0;
}
