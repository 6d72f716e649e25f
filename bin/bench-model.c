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
     "tokens of the text: read at once, and before the token that is generated", 0},
    {"seconds", OPT_REAL, &o.seconds, "X",
     "measure each speed for at least so long, and at least three times", 0},
    {"table", OPT_FLAG, &table, NULL, "print a table instead of JSON", 0},
    {0}};

static const struct tool_desc desc = {
    "bench-model",
    "MODEL...",
    "Measure what models cost: memory, KV cache, speed.",
    "Prints one JSON object per model, whose members predicted and measured have the bytes of "
    "memory "
    "while generating, and tokens a second: prefill is a forward pass over a text of N tokens, as "
    "in "
    "evaluation; decode is the generation of its last token, with keys and values of those before "
    "it. Both are of one text, medians over the runs. Speeds do not depend on what the tokens "
    "are.\n\n"
    "The predicted speeds are bounds, what is left if only matrix products, or only reading "
    "weights, "
    "keys and values, took time, at the rates that this device reaches. They tell what a smaller "
    "shape can gain, and small models stay far below them.",
    "  bench-model teacher/ cut.tsz --context 2048 --table",
    opts,
    1,
    -1,
    TOOL_COMPUTE};

static int64_t stored_bytes(const struct model_spec *h)
{
    int64_t sum = 0;
    for (int i = 0; i < h->n_tensors; i++)
        sum += tensor_bytes(&h->tensors[i]);
    return sum;
}

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

static void put(json_t *j, const char *key, double x)
{
    json_object_set_new(j, key, report_number(x));
}

static json_t *costs(const char *name, const struct model_spec *h, const struct footprint *f)
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
                    {"weight_bytes", stored_bytes(h)},
                    {"kv_bytes", f->kv_bytes}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        json_object_set_new(j, integers[i].name, json_integer(integers[i].value));
    put(j, "prefill_flops", f->prefill_flops);
    put(j, "decode_flops", f->decode_flops);
    return j;
}

static json_t *speeds(int64_t memory, const struct speed *s)
{
    json_t *j = json_pack("{s:I}", "memory", (json_int_t)memory);
    put(j, "prefill", s->prefill);
    put(j, "decode", s->decode);
    return j;
}

/* Loads, predicts and measures a model, which is then in no memory any more. */
static void measure(struct tool *t, struct model_in *in, const struct footprint *f, json_t *j)
{
    struct exec *x = tool_exec(t);
    struct err *e = tool_err(t);
    struct speed s, predicted;
    struct model m;
    const struct speed_rates *r = rates(t, weights_dtype(model_in_spec(in)));
    int64_t before = speed_memory(x);
    tool_load(t, &m, in);
    if (speed_measure(&s, x, &m, &o, e))
        tool_check(t);
    speed_predict(&predicted, f, o.context, r);
    json_object_set_new(j, "predicted",
                        speeds((int64_t)m.weights.size + s.state_bytes, &predicted));
    json_object_set_new(j, "measured", speeds(s.memory - before, &s));
    put(j, "device_flops", r->flops);
    put(j, "device_bytes", r->bytes);
    json_object_set_new(j, "device", json_string(exec_device_name(x)));
    json_object_set_new(j, "threads", json_integer(x->threads));
    json_object_set_new(j, "math", json_string(exec_math_library()));
    model_free(&m);
}

static void bench(struct tool *t, const char *name, struct tool_table *rows)
{
    struct model_in *in = tool_model(t, name);
    const struct model_spec *h = model_in_spec(in);
    char text[200];
    if (window_note(text, o.context, 1, h))
        tool_note(t, "%s: %s", name, text);
    struct footprint_options costs_of = {
        .weights = weights_dtype(h), .cache = tool_exec(t)->compute, .context = o.context};
    struct footprint f = model_footprint(h, &costs_of);
    json_t *j = costs(name, h, &f);
    measure(t, in, &f, j);
    if (table)
        tool_table_costs(rows, j);
    else
        tool_print_json(j);
    json_decref(j);
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
    for (int i = 0; i < tool_operands(t); i++)
        bench(t, tool_operand(t, i), &rows);
    tool_table_end(&rows);
    return tool_finish(t);
}
