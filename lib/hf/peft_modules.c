/* Modules with adapters: see peft_modules.h. */
#include "peft_modules.h"

#include <stdio.h>
#include <string.h>

#include "../base/text.h"
#include "config.h"

int peft_modules_open(struct peft_modules *m, const struct model_spec *h, int as_exported,
                      struct err *e)
{
    char note[400] = "";
    *m = (struct peft_modules){0};
    model_spec_copy(&m->spec, h);
    if ((as_exported && hf_config_write(&m->spec, DT_F32, note, e)) ||
        layout_make(&m->layout, &m->spec, m->spec.family->stored, 0, NULL, NULL, e)) {
        peft_modules_close(m);
        return -1;
    }
    return 0;
}

void peft_modules_close(struct peft_modules *m)
{
    layout_free(&m->layout);
    model_spec_free(&m->spec);
}

void peft_module_name(const struct peft_modules *m, int module, char name[TENSOR_NAME])
{
    const struct tensor *t = &m->layout.stored[module];
    const struct family *f = m->spec.family;
    int is_matrix = t->ndim == 2 && text_ends(t->name, ".weight"),
        is_renamed = f->module_prefix && text_begins(t->name, f->base_prefix);
    const char *begin = t->name + (is_renamed ? strlen(f->base_prefix) : 0);
    size_t n = is_matrix ? strlen(begin) - strlen(".weight") : 0;
    snprintf(name, TENSOR_NAME, "%s%.*s", is_renamed && is_matrix ? f->module_prefix : "", (int)n,
             begin);
}

int peft_module_parts(const struct peft_modules *m, int module, int parts[PEFT_PARTS])
{
    int n = 0;
    for (int i = 0; i < m->layout.n_tensors && n < PEFT_PARTS; i++)
        if (layout_view(&m->layout, i)->stored == module)
            parts[n++] = i;
    return n;
}

static const struct view *first_view(const struct peft_modules *m, int module)
{
    int parts[PEFT_PARTS];
    peft_module_parts(m, module, parts);
    return layout_view(&m->layout, parts[0]);
}

int64_t peft_module_rows(const struct peft_modules *m, int module)
{
    return first_view(m, module)->stored_rows;
}

int64_t peft_module_cols(const struct peft_modules *m, int module)
{
    return first_view(m, module)->cols;
}

int peft_module_is_transposed(const struct peft_modules *m, int module)
{
    return first_view(m, module)->transposed;
}

int64_t peft_module_row(const struct peft_modules *m, int i, int64_t r)
{
    const struct view *v;
    int64_t run;
    return layout_row(&m->layout, i, r, &v, &run);
}
