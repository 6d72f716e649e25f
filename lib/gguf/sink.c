/* A GGUF file as a sink of a model, in constant memory. In: canonical tensors in stream order. Out:
 * the tensors of llama.cpp's architecture (form.c), quantised row by row (types.c): fused ones
 * joined, q and k rows in the order of the file's rope, 1 added to norms stored as 1 + w, scores'
 * factors multiplied in, Mamba's A_log as A; metadata, tokenizer and rope tables before them.
 * Values that a type holds already keep their bytes. Refused: what form.c and tokenizer_write.c
 * refuse; values that are not finite or beyond the range of f16, where the type has f16 scales. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/minmax.h"
#include "gguf.h"
#include "write.h"

/* bytes of canonical rows held at once; at least one row, of transposed tensors one block */
enum { BLOCK = 4 << 20 };

struct gguf_sink {
    struct gguf_form form;
    const struct gguf_recipe *recipe;
    const struct gguf_sink_options *options;
    char *path;
    struct gguf_texts texts;
    struct gguf_out *out; /* NULL before the first tensor */
    struct arena memory;
    unsigned char *raw, *cooked; /* rows as received, as stored */
    float *wide;
    /* the incoming tensor: its index, bytes of a row; the first row of the block; bytes received of
     * it and expected */
    int tensor;
    int64_t row_bytes, row, held, block;
};

/* ---- before the tensors */

static int sink_file(void *self, int i, const void *data, struct err *e)
{
    struct gguf_sink *s = self;
    const char *name = s->form.as.files[i].name;
    const struct {
        const char *name;
        char **text;
    } wanted[] = {{"tokenizer.json", &s->texts.tokenizer},
                  {"tokenizer_config.json", &s->texts.tokenizer_config},
                  {"generation_config.json", &s->texts.generation_config},
                  {"chat_template.jinja", &s->texts.chat_template}};
    (void)e;
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++)
        if (!strcmp(wanted[k].name, name))
            *wanted[k].text = mem_format("%.*s", (int)s->form.as.files[i].bytes,
                                         (const char *)data);
    return 0;
}

static int put_metadata(struct gguf_sink *s, struct gguf_head *head, struct err *e)
{
    const struct model_spec *h = &s->form.as;
    struct gguf_name name = gguf_name(s->options->name, model_spec_parameters(h, NULL));
    gguf_put_text(head, "general.architecture", s->form.row->arch);
    gguf_put_text(head, "general.type", "model");
    gguf_put_about(head, &name, s->options, h->id, s->recipe);
    gguf_put_card(head, s->options->card, s->options->base_model);
    gguf_name_free(&name);
    gguf_put_config(head, &s->form);
    return gguf_put_tokenizer(head, &s->texts, h->config, h->vocab_size, e);
}

static int begin(struct gguf_sink *s, struct err *e)
{
    struct gguf_head head = {0};
    if (!put_metadata(s, &head, e))
        s->out = gguf_create(s->path, &head, s->form.tensors, s->form.n_tensors, e);
    gguf_head_free(&head);
    return s->out ? gguf_form_write(&s->form, s->out, e) : -1;
}

/* ---- rows */

static int64_t cols(const struct gguf_sink *s)
{
    return layout_view(&s->form.layout, s->tensor)->cols;
}

static int check_values(const struct gguf_sink *s, enum gguf_type type, const float *x, int64_t n,
                        struct err *e)
{
    for (int64_t i = 0; type != GGUF_F32 && type != GGUF_BF16 && i < n; i++)
        if (!(fabsf(x[i]) < 65520))
            return err_set(e,
                           "tensor %s has the value %g, which type %s cannot hold: choose --type "
                           "f32 or bf16",
                           s->form.as.tensors[s->tensor].name, (double)x[i], gguf_type_name(type));
    return 0;
}

/* Row by row, in as many threads as there are; the result does not depend on them. */
static void quantize(enum gguf_type type, unsigned char *to, const float *x, int64_t rows,
                     int64_t n)
{
    int64_t bytes = gguf_bytes(type, n);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        gguf_quantize(type, to + r * bytes, x + r * n, n);
}

