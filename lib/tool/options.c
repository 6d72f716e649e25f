/* Options of a tool: see options.h. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../formats/json.h"
#include "../base/mem.h"
#include "similar.h"

enum { NAME = 64, TABLES = sizeof((struct options *)0)->tables / sizeof(struct opt *) };

/* The i-th option of both tables, NULL beyond the last. */
static const struct opt *option_at(const struct options *o, int i)
{
    for (int t = 0; t < TABLES; t++)
        for (const struct opt *p = o->tables[t]; p && p->name; p++)
            if (p->type != OPT_GROUP && !i--)
                return p;
    return NULL;
}

/* Which options a name may mean. */
struct meant {
    const struct opt *option; /* the one of that name, else the first that begins with it */
    int exact, n;             /* is it that one? how many others begin with it */
    const struct opt *other;  /* the last of these */
};

static struct meant options_meant(const struct options *o, const char *name)
{
    struct meant m = {0};
    const struct opt *p;
    for (int i = 0; (p = option_at(o, i)); i++) {
        if (strncmp(p->name, name, strlen(name)))
            continue;
        if (!strcmp(p->name, name))
            return (struct meant){p, 1, 0, NULL};
        m.n++;
        m.other = p;
        if (!m.option)
            m.option = p;
    }
    return m;
}

/* What other programs call the same. */
static const struct {
    const char *theirs, *ours;
} synonyms[] = {{"ctx", "seq-length"},   {"max-length", "seq-length"},
                {"n-ctx", "context"},    {"ffn", "intermediate-size"},
                {"epochs", "max-steps"}, {"n-predict", "max-new-tokens"}};
enum { SYNONYMS = sizeof synonyms / sizeof *synonyms };

static int means(const char *name, const struct opt *p)
{
    for (int i = 0; i < SYNONYMS; i++)
        if (!strcmp(name, synonyms[i].theirs) && !strcmp(p->name, synonyms[i].ours))
            return 0;
    return similar_distance(name, p->name);
}

/* The option that the name is most like, NULL if it is like none. */
static const struct opt *options_closest(const struct options *o, const char *name)
{
    const struct opt *p, *closest = NULL;
    int least = INT_MAX;
    for (int i = 0; (p = option_at(o, i)); i++) {
        int d = means(name, p);
        if (d < 0 || d >= least)
            continue;
        least = d;
        closest = p;
    }
    return closest;
}

static int option_set(const struct opt *p, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    if (p->type == OPT_INT) {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return err_set(e, "--%s takes a whole number, not \"%s\"", p->name, text);
        if (p->flags & (OPT_FROM_0 | OPT_FROM_1) && v < !!(p->flags & OPT_FROM_1))
            return err_set(e, "--%s must be at least %d, not %lld", p->name,
                           !!(p->flags & OPT_FROM_1), v);
        *(int64_t *)p->value = v;
    } else if (p->type == OPT_REAL) {
        double v = strtod(text, &end);
        if (end == text || *end || !isfinite(v))
            return err_set(e, "--%s takes a number, not \"%s\"", p->name, text);
        *(double *)p->value = v;
    } else if (p->type == OPT_TEXT || p->type == OPT_PATH || p->type == OPT_SIZES) {
        *(const char **)p->value = text;
    } else {
        struct opt_list *list = p->value;
        list->text = mem_grow(list->text, (size_t)(list->n + 1) * sizeof *list->text);
        list->text[list->n++] = text;
    }
    return 0;
}

/* Options that also have a letter. */
static const struct {
    const char *word, *name;
} letters[] = {{"-o", "output"}, {"-m", "model"}, {"-h", "help"}};
enum { LETTERS = sizeof letters / sizeof *letters };

/* The name that a word such as --name=value or -o stands for, with - for _; returns the value
 * behind = or NULL. A word with one hyphen that is not a letter, or with three, gives the name it
 * has without them. */
