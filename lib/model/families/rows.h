/* Empties every row of the .def language, so that a pass of expand.h can define the one that it
 * collects. No include guard: used once a pass. */
#undef FAMILY
#undef KEY_ROW
#undef TENSOR
#undef STORED_ROW
#undef GGUF
#undef GGUF_STORED_ROW
#undef START
#undef BLOCK
#undef BLOCK_WHEN
#undef END
#undef HARMLESS
#define FAMILY(...)
#define KEY_ROW(...)
#define TENSOR(...)
#define STORED_ROW(...)
#define GGUF(...)
#define GGUF_STORED_ROW(...)
#define START(...)
#define BLOCK(...)
#define BLOCK_WHEN(...)
#define END(...)
#define HARMLESS(...)
