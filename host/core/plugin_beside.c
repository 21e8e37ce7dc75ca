/* Where what was built with the program lies; apart from plugin.c, which links the kernels. */
#include "plugin.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool plugin_beside(char *path, int64_t size, const char *name) {
    char program[PATH_MAX];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    const int length = snprintf(path, (size_t)size, "%s/%s", slash ? program : ".", name);
    return length < size && access(path, F_OK) == 0;
}
