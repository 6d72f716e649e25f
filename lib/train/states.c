/* Losses on hidden states: their options, and the lift. See states.h. */
#include "states.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/safetensors.h"
#include "../base/rng.h"
#include "../base/text.h"
#include "sum.h"

/* ---- the sum */

static const struct {
    const char *name;
    int has_blocks;
} places[STATE_PLACES] = {[STATE_EMB] = {"emb", 0},
                          [STATE_BLOCK] = {"block", 1},
                          [STATE_MLP_IN] = {"mlp_in", 1},
                          [STATE_QKV] = {"qkv", 1}};

static enum state_place place_find(const char *name, size_t length)
{
    for (int i = STATE_NONE + 1; i < STATE_PLACES; i++)
        if (strlen(places[i].name) == length && !strncmp(places[i].name, name, length))
            return (enum state_place)i;
    return STATE_NONE;
}

/* The end of ":-3", or NULL. */
static const char *parse_block(const char *text, int64_t *block)
{
    char *end;
    if (!text || *text != ':' || text[1] == ' ' || text[1] == '+')
        return NULL;
    long long n = strtoll(text + 1, &end, 10);
    *block = n;
    return end == text + 1 || n > INT32_MAX || n < -INT32_MAX ? NULL : end;
}

/* The end of a leading "0.5*block:-3:-3", or NULL. */
static const char *parse_term(const char *text, struct train_states *s)
{
    double weight;
    const char *name = sum_term(text, &weight);
    if (!name)
        return NULL;
    size_t length = strcspn(name, ":+"), all = strcspn(name, "+");
    struct tape_state t = {.place = place_find(name, length), .weight = (float)weight};
    const char *end = name + length;
    if (!t.place || s->n == TAPE_STATES || all >= sizeof s->names[0])
        return NULL;
    if (places[t.place].has_blocks)
        end = parse_block(parse_block(end, &t.teacher), &t.student);
    if (end != name + all)
        return NULL;
    snprintf(s->names[s->n], sizeof s->names[0], "%.*s", (int)all, name);
    s->terms[s->n++] = t;
    return end;
}

static int parse_sum(const char *text, struct train_states *s, struct err *e)
{
    s->n = 0;
    s->text = text;
    const char *end = parse_term(text, s);
    while (end && *end)
        end = parse_term(end + 1, s);
    if (end)
        return 0;
    return err_set(e,
                   "--states must be a sum such as emb+0.5block:-3:-3 of up to %d of emb, "
                   "block:T:S, mlp_in:T:S and qkv:T:S, T a block of the teacher, S one of the "
                   "student, with weights from 1e-6 to 1e6, not \"%s\"",
                   TAPE_STATES, text);
}

static int parse_weight(const char *text, struct train_states *s, struct err *e)
{
    char *end;
    s->balanced = !strcmp(text, "auto");
    s->weight = s->balanced ? 1 : strtod(text, &end);
    if (s->balanced || (end != text && !*end && s->weight >= 1e-6 && s->weight <= 1e6))
        return 0;
    return err_set(e, "--states-weight must be auto or a number from 1e-6 to 1e6, not \"%s\"",
                   text);
}

static void set_default(const char **value, const char *otherwise)
{
    *value = *value ? *value : otherwise;
}

int train_states_resolve(struct train_states *s, struct states_options *o, struct err *e)
{
    if (!o->sum && (o->loss || o->norm || o->weight || o->lift))
        return err_set(e, "--states-loss, --states-norm, --states-weight and --lift have no effect "
                          "without --states");
    if (!o->sum)
        return 0;
    set_default(&o->loss, "cosine");
    set_default(&o->norm, "next");
    set_default(&o->weight, "auto");
    int is_mse = text_choice("states-loss", o->loss, "cosine", "mse", e);
    s->loss = is_mse ? STATE_mse : STATE_cosine;
    s->is_raw = text_choice("states-norm", o->norm, "next", "none", e);
    return is_mse < 0 || s->is_raw < 0 || parse_sum(o->sum, s, e) || parse_weight(o->weight, s, e)
               ? -1
               : 0;
}

/* ---- the lift that a run begins with */

static int lift_values(struct train_states *s, struct safetensors *file, int i, const char *path,
                       struct err *e)
{
    const struct tensor *t = sf_tensor(file, i);
    int64_t n = tensor_count(t);
    void *stored = mem_alloc((size_t)tensor_bytes(t));
    s->lift = mem_alloc((size_t)n * sizeof *s->lift);
    int failed = sf_read(file, i, 0, stored, tensor_bytes(t), e);
    if (!failed)
        to_f32(s->lift, stored, t->dtype, n);
    free(stored);
    for (int64_t k = 0; k < n && !failed; k++)
        if (!isfinite(s->lift[k]))
            failed = err_set(e, "%s: the lift has values that are not finite", path);
    struct digest d;
    digest_open(&d);
    digest_add(&d, s->lift, (size_t)n * sizeof *s->lift);
    digest_close(&d, s->lift_id);
    return failed;
}

