/* See stream.h. */
#include "stream.h"

#include <string.h>

#include "../base/mem.h"
#include "../base/world.h"

/* ---- opening */

static int form_of(const struct logits_spec *s, const char *rest, const char *path,
                   struct loss_teacher *form, struct err *e)
{
    static const struct {
        const char *name;
        enum teacher_form form;
    } rests[] = {{"bin", TEACHER_REST}, {"renormalise", TEACHER_TOP}, {"drop", TEACHER_TERMS}};
    int is_auto = !strcmp(rest, "auto");
    *form = (struct loss_teacher){s->form == LOGITS_FULL ? TEACHER_LOGITS : TEACHER_TERMS, s->n};
    if (s->form == LOGITS_FULL)
        form->n = s->vocab_size;
    if (s->form != LOGITS_TOP)
        return is_auto ? 0
                       : err_set(e, "--teacher-rest %s has no effect: %s holds %s", rest, path,
                                 logits_form_name(s));
    form->form = s->tail ? TEACHER_REST : TEACHER_TERMS;
    for (size_t i = 0; i < 3; i++)
        if (!strcmp(rests[i].name, rest)) {
            form->form = rests[i].form;
            is_auto = 1;
        }
    if (!is_auto)
        return err_set(e, "--teacher-rest must be auto, bin, renormalise or drop, not \"%s\"",
                       rest);
    if (form->form == TEACHER_REST && !s->tail)
        return err_set(e,
                       "--teacher-rest bin needs the mass of the rest, which %s lacks: write it "
                       "with dump-logits --tail",
                       path);
    return 0;
}

int train_stream_open(struct train_stream *s, struct st_in *in, const char *rest, struct err *e)
{
    *s = (struct train_stream){.data = NULL};
    return logits_open(&s->in, in, e) || form_of(&s->in.spec, rest, s->in.path, &s->form, e) ? -1
                                                                                             : 0;
}

const char *train_stream_form(const struct train_stream *s)
{
    static const char *const names[] = {[TEACHER_MODEL] = "model",
                                        [TEACHER_LOGITS] = "logits",
                                        [TEACHER_TERMS] = "terms",
                                        [TEACHER_TOP] = "top",
                                        [TEACHER_REST] = "rest"};
    return names[s->form.form];
}

/* ---- what is refused */

static int losses_check(const struct train_stream *s, const struct train_options *o, struct err *e)
{
    for (int i = 0; i < LOSS_COUNT; i++)
        if (o->weights[i] != 0 && !loss_possible((enum loss)i, s->form.form))
            return err_set(
                e,
                "--loss %s cannot be computed from %s, which holds %s: it needs a stream that "
                "dump-logits wrote with %s",
                loss_table[i].name, s->in.path, logits_form_name(&s->in.spec),
                loss_table[i].needs_teacher == NEEDS_LOGITS ? "--full" : "--top-k or --full");
    return 0;
}

int train_stream_order(const struct train_stream *s, struct train_options *o, struct err *e)
{
    int64_t each = o->batch_size * o->accumulation, count = s->in.spec.count;
    if (!logits_is_pipe(&s->in))
        return 0;
    o->shuffled = o->shuffled && o->typed.order;
    if (o->shuffled)
        return err_set(e,
                       "%s is a pipe, whose order is that of the text: give --order sequential, or "
                       "a file",
                       s->in.path);
    if (o->schedule.max_steps * each <= count)
        return 0;
    return err_set(e,
                   "%lld steps of %lld sequences are more than the pipe %s has, %lld, and it comes "
                   "only once: give --max-steps %lld, or a file",
                   (long long)o->schedule.max_steps, (long long)each, s->in.path, (long long)count,
                   (long long)(count / each));
}

int train_stream_check(const struct train_stream *s, const struct train_options *o,
                       const struct data_sources *data, const struct model_spec *student,
                       const char *name, struct err *e)
{
    const struct logits_spec *l = &s->in.spec;
    const char *path = s->in.path;
    const struct data_stream *text = &data->all->streams[0];
    if (data->n > 1 || data->all->n_streams > 1)
        return err_set(e, "%s was made from one token stream: give one --data, joined with ts-cat",
                       path);
    if (l->vocab_size != student->vocab_size)
        return err_set(e, "%s has a vocabulary of %lld tokens, the student's has %lld", path,
                       (long long)l->vocab_size, (long long)student->vocab_size);
    if (!digest_may_equal(l->tokens, text->tokens.id))
        return err_set(
            e,
            "%s was made from a different text than %s: from the tokens %.8s, and these are "
            "%.8s",
            path, text->path, l->tokens, text->tokens.id);
    if (l->form != LOGITS_FULL && l->temperature != o->temperature)
        return err_set(e, "%s was made with --temperature %g, not %g: give the same here", path,
                       l->temperature, o->temperature);
    if (o->seq_length && o->seq_length != l->seq_length)
        return err_set(e, "--seq-length %lld: %s was made with windows of %lld tokens%s",
                       (long long)o->seq_length, path, (long long)l->seq_length,
                       l->seq_length ? "" : " (0: no sequence is cut)");
    if (name && data_check_tokenizers(name, student->tokenizer_id, path, l->tokenizer, e))
        return -1;
    return losses_check(s, o, e);
}

