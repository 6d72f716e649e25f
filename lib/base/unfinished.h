/* Files and directories that are being written: what a process that a signal ends must not leave
 * behind. Who creates a temporary file or directory enters it and takes it out again; the frame of
 * the tools (tool.h) removes what is entered when a signal comes. */
#ifndef PARE_UNFINISHED_H
#define PARE_UNFINISHED_H

/* a file, or a directory of plain files; borrowed until it is taken out. A 17th is not kept in mind
 */
void unfinished_enter(const char *path);
/* the same pointer: finished, or gone; NULL and what was never entered do no harm */
void unfinished_leave(const char *path);
/* Both may be called by a signal handler. */
/* a file, or a directory and the plain files in it */
void unfinished_remove(const char *path);
void unfinished_remove_all(void);

#endif
