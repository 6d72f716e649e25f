/* The frame of every tool's main: options, help, streams with provenance, progress, exit status.
 * This room is the only place in lib/ that prints and exits.
 *
 * Exit status: 0 done; 1 bad data, I/O, device; 2 usage; 3 ran, but a requested check failed.
 * Messages: "tool: what: why" on stderr. Every stream that a tool reads or writes goes through
 * tool_in, tool_model and tool_out, which derive `hist` and `id`: id = digest of tool, release, the
 * resolved options that affect the result, and the parents' ids; no clock, no host. */
#ifndef PARE_TOOL_H
#define PARE_TOOL_H

#include <signal.h>
#include <stdio.h>

#include "../../formats/stream.h"
#include "../../kernels/op.h"
#include "../base/usage.h"
#include "../model/model.h"
#include "../tape/tape.h"
#include "card.h"
#include "dump.h"
#include "history.h"
#include "model_open.h"
#include "options.h"
#include "repair.h"
#include "table.h"
#include "teacher.h"
#include "training.h"
#include "vocab.h"
#include "windows.h"

#define PARE_RELEASE "0.1.0"

struct tool_desc {
    const char *name, *operands; /* "MODEL TOKENS" */
    const char *summary;         /* one line: what it does */
    const char *description;     /* paragraphs: reads, writes, refuses */
    /* shell commands that work as written */
    const char *example;
    const struct opt *opts;         /* ends with {0} */
    int min_operands, max_operands; /* max -1: any number */
    int uses;                       /* which common options it has */
};
enum {
    TOOL_OUTPUT = 1,      /* -o/--output FILE (default: stdout), --compress auto|none|N */
    TOOL_COMPUTE = 2,     /* --threads N, --device cpu|cuda, --compute, --algorithms, --force */
    TOOL_MAY_COMPUTE = 4, /* the same; provenance has them only if tool_exec was called */
    TOOL_MODEL = 8,       /* reads directories: --ignore-key K */
    TOOL_WORLD = 16,      /* works as several processes (lib/base/world.h): --deadline SECONDS */
    TOOL_LAYERS = 32      /* --stream-layers */
};
/* every tool: --help, --version, --quiet
 *
 * As several processes, every rank runs the whole tool. Notes, standard output and files of
 * tool_out are those of rank 0; the others' go nowhere. A tool that ends with an error ends all
 * processes. */

