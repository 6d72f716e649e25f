/* See logits.h. */
#include "logits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../base/rng.h"

static const char *const forms[] = {"full", "top", "sample"};

const char *logits_form_name(const struct logits_spec *s)
{
    static const char *const names[] = {"full logits", "the largest probabilities", "samples"};
    return names[s->form];
}

static int64_t id_bytes(const struct logits_spec *s)
{
    int64_t bytes = 2;
    while (s->vocab_size > (INT64_C(1) << 8 * bytes))
        bytes++;
    return bytes;
}

int64_t logits_row_bytes(const struct logits_spec *s)
{
    if (s->form == LOGITS_FULL)
        return 4 * s->vocab_size;
    int64_t values = s->form == LOGITS_TOP ? s->n + s->tail : 0;
    return s->n * id_bytes(s) + 2 * values;
}

struct tensor logits_record(const struct logits_spec *s, int64_t window, int64_t tokens)
{
    struct tensor t = {.dtype = DT_U8, .ndim = 2, .shape = {tokens, logits_row_bytes(s)}};
    if (s->form == LOGITS_FULL) {
        t.dtype = DT_F32;
        t.shape[1] = s->vocab_size;
    }
    snprintf(t.name, sizeof t.name, "logits.%lld", (long long)window);
    return t;
}

/* ---- the header */

json_t *logits_meta(const struct logits_spec *s)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:s}", "model", s->model, "tokenizer_id",
                          s->tokenizer, "tokens", s->tokens, "vocab_size",
                          (json_int_t)s->vocab_size, "form", forms[s->form]);
    json_t *bos = json_array();
    if (s->form != LOGITS_FULL) {
        json_object_set_new(j, "n", json_integer(s->n));
        json_object_set_new(j, "temperature", json_real(s->temperature));
    }
    if (s->form == LOGITS_TOP)
        json_object_set_new(j, "tail", json_boolean(s->tail));
    if (s->form == LOGITS_SAMPLE)
        json_object_set_new(j, "seed", json_integer(s->seed));
    for (int64_t i = 0; i < s->bos.n; i++)
        json_array_append_new(bos, json_integer(s->bos.ids[i]));
    json_object_set_new(j, "seq_length", json_integer(s->seq_length));
    json_object_set_new(j, "row_bos", bos);
    json_object_set_new(j, "first_window", json_integer(s->first));
    json_object_set_new(j, "windows", json_integer(s->count));
    return j;
}

static int meta_integer(const json_t *head, const char *key, int64_t from, int64_t to,
                        int64_t *value, const char *path, struct err *e)
{
    const json_t *j = json_object_get(head, key);
    *value = json_integer_value(j);
    if (json_is_integer(j) && *value >= from && *value <= to)
        return 0;
    return err_set(e, "%s: damaged header: %s is not a whole number from %lld to %lld", path, key,
                   (long long)from, (long long)to);
}

static int meta_form(struct logits_spec *s, const json_t *head, const char *path, struct err *e)
{
    const char *form = json_string_value(json_object_get(head, "form"));
    for (int i = 0; form && i < 3; i++)
        if (!strcmp(form, forms[i])) {
            s->form = (enum logits_form)i;
            return 0;
        }
    return err_set(e, "%s: damaged header: form is not full, top or sample", path);
}

static int meta_entries(struct logits_spec *s, const json_t *head, const char *path, struct err *e)
{
    s->temperature = 1;
    if (s->form == LOGITS_FULL)
        return 0;
    int64_t most = s->form == LOGITS_TOP && s->vocab_size < LOGITS_MOST ? s->vocab_size
                                                                        : LOGITS_MOST;
    s->temperature = json_real_value(json_object_get(head, "temperature"));
    s->tail = json_is_true(json_object_get(head, "tail"));
    s->seed = json_integer_value(json_object_get(head, "seed"));
    if (!(s->temperature >= 1e-3 && s->temperature <= 1e3))
        return err_set(e, "%s: damaged header: temperature is not from 0.001 to 1000", path);
    return meta_integer(head, "n", 1, most, &s->n, path, e);
}

static int meta_bos(struct logits_spec *s, const json_t *head, const char *path, struct err *e)
{
    const json_t *bos = json_object_get(head, "row_bos");
    if (!json_is_array(bos) || json_array_size(bos) > SPECIAL_MAX)
        return err_set(e, "%s: damaged header: row_bos is not a list of at most %d ids", path,
                       SPECIAL_MAX);
    s->bos.n = (int64_t)json_array_size(bos);
    for (int64_t i = 0; i < s->bos.n; i++)
        s->bos.ids[i] = (uint32_t)json_integer_value(json_array_get(bos, (size_t)i));
    return 0;
}

