/* The families: each .def file becomes one `struct family`. See families/expand.h for the language.
 * A new family takes a .def file, and its include and list entry here. */
#include "family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/mem.h"
#include "../base/text.h"
#include "families/common.h"

#define FAMILY_ID family_llama
#define FAMILY_DEF "llama.def"
#include "families/expand.h"

#define FAMILY_ID family_mistral
#define FAMILY_DEF "mistral.def"
#include "families/expand.h"

#define FAMILY_ID family_qwen2
#define FAMILY_DEF "qwen2.def"
#include "families/expand.h"

#define FAMILY_ID family_qwen3
#define FAMILY_DEF "qwen3.def"
#include "families/expand.h"

#define FAMILY_ID family_nemotron
#define FAMILY_DEF "nemotron.def"
#include "families/expand.h"

#define FAMILY_ID family_gpt2
#define FAMILY_DEF "gpt2.def"
#include "families/expand.h"

#define FAMILY_ID family_phi3
#define FAMILY_DEF "phi3.def"
#include "families/expand.h"

#define FAMILY_ID family_olmo2
#define FAMILY_DEF "olmo2.def"
#include "families/expand.h"

#define FAMILY_ID family_smollm3
#define FAMILY_DEF "smollm3.def"
#include "families/expand.h"

#define FAMILY_ID family_gemma2
#define FAMILY_DEF "gemma2.def"
#include "families/expand.h"

#define FAMILY_ID family_gemma3
#define FAMILY_DEF "gemma3.def"
#include "families/expand.h"

#define FAMILY_ID family_gpt_neox
#define FAMILY_DEF "gpt_neox.def"
#include "families/expand.h"

#define FAMILY_ID family_granite
#define FAMILY_DEF "granite.def"
#include "families/expand.h"

#define FAMILY_ID family_starcoder2
#define FAMILY_DEF "starcoder2.def"
#include "families/expand.h"

#define FAMILY_ID family_mixtral
#define FAMILY_DEF "mixtral.def"
#include "families/expand.h"

#define FAMILY_ID family_granitemoe
#define FAMILY_DEF "granitemoe.def"
#include "families/expand.h"

#define FAMILY_ID family_olmoe
#define FAMILY_DEF "olmoe.def"
#include "families/expand.h"

#define FAMILY_ID family_qwen3_moe
#define FAMILY_DEF "qwen3_moe.def"
#include "families/expand.h"

#define FAMILY_ID family_qwen2_moe
#define FAMILY_DEF "qwen2_moe.def"
#include "families/expand.h"

#define FAMILY_ID family_nemotron_nas
#define FAMILY_DEF "nemotron_nas.def"
#include "families/expand.h"

#define FAMILY_ID family_gemma
#define FAMILY_DEF "gemma.def"
#include "families/expand.h"

#define FAMILY_ID family_phi
#define FAMILY_DEF "phi.def"
#include "families/expand.h"

#define FAMILY_ID family_stablelm
#define FAMILY_DEF "stablelm.def"
#include "families/expand.h"

#define FAMILY_ID family_cohere
#define FAMILY_DEF "cohere.def"
#include "families/expand.h"

#define FAMILY_ID family_cohere2
#define FAMILY_DEF "cohere2.def"
#include "families/expand.h"

#define FAMILY_ID family_falcon
#define FAMILY_DEF "falcon.def"
#include "families/expand.h"

#define FAMILY_ID family_glm
#define FAMILY_DEF "glm.def"
#include "families/expand.h"

#define FAMILY_ID family_glm4
#define FAMILY_DEF "glm4.def"
#include "families/expand.h"

#define FAMILY_ID family_exaone4
#define FAMILY_DEF "exaone4.def"
#include "families/expand.h"

#define FAMILY_ID family_ernie4_5
#define FAMILY_DEF "ernie4_5.def"
#include "families/expand.h"

#define FAMILY_ID family_seed_oss
#define FAMILY_DEF "seed_oss.def"
#include "families/expand.h"

#define FAMILY_ID family_hunyuan_v1_dense
#define FAMILY_DEF "hunyuan_v1_dense.def"
#include "families/expand.h"

#define FAMILY_ID family_nemotron_h
#define FAMILY_DEF "nemotron_h.def"
#include "families/expand.h"

#define FAMILY_ID family_bamba
#define FAMILY_DEF "bamba.def"
#include "families/expand.h"

