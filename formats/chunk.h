/* What frames a chunk of a record's data: msgpack's bin 8, bin 16 or bin 32 (SPEC.md, Layout). */
#ifndef PARE_CHUNK_H
#define PARE_CHUNK_H

#include <stdint.h>

enum { CHUNK_FRAME = 5 }; /* bytes of the longest, which all full chunks have */

/* Bytes of the frame that begins with `type`; 0: it is none. */
static inline int chunk_frame_bytes(unsigned char type)
{
    return type < 0xc4 || type > 0xc6 ? 0 : 1 + (1 << (type & 3));
}

/* The length of the chunk behind a whole frame. */
static inline int64_t chunk_length(const unsigned char *frame)
{
    int64_t n = 0;
    for (int i = 1; i < chunk_frame_bytes(frame[0]); i++)
        n = n << 8 | frame[i];
    return n;
}

/* Makes a frame of `size` bytes of length for n bytes; returns its own bytes. */
static inline int chunk_frame_sized(unsigned char frame[CHUNK_FRAME], int64_t n, int size)
{
    frame[0] = (unsigned char)(0xc4 + (size > 1) + (size > 2));
    for (int i = size; i > 0; i--, n >>= 8)
        frame[i] = n & 255;
    return 1 + size;
}

/* The shortest. */
static inline int chunk_frame(unsigned char frame[CHUNK_FRAME], int64_t n)
{
    return chunk_frame_sized(frame, n, 1 << ((n > 0xff) + (n > 0xffff)));
}

#endif
