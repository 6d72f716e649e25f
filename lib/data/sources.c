/* Sources of training: see sources.h. */
#include "sources.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "../base/minmax.h"

enum { MILLION = 1000000 };

/* ---- what a source is */

const char *data_split_number(const char *text, char **name)
{
    const char *colon = strrchr(text, ':');
    *name = mem_string(text);
    if (!colon || !colon[1] || strspn(colon + 1, "0123456789.eE+-") != strlen(colon + 1) ||
        !access(text, F_OK))
        return NULL;
    (*name)[colon - text] = 0;
    return colon + 1;
}

static int weight_parse(struct data_source *s, const char *text, const char *number, struct err *e)
{
    char *end;
    double weight = strtod(number, &end);
    if (*end || !(weight >= 1e-6 && weight <= 1e6))
        return err_set(e, "--data %s: the weight after the colon must be from 0.000001 to 1000000",
                       text);
    s->weight = llround(weight * MILLION);
    return 0;
}

static void streams_add(struct data_source *s, char *const *paths, int64_t n)
{
    s->n_streams = n;
    s->streams = mem_alloc((size_t)n * sizeof *s->streams);
    for (int64_t i = 0; i < n; i++)
        s->streams[i] = (struct data_stream){.path = mem_string(paths[i]), .tokens.file.fd = -1};
}

/* A pattern is one only where no file has its name. */
static int names_expand(struct data_source *s, struct err *e)
{
    glob_t found;
    if (!strpbrk(s->name, "*?[") || !access(s->name, F_OK)) {
        streams_add(s, &s->name, 1);
        return 0;
    }
    int status = glob(s->name, 0, NULL, &found);
    if (!status)
        streams_add(s, found.gl_pathv, (int64_t)found.gl_pathc);
    globfree(&found);
    return status ? err_set(e, "--data %s: no file matches", s->name) : 0;
}

/* Is a file of the last source also in an earlier one? */
static int files_check(const struct data_sources *s, struct err *e)
{
    const struct data_source *added = &s->all[s->n - 1];
    for (const struct data_source *a = s->all; a < added; a++)
        for (int64_t i = 0; i < a->n_streams; i++)
            for (int64_t k = 0; k < added->n_streams; k++)
                if (!strcmp(a->streams[i].path, added->streams[k].path))
                    return err_set(e, "%s is in --data %s and again in --data %s: give it once",
                                   a->streams[i].path, a->name, added->name);
    return 0;
}

int data_sources_add(struct data_sources *s, const char *text, struct err *e)
{
    struct data_source new = {.weight = MILLION};
    const char *number = data_split_number(text, &new.name);
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->all[i].name, new.name)) {
            err_set(e, "--data %s is given twice: give it once, with a weight", new.name);
            free(new.name);
            return -1;
        }
    s->all = mem_grow(s->all, (size_t)(s->n + 1) * sizeof *s->all);
    s->all[s->n++] = new;
    struct data_source *added = &s->all[s->n - 1];
    if (number && weight_parse(added, text, number, e))
        return -1;
    return names_expand(added, e) || files_check(s, e) ? -1 : 0;
}

void data_sources_one(struct data_sources *s, struct tokens *tokens)
{
    char *name = tokens->file.path;
    s->all = mem_alloc(sizeof *s->all);
    s->all[0] = (struct data_source){.name = mem_string(name), .weight = MILLION};
    s->n = 1;
    streams_add(s->all, &name, 1);
    s->all->streams->tokens = *tokens;
    *tokens = (struct tokens){.file.fd = -1};
}

void data_sources_ready(struct data_sources *s)
{
    for (struct data_source *a = s->all; a < s->all + s->n; a++) {
        a->n = 0;
        for (int64_t k = 0; k < a->n_streams; k++) {
            a->streams[k].first = a->n;
            a->n += a->streams[k].windows.n;
        }
    }
}

int64_t data_sources_longest(const struct data_sources *s)
{
    int64_t longest = 0;
    for (int i = 0; i < s->n; i++)
        for (int64_t k = 0; k < s->all[i].n_streams; k++)
            longest = max64(longest, s->all[i].streams[k].windows.longest);
    return longest;
}

/* ---- drawing */

/* How many of the first p draws among source i and those after it are of source i. */
static int64_t share(const struct data_sources *s, int i, int64_t p)
{
    unsigned __int128 total = 0, own = (unsigned __int128)s->all[i].weight;
    for (int k = i; k < s->n; k++)
        total += (unsigned __int128)s->all[k].weight;
    return (int64_t)((2 * (unsigned __int128)p * own + total) / (2 * total));
}

/* Sequence `i` of a source. */
static struct data_row sequence(const struct data_source *a, int64_t i)
{
    int64_t low = 0, high = a->n_streams;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (a->streams[middle].first <= i)
            low = middle;
        else
            high = middle;
    }
    return windows_row(&a->streams[low].windows, i - a->streams[low].first);
}

struct data_row data_sources_next(struct data_sources *s)
{
    int64_t p = s->position++;
    int i = 0;
    for (; i < s->n - 1; i++) {
        int64_t own = share(s, i, p);
        if (share(s, i, p + 1) > own) {
            p = own;
            break;
        }
        p -= own;
    }
    struct data_order order = {.n = s->all[i].n,
                               .position = p,
                               .shuffled = s->shuffled,
                               .seed = s->seed,
                               .source = (uint64_t)i};
    return sequence(&s->all[i], data_order_next(&order));
}

int64_t data_sources_drawn(const struct data_sources *s, int i, int64_t position)
{
    int64_t p = position;
    for (int k = 0; k < i; k++)
        p -= share(s, k, p);
    return share(s, i, p);
}

json_t *data_sources_counts(const struct data_sources *s, int64_t position)
{
    json_t *counts = json_object();
    for (int i = 0; i < s->n; i++) {
        json_t *name = json_text(s->all[i].name);
        json_object_set_new(counts, json_string_value(name),
                            json_integer(data_sources_drawn(s, i, position)));
        json_decref(name);
    }
    return counts;
}

/* ---- identity and end */

static json_t *source_id(const struct data_source *a)
{
    struct digest d;
    char id[ST_DIGEST];
    if (a->n_streams == 1)
        return json_string(a->streams->tokens.id);
    digest_open(&d);
    for (int64_t k = 0; k < a->n_streams; k++)
        digest_add(&d, a->streams[k].tokens.id, ST_DIGEST);
    digest_close(&d, id);
    return json_string(id);
}

json_t *data_sources_id(const struct data_sources *s)
{
    if (s->n == 1)
        return source_id(s->all);
    json_t *all = json_array();
    for (int i = 0; i < s->n; i++)
        json_array_append_new(
            all, json_pack("[o, f]", source_id(&s->all[i]), (double)s->all[i].weight / MILLION));
    return all;
}

json_t *data_sources_shares(const struct data_sources *s)
{
    if (s->n == 1 && s->all->n_streams == 1)
        return NULL;
    json_t *shares = json_array();
    for (int i = 0; i < s->n; i++)
        json_array_append_new(shares, json_pack("[I, I]", (json_int_t)s->all[i].weight,
                                                (json_int_t)s->all[i].n_streams));
    return shares;
}

void data_sources_close(struct data_sources *s)
{
    for (struct data_source *a = s->all; a < s->all + s->n; a++) {
        for (int64_t k = 0; k < a->n_streams; k++) {
            windows_close(&a->streams[k].windows);
            tokens_free(&a->streams[k].tokens);
            free(a->streams[k].path);
        }
        free(a->streams);
        free(a->name);
    }
    free(s->all);
    *s = (struct data_sources){0};
}
