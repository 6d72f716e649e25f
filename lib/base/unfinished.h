/* Files and directories that are being written. Each lies beside its place under a name of its own,
 * .NAME.0123456789abcdef.part, until it is complete. Until then its process holds a lock on it:
 * what a killed process left behind is known by the missing lock, whatever its process number was
 * and in which container it ran, and goes away when the same NAME is written again. The frame of
 * the tools (tool.h) removes what is unfinished when a signal ends the process. */
#ifndef PARE_UNFINISHED_H
#define PARE_UNFINISHED_H

struct unfinished {
    char *path; /* NULL: none */
    int fd;     /* of the file, for writing, or of the directory; holds the lock */
};

/* A new file or directory beside `target`, with the permissions that umask leaves; removes remnants
 * of the same target. -1: errno tells why */
int unfinished_create(struct unfinished *u, const char *target, int is_dir);
/* fsync, rename to `target` (exchange: what was there is removed), close; frees. -1: errno, and
 * `target` is as it was */
int unfinished_publish(struct unfinished *u, const char *target, int exchange);
/* removes it, closes and frees; harmless on one that is published or {0} */
void unfinished_discard(struct unfinished *u);
/* Removes remnants in `dir` of the files called `name` (NULL: of all). Those of other users, or on
 * file systems without locks, stay. */
void unfinished_sweep(const char *dir, const char *name);
/* Everything unfinished in this process; may be called by a signal handler. Keeps up to 16 in mind.
 */
void unfinished_remove_all(void);

#endif
