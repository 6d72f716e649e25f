/* kd-train: trains a student, with a teacher (losses on logits) or on the text alone. Models and
 * tokens in; model, checkpoints, log out. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../lib/base/text.h"
#include "../lib/base/world.h"
#include "../lib/hf/hf.h"
#include "../lib/tool/tool.h"
#include "../lib/train/train.h"

static struct train_options o = TRAIN_DEFAULTS;
static struct train_run run = {.save_steps = -1};
static struct training_text text;
static const char *teacher_name, *logits_name, *widths_name, *output, *adapter_name;
static const char *dtype, *rest = "auto", *init = "keep", *teacher_dtype = "keep";
static struct dtype_choice out_dtype = {1, DT_F32};
static int random_init, f32_teacher;

static const struct opt opts[] = {
    {"Models and data", OPT_GROUP, NULL, NULL, NULL, 0},
    {"teacher", OPT_PATH, &teacher_name, "MODEL",
     "model whose distribution the student learns; not with --loss ce alone. The student's "
     "vocabulary may be cut from its own",
     0},
    {"teacher-logits", OPT_PATH, &logits_name, "LOGITS",
     "what dump-logits wrote, in place of a teacher; -: standard input, in its order", 0},
    {"teacher-rest", OPT_TEXT, &rest, "auto|bin|renormalise|drop",
     "what becomes of the probability that --top-k left out; bin: it is one more entry; "
     "renormalise: the K share it; drop: it is ignored; auto: bin where LOGITS has it, else drop",
     0},
    {"data", OPT_PATHS, &text.names, "TOKENS[:WEIGHT]",
     "training sequences; a pattern such as 'shards/*.tsz' is one source in several files; if "
     "--data is repeated, sequences are drawn in proportion to the weights, 1 if not given",
     0},
    {"init", OPT_TEXT, &init, "keep|random",
     "start from the student's weights or from random ones; for random weights, a directory with "
     "only config.json suffices",
     0},
    {"teacher-dtype", OPT_TEXT, &teacher_dtype, "keep|f32",
     "dtype of the teacher in memory; f32 is faster but takes more memory than bf16, f16 or q8_0",
     OPT_SILENT_ID},
    {"widths", OPT_PATH, &widths_name, "FILE",
     "train smaller models within STUDENT in one run: FILE has a line for each shape, and every "
     "step draws one (see above)",
     0},
    {"dtype", OPT_TEXT, &dtype, "f32|f16|bf16|q8_0|keep",
     "what trained weights are rounded to when they are written; keep: the student's dtypes "
     "(default f32)",
     0},
    {"any-tokenizer", OPT_FLAG, &text.any_tokenizer, NULL,
     "continue even if student, teacher and data come from different tokenizers", 0},
/* clang-format off */
#define ROW(name, type, field, arg, help, flags) {name, type, &o.field, arg, help, flags},
    {"Loss", OPT_GROUP, NULL, NULL, NULL, 0},
    TRAIN_LOSS_OPTIONS(ROW)
    {"Hidden states", OPT_GROUP, NULL, NULL, NULL, 0},
    STATES_OPTIONS(ROW)
    {"Low-rank adapters", OPT_GROUP, NULL, NULL, NULL, 0},
    TRAIN_LORA_OPTIONS(ROW)
    {"adapter", OPT_PATH, &adapter_name, "DIR",
     "write the adapters as a PEFT directory, besides the model with their sums; --overwrite and "
     "--resume replace one that is there", OPT_SILENT_ID},
    {"Steps", OPT_GROUP, NULL, NULL, NULL, 0},
    TRAIN_STEP_OPTIONS(ROW)
    {"Optimiser (AdamW)", OPT_GROUP, NULL, NULL, NULL, 0},
    TRAIN_OPTIMISER_OPTIONS(ROW)
#undef ROW
    {"Evaluation, log and checkpoints", OPT_GROUP, NULL, NULL, NULL, 0},
    {"eval-data", OPT_PATH, &text.held_out_name, "TOKENS",
     "held-out sequences to evaluate on: the loss and, with a --teacher, the KL divergence from it "
     "and how often the most probable token is the same",
     OPT_SILENT_ID},
#define ROW(name, type, field, arg, help, flags) {name, type, &run.field, arg, help, flags},
    TRAIN_RUN_OPTIONS(ROW)
