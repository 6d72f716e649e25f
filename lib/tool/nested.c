/* The shapes of nested models as an input of a tool: see tool.h. */
#include <stdlib.h>

#include "../base/file.h"
#include "../prune/prune.h"
#include "tool_private.h"

enum { MOST_BYTES = 1 << 20 };

/* Does a step of the model's history say that its units are in the order of a rank? */
static int is_sorted(const struct model_spec *h)
{
    size_t i;
    json_t *step;
    json_array_foreach(h->hist, i, step)
        if (json_is_true(json_object_get(json_object_get(step, "options"), "sort")))
            return 1;
    return 0;
}

/* The text of a file, which becomes a parent of what the tool makes. */
static char *read_parent(struct tool *t, const char *path)
{
    struct digest d;
    char id[ST_DIGEST];
    int64_t n;
    char *text = file_read(path, MOST_BYTES, &n, &t->err);
    tool_check(t);
    digest_open(&d);
    digest_add(&d, text, (size_t)n);
    digest_close(&d, id);
    tool_parent(t, path, id);
    return text;
}

void tool_nested(struct tool *t, const char *path, struct model_in *in, int sorted,
                 struct nested_list *l)
{
    char *text = read_parent(t, path);
    struct model_spec whole;
    model_spec_copy(&whole, model_in_spec(in));
    model_spec_list_tensors(&whole, DT_F32);
    nested_parse(l, text, path, &whole, &t->err);
    tool_check(t);
    if (sorted && !is_sorted(&whole))
        tool_note(t,
                  "no step in the history of %s is slice-model --sort: the smaller models have its "
                  "first units, which need not be its best",
                  tool_operand(t, 0));
    model_spec_free(&whole);
    free(text);
}
