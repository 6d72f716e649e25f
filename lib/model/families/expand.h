/* Turns the .def file FAMILY_DEF into the tables of `const struct family FAMILY_ID`: the file is
 * read once for each kind of row. No include guard: family.c includes this once a family. The
 * language of a .def, whose shared parts are in common.h:
 *
 *   FAMILY(.field = value, ...)       the scalar fields of struct family
 *   KEY(fact, key, default)           a config key, and what the class takes without it: JSON, or
 *                                     an =expression over other facts
 *   KEY_NULL(fact, key, default, null)  the same, and what an explicit null means
 *   KEY_REQUIRED(fact, key)           no default
 *   NO_KEY(fact, value)               the class has no key for it: the value always holds
 *   VALUE_WHEN(when, fact, value)     the value holds whatever the fact's key says, if a condition
 *                                     does; before the row of the key
 *   TENSOR(name, rows, cols, when)    a canonical tensor and its axes, in stream order: before the
 *                                     layers, in a layer, after them. Two rows of a name: whichever
 *                                     condition holds, never both
 *   STORED(name, layout)              how a checkpoint stores it; layouts are described in
 *                                     layout.c. Of several rows for a tensor the first that is
 *                                     there is read, and the first is written
 *   STORED_TRANSPOSED(name, layout)   the same, matrices being [in, out]
 *   STORED_WHEN(when, name, layout)   the same, if a condition holds
 *   GGUF(.field = value, ...)         struct family_gguf: an architecture of llama.cpp
 *   GGUF_STORED(name, layout)         how a GGUF file stores it; of several rows for a tensor the
 *                                     first that is there is read, and the first is written
 *   GGUF_STORED_WHEN(when, ...)       the same, if a condition holds
 *   START(out, op, weight, in...)     an op line before the blocks; END: one after them
 *   BLOCK(kind, out, op, weight, in...)  an op line of every layer that has attention, mlp or
 *                                     mamba; any, mixer, each: one that several share (family.h)
 *   BLOCK_WHEN(kind, when, out, ...)  the same, if a flag of the config or of the layer says so
 *   HARMLESS("key", "key=JSON", ...)  config keys that do not change the function, whatever their
 *                                     value, or only if they have this one */
#define FAMILY_JOIN2(a, b) a##_##b
#define FAMILY_JOIN(a, b) FAMILY_JOIN2(a, b)
#define FAMILY_TABLE(what) FAMILY_JOIN(FAMILY_ID, what)

#include "rows.h"
#undef KEY_ROW
#define KEY_ROW(fact, key, fallback, null, when) {fact, key, fallback, null, when},
static const struct family_key FAMILY_TABLE(keys)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef TENSOR
#define TENSOR(name, rows, cols, when) {name, {DIM_##rows, DIM_##cols}, when},
static const struct family_tensor FAMILY_TABLE(tensors)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef STORED_ROW
#define STORED_ROW(name, layout, transposed, when) {name, layout, transposed, when},
static const struct family_stored FAMILY_TABLE(stored)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef GGUF
#define GGUF(...) {__VA_ARGS__},
static const struct family_gguf FAMILY_TABLE(gguf)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef GGUF_STORED_ROW
#define GGUF_STORED_ROW(name, layout, transposed, when) {name, layout, transposed, when},
static const struct family_stored FAMILY_TABLE(gguf_stored)[] = {
#include FAMILY_DEF
    {0}
};

#define FAMILY_LINE(kinds, when, out, op, weight, ...) \
    {kinds, OP_##op, out, {__VA_ARGS__}, weight, when},
#include "rows.h"
#undef START
#define START(...) FAMILY_LINE(0, ALWAYS, __VA_ARGS__)
static const struct family_line FAMILY_TABLE(start)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef BLOCK
#undef BLOCK_WHEN
#define BLOCK(kind, ...) FAMILY_LINE(KIND_##kind, ALWAYS, __VA_ARGS__)
#define BLOCK_WHEN(kind, when, ...) FAMILY_LINE(KIND_##kind, when, __VA_ARGS__)
static const struct family_line FAMILY_TABLE(block)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef END
#define END(...) FAMILY_LINE(0, ALWAYS, __VA_ARGS__)
static const struct family_line FAMILY_TABLE(end)[] = {
#include FAMILY_DEF
    {0}
};

#include "rows.h"
#undef HARMLESS
#define HARMLESS(...) __VA_ARGS__,
static const char *const FAMILY_TABLE(harmless)[] = {
#include FAMILY_DEF
    NULL
};

#include "rows.h"
#undef FAMILY
#define FAMILY(...) __VA_ARGS__,
static const struct family FAMILY_ID = {
#include FAMILY_DEF
    .keys = FAMILY_TABLE(keys), .tensors = FAMILY_TABLE(tensors), .stored = FAMILY_TABLE(stored),
    .gguf = FAMILY_TABLE(gguf), .gguf_stored = FAMILY_TABLE(gguf_stored),
    .start = FAMILY_TABLE(start), .block = FAMILY_TABLE(block), .end = FAMILY_TABLE(end),
    .harmless = FAMILY_TABLE(harmless),
};

#undef FAMILY_LINE
#undef FAMILY_TABLE
#undef FAMILY_JOIN
#undef FAMILY_JOIN2
#undef FAMILY_DEF
#undef FAMILY_ID