#undef ROW
    {0}};
/* clang-format on */

static const struct tool_desc desc = {
    "kd-train",
    "STUDENT",
    "Train a model by knowledge distillation from a teacher, or by cross-entropy.",
    "Reads models and token streams; writes the trained model as a stream with the student's "
    "tokenizer, or the teacher's if the student has none. The loss is the mean over all "
    "predictions of an optimiser step. The learning rate rises linearly, then follows the "
    "--schedule.\n\nTokens are not held in memory. A plain file is read in place; a compressed "
    "file or a pipe is first copied to an unnamed file in TMPDIR (/var/tmp). Each of several "
    "sources goes through epochs of its own, and the log counts the sequences of each.\n\nLosses, "
    "of which --loss takes a weighted sum:"
#define LOSS(name, softmaxes, sums, n, own, teacher, title) "\n- " #name ": " title
#include "../kernels/losses.def"
#undef LOSS
    NESTED_HELP STATES_HELP TRAIN_LORA_HELP
    "\n\nSIGTERM, SIGINT, SIGHUP and SIGUSR1 save a checkpoint and stop with status 1. A loss or "
    "gradient that is not finite ends the run; the last checkpoint remains. Refuses models and "
    "tokens of different tokenizers, token ids beyond a vocabulary, and --resume with options that "
    "would change the steps already done (more --max-steps may follow a stable phase, or the last "
    "step).",
    "  kd-train student.tsz --teacher teacher/ --data train.tsz --max-steps 200 \\\n      "
    "--output-dir run -o distilled.tsz",
    opts,
    1,
    1,
    TOOL_OUTPUT | TOOL_COMPUTE | TOOL_MODEL | TOOL_WORLD};

static const volatile sig_atomic_t *stop;

static void resolve_options(struct tool *t)
{
    struct err e = {0};
    random_init = text_choice("init", init, "keep", "random", &e);
    f32_teacher = text_choice("teacher-dtype", teacher_dtype, "keep", "f32", &e);
    if (dtype && !strcmp(dtype, "f32"))
        dtype = NULL; /* as if it were not given, also in the history */
    if (dtype)
        dtype_choose(&out_dtype, dtype, &e);
    if (e.set || train_options_parse(&o, &e) || train_options_resolve(&o, &e) ||
        train_rows_of(&run.trainer.own, &o, &e))
        tool_usage(t, "%s", e.msg);
    tool_training_sources(t, &text);
    if (o.states.n && widths_name)
        tool_usage(t, "--states compares one student with the teacher, --widths trains several");
    if (train_lora_check(&o.lora, adapter_name, random_init, widths_name, &e))
        tool_usage(t, "%s", e.msg);
    output = tool_output(t);
    if (!output)
        output = run.dir ? mem_format("%s/model.tsz", run.dir) : "-";
    run.output = output;
    if (adapter_name &&
        (!strcmp(adapter_name, output) || (run.dir && !strcmp(adapter_name, run.dir))))
        tool_usage(t, "--adapter needs a directory of its own, which %s is not", adapter_name);
    if (!run.log_path && run.dir)
        run.log_path = mem_format("%s/log.jsonl", run.dir);
    if (train_teacher_check(&o, teacher_name, logits_name, rest, &e) ||
        train_run_options_check(&run, text.held_out_name != NULL, &e))
        tool_usage(t, "%s", e.msg);
}

static struct train_stream stream;
static struct model_in *student_in, *teacher_in;
static struct model student, teacher;
static struct adapters adapters;

static void open_logits(struct tool *t)
{
    struct err *e = tool_err(t);
    const char *student_name = text.any_tokenizer ? NULL : tool_operand(t, 0);
    if (train_stream_open(&stream, tool_in_shared(t, logits_name, "logits"), rest, e) ||
        train_stream_order(&stream, &o, e) ||
        train_stream_check(&stream, &o, &text.data, model_in_spec(student_in), student_name, e))
        tool_check(t);
    if (logits_is_pipe(&stream.in))
        tool_note(t, "%s is a pipe: its sequences are taken in their order, once", stream.in.path);
    o.stream = &stream;
}

