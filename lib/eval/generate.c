/* Generation: see generate.h. */
#include "generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/minmax.h"

enum { CHUNK = 64 }; /* tokens of prompts per call: logits are computed for all of them */

int generator_open(struct generator *g, struct exec *x, struct model *m, int64_t room,
                   int64_t length, struct err *e)
{
    int64_t chunk = min64(length, (CHUNK + room - 1) / room);
    *g = (struct generator){.spec = &m->spec,
                            .room = room,
                            .length = length,
                            .chunk = chunk,
                            .vocab = m->spec.vocab_size,
                            .pads = mem_alloc((size_t)room * sizeof *g->pads),
                            .ids = mem_alloc((size_t)(room * length) * sizeof *g->ids),
                            .call_ids = mem_alloc((size_t)(room * chunk) * sizeof *g->ids),
                            .call_starts = mem_alloc((size_t)(room * chunk) * sizeof *g->ids)};
    struct tape_spec spec = {
        .model = m, .n_seq = room, .seq_len = chunk, .kv_len = length, .end = TAPE_LOGITS};
    g->tape = tape_record(x, &spec, e);
    return g->tape && !tape_open(g->tape, e) ? 0 : -1;
}

int64_t generator_bytes(const struct generator *g) { return tape_bytes(g->tape); }

void generator_close(struct generator *g)
{
    tape_close(g->tape);
    free(g->pads);
    free(g->ids);
    free(g->call_ids);
    free(g->call_starts);
    *g = (struct generator){0};
}

int64_t text_most(const struct model_spec *h, int64_t prompt, int64_t max_new)
{
    int64_t most = prompt + max_new, positions = h->max_position_embeddings;
    return h->learned_positions && prompt <= positions ? min64(most, positions) : most;
}

int text_may_be_padded(const struct model_spec *h, int64_t prompt, int64_t max_new)
{
    int64_t most = prompt + max_new;
    int may = !h->learned_positions || most <= h->max_position_embeddings;
    for (int i = 0; i < h->n_ropes; i++)
        may &= h->ropes[i].long_after <= 0 || most <= h->ropes[i].long_after;
    return may;
}

/* ---- the batch */

/* 1 if a text that grows from `from` to `to` tokens passes the length beyond which all of its
 * positions take the long rope table: the keys computed so far are then of no use. */
static int ropes_change(const struct generator *g, int64_t from, int64_t to)
{
    int change = 0;
    for (int i = 0; i < g->spec->n_ropes; i++) {
        int64_t after = g->spec->ropes[i].long_after;
        change |= after > 0 && from <= after && to > after;
    }
    return change;
}

/* The next g->last tokens of each text; `total` tokens are known. */
static int read_piece(struct generator *g, int64_t total, struct err *e)
{
    int padded = 0;
    for (int64_t i = 0, at = 0; i < g->n; i++) {
        padded |= g->pads[i] > 0;
        for (int64_t p = g->place; p < g->place + g->last; p++, at++) {
            g->call_ids[at] = g->ids[i * g->length + p];
            g->call_starts[at] = p < g->pads[i] ? 0 : (int32_t)g->pads[i];
        }
    }
    struct batch b = {.n_seq = g->n,
                      .seq_len = g->last,
                      .pos0 = g->place,
                      .kv_len = g->length,
                      .ids = g->call_ids,
                      .starts = padded ? g->call_starts : NULL,
                      .lengths = g->n == 1 ? &total : NULL};
    return tape_forward(g->tape, &b, e);
}

static int read_up_to(struct generator *g, int64_t total, struct err *e)
{
    if (ropes_change(g, g->place, total))
        g->place = 0;
    for (; g->place < total; g->place += g->last) {
        g->last = min64(g->chunk, total - g->place);
        if (read_piece(g, total, e))
            return -1;
    }
    return 0;
}

static int32_t id_of(uint32_t id) { return id > INT32_MAX ? INT32_MAX : (int32_t)id; }

static int read_prompts(struct generator *g, struct text *const *texts, int64_t n, struct err *e)
{
    int64_t longest = 0;
    g->n = n;
    g->place = 0;
    for (int64_t i = 0; i < n; i++)
        longest = max64(longest, texts[i]->ids.n);
    memset(g->ids, 0, (size_t)(n * g->length) * sizeof *g->ids);
    for (int64_t i = 0; i < n; i++) {
        g->pads[i] = longest - texts[i]->ids.n;
        for (int64_t k = 0; k < texts[i]->ids.n; k++)
            g->ids[i * g->length + g->pads[i] + k] = id_of(texts[i]->ids.id[k]);
    }
    return read_up_to(g, longest, e);
}

