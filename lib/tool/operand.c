/* See operand.h. Looks into directories and regular files only: the bytes of a pipe would be lost,
 * and what its reader says has to do. */
#include "operand.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/file_kind.h"
#include "../base/text.h"
#include "tool_private.h"

/* How streams are made, by kind. FILE stands for a text that was given instead of one. */
static const struct {
    const char *kind, *command;
} makers[] = {{"tokens", "tokenize -m MODEL FILE"},
              {"acts", "calib-acts MODEL TOKENS"},
              {"scores", "score-importance ACTS"},
              {"rank", "rank SCORES"},
              {"logits", "dump-logits MODEL TOKENS"}};

static const char stream_name[] = "a stream of kind ";
static const char model_forms[] =
    "give a directory with config.json and model.safetensors, a .gguf file, or a stream that "
    "hf-import or gguf-import made";

static int is_model(const char *wanted) { return wanted && !strcmp(wanted, "model"); }

/* The directory that a file lies in, free() it. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_string(".");
    return mem_format("%.*s", (int)(slash > path ? slash - path : 1), path);
}

static int has_config(const char *dir)
{
    char *path = mem_format("%s/config.json", dir);
    int there = !access(path, F_OK);
    free(path);
    return there;
}

/* ---- what it is */

/* `a stream of kind "KIND"`; NULL if it is damaged, or of the kind that was wanted. */
static char *name_stream(const char *path, const char *wanted)
{
    struct err ignored = {0};
    struct st_in *in = st_open(path, &ignored);
    const char *kind = in ? json_string_value(json_object_get(st_head(in), "kind")) : NULL;
    char *name = kind && wanted && strcmp(kind, wanted)
                     ? mem_format("%s\"%.40s\"", stream_name, kind)
                     : NULL;
    st_close(in);
    return name;
}

static char *name_file(const char *path, const char *wanted)
{
    char head[FILE_KIND_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof head, 0);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return NULL;
    const struct file_kind *kind = file_kind(head, n);
    if (kind && (kind->code == FILE_STREAM || kind->code == FILE_ZSTD))
        return name_stream(path, wanted);
    if (kind && kind->code == FILE_GGUF && is_model(wanted))
        return NULL;
    if (kind)
        return mem_string(kind->name);
    if (!file_is_text(head, n))
        return NULL;
    return mem_string(text_ends(path, ".json") ? "a JSON file" : "text");
}

/* "a directory", "text", ...; NULL: not known, or of the kind that was wanted. free() it. */
static char *name_of(const char *path, const char *wanted)
{
    struct stat st;
    if (!strcmp(path, "-") || stat(path, &st))
        return NULL;
    if (S_ISREG(st.st_mode))
        return name_file(path, wanted);
    if (!S_ISDIR(st.st_mode) || is_model(wanted))
        return NULL;
    return mem_string(has_config(path) ? "the directory of a model" : "a directory");
}

/* ---- what belongs there */

/* free() it */
static char *name_wanted(const char *wanted, const char *name)
{
    if (!wanted || is_model(wanted))
        return mem_string(wanted ? "a model" : "a pare stream");
    return mem_format("%s\"%s\"", text_begins(name, stream_name) ? "" : stream_name, wanted);
}

/* The command that makes a stream of the kind; free() it. */
static char *command_for(const char *kind, const char *path, const char *name)
{
    for (size_t i = 0; kind && i < sizeof makers / sizeof *makers; i++) {
        const char *command = makers[i].command, *file = strstr(command, "FILE");
        if (strcmp(makers[i].kind, kind))
            continue;
        if (!file)
            return mem_format("; one is made by %s", command);
        return mem_format("; one is made by %.*s%s", (int)(file - command), command,
                          strcmp(name, "text") ? "TEXT" : path);
    }
    return mem_string("");
}

/* What to give as a MODEL instead; free() it. */
static char *model_for(const char *path, const char *name)
{
    int part = !strcmp(name, "a safetensors file") || !strcmp(name, "a JSON file") ||
               !strcmp(name, "a SentencePiece model");
    char *dir = parent_of(path), *advice;
    if (part && has_config(dir))
        advice = mem_format(": give the directory that it belongs to, %s", dir);
    else if (!strcmp(name, "a SentencePiece model"))
        advice = mem_string(": load it with AutoTokenizer of transformers and write tokenizer.json "
                            "with save_pretrained");
    else
        advice = mem_format(": %s", model_forms);
    free(dir);
    return advice;
}

/* " (usage: ...)" if the path is an operand, which may have been swapped with another. */
static char *usage_for(const struct tool *t, const char *path)
{
    for (int i = 0; i < tool_operands(t); i++)
        if (!strcmp(tool_operand(t, i), path) && strchr(t->desc->operands, ' '))
            return mem_format(" (usage: %s [OPTION]... %s)", t->desc->name, t->desc->operands);
    return mem_string("");
}

/* ---- names of the Hugging Face Hub: NAME, or OWNER/NAME where there is no directory OWNER */

static int64_t hub_word(const char *s)
{
    int64_t n = 0;
    while (isalnum((unsigned char)s[n]) || (n && s[n] && strchr("-_.", s[n])))
        n++;
    return n;
}

static int may_be_on_hub(const char *path)
{
    int64_t n = hub_word(path), rest = path[n] == '/' ? hub_word(path + n + 1) : 0;
    if (!n || path[n + (rest ? rest + 1 : 0)])
        return 0;
    if (!rest)
        return !strchr(path, '.');
    char *owner = mem_format("%.*s", (int)n, path);
    int there = !access(owner, F_OK);
    free(owner);
    return !there;
}

static void explain_missing(struct tool *t, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (!may_be_on_hub(path))
        return;
    t->err.set = 0;
    err_set(&t->err,
            "cannot open model '%s': %s; if it is a name on the Hugging Face Hub, fetch it with: "
            "hf download %s --local-dir %s",
            path, strerror(ENOENT), path, name);
}

void operand_explain(struct tool *t, const char *path, const char *wanted)
{
    struct stat st;
    int model = is_model(wanted);
    if (model && stat(path, &st) && errno == ENOENT)
        explain_missing(t, path);
    char *name = name_of(path, wanted);
    if (!name)
        return;
    char *wish = name_wanted(wanted, name), *usage = usage_for(t, path),
         *advice = model ? model_for(path, name) : command_for(wanted, path, name);
    t->err.set = 0;
    err_set(&t->err, "%s is %s, not %s%s%s", path, name, wish, advice, usage);
    free(name);
    free(wish);
    free(advice);
    free(usage);
}