struct tool;
/* exits 0 on --help, --version; 2 on wrong usage */
struct tool *tool_begin(const struct tool_desc *d, int argc, char **argv);
int tool_operands(const struct tool *t);
const char *tool_operand(const struct tool *t, int i); /* NULL beyond the last */
/* the tool's error, for library calls */
struct err *tool_err(struct tool *t);
/* if tool_err is set: print it, remove unfinished outputs, exit 1 */
void tool_check(struct tool *t);
/* status 1; a format ending in ':' gets strerror */
_Noreturn void tool_die(struct tool *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* status 2 */
_Noreturn void tool_usage(struct tool *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* status 3 */
_Noreturn void tool_refuse(struct tool *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* a sentence on stderr unless --quiet */
void tool_note(const struct tool *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* opened on first use from --device and --threads */
struct exec *tool_exec(struct tool *t);
/* opens, checks the kind (a wrong one: an error that names both), registers a parent */
struct st_in *tool_in(struct tool *t, const char *path, const char *kind);
/* The same; of several processes, rank 0 reads a pipe or standard input for all (st_open_shared).
 */
struct st_in *tool_in_shared(struct tool *t, const char *path, const char *kind);
/* the same as tool_in for a stream that does not affect what is made, which is no parent */
struct st_in *tool_in_aside(struct tool *t, const char *path, const char *kind);
/* before work on the first of several MODELs: ends the tool if one of n operands is missing */
void tool_models_there(struct tool *t, int n);
/* the same as tool_in for a MODEL operand; notes which keys of a directory's config.json nothing
 * reads */
struct model_in *tool_model(struct tool *t, const char *operand);
/* the spec of a config.json alone, by the same options; ends the tool on an error */
void tool_read_config(struct tool *t, const char *path, struct model_spec *h);
/* The shapes of models nested in the one at `in`, operand 0, from a text (lib/prune/nested.h),
 * which is a parent. sorted: notes if the model's history does not say that it is. */
void tool_nested(struct tool *t, const char *path, struct model_in *in, int sorted,
                 struct nested_list *l);
/* A parent that is not a stream, such as a text file; `id` is a digest of what was read. */
void tool_parent(struct tool *t, const char *path, const char *id);
/* What else shapes the output than options and the parents' ids, such as the tokenizer of a model,
 * which the model's id does not cover: part of the ids of outputs. value: stolen. */
void tool_identify(struct tool *t, const char *key, json_t *value);
/* An entry of this run's step in hist that is for information only. value: stolen. Before the first
 * output. */
void tool_record(struct tool *t, const char *key, json_t *value);
/* call before opening an operand: a second - is a usage error. tool_in and tool_model do so */
void tool_stdin_once(struct tool *t, const char *path);
/* Output at -o or stdout: header = kind, id, the entries of meta (stolen), hist; begun. Call after
 * all inputs are open. An "id" in meta (of hf-import, which does not change the model) replaces the
 * derived one. A step of hist: {id, tool, release, options: {name: resolved value}, operands: [as
 * typed], inputs: [{path, id}], device, threads, math}. */
struct st_out *tool_out(struct tool *t, const char *kind, json_t *meta);
/* A model stream at `path` (NULL: -o or stdout); its id is the spec's, or derived if that is empty.
 * tool_finish publishes it. */
struct model_out *tool_model_out(struct tool *t, const char *path, const struct model_spec *spec);
const char *tool_output(const struct tool *t); /* the value of -o, or NULL */
/* The header of a stream made by this run, as tool_out writes it; meta: stolen. New reference */
json_t *tool_head(struct tool *t, const char *kind, json_t *meta);
/* Adds to a record what it was computed with: peak_rss, threads, math, and of several processes how
 * many. */
void tool_put_machine(struct tool *t, json_t *record);
/* Progress on stderr, without --quiet: done / total units, time left, pace. On a terminal one line,
 * no wider than it is, drawn again at most 6 times a second, and at least once while a unit takes
 * longer. Elsewhere a line after a second and then one a minute, and at every hundredth of the
 * whole that takes at least ten seconds. The first call, one of another unit, and one with less
 * done than before, starts the clock: what is done by then does not count for the pace. Total 0: it
 * is not known. */
void tool_progress(struct tool *t, int64_t done, int64_t total, const char *unit);
/* with more to say, such as a loss */
void tool_progress_with(struct tool *t, int64_t done, int64_t total, const char *unit,
                        const char *more);
/* Instead, a line that remains at every multiple of so many units, on a terminal too; 0: not. */
void tool_progress_every(struct tool *t, int64_t units);
/* The same of what has no parts: "loading the model". */
void tool_waiting(struct tool *t, const char *what);
/* Ends either before all is done. */
void tool_progress_end(struct tool *t);
/* Prints the predicted memory in one note: "predicted memory 1234.5 MB (weights 500.0, ..., program
 * and data 20.0)". `what` names the operand it is about, or is NULL. */
void tool_predict_memory(struct tool *t, const char *what, const struct memory_part *parts);
/* Ends the tool, unless --force was given, if so many bytes are more than the machine, or a control
 * group that it is in, has left. tool_predict_memory asks for what is not loaded, and names options
 * that lower it. */
void tool_need_memory(struct tool *t, const char *what, int64_t bytes);
/* Loads a MODEL_FROZEN model and moves it to the device, if there is memory for it. With
 * --stream-layers opens it to be read section by section; `in` must then stay open. */
void tool_load(struct tool *t, struct model *m, struct model_in *in);
int tool_streams_layers(const struct tool *t); /* was --stream-layers given? */
struct memory_part tool_weights(const struct model *m);
/* tool_predict_memory of what runs batches: hidden states of all of them (b->bytes), if there are
 * any, go to a file where memory does not hold them too. */
void tool_predict_batches(struct tool *t, const char *what, const struct memory_part *parts,
                          struct batches *b);
/* model_copy with progress, in a log from the tenth second on; ends the tool on an error */
void tool_copy(struct tool *t, struct model_out *out, struct model_in *in);
/* Finishes an import: writes the model unchanged to the output and closes it. Returns the
 * exit status. */
int tool_import(struct tool *t, struct model_in *in);
/* For tools with work to save: SIGTERM, SIGINT, SIGHUP and SIGUSR1 set the number returned (0 until
 * then), say so without --quiet, and only the same one again ends the tool; a broken pipe is an
 * error of the write. */
const volatile sig_atomic_t *tool_catch_signals(const struct tool *t);
/* Sets tool_err when an output is a pipe whose reader has gone; for tools that compute for long
 * before they write. */
int tool_check_readers(struct tool *t);
/* Ends outputs opened with tool_out (st_end + st_publish): 0, or -1 with tool_err set and nothing
 * left of those that failed. tool_finish does it too. */
int tool_publish(struct tool *t);
/* Ends outputs opened with tool_out (st_end + st_publish), flushes stdout, checks all, frees;
 * returns the exit status. */
int tool_finish(struct tool *t);

#endif