/* What the output directory holds: a run to go on with, none, or one that is in the way. */
static void open_directory(struct tool *t)
{
    char note[200];
    run.settings = settings_of(&o, &text.data, init, model_in_spec(student_in)->id,
                               teacher_in ? model_in_spec(teacher_in)->id : stream.in.id);
    train_run_check(&run, note, tool_err(t));
    tool_check(t);
    if (*note)
        tool_note(t, "%s", note);
    json_t *legs = (json_t *)settings_legs(run.settings);
    if (legs) {
        tool_identify(t, "continued", json_incref(legs));
        tool_record(t, "continued", json_incref(legs));
    }
}

/* Before the models are loaded: what does not fit the student is refused now. */
static void open_adapters(struct tool *t)
{
    const struct model_spec *h = model_in_spec(student_in);
    if (!train_lora_open(&o.lora, &adapters, h, o.seed, tool_err(t)) && adapter_name)
        peft_check(adapter_name, h, run.resume || run.overwrite, tool_err(t));
    tool_check(t);
    if (o.lora.from)
        tool_parent(t, o.lora.from, o.lora.from_id);
}

static void open_inputs(struct tool *t)
{
    student_in = tool_model(t, tool_operand(t, 0));
    teacher_in = teacher_name ? tool_model(t, teacher_name) : NULL;
    if (teacher_in && !text.any_tokenizer)
        teacher_in = tool_model_among(t, teacher_in, teacher_name, student_in, tool_operand(t, 0));
    if (teacher_in && !text.any_tokenizer)
        data_check_tokenizers(tool_operand(t, 0), model_in_spec(student_in)->tokenizer_id,
                              teacher_name, model_in_spec(teacher_in)->tokenizer_id, tool_err(t));
    const char *lift = o.typed.states.lift;
    if (o.states.n)
        train_states_check(&o.states, model_in_spec(student_in), model_in_spec(teacher_in), lift,
                           tool_err(t));
    tool_check(t);
    if (lift)
        tool_parent(t, lift, o.states.lift_id);
    struct training_models models = {student_in, teacher_in, tool_operand(t, 0), teacher_name};
    tool_training_open(t, &text, &o, &models);
    if (widths_name)
        tool_nested(t, widths_name, student_in, !random_init, &o.nested);
    if (logits_name)
        open_logits(t);
    if (train_lora_is_on(&o.lora))
        open_adapters(t);
    o.typed.order = o.shuffled ? "shuffled" : "sequential"; /* as recorded */
    tool_training_cut(t, &text, &o, &models);
    open_directory(t);
}

/* Header and files are written before the training: they are available now, and a target that
 * cannot be written is reported at once. */
static struct model_out *open_output(struct tool *t)
{
    struct model_spec spec;
    struct model_in *files_from = train_result_spec(&spec, student_in, teacher_in, out_dtype);
    struct model_out *out = tool_model_out(t, output, &spec);
    model_copy_files(out, files_from);
    tool_check(t);
    model_spec_free(&spec);
    return out;
}

static void load_models(struct tool *t)
{
    static const char what[] = "loading the models";
    struct err *e = tool_err(t);
    int with_adapters = train_lora_is_on(&o.lora), own = with_adapters ? MODEL_FROZEN : MODEL_TRAIN;
    int how = f32_teacher ? MODEL_TRAIN : MODEL_FROZEN;
    int64_t bytes = model_memory(model_in_spec(student_in), own, 0);
    bytes += teacher_in ? model_memory(model_in_spec(teacher_in), how, 0) : 0;
    tool_need_memory(t, what, bytes);
    tool_waiting(t, what);
    if (random_init)
        model_init_random(&student, model_in_spec(student_in), (uint64_t)o.seed, e);
    else
        model_load(&student, student_in, own, e);
    tool_check(t);
    student.adapters = with_adapters ? &adapters : NULL;
    if (teacher_in)
        model_load(&teacher, teacher_in, how, e);
    tool_check(t);
    tool_progress_end(t);
}

static void open_run(struct tool *t)
{
    struct err *e = tool_err(t);
    char note[900];
    load_models(t);
    train_open(&run.trainer, tool_exec(t), &o, &student, teacher_in ? &teacher : NULL, &text.data,
               e);
    tool_check(t);
    if (text.held_out_name && held_out_open(&run.held_out, &run.trainer, &text.held_out, e))
        tool_check(t);
    struct memory_part parts[TRAIN_PARTS];
    train_run_memory(&run, parts);
    tool_predict_memory(t, NULL, parts);
    run.head = tool_head(t, "checkpoint", train_run_meta(&run));
    train_run_open(&run, note, e);
    tool_check(t);
    if (note[0])
        tool_note(t, "%s", note);
}

