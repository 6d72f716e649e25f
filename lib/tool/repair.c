/* Repair of a cut: see repair.h. Refused: a ridge that is negative or no number. */
#include "repair.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "../data/data.h"
#include "tool_private.h"

enum { TOKENS_PER_INPUT = 4 };
static const double MOST_RIDGE = 1e6;

void tool_repair_open(struct tool_repair *r, struct tool *t, struct slice_plan *p,
                      const struct model_spec *source)
{
    struct exec *x = tool_exec(t);
    struct st_in *in = tool_in(t, r->path, "tokens");
    const char *tokenizer = json_string_value(json_object_get(st_head(in), "tokenizer_id"));
    r->t = t;
    r->p = p;
    if (p->spec.vocab_size < source->vocab_size)
        tool_usage(t, "--repair works on tokens of the uncut vocabulary: cut that in a step of its "
                      "own");
    if (!(r->ridge >= 0 && r->ridge <= MOST_RIDGE))
        tool_usage(t, "--repair-ridge must be from 0 to %g, not %g", MOST_RIDGE, r->ridge);
    if (!r->any_tokenizer)
        data_check_tokenizers(tool_operand(t, 0), source->tokenizer_id, r->path,
                              tokenizer ? tokenizer : "", &t->err);
    tool_check(t);
    x->compute = DT_F32; /* differences of activations need its digits */
    repair_text_read(&r->text, in, r->tokens, source, &t->err);
    st_close(in);
    tool_check(t);
    r->repair = repair_open(x, p, source, &r->text, r->ridge, &t->err);
    tool_check(t);
    struct repair_memory m = repair_memory(r->repair);
    struct memory_part parts[] = {{"a layer and its activations", m.device, 0},
                                  {"sums of a layer", m.host, 0},
                                  {"hidden states of all tokens", m.states, 0},
                                  {"experts of a layer", m.experts, 0},
                                  {0}};
    if (!m.experts)
        parts[3] = (struct memory_part){0};
    if (x->device != DEVICE_CPU)
        parts[1] = (struct memory_part){0}; /* the rest is not the device's */
    tool_predict_memory(t, NULL, parts);
}

static void run(struct tool_repair *r, const struct repair_io *io)
{
    struct repair_result done;
    repair_run(r->repair, io, &done);
    tool_check(r->t);
    if (!done.fitted)
        tool_note(r->t, "nothing was refitted: on these tokens the cut changes nothing that the "
                        "matrices could make up for; for removed layers only a layer before them "
                        "can, and only if no norm or gate follows its matrices");
    else
        tool_note(r->t,
                  "refitted %" PRId64 " matri%s on %" PRId64
                  " tokens; %.0f %% is left of what the cut changed in their outputs",
                  done.fitted, done.fitted == 1 ? "x" : "ces", r->text.tokens, 100 * done.left);
    if (done.fitted && done.tokens_per_input < TOKENS_PER_INPUT)
        tool_note(r->t,
                  "a matrix has only %.1f tokens for each of its inputs: a fit needs at least %d "
                  "(--repair-tokens), better more",
                  done.tokens_per_input, TOKENS_PER_INPUT);
}

static void close_all(struct tool_repair *r)
{
    repair_close(r->repair);
    repair_text_free(&r->text);
}

/* ---- from a source to a sink */

struct pipe {
    const struct tool_repair *r;
    struct model_in *in;
    struct model_out *out;
};

static int pipe_read(void *user, int i, void *whole, void *kept)
{
    const struct pipe *p = user;
    struct tensor t;
    tool_progress(p->r->t, i + 1, model_in_spec(p->in)->n_tensors, "tensors");
    if (model_next(p->in, &t) <= 0)
        return -1;
    return slice_take(p->r->p, p->in, &t, i, whole, kept);
}

static int pipe_write(void *user, int i, const void *values)
{
    (void)i;
    return model_out_tensor(((struct pipe *)user)->out, values);
}

void tool_repair_stream(struct tool_repair *r, struct model_in *in, struct model_out *out)
{
    struct pipe pipe = {r, in, out};
    struct tensor t;
    model_digest(in);
    run(r, &(struct repair_io){pipe_read, pipe_write, &pipe});
    model_next(in, &t); /* the end, and with it the digest */
    tool_check(r->t);
    close_all(r);
}

/* ---- in memory */

struct loaded {
    const struct tool_repair *r;
    const struct model *source;
    struct model *slice;
};

static int loaded_read(void *user, int i, void *whole, void *kept)
{
    const struct loaded *m = user;
    int to = m->r->p->dest[i];
    tool_progress(m->r->t, i + 1, m->source->spec.n_tensors, "tensors");
    memcpy(whole, m->source->params[i].v, (size_t)tensor_bytes(&m->source->spec.tensors[i]));
    if (kept)
        memcpy(kept, m->slice->params[to].v, (size_t)tensor_bytes(&m->slice->spec.tensors[to]));
    return 0;
}

static int loaded_write(void *user, int i, const void *values)
{
    const struct loaded *m = user;
    memcpy(m->slice->params[i].v, values, (size_t)tensor_bytes(&m->slice->spec.tensors[i]));
    return 0;
}

/* The root mean square of the difference of the logits of the first n tokens. */
static double distance(struct tool_repair *r, const struct model *a, const struct model *b,
                       int64_t n)
{
    int64_t values = n * a->spec.vocab_size;
    double *x = mem_alloc((size_t)values * sizeof *x), *y = mem_alloc((size_t)values * sizeof *y),
           sum = 0;
    const uint32_t *ids = (const uint32_t *)r->text.ids;
    if (naive_logits(a, NULL, ids, n, x, &r->t->err) ||
        naive_logits(b, NULL, ids, n, y, &r->t->err))
        tool_check(r->t);
    for (int64_t i = 0; i < values; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    free(x);
    free(y);
    return sqrt(sum / (double)values);
}

void tool_repair_loaded(struct tool_repair *r, const struct model *source, struct model *slice,
                        int64_t most)
{
    struct loaded loaded = {r, source, slice};
    int64_t n = min64(most, r->text.lengths[0]);
    double before = distance(r, source, slice, n);
    run(r, &(struct repair_io){loaded_read, loaded_write, &loaded});
    tool_note(r->t,
              "logits by the reference implementation, in double precision, on the first %" PRId64
              " tokens: %.3g from the uncut model's before the repair, %.3g after it (root mean "
              "square)",
              n, before, distance(r, source, slice, n));
    close_all(r);
}
