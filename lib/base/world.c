/* The processes of one run: see world.h. One thread has all messages; it takes jobs from a queue,
 * one after the other. */
#include "world.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem.h"
#include "minmax.h"
#include "transport.h"
#include "usage.h"

enum { HOST = 64 };

struct job {
    void (*run)(const struct job *);
    void *data;
    int64_t n;
    size_t size; /* bytes of a value */
    int from;
    struct world_bytes **all;
    struct job *next;
};

struct pending {
    int request, peer, sends;
};

static struct {
    int rank, size, neighbours, place;
    char (*hosts)[HOST];
    double deadline;
    void (*say)(const char *text, void *user);
    void *user;
    pthread_t thread;
    pthread_mutex_t lock;     /* of what follows */
    pthread_mutex_t messages; /* held in a call of transport.h */
    pthread_cond_t changed;
    struct job *first, *last; /* the first is at work */
    int ends;
    struct err err;
    /* the thread's own */
    struct pending *pending;
    int n_pending, room_pending;
    char *room; /* what the others send to be added */
    size_t room_bytes;
    struct err trouble;
} w = {.size = 1,
       .neighbours = 1,
       .deadline = WORLD_DEADLINE,
       .lock = PTHREAD_MUTEX_INITIALIZER,
       .messages = PTHREAD_MUTEX_INITIALIZER,
       .changed = PTHREAD_COND_INITIALIZER};

int world_rank(void) { return w.rank; }
int world_size(void) { return w.size; }
int world_neighbours(void) { return w.neighbours; }
int world_place(void) { return w.place; }
const char *world_host(int rank) { return w.hosts ? w.hosts[rank] : "this host"; }

struct world_piece world_piece(int64_t n, int rank)
{
    int64_t units = (n + WORLD_ALIGN - 1) / WORLD_ALIGN;
    int64_t first = min64(units * rank / w.size * WORLD_ALIGN, n),
            end = min64(units * (rank + 1) / w.size * WORLD_ALIGN, n);
    return (struct world_piece){first, end - first};
}

/* ---- waiting for messages */

/* "rank 2 on node7", and how many more */
static char *awaited(int *first)
{
    int n = 0, last = -1;
    *first = w.size;
    for (int i = 0; i < w.n_pending; i++) {
        int peer = w.pending[i].peer;
        *first = peer < *first ? peer : *first;
        n += peer != last;
        last = peer;
    }
    char *text = mem_format("rank %d on %s", *first, world_host(*first));
    return n > 1 ? mem_append(text, " and %d more", n - 1) : text;
}

/* The rank that speaks, so that a sentence is said once; nobody knows what the others wait for. */
static int speaks(int awaits) { return w.rank == (awaits == 0); }

/* Says whom it waits for, or that it no longer does. */
static void be_patient(double since, double *told)
{
    enum { FIRST = 15, AGAIN = 60 };
    double now = usage_seconds(), spent = now - since;
    int late = w.deadline > 0 && spent >= w.deadline, rank;
    if (!late && now - *told < (*told > since ? AGAIN : FIRST))
        return;
    char *who = awaited(&rank);
    *told = now;
    if (late)
        err_set(&w.trouble, "%s has not answered for %.0f seconds", who, spent);
    else if (w.say && speaks(rank)) {
        char *text = mem_format("has waited for %s for %.0f seconds", who, spent);
        w.say(text, w.user);
        free(text);
    }
    free(who);
}

static void forget_done(void)
{
    int left = 0;
    pthread_mutex_lock(&w.messages);
    for (int i = 0; i < w.n_pending && !w.trouble.set; i++)
        if (!transport_done(w.pending[i].request, &w.trouble))
            w.pending[left++] = w.pending[i];
    pthread_mutex_unlock(&w.messages);
    w.n_pending = left;
}

/* Other threads compute meanwhile, so it yields, and soon sleeps. */
static void rest(int polls)
{
    enum { EAGER = 100, SHORT = 20, LONG = 500 };
    if (polls < EAGER)
        sched_yield();
    else
        usleep(polls < 2 * EAGER ? SHORT : LONG);
}

static void settle(void)
{
    double since = usage_seconds(), told = since;
    for (int polls = 0; w.n_pending && !w.trouble.set; polls++) {
        forget_done();
        if (!w.n_pending || w.trouble.set)
            break;
        rest(polls);
        be_patient(since, &told);
    }
}

/* Begins to send, or to receive. */
static void post(int sends, int peer, void *data, size_t bytes)
{
    pthread_mutex_lock(&w.messages);
    for (size_t at = 0, n; at < bytes && !w.trouble.set; at += n) {
        char *part = (char *)data + at;
        n = bytes - at < TRANSPORT_MOST ? bytes - at : TRANSPORT_MOST;
        if (w.n_pending == w.room_pending) {
            w.room_pending = 2 * w.room_pending + 16;
            w.pending = mem_grow(w.pending, (size_t)w.room_pending * sizeof *w.pending);
        }
        int request = sends ? transport_send(peer, part, n, &w.trouble)
                            : transport_receive(peer, part, n, &w.trouble);
        w.pending[w.n_pending] = (struct pending){request, peer, sends};
        w.n_pending += request >= 0;
    }
    pthread_mutex_unlock(&w.messages);
}