static int lift_read(struct train_states *s, const char *path, int64_t rows, int64_t cols,
                     struct err *e)
{
    struct safetensors *file = sf_open(path, e);
    if (!file)
        return -1;
    int i = sf_find(file, "lift"), failed = 0;
    const struct tensor *t = i < 0 ? NULL : sf_tensor(file, i);
    if (!t || t->ndim != 2 || t->shape[0] != rows || t->shape[1] != cols || t->dtype == DT_Q8_0)
        failed = err_set(e,
                         "%s must have a tensor \"lift\" of %lld x %lld numbers, the channels of "
                         "teacher and student",
                         path, (long long)rows, (long long)cols);
    if (!failed)
        failed = lift_values(s, file, i, path, e);
    sf_close(file);
    return failed;
}

/* ---- what the models have */

static int check_block(int64_t *block, const char *term, const struct model_spec *h,
                       const char *who, struct err *e)
{
    int64_t L = h->num_hidden_layers;
    if (*block < -L || *block >= L)
        return err_set(e,
                       "--states %s: the %s has %lld blocks, so its number must be from %lld to "
                       "%lld, not %lld",
                       term, who, (long long)L, (long long)-L, (long long)L - 1, (long long)*block);
    *block += *block < 0 ? L : 0;
    return 0;
}

static int check_kind(enum state_place place, int64_t block, const char *term,
                      const struct model_spec *h, const char *who, struct err *e)
{
    unsigned kind = 0;
    if (place == STATE_MLP_IN)
        kind = KIND_mlp;
    if (place == STATE_QKV)
        kind = KIND_attention;
    if (!kind || h->layers[block].kinds & kind)
        return 0;
    return err_set(e, "--states %s: block %lld of the %s has no %s", term, (long long)block, who,
                   block_kind_name((enum block_kind)kind));
}

static int check_twice(const struct train_states *s, int i, struct err *e)
{
    for (int k = 0; k < i; k++)
        if (s->terms[k].place == s->terms[i].place && s->terms[k].teacher == s->terms[i].teacher &&
            s->terms[k].student == s->terms[i].student)
            return err_set(e, "--states must name each state once, not %s and %s", s->names[k],
                           s->names[i]);
    return 0;
}

static int check_term(struct train_states *s, int i, const struct model_spec *student,
                      const struct model_spec *teacher, struct err *e)
{
    struct tape_state *t = &s->terms[i];
    const char *name = s->names[i];
    s->needs_lift |= t->place != STATE_QKV && student->hidden_size != teacher->hidden_size;
    if (places[t->place].has_blocks &&
        (check_block(&t->teacher, name, teacher, "teacher", e) ||
         check_block(&t->student, name, student, "student", e) ||
         check_kind(t->place, t->teacher, name, teacher, "teacher", e) ||
         check_kind(t->place, t->student, name, student, "student", e)))
        return -1;
    return check_twice(s, i, e);
}

int train_states_check(struct train_states *s, const struct model_spec *student,
                       const struct model_spec *teacher, const char *lift, struct err *e)
{
    s->needs_lift = 0;
    for (int i = 0; i < s->n; i++)
        if (check_term(s, i, student, teacher, e))
            return -1;
    if (lift && !s->needs_lift)
        return err_set(e,
                       "--lift %s is not needed: the states to be compared are equally wide in "
                       "student and teacher",
                       lift);
    return lift ? lift_read(s, lift, teacher->hidden_size, student->hidden_size, e) : 0;
}

/* ---- the lift in the student */

/* Values of a spread that leaves a state's size as it is; a stream of the seed that no tensor has,
 * and no epoch. */
static void lift_draw(struct param *p, int64_t seed)
{
    struct rng rng = rng_open((uint64_t)seed, (uint64_t)1 << 63);
    float *v = p->v;
    for (int64_t i = 0; i < p->rows * p->cols; i++)
        v[i] = (float)(rng_normal(&rng) / sqrt((double)p->cols));
}

struct param *train_states_add_lift(const struct train_states *s, struct model *student,
                                    const struct model_spec *teacher, int64_t seed, struct err *e)
{
    if (!s->needs_lift)
        return NULL;
    struct param *p = model_add_matrix(model_trained(student), teacher->hidden_size,
                                       student->spec.hidden_size, e);
    if (p && s->lift)
        memcpy(p->v, s->lift, (size_t)(p->rows * p->cols) * sizeof(float));
    else if (p)
        lift_draw(p, seed);
    return p;
}

void train_states_to_json(const struct train_states *s, json_t *run)
{
    static const char *const losses[STATE_LOSS_COUNT] = {"cosine", "mse"};
    if (!s->n)
        return;
    json_object_set_new(run, "states", json_string(s->text));
    json_object_set_new(run, "states-loss", json_string(losses[s->loss]));
    json_object_set_new(run, "states-norm", json_string(s->is_raw ? "none" : "next"));
    json_object_set_new(run, "states-weight",
                        s->balanced ? json_string("auto") : json_real(s->weight));
    if (s->lift)
        json_object_set_new(run, "lift", json_string(s->lift_id));
}
