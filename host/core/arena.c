/* Planned memory: see arena.h. */
#include "arena.h"
#include "backend.h"
#include <stdlib.h>
#include <string.h>

const char *arena_category_name(ArenaCategory category) {
    static const char *const names[ARENA_CATEGORIES] = {"parameters", "gradients", "optimiser",
                                                        "activations", "scratch"};
    CHECK(category < ARENA_CATEGORIES, "category %d", (int)category);
    return names[category];
}

void arena_add(Arena *arena, Tensor *slot, const char *name, ArenaCategory category, DType dtype,
               int rank, const int64_t *dim) {
    CHECK(!arena->backend, "arena_add(%s) after the commit", name);
    CHECK(rank >= 1 && rank <= TENSOR_MAX_RANK, "%s has rank %d", name, rank);
    if (arena->n_entries == arena->capacity) {
        arena->capacity = arena->capacity ? 2 * arena->capacity : 64;
        arena->entries = realloc(arena->entries, (size_t)arena->capacity * sizeof *arena->entries);
        CHECK(arena->entries, "no memory for %d arena entries", arena->capacity);
    }
    *slot = (Tensor){NULL, dtype, rank, {1, 1, 1, 1}};
    memcpy(slot->dim, dim, (size_t)rank * sizeof *dim);

    ArenaEntry *entry = &arena->entries[arena->n_entries++];
    *entry = (ArenaEntry){.slot = slot, .category = category, .bytes = tensor_bytes(*slot)};
    snprintf(entry->name, sizeof entry->name, "%s", name);
    entry->offset = arena->bytes[category];
    arena->bytes[category] += i64_round_up(entry->bytes, ARENA_ALIGNMENT);
}

int64_t arena_total(const Arena *arena) {
    int64_t total = arena->own;
    for (int c = 0; c < ARENA_CATEGORIES; c++) total += arena->bytes[c];
    return total;
}

bool arena_commit(Arena *arena, Backend *backend, Error *e) {
    const double mb = 1e-6;
    const int64_t need = arena_total(arena), there = device_room(&backend->properties);
    char own[64] = "";
    if (arena->own)
        snprintf(own, sizeof own, " (%.0f MB of it the device's own)", (double)arena->own * mb);
    const char *hint = "A smaller --micro-batch or --recompute block needs less";
    if (there > 0 && need > there)
        return error_set(e, backend->properties.name, hint,
                         "the run needs %.0f MB of memory%s, %.0f MB are free", (double)need * mb,
                         own, (double)there * mb);
    arena->backend = backend;
    for (int c = 0; c < ARENA_CATEGORIES; c++) {
        if (!arena->bytes[c]) continue;
        arena->base[c] = backend->alloc(backend, arena->bytes[c]);
        if (!arena->base[c])
            return error_set(
                e, backend->properties.name, hint, "no memory for %.0f MB of %s (%.0f MB in all)",
                (double)arena->bytes[c] * mb, arena_category_name(c), (double)need * mb);
    }
    for (int i = 0; i < arena->n_entries; i++) {
        const ArenaEntry *entry = &arena->entries[i];
        entry->slot->data = (char *)arena->base[entry->category] + entry->offset;
    }
    return true;
}

/* Bytes and number of the entries of one category that share entry `first`'s name. */
static int64_t group_bytes(const Arena *arena, int first, int *count) {
    int64_t bytes = 0;
    *count = 0;
    for (int i = first; i < arena->n_entries; i++) {
        const ArenaEntry *a = &arena->entries[first], *b = &arena->entries[i];
        if (a->category != b->category || strcmp(a->name, b->name) != 0) continue;
        bytes += b->bytes;
        ++*count;
    }
    return bytes;
}

static bool is_first_of_group(const Arena *arena, int i) {
    for (int j = 0; j < i; j++)
        if (arena->entries[i].category == arena->entries[j].category &&
            strcmp(arena->entries[i].name, arena->entries[j].name) == 0)
            return false;
    return true;
}

typedef struct Group {
    const char *name;
    int64_t bytes;
    int count;
} Group;

static int compare_groups(const void *a, const void *b) {
    const int64_t x = ((const Group *)a)->bytes, y = ((const Group *)b)->bytes;
    return x < y ? 1 : x > y ? -1 : 0;
}

enum { REPORT_GROUPS = 6 }; /* lines a category; the rest is summed up in one */

static void report_category(const Arena *arena, ArenaCategory c, FILE *out) {
    Group *groups = calloc((size_t)arena->n_entries + 1, sizeof *groups);
    CHECK(groups, "no memory for a report of %d entries", arena->n_entries);
    int n = 0;
    for (int i = 0; i < arena->n_entries; i++) {
        if (arena->entries[i].category != c || !is_first_of_group(arena, i)) continue;
        groups[n].name = arena->entries[i].name;
        groups[n].bytes = group_bytes(arena, i, &groups[n].count);
        n++;
    }
    qsort(groups, (size_t)n, sizeof *groups, compare_groups);
    fprintf(out, "  %-24s %10.2f MB\n", arena_category_name(c), (double)arena->bytes[c] * 1e-6);
    int64_t rest = 0;
    for (int i = 0; i < n; i++) {
        if (i >= REPORT_GROUPS) {
            rest += groups[i].bytes;
            continue;
        }
        char name[64];
        if (groups[i].count > 1)
            snprintf(name, sizeof name, "%s x %d", groups[i].name, groups[i].count);
        else
            snprintf(name, sizeof name, "%s", groups[i].name);
        fprintf(out, "    %-22s %10.2f\n", name, (double)groups[i].bytes * 1e-6);
    }
    if (rest) fprintf(out, "    %-22s %10.2f\n", "others", (double)rest * 1e-6);
    free(groups);
}

void arena_report(const Arena *arena, int64_t device_bytes, FILE *out) {
    fprintf(out, "memory plan\n");
    for (int c = 0; c < ARENA_CATEGORIES; c++)
        if (arena->bytes[c]) report_category(arena, (ArenaCategory)c, out);
    if (arena->own)
        fprintf(out, "  %-24s %10.2f MB\n", "device's own", (double)arena->own * 1e-6);
    const int64_t total = arena_total(arena);
    fprintf(out, "  %-24s %10.2f MB", "total", (double)total * 1e-6);
    if (device_bytes > 0)
        fprintf(out, " of %.0f MB: %s", (double)device_bytes * 1e-6,
                total <= device_bytes ? "fits"
                                      : "does not fit; --micro-batch or --recompute helps");
    fprintf(out, "\n");
}

void arena_free(Arena *arena) {
    for (int c = 0; c < ARENA_CATEGORIES; c++)
        if (arena->base[c]) arena->backend->free(arena->backend, arena->base[c]);
    free(arena->entries);
    *arena = (Arena){0};
}
