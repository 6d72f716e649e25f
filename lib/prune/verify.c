/* The comparison of a slice with its source, by the naive forward pass: see reference.h. Both are
 * in memory, or come section by section: then what is read of the source is cut, run and forgotten
 * before the next section is read. */
#include "reference.h"
#include "merge.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../data/data.h"

/* The place of an id among the n kept ones, which ascend; -1: it was cut. */
static int64_t place_of_id(const int64_t *kept, int64_t n, uint32_t id)
{
    int64_t low = 0;
    for (int64_t high = n; low < high;) {
        int64_t middle = low + (high - low) / 2;
        if (kept[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && kept[low] == id ? low : -1;
}

/* The slice's logits b beside those of the same tokens in the source's a. */
static void compare(struct verdict *v, const struct slice_plan *p, const struct model_spec *source,
                    int64_t T, const double *a, const double *b)
{
    const struct kept *tokens = &p->kept[AXIS_V];
    int64_t V = tokens->n, all = source->vocab_size;
    int finite = 1;
    *v = (struct verdict){.tokens = T, .rounds = slice_rounds(p, source)};
    for (int64_t i = 0; i < v->tokens * V; i++) {
        double want = a[i / V * all + tokens->index[i % V]], off = fabs(want - b[i]);
        finite &= isfinite(want) && isfinite(b[i]);
        v->largest = fabs(want) > v->largest ? fabs(want) : v->largest;
        if (off > v->difference || isnan(off)) {
            v->difference = off;
            v->token = i / V;
            v->entry = i % V;
        }
    }
    v->agrees = finite && v->difference <= 1e-9 * (1 + v->largest);
}

/* The slice's ids of the tokens; free it. */
static uint32_t *own_ids(const struct slice_plan *p, const uint32_t *ids, int64_t T)
{
    const struct kept *tokens = &p->kept[AXIS_V];
    uint32_t *own = mem_alloc((size_t)T * sizeof *own);
    for (int64_t t = 0; t < T; t++)
        own[t] = (uint32_t)place_of_id(tokens->index, tokens->n, ids[t]);
    return own;
}

int slice_verify(const struct slice_plan *p, const struct model *source, const struct model *slice,
                 const uint32_t *ids, int64_t T, struct verdict *v, struct err *e)
{
    double *a = mem_alloc((size_t)(T * source->spec.vocab_size) * sizeof *a),
           *b = mem_alloc((size_t)(T * slice->spec.vocab_size) * sizeof *b);
    uint32_t *own = own_ids(p, ids, T);
    struct model merged;
    int bad = slice_merged_open(&merged, p, source, e) || naive_logits(&merged, p, ids, T, a, e) ||
              naive_logits(slice, NULL, own, T, b, e);
    slice_merged_close(&merged);
    if (!bad)
        compare(v, p, &source->spec, T, a, b);
    free(own);
    free(a);
    free(b);
    return bad ? -1 : 0;
}

uint32_t *slice_verify_text(const struct slice_plan *p, const struct model_spec *source,
                            struct st_in *in, int64_t most, int64_t *n, struct err *e)
{
    struct sequences s;
    const uint32_t *ids;
    int64_t all;
    const char *kind = json_string_value(json_object_get(st_head(in), "kind"));
    *n = 0;
    if (!kind || strcmp(kind, "tokens"))
        err_set(e, "%s is a stream of kind \"%s\", not \"tokens\"", st_path(in), kind ? kind : "?");
    if (e->set || sequences_open(&s, in, most, source, e))
        return NULL;
    int bad = sequences_next(&s, &ids, &all) < 0 ||
              sequences_check(&s, ids, all, source->vocab_size);
    uint32_t *kept = bad ? NULL : mem_alloc((size_t)all * sizeof *kept);
    for (int64_t i = 0; i < all && !bad; i++)
        if (place_of_id(p->kept[AXIS_V].index, p->kept[AXIS_V].n, ids[i]) >= 0)
            kept[(*n)++] = ids[i];
    if (!bad && !*n)
        err_set(e, "%s: no token of its first sequence stays in the vocabulary", st_path(in));
    sequences_close(&s);
    return kept;
}

void slice_verdict_text(const struct verdict *v, char text[200])
{
    if (v->agrees)
        snprintf(text, 200,
                 "verified on %" PRId64 " tokens: the slice's logits equal the masked model's to "
                 "within %.2g (largest logit %.3g)%s",
                 v->tokens, v->difference, v->largest,
                 v->rounds ? "; what is written is this slice, rounded" : "");
    else
        snprintf(text, 200,
                 "the slice differs from the masked model by %.3g at token %" PRId64
                 ", logit %" PRId64 " (largest logit %.3g)",
                 v->difference, v->token, v->entry, v->largest);
}

/* ---- section by section */

/* values rounded at once, a multiple of Q8_BLOCK; or bytes copied */
enum { PIECE = 1 << 18 };

/* A model of which the values of one section are in memory. */
struct side {
    struct model m;
    struct arena start, now; /* those before the layers; of another section */
    struct naive *run;
    double *logits;
};

struct pair {
    const struct slice_plan *p;
    struct model_in *in;
    struct side source, slice;
    struct model merged; /* the source as it is cut */
    int next;            /* tensor of the source */
    struct spill *values;
    int64_t put; /* bytes of the slice that are there */
    struct err *e;
};

static int is_tied(const struct pair *k) { return k->p->spec.tie_word_embeddings; }

static size_t room(const struct side *s, int i)
{
    return i < 0 ? 0 : arena_round((size_t)tensor_bytes(&s->m.spec.tensors[i]));
}

/* Memory of the source's tensors from..to - 1 and of what is kept of them. */
static void section_bytes(const struct pair *k, int from, int to, size_t bytes[2])
{
    bytes[0] = bytes[1] = 0;
    for (int i = from; i < to; i++) {
        bytes[0] += room(&k->source, i);
        bytes[1] += room(&k->slice, k->p->dest[i]);
    }
}

/* The tensor after those of the section. */
static int section_end(const struct model_spec *h, int from, int64_t section)
{
    int i = from;
    while (i < h->n_tensors && model_section_of(h, i, section) == section)
        i++;
    return i;
}

static struct arena *memory_of(struct side *s, int64_t section)
{
    return section < 0 ? &s->start : &s->now;
}

static int read_tensor(struct pair *k, int64_t section, int i)
{
    struct tensor t;
    int to = k->p->dest[i];
    if (model_next(k->in, &t) <= 0)
        return k->e->set ? -1
                         : err_set(k->e, "the model ends before tensor %s",
                                   k->source.m.spec.tensors[i].name);
    k->source.m.params[i].v = arena_take(memory_of(&k->source, section), room(&k->source, i));
    if (to >= 0)
        k->slice.m.params[to].v = arena_take(memory_of(&k->slice, section), room(&k->slice, to));
    return slice_load_tensor(k->p, k->in, i, &k->source.m, &k->slice.m);
}

static int read_section(struct pair *k, int64_t section, int to)
{
    size_t bytes[2];
    section_bytes(k, k->next, to, bytes);
    int failed = arena_open(memory_of(&k->source, section), bytes[0], k->e) ||
                 (bytes[1] && arena_open(memory_of(&k->slice, section), bytes[1], k->e));
    for (int i = k->next; i < to && !failed; i++)
        failed = read_tensor(k, section, i);
    return failed;
}

/* The slice's number of the section; SECTION_START - 1: it is dropped. */
static int64_t own_section(const struct slice_plan *p, const struct model_spec *source,
                           int64_t section)
{
    const struct kept *layers = &p->kept[AXIS_L];
    if (section < 0)
        return section;
    if (section == source->num_hidden_layers)
        return p->spec.num_hidden_layers;
    for (int64_t i = 0; i < layers->n; i++)
        if (layers->index[i] == section)
            return i;
    return SECTION_START - 1;
}

static int run_section(struct pair *k, int64_t section)
{
    int64_t own = own_section(k->p, &k->source.m.spec, section);
    int failed = slice_merged_open(&k->merged, k->p, &k->source.m, k->e) ||
                 naive_section(k->source.run, section, k->source.logits) ||
                 (own >= SECTION_START && naive_section(k->slice.run, own, k->slice.logits));
    slice_merged_close(&k->merged);
    return failed;
}

/* Rounds a tensor of the slice, piece by piece, and keeps it. */
static int keep_tensor(struct pair *k, int to)
{
    const struct tensor *t = &k->p->spec.tensors[to];
    const struct param *p = &k->slice.m.params[to];
    void *rounded = mem_alloc(PIECE * sizeof(float));
    int failed = 0;
    for (int64_t at = 0, n; at < tensor_count(t) && !failed; at += n) {
        n = min64(PIECE, tensor_count(t) - at);
        const char *from = (const char *)p->v + dtype_bytes(p->dtype, at);
        int64_t bytes = dtype_bytes(t->dtype, n);
        failed = dtype_convert(rounded, t, from, p->dtype, n, k->e) ||
                 spill_put(k->values, k->put, rounded, bytes, k->e);
        k->put += bytes;
    }
    free(rounded);
    return failed;
}

/* Keeps the slice's tensors of the section, and forgets the section unless it is still needed. */
static int leave_section(struct pair *k, int64_t section, int to)
{
    int failed = 0;
    for (; k->next < to && !failed; k->next++) {
        int i = k->p->dest[k->next];
        failed = i >= 0 && keep_tensor(k, i);
        if (section >= 0 || !is_tied(k)) {
            k->source.m.params[k->next].v = NULL;
            if (i >= 0)
                k->slice.m.params[i].v = NULL;
        }
    }
    if (section >= 0 || !is_tied(k)) {
        arena_close(memory_of(&k->source, section));
        arena_close(memory_of(&k->slice, section));
    }
    return failed;
}

static int run_sections(struct pair *k)
{
    const struct model_spec *h = &k->source.m.spec;
    struct tensor t;
    for (int64_t section = SECTION_START; section <= h->num_hidden_layers; section++) {
        int to = section_end(h, k->next, section);
        if (read_section(k, section, to) || run_section(k, section) ||
            leave_section(k, section, to))
            return -1;
    }
    return model_next(k->in, &t); /* the digest of all values is made at the end */
}

static void side_open(struct side *s, const struct slice_plan *p, const struct model *m,
                      const uint32_t *ids, int64_t T, struct err *e)
{
    s->run = naive_open(m, p, ids, T, e);
    s->logits = mem_alloc((size_t)(T * m->spec.vocab_size) * sizeof *s->logits);
}

static void side_close(struct side *s)
{
    naive_close(s->run);
    free(s->logits);
    arena_close(&s->start);
    arena_close(&s->now);
    model_free(&s->m);
}

int64_t slice_sections_bytes(const struct slice_plan *p, struct model_in *in, int64_t T)
{
    struct pair k = {.p = p};
    const struct model_spec *h = model_in_spec(in);
    size_t bytes[2], start = 0, largest = 0;
    slice_load_plan(p, h, &k.source.m, &k.slice.m);
    for (int64_t section = SECTION_START; section <= h->num_hidden_layers; section++) {
        int to = section_end(h, k.next, section);
        section_bytes(&k, k.next, to, bytes);
        if (section < 0 && is_tied(&k))
            start = bytes[0] + bytes[1];
        else if (bytes[0] + bytes[1] > largest)
            largest = bytes[0] + bytes[1];
        k.next = to;
    }
    side_close(&k.source);
    side_close(&k.slice);
    /* the source's logits are made twice: as products, then capped */
    int64_t logits = 2 * h->vocab_size + p->spec.vocab_size;
    return (int64_t)(start + largest) + T * logits * (int64_t)sizeof(double);
}

static int verify_sections(struct pair *k, const uint32_t *ids, const uint32_t *own, int64_t T)
{
    slice_load_plan(k->p, model_in_spec(k->in), &k->source.m, &k->slice.m);
    k->merged = k->source.m;
    side_open(&k->source, k->p, &k->merged, ids, T, k->e);
    side_open(&k->slice, NULL, &k->slice.m, own, T, k->e);
    model_digest(k->in);
    return k->e->set || run_sections(k);
}

int slice_verify_sections(const struct slice_plan *p, struct model_in *in, const uint32_t *ids,
                          int64_t T, struct spill *values, struct verdict *v, struct err *e)
{
    struct pair k = {.p = p, .in = in, .values = values, .e = e};
    uint32_t *own = own_ids(p, ids, T);
    int64_t bytes = 0;
    for (int i = 0; i < p->spec.n_tensors; i++)
        bytes += tensor_bytes(&p->spec.tensors[i]);
    int bad = spill_open(values, bytes, 1, e) || verify_sections(&k, ids, own, T);
    if (!bad)
        compare(v, p, &k.source.m.spec, T, k.source.logits, k.slice.logits);
    side_close(&k.source);
    side_close(&k.slice);
    free(own);
    return bad ? -1 : 0;
}

int slice_write_values(struct spill *values, struct model_out *out, struct err *e)
{
    int64_t at = 0;
    for (int i = 0; i < out->spec.n_tensors; i++) {
        int64_t end = at + tensor_bytes(&out->spec.tensors[i]);
        if (model_out_next(out))
            return -1;
        for (int64_t n; at < end; at += n) {
            n = min64(PIECE, end - at);
            const void *piece = spill_get(values, at, n, e);
            if (!piece || model_out_write(out, piece, n))
                return -1;
        }
    }
    return model_out_end(out);
}
