/* loss on CUDA: see kernels/cpu/loss.c for shapes, kernels/losses.def for formulas. Logits of a
 * chunk of tokens lie in scratch in the type of the activations and become their own gradients
 * (loss_row.h); everything taken of them is computed in f32, long sums as in cuda.h. Only the
 * device knows which positions are counted, so all are computed. Heads are of the type of the
 * activations, or with f32 activations f32, bf16 or f16, then widened block by block. Refuses
 * others. */
#include "loss_listing.h"
#include "weights.h"

enum { WIDE = 1 << 24 }; /* floats in a widened block of a head */

/* ---- scratch: student's logits, teacher's, those of listed entries, one widened block */

/* Each chunk reads and writes the whole f32 gradient of the head, 8 bytes an entry for 2 * chunk
 * FLOP: on an H100 (700 TFLOP/s, 3 TB/s) about 930 tokens make that no longer than the product
 * itself. Beyond a few thousand nothing is gained. LOGITS bytes are 1,024 tokens of two models with
 * 128,256 ids in bf16, and 512 with 256,000. Whole multiples of 128, since that is what the
 * products' tiles are cut in. */
enum { CHUNK_UNIT = 128, CHUNK_LEAST = 256, CHUNK_MOST = 4096, LOGITS = 512 << 20 };

int64_t cuda_loss_chunk(const struct exec *x, int64_t vocabulary, int64_t teacher_vocabulary,
                        int64_t)
{
    int64_t bytes = (vocabulary + min(vocabulary, teacher_vocabulary)) *
                    (x->compute == DT_BF16 ? 2 : 4),
            chunk = LOGITS / bytes / CHUNK_UNIT * CHUNK_UNIT;
    return max((int64_t)CHUNK_LEAST, min(chunk, (int64_t)CHUNK_MOST));
}

static int64_t chunk_rows(const struct op_args *c)
{
    int64_t chunk = c->p.loss.chunk;
    return chunk > 0 && chunk < c->rows ? chunk : c->rows;
}

/* Does the teacher come with the tokens, as logits or as listed entries? */
static bool is_given(const struct op_args *c) { return c->p.loss.teacher.form == TEACHER_LOGITS; }
static bool is_listing(const struct op_args *c) { return loss_is_listing(c->p.loss.teacher); }

/* Logits of a token: the student's (0), or of the teacher's (1) those that the student has too. */
static int64_t logits_count(const struct op_args *c, int who)
{
    int64_t teacher = is_given(c) ? c->p.loss.teacher.n : c->w[2].rows;
    return who ? min(c->w[0].rows, teacher) : c->w[0].rows;
}

/* Rows of logits start at whole vectors. */
static int64_t logits_ld(const struct op_args *c, int who)
{
    return (logits_count(c, who) + 7) / 8 * 8;
}

static size_t logits_bytes(const struct op_args *c, int who)
{
    size_t bytes = (size_t)(chunk_rows(c) * logits_ld(c, who)) *
                   (c->in[0].dtype == DT_BF16 ? 2 : 4);
    return (bytes + 63) & ~(size_t)63;
}

static int64_t wide_rows(const struct op_args *c, const struct operand *w)
{
    int64_t rows = w->cols > 0 && w->dtype != c->in[0].dtype ? WIDE / w->cols : w->rows;
    return rows < 16 ? min((int64_t)16, w->rows) : min(rows, w->rows);
}

static size_t wide_bytes(const struct op_args *c, const struct operand *w)
{
    return w->dtype != c->in[0].dtype ? (size_t)(wide_rows(c, w) * w->cols) * sizeof(float) : 0;
}

static size_t points_bytes(const struct op_args *c)
{
    size_t bytes = is_listing(c) ? (size_t)(chunk_rows(c) * c->p.loss.teacher.n) * 4 : 0;
    return (bytes + 63) & ~(size_t)63;
}

static size_t loss_scratch(const struct op_args *c)
{
    size_t student = wide_bytes(c, &c->w[0]), teacher = wide_bytes(c, &c->w[2]);
    return logits_bytes(c, 0) + logits_bytes(c, 1) + points_bytes(c) +
           (student > teacher ? student : teacher);
}

/* ---- a chunk */

static const char *rows_from(const struct operand *x, int64_t from)
{
    return (const char *)x->v + from * x->cols * (x->dtype == DT_BF16 ? 2 : 4);
}

/* Logits of rows from .. from + n - 1 of student (0) or teacher (1). */
static void head_products(const struct op_args *c, int who, void *z, float *wide, int64_t from,
                          int64_t n)
{
    const struct operand *w = &c->w[2 * who];
    enum dtype d = c->in[0].dtype;
    int64_t E = w->cols, V = logits_count(c, who), ld = logits_ld(c, who), step = wide_rows(c, w),
            rows;
    for (int64_t v = 0; v < V; v += rows) {
        rows = min(V - v, step);
        cuda_mm(c, 'N', 'T', n, rows, E, 1, rows_from(&c->in[who], from), d, E,
                weight_panel(c, w, d, wide, v, rows), d, E, 0,
                (char *)z + v * (d == DT_BF16 ? 2 : 4), d, ld);
    }
}

template <class T> static logits<T> logits_of(const struct op_args *c, int who, void *z)
{
    const struct loss_params *p = &c->p.loss;
    return {(T *)z,
            (const float *)c->w[2 * who + 1].v,
            logits_count(c, who),
            logits_ld(c, who),
            who ? p->teacher_logit_scale : p->logit_scale,
            who ? p->teacher_logit_cap : p->logit_cap};
}

