/* Planned memory: offsets, commit, failure, report. */
#include "arena.h"
#include "backend.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A device of host memory that counts its allocations. `left` of them succeed. */
typedef struct Heap {
    int n_live, left;
} Heap;

static void *heap_alloc(Backend *b, int64_t bytes) {
    Heap *heap = b->state;
    if (heap->left-- <= 0) return NULL;
    heap->n_live++;
    void *memory = aligned_alloc(ARENA_ALIGNMENT, (size_t)bytes);
    memset(memory, 0, (size_t)bytes);
    return memory;
}

static void heap_free(Backend *b, void *memory) {
    ((Heap *)b->state)->n_live--;
    free(memory);
}

static Backend heap_backend(Heap *heap, int64_t memory_free) {
    return (Backend){.name = "heap",
                     .properties = {.name = "a heap",
                                    .memory_bytes = memory_free,
                                    .memory_free = memory_free},
                     .state = heap,
                     .alloc = heap_alloc,
                     .free = heap_free};
}

static void test_plan_and_commit(void **state) {
    (void)state;
    Heap heap = {.left = 100};
    Backend backend = heap_backend(&heap, 0);
    Arena arena = {0};
    Error e;
    Tensor a, b, c, d;
    ARENA_ADD(&arena, &a, "a", ARENA_PARAMETERS, DTYPE_F32, 3, 5);
    ARENA_ADD(&arena, &b, "b", ARENA_PARAMETERS, DTYPE_F64, 65);
    ARENA_ADD(&arena, &c, "c", ARENA_SCRATCH, DTYPE_U8, 256);
    ARENA_ADD(&arena, &d, "d", ARENA_PARAMETERS, DTYPE_BF16, 2, 2, 2, 2);
    assert_null(a.data);
    assert_true(a.rank == 2 && a.dim[0] == 3 && a.dim[1] == 5 && a.dim[2] == 1);
    assert_int_equal(arena.bytes[ARENA_PARAMETERS], 256 + 768 + 256);
    assert_int_equal(arena.bytes[ARENA_SCRATCH], 256);
    assert_int_equal(arena.bytes[ARENA_ACTIVATIONS], 0);
    assert_int_equal(arena_total(&arena), 1280 + 256);

    assert_true(arena_commit(&arena, &backend, &e));
    assert_int_equal(heap.n_live, 2); /* one allocation a category in use */
    assert_ptr_equal(a.data, arena.base[ARENA_PARAMETERS]);
    assert_ptr_equal(b.data, (char *)a.data + 256);
    assert_ptr_equal(d.data, (char *)b.data + 768);
    assert_ptr_equal(c.data, arena.base[ARENA_SCRATCH]);
    for (int64_t i = 0; i < arena.bytes[ARENA_PARAMETERS]; i++)
        assert_int_equal(((char *)a.data)[i], 0);
    arena_free(&arena);
    assert_int_equal(heap.n_live, 0);
    assert_int_equal(arena_total(&arena), 0);
}

/* Buffers never overlap, are aligned, and stay in the order of the calls. */
static void test_many_entries(void **state) {
    (void)state;
    enum { N = 1000 };
    Heap heap = {.left = 100};
    Backend backend = heap_backend(&heap, 0);
    Arena arena = {0};
    Error e;
    Tensor *slots = calloc(N, sizeof *slots);
    for (int i = 0; i < N; i++)
        ARENA_ADD(&arena, &slots[i], "many", (ArenaCategory)(i % ARENA_CATEGORIES), DTYPE_F32,
                  1 + i * 37 % 500);
    assert_true(arena_commit(&arena, &backend, &e));
    for (int i = 0; i < N; i++) {
        assert_int_equal((uintptr_t)slots[i].data % ARENA_ALIGNMENT, 0);
        const char *end = (char *)slots[i].data + tensor_bytes(slots[i]);
        const char *limit =
            (char *)arena.base[i % ARENA_CATEGORIES] + arena.bytes[i % ARENA_CATEGORIES];
        assert_true(end <= limit);
        if (i + ARENA_CATEGORIES < N) assert_true(end <= (char *)slots[i + ARENA_CATEGORIES].data);
    }
    arena_free(&arena);
    free(slots);
}

