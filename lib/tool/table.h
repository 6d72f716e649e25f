/* Records of models: as JSON lines, and as tables for people, 80 columns wide. */
#ifndef PARE_TABLE_H
#define PARE_TABLE_H

#include <jansson.h>

/* A record as a line of standard output, at once. */
void tool_print_json(const json_t *record);

/* Begins as zeros. */
struct tool_table {
    json_t *first; /* the record of the first row, with which the others are compared */
};
/* Prints the row of a record of eval-ppl, the first time below a header: parameters; MB of weights
 * and their share of the first row's; nats with their standard error, and how far they are from the
 * first row's; perplexity and bits per byte or, beside a teacher, KL and the share of predictions
 * whose most probable token is the teacher's. */
void tool_table_row(struct tool_table *t, json_t *record);
/* The same of a record by a convention: which one, tokens of a window, how many windows and
 * predictions, nats, and the perplexity that is published; of harness two rows, by word and byte.
 */
void tool_table_convention(struct tool_table *t, json_t *record);
/* The same of eval-choice: items; accuracy, and that by character, with their standard errors; the
 * mean probability of the right choice, and nats. A row for each group follows. */
void tool_table_choice(struct tool_table *t, json_t *record);
/* The same of bench-model: parameters; MB of weights, of keys and values, and in all while
 * generating; tokens a second of prefill and decode, measured and predicted. */
void tool_table_costs(struct tool_table *t, json_t *record);
void tool_table_end(struct tool_table *t);

#endif
