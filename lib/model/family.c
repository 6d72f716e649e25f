/* The families: each .def file becomes one `struct family`. See families/expand.h for the language.
 * A new family is a .def and two lines here. */
#include "family.h"

#include <string.h>

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

const struct family *const families[] = {
    &family_llama,  &family_mistral,  &family_qwen2, &family_qwen3,   &family_nemotron,
    &family_gpt2,   &family_phi3,     &family_olmo2, &family_smollm3, &family_gemma2,
    &family_gemma3, &family_gpt_neox, NULL};

const struct family *family_find(const char *model_type)
{
    for (int i = 0; families[i]; i++)
        if (!strcmp(families[i]->name, model_type))
            return families[i];
    return NULL;
}
