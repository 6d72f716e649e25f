/* Generation: see generate.h. */
#include "generate.h"

#include "../../formats/json.h"

enum { CHUNK = 64 }; /* tokens of the prompt per call: logits are computed for all of them */

int generator_open(struct generator *g, struct exec *x, struct model *m, int64_t length,
                   struct err *e)
{
    *g = (struct generator){
        .length = length, .chunk = length < CHUNK ? length : CHUNK, .vocab = m->spec.vocab_size};
    struct tape_spec spec = {
        .model = m, .n_seq = 1, .seq_len = g->chunk, .kv_len = length, .end = TAPE_LOGITS};
    g->tape = tape_record(x, &spec, e);
    return g->tape && !tape_open(g->tape, e) ? 0 : -1;
}

const float *generator_read(struct generator *g, const uint32_t *ids, int64_t n, struct err *e)
{
    int32_t piece[CHUNK];
    int64_t last = 0;
    if (n < 1 || n > g->length - g->position) {
        err_set(e, "%lld tokens do not fit after %lld of %lld", (long long)n,
                (long long)g->position, (long long)g->length);
        return NULL;
    }
    for (int64_t at = 0; at < n; at += last) {
        last = n - at < g->chunk ? n - at : g->chunk;
        for (int64_t i = 0; i < last; i++)
            piece[i] = ids[at + i] > INT32_MAX ? INT32_MAX : (int32_t)ids[at + i];
        struct batch b = {
            .n_seq = 1, .seq_len = last, .pos0 = g->position, .kv_len = g->length, .ids = piece};
        if (tape_forward(g->tape, &b, e))
            return NULL;
        g->position += last;
    }
    return tape_logits(g->tape, last - 1, 1);
}

int64_t generator_bytes(const struct generator *g) { return tape_bytes(g->tape); }

void generator_close(struct generator *g)
{
    tape_close(g->tape);
    g->tape = NULL;
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
