/* Training runs: see run.h. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/usage.h"
#include "../base/world.h"
#include "stream.h"

int train_run_options_check(const struct train_run *r, int has_eval_data, struct err *e)
{
    if (r->save_steps < -1)
        return err_set(e, "--save-steps must be -1 or at least 0, not %lld",
                       (long long)r->save_steps);
    if (r->eval_steps && !has_eval_data)
        return err_set(e, "--eval-steps needs --eval-data");
    if (r->log_path && !strcmp(r->log_path, "-") && !strcmp(r->output, "-"))
        return err_set(e, "--log - and the model cannot both go to standard output: write the "
                          "model to a file with -o");
    if ((r->save_steps != -1 || r->resume || r->overwrite) && !r->dir)
        return err_set(e, "--save-steps, --resume and --overwrite need --output-dir");
    if (r->resume && r->overwrite)
        return err_set(e, "--resume continues the run in --output-dir, --overwrite replaces it: "
                          "give one");
    return 0;
}

static struct checkpoint run_state(struct train_run *r)
{
    struct trainer *t = &r->trainer;
    return (struct checkpoint){t->step, t->data->position, t->predictions, &t->shards, t->m, t->v};
}

/* What the id of a model does not see; not known where the values were not read. */
static void add_digest(json_t *run, const char *key, const struct model *m)
{
    if (m && m->spec.digest[0])
        json_object_set_new(run, key, json_string(m->spec.digest));
}

json_t *train_run_meta(const struct train_run *r)
{
    add_digest(r->settings, "student_digest", r->trainer.student);
    add_digest(r->settings, "teacher_digest", r->trainer.teacher);
    return json_pack("{s:i, s:i, s:i, s:O, s:o}", "step", 0, "position", 0, "predictions", 0, "run",
                     r->settings, "model", model_spec_to_json(&r->trainer.student->spec));
}

