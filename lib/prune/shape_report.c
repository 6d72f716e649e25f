/* What a shape costs, in print: see shape_report.h. */
#include "shape_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/ranges.h"
#include "../hf/hf.h"

/* The size that all layers with units of the axis have; 0: none has any, -1: theirs differ. */
static int64_t common_size(const struct model_spec *h, enum axis axis)
{
    int64_t size = 0;
    for (int64_t l = 0; l < (axis < LAYER_AXES ? 1 : h->num_hidden_layers); l++) {
        int64_t n = model_spec_size(h, axis, l);
        if (n && size && n != size)
            return -1;
        size = n ? n : size;
    }
    return size;
}

/* The sizes of an axis of the layers, of those that have units, as text for options. free() it. */
static char *sizes_text(const struct model_spec *h, enum axis axis)
{
    size_t bytes = (size_t)h->num_hidden_layers * sizeof(int64_t);
    int64_t n = 0, *layer = mem_alloc(bytes), *size = mem_alloc(bytes);
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        if ((size[n] = model_spec_size(h, axis, l)))
            layer[n++] = l;
    char *text = ranges_text(layer, size, n);
    free(layer);
    free(size);
    return text;
}

/* ---- JSON */

/* Bytes that decoding a token reads at the end of the context. */
static double bytes_read(const struct footprint *f)
{
    return (double)(f->active_bytes + f->kv_bytes);
}

static double prefill_speedup(const struct shape_report *r, const struct footprint *f)
{
    return r->source.prefill_flops / f->prefill_flops;
}

static double decode_speedup(const struct shape_report *r, const struct footprint *f)
{
    return bytes_read(&r->source) / bytes_read(f);
}

/* Tokens a second, of which 0 are not known. */
static struct speed predicted(const struct shape_report *r, const struct footprint *f)
{
    struct speed s = {0};
    if (r->rates.flops > 0)
        speed_predict(&s, f, r->at.context, &r->rates);
    return s;
}

/* Why hf-export would refuse the shape; not set: it would not. */
static struct err export_refusal(const struct model_spec *shape)
{
    struct model_spec h;
    struct err why = {0};
    char note[400];
    model_spec_copy(&h, shape);
    model_spec_update_config(&h);
    model_spec_list_tensors(&h, DT_F32);
    hf_check_shape(&h, note, &why);
    model_spec_free(&h);
    return why;
}

static void put_speed(json_t *to, const char *key, const struct speed *s)
{
    if (s->decode > 0)
        json_object_set_new(to, key,
                            json_pack("{s:f, s:f}", "prefill", s->prefill, "decode", s->decode));
}

static void put_count(json_t *to, const char *key, int64_t n)
{
    json_object_set_new(to, key, json_integer(n));
}

json_t *shape_json(const struct shape_report *r, const struct model_spec *shape,
                   const struct footprint *f, const char *options)
{
    json_t *j = json_object();
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++) {
        if (x >= LAYER_AXES && !family_has_axis(shape->family, x))
            continue;
        int64_t n = common_size(shape, x);
        char *mixed = n < 0 ? sizes_text(shape, x) : NULL;
        json_object_set_new(j, axis_rows[x].name, mixed ? json_string(mixed) : json_integer(n));
        free(mixed);
    }
    put_count(j, "parameters", f->parameters);
    put_count(j, "non_embedding_parameters", f->non_embedding);
    put_count(j, "active_parameters", f->active);
    put_count(j, "weight_bytes", f->weight_bytes);
    json_object_set_new(j, "dtype", json_string(dtype_name(r->at.weights)));
    put_count(j, "kv_bytes", f->kv_bytes);
    json_object_set_new(j, "cache_dtype", json_string(dtype_name(r->at.cache)));
    put_count(j, "context", r->at.context);
    json_object_set_new(j, "prefill_flops", json_real(f->prefill_flops));
    json_object_set_new(j, "decode_flops", json_real(f->decode_flops));
    json_object_set_new(j, "prefill_speedup", json_real(prefill_speedup(r, f)));
    json_object_set_new(j, "decode_speedup", json_real(decode_speedup(r, f)));
    struct speed p = predicted(r, f);
    put_speed(j, "predicted", &p);
    put_speed(j, "measured", &r->measured);
    struct err refused = export_refusal(shape);
    if (refused.set)
        json_object_set_new(j, "hf_export_refuses", json_text(refused.msg));
    json_object_set_new(j, "options", json_string(options + (*options == ' ')));
    return j;
}

