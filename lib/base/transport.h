/* Messages between processes: what world.c needs of MPI. Without MPI, transport_start finds that
 * the process is alone, and nothing else is called. From one thread at a time. */
#ifndef PARE_TRANSPORT_H
#define PARE_TRANSPORT_H

#include <stddef.h>

#include "err.h"

/* Sets rank and size. */
int transport_start(int *rank, int *size, struct err *e);
void transport_finish(void);
void transport_abort(int status);

enum { TRANSPORT_MOST = 1 << 30 }; /* bytes of a message */
/* Begins to send to a peer, or to receive what it sends; messages between two ranks arrive in the
 * order in which they are posted. Returns a number for transport_done, or -1. */
int transport_send(int peer, const void *data, size_t bytes, struct err *e);
int transport_receive(int peer, void *data, size_t bytes, struct err *e);
/* 1: done, and the number is free again; 0: not yet; -1: error */
int transport_done(int request, struct err *e);

#endif
