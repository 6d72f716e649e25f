/* Inside of the tape: lines, slots, the schedule of events, and where every buffer lies.
 *
 *   line.c    adding a line, with its slots
 *   adapter.c the lines of a low-rank adapter
 *   states.c  lines of losses on hidden states
 *   record.c  family lines -> lines
 *   plan.c    lines -> events and buffers
 *   place.c   segments of events, places of buffers, scratch
 *   args.c    the call of an event, for place.c and run.c
 *   run.c     running events
 *   tape.c    the functions of tape.h
 *   batches.c the functions of batches.h
 *
 * A slot is a value that a line writes ([T, cols], of type exec.compute; memos and states f32,
 * losses f64). A
 * buffer is the place of a slot's value or gradient while it is needed: a value that is dropped
 * after the forward pass and rerun in the backward pass has two. Buffers whose lives do not overlap
 * share memory. */
#ifndef PARE_TAPE_PRIVATE_H
#define PARE_TAPE_PRIVATE_H

#include "tape.h"

enum { NO_SLOT = -1, NO_BUFFER = -1 };

struct slot {
    const char *name;
    int64_t cols; /* entries a row */
    int line;     /* that writes it */
    int is_f32;   /* a memo or state: not of type exec.compute */
    /* rows of each sequence that stay between calls (generation): kv_len of keys and values, 1 of a
     * state; 0: none */
    int64_t kept;
    int is_result;   /* read after a run: its buffer is not reused */
    int is_trained;  /* depends on what is trained: its gradient is wanted */
    int keep;        /* kept until the backward pass is done with it */
    int value, grad; /* current buffer while the schedule is built */
};

struct line {
    enum op op;
    const char *stem; /* of its weight, for taps */
    int64_t layer;    /* -1 start, 0..L-1 blocks, L end, of its own model */
    int is_teacher;
    int in[OP_INPUTS], out, memo, state;
    struct param *w[OP_WEIGHTS];
    int in_place;     /* writes over in[0], which nothing else reads */
    int unread;       /* of the teacher, for nothing that is computed: never run */
    int rope;         /* index of the rope table, -1 */
    int step, n_step; /* offset and number of its values among the tape's step values: op_args */
    struct op_args sizes; /* params and column counts; no pointers */
};

/* ZERO: a gradient buffer begins */
enum event_kind { EVENT_FORWARD, EVENT_BACKWARD, EVENT_ZERO };
struct event {
    enum event_kind kind;
    /* in_backward: belongs to tape_backward (a rerun is a FORWARD event there) */
    int line, in_backward;
    int in[OP_INPUTS], in_grad[OP_INPUTS], out, out_grad, memo, state; /* buffers */
    /* the gradient is uninitialised: the op overwrites it instead of adding to it (w0: only on a
     * step's first pass) */
    int in_overwrite[OP_INPUTS], w_overwrite;
    /* in_parts: it can be run for some of the sequences alone; a segment is a run of such events */
    int segment, in_parts;
};

struct buffer {
    int64_t bytes, offset; /* offset in the shared range */
    int first, last;       /* events */
};

/* Of a state: one line, or for queries, keys and values one each. */
enum { STATE_LINES = 3 };
struct state_lines {
    int line[STATE_LINES], n;
};

struct tap_row {
    int line, after;
    tap_fn *fn;
    void *user;
};

/* All events of one direction for batches of one shape, captured as a graph of the device; the
 * first run is an ordinary one, in which libraries choose their algorithms. */
struct tape_capture {
    int64_t n_seq, seq_len, pieces; /* of keys, in generation (exec_capture) */
    int documents;                  /* the sequences were split into some */
    int runs;
    struct exec_graph *graph;
};

