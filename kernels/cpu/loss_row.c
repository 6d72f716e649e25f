/* See loss_row.h. */
#include "loss_row.h"

#include <string.h>

#include "../../lib/base/minmax.h"

/* clang leaves loops with a maximum scalar, since it does not treat a maximum of floats as a
 * reduction */
#if defined __clang__
enum { VECTOR = 1 };
#elif defined __AVX512F__
enum { VECTOR = 16 };
#elif defined __AVX__
enum { VECTOR = 8 };
#else
enum { VECTOR = 4 };
#endif
/* RUN: each lane of a vector adds up 32 entries in f32, whatever its width */
enum { HEADROOM = 16, RUN = 32 * VECTOR };

/* The columns of losses.def that kernels need. */
static const struct {
    unsigned softmaxes;
    int with, n, own;
} rules[LOSS_COUNT] = {
#define LOSS(name, softmaxes, sums, n, own, teacher, title) {softmaxes, sums, n, own},
#include "../losses.def"
#undef LOSS
};

static int in_set(const struct row_plan *k, int loss) { return k->kind.set >> loss & 1; }

int row_second_walk(const struct loss_params *p)
{
    int needed = 0;
    for (int i = 0; i < LOSS_COUNT && !loss_is_listing(p->teacher); i++)
        needed |= (p->kind.set >> i & 1) && rules[i].with == WITH_BOTH;
    return needed;
}

/* Index of the softmax that weights a loss's sums; -1: none. */
static int weight_of(const struct row_plan *k, int loss)
{
    switch (rules[loss].with) {
    case WITH_STUDENT: return k->student;
    case WITH_TEACHER: return TEACHER;
    default: return -1;
    }
}

struct row_plan row_plan(const struct loss_params *p, int64_t vocabulary, int64_t shared)
{
    struct row_plan k = {.kind = p->kind,
                         .teacher = p->teacher,
                         .student = STUDENT,
                         .second_walk = row_second_walk(p),
                         .shared = shared,
                         .inv_temperature = 1 / p->kind.temperature};
    int listing = loss_is_listing(p->teacher);
    for (int i = 0; i < LOSS_COUNT; i++)
        k.softmaxes |= in_set(&k, i) ? rules[i].softmaxes : 0;
    if (k.softmaxes & OF_STUDENT && (shared == vocabulary || listing) && p->kind.temperature == 1) {
        k.student = ALL;
        k.softmaxes = (k.softmaxes & ~(unsigned)OF_STUDENT) | OF_ALL;
    }
    for (int i = 0; i < LOSS_COUNT && !listing; i++)
        if (in_set(&k, i) && weight_of(&k, i) >= 0)
            k.weights |= 1u << weight_of(&k, i);
    return k;
}

void row_begin(const struct row_plan *k, struct row *r)
{
    memset(r, 0, sizeof *r);
    for (int i = 0; i < SOFTMAXES; i++)
        r->soft[i] = (struct soft){.base = -INFINITY,
                                   .inv_temperature = i == ALL ? 1 : k->inv_temperature};
}

/* ---- sums */

/* Sum of n exponentials relative to the current base, stored in e unless NULL; *top: the largest
 * exponent. */
FORMULA float exponentials(const struct soft *s, const float *z, int64_t n, float *e, float *top)
{
    float base = s->base, inv_temperature = s->inv_temperature, sum = 0, peak = -INFINITY;
#pragma omp simd reduction(+ : sum) reduction(max : peak)
    for (int64_t i = 0; i < n; i++) {
        float x = FMA(z[i], inv_temperature, -base), y = vec_exp_normal(x);
        peak = x > peak ? x : peak;
        sum += y;
        if (e)
            e[i] = y;
    }
    *top = peak;
    return sum;
}