static const char *name_in(const char *word, char name[NAME], int *is_option)
{
    *is_option = word[1] == '-' && word[2] != '-';
    const char *from = word + strspn(word, "-"), *equals = strchr(from, '=');
    for (int i = 0; i < LETTERS; i++)
        if (!strcmp(word, letters[i].word)) {
            from = letters[i].name;
            *is_option = 1;
        }
    int n = equals ? (int)(equals - from) : (int)strlen(from);
    snprintf(name, NAME, "%.*s", n, from);
    for (char *c = name; *c; c++)
        if (*c == '_')
            *c = '-';
    return equals ? equals + 1 : NULL;
}

static const struct opt *option_named(const struct options *o, const char *word, const char *name,
                                      int is_option, struct err *e)
{
    struct meant m = options_meant(o, name);
    const struct opt *closest;
    if (is_option && (m.exact || m.n == 1))
        return m.option;
    if (is_option && *name && m.n > 1)
        err_set(e, "%s may be --%s or --%s%s: give more of its name", word, m.option->name,
                m.other->name, m.n > 2 ? ", among others" : "");
    else if (*name && (closest = m.option ? m.option : options_closest(o, name)))
        err_set(e, "unknown option %s; did you mean --%s?", word, closest->name);
    else
        err_set(e, "unknown option %s (see --help)", word);
    return NULL;
}

/* Remembers that an option was given, and notes another value that it had before. */
static void option_given(struct options *o, const struct opt *p, const char *value)
{
    int may_repeat = p->type == OPT_LIST || p->type == OPT_PATHS;
    for (int i = o->n_given - 1; i >= 0 && !may_repeat; i--) {
        if (o->given[i].option != p)
            continue;
        if (strcmp(o->given[i].value, value))
            o->note = mem_append(o->note, "%s--%s %s replaces --%s %s", *o->note ? "; " : "",
                                 p->name, value, p->name, o->given[i].value);
        break;
    }
    o->given = mem_grow(o->given, (size_t)(o->n_given + 1) * sizeof *o->given);
    o->given[o->n_given++] = (struct given){p, value};
}

/* Parses argv[i] as an option; returns how many words it used, or -1. */
static int option_parse(struct options *o, int i, int argc, char **argv, struct err *e)
{
    char name[NAME];
    int is_option;
    const char *value = name_in(argv[i], name, &is_option);
    const struct opt *p = option_named(o, argv[i], name, is_option, e);
    if (!p)
        return -1;
    if (p->type == OPT_FLAG) {
        if (value)
            return err_set(e, "--%s takes no value", p->name);
        *(int *)p->value = 1;
        return 1;
    }
    int used = value ? 1 : 2;
    if (!value && !(value = i + 1 < argc ? argv[i + 1] : NULL))
        return err_set(e, "--%s needs a value", p->name);
    if (option_set(p, value, e))
        return -1;
    option_given(o, p, value);
    return used;
}

int options_parse(struct options *o, int argc, char **argv, struct err *e)
{
    o->operands = mem_alloc(sizeof *o->operands * (size_t)(argc + 1));
    o->note = mem_string("");
    for (int i = 1; i < argc;) {
        if (!strcmp(argv[i], "--")) {
            while (++i < argc)
                o->operands[o->n_operands++] = argv[i];
        } else if (argv[i][0] == '-' && argv[i][1]) {
            int used = option_parse(o, i, argc, argv, e);
            if (used < 0)
                return -1;
            i += used;
        } else {
            o->operands[o->n_operands++] = argv[i++];
        }
    }
    return 0;
}

void options_free(struct options *o)
{
    free(o->operands);
    free(o->given);
    free(o->note);
}

enum { HELP_WIDTH = 80, HELP_COLUMN = 28 };

void options_wrap(const char *text, int column, int indent, FILE *f)
{
    int hang = indent;
    for (const char *word = text; *word;) {
        int n = (int)strcspn(word, " \n");
        if (!column)
            hang = strncmp(word, "- ", 2) ? indent : 2;
        if (column > indent && column + 1 + n > HELP_WIDTH) {
            fprintf(f, "\n%*s", hang, "");
            column = hang;
        } else if (column > indent) {
            fputc(' ', f);
            column++;
        }
        fprintf(f, "%.*s", n, word);
        column += n;
        word += n;
        for (; *word == '\n'; column = 0)
            fputc(*word++, f);
        word += *word == ' ';
    }
    fputc('\n', f);
}

