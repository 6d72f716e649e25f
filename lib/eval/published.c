/* See published.h. */
#include "published.h"

#include <math.h>

#include "../../formats/json.h"
#include "../base/minmax.h"

/* ---- windows */

static int64_t eos_of(const struct model_spec *h)
{
    const json_t *id = json_object_get(h->config, "eos_token_id");
    if (json_is_array(id))
        id = json_array_get(id, 0);
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

/* What harness puts before a document: a BOS or, where there is none, the EOS. */
static int prefix_find(struct row_bos *b, const struct tokens *t, const struct model_spec *h,
                       struct err *e)
{
    struct err none = {0};
    if (!row_bos_of_stream(b, t->head, "yes", h, &none) && b->n)
        return 0;
    int64_t id = eos_of(h);
    if (id < 0 || id >= h->vocab_size)
        return err_set(e,
                       "harness puts a BOS or EOS token before a text, and neither %s nor the "
                       "model names one",
                       t->file.path);
    *b = (struct row_bos){.ids = {(uint32_t)id}, .n = 1};
    return 0;
}

int published_windows(struct window_options *o, enum convention c, int64_t context, int64_t stride,
                      const struct tokens *t, const struct model_spec *h, struct err *e)
{
    int64_t usual = min64(c == CONVENTION_LLAMA_CPP ? 512 : 2048, h->max_position_embeddings);
    *o = (struct window_options){.convention = c, .context = context ? context : usual};
    if (t->row)
        return err_set(e,
                       "%s has rows of %lld tokens, but %s cuts whole documents: make it without "
                       "--seq-length",
                       t->file.path, (long long)t->row, convention_names[c]);
    switch (c) {
    case CONVENTION_HF_STRIDE:
        o->stride = stride ? stride : max64(1, min64(512, o->context / 2));
        return 0;
    case CONVENTION_HARNESS: return prefix_find(&o->bos, t, h, e);
    case CONVENTION_LLAMA_CPP:
        o->score_from = o->context / 2 + 1;
        return row_bos_of_stream(&o->bos, t->head, "auto", h, e);
    default: return 0;
    }
}

/* ---- figures */

/* null where it is not known */
static void put_count(json_t *j, const char *key, int64_t n)
{
    json_object_set_new(j, key, n > 0 ? json_integer(n) : json_null());
}

/* The mean of a window's losses weighs as much as the window has labels, less one. All but the
 * first have as many labels as losses, unless none of their tokens was in a window before. */
static double hf_published(const struct eval *v, const struct window_options *o)
{
    const struct windows *w = eval_windows(v);
    double sum = 0, weights = 0;
    for (int64_t i = 0; i < w->n; i++) {
        double n = (double)windows_row(w, i).predictions;
        double weight = n - (i > 0 && o->stride < o->context);
        sum += weight * eval_window_nll(v, i) / n;
        weights += weight;
    }
    return exp(sum / weights);
}

static void harness_record(json_t *j, const struct eval *v, const struct eval_sums *s,
                           const struct text_size *size, struct err *e)
{
    const struct windows *w = eval_windows(v);
    int64_t words = size ? size->words : 0;
    int64_t bytes = size ? size->bytes : windows_bytes(w, e);
    double nats = s->nll * (double)w->predictions,
           per_byte = bytes > 0 ? nats / (double)bytes : NAN;
    put_count(j, "words", words);
    put_count(j, "text_bytes", bytes);
    json_put_number(j, "word_perplexity", words > 0 ? exp(nats / (double)words) : NAN);
    json_put_number(j, "byte_perplexity", exp(per_byte));
    json_put_number(j, "bits_per_byte", per_byte / M_LN2);
}

void published_record(json_t *j, const struct window_options *o, const struct eval *v,
                      const struct tokens *t, const struct eval_sums *s,
                      const struct text_size *size, struct err *e)
{
    enum convention c = o->convention;
    const struct row_bos *b = &o->bos;
    json_t *bos = json_array();
    for (int64_t i = 0; i < b->n; i++)
        json_array_append_new(bos, json_integer(b->ids[i]));
    json_object_set_new(j, "convention", json_string(convention_names[c]));
    json_object_set_new(j, "documents", json_integer(t->n));
    json_object_set_new(j, "bos", bos);
    if (c == CONVENTION_HF_STRIDE)
        json_put_number(j, "ppl_published", hf_published(v, o));
    if (c == CONVENTION_HARNESS)
        harness_record(j, v, s, size, e);
    if (c == CONVENTION_LLAMA_CPP)
        json_put_number(j, "ppl_error", exp(s->nll) * s->independent_error);
}
