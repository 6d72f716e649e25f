/* bench-model: what models cost to hold and to run, predicted and measured. Models in; one JSON
 * line per model, or a table for people, out. */
#include <math.h>
#include <stdlib.h>

#include "../formats/json.h"
#include "../lib/eval/eval.h"
#include "../lib/tool/tool.h"

static struct speed_options o = {.context = 512, .seconds = 1};
static int table;

static const struct opt opts[] = {
    {"context", OPT_INT, &o.context, "N",
     "tokens of the text: all are read at once, or the last is generated", 0},
    {"seconds", OPT_REAL, &o.seconds, "X",
     "measure each speed for at least X seconds, and at least three times", 0},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", 0},
    {0}};

static const struct tool_desc desc = {
    "bench-model",
    "MODEL...",
    "Measure what models cost: memory, KV cache, speed.",
    "Prints one JSON object per model, whose members predicted and measured have the bytes of "
    "memory while generating, and tokens a second: prefill is a forward pass over a text of N "
    "tokens, as in evaluation; decode is the generation of its last token, with keys and values "
    "of those before it. Both are for one text at a time, medians over the runs. Speeds do not "
    "depend on what the tokens are.\n\n"
    "The predicted speeds are upper bounds: only matrix products, or only reading weights, keys "
    "and values, would take time, at the rates that this device reaches. They tell what a smaller "
    "shape can gain, and small models stay far below them.",
    "  bench-model teacher/ cut.tsz --context 2048 --table",
    opts,
    1,
    -1,
    TOOL_COMPUTE | TOOL_MODEL};

/* The type of most weights: that of the largest tensor. */
static enum dtype weights_dtype(const struct model_spec *h)
{
    const struct tensor *largest = &h->tensors[0];
    for (int i = 1; i < h->n_tensors; i++)
        if (tensor_count(&h->tensors[i]) > tensor_count(largest))
            largest = &h->tensors[i];
    return largest->dtype;
}

/* The device's rates, measured once for every type of weights. */
static const struct speed_rates *rates(struct tool *t, enum dtype weights)
{
    static struct speed_rates known[DT_COUNT];
    struct speed_rates *r = &known[weights];
    if (r->flops == 0)
        speed_rates(r, tool_exec(t), weights, fmin(o.seconds, 0.5), tool_err(t));
    tool_check(t);
    return r;
}

/* bytes: of the weights as they are stored */
static json_t *costs(const char *name, const struct model_spec *h, int64_t bytes,
                     const struct footprint *f)
{
    json_t *j = json_pack("{s:o, s:s, s:s}", "model", json_text(name), "model_id", h->id, "family",
                          h->family->name);
    const struct {
        const char *name;
        int64_t value;
    } integers[] = {{"context", o.context},
                    {"parameters", f->parameters},
                    {"non_embedding_parameters", f->non_embedding},
                    {"active_parameters", f->active},
                    {"weight_bytes", bytes},
                    {"kv_bytes", f->kv_bytes}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    json_put_number(j, "prefill_flops", f->prefill_flops);
    json_put_number(j, "decode_flops", f->decode_flops);
    return j;
}

static json_t *speeds(int64_t memory, const struct speed *s)
{
    json_t *j = json_pack("{s:I}", "memory", (json_int_t)memory);
    json_put_number(j, "prefill", s->prefill);
    json_put_number(j, "decode", s->decode);
    return j;
}

/* Predicts and measures a model on the device; before: the memory in use without it. */
static json_t *measured(struct tool *t, const char *name, struct model *m, int64_t bytes,
                        int64_t before)
{
    struct exec *x = tool_exec(t);
    struct speed s, predicted;
    struct footprint_options of = {
        .weights = weights_dtype(&m->spec), .cache = x->compute, .context = o.context};
    struct footprint f = model_footprint(&m->spec, &of);
    json_t *j = costs(name, &m->spec, bytes, &f);
    if (speed_measure(&s, x, m, &o, tool_err(t)))
        tool_check(t);
    const struct speed_rates *r = rates(t, of.weights);
    speed_predict(&predicted, &f, o.context, r);
    json_object_set_new(j, "predicted",
                        speeds((int64_t)m->weights.size + s.state_bytes, &predicted));
    json_object_set_new(j, "measured", speeds(s.memory - before, &s));
    json_put_number(j, "device_flops", r->flops);
    json_put_number(j, "device_bytes", r->bytes);
    json_object_set_new(j, "device", json_string(exec_device_name(x)));
    json_object_set_new(j, "threads", json_integer(x->threads));
    json_object_set_new(j, "math", json_string(exec_math_library()));
    return j;
}

static void bench(struct tool *t, const char *name, struct tool_table *rows)
{
    struct model_in *in = tool_model(t, name);
    struct model m;
    char text[200];
    int64_t bytes = model_spec_bytes(model_in_spec(in)), before = speed_memory(tool_exec(t));
    if (window_note(text, o.context, 1, model_in_spec(in)))
        tool_note(t, "%s: %s", name, text);
    tool_load(t, &m, in);
    json_t *j = measured(t, name, &m, bytes, before);
    if (table)
        tool_table_costs(rows, j);
    else
        tool_print_json(j);
    json_decref(j);
    model_free(&m);
    model_close(in);
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct tool_table rows = {0};
    if (o.context < 2 || o.context > FOOTPRINT_CONTEXT)
        tool_usage(t, "--context must be from 2 to %d, not %lld", FOOTPRINT_CONTEXT,
                   (long long)o.context);
    if (!(o.seconds > 0 && o.seconds <= 3600))
        tool_usage(t, "--seconds must be more than 0 and at most 3600, not %g", o.seconds);
    tool_models_there(t, tool_operands(t));
    for (int i = 0; i < tool_operands(t); i++)
        bench(t, tool_operand(t, i), &rows);
    tool_table_end(&rows);
    return tool_finish(t);
}