/* 0 is named where the help says what it does: elsewhere it means that the option is not given. */
static char *option_default(const struct opt *p)
{
    if (p->flags & OPT_UNSET)
        return mem_string("");
    int says_zero = p->help && strstr(p->help, " 0: ") != NULL;
    if (p->type == OPT_INT && (*(int64_t *)p->value || says_zero))
        return mem_format(" (default %lld)", (long long)*(int64_t *)p->value);
    if (p->type == OPT_REAL && (*(double *)p->value != 0 || says_zero))
        return mem_format(" (default %g)", *(double *)p->value);
    if ((p->type == OPT_TEXT || p->type == OPT_PATH) && *(const char **)p->value)
        return mem_format(" (default %s)", *(const char **)p->value);
    return mem_string("");
}

static void option_help(const struct opt *p, FILE *f)
{
    int column = fprintf(f, "  ");
    for (int i = 0; i < LETTERS; i++)
        if (!strcmp(p->name, letters[i].name))
            column += fprintf(f, "%s, ", letters[i].word);
    column += fprintf(f, "--%s", p->name);
    if (p->arg)
        column += fprintf(f, " %s", p->arg);
    if (column >= HELP_COLUMN) {
        fputc('\n', f);
        column = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - column, "");
    char *value = option_default(p), *text = mem_format("%s%s", p->help ? p->help : "", value);
    options_wrap(text, HELP_COLUMN, HELP_COLUMN, f);
    free(value);
    free(text);
}

void options_help(const struct options *o, FILE *f)
{
    int groups = 0;
    fputs("\nOptions:\n", f);
    for (size_t t = 0; t < sizeof o->tables / sizeof *o->tables; t++) {
        if (t == 1 && groups)
            fputs(" Common:\n", f);
        for (const struct opt *p = o->tables[t]; p && p->name; p++) {
            if (p->type == OPT_GROUP)
                fprintf(f, " %s:\n", p->name);
            else
                option_help(p, f);
            groups += p->type == OPT_GROUP;
        }
    }
}

/* A number is recorded as one, whatever else the option takes. */
static json_t *sizes_value(const char *text)
{
    if (!text)
        return json_integer(0);
    return strspn(text, "0123456789") == strlen(text) ? json_integer(atoll(text)) : json_text(text);
}

static json_t *option_value(const struct opt *p)
{
    if (p->type == OPT_FLAG)
        return *(int *)p->value ? json_true() : NULL;
    if (p->type == OPT_INT)
        return json_integer(*(int64_t *)p->value);
    if (p->type == OPT_REAL)
        return isnan(*(double *)p->value) ? NULL : json_real(*(double *)p->value);
    if (p->type == OPT_TEXT || p->type == OPT_PATH)
        return *(const char **)p->value ? json_text(*(const char **)p->value) : NULL;
    if (p->type == OPT_SIZES)
        return *(const char **)p->value || !(p->flags & OPT_UNSET)
                   ? sizes_value(*(const char **)p->value)
                   : NULL;
    const struct opt_list *list = p->value;
    json_t *a = list->n ? json_array() : NULL;
    for (int i = 0; i < list->n; i++)
        json_array_append_new(a, json_text(list->text[i]));
    return a;
}

json_t *options_resolved(const struct options *o, int with_paths)
{
    json_t *all = json_object();
    for (size_t t = 0; t < sizeof o->tables / sizeof *o->tables; t++)
        for (const struct opt *p = o->tables[t]; p && p->name; p++) {
            int is_path = p->type == OPT_PATH || p->type == OPT_PATHS,
                counts = p->type != OPT_GROUP && (!is_path || with_paths);
            json_t *v = counts && !(p->flags & OPT_SILENT_ID) ? option_value(p) : NULL;
            if (v)
                json_object_set_new(all, p->name, v);
        }
    return all;
}
