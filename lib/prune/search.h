/* All shapes of a grid whose parameters lie within a band (Muralidharan et al. 2024, Minitron,
 * arXiv 2407.14679, section 3.3: the first step of its architecture search). Parameters grow along
 * every axis, so whole branches of the grid are left out by the counts at their two ends. */
#ifndef PARE_SEARCH_H
#define PARE_SEARCH_H

#include "slice.h"

/* The most sizes of an axis, shapes in the band, and shapes that are counted. */
enum { SEARCH_SIZES = 4096, SEARCH_FOUND = 20000, SEARCH_TRIES = 1 << 22 };

/* The sizes of an axis, ascending; none: it keeps those of the source. by_width: in thousandths of
 * the hidden size, rounded down. largest: what the source has. */
struct search_list {
    int64_t *value, n, largest;
    int by_width;
};
struct search {
    const struct model_spec *source;
    struct search_list lists[AXIS_COUNT];
    int64_t least, most; /* parameters, both inclusive */
    int active;          /* counted as in footprint.h */
    int64_t kv_most;     /* bytes of keys and values at `at`; 0: any */
    struct footprint_options at;
};

/* "24,32,48" or "1024:4096:256", also joined by commas; for the FFN also "2.5x,4x", times the
 * hidden size. -1: malformed text, more than SEARCH_SIZES sizes, a size larger than the source's,
 * an axis of which no layer has units, fewer heads of a model that keeps all of them. */
int search_list_read(struct search_list *l, enum axis axis, const char *text,
                     const struct model_spec *source, struct err *e);
void search_list_free(struct search_list *l);
/* Sizes of the vocabulary are also checked against the model's tokenizer, if they cut it. operand:
 * names the model. -1: a size that slice-model refuses, or a tokenizer that cannot be cut. */
int search_check_vocab(const struct search *s, struct model_in *in, const char *operand,
                       struct err *e);

/* A shape in the band: sizes and layers are its own, the first ones of the source, everything else
 * (tensors, config) is the source's. */
typedef void search_found(void *user, const struct model_spec *shape, const struct footprint *f);
/* Calls `found` for every shape that slice-model can cut out of the source, smaller sizes first,
 * with layers as the outermost axis, then hidden size, vocabulary, KV heads, query heads, FFN,
 * experts, their FFN, that of the shared expert, Mamba groups, heads and channels. As in a cut,
 * query heads follow KV heads if only these are listed, both are one axis where each query head has
 * a KV head, and Mamba heads and groups likewise; there are at least as many experts as work for a
 * token. found NULL: only counts. Returns how many; -1: too many shapes. */
int64_t search_run(const struct search *s, search_found *found, void *user, struct err *e);
/* The shape in the options of slice-model, each after a blank: the axes that are listed. Free it.
 */
char *search_options(const struct search *s, const struct model_spec *shape);

#endif