/* A second run would write over the files of the first. */
static int lock_dir(struct train_run *r, struct err *e)
{
    if (mkdir(r->dir, 0777) && errno != EEXIST)
        return err_set(e, "cannot make directory %s:", r->dir);
    r->lock = open(r->dir, O_RDONLY | O_CLOEXEC);
    if (r->lock > 0 && flock(r->lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return err_set(e, "%s is the output directory of another run that is still in progress",
                       r->dir);
    return 0;
}

/* A directory that holds checkpoints, or the model that is to be written. Without checkpoints,
 * --resume would begin again and replace that model. */
static int refuse_second_run(const struct train_run *r, struct err *e)
{
    int64_t *steps, n = checkpoint_list(r->dir, &steps, e), newest = n > 0 ? *steps : 0;
    char *model = mem_format("%s/model.tsz", r->dir);
    int has_model = !strcmp(model, r->output) && !access(model, F_OK);
    free(steps);
    free(model);
    if (n > 0 && !r->resume)
        return err_set(e,
                       "%s holds an earlier run of %lld steps: --resume continues it, --overwrite "
                       "replaces it; or use another directory",
                       r->dir, (long long)newest);
    if (!n && has_model)
        return err_set(e,
                       "%s holds an earlier run: its model has no checkpoint to continue from; "
                       "--overwrite replaces it, or use another directory",
                       r->dir);
    return n < 0 ? -1 : 0;
}

/* Of several processes, the first keeps the log and the directory. */
static int is_first(void) { return world_rank() == 0; }

int train_run_check(struct train_run *r, char note[200], struct err *e)
{
    note[0] = 0;
    if (is_first() && r->log_path && train_log_check(r->log_path, r->output, e))
        return -1;
    if (!r->dir)
        return 0;
    if (is_first() && (lock_dir(r, e) || (!r->overwrite && refuse_second_run(r, e))))
        return -1;
    return r->resume ? checkpoint_check(r->dir, r->settings, note, e) : 0;
}

static int run_resume(struct train_run *r, char note[900], struct err *e)
{
    char damage[700];
    struct checkpoint c = run_state(r);
    int found = checkpoint_resume(r->dir, &c, r->head, damage, e);
    if (found < 0)
        return -1;
    if (found) {
        r->trainer.step = c.step;
        r->trainer.data->position = c.position;
        r->trainer.predictions = c.predictions;
        r->last_saved = c.step;
        if (train_check_finite(&r->trainer, e))
            return -1;
        snprintf(note, 900, "%s%scontinuing after step %lld", damage, damage[0] ? "; " : "",
                 (long long)c.step);
    } else {
        snprintf(note, 900, "%s has no checkpoint yet: starting from the beginning", r->dir);
    }
    return 0;
}

static int64_t count_models(const struct train_run *r)
{
    return r->trainer.nested ? r->trainer.o.nested.n : 1;
}

int train_run_open(struct train_run *r, char note[900], struct err *e)
{
    note[0] = 0;
    r->last_saved = -1;
    r->saved_at = usage_seconds();
    r->first_loss = mem_alloc((size_t)count_models(r) * sizeof *r->first_loss);
    if (r->resume && run_resume(r, note, e))
        return -1;
    if (is_first() && r->dir && r->overwrite)
        checkpoint_prune(r->dir, INT64_MAX);
    if (!is_first() || !r->log_path)
        return 0;
    r->log = train_log_open(r->log_path, r->trainer.step, e);
    /* it exists now, so that another spelling of the output's name is known */
    return r->log ? train_log_check(r->log_path, r->output, e) : -1;
}

static int write_checkpoint(struct train_run *r, struct err *e)
{
    struct checkpoint c = run_state(r);
    r->saved_at = usage_seconds();
    if (checkpoint_save(r->dir, &c, r->head, e))
        return -1;
    if (is_first())
        checkpoint_prune(r->dir, r->last_saved);
    r->last_saved = c.step;
    return 0;
}

int train_run_save(struct train_run *r, struct err *e)
{
    if (!r->dir || r->last_saved == r->trainer.step)
        return 0;
    return train_check_finite(&r->trainer, e) || write_checkpoint(r, e) ? -1 : 0;
}

static int64_t last_step(const struct train_run *r) { return r->trainer.o.schedule.max_steps; }

static int due(int64_t step, int64_t every) { return every && step % every == 0; }

/* Of several processes, by the clock of the first. */
static int ten_minutes_passed(const struct train_run *r, struct err *e)
{
    enum { SECONDS = 600 };
    int passed = usage_seconds() - r->saved_at >= SECONDS;
    world_broadcast(&passed, sizeof passed, 0, e);
    return passed;
}

static int save_is_due(const struct train_run *r, int64_t step, struct err *e)
{
    if (!r->dir)
        return 0;
    if (r->save_steps >= 0)
        return due(step, r->save_steps) || step == last_step(r);
    return due(step, (last_step(r) + 9) / 10) || step == last_step(r) || ten_minutes_passed(r, e);
}

int train_run_step(struct train_run *r, const volatile sig_atomic_t *stop, struct train_record *rec,
                   struct err *e)
{
    double start = usage_seconds();
    int done = train_step(&r->trainer, stop, rec, e);
    if (done != 1)
        return done;
    json_t *line = train_record_json(&r->trainer, rec, usage_seconds() - start);
    int failed = 0;
    if (r->held_out.n && (due(rec->step, r->eval_steps) || rec->step == last_step(r)))
        failed = held_out_run(&r->held_out, line, e);
    int saves = save_is_due(r, rec->step, e);
    if (!failed && (saves || rec->step == last_step(r)))
        failed = train_check_finite(&r->trainer, e);
    if (!failed && r->log)
        train_log_line(r->log, line, &r->log_err);
    json_decref(line);
    r->save_err.set = 0;
    if (!failed && saves)
        write_checkpoint(r, &r->save_err);
    r->spent += usage_seconds() - start;
    r->steps++;
    r->predictions += rec->predictions;
    return failed ? -1 : 1;
}

/* The models of --widths have losses of their own. A loss that begins near 0, as where the student
 * is its teacher, rises manifold at once. */
int train_run_rises(struct train_run *r, const struct train_record *rec, char text[200])
{
    double *first = &r->first_loss[rec->model];
    if (!*first)
        *first = rec->loss;
    if (r->rise_told || !(rec->loss > 10 * fmax(*first, 0.01)))
        return 0;
    snprintf(text, 200,
             "step %lld: the loss is %.4g, more than ten times the %.4g that it began with: the "
             "--learning-rate may be too high",
             (long long)rec->step, rec->loss, *first);
    return r->rise_told = 1;
}

int train_run_close(struct train_run *r, struct err *e)
{
    int failed = r->log && train_log_close(r->log, &r->log_err);
    if (r->log_err.set)
        failed = err_set(e, "%s", r->log_err.msg);
    held_out_close(&r->held_out);
    free(r->first_loss);
    train_close(&r->trainer);
    json_decref(r->head);
    json_decref(r->settings);
    if (r->lock > 0)
        close(r->lock);
    *r = (struct train_run){0};
    return failed;
}

void train_run_memory(const struct train_run *r, struct memory_part parts[TRAIN_PARTS])
{
    const struct trainer *t = &r->trainer;
    int64_t n = t->trained->n_values, frozen = 0;
    struct memory_part *p = parts;
    if (t->trained != t->student)
        frozen = (int64_t)t->student->weights.size;
    *p++ = (struct memory_part){
        "weights", frozen + model_f32_bytes(t->trained) + (int64_t)t->trained->copies.size, 1};
    if (t->teacher)
        *p++ = (struct memory_part){"teacher", (int64_t)t->teacher->weights.size, 1};
    *p++ = (struct memory_part){"gradients", 4 * n, 0};
    *p++ = (struct memory_part){"moments", 8 * t->shards.owned, 0};
    if (shards_bytes(&t->shards))
        *p++ = (struct memory_part){"exchange", shards_bytes(&t->shards), 0};
    if (t->nested)
        *p++ = (struct memory_part){"nested copies", nested_model_bytes(t->nested), 0};
    int64_t activations = train_activation_bytes(t) +
                          train_stream_bytes(t->o.stream, &t->own, data_sources_longest(t->data)) +
                          held_out_bytes(&r->held_out);
    *p++ = (struct memory_part){"activations", activations, 0};
    *p = (struct memory_part){0};
}

void train_run_describe(const struct train_run *r, const struct train_record *rec, char text[300])
{
    char held_out[84] = ", ", shape[100] = "";
    if (rec->shape)
        snprintf(shape, sizeof shape, " of %s", rec->shape);
    if (r->held_out.was_run && !rec->shape)
        held_out_describe(&r->held_out, 0, held_out + 2);
    snprintf(text, 300, "loss %.4f%s%s, learning rate %.2g, %.0f tokens/s", rec->loss, shape,
             held_out[2] ? held_out : "", rec->learning_rate, (double)r->predictions / r->spent);
}

struct model_in *train_result_spec(struct model_spec *spec, struct model_in *student,
                                   struct model_in *teacher, struct dtype_choice dtype)
{
    const struct model_spec *own = model_in_spec(student);
    struct model_in *from = teacher && !model_in_spec(student)->tokenizer_id[0] ? teacher : student;
    model_spec_copy(spec, own);
    model_spec_list_tensors(spec, DT_F32);
    for (int i = 0; i < spec->n_tensors; i++) {
        enum dtype d = i < own->n_tensors ? own->tensors[i].dtype : DT_F32;
        spec->tensors[i].dtype = dtype_written(dtype, d, &spec->tensors[i]);
    }
    spec->id[0] = 0;
    model_spec_take_files(spec, model_in_spec(from));
    return from;
}
