/* Shared by the files of the frame: tool.c (options, the end), messages.c, output.c (streams and
 * their provenance), compute.c (device, threads, memory), algorithms.c, progress.c, world.c
 * (several processes).
 */
#ifndef PARE_TOOL_PRIVATE_H
#define PARE_TOOL_PRIVATE_H

#include "tool.h"

enum { TOOL_OUTPUTS = 8 };

struct tool {
    const struct tool_desc *desc;
    struct options options;
    struct err err;
    struct exec exec;
    int exec_is_open, is_limited, quiet, force, stream_layers, help, version, stdin_taken;
    int64_t threads, deadline;
    const char *output, *compress, *device, *compute, *algorithms;
    struct opt common[14];
    struct opt_list ignored; /* keys of config.json */
    json_t *inputs, *steps;  /* [{path, id}], and the steps of all parents (steps.h) */
    json_t *facts;           /* see tool_identify; NULL: none */
    json_t *recorded;        /* see tool_record; NULL: none */
    json_t *choices;         /* what the file of --algorithms holds */
    struct algorithms choose;
    struct st_out *outputs[TOOL_OUTPUTS];
    int n_outputs;
    struct progress {
        const char *unit;        /* NULL: there is none */
        double start, at, shown; /* of the first call, of the last one, of the last line */
        int64_t first, done, total;
        int64_t every, said; /* lines that remain: how often; `done` at the last one */
        char more[200];
        int lines, is_shown; /* printed so far; a line that will be replaced */
        int is_copy;         /* of a model: in a log, silent for longer */
    } progress;
};

/* Prints one message, removes unfinished outputs, and exits. Finished outputs stay. */
_Noreturn void tool_exit(struct tool *t, int status, const char *message);
/* Prints a note, whatever --quiet says. */
void tool_say(struct tool *t, const char *text);
void tool_faults(void); /* fault.c */
/* A signal removes what is unfinished and ends the tool. */
void tool_signals(void);
/* Around other messages: removes the line that is shown, and keeps the next one back. */
void tool_progress_hold(struct tool *t);
void tool_progress_release(void);
/* Joins the processes that a launcher has started. Of others than rank 0, standard output goes
 * nowhere. */
void tool_join(struct tool *t);
/* Once options are known: refuses to be several processes, or waits as they say. */
void tool_agree(struct tool *t);
/* threads unless --threads is given */
int tool_threads(void);
/* algorithms.c: the open device computes products as --algorithms says */
void tool_algorithms(struct tool *t);
/* What --compute resolves to: "f32", "tf32" or "bf16". */
const char *tool_compute_name(struct tool *t);

#endif