/* What was trained is not lost when a run ends early or its model cannot be written. */
static _Noreturn void save_and_die(struct tool *t, const char *why)
{
    struct err e = {0};
    if (!run.dir)
        tool_die(t, "%s; without --output-dir nothing was saved", why);
    if (train_run_save(&run, &e))
        tool_die(t, "%s; nor can a checkpoint be saved: %s", why, e.msg);
    tool_die(t, "%s; step %lld is saved in %s: continue with the same command and --resume", why,
             (long long)run.trainer.step, run.dir);
}

static void show_step(struct tool *t, const struct train_record *r)
{
    char line[300];
    if (train_run_rises(&run, r, line))
        tool_note(t, "%s", line);
    train_run_describe(&run, r, line);
    tool_progress_with(t, r->step, o.schedule.max_steps, "steps", line);
}

/* The last step, and where several models are trained, what each has come to. */
static void show_end(struct tool *t, const struct train_record *r)
{
    char line[300];
    train_run_describe(&run, r, line);
    tool_note(t, "step %lld: %s, %.0f s", (long long)r->step, line, run.spent);
    for (int64_t i = 0; r->shape && i < run.held_out.n; i++) {
        held_out_describe(&run.held_out, i, line);
        tool_note(t, "%s: %s", o.nested.models[i].name, line);
    }
}

static void train(struct tool *t)
{
    struct train_record r;
    int noted = 0;
    tool_progress_every(t, run.logging_steps);
    tool_progress(t, run.trainer.step, o.schedule.max_steps, "steps");
    while (run.trainer.step < o.schedule.max_steps) {
        tool_check_readers(t);
        if (world_agree(tool_err(t)))
            save_and_die(t, tool_err(t)->msg);
        int done = train_run_step(&run, stop, &r, tool_err(t));
        if (done < 0 && run.last_saved >= 0)
            tool_die(t, "%s; the checkpoint of step %lld remains in %s", tool_err(t)->msg,
                     (long long)run.last_saved, run.dir);
        tool_check(t);
        if (!done || (r.stopped && r.step < o.schedule.max_steps))
            save_and_die(t, mem_format("stopped after step %lld (%s)", (long long)run.trainer.step,
                                       strsignal(done ? r.stopped : *stop)));
        if (run.log_err.set && !noted++)
            tool_note(t, "%s; the training goes on, and the log will lack lines", run.log_err.msg);
        if (run.save_err.set && r.step < o.schedule.max_steps)
            tool_note(t, "%s; the training goes on without a checkpoint of step %lld",
                      run.save_err.msg, (long long)r.step);
        show_step(t, &r);
    }
    if (run.steps)
        show_end(t, &r);
}

/* A student that is not a directory has no name that PEFT could load it by. */
static void write_adapters(struct tool *t)
{
    const char *base = tool_operand(t, 0);
    struct stat st;
    if (stat(base, &st) || !S_ISDIR(st.st_mode))
        base = NULL;
    peft_write(&adapters, &student.spec, adapter_name, base, run.resume || run.overwrite,
               tool_err(t));
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    struct err log_err = {0};
    resolve_options(t);
    if (world_size() > 1) /* on which rounding depends */
        tool_record(t, "processes", json_integer(world_size()));
    stop = tool_catch_signals(t);
    open_inputs(t);
    struct model_out *out = open_output(t);
    open_run(t);
    train(t);
    logits_end(&stream.in, tool_err(t));
    if (!world_agree(tool_err(t)))
        shards_join(&run.trainer.shards, tool_err(t));
    if (world_agree(tool_err(t)))
        save_and_die(t, tool_err(t)->msg);
    model_write(out, &student);
    model_out_close(out);
    if (adapter_name && !world_rank())
        write_adapters(t);
    tool_publish(t);
    if (world_agree(tool_err(t)))
        save_and_die(t, tool_err(t)->msg);
    if (run.save_err.set)
        tool_die(t, "%s; the model is complete, but cannot be continued", run.save_err.msg);
    if (train_run_close(&run, &log_err))
        tool_die(t, "%s; the model is complete, the log is not", log_err.msg);
    return tool_finish(t); /* the process frees models and tokens */
}
