/* Empties every row of the .def language, so that one pass of expand.h can define the one it collects. No include guard: used once a pass. */
#undef FAMILY
#undef KEY_ROW
#undef TENSOR
#undef STORED_ROW
#undef START
#undef BLOCK
#undef END
#undef HARMLESS
#define FAMILY(...)
#define KEY_ROW(...)
#define TENSOR(...)
#define STORED_ROW(...)
#define START(...)
#define BLOCK(...)
#define END(...)
#define HARMLESS(...)
