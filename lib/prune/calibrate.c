/* Batches of a calibration, and what they add to the sums. See calibrate.h. */
#include "calibrate_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/minmax.h"
#include "../base/turns.h"

/* Block inputs (points) compared with the earlier ones per pass, so that those are read once for
 * the whole group. */
enum { GROUP = 8 };

/* ---- after a batch: its sequences are added in order */

/* Adds sequence `seq` of a batch; before: samples before the batch. */
static int add_stat(struct calibration *c, const struct tap_sum *s, const double *batch,
                    int64_t before, int64_t seq, struct err *e)
{
    struct acts_stat *stat = &c->acts.stats[s->stat];
    const double *values[AGG_COUNT];
    for (int q = 0; q < AGG_COUNT; q++)
        values[q] = batch + tap_sum_at(s, q, seq);
    for (int64_t i = 0; i < stat->units; i++)
        if (!isfinite(values[AGG_L2][i]))
            return err_set(e, "activations are not finite (%s, unit %" PRId64 ")", stat->name, i);
    acts_stat_sample(stat, before + seq, values);
    return 0;
}

/* Adds the values of batch i, of n sequences, once they are where sums are made. */
static int add_sum(struct calibration *c, const struct tap_sum *s, int64_t i, int64_t n,
                   int64_t before, struct err *e)
{
    size_t bytes = tap_sum_bytes(s);
    const double *batch = turn_is_mine(i) ? exec_view(c->x, &c->host, s->there, bytes)
                                          : (c->host = mem_grow(c->host, bytes));
    if (turn_bring(i, (void *)batch, bytes, e))
        return -1;
    for (int64_t k = 0; k < n && turns_end_here(); k++)
        if (add_stat(c, s, batch, before, k, e))
            return -1;
    return 0;
}

static int add_cosine_sums(struct calibration *c, int64_t i, int64_t n, struct err *e)
{
    int64_t cosines = c->acts.block_size * c->acts.axes.size[AXIS_L];
    if (turn_bring(i, c->cosine_sums, (size_t)(n * cosines) * sizeof(double), e))
        return -1;
    for (int64_t k = 0; k < n * cosines && turns_end_here(); k++)
        c->acts.block_cosine[k % cosines] += c->cosine_sums[k];
    return 0;
}

/* What sections from..to have summed of batch i, of n sequences. */
static int add_batch(struct calibration *c, int64_t i, int64_t n, int64_t before, int64_t from,
                     int64_t to, struct err *e)
{
    for (int64_t k = 0; k < c->n_sums; k++)
        if (c->sums[k]->section >= from && c->sums[k]->section <= to &&
            add_sum(c, c->sums[k], i, n, before, e))
            return -1;
    return add_cosine_sums(c, i, n, e);
}

/* ---- section by section */

static size_t cosine_sums_bytes(const struct calibration *c)
{
    return (size_t)(c->n_seq * c->acts.block_size * c->acts.axes.size[AXIS_L]) * sizeof(double);
}

static void keep_batch(struct calibration *c, int64_t i, const struct batch *b, int64_t before)
{
    size_t bytes = (size_t)(b->n_seq * b->seq_len) * sizeof *b->ids;
    int32_t *ids = mem_alloc(bytes);
    memcpy(ids, b->ids, bytes);
    c->waiting = mem_grow(c->waiting, (size_t)(i + 1) * sizeof *c->waiting);
    c->waiting[i] = (struct waiting){*b, before};
    c->waiting[i].b.ids = ids;
    c->kept_bytes += (int64_t)bytes;
}

static const struct batch *fill(void *user, int64_t i, struct err *e)
{
    const struct calibration *c = user;
    (void)e;
    return &c->waiting[i].b;
}

/* Compares what entered a block, which is on the tape, with what entered those before, which was
 * kept. */
static int compare_section(struct calibration *c, int64_t i, int64_t point, struct err *e)
{
    const struct batch *b = &c->waiting[i].b;
    int64_t rows = b->n_seq * b->seq_len, E = c->acts.axes.size[AXIS_E];
    size_t bytes = (size_t)dtype_bytes(c->x->compute, rows * E);
    const struct operand v = {.dtype = c->x->compute, .rows = rows, .cols = E};
    const struct tapped tapped = {.x = c->x, .b = b, .values = &v};
    for (int64_t n = 1; n <= c->acts.block_size && n <= point; n++) {
        const void *earlier = batches_states(&c->batches, i, point - n, e);
        if (!earlier)
            return -1;
        exec_put(c->x, ring_at(c, point - n, 0), earlier, bytes);
    }
    exec_copy(c->x, ring_at(c, point, 0), tape_boundary(c->tape, point), bytes);
    calibrate_compare(c, &tapped, point, point + 1);
    return 0;
}

static int done(void *user, int64_t i, int64_t from, int64_t to, struct err *e)
{
    struct calibration *c = user;
    const struct waiting *w = &c->waiting[i];
    int64_t point = from + 1;
    memset(c->cosine_sums, 0, cosine_sums_bytes(c));
    if (turn_is_mine(i) && point > 0 && point <= c->acts.axes.size[AXIS_L] &&
        compare_section(c, i, point, e))
        return -1;
    return add_batch(c, i, w->b.n_seq, w->before, from, to, e);
}

static void progress(void *user, int64_t n, int64_t of)
{
    const struct calibration *c = user;
    if (c->progress)
        c->progress(c->user, n, of);
}

