/* safetensors files: read by mapping, written in one pass. */
#pragma once
#include "tensor.h"

typedef struct SafetensorsEntry {
    char *name;
    char dtype_text[16]; /* as in the file: "F32", "BF16", "BOOL" ... */
    DType dtype;         /* DTYPE_COUNT if we have no such type */
    int rank;
    int64_t dim[8];
    int64_t count, bytes;
    const void *data; /* inside the mapping; may be unaligned */
} SafetensorsEntry;

typedef struct SafetensorsFile {
    SafetensorsEntry *entries; /* in order of offset */
    int n_entries;
    void *map;
    int64_t map_bytes;
    char path[1024];
} SafetensorsFile;

/* Verifies all that data/README.md names: header length, JSON, duplicate names, contiguous offsets,
 * sizes, file length. Never crashes on a hostile file; memory is bounded by the file's size. */
bool safetensors_open(SafetensorsFile *f, const char *path, Error *e);
void safetensors_close(SafetensorsFile *f);
/* NULL if the file has no such tensor. The entry lives as long as the file is open. */
const SafetensorsEntry *safetensors_find(const SafetensorsFile *f, const char *name);
/* Elements [first, first+n) of an entry as float, whatever its float dtype. False if it is not
 * one. */
bool safetensors_read_f32(const SafetensorsEntry *entry, int64_t first, int64_t n, float *out);

/* One pass: declare every tensor, begin, then write their data in the order of declaration. */
typedef struct SafetensorsWriter SafetensorsWriter;
SafetensorsWriter *safetensors_create(const char *path, Error *e);
void safetensors_declare(SafetensorsWriter *w, const char *name, DType dtype, int rank,
                         const int64_t *dim);
void safetensors_metadata(SafetensorsWriter *w, const char *key, const char *value);
/* Writes the header. */
bool safetensors_begin(SafetensorsWriter *w, Error *e);
/* Appends data; may be called several times for one tensor. */
bool safetensors_write(SafetensorsWriter *w, const void *data, int64_t bytes, Error *e);
/* Checks that everything declared was written, fsyncs, closes, frees. */
bool safetensors_finish(SafetensorsWriter *w, Error *e);
/* Closes, deletes the file, frees. */
void safetensors_abandon(SafetensorsWriter *w);
