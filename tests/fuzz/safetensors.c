/* Any bytes as a safetensors file: opened, and if accepted every tensor is found by name and read
 * to its last byte. Once unchanged; once with the header's length set to end at its last brace and
 * with data after it, so that a changed header is read at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void read_all(struct safetensors *s, size_t size)
{
    char last;
    struct err e = {0};
    for (int i = 0; i < sf_count(s); i++) {
        const struct tensor *t = sf_tensor(s, i);
        int64_t n = tensor_bytes(t);
        if (n < 0 || n > (int64_t)size || sf_find(s, t->name) != i ||
            (n && sf_read(s, i, n - 1, &last, 1, &e)))
            abort();
    }
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
        read_all(s, size);
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
