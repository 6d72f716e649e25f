/* The learning rate of every step: warm-up, a stable phase, decay.
 *
 * With T = max_steps, W = warmup_steps, D = decay_steps, step s of 0 .. T-1 has the rate
 *
 *     peak (s+1) / W                         s < W
 *     peak                                   W <= s < T-D
 *     lowest + (peak - lowest) f((s-T+D)/D)  T-D <= s
 *
 * f(x) = 1 - x, or (1 + cos pi x) / 2 for a cosine. The decay would reach `lowest` at step T, so no
 * step is wasted on a rate of 0. The schedules differ in f and in their defaults:
 *
 *     cosine    T-W steps, to a tenth of the peak (Loshchilov and Hutter, arXiv 1608.03983, eq. 5;
 *               the papers: 2e-4 to 4.5e-7)
 *     linear    T-W steps, to 0 (Bergsma et al., "Straight to Zero", arXiv 2502.15938)
 *     wsd       linear, the last fifth of all steps, to 0 (warm-up, stable, decay: Hu et al.,
 *               arXiv 2404.06395; linear and a fifth: Haegele et al., arXiv 2405.18392)
 *     constant  none */
#ifndef PARE_SCHEDULE_H
#define PARE_SCHEDULE_H

#include <jansson.h>
#include <stdint.h>

#include "../base/err.h"

enum schedule_kind { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_WSD, SCHEDULE_CONSTANT };
struct schedule {
    enum schedule_kind kind;
    int64_t max_steps, warmup_steps, decay_steps;
    double learning_rate, min_learning_rate; /* peak and lowest */
};

int schedule_parse(const char *name, enum schedule_kind *kind, struct err *e);
/* Sets the defaults of values that are -1 (warm-up: a twentieth of the steps; the others: above),
 * and refuses invalid ones, but for the two rates, which train_options_resolve checks. */
int schedule_resolve(struct schedule *s, struct err *e);
double schedule_rate(const struct schedule *s, int64_t step);

/* Adds its settings by their command-line names; kind and decay only if they are not those of
 * releases that knew nothing else. */
void schedule_to_json(const struct schedule *s, json_t *run);
/* Is `key` one of those settings? */
int schedule_has_setting(const char *key);
/* Do two such sets of settings give the same rate to each of the first `steps` steps, and does
 * `now` have that many? A run can then go on from the one to the other. */
int schedule_agrees(const json_t *was, const json_t *now, int64_t steps);
/* Can `now`, with more steps and but for warm-up and decay the same, follow when `was` has come to
 * its end after `steps` steps? NULL, or {max-steps, warmup-steps, decay-steps} of `was`, a new
 * reference, and a note on what the learning rate does. */
json_t *schedule_leg(const json_t *was, const json_t *now, int64_t steps, char note[200]);

#endif