/* ---- jobs */

/* The others, by turns: not all begin with the same one. */
static int other(int i) { return (w.rank + i) % w.size; }

static char *room_for(size_t bytes)
{
    if (bytes > w.room_bytes) {
        free(w.room);
        w.room = mem_alloc(bytes);
        w.room_bytes = bytes;
    }
    return w.room;
}

enum { TOGETHER = 512 }; /* values that are added at a time, and stay in the cache */

/* to[n] += the same of all other ranks, in the order of ranks; theirs are in the room. */
#define ADD(name, type) \
    static void name(type *to, int64_t n) \
    { \
        for (int64_t at = 0, k; at < n; at += k) { \
            double sums[TOGETHER] = {0}; \
            k = min64(TOGETHER, n - at); \
            for (int r = 0; r < w.size; r++) { \
                const type *theirs = (const type *)w.room + (r - (r > w.rank)) * n, \
                           *from = (r == w.rank ? to : theirs) + at; \
                for (int64_t i = 0; i < k; i++) \
                    sums[i] += (double)from[i]; \
            } \
            for (int64_t i = 0; i < k; i++) \
                to[at + i] = (type)sums[i]; \
        } \
    }
ADD(add_f32, float)
ADD(add_f64, double)
#undef ADD

static void reduce(const struct job *j)
{
    struct world_piece own = world_piece(j->n, w.rank);
    size_t bytes = (size_t)own.n * j->size;
    char *room = room_for(bytes * (size_t)(w.size - 1)), *data = j->data;
    for (int i = 1; i < w.size; i++) {
        int from = other(w.size - i), to = other(i);
        struct world_piece theirs = world_piece(j->n, to);
        post(0, from, room + bytes * (size_t)(from - (from > w.rank)), bytes);
        post(1, to, data + (size_t)theirs.first * j->size, (size_t)theirs.n * j->size);
    }
    settle();
    data += (size_t)own.first * j->size;
    if (w.trouble.set)
        return;
    if (j->size == sizeof(float))
        add_f32((float *)data, own.n);
    else
        add_f64((double *)data, own.n);
}

static void spread(const struct job *j)
{
    struct world_piece own = world_piece(j->n, w.rank);
    char *data = j->data;
    for (int i = 1; i < w.size; i++) {
        int from = other(w.size - i);
        struct world_piece theirs = world_piece(j->n, from);
        post(0, from, data + (size_t)theirs.first * j->size, (size_t)theirs.n * j->size);
        post(1, other(i), data + (size_t)own.first * j->size, (size_t)own.n * j->size);
    }
    settle();
}

static void broadcast(const struct job *j)
{
    for (int i = 1; i < w.size && w.rank == j->from; i++)
        post(1, other(i), j->data, j->size);
    if (w.rank != j->from)
        post(0, j->from, j->data, j->size);
    settle();
}

static void bring(const struct job *j)
{
    if (w.rank)
        post(1, 0, j->data, j->size);
    else
        post(0, j->from, j->data, j->size);
    settle();
}

static void gather(const struct job *j)
{
    struct world_bytes own = {j->data, j->size}, *all;
    if (w.rank) {
        post(1, 0, &own.n, sizeof own.n);
        post(1, 0, own.data, own.n);
        settle();
        return;
    }
    *j->all = all = mem_alloc((size_t)w.size * sizeof *all);
    all[0] = own;
    for (int r = 1; r < w.size; r++)
        post(0, r, &all[r].n, sizeof all[r].n);
    settle();
    for (int r = 0; r < w.size && !w.trouble.set; r++) {
        all[r].data = mem_alloc(all[r].n + 1);
        post(0, r, all[r].data, r ? all[r].n : 0);
    }
    memcpy(all[0].data, own.data, own.n);
    settle();
}

/* ---- the queue */

/* After an error nothing more is done. */
static void finish_job(void)
{
    pthread_mutex_lock(&w.lock);
    if (w.trouble.set)
        err_set(&w.err, "%s", w.trouble.msg);
    do {
        struct job *done = w.first;
        w.first = done->next;
        free(done);
    } while (w.first && w.err.set);
    pthread_cond_broadcast(&w.changed);
    pthread_mutex_unlock(&w.lock);
}

static void *work(void *unused)
{
    for (;;) {
        pthread_mutex_lock(&w.lock);
        while (!w.first && !w.ends)
            pthread_cond_wait(&w.changed, &w.lock);
        struct job *job = w.first;
        pthread_mutex_unlock(&w.lock);
        if (!job)
            return unused;
        job->run(job);
        finish_job();
    }
}

static void queue(struct job job)
{
    if (w.size == 1)
        return;
    struct job *j = mem_alloc(sizeof *j);
    *j = job;
    pthread_mutex_lock(&w.lock);
    if (w.err.set)
        free(j);
    else if (w.first)
        w.last = w.last->next = j;
    else
        w.first = w.last = j;
    pthread_cond_broadcast(&w.changed);
    pthread_mutex_unlock(&w.lock);
}

