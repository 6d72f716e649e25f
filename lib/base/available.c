/* Memory that this process can still take: see available.h. */
#include "available.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mem.h"

/* What a version calls its files and counts. */
struct control {
    const char *controller; /* in a line "N:controller:PATH" of /proc/self/cgroup */
    const char *mount, *limit, *usage, *cache;
};
static const struct control controls[] = {
    {"", "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "},
    {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
     "total_inactive_file "}};

/* The number behind `key` at the beginning of a line; -1: there is none. */
static int64_t number_in(const char *directory, const char *file, const char *key)
{
    char *path = mem_format("%s/%s", directory, file), line[256];
    long long n = -1;
    FILE *f = fopen(path, "r");
    free(path);
    while (f && n < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%lld", &n) != 1)
            n = -1;
    if (f)
        fclose(f);
    return n;
}

static int64_t left_in(const char *directory, const struct control *c)
{
    int64_t limit = number_in(directory, c->limit, ""), usage = number_in(directory, c->usage, ""),
            cache = number_in(directory, "memory.stat", c->cache);
    if (limit < 0 || usage < 0)
        return INT64_MAX;
    int64_t left = limit - usage + (cache > 0 ? cache : 0);
    return left > 0 ? left : 0;
}

/* The least that a group and those that contain it leave. Inside a container the path may be that
 * of the host, of which only the end of the way up exists. */
static int64_t left_on_path(const char *root, const struct control *c, const char *path)
{
    char *directory = mem_format("%s%s%s", root, c->mount, path);
    size_t top = strlen(root) + strlen(c->mount), n = strlen(directory);
    int64_t least = INT64_MAX;
    for (; n >= top; n--) {
        if (directory[n] && directory[n] != '/')
            continue;
        directory[n] = 0;
        int64_t left = left_in(directory, c);
        least = left < least ? left : least;
    }
    free(directory);
    return least;
}

/* The PATH of a line "N:controller,controller:PATH" that has the controller; NULL: it has not. */
static const char *path_in(char *line, const char *controller)
{
    line[strcspn(line, "\n")] = 0;
    char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path = 0;
    names++;
    for (char *name; (name = strsep(&names, ","));)
        if (!strcmp(name, controller))
            return path + 1;
    return NULL;
}

int64_t available_bytes(const char *root)
{
    char *proc = mem_format("%s/proc", root), *groups = mem_format("%s/self/cgroup", proc);
    int64_t kilobytes = number_in(proc, "meminfo", "MemAvailable:"),
            least = kilobytes < 0 ? INT64_MAX : kilobytes * 1024;
    FILE *f = fopen(groups, "r");
    char line[4096];
    while (f && fgets(line, sizeof line, f))
        for (int i = 0; i < 2; i++) {
            char *copy = mem_string(line);
            const char *path = path_in(copy, controls[i].controller);
            int64_t left = path ? left_on_path(root, &controls[i], path) : INT64_MAX;
            least = left < least ? left : least;
            free(copy);
        }
    if (f)
        fclose(f);
    free(proc);
    free(groups);
    return least;
}
