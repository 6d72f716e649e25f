/* Messages between processes, by MPI: see transport.h. The Makefile defines PARE_MPI with MPI=1. */
#include "transport.h"

#include <stdlib.h>

/* How many processes a launcher has started; 0: it does not say; 1: there is no launcher. */
static int processes_launched(void)
{
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}, *const ranks[] = {
                                                                                 "PMI_RANK",
                                                                                 "PMIX_RANK"};
    for (int i = 0; i < 2; i++)
        if (getenv(sizes[i]))
            return atoi(getenv(sizes[i]));
    return !getenv(ranks[0]) && !getenv(ranks[1]);
}

#ifdef PARE_MPI
#include <mpi.h>

#include "mem.h"

static MPI_Request *requests; /* MPI_REQUEST_NULL: the number is free */
static int n_requests;

static int failed(int status, const char *what, struct err *e)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n;
    if (status == MPI_SUCCESS)
        return 0;
    MPI_Error_string(status, text, &n);
    return err_set(e, "%s: %.*s", what, n, text);
}

int transport_start(int *rank, int *size, struct err *e)
{
    int level;
    *rank = 0;
    *size = 1;
    if (processes_launched() == 1)
        return 0;
    if (failed(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level), "MPI", e))
        return -1;
    if (level < MPI_THREAD_SERIALIZED)
        return err_set(e, "this MPI cannot be used by threads (MPI_THREAD_SERIALIZED)");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    return 0;
}

void transport_finish(void)
{
    MPI_Finalize();
    free(requests);
    requests = NULL;
    n_requests = 0;
}

void transport_abort(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

static int request_new(void)
{
    int i = 0;
    while (i < n_requests && requests[i] != MPI_REQUEST_NULL)
        i++;
    if (i == n_requests) {
        n_requests = 2 * n_requests + 16;
        requests = mem_grow(requests, (size_t)n_requests * sizeof *requests);
        for (int k = i; k < n_requests; k++)
            requests[k] = MPI_REQUEST_NULL;
    }
    return i;
}

int transport_send(int peer, const void *data, size_t bytes, struct err *e)
{
    int i = request_new(),
        status = MPI_Isend(data, (int)bytes, MPI_BYTE, peer, 0, MPI_COMM_WORLD, &requests[i]);
    return failed(status, "cannot send", e) ? -1 : i;
}

int transport_receive(int peer, void *data, size_t bytes, struct err *e)
{
    int i = request_new(),
        status = MPI_Irecv(data, (int)bytes, MPI_BYTE, peer, 0, MPI_COMM_WORLD, &requests[i]);
    return failed(status, "cannot receive", e) ? -1 : i;
}

int transport_done(int request, struct err *e)
{
    int done;
    int status = MPI_Test(&requests[request], &done, MPI_STATUS_IGNORE);
    return failed(status, "a message was lost", e) ? -1 : done;
}

#else

int transport_start(int *rank, int *size, struct err *e)
{
    *rank = 0;
    *size = 1;
    if (processes_launched() == 1)
        return 0;
    return err_set(e, "started as one of several processes, but built without MPI: build with make "
                      "MPI=1");
}

void transport_finish(void) {}
void transport_abort(int status) { (void)status; }

/* in a world of one there is nobody to send to */
int transport_send(int peer, const void *data, size_t bytes, struct err *e)
{
    (void)data;
    return err_set(e, "%zu bytes for rank %d: no such rank", bytes, peer);
}

int transport_receive(int peer, void *data, size_t bytes, struct err *e)
{
    (void)data;
    return err_set(e, "%zu bytes from rank %d: no such rank", bytes, peer);
}

int transport_done(int request, struct err *e) { return err_set(e, "no message %d", request); }

#endif
