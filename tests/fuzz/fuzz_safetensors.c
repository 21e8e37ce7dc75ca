/* Any bytes as a safetensors file: refused with a reason, or every tensor can be read. */
#include "safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n) abort();

    SafetensorsFile f;
    Error e = {0};
    if (!safetensors_open(&f, path, &e)) {
        CHECK(e.text[0] && e.place[0], "refused without a reason");
        return 0;
    }
    int64_t bytes = 0;
    float *values = malloc(sizeof(float) * n + 1);
    for (int i = 0; i < f.n_entries; i++) {
        const SafetensorsEntry *t = &f.entries[i];
        bytes += t->bytes;
        CHECK(safetensors_find(&f, t->name) == t, "%s is not found", t->name);
        if (!safetensors_read_f32(t, 0, t->count, values))
            for (int64_t k = 0; k < t->bytes; k++) values[0] += ((const uint8_t *)t->data)[k];
    }
    CHECK(bytes < f.map_bytes, "%ld bytes of tensors", (long)bytes);
    free(values);
    safetensors_close(&f);
    return 0;
}