/* The newest token of each text. */
static int read_next(struct generator *g, struct text *const *texts, struct err *e)
{
    for (int64_t i = 0; i < g->n; i++)
        g->ids[i * g->length + g->place] = id_of(texts[i]->ids.id[texts[i]->ids.n - 1]);
    return read_up_to(g, g->place + 1, e);
}

/* Text i leaves; the last one takes its place. */
static void leave(struct generator *g, struct text **texts, int64_t i)
{
    int64_t last = --g->n;
    if (i == last)
        return;
    tape_move_cache(g->tape, i, last);
    memcpy(g->ids + i * g->length, g->ids + last * g->length, (size_t)g->length * sizeof *g->ids);
    g->pads[i] = g->pads[last];
    texts[i] = texts[last];
}

/* ---- texts */

static int is_stop(const struct stop_ids *stop, int64_t id)
{
    int found = 0;
    for (int i = 0; i < stop->n; i++)
        found |= stop->id[i] == id;
    return found;
}

static int text_grow(struct generator *g, int64_t i, const struct sampler *s,
                     const struct stop_ids *stop, struct text *t, struct err *e)
{
    const float *logits = tape_logits(g->tape, (i + 1) * g->last - 1, 1);
    int64_t id = sample_token(s, &t->rng, logits);
    if (!isfinite(logits[id]))
        return err_set(e, "the model gives logits that are not finite after token %lld",
                       (long long)t->ids.n);
    t->stopped = is_stop(stop, id);
    if (!t->stopped)
        ids_push(&t->ids, (uint32_t)id, 0);
    return 0;
}

static int is_done(const struct text *t) { return t->stopped || t->ids.n >= t->most; }

static int grow_all(struct generator *g, const struct sampler *s, const struct stop_ids *stop,
                    struct text **texts, text_grown *grown, void *user, struct err *e)
{
    for (int64_t i = 0; i < g->n; i++) {
        if (text_grow(g, i, s, stop, texts[i], e))
            return -1;
        if (grown)
            grown(user, texts[i]);
    }
    for (int64_t i = g->n - 1; i >= 0; i--)
        if (is_done(texts[i]))
            leave(g, texts, i);
    return 0;
}

int generate_texts(struct generator *g, const struct sampler *s, const struct stop_ids *stop,
                   struct text *const *texts, int64_t n, text_grown *grown, void *user,
                   struct err *e)
{
    struct text **growing = mem_alloc((size_t)(n + 1) * sizeof *growing);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++)
        if (!is_done(texts[i]))
            growing[k++] = texts[i];
    int failed = k && read_prompts(g, growing, k, e);
    while (!failed && k) {
        failed = grow_all(g, s, stop, growing, grown, user, e);
        k = g->n;
        failed = failed || (k && read_next(g, growing, e));
    }
    free(growing);
    return failed ? -1 : 0;
}

/* ---- end of a sequence */

void stop_ids_add(struct stop_ids *s, int64_t id)
{
    if (s->n < MAX_EOS)
        s->id[s->n++] = id;
}

static void eos_of(struct stop_ids *s, const json_t *config)
{
    const json_t *j = json_object_get(config, "eos_token_id");
    if (json_is_integer(j))
        stop_ids_add(s, json_integer_value(j));
    for (size_t i = 0; i < json_array_size(j); i++)
        stop_ids_add(s, json_integer_value(json_array_get(j, i)));
}

int stop_ids_read(struct stop_ids *s, struct model_in *in, struct err *e)
{
    static const struct json_limits limits = {.bytes = 1 << 20, .values = 10000, .depth = 16};
    int64_t bytes;
    s->n = 0;
    const char *text = model_in_file(in, "generation_config.json", &bytes);
    json_t *generation = text ? json_parse_text(text, bytes, &limits, "generation_config.json", e)
                              : NULL;
    eos_of(s, generation);
    json_decref(generation);
    if (!s->n)
        eos_of(s, model_in_spec(in)->config);
    return e->set ? -1 : 0;
}
