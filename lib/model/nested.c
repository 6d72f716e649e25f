/* Nested models: see nested.h. */
#include "nested.h"

#include <stdlib.h>

void nested_list_free(struct nested_list *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        free(l->models[i].name);
        free(l->models[i].parts);
        if (l->models[i].spec.family)
            model_spec_free(&l->models[i].spec);
    }
    free(l->models);
    *l = (struct nested_list){0};
}