/* The block's rows as stored in a tensor of that type. NULL: a value is beyond its range. */
static const unsigned char *cook(struct gguf_sink *s, int64_t rows, enum gguf_type type,
                                 struct err *e)
{
    const struct model_spec *h = &s->form.as;
    enum dtype d = h->tensors[s->tensor].dtype;
    double fold = s->form.fold[s->tensor];
    float plus = gguf_is_plus1(h, s->tensor) ? 1 : 0;
    int64_t n = rows * cols(s);
    int decay = gguf_is_decay(h, s->tensor);
    if (gguf_dtype(type) == (int)d && plus == 0 && fold == 1 && !decay)
        return s->raw;
    to_f32(s->wide, s->raw, d, n);
    for (int64_t i = 0; (plus != 0 || fold != 1) && i < n; i++)
        s->wide[i] = (float)(fold * (double)(s->wide[i] + plus));
    for (int64_t i = 0; decay && i < n; i++)
        s->wide[i] = -expf(s->wide[i]);
    if (check_values(s, type, s->wide, n, e))
        return NULL;
    quantize(type, s->cooked, s->wide, rows, cols(s));
    return s->cooked;
}

/* A whole block [block, cols] of a tensor that the file has as [cols, block]. */
static int write_transposed(struct gguf_sink *s, enum gguf_type type, struct err *e)
{
    const struct view *v = layout_view(&s->form.layout, s->tensor);
    int64_t n = v->block * v->cols, bytes = v->cols * gguf_bytes(type, v->block);
    float *turned = (float *)s->raw; /* which has room for f64 */
    to_f32(s->wide, s->raw, s->form.as.tensors[s->tensor].dtype, n);
    if (check_values(s, type, s->wide, n, e))
        return -1;
    for (int64_t k = 0; k < v->block; k++)
        for (int64_t c = 0; c < v->cols; c++)
            turned[c * v->block + k] = s->wide[k * v->cols + c];
    quantize(type, s->cooked, turned, v->cols, v->block);
    return gguf_write(s->out, v->stored, s->row / v->block * bytes, s->cooked, bytes, e);
}

/* Rows r .. r + n - 1 of the tensor, where the layout has them. */
static int write_rows(struct gguf_sink *s, int64_t n, struct err *e)
{
    const struct view *v = layout_view(&s->form.layout, s->tensor);
    enum gguf_type type = s->form.tensors[v->stored].type;
    if (v->transposed)
        return write_transposed(s, type, e);
    const unsigned char *rows = cook(s, n, type, e);
    int64_t bytes = gguf_bytes(type, v->cols), run;
    for (int64_t r = s->row, end = r + n; rows && r < end; r += run) {
        int64_t at = layout_row(&s->form.layout, s->tensor, r, &v, &run);
        run = min64(run, end - r);
        if (gguf_write(s->out, v->stored, at * bytes, rows, run * bytes, e))
            return -1;
        rows += run * bytes;
    }
    return rows ? 0 : -1;
}

/* The same rows of the embedding as those of a head that the architecture does not tie. */
static int write_head(struct gguf_sink *s, int64_t n, struct err *e)
{
    const struct gguf_form *f = &s->form;
    if (f->head < 0 || strcmp(f->as.tensors[s->tensor].name, "embed_tokens.weight"))
        return 0;
    enum gguf_type type = f->tensors[f->head].type;
    const unsigned char *rows = cook(s, n, type, e);
    int64_t bytes = gguf_bytes(type, cols(s));
    return rows ? gguf_write(s->out, f->head, s->row * bytes, rows, n * bytes, e) : -1;
}

static int64_t rows_of(const struct gguf_sink *s)
{
    return tensor_count(&s->form.as.tensors[s->tensor]) / cols(s);
}

static int64_t rows_held(const struct gguf_sink *s)
{
    const struct view *v = layout_view(&s->form.layout, s->tensor);
    int64_t fit = BLOCK / (cols(s) * 4);
    if (v->transposed)
        return v->block;
    return fit ? fit : 1;
}

static void block_begin(struct gguf_sink *s)
{
    s->held = 0;
    s->block = min64(rows_held(s), rows_of(s) - s->row) * s->row_bytes;
}

static int block_end(struct gguf_sink *s, struct err *e)
{
    int64_t n = s->block / s->row_bytes;
    if (write_rows(s, n, e) || write_head(s, n, e))
        return -1;
    s->row += n;
    block_begin(s);
    return 0;
}

