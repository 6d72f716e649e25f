/* Any text as config.json: read into a head, listed, written back, read again as config, as stream header and for export. */
#include <stdlib.h>

#include "../../formats/json.h"
#include "../../lib/hf_config.h"
#include "../../lib/hf_layout.h"

static void use_head(struct model_head *h)
{
    struct err e = {0};
    struct hf_layout l;
    struct model_head again;
    char note[400];
    model_head_list_tensors(h, DT_BF16);
    if (model_head_check_tensors(h, &e) || model_head_bytes(h) < 0 || hf_layout_make(&l, h, &e))
        abort();
    hf_layout_free(&l);
    json_t *head = model_head_to_json(h);
    if (!head || model_head_from_json(&again, head, &e))
        abort();
    json_decref(head);
    hf_config_write(&again, DT_BF16, note, &e);     /* may refuse the shape */
    model_head_free(&again);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const struct json_limits limits = {0, 20000, 16};
    struct err e = {0};
    struct model_head h;
    json_t *config = json_parse_text((const char *)data, (int64_t)size, &limits, "input", &e);
    if (config && !model_head_from_config(&h, config, &e)) {
        use_head(&h);
        model_head_free(&h);
    }
    json_decref(config);
    return 0;
}