struct tape {
    struct exec *x;
    struct tape_spec spec;
    int64_t T, n_layers, positions;
    struct slot *slots;
    struct line *lines;
    struct event *events;
    struct buffer *buffers;
    const struct event **selected; /* room for the events of a run */
    struct tap_row *taps;
    int n_slots, n_lines, n_events, n_buffers, n_taps;
    int *boundary[2]; /* student, teacher: [L + 1] slots of x entering each block */
    int normed, last; /* slots: input of the head; logits */
    int losses[TAPE_LOSSES], n_losses; /* lines */
    struct state_lines states[TAPE_STATES];
    int state_step;       /* offset of the step values that all states share */
    int64_t shared_bytes; /* what buffers take together once placed */
    size_t scratch_bytes, part_scratch_bytes;
    /* rope tables of student and teacher: short and long */
    struct {
        int64_t dims;
        float *cos[2], *sin[2];
    } * tables[2];
    struct arena arena;
    unsigned char *shared;
    void *scratch;
    int32_t *ids, *labels, *starts; /* of the batch, in device memory */
    int32_t *pos0;                  /* likewise, in generation */
    void *token_data;               /* likewise */
    float *step;                    /* step values that ops read, in device memory */
    int n_step;
    /* for each parameter: its gradient must be zeroed before a step, since no op overwrites it */
    char *cleared;
    int *final; /* for each parameter: the last event that adds to its gradient, -1 none */
    tape_final_fn *on_final;
    void *on_final_user;
    int first_pass;       /* of a step */
    unsigned char *marks; /* the states that tape_mark remembers */
    /* forward, backward; then of a later pass of a step, of the first one */
    struct tape_capture captures[2][2];
    void *host;     /* losses or logits copied to the host */
    float *widened; /* logits that are not f32 */
};

static inline const struct model_spec *tape_model_spec(const struct tape *t, int is_teacher)
{
    return is_teacher ? &t->spec.teacher->spec : &t->spec.model->spec;
}

/* line.c: a line of `op` with these inputs, or NO_SLOT, and no others; no rope */
struct line tape_line(enum op op, int64_t layer, int in0, int in1);
/* adds the line and its output, [T, cols]; the slot, or -1 where the device lacks the op */
int tape_line_add(struct tape *t, struct line l, const char *out, int64_t cols, struct err *e);
/* The sum a + b becomes part of the last line, where that is a linear one that computes b; the
 * slot, or NO_SLOT where it cannot. Only in a training step, where no tap looks at b. */
int tape_sum_join(struct tape *t, const struct line *sum, const char *out);
/* The number of a parameter among those that the tape trains; -1: it is none of them. */
int tape_trained(const struct tape *t, const struct param *p);

/* adapter.c: adds what the adapter of a linear line's matrix in `m` adds to the line's output; the
 * slot of their sum, that of the output if there is no adapter, or -1 */
int tape_adapter_add(struct tape *t, const struct model *m, int slot, struct err *e);

/* states.c: adds lines for the states whose slots have been recorded since the last call; is_last:
 * refuses those that are still missing */
int tape_record_states(struct tape *t, int is_last, struct err *e);

/* record.c: fills lines, slots, boundary, normed, last */
int tape_record_lines(struct tape *t, struct err *e);

/* plan.c: fills events and buffers, but for their offsets; then cleared, final and w_overwrite */
void tape_schedule(struct tape *t);
void tape_plan_weights(struct tape *t);

/* place.c: fills segments, offsets of buffers, shared_bytes, scratch_bytes, part_scratch_bytes */
void tape_place(struct tape *t);

/* args.c */
enum dtype tape_slot_dtype(const struct tape *t, int slot);
void *tape_buffer(const struct tape *t, int buffer); /* NULL before the arena is open */
struct operand tape_operand(const struct tape *t, int slot, int value, int grad, int64_t rows);
/* 1 if sequence i of the batch is so long that a rope line takes its other table */
int tape_rope_is_long(const struct tape *t, const struct line *l, const struct batch *b, int64_t i);
/* a rope line takes the table of the first sequence */
struct op_args tape_args(const struct tape *t, const struct event *ev, const struct batch *b);

#endif