static void test_too_little_memory(void **state) {
    (void)state;
    Error e;
    Tensor a, b;
    for (int left = 0; left < 2; left++) {
        Heap heap = {.left = left};
        Backend backend = heap_backend(&heap, 0);
        Arena arena = {0};
        ARENA_ADD(&arena, &a, "a", ARENA_PARAMETERS, DTYPE_F32, 1000);
        ARENA_ADD(&arena, &b, "b", ARENA_SCRATCH, DTYPE_F32, 1000);
        assert_false(arena_commit(&arena, &backend, &e));
        assert_int_equal(e.code, EXIT_FAILED);
        assert_non_null(strstr(e.text, left ? "of scratch" : "of parameters"));
        assert_non_null(strstr(e.hint, "--micro-batch"));
        arena_free(&arena);
        assert_int_equal(heap.n_live, 0);
    }
    /* Known to be too much before anything is asked for. */
    Heap heap = {.left = 100};
    Backend backend = heap_backend(&heap, 3000000);
    Arena arena = {0};
    ARENA_ADD(&arena, &a, "a", ARENA_PARAMETERS, DTYPE_F32, 1000000);
    assert_false(arena_commit(&arena, &backend, &e));
    assert_string_equal(e.text, "the run needs 4 MB of memory, 3 MB are free");
    assert_string_equal(e.place, "a heap");
    assert_int_equal(heap.left, 100);
    arena_free(&arena);
}

/* What a device takes itself is part of the plan. What of that opening has taken is not free any
 * more, and counts once. */
static void test_own_memory(void **state) {
    (void)state;
    enum { UNIT = ARENA_ALIGNMENT, ALL = 40, OWN = 4 };
    const struct {
        int64_t asked, taken;
        bool fits;
    } cases[] = {
        {36, 0, true},  {37, 0, false}, /* all comes later */
        {36, 3, true},  {37, 3, false}, /* three are taken, one comes later */
        {20, 20, true}, {21, 20, false}, /* whose the twenty are is not known: all that is free */
    };
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        Heap heap = {.left = 100};
        Backend backend = heap_backend(&heap, ALL * UNIT);
        backend.properties.memory_free = (ALL - cases[i].taken) * UNIT;
        backend.properties.memory_own = OWN * UNIT;
        Arena arena = {.own = OWN * UNIT};
        Tensor slot;
        Error e;
        ARENA_ADD(&arena, &slot, "a", ARENA_PARAMETERS, DTYPE_U8, cases[i].asked * UNIT);
        assert_int_equal(arena_total(&arena), (cases[i].asked + OWN) * UNIT);
        assert_int_equal(arena_commit(&arena, &backend, &e), cases[i].fits);
        assert_int_equal(heap.n_live, cases[i].fits);
        if (!cases[i].fits) assert_non_null(strstr(e.text, "of it the device's own"));
        arena_free(&arena);
    }
}

static void test_report(void **state) {
    (void)state;
    Arena arena = {.own = 2000000};
    Tensor slots[4];
    ARENA_ADD(&arena, &slots[0], "small", ARENA_ACTIVATIONS, DTYPE_F32, 1000);
    for (int i = 1; i < 4; i++)
        ARENA_ADD(&arena, &slots[i], "large", ARENA_ACTIVATIONS, DTYPE_F32, 1000000);
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    arena_report(&arena, 13000000, out); /* without its own share it would fit */
    fclose(out);
    const char *large = strstr(text, "large x 3"), *small = strstr(text, "small");
    assert_non_null(large);
    assert_non_null(strstr(large, "12.00"));
    assert_true(small > large); /* largest first */
    assert_non_null(strstr(text, "device's own                   2.00 MB"));
    assert_non_null(strstr(text, "14.00 MB of 13 MB: does not fit"));
    assert_null(strstr(text, "gradients"));
    free(text);
    arena_free(&arena); /* a plan alone has no memory to give back */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_and_commit),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_too_little_memory),
        cmocka_unit_test(test_own_memory),
        cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
