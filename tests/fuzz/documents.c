/* Any bytes as a file of texts, in every format: refused with a message, or else documents whose
 * bytes are those of the file as it is decompressed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../lib/data/data.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

enum { MOST = 1 << 16 }; /* documents: a few bytes of gzip make millions */

static void try(const char *path, const char *separator, enum documents_format format,
                const char *field)
{
    struct err e = {0};
    const char *text;
    char digest[ST_DIGEST];
    int64_t n, sum = 0;
    int more = -1, by_name;
    struct documents *d = documents_open(path, separator, format, &e);
    if ((d == NULL) != e.set)
        abort();
    if (!d)
        return;
    int json = documents_json(d, &by_name);
    for (int i = 0; i < MOST && (more = field ? documents_next_text(d, field, &text, &n)
                                              : documents_next(d, &text, &n)) > 0;
         i++) {
        sum += n;
        if (n < 0 || (n && memchr(text, 0, (size_t)n) && format == DOCUMENTS_AUTO && !json))
            abort();
        documents_where(d);
    }
    if ((more < 0) != e.set || (!field && sum > documents_bytes(d)))
        abort();
    documents_close(d, digest);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char path[40];
    int fd = memfd_create("documents", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    try(path, NULL, DOCUMENTS_AUTO, NULL);
    try(path, "--", DOCUMENTS_AUTO, NULL);
    try(path, NULL, DOCUMENTS_TEXT, NULL);
    try(path, NULL, DOCUMENTS_JSON, "text");
    try(path, NULL, DOCUMENTS_LINES, NULL);
    close(fd);
    return 0;
}
