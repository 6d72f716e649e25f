/* Options of low-rank adapters: see lora.h. */
#include "lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hf/hf.h"

int train_lora_is_on(const struct train_lora *l) { return l->rank > 0 || l->from; }

static int parse_rank(struct train_lora *l, struct err *e)
{
    char *end;
    long long rank = strtoll(l->rank_text, &end, 10);
    if (*end || end == l->rank_text || rank < 1 || rank > ADAPTER_RANK_MOST)
        return err_set(e, "--lora must be a rank from 1 to %d, not \"%s\"", ADAPTER_RANK_MOST,
                       l->rank_text);
    l->rank = rank;
    return 0;
}

int train_lora_resolve(struct train_lora *l, struct err *e)
{
    int is_shaped = !isnan(l->alpha) || l->targets;
    if (l->from && (l->rank_text || is_shaped))
        return err_set(e, "--lora-from takes rank, factor and matrices from its directory: leave "
                          "out --lora, --lora-alpha and --lora-targets");
    if (is_shaped && !l->rank_text)
        return err_set(e, "--lora-alpha and --lora-targets have no effect without --lora");
    if (l->rank_text && parse_rank(l, e))
        return -1;
    if (l->rank && isnan(l->alpha))
        l->alpha = (double)l->rank;
    if (l->rank && !(l->alpha >= 1e-3 && l->alpha <= 1e6))
        return err_set(e, "--lora-alpha must be from 0.001 to 1e6, not %g", l->alpha);
    return 0;
}

int train_lora_check(const struct train_lora *l, const char *adapter, int random_init,
                     const char *widths, struct err *e)
{
    int is_on = train_lora_is_on(l);
    if (adapter && !is_on)
        return err_set(e, "--adapter writes what --lora trains: give --lora R, or leave it out");
    if (is_on && random_init)
        return err_set(e, "--lora adapts the student's weights, so the run cannot begin with "
                          "--init random");
    if (is_on && widths)
        return err_set(e, "--lora trains no weights that the models of --widths could share: give "
                          "one or the other");
    return 0;
}

/* ---- the matrices */

/* Is `stem` one of the names of a list? */
static int is_named(const char *list, const char *stem)
{
    size_t n = strlen(stem);
    for (const char *at = list; *at; at += *at == ',') {
        size_t length = strcspn(at, ",");
        if (length == n && !strncmp(at, stem, n))
            return 1;
        at += length;
    }
    return 0;
}

/* "q_proj, k_proj, ...": the matrices of a model that can have an adapter. */
static void list_stems(const struct model_spec *h, char *text, size_t size)
{
    *text = 0;
    for (const struct family_line *l = h->family->block; l->out; l++) {
        size_t used = strlen(text);
        int found = 0;
        for (int i = 0; i < h->n_tensors && !found; i++)
            found = adapters_stem(h, i) == l->weight && l->weight;
        if (found)
            snprintf(text + used, size - used, "%s%s", used ? ", " : "", l->weight);
    }
}

static int check_targets(const char *list, const struct model_spec *h, struct err *e)
{
    char stems[300];
    for (const char *at = list; *at || at == list; at += *at == ',') {
        size_t n = strcspn(at, ",");
        int found = 0;
        for (int i = 0; i < h->n_tensors && !found; i++) {
            const char *stem = adapters_stem(h, i);
            found = stem && strlen(stem) == n && !strncmp(at, stem, n);
        }
        if (!found) {
            list_stems(h, stems, sizeof stems);
            return err_set(e, "--lora-targets: the blocks of the student have %s, not \"%.*s\"",
                           stems, (int)n, at);
        }
        at += n;
    }
    return 0;
}

int train_lora_open(struct train_lora *l, struct adapters *s, const struct model_spec *h,
                    int64_t seed, struct err *e)
{
    if (l->from)
        return peft_read(s, h, l->from, l->from_id, e);
    if (l->targets && check_targets(l->targets, h, e))
        return -1;
    adapters_open(s, h);
    for (int i = 0; i < h->n_tensors; i++) {
        const char *stem = adapters_stem(h, i);
        if (stem && (!l->targets || is_named(l->targets, stem)))
            s->of[i] = (struct adapter){.rank = l->rank, .scale = l->alpha / (double)l->rank};
    }
    if (adapters_allocate(s, h, e))
        return -1;
    adapters_draw(s, (uint64_t)seed);
    return 0;
}

void train_lora_to_json(const struct train_lora *l, json_t *run)
{
    if (l->from)
        json_object_set_new(run, "lora-from", json_string(l->from_id));
    if (!l->rank)
        return;
    json_object_set_new(run, "lora", json_integer(l->rank));
    json_object_set_new(run, "lora-alpha", json_real(l->alpha));
    if (l->targets)
        json_object_set_new(run, "lora-targets", json_string(l->targets));
}
