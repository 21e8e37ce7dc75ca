/* Which rank sums and updates what (ZeRO stage 1: Rajbhandari and others 2020).
 *
 * Gradients, and weights likewise, lie in one flat array, in the order in which the backward pass
 * finishes them. It is cut into buckets, which are reduced one at a time, and each bucket into one
 * piece a rank, all of one length:
 *
 *   | bucket 0                    | bucket 1              | ...
 *   | rank 0 | rank 1 | rank 2 .. | rank 0 | rank 1 | ..  |
 *
 * A reduce-scatter leaves every rank with the sum of its piece; an all-gather brings the pieces of
 * all together again. An item that must stay whole lies in one rank's piece; others are cut where a
 * piece ends. Pure: every rank computes the same. */
#pragma once
#include "base.h"

enum { PARTITION_ALIGNMENT = 128 }; /* elements; of items and pieces */

/* A parameter. */
typedef struct PartitionItem {
    int64_t count; /* elements */
    int stage;     /* of the backward pass, after which its gradient is final: from 0 */
    bool whole;    /* must not be cut: a matrix of Muon's */
    int64_t offset; /* result: where it begins in the flat array */
} PartitionItem;

/* Elements [first, first + count) of an item, which rank `owner` updates. */
typedef struct PartitionSlice {
    int item, owner;
    int64_t first, count;
} PartitionSlice;

typedef struct PartitionBucket {
    int64_t first, piece; /* elements: where it begins, how long each rank's piece is */
    int stage;            /* after which all of it is final */
} PartitionBucket;

typedef struct Partition {
    int ranks;
    int64_t count; /* elements of the flat array, padding included */
    PartitionBucket *buckets; /* as they lie in memory */
    int n_buckets;
    PartitionSlice *slices; /* by owner, then item */
    int n_slices;
    int *first_slice; /* ranks + 1: those of rank r are first_slice[r] .. [r+1]-1 */
} Partition;

/* A bucket is closed when it has `bucket_count` elements; one of whole items only when it has
 * enough of them to deal them out evenly. Fills in the items' offsets. */
void partition_make(Partition *p, PartitionItem *items, int n, int ranks, int64_t bucket_count);
void partition_free(Partition *p);
/* Where element `at` of the flat array, which lies in a piece of `rank`, lies in an array of that
 * rank's pieces alone; p->count / p->ranks elements. */
int64_t partition_own_place(const Partition *p, int rank, int64_t at);
/* Most slices of one rank. */
int partition_most_slices(const Partition *p);
