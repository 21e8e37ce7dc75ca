/* Weights as other programs write them, for tests of loading. */
#pragma once
#include "safetensors.h"
#include "tiny.h"
#include <sys/stat.h>

/* Element i of a parameter, by its place in memory: multiples of 1/16 below 8, exact in every
 * dtype. */
static inline float value_of(int param, int64_t i) {
    return (float)((int64_t)((uint64_t)(i * 37 + param * 11) % 255) - 127) / 16;
}

static inline void encode(void *out, DType dtype, float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const double wide = value;
    const uint16_t brain = (uint16_t)(bits >> 16);
    /* sign, exponent rebiased from 127 to 15, the upper ten bits of the fraction */
    const uint16_t half = (uint16_t)(bits >> 16 & 0x8000) |
                          (value == 0 ? 0 : (uint16_t)((bits >> 13 & 0x3ffff) - (112 << 10)));
    if (dtype == DTYPE_F64) memcpy(out, &wide, 8);
    if (dtype == DTYPE_F32 || dtype == DTYPE_I32) memcpy(out, &value, 4);
    if (dtype == DTYPE_BF16) memcpy(out, &brain, 2);
    if (dtype == DTYPE_F16) memcpy(out, &half, 2);
}

/* One tensor of such a file. */
typedef struct Foreign {
    char name[96];
    DType dtype;
    int rank, param; /* whose values; -1: zeros */
    int64_t first;   /* element of the parameter that it begins with */
    int64_t dim[2];
    float shift;  /* added to every value */
    bool swapped; /* the parameter, transposed */
} Foreign;

static inline void foreign_write(SafetensorsWriter *w, const Foreign *f) {
    Error e;
    const int64_t cols = f->rank == 2 ? f->dim[1] : 1, item = dtype_bytes(f->dtype);
    for (int64_t i = 0; i < f->dim[0]; i++)
        for (int64_t k = 0; k < cols; k++) {
            /* The value depends on the place in memory, wherever the file has it. */
            const int64_t at = f->swapped ? k * f->dim[0] + i : i * cols + k;
            uint8_t bytes[8] = {0};
            if (f->param >= 0)
                encode(bytes, f->dtype, value_of(f->param, f->first + at) + f->shift);
            assert_true(safetensors_write(w, bytes, item, &e));
        }
}

static inline void foreign_put_file(const char *folder, const char *name, const Foreign *list,
                                    int n) {
    char path[600];
    Error e;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    SafetensorsWriter *w = safetensors_create(path, &e);
    assert_non_null(w);
    for (int i = 0; i < n; i++)
        safetensors_declare(w, list[i].name, list[i].dtype, list[i].rank, list[i].dim);
    assert_true(safetensors_begin(w, &e));
    for (int i = 0; i < n; i++) foreign_write(w, &list[i]);
    assert_true(safetensors_finish(w, &e));
}

/* The folder is made if need be. */
static inline void foreign_put_text(const char *folder, const char *name, const char *text) {
    char path[600];
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    file_put(path, text, (int64_t)strlen(text));
}

/* A new folder with n tensors, in one file if `shards` is 0, else in so many and an index. */
static inline void foreign_put(const char *folder, const Foreign *list, int n, int shards) {
    scratch_remove(folder);
    assert_int_equal(mkdir(folder, 0777), 0);
    if (!shards) {
        foreign_put_file(folder, "model.safetensors", list, n);
        return;
    }
    char index[8192] = "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {", name[64];
    for (int s = 0; s < shards; s++) {
        const int first = n * s / shards, last = n * (s + 1) / shards;
        snprintf(name, sizeof name, "model-%d.safetensors", s);
        foreign_put_file(folder, name, list + first, last - first);
        for (int i = first; i < last; i++)
            snprintf(index + strlen(index), sizeof index - strlen(index), "%s\"%s\": \"%s\"",
                     i ? ", " : "", list[i].name, name);
    }
    strcat(index, "}}");
    foreign_put_text(folder, "model.safetensors.index.json", index);
}

/* Its weights do not load, and the error says why and where. */
static inline void foreign_refused(const char *folder, Model *m, const char *says) {
    Error e = {0};
    assert_false(checkpoint_read_weights(folder, m, &e));
    if (!strstr(e.text, says)) fail_msg("%s: %s", says, e.text);
    assert_true(strncmp(e.place, folder, strlen(folder)) == 0);
}

/* Its weights are those that foreign_put wrote: value_of(), and 0 in the vocabulary's padding and,
 * if need be, in biases. */
static inline void foreign_check_values(const Model *m, bool zero_biases) {
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        const int64_t live = tiny_live(m, p), n = tensor_count(p->w);
        for (int64_t k = 0; k < n; k++) {
            const bool zero = k >= live || (zero_biases && p->spec->is_bias);
            if (tiny_data(p->w)[k] != (zero ? 0 : value_of(i, k)))
                fail_msg("%s[%ld]", p->name, (long)k);
        }
    }
}

/* A config.json of this text does not load, and the error says why and where. */
static inline void foreign_config_refused(const char *folder, const char *text, const char *says) {
    char path[600];
    ModelConfig c;
    Error e = {0};
    snprintf(path, sizeof path, "%s/config.json", folder);
    foreign_put_text(folder, "config.json", text);
    if (checkpoint_read_config(folder, &c, &e)) fail_msg("accepted: %s", text);
    if (!strstr(e.text, says)) fail_msg("%s: %s", text, e.text);
    assert_string_equal(e.place, path);
}
