/* Any text as config.json: read into a spec, its tensors listed, written back, and read again as
 * config, as stream header and for export. */
#include <stdlib.h>

#include "../../formats/json.h"
#include "../../lib/hf/config.h"
#include "../../lib/model/layout.h"

static void use_head(struct model_spec *h)
{
    struct err e = {0};
    struct layout l;
    struct model_spec again;
    char note[400];
    for (int64_t i = 0; i < h->num_hidden_layers; i++)
        if (h->layers[i].num_attention_heads % h->layers[i].num_key_value_heads)
            abort();
    model_spec_list_tensors(h, DT_BF16);
    if (model_spec_check_tensors(h, &e) || model_spec_bytes(h) < 0 ||
        layout_make(&l, h, h->family->stored, 0, NULL, NULL, &e))
        abort();
    layout_free(&l);
    json_t *head = model_spec_to_json(h);
    if (!head || model_spec_from_json(&again, head, &e))
        abort();
    json_decref(head);
    hf_config_write(&again, DT_BF16, note, &e); /* may refuse the shape */
    model_spec_free(&again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const struct json_limits limits = {0, 20000, 16};
    struct err e = {0};
    struct model_spec h;
    json_t *config = json_parse_text((const char *)data, (int64_t)size, &limits, "input", &e);
    if (config && !model_spec_from_config(&h, config, &e)) {
        use_head(&h);
        model_spec_free(&h);
    }
    json_decref(config);
    return 0;
}
