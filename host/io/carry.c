/* carry.safetensors: the states that a recurrent model carries from one window of the text to the
 * next. A resumed run goes on with them. */
#include "io.h"
#include "safetensors.h"
#include <stdlib.h>

bool carry_write(const char *folder, const Model *m, Error *e) {
    char path[IO_PATH_MAX];
    if (!m->carry.data) return true;
    SafetensorsWriter *w = NULL;
    if (!path_join(path, folder, "carry.safetensors", e) || !(w = safetensors_create(path, e)))
        return false;
    const int64_t n = tensor_count(m->carry);
    float *states = malloc((size_t)n * sizeof *states);
    CHECK(states, "no memory for %ld states", (long)n);
    model_read_f32(m, m->carry, states);
    safetensors_declare(w, "carry", DTYPE_F32, m->carry.rank, m->carry.dim);
    const bool good = safetensors_begin(w, e) &&
                      safetensors_write(w, states, n * (int64_t)sizeof *states, e);
    free(states);
    if (good) return safetensors_finish(w, e);
    safetensors_abandon(w);
    return false;
}

bool checkpoint_read_carry(const char *folder, Model *m, Error *e) {
    char path[IO_PATH_MAX];
    SafetensorsFile f;
    if (!m->carry.data) return true;
    if (!path_join(path, folder, "carry.safetensors", e) || !safetensors_open(&f, path, e))
        return false;
    const SafetensorsEntry *entry = safetensors_find(&f, "carry");
    const bool good = entry && entry->dtype == DTYPE_F32 && entry->rank == 2 &&
                      entry->dim[0] == m->carry.dim[0] && entry->dim[1] == m->carry.dim[1];
    if (good) {
        float *states = malloc((size_t)entry->bytes); /* in the file they may be unaligned */
        CHECK(states, "no memory for %ld states", (long)entry->count);
        safetensors_read_f32(entry, 0, entry->count, states);
        model_write_f32(m, m->carry, states);
        free(states);
    } else {
        error_set(e, path, "A run's batch size cannot change", "no states of this batch's rows");
    }
    safetensors_close(&f);
    return good;
}
