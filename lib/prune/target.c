/* The target shape of a cut, parsed from options: see slice.h. */
#include "slice.h"

static void read_list(struct ranges *r, const char *option, const char *text, enum ranges_kind kind,
                      struct err *e)
{
    if (text && !e->set)
        ranges_parse(r, option, text, kind, e);
}

int slice_target_read(struct slice_target *t, const struct slice_options *o, struct err *e)
{
    *t = (struct slice_target){.sort = o->sort, .in_order = o->in_order, .vocab = o->vocab};
    for (enum axis x = MODEL_AXES; x < AXIS_COUNT; x++)
        read_list(&t->size[x], axis_rows[x].option, o->size[x],
                  x < LAYER_AXES ? RANGES_NUMBER : RANGES_VALUES, e);
    read_list(&t->drop_layers, "drop-layers", o->drop_layers, RANGES_PLAIN, e);
    read_list(&t->drop_attention, "drop-attention", o->drop_attention, RANGES_PLAIN, e);
    read_list(&t->drop_mlp, "drop-mlp", o->drop_mlp, RANGES_PLAIN, e);
    if (!e->set)
        dtype_choose(&t->dtype, o->dtype, e);
    if (o->size[AXIS_L] && o->drop_layers)
        err_set(e, "--num-hidden-layers and --drop-layers both choose layers: give one");
    if (e->set)
        slice_target_free(t);
    return e->set ? -1 : 0;
}

int slice_target_check(const struct slice_target *t, int64_t layers, struct err *e)
{
    for (enum axis x = LAYER_AXES; x < AXIS_COUNT; x++)
        ranges_check(&t->size[x], axis_rows[x].option, layers, e);
    ranges_check(&t->drop_layers, "drop-layers", layers, e);
    ranges_check(&t->drop_attention, "drop-attention", layers, e);
    ranges_check(&t->drop_mlp, "drop-mlp", layers, e);
    return e->set ? -1 : 0;
}

void slice_target_free(struct slice_target *t)
{
    for (enum axis x = 0; x < AXIS_COUNT; x++)
        ranges_free(&t->size[x]);
    ranges_free(&t->drop_layers);
    ranges_free(&t->drop_attention);
    ranges_free(&t->drop_mlp);
}
