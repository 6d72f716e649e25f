/* Streams and models as text: see dump.h. */
#include "dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/utf8.h"
#include "history.h"

/* entries at once, a multiple of a q8_0 block; characters of a header value */
enum { BLOCK = 1 << 14, LONG_VALUE = 100 };

int dump_next(struct dump_source *s, struct tensor *t)
{
    int r = s->st ? st_next(s->st, t) : model_next(s->model, t);
    s->left = r > 0 ? tensor_bytes(t) : 0;
    return r;
}

static int source_read(struct dump_source *s, void *buf, int64_t n, struct err *e)
{
    s->left -= n;
    if (!s->st)
        return model_read(s->model, buf, n);
    return st_read(s->st, buf, n) == n ? 0 : err_set(e, "%s: a record ends early", st_path(s->st));
}

/* ---- the header */

static void dump_model(const json_t *head, FILE *f)
{
    struct model_spec h = {0};
    struct err e = {0};
    int64_t inner;
    if (model_spec_from_json(&h, head, &e))
        fprintf(f, "not usable as a model: %s\n", e.msg);
    else {
        int64_t all = model_spec_parameters(&h, &inner);
        fprintf(f,
                "model: %s, %" PRId64 " layers, hidden size %" PRId64 ", vocabulary %" PRId64
                ", %" PRId64 " parameters (%" PRId64 " without embeddings), %d tensors, %" PRId64
                " bytes\n",
                h.family->name, h.num_hidden_layers, h.hidden_size, h.vocab_size, all, inner,
                h.n_tensors, model_spec_bytes(&h));
    }
    model_spec_free(&h);
}

static void dump_step(const json_t *step, FILE *f)
{
    char *text = NULL;
    size_t n = 0;
    FILE *memory = mem_stream_open(&text, &n);
    hist_command(step, memory);
    mem_stream_close(memory);
    fputs("made by: ", f);
    utf8_print(text, f);
    fputc('\n', f);
    free(text);
}

static void dump_entry(const char *key, const json_t *value, FILE *f)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    utf8_print(key, f);
    fputs(": ", f);
    if (json_is_string(value))
        utf8_print(json_string_value(value), f);
    else if (text && strlen(text) <= LONG_VALUE)
        utf8_print(text, f);
    else if (json_is_object(value))
        fprintf(f, "{%zu keys}", json_object_size(value));
    else
        fprintf(f, "[%zu values]", json_array_size(value));
    fputc('\n', f);
    free(text);
}

void dump_head(const json_t *head, FILE *f)
{
    const char *key, *kind = json_string_value(json_object_get(head, "kind"));
    json_t *value;
    json_object_foreach((json_t *)head, key, value)
        if (strcmp(key, "hist"))
            dump_entry(key, value, f);
    if (kind && !strcmp(kind, "model"))
        dump_model(head, f);
    const json_t *hist = json_object_get(head, "hist");
    for (size_t i = 0; i < json_array_size(hist); i++)
        dump_step(json_array_get(hist, i), f);
}

/* ---- values */

/* A block of entries as read. */
struct block {
    unsigned char raw[8 * BLOCK];
    float f32[BLOCK];
    int64_t n;
};

static int block_read(struct dump_source *s, const struct tensor *t, struct block *b, struct err *e)
{
    int64_t whole = dtype_bytes(t->dtype, BLOCK), bytes = s->left < whole ? s->left : whole;
    b->n = dtype_count(t->dtype, bytes);
    if (source_read(s, b->raw, bytes, e))
        return -1;
    to_f32(b->f32, b->raw, t->dtype, b->n);
    return 0;
}

/* Entry i in full precision. */
static double block_value(const struct block *b, enum dtype d, int64_t i)
{
    switch (d) {
    case DT_F64: return ((const double *)b->raw)[i];
    case DT_I64: return (double)((const int64_t *)b->raw)[i];
    case DT_I32: return ((const int32_t *)b->raw)[i];
    case DT_U32: return ((const uint32_t *)b->raw)[i];
    default: return b->f32[i];
    }
}

int dump_stats(struct dump_source *s, const struct tensor *t, struct dump_stats *out, struct err *e)
{
    struct block *b = mem_alloc(sizeof *b);
    double sum = 0;
    *out = (struct dump_stats){.min = INFINITY, .max = -INFINITY};
    while (s->left && !block_read(s, t, b, e))
        for (int64_t i = 0; i < b->n; i++) {
            double v = block_value(b, t->dtype, i);
            if (isnan(v)) {
                out->nan++;
                continue;
            }
            out->min = v < out->min ? v : out->min;
            out->max = v > out->max ? v : out->max;
            sum += v;
            out->n++;
        }
    out->mean = out->n ? sum / (double)out->n : 0;
    free(b);
    return e->set ? -1 : 0;
}

static void value_print(const struct block *b, enum dtype d, int64_t i, FILE *f)
{
    switch (d) { /* as many digits as tell two values of the dtype apart */
    case DT_I64: fprintf(f, "%" PRId64, ((const int64_t *)b->raw)[i]); break;
    case DT_F64: fprintf(f, "%.17g", block_value(b, d, i)); break;
    case DT_F32:
    case DT_Q8_0: fprintf(f, "%.9g", block_value(b, d, i)); break;
    case DT_F16:
    case DT_BF16: fprintf(f, "%.6g", block_value(b, d, i)); break;
    default: fprintf(f, "%.0f", block_value(b, d, i));
    }
}

int dump_values(struct dump_source *s, const struct tensor *t, FILE *f, struct err *e)
{
    struct block *b = mem_alloc(sizeof *b);
    int64_t width = t->ndim ? t->shape[t->ndim - 1] : 1, at = 0;
    int is_file = !strncmp(t->name, "file/", 5) && t->dtype == DT_U8;
    while (s->left && !block_read(s, t, b, e)) {
        if (is_file)
            fwrite(b->raw, 1, (size_t)b->n, f);
        for (int64_t i = 0; i < b->n && !is_file; i++) {
            value_print(b, t->dtype, i, f);
            fputc(++at % width ? ' ' : '\n', f);
        }
    }
    free(b);
    return e->set ? -1 : 0;
}
