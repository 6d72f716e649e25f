/* Any bytes as a safetensors file: opened, and if accepted every tensor is found by its name and
 * read to its last byte. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../formats/safetensors.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    char path[64], last;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct err e = {0};
    struct safetensors *s = sf_open(path, &e);
    if ((s == NULL) != e.set)
        abort();
    for (int i = 0; s && i < sf_count(s); i++) {
        const struct tensor *t = sf_tensor(s, i);
        int64_t n = tensor_bytes(t);
        if (n < 0 || n > (int64_t)size || sf_find(s, t->name) != i ||
            (n && sf_read(s, i, n - 1, &last, 1, &e)))
            abort();
    }
    sf_close(s);
    close(fd);
    return 0;
}