int64_t train_stream_length(const struct train_stream *s, int64_t asked)
{
    return s && !asked ? s->in.spec.seq_length : asked;
}

int train_stream_check_windows(const struct train_stream *s, const struct windows *w,
                               const struct window_options *cut, struct err *e)
{
    if (!s)
        return 0;
    const struct logits_spec *l = &s->in.spec;
    if (cut->seq_length != l->seq_length)
        return err_set(e, "%s was made with windows of %lld tokens, but the student takes %lld",
                       s->in.path, (long long)l->seq_length, (long long)cut->seq_length);
    if (cut->bos.n != l->bos.n ||
        memcmp(cut->bos.ids, l->bos.ids, (size_t)l->bos.n * sizeof *l->bos.ids))
        return err_set(e, "%s was made with windows that begin with other BOS tokens", s->in.path);
    return logits_check_windows(&s->in, w, e);
}

/* ---- batches */

static int is_shared(const struct train_stream *s)
{
    return logits_is_pipe(&s->in) && world_size() > 1;
}

static int64_t batch_bytes(const struct train_stream *s, const struct train_rows *own, int64_t n)
{
    return own->rows * (n - 1) * loss_token_bytes(s->form);
}

static int64_t step_bytes(const struct train_stream *s, const struct train_rows *own, int64_t n)
{
    return is_shared(s) ? own->passes * own->rows * n * logits_row_bytes(&s->in.spec) : 0;
}

int64_t train_stream_bytes(const struct train_stream *s, const struct train_rows *own, int64_t n)
{
    return s ? batch_bytes(s, own, n) + step_bytes(s, own, n) : 0;
}

void train_stream_room(struct train_stream *s, const struct train_rows *own, int64_t n)
{
    s->data = mem_alloc((size_t)batch_bytes(s, own, n));
    s->taken = mem_alloc((size_t)step_bytes(s, own, n));
}

int train_stream_take(struct train_stream *s, const struct data_row *row, int is_own, struct err *e)
{
    if (!is_shared(s))
        return 0;
    if (s->used_bytes == s->taken_bytes) /* of the step before */
        s->used_bytes = s->taken_bytes = 0;
    const unsigned char *from = logits_read(&s->in, row->window, row->n, e);
    int64_t bytes = row->n * logits_row_bytes(&s->in.spec);
    if (from && is_own) {
        memcpy(s->taken + s->taken_bytes, from, (size_t)bytes);
        s->taken_bytes += bytes;
    }
    return from ? 0 : -1;
}

/* The window of a row: of a shared pipe, the next one that was taken. */
static const unsigned char *window_read(struct train_stream *s, const struct data_row *row,
                                        struct err *e)
{
    if (!is_shared(s))
        return logits_read(&s->in, row->window, row->n, e);
    const unsigned char *from = s->taken + s->used_bytes;
    s->used_bytes += row->n * logits_row_bytes(&s->in.spec);
    return from;
}

int train_stream_fill(struct train_stream *s, struct data_batch *b, const struct data_row *rows,
                      struct err *e)
{
    int64_t bytes = loss_token_bytes(s->form), row = logits_row_bytes(&s->in.spec);
    for (int64_t i = 0; i < b->b.n_seq; i++) {
        int64_t n = b->lengths[i];
        const unsigned char *from = window_read(s, &rows[i], e);
        if (!from)
            return -1;
        for (int64_t t = 0; t + 1 < n; t++)
            if (logits_unpack(&s->in.spec, from + t * row,
                              s->data + (i * b->b.seq_len + t) * bytes))
                return err_set(e, "%s: damaged row %lld of window %lld", s->in.path, (long long)t,
                               (long long)rows[i].window);
    }
    b->b.token_data = s->data;
    b->b.token_bytes = bytes;
    return 0;
}