#define FAMILY_ID family_granitemoehybrid
#define FAMILY_DEF "granitemoehybrid.def"
#include "families/expand.h"

const struct family *const families[] = {&family_llama,
                                         &family_mistral,
                                         &family_qwen2,
                                         &family_qwen3,
                                         &family_nemotron,
                                         &family_gpt2,
                                         &family_phi3,
                                         &family_olmo2,
                                         &family_smollm3,
                                         &family_gemma2,
                                         &family_gemma3,
                                         &family_gpt_neox,
                                         &family_granite,
                                         &family_starcoder2,
                                         &family_mixtral,
                                         &family_qwen2_moe,
                                         &family_qwen3_moe,
                                         &family_olmoe,
                                         &family_granitemoe,
                                         &family_nemotron_nas,
                                         &family_gemma,
                                         &family_phi,
                                         &family_stablelm,
                                         &family_cohere,
                                         &family_cohere2,
                                         &family_falcon,
                                         &family_glm,
                                         &family_glm4,
                                         &family_exaone4,
                                         &family_ernie4_5,
                                         &family_seed_oss,
                                         &family_hunyuan_v1_dense,
                                         &family_nemotron_h,
                                         &family_bamba,
                                         &family_granitemoehybrid,
                                         NULL};

const struct family *family_find(const char *model_type)
{
    for (int i = 0; families[i]; i++)
        if (!strcmp(families[i]->name, model_type))
            return families[i];
    return NULL;
}

char *family_list(void)
{
    char *list = mem_string(families[0]->name);
    for (int i = 1; families[i]; i++)
        list = mem_append(list, ", %s", families[i]->name);
    return list;
}

int family_count_tensors(const struct family *f)
{
    int n = 0;
    while (f->tensors[n].name)
        n++;
    return n;
}

unsigned family_kinds(const struct family *f)
{
    unsigned kinds = 0;
    for (const struct family_line *l = f->block; l->out; l++)
        kinds |= l->kinds;
    return kinds;
}

const char *tensor_layer(const char *name, int64_t *layer)
{
    char *end;
    *layer = -1;
    if (!text_begins(name, "layers."))
        return name;
    *layer = strtoll(name + strlen("layers."), &end, 10);
    return end + (*end == '.');
}

struct tensor_parts tensor_take_apart(const char *name)
{
    struct tensor_parts p;
    const char *stem = tensor_layer(name, &p.layer), *dot = strrchr(stem, '.');
    size_t n = dot ? (size_t)(dot - stem) : strlen(stem);
    p.suffix = stem + n;
    snprintf(p.stem, sizeof p.stem, "%.*s", (int)n, stem);
    return p;
}

/* Is "layers.{L}.q_proj.bias" a tensor of the stem "q_proj"? */
static int has_stem(const char *name, const char *stem)
{
    const char *mark = strstr(name, "{L}.");
    size_t n = strlen(stem);
    return mark && !strncmp(mark + 4, stem, n) && mark[4 + n] == '.';
}

unsigned family_tensor_kinds(const struct family *f, const struct family_tensor *t)
{
    unsigned kinds = 0;
    for (const struct family_line *l = f->block; l->out; l++)
        if (l->weight && has_stem(t->name, l->weight))
            kinds |= l->kinds;
    return kinds ? kinds : family_kinds(f);
}

/* Is it the axis, or nested in it? */
static int is_within(enum axis inner, enum axis axis)
{
    while (inner && inner != axis)
        inner = axis_rows[inner].inside;
    return inner == axis;
}

unsigned family_axis_kinds(const struct family *f, enum axis axis)
{
    unsigned kinds = 0;
    for (const struct family_tensor *t = f->tensors; t->name && axis; t++)
        if (is_within(t->axes[0], axis) || is_within(t->axes[1], axis))
            kinds |= family_tensor_kinds(f, t);
    return kinds;
}

int family_has_axis(const struct family *f, enum axis axis)
{
    return !axis_may_lack(axis) || family_axis_kinds(f, axis);
}

int family_when_of_layer(const char *when)
{
    if (when && *when == '!')
        when++;
    return when && (!strcmp(when, "rope") || !strcmp(when, "experts"));
}

const char *block_kind_name(enum block_kind kind)
{
    if (kind == KIND_mamba)
        return "mamba";
    return kind == KIND_attention ? "attention" : "mlp";
}