static const char *token_data(const struct op_args *c, int64_t from)
{
    return (const char *)c->batch->token_data + from * c->batch->token_bytes;
}

template <class T>
static void given_logits(const struct op_args *c, void *zt, int64_t from, int64_t n)
{
    LAUNCH(c, fill_logits<T>, (unsigned)n, THREADS_FEW, 0,
           (const float *)(const void *)token_data(c, from), c->p.loss.teacher.n, (T *)zt,
           logits_count(c, 1), logits_ld(c, 1));
}

template <class T>
static void listing_values(const struct op_args *c, const row_params &p, void *z, float *points,
                           int64_t from, int64_t n)
{
    int columns = loss_columns(p.kind.set);
    LAUNCH(c, row_listings<T>, (unsigned)n, THREADS_FEW, 0, logits_of<T>(c, 0, z),
           c->batch->labels + from, p, token_data(c, from), points, columns,
           (double *)c->out.v + columns * from);
}

template <class T>
static void chunk_values(const struct op_args *c, const row_params &p, void *z, void *zt,
                         int64_t from, int64_t n)
{
    const int32_t *labels = c->batch->labels + from;
    int columns = loss_columns(p.kind.set);
    double *out = (double *)c->out.v + columns * from;
    logits<T> h = logits_of<T>(c, 0, z), ht = logits_of<T>(c, 1, zt);
    unsigned threads = h.V < LONG_ROW ? THREADS_FEW : THREADS_MOST;
    auto row_kernel = row_losses<T, SET_ANY>;
    if (p.kind.set == SET_CE)
        row_kernel = row_losses<T, SET_CE>;
    else if (p.kind.set == SET_KL)
        row_kernel = row_losses<T, SET_KL>;
    LAUNCH(c, row_kernel, (unsigned)n, threads, 0, h, ht, labels, p, columns, out);
}

static void chunk_gradients(const struct op_args *c, void *z, float *wide, int64_t from, int64_t n)
{
    const struct operand *w = &c->w[0];
    enum dtype d = c->in[0].dtype;
    int64_t E = w->cols, ld = logits_ld(c, 0), step = wide_rows(c, w), size = d == DT_BF16 ? 2 : 4,
            rows;
    for (int64_t v = 0; c->in[0].g && v < w->rows; v += rows) {
        rows = min(w->rows - v, step);
        cuda_mm(c, 'N', 'N', n, E, rows, 1, (char *)z + v * size, d, ld,
                weight_panel(c, w, d, wide, v, rows), d, E, v > 0 || !c->in[0].overwrite,
                (char *)(void *)c->in[0].g + from * E * size, d, E);
    }
    if (w->g)
        cuda_mm(c, 'T', 'N', w->rows, E, n, 1, z, d, ld, rows_from(&c->in[0], from), d, E,
                from > 0 || !w->overwrite, w->g, DT_F32, E);
    if (c->w[1].g)
        BY_DTYPE(d, T, add_row_sums(c, (const T *)z, n, w->rows, ld, c->w[1].g));
}

/* Gradients to be overwritten that nothing will write. */
static void zero_overwrite(const struct op_args *c)
{
    const struct operand *all[] = {&c->in[0], &c->w[0]};
    for (const struct operand *o : all)
        if (o->g && o->overwrite)
            exec_zero(c->x, o->g,
                      (size_t)dtype_bytes(o == all[0] ? o->dtype : DT_F32, o->rows * o->cols));
}

static void loss_fwd(const struct op_args *c)
{
    const struct loss_params *p = &c->p.loss;
    int has_teacher = is_given(c) || (c->in[1].v && c->w[2].v);
    enum dtype d = c->in[0].dtype;
    char *z = (char *)c->scratch, *zt = z + logits_bytes(c, 0);
    float *points = (float *)(void *)(zt + logits_bytes(c, 1)),
          *wide = (float *)(void *)((char *)points + points_bytes(c));
    row_params r = {
        p->kind, p->teacher, c->step, has_teacher ? logits_count(c, 1) : 0, 1 / p->kind.temperature,
        false,   false};
    r.one_softmax = (r.shared == c->w[0].rows || is_listing(c)) && p->kind.temperature == 1;
    r.want_gradient = p->gradients && (c->in[0].g || c->w[0].g || c->w[1].g);
    if (weights_refused(c, "loss", &c->w[0], d) || weights_refused(c, "loss", &c->w[2], d))
        return;
    if (!r.want_gradient)
        zero_overwrite(c);
    for (int64_t t = 0, n; t < c->rows; t += n) {
        n = min(c->rows - t, chunk_rows(c));
        head_products(c, 0, z, wide, t, n);
        if (is_given(c))
            BY_DTYPE(d, T, given_logits<T>(c, zt, t, n));
        else if (has_teacher)
            head_products(c, 1, zt, wide, t, n);
        if (is_listing(c))
            BY_DTYPE(d, T, listing_values<T>(c, r, z, points, t, n));
        else
            BY_DTYPE(d, T, chunk_values<T>(c, r, z, zt, t, n));
        if (r.want_gradient)
            chunk_gradients(c, z, wide, t, n);
    }
    launched(c, "loss");
}

const struct kernel loss_cuda = {.forward = loss_fwd, .scratch = loss_scratch, .sets = 1};
