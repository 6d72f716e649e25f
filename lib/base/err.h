/* Sticky errors. A handle or a caller owns one `struct err`; the first failure is kept, later ones
 * are ignored, so code may run straight on and check once. Library functions return 0 (or a count)
 * on success, -1 with a message set. */
#ifndef PARE_ERR_H
#define PARE_ERR_H

struct err {
    int set;       /* 0 until the first err_set */
    char msg[600]; /* one sentence, no newline, naming the file and the value */
};

/* Records the message unless one is there already. A format that ends in ':' gets "
 * strerror(errno)" appended. Always returns -1. */
int err_set(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
