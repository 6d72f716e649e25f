/* Any bytes as a safetensors file: opened, and if accepted, what its header says is looked up by
 * jansson: every tensor is found by name, its range lies within the data, is as long as dtype and
 * shape say, shares no byte with another, and holds the bytes that are read; no byte is left over.
 * Once unchanged; once with the header's length set to end at its last brace and with data after
 * it, so that a changed header is read at all. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static int64_t integer(const json_t *list, size_t i)
{
    return json_integer_value(json_array_get(list, i));
}

/* Checks tensor i against its entry in the header; marks its bytes in `used`. */
static void check_tensor(struct safetensors *s, int i, const json_t *entry,
                         const unsigned char *data, int64_t size, char *used)
{
    struct err e = {0};
    const struct tensor *t = sf_tensor(s, i);
    const json_t *shape = json_object_get(entry, "shape"),
                 *offsets = json_object_get(entry, "data_offsets");
    int64_t bytes = tensor_bytes(t), start = integer(offsets, 0), end = integer(offsets, 1);
    int same = json_array_size(shape) == (size_t)t->ndim;
    for (int d = 0; d < t->ndim; d++)
        same &= integer(shape, (size_t)d) == t->shape[d];
    if (!same || bytes < 0 || start < 0 || end > size || end - start != bytes ||
        sf_find(s, t->name) != i || memchr(used + start, 1, (size_t)bytes))
        abort();
    memset(used + start, 1, (size_t)bytes);
    unsigned char *read = malloc((size_t)bytes + 1);
    if (sf_read(s, i, 0, read, bytes, &e) || memcmp(read, data + start, (size_t)bytes))
        abort();
    free(read);
}

static void check_all(struct safetensors *s, const unsigned char *data, size_t size)
{
    uint64_t header = 0;
    for (int i = 0; i < 8; i++)
        header |= (uint64_t)data[i] << 8 * i;
    json_t *entries = json_loadb((const char *)data + 8, (size_t)header, JSON_ALLOW_NUL, NULL);
    size_t left = size - 8 - (size_t)header;
    char *used = calloc(1, left + 1);
    if (!entries)
        abort();
    for (int i = 0; i < sf_count(s); i++)
        check_tensor(s, i, json_object_get(entries, sf_tensor(s, i)->name), data + 8 + header,
                     (int64_t)left, used);
    if (memchr(used, 0, left))
        abort();
    json_decref(entries);
    free(used);
}

static void try(const unsigned char *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct err e = {0};
    struct safetensors *s = sf_open(path, &e);
    if ((s == NULL) != e.set)
        abort();
    if (s)
        check_all(s, data, size);
    sf_close(s);
    close(fd);
}

/* The largest number after a comma in the header: the end of the data if it is honest. */
static size_t data_size(const unsigned char *header, size_t n)
{
    size_t most = 0;
    for (size_t i = 0; i < n; i++)
        if (header[i] == ',') {
            size_t v = 0;
            for (size_t k = i + 1; k < n && header[k] >= '0' && header[k] <= '9' && v < 1 << 16;
                 k++)
                v = 10 * v + (header[k] - '0');
            most = v > most ? v : most;
        }
    return most < 1 << 16 ? most : 1 << 16;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    try(data, size);
    const unsigned char *brace = size > 8 ? memrchr(data + 8, '}', size - 8) : NULL;
    if (!brace)
        return 0;
    size_t n = (size_t)(brace + 1 - data) - 8, payload = data_size(data + 8, n);
    unsigned char *fitted = calloc(1, 8 + n + payload);
    for (int i = 0; i < 8; i++)
        fitted[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(fitted + 8, data + 8, n);
    try(fitted, 8 + n + payload);
    free(fitted);
    return 0;
}
