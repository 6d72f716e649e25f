/* ts-check: checks that streams are whole: every record, every digest, the end map, nothing after
 * it. Silent if so. */
#include "../lib/tool/tool.h"

static int verbose;

static const struct opt opts[] = {
    {"verbose", OPT_FLAG, &verbose, NULL, "print a line for every intact file", 0},
    {0},
};

static const struct tool_desc desc = {
    .name = "ts-check",
    .operands = "[FILE]...",
    .summary = "Check that streams are complete and undamaged.",
    .description = "Reads each FILE to its end, or standard input if there is none, or for -. "
                   "Prints nothing and exits with status 0 if every record has the length and "
                   "digest it declares and every stream has its end map. Otherwise prints one "
                   "message for each damaged or truncated file and exits with status 1.",
    .example = "  ts-check --verbose *.tsz",
    .opts = opts,
    .min_operands = 0,
    .max_operands = -1,
};

static int stream_check(const char *path, struct err *e)
{
    struct tensor x;
    int64_t records = 0, bytes = 0;
    struct st_in *in = st_open(path, e);
    int more = in ? 1 : -1;
    while (more > 0 && (more = st_next(in, &x)) > 0) {
        records++;
        bytes += tensor_bytes(&x);
    }
    if (!more && verbose)
        printf("%s: %s, intact: %lld records, %lld bytes\n", st_path(in),
               json_string_value(json_object_get(st_head(in), "kind")), (long long)records,
               (long long)bytes);
    st_close(in);
    return more;
}

int main(int argc, char **argv)
{
    struct tool *t = tool_begin(&desc, argc, argv);
    /* the last failure; reported at exit, so that each is reported once */
    struct err bad = {0};
    for (int i = 0; i == 0 || i < tool_operands(t); i++) {
        struct err e = {0};
        const char *path = tool_operands(t) ? tool_operand(t, i) : "-";
        tool_stdin_once(t, path);
        if (!stream_check(path, &e))
            continue;
        if (bad.set)
            tool_note(t, "%s", bad.msg);
        bad = e;
    }
    if (bad.set)
        tool_die(t, "%s", bad.msg);
    return tool_finish(t);
}
