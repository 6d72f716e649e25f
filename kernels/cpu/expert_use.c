/* expert_use: how much the experts of mixture are used. y[T,2X]: weight times L2 norm of what the
 * expert gives, of those that work for the token; then 1 for these. 0 elsewhere. */
#include <math.h>
#include <string.h>

#include "routes.h"

static size_t expert_use_scratch(const struct op_args *c) { return routes_scratch(c, 1); }

static void put_row(const struct op_args *c, const struct routes *r, int64_t e, int64_t k)
{
    int64_t t = routes_token(r, r->first[e] + k);
    const float *z = r->wide + k * r->E;
    float *y = (float *)c->out.v + t * 2 * r->X, p = ((const float *)c->in[1].v)[t * r->X + e];
    double squares = 0;
    for (int64_t i = 0; i < r->E; i++)
        squares += (double)z[i] * z[i];
    y[e] = (float)(p * sqrt(squares));
    y[r->X + e] = 1;
}

static void expert_use_fwd(const struct op_args *c)
{
    struct routes r = routes_of(c, 1);
    memset(c->out.v, 0, (size_t)(c->rows * 2 * r.X) * sizeof(float));
    for (int64_t e = 0; e < r.X; e++) {
        if (!routes_count(&r, e))
            continue;
        routes_output(&r, c, e, c->in[0].v);
        for (int64_t k = 0; k < routes_count(&r, e); k++)
            put_row(c, &r, e, k);
    }
}

const struct kernel expert_use_cpu = {.forward = expert_use_fwd, .scratch = expert_use_scratch};
