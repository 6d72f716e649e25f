/* A position whose teacher lists some entries (kernels/loss.h). These are taken out of the row of
 * logits before it is summed up, so that the sums are those of all other entries, without
 * cancellation, and put back as gradients. For loss.c, beside loss_row.h. */
#ifndef PARE_LOSS_LISTING_H
#define PARE_LOSS_LISTING_H

#include "loss_row.h"

struct row_listing {
    int64_t n; /* entries there are */
    const int32_t *ids;
    const float *log_p; /* [n] */
    float log_rest;
    float *points; /* [n]: the student's logits; once ended, gradients */
};
/* token_data: of this token. points: [t.n] */
struct row_listing row_listing(struct loss_teacher t, const void *token_data, float *points);
/* z: finished logits of the entries v .. v + n - 1. Those listed go to points, and -INFINITY takes
 * their place, before row_add. */
void row_hide(const struct row_listing *l, float *z, int64_t v, int64_t n);
/* In place of row_end. label: its entry. */
void row_end_listing(const struct row_plan *k, struct row *r, const struct row_listing *l,
                     int32_t label, double *values);
/* after row_gradient */
void row_show(const struct row_listing *l, float *g, int64_t v, int64_t n);

#endif
