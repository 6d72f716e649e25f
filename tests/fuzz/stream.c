/* Any bytes as a stream: read to the end; read as what its header says it is (tokens, acts, scores,
 * rank, model); as sequences of tokens; as a single msgpack value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/mpk.h"
#include "../../lib/prune/prune.h"
#include "../../lib/data/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void payload_read(struct st_in *in)
{
    struct tensor t;
    unsigned char buf[1000];
    while (st_next(in, &t) > 0)
        while (st_read(in, buf, sizeof buf) > 0)
            ;
}

/* Loads tokens, and reads what was accepted by position. */
static void tokens_read_all(struct tokens *t, struct st_in *in, struct err *e)
{
    uint32_t entries[64];
    if (tokens_load(t, in, 0, e))
        return;
    for (int which = 0; which < TOKEN_RECORDS; which++)
        for (int64_t at = 0; at < t->total; at += 64) {
            int64_t n = t->total - at < 64 ? t->total - at : 64;
            if ((which != TOKEN_BYTES || t->has_bytes) &&
                tokens_read(t, (enum token_record)which, at, n, entries, e))
                abort();
        }
}

static void kind_read(struct st_in *in, struct err *e)
{
    const char *kind = json_string_value(json_object_get(st_head(in), "kind"));
    struct tokens tokens = {0};
    struct acts acts = {0};
    struct scores scores = {0};
    struct rank rank = {0};
    struct model_spec model = {0};
    if (!strcmp(kind, "tokens"))
        tokens_read_all(&tokens, in, e);
    else if (!strcmp(kind, "acts"))
        acts_read(&acts, in, e);
    else if (!strcmp(kind, "scores"))
        scores_read(&scores, in, e);
    else if (!strcmp(kind, "rank"))
        rank_read(&rank, in, e);
    else if (!strcmp(kind, "model"))
        model_spec_from_json(&model, st_head(in), e);
    tokens_free(&tokens);
    acts_free(&acts);
    scores_free(&scores);
    rank_free(&rank);
    model_spec_free(&model);
}

static void sequences_read(struct st_in *in, struct err *e)
{
    static const struct model_spec spec = {.max_position_embeddings = 100};
    struct sequences s;
    const uint32_t *ids;
    int64_t n;
    int more = sequences_open(&s, in, 0, &spec, e) ? -1 : 1;
    while (more > 0)
        more = sequences_next(&s, &ids, &n);
    sequences_close(&s);
}

static void value_read(const uint8_t *data, size_t size)
{
    struct mpk_scan s = {.limits = {size, 64 << 20}};
    const char *why;
    if (mpk_scan(&s, data, size, &why) == 1)
        json_decref(mpk_decode(data, s.at, &why));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[40];
    int fd = memfd_create("stream", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int how = 0; how < 3; how++) {
        struct err e = {0};
        struct st_in *in = st_open(path, &e);
        if (in && how == 2)
            sequences_read(in, &e);
        else if (in && how)
            kind_read(in, &e);
        else if (in)
            payload_read(in);
        st_close(in);
    }
    close(fd);
    value_read(data, size);
    return 0;
}
