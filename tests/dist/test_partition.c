/* Which rank has what: every element once, whole items in one piece, shares of equal size. */
#include "partition.h"
#include "rng.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static int64_t rest_of(uint64_t range, int site, int64_t i) {
    return (int64_t)rng_below(range, 7, 0, rng_site(RNG_TEST, site), (uint64_t)i);
}

/* The bucket that holds an element, and that it is the only one. */
static const PartitionBucket *bucket_at(const Partition *p, int64_t at) {
    const PartitionBucket *found = NULL;
    for (int k = 0; k < p->n_buckets; k++) {
        const PartitionBucket *b = &p->buckets[k];
        if (at < b->first || at >= b->first + p->ranks * b->piece) continue;
        assert_null(found);
        found = b;
    }
    assert_non_null(found);
    return found;
}

/* Buckets fill the flat array; items lie in one of those that wait for their stage, apart. */
static void check_places(const Partition *p, const PartitionItem *items, int n) {
    int64_t end = 0;
    for (int k = 0; k < p->n_buckets; k++) {
        assert_int_equal(p->buckets[k].first, end);
        assert_int_equal(p->buckets[k].piece % PARTITION_ALIGNMENT, 0);
        end += p->ranks * p->buckets[k].piece;
    }
    assert_int_equal(p->count, end);
    for (int i = 0; i < n; i++) {
        const PartitionBucket *b = bucket_at(p, items[i].offset);
        assert_ptr_equal(b, bucket_at(p, items[i].offset + items[i].count - 1));
        assert_true(b->stage >= items[i].stage);
        assert_int_equal(items[i].offset % PARTITION_ALIGNMENT, 0);
        for (int j = 0; j < i; j++)
            assert_true(items[i].offset + items[i].count <= items[j].offset ||
                        items[j].offset + items[j].count <= items[i].offset);
    }
}

/* What a rank keeps of its slices fits into its part of the array, no two elements in one place. */
static void check_own_places(const Partition *p, const PartitionItem *items) {
    const int64_t room = p->count / p->ranks;
    bool *taken = calloc((size_t)(p->count), sizeof *taken);
    assert_non_null(taken);
    for (int i = 0; i < p->n_slices; i++) {
        const PartitionSlice *s = &p->slices[i];
        for (int64_t k = 0; k < s->count; k++) {
            const int64_t at = items[s->item].offset + s->first + k;
            const int64_t place = partition_own_place(p, s->owner, at);
            assert_true(place >= 0 && place < room && !taken[s->owner * room + place]);
            taken[s->owner * room + place] = true;
        }
        /* And side by side. */
        const int64_t at = items[s->item].offset + s->first;
        assert_int_equal(partition_own_place(p, s->owner, at + s->count - 1) -
                             partition_own_place(p, s->owner, at),
                         s->count - 1);
    }
    free(taken);
}

/* Slices cover each item from its start to its end, each in the piece of its owner. */
static void check_slices(const Partition *p, const PartitionItem *items, int n) {
    int64_t *covered = calloc((size_t)n, sizeof *covered);
    int *pieces = calloc((size_t)n, sizeof *pieces);
    assert_true(covered && pieces);
    assert_int_equal(p->first_slice[0], 0);
    assert_int_equal(p->first_slice[p->ranks], p->n_slices);
    for (int r = 0; r < p->ranks; r++)
        for (int i = p->first_slice[r]; i < p->first_slice[r + 1]; i++) {
            const PartitionSlice *s = &p->slices[i];
            const int64_t at = items[s->item].offset + s->first;
            const PartitionBucket *b = bucket_at(p, at);
            assert_int_equal(s->owner, r);
            assert_true(s->count > 0);
            assert_int_equal((at - b->first) / b->piece, r);
            assert_int_equal((at + s->count - 1 - b->first) / b->piece, r);
            covered[s->item] += s->count;
            pieces[s->item]++;
            for (int j = p->first_slice[r]; j < i; j++)
                assert_true(p->slices[j].item < s->item || p->slices[j].first < s->first);
        }
    for (int i = 0; i < n; i++) {
        assert_int_equal(covered[i], items[i].count);
        assert_true(!items[i].whole || pieces[i] == 1);
    }
    free(covered);
    free(pieces);
}

static void test_random(void **state) {
    (void)state;
    enum { N = 40 };
    PartitionItem items[N];
    for (int run = 0; run < 60; run++) {
        const int n = 1 + (int)rest_of(N, 0, run), ranks = 1 + (int)rest_of(8, 1, run);
        for (int i = 0; i < n; i++)
            items[i] = (PartitionItem){.count = 1 + rest_of(run % 2 ? 5000 : 200, 2, run * N + i),
                                       .stage = (int)rest_of(6, 3, run * N + i),
                                       .whole = rest_of(2, 4, run * N + i)};
        Partition p;
        partition_make(&p, items, n, ranks, 1 + rest_of(20000, 5, run));
        check_places(&p, items, n);
        check_slices(&p, items, n);
        check_own_places(&p, items);
        if (ranks == 1) { /* the optimiser's order is that of the parameters */
            assert_int_equal(p.n_slices, n);
            for (int i = 0; i < n; i++) assert_int_equal(p.slices[i].item, i);
        }
        partition_free(&p);
    }
}

/* The parameters of a GPT of 124 million: AdamW's alone, and with whole matrices. */
static int fill_gpt(PartitionItem *items, bool whole) {
    enum { L = 12, C = 768 };
    int n = 0;
    items[n++] = (PartitionItem){50304 * C, L + 1, false, 0};
    if (!whole) items[n++] = (PartitionItem){1024 * C, L + 1, false, 0};
    const int64_t widths[] = {3, 1, 4, 4};
    for (int k = 0; k < 4; k++)
        for (int l = 0; l < L; l++)
            items[n++] = (PartitionItem){widths[k] * C * C, L - l, whole, 0};
    items[n++] = (PartitionItem){whole ? 50304 * C : C, 0, false, 0};
    return n;
}

/* Moments of no rank are more than 1/n of all, and 2 % of all. */
static void test_shares(void **state) {
    (void)state;
    PartitionItem items[64];
    for (int whole = 0; whole < 2; whole++)
        for (int ranks = 1; ranks <= 8; ranks++) {
            const int n = fill_gpt(items, whole);
            Partition p;
            partition_make(&p, items, n, ranks, 8000000);
            int64_t all = 0, most = 0;
            for (int r = 0; r < ranks; r++) {
                int64_t moments = 0;
                for (int i = p.first_slice[r]; i < p.first_slice[r + 1]; i++)
                    moments += p.slices[i].count * (items[p.slices[i].item].whole ? 1 : 2);
                all += moments;
                most = i64_max(most, moments);
            }
            assert_true((double)most <= (1.0 / ranks + 0.02) * (double)all);
            /* Padding costs memory and transfers. */
            int64_t count = 0;
            for (int i = 0; i < n; i++) count += items[i].count;
            assert_true((double)p.count <= 1.05 * (double)count);
            partition_free(&p);
        }
}

/* The first bucket does not wait for the last gradient. */
static void test_overlap(void **state) {
    (void)state;
    PartitionItem items[64];
    Partition p;
    const int n = fill_gpt(items, false);
    partition_make(&p, items, n, 2, 8000000);
    assert_true(p.n_buckets >= 10);
    assert_int_equal(p.buckets[0].stage, 2);
    partition_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_shares),
                                       cmocka_unit_test(test_overlap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