/* Returns the factor for sums of earlier exponentials. */
FORMULA double add_exponentials(struct soft *s, const float *z, int64_t n, float *e)
{
    float top;
    double factor = 1;
    if (s->base == -INFINITY)
        s->base = vec_largest(z, n) * s->inv_temperature;
    if (s->base == -INFINITY) /* all hidden (loss_listing.h) */
        return 1;
    float sum = exponentials(s, z, n, e, &top);
    if (top > HEADROOM) {
        double before = s->base;
        s->base += top;
        factor = exp(before - (double)s->base);
        s->sum *= factor;
        sum = exponentials(s, z, n, e, &top);
    }
    s->sum += (double)sum;
    return factor;
}

/* Two forms, each compiled separately. */
static double add_only(struct soft *s, const float *z, int64_t n)
{
    return add_exponentials(s, z, n, NULL);
}
static double add_and_keep(struct soft *s, const float *z, int64_t n, float *e)
{
    return add_exponentials(s, z, n, e);
}

/* Adds a run to softmax i, if requested; e: its exponentials, if a loss needs them. */
static void add_softmax(const struct row_plan *k, struct row *r, int i, const float *z, int64_t n,
                        float *e)
{
    if (!(k->softmaxes >> i & 1))
        return;
    int keep = k->weights >> i & 1;
    double factor = keep ? add_and_keep(&r->soft[i], z, n, e) : add_only(&r->soft[i], z, n);
    for (int loss = 0; loss < LOSS_COUNT && keep && factor != 1; loss++)
        for (int j = 0; weight_of(k, loss) == i && j < rules[loss].n; j++)
            r->sums[loss][j] *= factor;
}

/* NAME_add: adds what n entries contribute to the sums of a loss. */
#define LOSS(name, softmaxes, with, n_sums, own, teacher, title) \
    static void name##_add(double *sums, struct loss_kind kind, const float *zs, const float *zt, \
                           const float *s, const float *t, int64_t n) \
    { \
        float a = 0, b = 0, c = 0; \
        _Pragma("omp simd reduction(+ : a, b, c)") for (int64_t i = 0; i < n; i++) \
        { \
            struct loss_entry v = {zs[i], zt[i], s[i], t[i]}; \
            struct loss_terms x = name##_terms(v, kind); \
            a += x.a; \
            b += x.b; \
            c += x.c; \
        } \
        sums[0] += (double)a; \
        sums[1] += (double)b; \
        sums[2] += (double)c; \
    }
#include "../losses.def"
#undef LOSS