/* ---- a table */

/* Three digits and a unit, of which that of 1e9 is `giga`, before `per`: "8.27B", "16.5K/s". */
static void print_amount(FILE *to, double n, char giga, const char *per)
{
    const char units[] = {' ', 'K', 'M', giga, 'T'};
    int u = 0, digits = 0;
    for (; n >= 999.5 && u < 4; u++)
        n /= 1000;
    if (u)
        digits = n < 9.995 ? 2 : n < 99.95;
    fprintf(to, " %*.*f%c%s", 6 - (int)strlen(per), digits, n, units[u], per);
}

/* The sizes of a shape; those that only some families have are left out of the tables of others,
 * and the vocabulary where it stays as it is. */
static const struct column {
    enum axis axis;
    const char *title;
    int width;
} columns[] = {{AXIS_L, "layers", 6},  {AXIS_E, "hidden", 7},   {AXIS_V, "vocab", 8},
               {AXIS_H, "heads", 6},   {AXIS_K, "kv", 4},       {AXIS_F, "ffn", 7},
               {AXIS_X, "experts", 8}, {AXIS_N, "each-ffn", 9}, {AXIS_S, "shared", 7},
               {AXIS_G, "groups", 7},  {AXIS_M, "m-heads", 8},  {AXIS_R, "m-dim", 6}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static int has_column(const struct shape_report *r, const struct model_spec *h, int i)
{
    enum axis x = columns[i].axis;
    if (x < LAYER_AXES)
        return x != AXIS_V || r->vocab;
    return family_has_axis(h->family, x);
}

void shape_table_head(FILE *to, const struct shape_report *r, const struct model_spec *h)
{
    for (int i = 0; i < COLUMNS; i++)
        if (has_column(r, h, i))
            fprintf(to, "%*s", columns[i].width, columns[i].title);
    fprintf(to, " %7s %7s %7s %7s %7s %7s\n", "total", "non-emb", "weights", "cache", "prefill",
            "decode");
}

static void print_speed(FILE *to, double n)
{
    if (n < 1000)
        fprintf(to, " %5.4g/s", n);
    else
        print_amount(to, n, 'G', "/s");
}

static void print_speeds(FILE *to, const struct shape_report *r, const struct footprint *f)
{
    struct speed s = r->measured.decode > 0 ? r->measured : predicted(r, f);
    if (s.decode > 0) {
        print_speed(to, s.prefill);
        print_speed(to, s.decode);
        fputc('\n', to);
    } else {
        fprintf(to, " %6.2fx %6.2fx\n", prefill_speedup(r, f), decode_speedup(r, f));
    }
}

void shape_table_row(FILE *to, const struct shape_report *r, const struct model_spec *shape,
                     const struct footprint *f)
{
    for (int i = 0; i < COLUMNS; i++) {
        if (!has_column(r, shape, i))
            continue;
        int64_t n = common_size(shape, columns[i].axis);
        if (n < 0)
            fprintf(to, "%*s", columns[i].width, "*");
        else
            fprintf(to, "%*" PRId64, columns[i].width, n);
    }
    print_amount(to, (double)f->parameters, 'B', "");
    print_amount(to, (double)f->non_embedding, 'B', "");
    print_amount(to, (double)f->weight_bytes, 'G', "");
    print_amount(to, (double)f->kv_bytes, 'G', "");
    print_speeds(to, r, f);
}