static int sink_next(void *self, int i, struct err *e)
{
    struct gguf_sink *s = self;
    if (!s->out && begin(s, e))
        return -1;
    s->tensor = i;
    s->row = 0;
    s->row_bytes = dtype_bytes(s->form.as.tensors[i].dtype, cols(s));
    block_begin(s);
    return 0;
}

static int sink_write(void *self, const void *data, int64_t n, struct err *e)
{
    struct gguf_sink *s = self;
    for (int64_t done = 0, part; done < n; done += part) {
        part = min64(n - done, s->block - s->held);
        memcpy(s->raw + s->held, (const char *)data + done, (size_t)part);
        s->held += part;
        if (s->held == s->block && block_end(s, e))
            return -1;
    }
    return 0;
}

static int sink_end(void *self, struct err *e)
{
    struct gguf_sink *s = self;
    struct gguf_out *out = s->out;
    s->out = NULL;
    return gguf_finish(out, e);
}

static void sink_close(void *self)
{
    struct gguf_sink *s = self;
    gguf_abandon(s->out);
    gguf_form_free(&s->form);
    arena_close(&s->memory);
    free(s->texts.tokenizer);
    free(s->texts.tokenizer_config);
    free(s->texts.generation_config);
    free(s->texts.chat_template);
    free(s->path);
    free(s);
}

static const struct model_sink gguf_sink = {sink_file, sink_next, sink_write, sink_end, sink_close};

/* ---- opening */

static int open_memory(struct gguf_sink *s, struct err *e)
{
    int64_t room = 0;
    for (s->tensor = 0; s->tensor < s->form.as.n_tensors; s->tensor++)
        room = max64(room, min64(rows_held(s), rows_of(s)) * cols(s));
    size_t wide = arena_round((size_t)room * 4), raw = 2 * wide; /* of f64 */
    if (arena_open(&s->memory, raw + 2 * wide, e))
        return -1;
    s->raw = arena_take(&s->memory, raw);
    s->cooked = arena_take(&s->memory, wide);
    s->wide = arena_take(&s->memory, wide);
    return 0;
}

/* Appends a sentence to the note. */
static char *add_note(char *note, char *sentence)
{
    char *made = note ? mem_format("%s; %s", note, sentence) : mem_string(sentence);
    free(note);
    free(sentence);
    return made;
}

/* What differs between the model and the file, or between llama.cpp and pare. */
static char *make_note(const struct gguf_sink *s, const struct model_spec *h, char *types)
{
    const struct gguf_form *f = &s->form;
    char *note = NULL;
    int64_t window = 0;
    for (int64_t l = 0; l < h->num_hidden_layers; l++)
        window = max64(window, h->layers[l].sliding_window);
    if (f->row != h->family->gguf)
        note = add_note(note, mem_format("written as architecture %s, which computes the same as "
                                         "%s",
                                         f->row->arch, h->family->name));
    if (f->n_zero)
        note = add_note(note, mem_format("%d biases of zeros were added, which architecture %s "
                                         "requires",
                                         f->n_zero, f->row->arch));
    if (f->n_folded)
        note = add_note(note, mem_format("the scale of scores of %d layers was multiplied into q",
                                         (int)f->n_folded));
    if (window && !f->row->windows && window < h->max_position_embeddings)
        note = add_note(note,
                        mem_format("llama.cpp runs architecture %s without its sliding window "
                                   "of %lld: longer texts get different results",
                                   f->row->arch, (long long)window));
    if (h->dt_min > 0)
        note = add_note(note, mem_format("llama.cpp does not keep the time steps of Mamba layers "
                                         "above %g, as transformers does",
                                         h->dt_min));
    return types ? add_note(note, types) : note;
}

struct model_out *gguf_sink_open(const struct model_spec *spec, const char *path,
                                 const struct gguf_sink_options *o, struct err *e)
{
    struct model_out *out = model_out_new(spec, e);
    struct gguf_sink *s = mem_alloc(sizeof *s);
    out->sink = &gguf_sink;
    out->self = s;
    s->options = o;
    s->recipe = o->type ? gguf_recipe(o->type) : NULL;
    s->path = mem_string(path);
    if (gguf_form_make(&s->form, spec, path, e) || open_memory(s, e)) {
        model_out_close(out);
        return NULL;
    }
    char *types = gguf_choose_types(&s->form, s->recipe, o->pure);
    s->recipe = s->recipe ? s->recipe : gguf_recipe_of(spec);
    out->note = make_note(s, spec, types);
    return out;
}
