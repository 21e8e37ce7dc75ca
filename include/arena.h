/* Planned memory. Every buffer that a run needs is named first, then all of it is committed in one
 * allocation a category, and a table says where the bytes went. After the commit nothing is
 * allocated.
 *
 *   plan    arena_add(&arena, &slot, "qkv", ARENA_ACTIVATIONS, ...)   records; slot.data stays NULL
 *   commit  arena_commit(&arena, backend, &error)                     fills in every slot's data
 *   report  arena_report(&arena, device_bytes, stdout)
 *
 * A plan can be made and printed without a commit, for a device that is not there. */
#pragma once
#include "tensor.h"
#include <stdio.h>

typedef enum ArenaCategory {
    ARENA_PARAMETERS,
    ARENA_GRADIENTS,
    ARENA_OPTIMISER,
    ARENA_ACTIVATIONS,
    ARENA_SCRATCH,
    ARENA_CATEGORIES
} ArenaCategory;

typedef struct ArenaEntry {
    Tensor *slot; /* patched by the commit; must stay at its address until then */
    char name[48];
    ArenaCategory category;
    int64_t bytes, offset; /* offset within the category */
} ArenaEntry;

const char *arena_category_name(ArenaCategory category);

struct Backend;
typedef struct Arena {
    ArenaEntry *entries;
    int n_entries, capacity;
    int64_t bytes[ARENA_CATEGORIES]; /* planned, alignment included */
    void *base[ARENA_CATEGORIES];    /* NULL before the commit */
    int64_t own;                     /* the device's memory_own: part of the total, not allocated */
    struct Backend *backend;         /* owner of the memory after the commit */
} Arena;

enum { ARENA_ALIGNMENT = 256 };

/* Plans one buffer, and gives the slot its dtype and shape. Buffers of one category are contiguous,
 * in the order of the calls, each aligned to ARENA_ALIGNMENT bytes (the padding is zero after the
 * commit). */
void arena_add(Arena *arena, Tensor *slot, const char *name, ArenaCategory category, DType dtype,
               int rank, const int64_t *dim);
#define ARENA_ADD(arena, slot, name, category, dtype, ...)                                         \
    arena_add(arena, slot, name, category, dtype, (int)COUNT_OF(((int64_t[]){__VA_ARGS__})),       \
              (const int64_t[]){__VA_ARGS__})

int64_t arena_total(const Arena *arena);
/* Allocates and zero-fills. False if the device has not that much memory: what is needed and what
 * there is are named, and arena_free is still due. */
bool arena_commit(Arena *arena, struct Backend *backend, Error *e);
/* One line a category and one a group of equally named entries, largest first, and what the device
 * takes itself. `device_bytes` is what there is; 0 if that is not known. */
void arena_report(const Arena *arena, int64_t device_bytes, FILE *out);
/* Frees the memory and the list; the arena is empty afterwards. */
void arena_free(Arena *arena);
