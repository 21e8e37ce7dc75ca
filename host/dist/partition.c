/* Buckets, pieces and slices: see partition.h. */
#include "partition.h"
#include <stdlib.h>

/* A group of items that will be a bucket: numbers in the order of their stages. */
typedef struct Group {
    int *items;
    int n;
    int64_t count, largest;
} Group;

static int64_t padded(int64_t count) { return i64_round_up(count, PARTITION_ALIGNMENT); }

/* ---- where items lie ---- */

/* One after the other; the bucket's end is padded so that the pieces are equal. */
static int64_t place_cut(const Group *g, PartitionItem *items, int64_t first, int ranks) {
    int64_t at = first;
    for (int i = 0; i < g->n; i++) {
        items[g->items[i]].offset = at;
        at += padded(items[g->items[i]].count);
    }
    return padded(i64_div_up(at - first, ranks));
}

/* Dealt out, the largest first, each to the rank that has least; `load` is what the ranks have of
 * all buckets, so that no rank is always the first. */
static int64_t place_whole(const Group *g, PartitionItem *items, int64_t first, int ranks,
                           int64_t *load) {
    int64_t *here = calloc((size_t)ranks, sizeof *here), piece = 0;
    int *owner = calloc((size_t)g->n, sizeof *owner);
    bool *done = calloc((size_t)g->n, sizeof *done);
    CHECK(here && owner && done, "no memory to deal out %d items", g->n);
    for (int k = 0; k < g->n; k++) {
        int item = -1, to = 0;
        for (int i = 0; i < g->n; i++)
            if (!done[i] && (item < 0 || items[g->items[i]].count > items[g->items[item]].count))
                item = i;
        for (int r = 1; r < ranks; r++)
            if (here[r] < here[to] || (here[r] == here[to] && load[r] < load[to])) to = r;
        PartitionItem *chosen = &items[g->items[item]];
        done[item] = true;
        owner[item] = to;
        chosen->offset = here[to];
        here[to] += padded(chosen->count);
        load[to] += padded(chosen->count);
        piece = i64_max(piece, here[to]);
    }
    for (int i = 0; i < g->n; i++) items[g->items[i]].offset += first + owner[i] * piece;
    free(here);
    free(owner);
    free(done);
    return piece;
}

static void close_group(Partition *p, Group *g, PartitionItem *items, bool whole, int64_t *load) {
    if (g->n == 0) return;
    PartitionBucket *b = &p->buckets[p->n_buckets++];
    *b = (PartitionBucket){.first = p->count, .stage = items[g->items[g->n - 1]].stage};
    b->piece = whole ? place_whole(g, items, b->first, p->ranks, load)
                     : place_cut(g, items, b->first, p->ranks);
    p->count += b->piece * p->ranks;
    g->n = 0;
    g->count = g->largest = 0;
}

/* Of whole items the shares get equal when there are several times as many as ranks. */
static bool is_full(const Group *g, bool whole, int ranks, int64_t bucket_count) {
    enum { ROUNDS = 3 };
    return g->count >= bucket_count && (!whole || g->count >= ROUNDS * ranks * g->largest);
}

static void place_items(Partition *p, PartitionItem *items, int n, int64_t bucket_count) {
    Group groups[2] = {{0}, {0}}; /* that are cut, whole */
    int64_t *load = calloc((size_t)p->ranks, sizeof *load);
    int last_stage = 0;
    for (int k = 0; k < 2; k++) groups[k].items = calloc((size_t)n, sizeof(int));
    CHECK(load && groups[0].items && groups[1].items, "no memory to place %d items", n);
    for (int i = 0; i < n; i++)
        if (items[i].stage > last_stage) last_stage = items[i].stage;
    for (int stage = 0; stage <= last_stage; stage++)
        for (int i = 0; i < n; i++) {
            if (items[i].stage != stage) continue;
            Group *g = &groups[items[i].whole];
            g->items[g->n++] = i;
            g->count += items[i].count;
            g->largest = i64_max(g->largest, items[i].count);
            if (is_full(g, items[i].whole, p->ranks, bucket_count))
                close_group(p, g, items, items[i].whole, load);
        }
    for (int k = 0; k < 2; k++) close_group(p, &groups[k], items, k == 1, load);
    for (int k = 0; k < 2; k++) free(groups[k].items);
    free(load);
}

/* ---- slices ---- */

static int by_owner(const void *a, const void *b) {
    const PartitionSlice *x = a, *y = b;
    if (x->owner != y->owner) return x->owner - y->owner;
    if (x->item != y->item) return x->item - y->item;
    return (x->first > y->first) - (x->first < y->first);
}

/* An item lies in one bucket. */
static const PartitionBucket *bucket_of(const Partition *p, int64_t offset) {
    int k = 0;
    while (k + 1 < p->n_buckets && p->buckets[k + 1].first <= offset) k++;
    return &p->buckets[k];
}

static void cut_items(Partition *p, const PartitionItem *items, int n) {
    p->slices = calloc((size_t)n * (size_t)p->ranks + 1, sizeof *p->slices);
    p->first_slice = calloc((size_t)p->ranks + 1, sizeof *p->first_slice);
    CHECK(p->slices && p->first_slice, "no memory for the slices of %d items", n);
    for (int i = 0; i < n; i++) {
        const PartitionBucket *b = bucket_of(p, items[i].offset);
        for (int64_t first = 0, count; first < items[i].count; first += count) {
            const int64_t at = items[i].offset + first - b->first;
            const int64_t owner = at / b->piece;
            count = i64_min(items[i].count - first, (owner + 1) * b->piece - at);
            p->slices[p->n_slices++] = (PartitionSlice){i, (int)owner, first, count};
        }
    }
    qsort(p->slices, (size_t)p->n_slices, sizeof *p->slices, by_owner);
    for (int i = 0; i < p->n_slices; i++) p->first_slice[p->slices[i].owner + 1] = i + 1;
    for (int r = 1; r <= p->ranks; r++) /* a rank may have none */
        if (p->first_slice[r] < p->first_slice[r - 1]) p->first_slice[r] = p->first_slice[r - 1];
}

void partition_make(Partition *p, PartitionItem *items, int n, int ranks, int64_t bucket_count) {
    CHECK(n > 0 && ranks > 0, "%d items for %d ranks", n, ranks);
    *p = (Partition){.ranks = ranks};
    p->buckets = calloc((size_t)n, sizeof *p->buckets);
    CHECK(p->buckets, "no memory for the buckets of %d items", n);
    place_items(p, items, n, bucket_count);
    cut_items(p, items, n);
}

int partition_most_slices(const Partition *p) {
    int most = 0;
    for (int r = 0; r < p->ranks; r++) {
        const int n = p->first_slice[r + 1] - p->first_slice[r];
        most = n > most ? n : most;
    }
    return most;
}

int64_t partition_own_place(const Partition *p, int rank, int64_t at) {
    const PartitionBucket *b = bucket_of(p, at);
    const int64_t place = at - b->first - rank * b->piece;
    CHECK(place >= 0 && place < b->piece, "element %ld is not rank %d's", (long)at, rank);
    return b->first / p->ranks + place;
}

void partition_free(Partition *p) {
    free(p->buckets);
    free(p->slices);
    free(p->first_slice);
    *p = (Partition){0};
}