static void add_terms(const struct row_plan *k, struct row *r, int second, const float *zs,
                      const float *zt, const float *s, const float *t, int64_t n)
{
#define LOSS(name, softmaxes, with, n_sums, own, teacher, title) \
    if (in_set(k, LOSS_##name) && (n_sums) > 0 && ((with) == WITH_BOTH) == second) \
        name##_add(r->sums[LOSS_##name], k->kind, zs, zt, s, t, n);
#include "../losses.def"
#undef LOSS
}

void row_add(const struct row_plan *k, struct row *r, const float *z, const float *zt, int64_t n)
{
    float kept[SOFTMAXES][RUN];
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t m = min64(RUN, n - i);
        add_softmax(k, r, ALL, z + i, m, kept[ALL]);
        if (!zt && !loss_is_listing(k->teacher))
            continue;
        if (k->student == STUDENT)
            add_softmax(k, r, STUDENT, z + i, m, kept[STUDENT]);
        if (!zt)
            continue;
        add_softmax(k, r, TEACHER, zt + i, m, kept[TEACHER]);
        add_terms(k, r, 0, z + i, zt + i, kept[k->student], kept[TEACHER], m);
    }
}

static void probabilities(const struct soft *s, const float *z, int64_t n, float *p)
{
    float base = s->base, inv_temperature = s->inv_temperature, share = (float)(1 / s->sum);
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        p[i] = vec_exp_normal(FMA(z[i], inv_temperature, -base)) * share;
}

/* For both models, at the temperature, unless no loss of the set has softmaxes. */
static void both_probabilities(const struct row_plan *k, const struct row *r, const float *z,
                               const float *zt, int64_t n, float *s, float *t)
{
    if (!(k->softmaxes & OF_TEACHER))
        return;
    probabilities(&r->soft[k->student], z, n, s);
    probabilities(&r->soft[TEACHER], zt, n, t);
}

void row_add_second(const struct row_plan *k, struct row *r, const struct row *merged,
                    const float *z, const float *zt, int64_t n)
{
    float s[RUN], t[RUN];
    for (int64_t i = 0; i < n; i += RUN) {
        int64_t m = min64(RUN, n - i);
        both_probabilities(k, merged, z + i, zt + i, m, s, t);
        add_terms(k, r, 1, z + i, zt + i, s, t, m);
    }
}

/* Adds another range's sum. *own and *theirs: factors for sums weighted with the exponentials of
 * either. */
static void soft_merge(struct soft *s, const struct soft *other, double *own, double *theirs)
{
    float base = other->base > s->base ? other->base : s->base;
    *theirs = other->base == base ? 1 : exp((double)other->base - (double)base);
    *own = s->base == base ? 1 : exp((double)s->base - (double)base);
    s->sum = s->sum * *own + other->sum * *theirs;
    s->base = base;
}

void row_merge(const struct row_plan *k, struct row *r, const struct row *other)
{
    double own[SOFTMAXES], theirs[SOFTMAXES];
    for (int i = 0; i < SOFTMAXES; i++)
        soft_merge(&r->soft[i], &other->soft[i], &own[i], &theirs[i]);
    for (int loss = 0; loss < LOSS_COUNT; loss++) {
        int i = weight_of(k, loss);
        for (int j = 0; in_set(k, loss) && j < rules[loss].n; j++)
            r->sums[loss][j] = i < 0 ? r->sums[loss][j] + other->sums[loss][j]
                                     : r->sums[loss][j] * own[i] + other->sums[loss][j] * theirs[i];
    }
    r->label += other->label;
}

void row_merge_second(const struct row_plan *k, struct row *r, const struct row *other)
{
    for (int loss = 0; loss < LOSS_COUNT; loss++)
        for (int j = 0; in_set(k, loss) && rules[loss].with == WITH_BOTH && j < rules[loss].n; j++)
            r->sums[loss][j] += other->sums[loss][j];
}

/* ---- values */

void row_end(const struct row_plan *k, struct row *r, double *values)
{
    double scale = (double)k->step[LOSS_SCALE],
           square = k->kind.squared ? (double)k->kind.temperature * (double)k->kind.temperature : 1;
    const struct loss_row row = {.all = softmax_of(&r->soft[ALL]),
                                 .student = softmax_of(&r->soft[k->student]),
                                 .teacher = softmax_of(&r->soft[TEACHER]),
                                 .inv_temperature = (double)k->inv_temperature,
                                 .label = (double)r->label,
                                 .entries = k->shared,
                                 .kind = k->kind};
#define LOSS(name, softmaxes, with, n, has_own, teacher, title) \
    if (in_set(k, LOSS_##name)) { \
        double factor = (softmaxes)&OF_TEACHER ? square : 1, \
               w = scale * (double)k->step[LOSS_WEIGHTS + LOSS_##name] * factor; \
        *values++ = factor * \
                    name##_finish(&row, r->sums[LOSS_##name], w, &r->mix, r->own[LOSS_##name]); \
        r->own_set |= (has_own) && w != 0 ? LOSS_BIT(name) : 0; \
    }
#include "../losses.def"
#undef LOSS
    if (k->student == ALL) {
        r->mix.all += r->mix.student;
        r->mix.student = 0;
    }
}

/* ---- the gradient */

/* z becomes the gradient; zt: used where `of` has OF_TEACHER; own: to be added, or NULL. */
FORMULA void mix_entries(const struct row_plan *k, const struct row *r, float *restrict z,
                         const float *restrict zt, const float *restrict own, int64_t n,
                         unsigned of)
{
    const struct loss_mix m = r->mix;
    float base = r->soft[ALL].base, base_s = r->soft[STUDENT].base, base_t = r->soft[TEACHER].base,
          inv_temperature = k->inv_temperature, slope = k->slope, gain = k->gain;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float x = z[i] * slope, g = 0;
        if (of & OF_ALL)
            g = m.all * vec_exp_normal(z[i] - base);
        if (of & OF_STUDENT)
            g += m.student * vec_exp_normal(FMA(z[i], inv_temperature, -base_s));
        if (of & OF_TEACHER)
            g += m.teacher * vec_exp_normal(FMA(zt[i], inv_temperature, -base_t));
        if (own)
            g += own[i];
        z[i] = g * (1 - x * x) * gain;
    }
}

/* One compiled form for each combination that losses have. */
#define MIX(of) own ? mix_entries(k, r, z, zt, own, n, of) : mix_entries(k, r, z, zt, NULL, n, of)

static void mix(const struct row_plan *k, const struct row *r, float *z, const float *zt,
                const float *own, int64_t n)
{
    unsigned of = r->mix.all != 0 ? OF_ALL : 0;
    if ((zt || loss_is_listing(k->teacher)) && r->mix.student != 0)
        of |= OF_STUDENT;
    if (zt && r->mix.teacher != 0)
        of |= OF_TEACHER;
    switch (of) {
    case 0: MIX(0u); break;
    case OF_ALL: MIX(OF_ALL); break;
    case OF_STUDENT: MIX(OF_STUDENT); break;
    case OF_ALL | OF_STUDENT: MIX(OF_ALL | OF_STUDENT); break;
    case OF_ALL | OF_TEACHER: MIX(OF_ALL | OF_TEACHER); break;
    case OF_STUDENT | OF_TEACHER: MIX(OF_STUDENT | OF_TEACHER); break;
    default: MIX(OF_ALL | OF_STUDENT | OF_TEACHER);
    }
}

/* NAME_add_gradient: adds the loss's own part for n entries to g. */
#define LOSS(name, softmaxes, with, n_sums, has_own, teacher, title) \
    static void name##_add_gradient(float *restrict g, struct loss_kind kind, const float *own, \
                                    const float *zs, const float *zt, const float *s, \
                                    const float *t, int64_t n) \
    { \
        float factors[LOSS_OWN]; \
        memcpy(factors, own, sizeof factors); \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
        { \
            struct loss_entry v = {zs[i], zt[i], s[i], t[i]}; \
            g[i] += name##_gradient(v, kind, factors); \
        } \
    }
#include "../losses.def"
#undef LOSS

/* Gradient of a run of entries that both models have, the parts of each loss in g. */
static void own_gradients(const struct row_plan *k, const struct row *r, float *g, const float *z,
                          const float *zt, int64_t n)
{
    float s[RUN], t[RUN];
    both_probabilities(k, r, z, zt, n, s, t);
    memset(g, 0, (size_t)n * sizeof *g);
#define LOSS(name, softmaxes, with, n_sums, has_own, teacher, title) \
    if (r->own_set & LOSS_BIT(name)) \
        name##_add_gradient(g, k->kind, r->own[LOSS_##name], z, zt, s, t, n);
#include "../losses.def"
#undef LOSS
}

void row_gradient(const struct row_plan *k, const struct row *r, int64_t at, float *z,
                  const float *zt, int64_t n)
{
    float own[RUN];
    if (zt && r->own_set) {
        for (int64_t i = 0, m; i < n; i += m) {
            m = min64(RUN, n - i);
            own_gradients(k, r, own, z + i, zt + i, m);
            mix(k, r, z + i, zt + i, own, m);
        }
    } else {
        mix(k, r, z, zt, NULL, n);
    }
    if (at >= 0 && at < n) {
        float x = r->label * k->slope;
        z[at] += r->mix.label * (1 - x * x) * k->gain;
    }
}
