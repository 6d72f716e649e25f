/* What reading and writing safetensors share: the spelling of dtypes and the limit of a header. */
#ifndef PARE_SAFETENSORS_NAMES_H
#define PARE_SAFETENSORS_NAMES_H

#include "../lib/base/tensor.h"

enum { SF_HEADER_MAX = 100000000 };

static const struct {
    const char *name;
    enum dtype dtype;
} sf_dtypes[] = {
    {"F64", DT_F64}, {"F32", DT_F32}, {"F16", DT_F16}, {"BF16", DT_BF16}, {"I64", DT_I64},
    {"I32", DT_I32}, {"U32", DT_U32}, {"U16", DT_U16}, {"U8", DT_U8},
};

#endif
