/* Files and directories that are being written. Each is kept beside its final place as
 * .NAME.0123456789abcdef.part until it is complete. Until then its process holds a lock on it:
 * remnants of a killed process are recognised by the missing lock, whatever its process number and
 * container, and are removed when the same NAME is written again. The frame of the tools (tool.h)
 * removes unfinished files when a signal ends the process. */
#ifndef PARE_UNFINISHED_H
#define PARE_UNFINISHED_H

struct unfinished {
    char *path; /* NULL: none */
    int fd;     /* of the file, for writing, or of the directory; holds the lock */
};

/* Creates a file or directory beside `target`, with permissions according to umask; removes
 * remnants of the same target. -1: errno says why */
int unfinished_create(struct unfinished *u, const char *target, int is_dir);
/* fsync, rename to `target` (exchange: what was there is removed), close; frees. -1: errno, and
 * `target` is as it was */
int unfinished_publish(struct unfinished *u, const char *target, int exchange);
/* removes it, closes and frees; harmless on one that is published or {0} */
void unfinished_discard(struct unfinished *u);
/* Removes remnants in `dir` of the files called `name` (NULL: of all). Those of other users, or on
 * file systems without locks, stay. */
void unfinished_sweep(const char *dir, const char *name);
/* Removes everything unfinished in this process, up to 16 files or directories; may be called by a
 * signal handler. */
void unfinished_remove_all(void);

#endif
