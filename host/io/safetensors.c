/* Reading safetensors: `u64 N | N bytes of JSON | data`. Every claim of the header is checked
 * against the others and against the file's length before anything is used. */
#include "safetensors.h"
#include "io.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_BYTES_MAX = 100000000, RANK_MAX = 8 };

/* Every dtype of the format; DTYPE_COUNT where puck has none. */
static const struct {
    const char *text;
    DType dtype;
    int bytes;
} file_dtypes[] = {
    {"F64", DTYPE_F64, 8},   {"F32", DTYPE_F32, 4},        {"F16", DTYPE_F16, 2},
    {"BF16", DTYPE_BF16, 2}, {"F8_E4M3", DTYPE_F8E4M3, 1}, {"F8_E5M2", DTYPE_F8E5M2, 1},
    {"I64", DTYPE_I64, 8},   {"I32", DTYPE_I32, 4},        {"U16", DTYPE_U16, 2},
    {"U8", DTYPE_U8, 1},     {"BOOL", DTYPE_COUNT, 1},     {"I8", DTYPE_COUNT, 1},
    {"I16", DTYPE_COUNT, 2}, {"U32", DTYPE_COUNT, 4},      {"U64", DTYPE_COUNT, 8},
};

/* The part of a file after its header. */
typedef struct Data {
    const char *start;
    int64_t bytes;
} Data;

/* Fields of one tensor's JSON object into `entry`. */
static bool read_entry(SafetensorsEntry *entry, const json_t *object, Data data, const char *path,
                       Error *e) {
    const char *name = entry->name;
    const char *dtype = json_string_value(json_object_get(object, "dtype"));
    const json_t *shape = json_object_get(object, "shape");
    const json_t *offsets = json_object_get(object, "data_offsets");
    if (!dtype || !json_is_array(shape) || !json_is_array(offsets) || json_object_size(object) != 3)
        return error_set(e, path, NULL, "tensor %.100s needs dtype, shape and data_offsets alone",
                         name);
    int64_t item = 0;
    for (int64_t i = 0; i < COUNT_OF(file_dtypes); i++) {
        if (strcmp(dtype, file_dtypes[i].text) != 0) continue;
        item = file_dtypes[i].bytes;
        entry->dtype = file_dtypes[i].dtype;
        memcpy(entry->dtype_text, dtype, strlen(dtype) + 1);
    }
    if (!item)
        return error_set(e, path, NULL, "tensor %.100s has the unknown dtype %.20s", name, dtype);
    if (json_array_size(shape) > RANK_MAX)
        return error_set(e, path, NULL, "tensor %.100s has more than %d dimensions", name,
                         RANK_MAX);
    entry->rank = (int)json_array_size(shape);
    entry->count = 1;
    for (int i = 0; i < entry->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        entry->dim[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || entry->dim[i] < 0 ||
            __builtin_mul_overflow(entry->count, entry->dim[i], &entry->count))
            return error_set(e, path, NULL, "tensor %.100s has an impossible shape", name);
    }
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    const int64_t begin = json_integer_value(first), end = json_integer_value(last);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        begin < 0 || end < begin)
        return error_set(e, path, NULL, "tensor %.100s has impossible data_offsets", name);
    if (end > data.bytes)
        return error_set(e, path, "The file is cut off: fetch it again",
                         "tensor %.100s ends beyond the file", name);
    if (__builtin_mul_overflow(entry->count, item, &entry->bytes) || entry->bytes != end - begin)
        return error_set(e, path, NULL, "tensor %.100s: shape and data_offsets do not agree", name);
    entry->data = data.start + begin;
    return true;
}

/* __metadata__ tells puck nothing; it must have its form all the same. */
static bool check_metadata(json_t *object, const char *path, Error *e) {
    if (!json_is_object(object)) return error_set(e, path, NULL, "__metadata__ is not an object");
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!json_is_string(value))
            return error_set(e, path, NULL, "__metadata__ holds more than strings");
    }
    return true;
}

static bool read_tensors(SafetensorsFile *f, json_t *root, Data data, Error *e) {
    f->entries = calloc(json_object_size(root) + 1, sizeof *f->entries);
    CHECK(f->entries, "no memory for %zu tensors", json_object_size(root));
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            if (!check_metadata(value, f->path, e)) return false;
            continue;
        }
        SafetensorsEntry *entry = &f->entries[f->n_entries++];
        entry->name = strdup(name);
        CHECK(entry->name, "no memory for a name");
        if (!read_entry(entry, value, data, f->path, e)) return false;
    }
    return true;
}

