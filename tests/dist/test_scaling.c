/* The model of scaling.h against figures worked out by hand. */
#include "scaling.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Powers of two, so that every figure below is exact. */
static const ScalingMachine machine = {.flops_per_sec = 1024,
                                       .link_sec = 0.5,
                                       .link_bandwidth = 64,
                                       .net_sec = 0.25,
                                       .net_bandwidth = 16};
static const ScalingWork work = {.ranks = 16,
                                 .nodes = 4,
                                 .n_micro = 2,
                                 .flops = 6144,
                                 .gradient_bytes = 256,
                                 .weight_bytes = 128,
                                 .bucket_bytes = 128,
                                 .early_part = 0.5};

static void same(double is, double should) { assert_float_equal(is, should, 1e-12); }

/* Each node of 4: 3/4 * 256 / 64 = 3 s. Between 4 nodes: 3/4 * 256/4 / 16 = 3 s. Two messages of
 * half an all-reduce's latency, 0.5 + 2 * 0.25: 1 s. */
static void test_scatter(void **state) {
    (void)state;
    same(scaling_scatter_sec(&machine, 16, 4, 256, 2), 7);
    same(scaling_scatter_sec(&machine, 4, 1, 256, 2), 3 + 0.5);
    /* One GPU a node: no link inside. */
    same(scaling_scatter_sec(&machine, 4, 4, 256, 2), 12 + 0.5);
    same(scaling_scatter_sec(&machine, 1, 1, 256, 2), 0);
}

/* 3 s a pass. Reduce: 7 s; half of it, 3.5 s, may hide under 2 s of backward. Gather: 3 + 1 s, half
 * of which may hide under 1 s of forward. */
static void test_step(void **state) {
    (void)state;
    const ScalingStep s = scaling_step(&machine, &work);
    same(s.compute_sec, 6);
    same(s.reduce_sec, 7);
    same(s.reduce_exposed, 5);
    same(s.gather_sec, 4);
    same(s.gather_exposed, 3);
    same(s.norm_sec, 1);
    same(s.step_sec, 6 + 5 + 3 + 1);
    same(s.link_bytes, 0.75 * 384);
    same(s.net_bytes, 0.75 * 96);
}

static void test_one_rank(void **state) {
    (void)state;
    ScalingWork one = work;
    one.ranks = one.nodes = 1;
    const ScalingStep s = scaling_step(&machine, &one);
    same(s.step_sec, s.compute_sec);
    same(s.link_bytes + s.net_bytes, 0);
}

/* What is never hidden: the embedding's part, whatever the passes take. */
static void test_long_passes(void **state) {
    (void)state;
    ScalingWork long_passes = work;
    long_passes.flops *= 1000;
    const ScalingStep s = scaling_step(&machine, &long_passes);
    same(s.reduce_exposed, 3.5);
    same(s.gather_exposed, 2);
}

/* With the default inputs: 124M gradients in f32 on eight GPUs, 50 us and
 * 2 * 7/8 * 498 MB / 455 GB/s. */
static void test_node(void **state) {
    (void)state;
    const ScalingMachine h200 = {440e12, 50e-6, 455e9, 20e-6, 37e9};
    const double all_reduce = 2 * scaling_scatter_sec(&h200, 8, 1, 124.44e6 * 4, 1);
    assert_true(fabs(all_reduce - 1.96e-3) < 0.02e-3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scatter),  cmocka_unit_test(test_step),
        cmocka_unit_test(test_one_rank), cmocka_unit_test(test_long_passes),
        cmocka_unit_test(test_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
