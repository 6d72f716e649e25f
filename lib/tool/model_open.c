/* Opens a MODEL operand: the one file that knows all kinds of model. In: a directory, a regular
 * file (recognised by its first bytes), a FIFO or "-" (model streams). Refused: anything else. */
#include "model_open.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../gguf/gguf.h"
#include "../hf/hf.h"

static int is_gguf(const char *path)
{
    char magic[4] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, magic, 4, 0);
    if (fd >= 0)
        close(fd);
    return n == 4 && !memcmp(magic, "GGUF", 4);
}

int model_is_foreign(const char *path)
{
    struct stat st;
    if (!strcmp(path, "-") || stat(path, &st))
        return 0;
    return S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && is_gguf(path));
}

static int look(const char *operand, struct stat *st, struct err *e)
{
    return stat(operand, st) ? err_set(e, "cannot open model '%s':", operand) : 0;
}

int model_is_there(const char *operand, struct err *e)
{
    struct stat st;
    return strcmp(operand, "-") ? look(operand, &st, e) : 0;
}

static int open_operand(struct model_in *in, const char *operand, const char *const *ignored,
                        struct err *e)
{
    struct stat st;
    if (!strcmp(operand, "-"))
        return stream_source_open(in, operand, e);
    if (look(operand, &st, e))
        return -1;
    if (S_ISDIR(st.st_mode))
        return hf_source_open(in, operand, ignored, e);
    if (S_ISREG(st.st_mode) && is_gguf(operand))
        return gguf_source_open(in, operand, e);
    return stream_source_open(in, operand, e);
}

struct model_in *model_open(const char *operand, const char *const *ignored, struct err *e)
{
    struct model_in *in = mem_alloc(sizeof *in);
    in->err = e;
    in->current = -1;
    if (open_operand(in, operand, ignored, e)) {
        free(in);
        return NULL;
    }
    return in;
}