int logits_meta_read(struct logits_spec *s, const json_t *head, const char *path, struct err *e)
{
    *s = (struct logits_spec){.form = LOGITS_FULL};
    if (st_head_id(head, "model", s->model, path, e) ||
        st_head_id(head, "tokenizer_id", s->tokenizer, path, e) ||
        st_head_id(head, "tokens", s->tokens, path, e) ||
        meta_integer(head, "vocab_size", 1, INT32_MAX, &s->vocab_size, path, e) ||
        meta_form(s, head, path, e) || meta_entries(s, head, path, e) || meta_bos(s, head, path, e))
        return -1;
    return meta_integer(head, "seq_length", 0, INT64_MAX, &s->seq_length, path, e) ||
                   meta_integer(head, "first_window", 0, INT64_MAX / 2, &s->first, path, e) ||
                   meta_integer(head, "windows", 0, INT64_MAX / 2, &s->count, path, e)
               ? -1
               : 0;
}

/* ---- rows */

/* Every token has a stream of random numbers to itself. */
void logits_uniform(const struct logits_spec *s, int64_t window, int64_t token, double *u)
{
    struct rng of_window = rng_open((uint64_t)s->seed, (uint64_t)window),
               rng = rng_open(rng_u64(&of_window), (uint64_t)token);
    for (int64_t i = 0; i < s->n; i++) {
        double x = rng_uniform(&rng);
        int64_t at = i;
        for (; at > 0 && u[at - 1] > x; at--)
            u[at] = u[at - 1];
        u[at] = x;
    }
}

static void id_put(const struct logits_spec *s, int32_t id, unsigned char *to)
{
    for (int64_t b = 0; b < id_bytes(s); b++)
        to[b] = (unsigned char)(id >> 8 * b);
}

static int64_t id_get(const struct logits_spec *s, const unsigned char *from)
{
    int64_t id = 0;
    for (int64_t b = 0; b < id_bytes(s); b++)
        id |= (int64_t)from[b] << 8 * b;
    return id;
}

void logits_pack(const struct logits_spec *s, const struct loss_listing *l, unsigned char *row)
{
    int64_t size = id_bytes(s);
    if (s->form == LOGITS_TOP) {
        for (int64_t i = 0; i < s->n; i++)
            id_put(s, l->ids[i], row + i * size);
        from_f32(row + s->n * size, DT_F16, l->log_p, s->n + s->tail);
        return;
    }
    for (int64_t i = 0, at = 0; at < s->n; i++)
        for (int64_t k = llround(exp((double)l->log_p[i]) * (double)s->n); k > 0; k--)
            id_put(s, l->ids[i], row + at++ * size);
}

/* A logarithm of up to 16 that is rounded to f16 changes its probability by up to 0.4 %, of up to
 * 32 by 0.8 %; all together, their sum by less than this. */
#define SUM_ERROR 0.02

static int top_unpack(const struct logits_spec *s, const unsigned char *row, int32_t *ids,
                      float *log_p)
{
    int64_t last = -1, size = id_bytes(s);
    to_f32(log_p, row + s->n * size, DT_F16, s->n + s->tail);
    if (!s->tail)
        log_p[s->n] = -INFINITY;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t id = id_get(s, row + i * size);
        if (id <= last || id >= s->vocab_size)
            return -1;
        ids[i] = (int32_t)(last = id);
    }
    double sum = 0;
    for (int64_t i = 0; i <= s->n; i++) {
        if (!(log_p[i] <= 0))
            return -1;
        sum += exp((double)log_p[i]);
    }
    /* the largest n are at least as probable as any n others */
    double least = s->tail ? 1 : (double)s->n / (double)s->vocab_size;
    return sum > 1 + SUM_ERROR || sum < least * (1 - SUM_ERROR) ? -1 : 0;
}

static int sample_unpack(const struct logits_spec *s, const unsigned char *row, int32_t *ids,
                         float *log_p)
{
    int64_t n = 0, size = id_bytes(s), count = 0;
    for (int64_t i = 0; i < s->n; i++) {
        int64_t id = id_get(s, row + i * size);
        int is_new = !n || id != ids[n - 1];
        if (id >= s->vocab_size || (n && id < ids[n - 1]))
            return -1;
        count = is_new ? 1 : count + 1;
        n += is_new;
        ids[n - 1] = (int32_t)id;
        log_p[n - 1] = (float)log((double)count / (double)s->n);
    }
    for (int64_t i = n; i <= s->n; i++)
        log_p[i] = -INFINITY;
    for (int64_t i = n; i < s->n; i++)
        ids[i] = INT32_MAX;
    return 0;
}

static int full_unpack(const struct logits_spec *s, const unsigned char *row, float *logits)
{
    int finite = 1;
    memcpy(logits, row, (size_t)logits_row_bytes(s));
    for (int64_t i = 0; i < s->vocab_size; i++)
        finite &= isfinite(logits[i]) != 0;
    return finite ? 0 : -1;
}

int logits_unpack(const struct logits_spec *s, const unsigned char *row, void *token_data)
{
    int32_t *ids = token_data;
    if (s->form == LOGITS_FULL)
        return full_unpack(s, row, token_data);
    return (s->form == LOGITS_TOP ? top_unpack : sample_unpack)(s, row, ids, (float *)ids + s->n);
}