struct batches *calibrate_batches(struct calibration *c, struct err *e)
{
    return batches_plan(&c->batches, e) ? NULL : &c->batches;
}

int calibrate_run(struct calibration *c, calibrate_progress *show, void *user, struct err *e)
{
    c->progress = show;
    c->user = user;
    int failed = batches_run(&c->batches, e);
    memcpy(c->acts.axes.digest, c->m->spec.digest, sizeof c->acts.axes.digest);
    return failed;
}

/* ---- a batch at a time */

int calibrate_batch(struct calibration *c, const struct batch *b, struct err *e)
{
    int64_t before = c->acts.samples, i = c->batches.n++;
    c->acts.samples += b->n_seq;
    c->acts.positions += b->n_seq * b->seq_len;
    if (c->m->sections) {
        keep_batch(c, i, b, before);
        return 0;
    }
    if (turn_is_mine(i) && tape_forward(c->tape, b, e))
        return -1;
    return add_batch(c, i, b->n_seq, before, SECTION_START, c->acts.axes.size[AXIS_L], e);
}

/* ---- memory */

static size_t cosines_bytes(const struct calibration *c)
{
    return (size_t)(c->group * c->acts.block_size * c->n_seq * c->seq_len) * sizeof(double);
}

static size_t ring_bytes(const struct calibration *c)
{
    return (size_t)dtype_bytes(c->x->compute,
                               c->slots * c->n_seq * c->seq_len * c->acts.axes.size[AXIS_E]);
}

static size_t experts_bytes(const struct calibration *c)
{
    return (size_t)(c->n_seq * (c->expert_scratch + c->expert_use));
}

static size_t arena_bytes(const struct calibration *c)
{
    size_t bytes = arena_round(cosines_bytes(c)) + arena_round(ring_bytes(c)) +
                   arena_round(experts_bytes(c));
    for (int64_t i = 0; i < c->n_sums; i++)
        bytes += arena_round(tap_sum_bytes(c->sums[i]));
    return bytes;
}

int64_t calibrate_bytes(const struct calibration *c)
{
    int64_t sums = 0;
    for (int64_t i = 0; i < c->acts.n_stats; i++)
        sums += 2 * AGG_COUNT * c->acts.stats[i].units;
    return tape_bytes(c->tape) + 8 * sums + c->kept_bytes +
           (int64_t)(cosines_bytes(c) + cosine_sums_bytes(c) + arena_bytes(c));
}

static int buffers_open(struct calibration *c, struct err *e)
{
    if (exec_arena(c->x, &c->arena, arena_bytes(c), e))
        return -1;
    for (int64_t i = 0; i < c->n_sums; i++)
        c->sums[i]->there = arena_take(&c->arena, tap_sum_bytes(c->sums[i]));
    c->cosines = mem_alloc(cosines_bytes(c));
    c->cosine_sums = mem_alloc(cosine_sums_bytes(c));
    c->cosines_there = arena_take(&c->arena, cosines_bytes(c));
    c->ring = arena_take(&c->arena, ring_bytes(c));
    c->experts = arena_take(&c->arena, experts_bytes(c));
    return 0;
}

/* The ring: of a model in memory all points of a group and those before them, of another one point
 * and those before it. */
static void plan_ring(struct calibration *c, int64_t block_size)
{
    int64_t points = c->acts.axes.size[AXIS_L] + 1;
    c->group = c->m->sections ? 1 : GROUP;
    c->slots = block_size + c->group;
    if (c->slots >= points && !c->m->sections)
        c->group = c->slots = points;
}

struct calibration *calibrate_open(struct exec *x, struct model *m, int64_t n_seq, int64_t seq_len,
                                   int64_t block_size, struct err *e)
{
    struct calibration *c = mem_alloc(sizeof *c);
    struct tape_spec spec = {.model = m, .n_seq = n_seq, .seq_len = seq_len, .end = TAPE_NO_HEAD};
    struct axes axes;
    *c = (struct calibration){.x = x, .n_seq = n_seq, .seq_len = seq_len, .m = m};
    axes_from_model(&axes, &m->spec);
    acts_open(&c->acts, &axes, block_size);
    axes_free(&axes);
    plan_ring(c, block_size);
    if (!(c->tape = tape_record(x, &spec, e)) || calibrate_tap(c, m, e) || buffers_open(c, e) ||
        tape_open(c->tape, e)) {
        calibrate_close(c);
        return NULL;
    }
    c->batches = (struct batches){.tape = c->tape,
                                  .earlier = block_size - 1,
                                  .fill = fill,
                                  .done = done,
                                  .left = done,
                                  .progress = progress,
                                  .user = c};
    return c;
}

struct acts *calibrate_acts(struct calibration *c) { return &c->acts; }

void calibrate_close(struct calibration *c)
{
    for (int64_t i = 0; c->waiting && i < c->batches.n; i++)
        free((void *)c->waiting[i].b.ids);
    free(c->waiting);
    batches_close(&c->batches);
    tape_close(c->tape);
    acts_free(&c->acts);
    for (int64_t i = 0; i < c->n_sums; i++)
        free(c->sums[i]);
    free(c->sums);
    free(c->blocks);
    free(c->cosines);
    free(c->cosine_sums);
    free(c->host);
    arena_close(&c->arena);
    free(c);
}
