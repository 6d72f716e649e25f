/* What tests of tapes share: the device of the command line, models, errors that end the test. */
#ifndef PARE_TEST_DEVICE_H
#define PARE_TEST_DEVICE_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/tool/model_open.h"
#include "check.h"

/* Opens the CPU, or the CUDA device if the first argument is --cuda, which is then left out. Ends
 * the process without one. */
static inline void device_open(struct exec *x, int *argc, char ***argv)
{
    int cuda = *argc > 1 && !strcmp((*argv)[1], "--cuda");
    *argc -= cuda;
    *argv += cuda;
    if (exec_open(x, cuda ? DEVICE_CUDA : DEVICE_CPU, 2)) {
        printf("%s\n", x->err.msg);
        exit(1);
    }
    x->compute = DT_F32;
}

static inline void stop_on_error(const struct err *e, const char *doing)
{
    if (!e->set)
        return;
    printf("FAILED %s: %s\n", doing, e->msg);
    check_failed++;
    exit(check_report());
}

/* x: the device it is moved to, or NULL */
static inline void load_model(struct model *m, const char *dir, int how, struct exec *x)
{
    struct err e = {0};
    struct model_in *in = model_open(dir, NULL, &e);
    stop_on_error(&e, dir);
    if (!model_load(m, in, how, &e) && x)
        model_move(m, x, &e);
    model_close(in);
    stop_on_error(&e, dir);
}

/* Calls `check` with "families/NAME" of each golden family, or of those among the arguments. */
static inline void each_family(int argc, char **argv, void (*check)(const char *name))
{
    DIR *d = opendir("tests/golden/families");
    for (struct dirent *f = d ? readdir(d) : NULL; f; f = readdir(d)) {
        char *name = mem_format("families/%s", f->d_name);
        int chosen = argc < 2 && f->d_name[0] != '.';
        for (int i = 1; i < argc; i++)
            chosen |= !strcmp(argv[i], f->d_name);
        if (chosen)
            check(name);
        free(name);
    }
    if (d)
        closedir(d);
    CHECK(check_passed > 0, "no golden families found: run from the repository root");
}

#endif
