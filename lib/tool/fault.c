/* Faults. Matrix libraries do not check that they got the memory for the code they generate, or
 * throw a C++ exception that nothing catches; such a fault ends the tool with a sentence and status
 * 1, like any other lack of memory. Every other fault is a bug: unfinished files are removed, and
 * the signal ends the process. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "../base/unfinished.h"
#include "tool_private.h"

/* Address of the faulting instruction; NULL: unknown on this processor. */
static const void *fault_place(const void *context)
{
#if defined(__x86_64__)
    return (const void *)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (const void *)((const ucontext_t *)context)->uc_mcontext.pc;
#else
    (void)context;
    return NULL;
#endif
}

static int is_matrix_library(const void *place)
{
    static const char *const names[] = {"dnnl", "mkl", "blas", "blis"};
    Dl_info where = {0};
    if (!place || !dladdr(place, &where) || !where.dli_fname)
        return 0;
    const char *slash = strrchr(where.dli_fname, '/');
    const char *file = slash ? slash : where.dli_fname;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(file, names[i]))
            return 1;
    return 0;
}

/* Does the call stack pass through such a library? An abort itself is in the C library. */
static int called_by_matrix_library(void)
{
    void *places[64];
    int n = backtrace(places, 64);
    for (int i = 0; i < n; i++)
        if (is_matrix_library(places[i]))
            return 1;
    return 0;
}

static void say(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)info;
    unfinished_remove_all();
    if (sig == SIGABRT ? called_by_matrix_library() : is_matrix_library(fault_place(context))) {
        say(program_invocation_short_name);
        say(": the matrix library failed, most likely for want of memory\n");
        _exit(1);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

void tool_faults(void)
{
    struct sigaction own = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
    const int faults[] = {SIGSEGV, SIGBUS, SIGABRT};
    void *place;
    backtrace(&place, 1); /* the first call loads the unwinder, which takes memory */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        if (!sigaction(faults[i], NULL, &old) && old.sa_handler == SIG_DFL)
            sigaction(faults[i], &own, NULL); /* else a sanitizer has installed its own */
}
