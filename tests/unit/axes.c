/* The rows of axes.def determine parts of formats: names, order and shapes of the records of scores
 * and ranks, keys of headers, ids. Run from the repository root. */
#include <stdlib.h>
#include <string.h>

#include "../../lib/prune/prune.h"
#include "../../lib/tool/model_open.h"
#include "check.h"

/* Two layers: 6 query heads of 8 in 2 groups and 5 neurons, 4 heads in 4 groups and 7 neurons. */
static struct layer layers[] = {
    {.num_attention_heads = 6, .num_key_value_heads = 2, .head_dim = 8, .intermediate_size = 5},
    {.num_attention_heads = 4, .num_key_value_heads = 4, .head_dim = 8, .intermediate_size = 7}};
static struct axes two = {
    "0123456789abcdef0123456789abcdef", "", {[AXIS_E] = 3, [AXIS_L] = 2}, layers};

/* Records and their entries, those without units left out. */
static void test_entries(void)
{
    static const struct {
        enum axis axis;
        int64_t layer;
        const char *record;
    } want[] = {{AXIS_E, -1, "hidden_size [3]"},
                {AXIS_L, -1, "num_hidden_layers [2]"},
                {AXIS_F, 0, "intermediate_size.0 [5]"},
                {AXIS_H, 0, "num_attention_heads.0 [2, 3]"},
                {AXIS_K, 0, "num_key_value_heads.0 [2]"},
                {AXIS_F, 1, "intermediate_size.1 [7]"},
                {AXIS_H, 1, "num_attention_heads.1 [4, 1]"},
                {AXIS_K, 1, "num_key_value_heads.1 [4]"}};
    int64_t n = sizeof want / sizeof *want, layer, i = 0;
    for (int64_t entry = 0; entry < axes_count(&two); entry++) {
        struct tensor t;
        char record[TENSOR_NAME + 40];
        axes_tensor(&two, entry, DT_F64, &t);
        if (!axes_has(&two, entry) || i == n) /* experts; a vocabulary that is not scored */
            continue;
        int at = snprintf(record, sizeof record, "%s [%d", t.name, (int)t.shape[0]);
        if (t.ndim == 2)
            at += snprintf(record + at, sizeof record - (size_t)at, ", %d", (int)t.shape[1]);
        snprintf(record + at, sizeof record - (size_t)at, "]");
        CHECK(!strcmp(record, want[i].record), "entry %d is %s, not %s", (int)i, record,
              want[i].record);
        CHECK(axes_entry(want[i].axis, want[i].layer) == entry, "%s is entry %d", record,
              (int)entry);
        CHECK(axes_of_entry(entry, &layer) == want[i].axis && layer == want[i].layer,
              "back from %s", record);
        i++;
    }
    CHECK(i == n, "%d entries", (int)i);
    static const enum axis listed[] = {AXIS_E, AXIS_L, AXIS_V, AXIS_F, AXIS_H, AXIS_K,   AXIS_X,
                                       AXIS_N, AXIS_S, AXIS_G, AXIS_M, AXIS_R, AXIS_NONE};
    for (i = 0; i < (int64_t)(sizeof listed / sizeof *listed); i++)
        CHECK(axes_listed(i) == listed[i], "place %d", (int)i);
}

static void test_header(void)
{
    static const char want[] =
        "{\"model\":\"0123456789abcdef0123456789abcdef\",\"sizes\":{\"hidden_size\":3,\"layers\":["
        "{\"num_attention_heads\":6,\"num_key_value_heads\":2,\"head_dim\":8,"
        "\"intermediate_size\":5},"
        "{\"num_attention_heads\":4,\"num_key_value_heads\":4,\"head_dim\":8,"
        "\"intermediate_size\":7}]}}";
    json_t *head = json_object();
    struct axes again;
    struct err e = {0};
    axes_to_json(&two, head);
    char *text = json_dumps(head, JSON_COMPACT);
    CHECK(!strcmp(text, want), "%s", text);
    if (axes_from_json(&again, head, "x", &e)) {
        CHECK(0, "%s", e.msg);
        return;
    }
    CHECK(!axes_same(&two, &again, 1, "a", "b", &e), "%s", e.msg);
    again.layers[1].intermediate_size = 6;
    CHECK(axes_same(&two, &again, 1, "a", "b", &e) &&
              !strcmp(e.msg, "b has intermediate_size 6 in layer 1, but a has 7"),
          "%s", e.msg);
    axes_free(&again);
    free(text);
    json_decref(head);
}

/* Impossible sizes in a header: the value of one key of layer 0, and the message. */
static void test_refused_sizes(void)
{
    static const struct {
        const char *key;
        int64_t value;
        const char *words;
    } cases[] = {
        {"num_key_value_heads", 4,
         "num_attention_heads 6, which is not a multiple of num_key_value"},
        {"head_dim", 1 << 22, "num_attention_heads 6 of 4194304 channels, more than"},
        {"intermediate_size", 0, "intermediate_size in the header's sizes is out of range"},
        {"intermediate_size", (1 << 24) + 1, "not a number from 1 to 16777216"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *head = json_object();
        struct axes a;
        struct err e = {0};
        axes_to_json(&two, head);
        json_t *layer = json_array_get(json_object_get(json_object_get(head, "sizes"), "layers"),
                                       0);
        json_object_set_new(layer, cases[i].key, json_integer(cases[i].value));
        CHECK(axes_from_json(&a, head, "x", &e) && strstr(e.msg, cases[i].words), "%s", e.msg);
        json_decref(head);
    }
}

/* Ids computed by the first release, and before these families got more choices. */
static void test_ids(void)
{
    static const char *const ids[][2] = {{"llama", "f7aaac76fd43059548c21915d50d410d"},
                                         {"gpt2", "a5bc1e2da322203abec61b785e04423d"},
                                         {"gemma3", "a404d41cfa9a75812ef31bf36b0220ed"},
                                         {"phi", "a457596d1257e63dba605751ff0a2d78"},
                                         {"cohere", "bd7c716b407d38a68034fde1645b0971"},
                                         {"falcon", "a952a2e243e5a216a311934fe016a4f6"}};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char dir[100];
        struct err e = {0};
        snprintf(dir, sizeof dir, "tests/golden/families/%s", ids[i][0]);
        struct model_in *in = model_open(dir, NULL, &e);
        CHECK(in && !strcmp(model_in_spec(in)->id, ids[i][1]), "%s has id %s %s", ids[i][0],
              in ? model_in_spec(in)->id : "none", e.msg);
        model_close(in);
    }
}

int main(void)
{
    test_entries();
    test_header();
    test_refused_sizes();
    test_ids();
    return check_report();
}
