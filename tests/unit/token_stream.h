/* Token streams for tests: arrays written as a plain stream, and opened. */
#ifndef PARE_TOKEN_STREAM_H
#define PARE_TOKEN_STREAM_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../lib/data/data.h"

/* As tokens_write; ends the process if it fails. tokens_free it. */
static inline void token_stream(struct tokens *t, const struct token_arrays *from, int64_t total,
                                const int64_t *ends, int64_t documents, int64_t seq_length)
{
    char path[] = "/tmp/pare-tokens-XXXXXX";
    struct err e = {0};
    close(mkstemp(path));
    struct st_out *out = st_create(path, 0, &e);
    json_t *head = json_pack("{s:s, s:s, s:[]}", "kind", "tokens", "id", "", "hist");
    if (seq_length)
        json_object_set_new(head, "seq_length", json_integer(seq_length));
    for (int64_t i = 0; from->flags && i < total; i++)
        if (from->flags[i] & TOKEN_BEGINS)
            json_object_set_new(head, "packed", json_true());
    st_begin(out, head);
    tokens_write(out, from, total, ends, documents, seq_length);
    st_end(out);
    st_publish(out);
    struct st_in *in = st_open(path, &e);
    if (!in || tokens_load(t, in, 0, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        exit(1);
    }
    st_close(in);
    unlink(path);
    json_decref(head);
}

#endif