int world_wait(struct err *e)
{
    pthread_mutex_lock(&w.lock);
    while (w.first)
        pthread_cond_wait(&w.changed, &w.lock);
    int status = w.err.set ? err_set(e, "%s", w.err.msg) : 0;
    pthread_mutex_unlock(&w.lock);
    return status;
}

void world_reduce(float *values, int64_t n)
{
    queue((struct job){.run = reduce, .data = values, .n = n, .size = sizeof *values});
}

int64_t world_reduce_bytes(int64_t n)
{
    int64_t units = (n + WORLD_ALIGN - 1) / WORLD_ALIGN, most = (units + w.size - 1) / w.size;
    return most * WORLD_ALIGN * (int64_t)sizeof(float) * (w.size - 1);
}

void world_spread(void *values, int64_t n, size_t size)
{
    queue((struct job){.run = spread, .data = values, .n = n, .size = size});
}

int world_sum(double *values, int64_t n, struct err *e)
{
    queue((struct job){.run = reduce, .data = values, .n = n, .size = sizeof *values});
    world_spread(values, n, sizeof *values);
    return world_wait(e);
}

int world_broadcast(void *data, size_t bytes, int from, struct err *e)
{
    queue((struct job){.run = broadcast, .data = data, .size = bytes, .from = from});
    return world_wait(e);
}

int world_bring(void *data, size_t bytes, int from, struct err *e)
{
    if (from && (w.rank == from || !w.rank))
        queue((struct job){.run = bring, .data = data, .size = bytes, .from = from});
    return world_wait(e);
}

int world_gather(const void *data, size_t n, struct world_bytes **all, struct err *e)
{
    *all = NULL;
    if (w.size == 1) {
        *all = mem_alloc(sizeof **all);
        **all = (struct world_bytes){mem_alloc(n + 1), n};
        memcpy((*all)->data, data, n);
        return 0;
    }
    queue((struct job){.run = gather, .data = (void *)data, .size = n, .all = all});
    return world_wait(e);
}

void world_free(struct world_bytes *all)
{
    for (int r = 0; all && r < w.size; r++)
        free(all[r].data);
    free(all);
}

int world_barrier(struct err *e)
{
    double one = 1;
    return world_sum(&one, 1, e);
}

int world_agree(struct err *e)
{
    struct err found = *e, trouble = {0};
    if (w.size == 1)
        return e->set ? -1 : 0;
    double *has = mem_alloc((size_t)w.size * sizeof *has);
    int first = 0;
    has[w.rank] = e->set != 0;
    world_sum(has, w.size, &trouble);
    while (first < w.size && has[first] == 0)
        first++;
    free(has);
    if (first < w.size)
        world_broadcast(&found, sizeof found, first, &trouble);
    if (trouble.set)
        return err_set(e, "%s", trouble.msg);
    if (first == w.size)
        return 0;
    return err_set(e, "rank %d on %s: %s", first, world_host(first), found.msg);
}

/* ---- beginning and end */

/* Signals are for the main thread. */
static int begin_thread(struct err *e)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w.thread, NULL, work, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? err_set(e, "no thread can be started for messages between processes") : 0;
}

/* Everybody's name becomes known to all; equal names are one host. */
static int learn_hosts(struct err *e)
{
    w.hosts = mem_alloc((size_t)w.size * sizeof *w.hosts);
    gethostname(w.hosts[w.rank], HOST - 1);
    for (int r = 0; r < w.size; r++)
        if (world_broadcast(w.hosts[r], HOST, r, e))
            return -1;
    w.neighbours = 0;
    for (int r = 0; r < w.size; r++) {
        int is_here = !strcmp(w.hosts[r], w.hosts[w.rank]);
        w.neighbours += is_here;
        w.place += is_here && r < w.rank;
    }
    return 0;
}

int world_start(struct err *e)
{
    if (transport_start(&w.rank, &w.size, e))
        return -1;
    return w.size > 1 && (begin_thread(e) || learn_hosts(e)) ? -1 : 0;
}

void world_finish(void)
{
    struct err ignored = {0};
    if (w.size == 1)
        return;
    w.deadline = 0; /* rank 0 may write for long */
    world_barrier(&ignored);
    pthread_mutex_lock(&w.lock);
    w.ends = 1;
    pthread_cond_broadcast(&w.changed);
    pthread_mutex_unlock(&w.lock);
    pthread_join(w.thread, NULL);
    transport_finish();
    free(w.hosts);
    free(w.pending);
    free(w.room);
    w.hosts = NULL;
    w.rank = w.place = 0;
    w.size = w.neighbours = 1;
}

void world_abort(int status)
{
    if (w.size == 1)
        return;
    pthread_mutex_lock(&w.messages);
    transport_abort(status);
}

void world_patience(double deadline, void (*say)(const char *text, void *user), void *user)
{
    w.deadline = deadline;
    w.say = say;
    w.user = user;
}