static int compare_place(const void *a, const void *b) {
    const SafetensorsEntry *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones before who begins there */
}

/* Sorts by offset; no hole, no overlap, nothing after the last. */
static bool check_order(SafetensorsFile *f, Data data, Error *e) {
    qsort(f->entries, (size_t)f->n_entries, sizeof *f->entries, compare_place);
    const char *end = data.start;
    for (int i = 0; i < f->n_entries; i++) {
        const char *begin = f->entries[i].data;
        if (begin != end)
            return error_set(e, f->path, NULL, "tensor %.100s %s", f->entries[i].name,
                             begin < end ? "overlaps another" : "begins after a hole");
        end = begin + f->entries[i].bytes;
    }
    if (end == data.start + data.bytes) return true;
    return error_set(e, f->path, NULL, "%ld bytes follow the last tensor",
                     (long)(data.start + data.bytes - end));
}

static bool parse(SafetensorsFile *f, Error *e) {
    const char *map = f->map, *text = map + 8;
    uint64_t header;
    if (f->map_bytes < 10)
        return error_set(e, f->path, NULL, "this is no safetensors file: it has %ld bytes",
                         (long)f->map_bytes);
    memcpy(&header, map, sizeof header); /* little-endian, as are all hosts of puck */
    if (header > HEADER_BYTES_MAX || (int64_t)header > f->map_bytes - 8 || header < 2)
        return error_set(e, f->path, NULL,
                         "this is no safetensors file, or it is cut off: a header of %lu bytes in "
                         "a file of %ld",
                         (unsigned long)header, (long)f->map_bytes);
    if (text[0] != '{')
        return error_set(e, f->path, NULL, "this is no safetensors file: its header is no JSON");
    json_t *root = json_parse(f->path, text, (int64_t)header, e);
    if (!root) return false;
    const Data data = {text + header, f->map_bytes - 8 - (int64_t)header};
    const bool good = read_tensors(f, root, data, e) && check_order(f, data, e);
    json_decref(root);
    return good;
}

bool safetensors_open(SafetensorsFile *f, const char *path, Error *e) {
    *f = (SafetensorsFile){0};
    snprintf(f->path, sizeof f->path, "%s", path);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    bool good = fd >= 0 && fstat(fd, &info) == 0;
    if (!good) {
        file_failed(path, "cannot open", e);
    } else if (!S_ISREG(info.st_mode) || info.st_size == 0) {
        good = error_set(e, path, NULL, "this is no safetensors file: it is empty or no file");
    } else {
        f->map_bytes = info.st_size;
        f->map = file_map(fd, f->map_bytes, path, e);
        good = f->map != NULL;
    }
    if (fd >= 0) close(fd);
    good = good && parse(f, e);
    if (!good) safetensors_close(f);
    return good;
}

void safetensors_close(SafetensorsFile *f) {
    for (int i = 0; i < f->n_entries; i++) free(f->entries[i].name);
    free(f->entries);
    if (f->map) file_unmap(f->map);
    *f = (SafetensorsFile){0};
}

const SafetensorsEntry *safetensors_find(const SafetensorsFile *f, const char *name) {
    for (int i = 0; i < f->n_entries; i++)
        if (strcmp(f->entries[i].name, name) == 0) return &f->entries[i];
    return NULL;
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float f16_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24 */
        const float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    const uint32_t widened = exponent == 31 ? 255 : exponent + 112;
    return float_from_bits(sign | widened << 23 | fraction << 13);
}

bool safetensors_read_f32(const SafetensorsEntry *entry, int64_t first, int64_t n, float *out) {
    CHECK(first >= 0 && n >= 0 && first <= entry->count - n, "elements %ld..%ld of %ld",
          (long)first, (long)(first + n), (long)entry->count);
    const char *data = entry->data; /* unaligned: memcpy reads it */
    switch (entry->dtype) {
    case DTYPE_F32: memcpy(out, data + 4 * first, 4 * (size_t)n); return true;
    case DTYPE_F64:
        for (int64_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, data + 8 * (first + i), sizeof value);
            out[i] = (float)value;
        }
        return true;
    case DTYPE_BF16:
    case DTYPE_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t bits;
            memcpy(&bits, data + 2 * (first + i), sizeof bits);
            out[i] = entry->dtype == DTYPE_BF16 ? float_from_bits((uint32_t)bits << 16)
                                                : f16_to_float(bits);
        }
        return true;
    default: return false;
    }
}
