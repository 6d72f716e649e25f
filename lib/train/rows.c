/* See rows.h. */
#include "rows.h"

#include "stream.h"

int rows_cut(struct window_options *w, const struct tokens *text, int64_t asked,
             const struct model_spec *student, const struct model_spec *teacher, struct err *e)
{
    const struct model_spec *h = student;
    if (teacher && teacher->max_position_embeddings < h->max_position_embeddings)
        h = teacher;
    *w = (struct window_options){.seq_length = window_length_of(text, asked, h)};
    return row_bos_of_stream(&w->bos, text->head, "auto", student, e);
}

int rows_open(struct data_sources *data, const struct train_options *o,
              const struct model_spec *student, const struct model_spec *teacher, char note[200],
              struct err *e)
{
    int64_t asked = train_stream_length(o->stream, o->seq_length);
    note[0] = 0;
    for (int i = 0; i < data->n; i++)
        for (int64_t k = 0; k < data->all[i].n_streams; k++) {
            struct data_stream *s = &data->all[i].streams[k];
            struct window_options w;
            if (rows_cut(&w, &s->tokens, asked, student, teacher, e) ||
                windows_open(&s->windows, &s->tokens, &w, e) ||
                train_stream_check_windows(o->stream, &s->windows, &w, e))
                return -1;
            if (!note[0])
                window_note(note, w.seq_length, asked > 0, student);
        }
    data_sources_ready(data);
    data->shuffled = o->shuffled;
    data->seed = (uint64_t)o->seed;
    return 0;
}

int rows_check(const struct tokens *text, const struct train_options *o,
               const struct model_spec *student, const struct model_spec *teacher, struct err *e)
{
    struct window_options w;
    struct windows windows = {0};
    if (rows_cut(&w, text, o->seq_length, student, teacher, e) ||
        windows_open(&windows, text, &w, e))
        return -1;
    windows_close(&windows);
    return 0;
}
