/* A new folder for names of one file in memory, and what those names have to link to; returns the
 * file, or stops. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static inline int memory_folder(char folder[64], char target[64]) {
    const int fd = memfd_create("fuzz", 0);
    snprintf(folder, 64, "/tmp/puck-fuzz-XXXXXX");
    if (fd < 0 || !mkdtemp(folder)) abort();
    snprintf(target, 64, "/proc/self/fd/%d", fd);
    return fd;
}
