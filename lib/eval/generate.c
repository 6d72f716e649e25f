/* Generation: see generate.h. */
#include "generate.h"

#include <stdlib.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/minmax.h"

enum { CHUNK = 64 }; /* tokens of the prompt per call: logits are computed for all of them */

int generator_open(struct generator *g, struct exec *x, struct model *m, int64_t length,
                   struct err *e)
{
    *g = (struct generator){.length = length,
                            .chunk = min64(length, CHUNK),
                            .vocab = m->spec.vocab_size,
                            .spec = &m->spec,
                            .read = mem_alloc((size_t)length * sizeof *g->read)};
    struct tape_spec spec = {
        .model = m, .n_seq = 1, .seq_len = g->chunk, .kv_len = length, .end = TAPE_LOGITS};
    g->tape = tape_record(x, &spec, e);
    return g->tape && !tape_open(g->tape, e) ? 0 : -1;
}

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

const float *generator_read(struct generator *g, const uint32_t *ids, int64_t n, struct err *e)
{
    int64_t last = 0, total = g->position + n;
    if (n < 1 || n > g->length - g->position) {
        err_set(e, "%lld tokens do not fit after %lld of %lld", (long long)n,
                (long long)g->position, (long long)g->length);
        return NULL;
    }
    for (int64_t i = 0; i < n; i++)
        g->read[g->position + i] = ids[i] > INT32_MAX ? INT32_MAX : (int32_t)ids[i];
    if (ropes_change(g, g->position, total))
        g->position = 0;
    for (; g->position < total; g->position += last) {
        last = min64(g->chunk, total - g->position);
        struct batch b = {.n_seq = 1,
                          .seq_len = last,
                          .pos0 = g->position,
                          .kv_len = g->length,
                          .ids = g->read + g->position,
                          .lengths = &total};
        if (tape_forward(g->tape, &b, e))
            return NULL;
    }
    return tape_logits(g->tape, last - 1, 1);
}

void generator_close(struct generator *g)
{
    tape_close(g->tape);
    g->tape = NULL;
    free(g->read);
}

static int eos_of(const json_t *config, int64_t *eos, int max)
{
    const json_t *j = json_object_get(config, "eos_token_id");
    int n = 0;
    if (json_is_integer(j) && max)
        eos[n++] = json_integer_value(j);
    for (size_t i = 0; i < json_array_size(j) && n < max; i++)
        eos[n++] = json_integer_value(json_array_get(j, i));
    return n;
}

int model_eos(struct model_in *in, int64_t *eos, int max, struct err *e)
{
    static const struct json_limits limits = {.bytes = 1 << 20, .values = 10000, .depth = 16};
    int64_t bytes;
    const char *text = model_in_file(in, "generation_config.json", &bytes);
    json_t *generation = text ? json_parse_text(text, bytes, &limits, "generation_config.json", e)
                              : NULL;
    int n = eos_of(generation, eos, max);
    json_decref(generation);
    return n ? n : eos_of(model_in_spec(in)->config, eos, max);
}
