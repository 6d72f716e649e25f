/* Counting checks for the C test programs: CHECK(condition, "what, with values"); the last line of
 * main is `return check_report();`. */
#ifndef PARE_CHECK_H
#define PARE_CHECK_H

#include <stdio.h>

static int check_passed, check_failed;

#define CHECK(condition, ...) \
    do { \
        if (condition) { \
            check_passed++; \
        } else { \
            check_failed++; \
            printf("FAILED %s:%d: ", __FILE__, __LINE__); \
            printf(__VA_ARGS__); \
            putchar('\n'); \
        } \
    } while (0)

static inline int check_report(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
