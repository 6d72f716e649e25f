/* Activation statistics of a calibration ("acts"): what calib-acts sums, ts-cat joins and
 * score-importance turns into scores.
 *
 * A sample is one sequence. For every unit of every tap the sequence is reduced first, in three
 * ways (mean |s|, sqrt(sum s^2), var(s)); over samples the mean and the centred squares of those
 * values are kept in f64. Every batch reduction follows from them, and they merge by the parallel
 * formula (Chan, Golub, LeVeque 1979): nine aggregations from one pass, and shards join exactly up
 * to rounding.
 *
 * Stream of kind "acts": header `model`, `sizes` (rank.h), `samples`, `positions`, `shards`
 * [[tokens id, first sequence, end], ...]. Records, f64:
 *   NAME.L [3 (mean, l2, var), 2 (mean, centred squares), units], where NAME is neuron_in2,
 *     neuron_first (gated: neuron_first_gate, neuron_first_up), attn_channel, head_norm,
 *     group_norm, shared_in2 (the neurons of a shared expert), or of the channels of Mamba heads
 *     mamba_in2, mamba_first_z or mamba_first_x;
 *   hidden.L.NORM, likewise: output of each norm that feeds matrices of layer L, or
 *     hidden.L.residual.MATRIX where the residual stream feeds them without one; hidden.final;
 *   expert_in2.L [3, 2, X N]: what the last matrices of a layer's experts read, 0 at the positions
 *     that an expert does not work for;
 *   expert_use.L [3, 2, 2 X]: of each expert its weight times the L2 norm of what it gives, 0
 *     likewise; then of each 1 where it works and 0 elsewhere;
 *   block_cosine [N, L]: entry [n-1, i] = sum over positions of cos(input of block i, output of
 *     block i+n-1); 0 where i+n > L. */
#ifndef PARE_ACTS_H
#define PARE_ACTS_H

#include "rank.h"

enum aggregate { AGG_MEAN, AGG_L2, AGG_VAR, AGG_COUNT };
const char *aggregate_name(enum aggregate a);
int aggregate_parse(const char *name); /* -1: unknown */

struct acts_stat {
    char name[64];
    int64_t units;
    double *sums; /* [AGG_COUNT, 2, units]: mean, centred squares over samples */
};
struct acts {
    struct axes axes;
    int64_t samples, positions;
    struct acts_stat *stats;
    int64_t n_stats, block_size;
    double *block_cosine; /* [block_size, L] */
    json_t *shards;
};

void acts_open(struct acts *a, const struct axes *axes, int64_t block_size);
/* valid until the next call of acts_add_stat */
struct acts_stat *acts_add_stat(struct acts *a, const char *name, int64_t units);
const struct acts_stat *acts_find_stat(const struct acts *a, const char *name); /* NULL: none */
/* Adds one sample: the three sequence aggregates of every unit, [units] each; `before`: number of
 * samples already in the stat. */
void acts_stat_sample(struct acts_stat *s, int64_t before, const double *const values[AGG_COUNT]);
/* The batch aggregate of one sequence aggregate: out [units]. */
void acts_stat_score(const struct acts_stat *s, int64_t samples, enum aggregate batch,
                     enum aggregate seq, double *out);

/* The rest of a stream of kind "acts" (opened with tool_in); refuses wrong shapes, negative counts,
 * and records that do not match the sizes. */
int acts_read(struct acts *a, struct st_in *in, struct err *e);
/* Adds src to dst. -1: different models or taps, or tokens that both contain. */
int acts_merge(struct acts *dst, const struct acts *src, const char *dst_path, const char *src_path,
               struct err *e);
/* header entries for tool_out; new reference */
json_t *acts_meta(const struct acts *a);
void acts_write(struct st_out *out, const struct acts *a);
void acts_free(struct acts *a);

/* How an axis of the layers is scored, and those that it is nested in: from the inputs of the
 * block's linear lines (of AXIS_N: of the mixture) whose input dimension is that axis, or from the
 * outputs of lines that write it. AXIS_X is scored by expert_use alone. Names of the sums that
 * calibration takes: */
struct tap_rule {
    enum axis axis;     /* AXIS_NONE ends the list */
    const char *inputs; /* each channel of the inputs */
    const char *norms;  /* the L2 norm of each unit's channels, NULL: units have one channel */
    const char *outer;  /* the L2 norm of all channels of a unit of the axis it is nested in */
    /* each channel of the outputs of lines whose output dimension is the axis */
    const char *outputs;
};
extern const struct tap_rule tap_rules[];
const struct tap_rule *tap_rule_of(enum axis axis); /* NULL: none */

#endif
